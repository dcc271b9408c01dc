//! A BGP-4 speaker (RFC 4271) for IPv4 and IPv6 unicast, no larger than a node needs.
//!
//! What is to be said and to whom is one value, [`Config`], which the daemon works out anew from the
//! cluster whenever that changes; what was heard is one value too, [`rib::Learned`], which `desired`
//! turns into routes. Between them stand parts without I/O and without a clock: the codec ([`message`],
//! [`attribute`], [`capability`]), the machine of one peer (`fsm`, RFC 4271 section 8), the paths
//! and the choice among them ([`rib`], [`choice`], section 9), what is let in and out ([`policy`]), what
//! is still to be told ([`out`]) and the whole of them (`speaker`). `session` gives them sockets and the time.

pub mod attribute;
pub mod bfd;
pub mod capability;
pub mod choice;
pub mod fsm;
pub mod message;
mod nlri;
mod notification;
pub mod out;
mod path;
pub mod policy;
mod probes;
pub mod rib;
pub mod session;
pub mod shown;
mod slot;
pub mod speaker;
mod stream;
mod update;
mod wire;

use std::net::{IpAddr, Ipv4Addr};

use crate::{
    few::{Few, Sorted},
    router::{Bfd, Secret},
};

use ipnet::IpNet;

/// The port of BGP.
pub const PORT: u16 = 179;

/// What is routed: an address family (AFI) of unicast routes (SAFI 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// AFI 1.
    Ipv4,
    /// AFI 2.
    Ipv6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::Ipv4, Family::Ipv6];

    /// The family of an AFI.
    pub(crate) fn of_afi(afi: u16) -> Option<Family> {
        match afi {
            1 => Some(Family::Ipv4),
            2 => Some(Family::Ipv6),
            _ => None,
        }
    }

    /// Its AFI.
    pub(crate) fn afi(self) -> u16 {
        match self {
            Family::Ipv4 => 1,
            Family::Ipv6 => 2,
        }
    }

    /// The family of a route.
    pub fn of(net: &IpNet) -> Family {
        if net.addr().is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }

    /// The family of an address.
    pub fn of_addr(addr: &IpAddr) -> Family {
        if addr.is_ipv4() { Family::Ipv4 } else { Family::Ipv6 }
    }
}

/// All that the speaker is told: who it is, whom it knows, and what it has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Who it is.
    pub own: Own,
    /// Whom it knows, by address; nobody else may connect.
    pub peers: Few<IpAddr, Peer>,
    /// The routes that begin here.
    pub origin: Origin,
    /// What is done to what goes out.
    pub export: Export,
    /// What is not let in.
    pub import: Import,
}

/// Who the speaker is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its AS.
    pub asn: u32,
    /// Its BGP Identifier (RFC 6286): any but zero, one of its kind within the AS.
    pub id: Ipv4Addr,
    /// The addresses at which it listens, and by which it names itself as a next hop.
    pub addrs: Vec<IpAddr>,
    /// The port at which it listens.
    pub port: u16,
    /// The families that it speaks of.
    pub families: Sorted<Family>,
    /// The cluster whose reflector it is (RFC 4456), where it is one.
    pub cluster: Option<Ipv4Addr>,
    /// How many seconds its peers keep its routes while it restarts (RFC 4724); `None`: not at all.
    pub restart: Option<u16>,
}

/// One that it speaks with. What a peer is, is said by its configuration and not by its AS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Whether it is another node of the cluster, and which; `None`: a router outside.
    pub node: Option<Box<str>>,
    /// Its AS.
    pub asn: u32,
    /// Its port.
    pub port: u16,
    /// The address by which it is spoken with; `None`: the kernel's choice.
    pub local: Option<IpAddr>,
    /// The key of TCP MD5 signatures (RFC 2385).
    pub password: Option<Secret>,
    /// How far away it may be.
    pub distance: Distance,
    /// Hold time that is offered, in seconds; 0, or from 3 on.
    pub hold: u16,
    /// Whether it is a client of this reflector (RFC 4456).
    pub client: bool,
    /// How the way to it is watched; `None`: it is not.
    pub bfd: Option<Bfd>,
    /// Whether it is left to the peer to connect.
    pub passive: bool,
}

/// How far away a peer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// Anywhere.
    Anywhere,
    /// What is sent to it goes no further than so many hops.
    Hops(u8),
    /// And what comes from farther away is none of its own (GTSM, RFC 5082).
    Within(u8),
}

impl Distance {
    /// The time to live of what is sent; `None`: the kernel's.
    pub fn ttl(self) -> Option<u8> {
        match self {
            Distance::Anywhere => None,
            Distance::Hops(hops) => Some(hops.max(1)),
            Distance::Within(_) => Some(u8::MAX),
        }
    }

    /// The least time to live of what is taken; `None`: any.
    pub fn least(self) -> Option<u8> {
        match self {
            Distance::Within(hops) => Some(u8::MAX - (hops.max(1) - 1)),
            Distance::Anywhere | Distance::Hops(_) => None,
        }
    }
}

impl Peer {
    /// Whether it is a router outside the cluster.
    pub fn is_outside(&self) -> bool {
        self.node.is_none()
    }
}

/// The routes that begin at this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The networks of its pods.
    pub pods: Sorted<IpNet>,
    /// Addresses of Services, and the ranges that stand for many of them; only for routers outside.
    pub services: Sorted<IpNet>,
}

/// What is done to what goes out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// Whether the nodes are told of pod networks (`--enable-ibgp`).
    pub pods_inside: bool,
    /// Whether routers outside are (`--advertise-pod-cidr`).
    pub pods_outside: bool,
    /// Added to what routers outside are told (RFC 1997).
    pub communities: Vec<u32>,
    /// An AS, and how many times it is put in front for routers outside.
    pub prepend: Option<(u32, u8)>,
    /// Whether routers outside are always given this node as the next hop (`--override-nexthop`).
    pub next_hop_self: bool,
}

/// What is not let in, besides default routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// Networks of which nothing is let in, neither they nor a part of them.
    pub reject: Vec<IpNet>,
    /// This node's own networks and the addresses of Services: not let in as they are.
    pub own: Sorted<IpNet>,
    /// The networks of its links: a next hop elsewhere makes no route. None: they are not known, and any
    /// next hop will do.
    pub on_link: Vec<IpNet>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_to_a_neighbour_goes_no_further_or_shows_that_it_is_from_one() {
        let times = |distance: Distance| (distance.ttl(), distance.least());
        assert_eq!(times(Distance::Anywhere), (None, None));
        assert_eq!(times(Distance::Hops(0)), (Some(1), None));
        assert_eq!(times(Distance::Hops(3)), (Some(3), None));
        // RFC 5082 section 3: 255, less one for each router between them
        assert_eq!(times(Distance::Within(0)), (Some(255), Some(255)));
        assert_eq!(times(Distance::Within(3)), (Some(255), Some(253)));
        assert_eq!(times(Distance::Within(255)), (Some(255), Some(1)));
    }
}
