//! The sets of our nftables table: their names, key types and flags. The elements themselves are
//! `state::Value`.

use serde::{Deserialize, Serialize};

/// A set of the table `inet kinglet`. Each one exists twice in the kernel, for IPv4 and for IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Set {
    /// The addresses and ports of our Services, and thereby the list of the IPVS services that are
    /// ours. An element is added before its IPVS service is created, and deleted after the service
    /// is gone.
    Services,
    /// The virtual addresses on the dummy link.
    Vips,
    /// Services without any endpoint: rejected.
    Reject,
    /// Services with a Local policy and endpoints on other nodes only: dropped.
    Drop,
    /// The same, for traffic from outside the cluster only.
    DropOutside,
    /// A map from Services that have other endpoints for traffic from outside than for the cluster
    /// to their marks.
    Outside,
    /// Services with loadBalancerSourceRanges.
    Restricted,
    /// The source ranges of those Services.
    Ranges,
    /// Endpoints of this node, which may reach themselves through a Service.
    Loops,
    /// The pod networks of this node.
    OwnPods,
    /// The pod networks of all nodes.
    PodNets,
    /// The addresses of all nodes.
    NodeIps,
    /// The TCP ports on which Services are served at this node's own addresses.
    TcpPorts,
    /// The same for UDP.
    UdpPorts,
    /// The same for SCTP.
    SctpPorts,
}

impl Set {
    /// All sets.
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

    /// Returns each set with each family (`true` for IPv4).
    pub fn each() -> impl Iterator<Item = (Set, bool)> {
        Set::ALL.into_iter().flat_map(|set| [(set, true), (set, false)])
    }

    /// Returns its name in the kernel, for IPv4 (`true`) or IPv6.
    pub fn name(self, ipv4: bool) -> String {
        format!("{}{}", self.as_str(), if ipv4 { 4 } else { 6 })
    }

    /// Returns its name without the family.
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

    /// Returns the fields of its keys, in order.
    pub fn key(self) -> &'static [KeyPart] {
        use self::KeyPart::{Addr, Port, Protocol};
        match self {
            Set::Ranges => &[Addr, Protocol, Port, Addr],
            Set::Loops => &[Addr, Addr],
            Set::TcpPorts | Set::UdpPorts | Set::SctpPorts => &[Port],
            Set::Vips | Set::OwnPods | Set::PodNets | Set::NodeIps => &[Addr],
            _ => &[Addr, Protocol, Port],
        }
    }

    /// Returns true if its keys may be networks (nft's flag `interval`).
    pub fn is_interval(self) -> bool {
        matches!(self, Set::Ranges | Set::OwnPods | Set::PodNets)
    }

    /// Returns true if it is a map to marks.
    pub fn is_map(self) -> bool {
        self == Set::Outside
    }

    /// Returns nft's keyword for it: `map` or `set`.
    pub fn noun(self) -> &'static str {
        if self.is_map() { "map" } else { "set" }
    }

    /// Returns its type and flags in nft syntax.
    pub fn declaration(self, ipv4: bool) -> String {
        let name = |part: &KeyPart| match (part, ipv4) {
            (KeyPart::Addr, true) => "ipv4_addr",
            (KeyPart::Addr, false) => "ipv6_addr",
            (KeyPart::Protocol, _) => "inet_proto",
            (KeyPart::Port, _) => "inet_service",
        };
        let key: Vec<&str> = self.key().iter().map(name).collect();
        let data = if self.is_map() { " : mark" } else { "" };
        let flags = if self.is_interval() { " flags interval;" } else { "" };
        format!("type {}{data};{flags}", key.join(" . "))
    }
}

/// A field of a set's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// An address: 4 or 16 bytes in network order.
    Addr,
    /// A protocol number: 1 byte.
    Protocol,
    /// A port: 2 bytes in network order.
    Port,
}
