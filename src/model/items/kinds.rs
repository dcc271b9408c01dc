//! Enumerations that follow the kernel's own: sysctl paths, link types, transport protocols, IPVS
//! forwarding methods and timeouts.

use std::{cmp::Ordering, fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};

/// The path of a sysctl below /proc/sys, with slashes (`net/ipv4/ip_forward`), because interface
/// names may contain dots. `forwarding` sorts last: setting it makes the kernel delete the default
/// router that an IPv6 link learned by a router advertisement, unless that link's `accept_ra` was
/// set to 2 before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SysctlPath(pub Box<str>);

impl SysctlPath {
    fn rank(&self) -> (bool, &str) {
        (self.0.ends_with("/forwarding"), &self.0)
    }
}

impl Ord for SysctlPath {
    fn cmp(&self, other: &SysctlPath) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for SysctlPath {
    fn partial_cmp(&self, other: &SysctlPath) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<&str> for SysctlPath {
    fn from(name: &str) -> SysctlPath {
        SysctlPath(name.into())
    }
}

impl fmt::Display for SysctlPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The type of a link: one that kinglet creates, with its parameters, or any other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// A Linux bridge.
    Bridge,
    /// A dummy device.
    Dummy,
    /// A tunnel of IP packets in IP packets (RFC 2003, RFC 2473).
    Ipip(Box<IpipTunnel>),
    /// Any other type (`IFLA_INFO_KIND`); empty for a physical device.
    #[serde(untagged)]
    Other(Box<str>),
}

/// The parameters of an IPIP tunnel (`IFLA_IPTUN_*`, linux/if_tunnel.h).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct IpipTunnel {
    /// The source address of the outer packets.
    pub local: IpAddr,
    /// The other end; `None` if each route names it as its gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<IpAddr>,
}

impl LinkKind {
    /// Returns the kernel's name of the type (`IFLA_INFO_KIND`).
    pub fn as_str(&self) -> &str {
        match self {
            LinkKind::Bridge => "bridge",
            LinkKind::Dummy => "dummy",
            LinkKind::Ipip(tunnel) => match tunnel.local {
                IpAddr::V4(_) => "ipip",
                IpAddr::V6(_) => "ip6tnl",
            },
            LinkKind::Other(kind) => kind,
        }
    }

    /// Returns true if it is a tunnel to other nodes. A pass removes our tunnels when no Node needs
    /// them. The bridge and the dummy device stay until a cleanup, because pods and virtual addresses
    /// hang on them.
    pub fn is_tunnel(&self) -> bool {
        match self {
            LinkKind::Ipip(_) => true,
            LinkKind::Bridge | LinkKind::Dummy | LinkKind::Other(_) => false,
        }
    }
}

impl From<&str> for LinkKind {
    fn from(kind: &str) -> LinkKind {
        match kind {
            "bridge" => LinkKind::Bridge,
            "dummy" => LinkKind::Dummy,
            other => LinkKind::Other(other.into()),
        }
    }
}

/// A transport protocol of Services and IPVS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// All protocols.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// Returns the number in the IP header (`IPPROTO_*`).
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// Returns the protocol of a number in the IP header; `None` if it is not TCP, UDP or SCTP.
    pub fn from_number(number: u8) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|p| p.number() == number)
    }

    /// Returns the lower-case name, as in nftables and /etc/protocols.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Protocol {
    type Err = String;

    /// Parses a name in upper or lower case, as Kubernetes and IPVS write it. Fails if it is not
    /// TCP, UDP or SCTP.
    fn from_str(text: &str) -> Result<Protocol, String> {
        Protocol::ALL
            .into_iter()
            .find(|p| p.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("{text:?} is not TCP, UDP or SCTP"))
    }
}

/// The method by which IPVS forwards packets to a real server (`IP_VS_CONN_F_*`, linux/ip_vs.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// Network address translation, which IPVS calls masquerading.
    Masq,
    /// Local delivery: the real server is this node itself.
    Local,
    /// An IPIP tunnel.
    Tunnel,
    /// Direct routing: only the link-layer address changes.
    Route,
    /// Any other method.
    Bypass,
}

/// A timeout of IPVS (`ipvsadm --set TCP TCPFIN UDP`), in the order of linux/ip_vs.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Timeout {
    /// TCP connections.
    Tcp,
    /// TCP connections that one side has closed (FIN).
    TcpFin,
    /// UDP flows.
    Udp,
}

impl Timeout {
    /// All timeouts.
    pub const ALL: [Timeout; 3] = [Timeout::Tcp, Timeout::TcpFin, Timeout::Udp];

    /// Returns the name that kube-router's flags use.
    pub fn as_str(self) -> &'static str {
        ["tcp", "tcpfin", "udp"][self as usize]
    }
}

/// Returns the program and its name for an nftables chain that iptables-nft created; `None` for any
/// other chain.
pub fn iptables(chain: &str) -> Option<(&'static str, &str)> {
    let (program, name) = match chain.strip_prefix("ip filter ") {
        Some(name) => ("iptables", name),
        None => ("ip6tables", chain.strip_prefix("ip6 filter ")?),
    };
    ["FORWARD", "INPUT"].contains(&name).then_some((program, name))
}
