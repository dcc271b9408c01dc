//! Of which kind things are: the words of the kernel for links, protocols, ways and times.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The path of a setting below /proc/sys, with slashes (`net/ipv4/ip_forward`): link names may hold
/// dots. `forwarding` sorts last: with it the kernel forgets the router that an IPv6 link heard of,
/// unless that link's `accept_ra` was set to 2 before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Knob(pub Box<str>);

impl Knob {
    fn rank(&self) -> (bool, &str) {
        (self.0.ends_with("/forwarding"), &self.0)
    }
}

impl Ord for Knob {
    fn cmp(&self, other: &Knob) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Knob {
    fn partial_cmp(&self, other: &Knob) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl From<&str> for Knob {
    fn from(name: &str) -> Knob {
        Knob(name.into())
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kinds of link that kinglet makes, and the rest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LinkKind {
    /// A Linux bridge.
    Bridge,
    /// A dummy device.
    Dummy,
    /// Anything else, by `IFLA_INFO_KIND`; empty for a physical device.
    #[serde(untagged)]
    Other(Box<str>),
}

impl LinkKind {
    /// The kernel's name for it (`IFLA_INFO_KIND`).
    pub fn as_str(&self) -> &str {
        match self {
            LinkKind::Bridge => "bridge",
            LinkKind::Dummy => "dummy",
            LinkKind::Other(kind) => kind,
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

/// The transport protocols that Services and IPVS know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Protocol {
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

    /// The number in the IP header (`IPPROTO_*`).
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }

    /// The protocol of a number in the IP header.
    pub fn from_number(number: u8) -> Option<Protocol> {
        Protocol::ALL.into_iter().find(|p| p.number() == number)
    }

    /// Lower case, as in nftables and /etc/protocols.
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

    /// In upper or lower case, as Kubernetes and IPVS write it.
    fn from_str(text: &str) -> Result<Protocol, String> {
        Protocol::ALL
            .into_iter()
            .find(|p| p.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("{text:?} is not TCP, UDP or SCTP"))
    }
}

/// How IPVS forwards packets to a real server (`IP_VS_CONN_F_*`, linux/ip_vs.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// Network address translation, which IPVS calls masquerading.
    Masq,
    /// The real is this node itself.
    Local,
    /// In an IPIP tunnel.
    Tunnel,
    /// By the link layer alone.
    Route,
    /// Anything else.
    Bypass,
}

/// The timeouts of IPVS (`ipvsadm --set TCP TCPFIN UDP`), in the order of linux/ip_vs.h.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Timeout {
    /// Of TCP connections.
    Tcp,
    /// Of those that were closed by one side.
    TcpFin,
    /// Of UDP flows.
    Udp,
}

impl Timeout {
    /// All of them.
    pub const ALL: [Timeout; 3] = [Timeout::Tcp, Timeout::TcpFin, Timeout::Udp];

    /// As kube-router's flags have it.
    pub fn as_str(self) -> &'static str {
        ["tcp", "tcpfin", "udp"][self as usize]
    }
}

/// Of a chain of nftables that iptables made: the program, and how it calls the chain.
pub fn iptables(chain: &str) -> Option<(&'static str, &str)> {
    let (program, name) = match chain.strip_prefix("ip filter ") {
        Some(name) => ("iptables", name),
        None => ("ip6tables", chain.strip_prefix("ip6 filter ")?),
    };
    ["FORWARD", "INPUT"].contains(&name).then_some((program, name))
}
