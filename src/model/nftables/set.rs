//! The sets of our nftables table: [`SetSpec`] describes any set or map, [`Set`] names those of the
//! skeleton. The elements themselves are `items::SetElement`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::family::Family;

/// The first part of the names of sets and chains in our table that are made at run time. All other
/// names belong to the skeleton.
const RUNTIME: &str = "run-";

/// Returns true if a set or a chain with this name is not part of the skeleton. It stays when the
/// chains of the skeleton are replaced.
pub fn is_runtime(name: &str) -> bool {
    name.starts_with(RUNTIME)
}

/// The description of a set or a map: everything that the kernel needs to create it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetSpec {
    /// Its name. The names of run-time sets begin as [`is_runtime`] requires.
    pub name: Cow<'static, str>,
    /// The family of the addresses in its keys.
    pub family: Family,
    /// The fields of its keys, in order.
    pub key: Cow<'static, [KeyPart]>,
    /// The keys may be networks (nft's flag `interval`).
    pub interval: bool,
    /// The elements may expire (nft's flag `timeout`).
    pub timeout: bool,
    /// The value of each element; `None` for a plain set.
    pub data: Option<MapData>,
}

/// The type of a map's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapData {
    /// Packet marks.
    Mark,
    /// Verdicts: nft's `vmap`.
    Verdict,
}

impl SetSpec {
    /// Returns nft's keyword for it: `map` or `set`.
    pub fn noun(&self) -> &'static str {
        if self.data.is_some() { "map" } else { "set" }
    }

    /// Returns its type and flags in nft syntax.
    pub fn declaration(&self) -> String {
        let name = |part: &KeyPart| match (part, self.family) {
            (KeyPart::Addr, Family::Ipv4) => "ipv4_addr",
            (KeyPart::Addr, Family::Ipv6) => "ipv6_addr",
            (KeyPart::Protocol, _) => "inet_proto",
            (KeyPart::Port, _) => "inet_service",
        };
        let key: Vec<&str> = self.key.iter().map(name).collect();
        let data = match self.data {
            None => "",
            Some(MapData::Mark) => " : mark",
            Some(MapData::Verdict) => " : verdict",
        };
        let flags = match (self.interval, self.timeout) {
            (false, false) => "",
            (true, false) => " flags interval;",
            (false, true) => " flags timeout;",
            (true, true) => " flags interval,timeout;",
        };
        format!("type {}{data};{flags}", key.join(" . "))
    }
}

/// A set of the skeleton. Each one exists twice in the kernel, for IPv4 and for IPv6.
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

    /// Returns each set with each family.
    pub fn each() -> impl Iterator<Item = (Set, Family)> {
        Set::ALL.into_iter().flat_map(|set| Family::ALL.map(|family| (set, family)))
    }

    /// Returns its description for one family.
    pub fn spec(self, family: Family) -> SetSpec {
        SetSpec {
            name: self.name(family).into(),
            family,
            key: self.key().into(),
            interval: self.is_interval(),
            timeout: false,
            data: self.is_map().then_some(MapData::Mark),
        }
    }

    /// Returns its name in the kernel for one family.
    pub fn name(self, family: Family) -> String {
        format!("{}{}", self.as_str(), family.version())
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
            Set::Services
            | Set::Reject
            | Set::Drop
            | Set::DropOutside
            | Set::Outside
            | Set::Restricted => &[Addr, Protocol, Port],
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
