//! Identities in IPVS and nftables: the address and port of a virtual service ([`Virtual`]), the
//! lookup key of IPVS ([`At`]), and the key of a set element ([`Value`]).

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Protocol;

/// The element of an nftables set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// An element of a map: packets to `at` get a mark.
    Marked {
        /// The destination of the packets.
        at: Virtual,
        /// Their mark.
        mark: u32,
    },
    /// An allowed source network of a destination.
    Ranged {
        /// The destination of the packets.
        at: Virtual,
        /// The network that they may come from.
        from: IpNet,
    },
    /// A port of one address family.
    Port {
        /// Port number.
        port: u16,
        /// True for IPv4, false for IPv6.
        ipv4: bool,
    },
    /// Address, protocol and port.
    At(Virtual),
    /// An address; in the set `loops` it is the source and the destination.
    Addr(IpAddr),
    /// A network.
    Net(IpNet),
}

impl Value {
    /// Returns true if the IPv4 set holds it, false if the IPv6 set does.
    pub fn is_ipv4(&self) -> bool {
        match self {
            Value::At(at) | Value::Marked { at, .. } | Value::Ranged { at, .. } => {
                at.addr.is_ipv4()
            }
            Value::Addr(addr) => addr.is_ipv4(),
            Value::Net(net) => net.addr().is_ipv4(),
            Value::Port { ipv4, .. } => *ipv4,
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::At(at) => at.fmt(f),
            Value::Marked { at, mark } => write!(f, "{at} : {mark:#x}"),
            Value::Ranged { at, from } => write!(f, "{at} from {from}"),
            Value::Addr(addr) => addr.fmt(f),
            Value::Net(net) => net.fmt(f),
            Value::Port { port, ipv4 } => write!(f, "{port} ipv{}", if *ipv4 { 4 } else { 6 }),
        }
    }
}

/// The key by which IPVS looks up a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum At {
    /// Destination address, protocol and port.
    Virtual(Virtual),
    /// The mark of the packet (a fwmark service, ipvsadm(8)); IPVS looks it up first.
    Mark {
        /// The whole mark.
        mark: u32,
        /// True for IPv4 packets, false for IPv6.
        ipv4: bool,
    },
}

impl At {
    /// Returns true for IPv4.
    pub fn is_ipv4(&self) -> bool {
        match self {
            At::Virtual(at) => at.addr.is_ipv4(),
            At::Mark { ipv4, .. } => *ipv4,
        }
    }
}

/// The identity of a real server in IPVS: its virtual service, its address and its port.
pub type RealKey = (At, IpAddr, u16);

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

impl From<Virtual> for At {
    fn from(at: Virtual) -> At {
        At::Virtual(at)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Virtual(at) => at.fmt(f),
            At::Mark { mark, ipv4 } => write!(f, "mark {mark:#x} ipv{}", if *ipv4 { 4 } else { 6 }),
        }
    }
}

/// The destination address, protocol and port of an IPVS virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Virtual {
    /// The virtual address.
    pub addr: IpAddr,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Virtual {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.protocol, std::net::SocketAddr::new(self.addr, self.port))
    }
}
