//! The sets of our table: what they are called and what their keys are made of.

use serde::{Deserialize, Serialize};

/// The sets of the table `inet kinglet`. Each is a pair, one for IPv4 and one for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Set {
    /// Where a Service of ours listens, and so which IPVS services are ours: written before a service
    /// is made, pruned after it is gone.
    Services,
    /// The virtual addresses on the dummy link.
    Vips,
    /// Services without any endpoint.
    Reject,
    /// Services with a Local policy and endpoints elsewhere only.
    Drop,
    /// The same, for the outside alone.
    DropOutside,
    /// Services that have other endpoints for the outside than for the cluster: their marks.
    Outside,
    /// Services that not everybody may ask.
    Restricted,
    /// Who may ask those.
    Ranges,
    /// Endpoints of this node: what reaches itself through a Service.
    Loops,
    /// The pod networks of this node.
    OwnPods,
    /// The pod networks of all nodes.
    PodNets,
    /// The addresses of all nodes.
    NodeIps,
    /// The TCP ports at which Services are served at this node's own addresses.
    TcpPorts,
    /// The same of UDP.
    UdpPorts,
    /// The same of SCTP.
    SctpPorts,
}

impl Set {
    /// All of them.
    pub const ALL: [Set; 15] = [
        Set::Services,
        Set::Vips,
        Set::Reject,
        Set::Drop,
        Set::DropOutside,
        Set::Outside,
        Set::Restricted,
        Set::Ranges,
        Set::Loops,
        Set::OwnPods,
        Set::PodNets,
        Set::NodeIps,
        Set::TcpPorts,
        Set::UdpPorts,
        Set::SctpPorts,
    ];

    /// Each with each family (`true`: IPv4).
    pub fn each() -> impl Iterator<Item = (Set, bool)> {
        Set::ALL.into_iter().flat_map(|set| [(set, true), (set, false)])
    }

    /// Its name in the kernel.
    pub fn name(self, ipv4: bool) -> String {
        format!("{}{}", self.as_str(), if ipv4 { 4 } else { 6 })
    }

    /// Its name, without the family.
    pub fn as_str(self) -> &'static str {
        match self {
            Set::Services => "services",
            Set::Vips => "vips",
            Set::Reject => "reject",
            Set::Drop => "drop",
            Set::DropOutside => "drop-outside",
            Set::Outside => "outside",
            Set::Restricted => "restricted",
            Set::Ranges => "ranges",
            Set::Loops => "loops",
            Set::OwnPods => "own-pods",
            Set::PodNets => "pod-nets",
            Set::NodeIps => "node-ips",
            Set::TcpPorts => "tcp-ports",
            Set::UdpPorts => "udp-ports",
            Set::SctpPorts => "sctp-ports",
        }
    }

    /// What its keys are made of.
    pub fn key(self) -> &'static [Part] {
        use Part::{Addr, Port, Protocol};
        match self {
            Set::Ranges => &[Addr, Protocol, Port, Addr],
            Set::Loops => &[Addr, Addr],
            Set::TcpPorts | Set::UdpPorts | Set::SctpPorts => &[Port],
            Set::Vips | Set::OwnPods | Set::PodNets | Set::NodeIps => &[Addr],
            _ => &[Addr, Protocol, Port],
        }
    }

    /// Whether its keys may be whole networks.
    pub fn is_interval(self) -> bool {
        matches!(self, Set::Ranges | Set::OwnPods | Set::PodNets)
    }

    /// Whether its elements have a mark.
    pub fn is_map(self) -> bool {
        self == Set::Outside
    }

    /// nft's word for it.
    pub fn noun(self) -> &'static str {
        if self.is_map() { "map" } else { "set" }
    }

    /// Its type and flags, in nft's own language.
    pub fn declaration(self, ipv4: bool) -> String {
        let name = |part: &Part| match (part, ipv4) {
            (Part::Addr, true) => "ipv4_addr",
            (Part::Addr, false) => "ipv6_addr",
            (Part::Protocol, _) => "inet_proto",
            (Part::Port, _) => "inet_service",
        };
        let key: Vec<&str> = self.key().iter().map(name).collect();
        let data = if self.is_map() { " : mark" } else { "" };
        let flags = if self.is_interval() { " flags interval;" } else { "" };
        format!("type {}{data};{flags}", key.join(" . "))
    }
}

/// A part of a set's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// 4 or 16 bytes.
    Addr,
    /// One byte.
    Protocol,
    /// Two bytes, big endian.
    Port,
}
