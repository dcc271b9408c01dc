//! Where things are: what a packet is sent to, how IPVS finds it, and what the sets of nftables say.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Protocol;

/// What an element of a set says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// An entry of a map: packets to `at` get a mark.
    Marked {
        /// Where the packets go.
        at: Virtual,
        /// What they get.
        mark: u32,
    },
    /// Who may ask there.
    Ranged {
        /// Where the packets go.
        at: Virtual,
        /// Where they may come from.
        from: IpNet,
    },
    /// A port, of one family.
    Port {
        /// Its number.
        port: u16,
        /// Of which family.
        ipv4: bool,
    },
    /// Address, protocol and port.
    At(Virtual),
    /// An address; in `loops` the address twice.
    Addr(IpAddr),
    /// All addresses of a network.
    Net(IpNet),
}

impl Value {
    /// Which of a pair of sets holds it.
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

/// How IPVS finds a virtual service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum At {
    /// By what a packet is sent to.
    Virtual(Virtual),
    /// By the mark that the packet carries; looked for first.
    Mark {
        /// The whole mark.
        mark: u32,
        /// Of packets of which family.
        ipv4: bool,
    },
}

impl At {
    /// Whether it is of IPv4.
    pub fn is_ipv4(&self) -> bool {
        match self {
            At::Virtual(at) => at.addr.is_ipv4(),
            At::Mark { ipv4, .. } => *ipv4,
        }
    }
}

/// What IPVS takes for the same real server: its service, its address and its port.
pub type RealKey = (At, IpAddr, u16);

/// The upper half of all marks that kinglet gives.
const MARKS: u32 = 0x4b1a_0000;

/// The mark of a number.
pub fn our_mark(number: u16) -> u32 {
    MARKS | u32::from(number)
}

/// Whether a mark is one that kinglet gives.
pub fn is_our_mark(mark: u32) -> bool {
    mark & 0xffff_0000 == MARKS
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

/// What a packet to an IPVS virtual service is sent to.
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
