//! Identities in IPVS and nftables: the address and port of a virtual service ([`ServiceAddr`]), the
//! lookup key of IPVS ([`ServiceKey`]), and the key of a set element ([`SetElement`]).

use std::{cmp::Reverse, fmt, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};

use super::Protocol;
use crate::family::Family;

/// The element of an nftables set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum SetElement {
    /// An element of a map: packets to `at` get a mark.
    Marked {
        /// The destination of the packets.
        at: ServiceAddr,
        /// Their mark.
        mark: u32,
    },
    /// An allowed source network of a destination.
    Ranged {
        /// The destination of the packets.
        at: ServiceAddr,
        /// The network that they may come from.
        from: IpNet,
    },
    /// A port of one address family.
    Port {
        /// Port number.
        port: u16,
        /// The address family; a bool in JSON, true for IPv4. It sorts as that bool does: IPv6 first.
        #[serde(rename = "ipv4", serialize_with = "is_ipv4")]
        family: Reverse<Family>,
    },
    /// Address, protocol and port.
    Service(ServiceAddr),
    /// An address; in the set `loops` it is the source and the destination.
    Addr(IpAddr),
    /// A network.
    Net(IpNet),
}

impl SetElement {
    /// Creates the element for a port of one address family.
    pub fn port(port: u16, family: Family) -> SetElement {
        SetElement::Port { port, family: Reverse(family) }
    }

    /// Returns the address family of the set that holds it.
    pub fn family(&self) -> Family {
        match self {
            SetElement::Service(at)
            | SetElement::Marked { at, .. }
            | SetElement::Ranged { at, .. } => Family::of_addr(&at.addr),
            SetElement::Addr(addr) => Family::of_addr(addr),
            SetElement::Net(net) => Family::of(net),
            SetElement::Port { family, .. } => family.0,
        }
    }
}

/// Serializes a family as a bool, true for IPv4.
fn is_ipv4<S: Serializer>(family: &Reverse<Family>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bool(family.0.is_ipv4())
}

impl fmt::Display for SetElement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SetElement::Service(at) => at.fmt(f),
            SetElement::Marked { at, mark } => write!(f, "{at} : {mark:#x}"),
            SetElement::Ranged { at, from } => write!(f, "{at} from {from}"),
            SetElement::Addr(addr) => addr.fmt(f),
            SetElement::Net(net) => net.fmt(f),
            SetElement::Port { port, family } => write!(f, "{port} {}", family.0),
        }
    }
}

/// The key by which IPVS looks up a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum ServiceKey {
    /// Destination address, protocol and port.
    Address(ServiceAddr),
    /// The mark of the packet (a fwmark service, ipvsadm(8)); IPVS looks it up first.
    FwMark {
        /// The whole mark.
        mark: u32,
        /// True for IPv4 packets, false for IPv6.
        ipv4: bool,
    },
}

impl ServiceKey {
    /// Returns true for IPv4.
    pub fn is_ipv4(&self) -> bool {
        match self {
            ServiceKey::Address(at) => at.addr.is_ipv4(),
            ServiceKey::FwMark { ipv4, .. } => *ipv4,
        }
    }
}

/// The identity of a real server in IPVS: its virtual service, its address and its port.
pub type RealKey = (ServiceKey, IpAddr, u16);

/// The upper 16 bits of all marks that kinglet assigns.
const OUR_MARKS: u32 = 0x4b1a_0000;

/// Returns the mark with this number in its lower 16 bits.
pub fn our_mark(number: u16) -> u32 {
    OUR_MARKS | u32::from(number)
}

/// Returns true if a mark is one that kinglet assigns.
pub fn is_our_mark(mark: u32) -> bool {
    mark & 0xffff_0000 == OUR_MARKS
}

impl From<ServiceAddr> for ServiceKey {
    fn from(at: ServiceAddr) -> ServiceKey {
        ServiceKey::Address(at)
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServiceKey::Address(at) => at.fmt(f),
            ServiceKey::FwMark { mark, ipv4 } => {
                write!(f, "mark {mark:#x} ipv{}", if *ipv4 { 4 } else { 6 })
            }
        }
    }
}

/// The destination address, protocol and port of an IPVS virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceAddr {
    /// The virtual address.
    pub addr: IpAddr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl fmt::Display for ServiceAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, std::net::SocketAddr::new(self.addr, self.port))
    }
}
