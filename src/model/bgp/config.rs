//! The configuration of the BGP speaker.

use super::peer::{Bfd, Secret};
use crate::collections::{FlatMap, FlatSet};
use crate::family::Family;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

/// The TCP port of BGP (RFC 4271).
pub const PORT: u16 = 179;

/// The complete configuration of the speaker. `Speaker::configure` in `bgp` compares a new one with
/// the previous one and resets only the sessions that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The local speaker.
    pub own: LocalSpeaker,
    /// The configured peers by address. Connections from all other addresses are refused.
    pub peers: FlatMap<IpAddr, Peer>,
    /// The routes that this node originates.
    pub origin: Originated,
    /// The export rules.
    pub export: Export,
    /// The import rules.
    pub import: Import,
}

/// The local speaker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSpeaker {
    /// The local AS number.
    pub asn: u32,
    /// The BGP Identifier (RFC 6286): not zero, and unique within the AS.
    pub id: Ipv4Addr,
    /// The addresses to listen at. They are also the next hops of the routes that this node originates.
    pub addrs: Vec<IpAddr>,
    /// The TCP port to listen at.
    pub port: u16,
    /// The families to advertise as capabilities (RFC 4760).
    pub families: FlatSet<Family>,
    /// The CLUSTER_ID if this node is a route reflector (RFC 4456); `None` if it is not.
    pub cluster: Option<Ipv4Addr>,
    /// The restart time in seconds that is advertised for graceful restart (RFC 4724). Peers keep this
    /// node's routes for that long while it restarts. `None` if graceful restart is off.
    pub restart: Option<u16>,
}

/// The configuration of a peer. Its role follows from `node` and `client`; the AS number alone does not
/// decide it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The name of the Node if the peer is another node of the cluster; `None` if it is a router
    /// outside the cluster.
    pub node: Option<Box<str>>,
    /// The AS number that the peer's OPEN must have.
    pub asn: u32,
    /// The TCP port to connect to.
    pub port: u16,
    /// The local address of connections to this peer; `None` if the kernel chooses it.
    pub local: Option<IpAddr>,
    /// The key of TCP MD5 signatures (RFC 2385); `None` if segments are not signed.
    pub password: Option<Secret>,
    /// The limit on the number of hops to the peer.
    pub distance: TtlPolicy,
    /// The hold time to offer, in seconds: 0 or at least 3 (RFC 4271 section 4.2). 0 turns keepalives
    /// off.
    pub hold: u16,
    /// True if the peer is a client of this route reflector (RFC 4456).
    pub client: bool,
    /// The parameters of the BFD session with the peer; `None` if BFD is off.
    pub bfd: Option<Bfd>,
    /// True if this node waits for the peer to connect and never connects itself
    /// (PassiveTcpEstablishment, RFC 4271 section 8.1.1).
    pub passive: bool,
}

/// The limit on the number of hops between this node and a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlPolicy {
    /// No limit: the kernel's default TTL.
    Anywhere,
    /// Packets to the peer are sent with this TTL, so that they are dropped after so many hops
    /// (`ebgp-multihop` of other implementations).
    Hops(u8),
    /// Packets are sent with TTL 255, and received packets are dropped if they have crossed more than
    /// this number of hops (GTSM, RFC 5082).
    Within(u8),
}

impl TtlPolicy {
    /// Returns the TTL of sent packets; `None` if the kernel's default applies.
    pub fn ttl(self) -> Option<u8> {
        match self {
            TtlPolicy::Anywhere => None,
            TtlPolicy::Hops(hops) => Some(hops.max(1)),
            TtlPolicy::Within(_) => Some(u8::MAX),
        }
    }

    /// Returns the smallest TTL that a received packet may have; `None` if any TTL is accepted.
    pub fn min_ttl(self) -> Option<u8> {
        match self {
            TtlPolicy::Within(hops) => Some(u8::MAX - (hops.max(1) - 1)),
            TtlPolicy::Anywhere | TtlPolicy::Hops(_) => None,
        }
    }
}

impl Peer {
    /// Returns true if the peer is a router outside the cluster.
    pub fn is_outside(&self) -> bool {
        self.node.is_none()
    }
}

/// The routes that this node originates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Originated {
    /// The pod networks of this node.
    pub pods: FlatSet<IpNet>,
    /// Addresses of Services, and ranges that cover many of them. They are advertised only to routers
    /// outside the cluster.
    pub services: FlatSet<IpNet>,
}

/// The export rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Export {
    /// True if pod networks are advertised to other nodes (`--enable-ibgp`).
    pub pods_inside: bool,
    /// True if pod networks are advertised to routers outside the cluster (`--advertise-pod-cidr`).
    pub pods_outside: bool,
    /// Communities to add to routes for routers outside the cluster (RFC 1997).
    pub communities: Vec<u32>,
    /// An AS number to prepend to AS_PATH for routers outside the cluster, and the number of times.
    pub prepend: Option<(u32, u8)>,
    /// True if routers outside the cluster always get this node as next hop (`--override-nexthop`).
    pub next_hop_self: bool,
}

/// The import rules. In addition, default routes, martian prefixes and prefixes within
/// [`Originated::pods`] are always rejected.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// Prefixes to reject, together with all more specific prefixes within them.
    pub reject: Vec<IpNet>,
    /// Prefixes of this node and of Services. A received route is rejected if its prefix equals one of
    /// them.
    pub own: FlatSet<IpNet>,
    /// The networks of this node's links. A path is not used for a kernel route if its next hop is
    /// outside them. If the list is empty, the links are unknown and any next hop is accepted.
    pub on_link: Vec<IpNet>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hop_limits_set_the_sent_ttl_and_gtsm_also_sets_the_minimum_received_ttl() {
        let ttls = |distance: TtlPolicy| (distance.ttl(), distance.min_ttl());
        assert_eq!(ttls(TtlPolicy::Anywhere), (None, None));
        assert_eq!(ttls(TtlPolicy::Hops(0)), (Some(1), None));
        assert_eq!(ttls(TtlPolicy::Hops(3)), (Some(3), None));
        // RFC 5082 section 3: 255, minus one for each router between the two speakers.
        assert_eq!(ttls(TtlPolicy::Within(0)), (Some(255), Some(255)));
        assert_eq!(ttls(TtlPolicy::Within(3)), (Some(255), Some(253)));
        assert_eq!(ttls(TtlPolicy::Within(255)), (Some(255), Some(1)));
    }
}
