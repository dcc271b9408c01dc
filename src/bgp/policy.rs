//! The import and export policies. Pure.
//!
//! [`check_import`] decides if a received path is accepted, and [`export`] computes the route that is
//! advertised to a peer. Both depend only on the configuration, the sessions and one path, so an
//! advertisement can be recomputed at any time and the table (`rib`) stores no copy of it.
//!
//! The rules are those of kube-router: a node accepts from its peers every path that could be a route
//! here, and advertises only its own networks. A route reflector (RFC 4456) also advertises learned
//! paths. The settings `--override-nexthop`, communities and AS prepending apply only to routers outside
//! the cluster.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    attribute::Attributes,
    rib::{PeerSession, path::RouteAttrs},
    wire::MAX_MESSAGE_LEN,
};
use crate::family::Family;
use crate::model::bgp::Config;

/// The community NO_EXPORT: not advertised to other ASes (RFC 1997).
pub(crate) const NO_EXPORT: u32 = 0xffff_ff01;
/// The community NO_ADVERTISE: not advertised to any peer (RFC 1997).
pub(crate) const NO_ADVERTISE: u32 = 0xffff_ff02;
/// The community NO_EXPORT_SUBCONFED: not advertised to other ASes, including those of the same
/// confederation (RFC 1997).
pub(crate) const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;
/// The LOCAL_PREF of originated networks, and of received paths that have none.
pub(crate) const LOCAL_PREF: u32 = 100;

/// The reason for which the import policy refuses a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteRejectReason {
    /// The address family was not negotiated.
    Family,
    /// The network is a default route; a node has its own.
    DefaultRoute,
    /// The network has addresses that are not unicast, or that never leave a link or a host.
    Martian,
    /// The network is one of this node's own networks or Service addresses.
    OwnNetwork,
    /// The network is a part of this node's pod network.
    OwnPods,
    /// The network is a part of one that the configuration rejects.
    Rejected,
    /// The AS_PATH contains this node's AS (RFC 4271 section 9.1.2).
    AsLoop,
    /// The AS_PATH does not begin with the AS of the peer (RFC 4271 section 6.3).
    FirstAs,
    /// The ORIGINATOR_ID is the BGP Identifier of this node (RFC 4456 section 8).
    Originator,
    /// The CLUSTER_LIST contains the cluster of this route reflector (RFC 4456 section 8).
    Cluster,
    /// The next hop is an address of this node, of the wrong family, or not usable as a next hop.
    NextHop,
}

impl RouteRejectReason {
    /// Returns the reason as text for users.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            RouteRejectReason::Family => "address family not negotiated",
            RouteRejectReason::DefaultRoute => "default route",
            RouteRejectReason::Martian => "not a unicast network",
            RouteRejectReason::OwnNetwork => "network of this node",
            RouteRejectReason::OwnPods => "part of this node's pod network",
            RouteRejectReason::Rejected => "rejected by the configuration",
            RouteRejectReason::AsLoop => "AS_PATH contains this node's AS",
            RouteRejectReason::FirstAs => "AS_PATH does not begin with the peer's AS",
            RouteRejectReason::Originator => "ORIGINATOR_ID is this node's",
            RouteRejectReason::Cluster => "CLUSTER_LIST contains this node's cluster",
            RouteRejectReason::NextHop => "invalid next hop",
        }
    }
}

/// Returns true if a network overlaps with one of the special networks below. A network that contains a
/// special one is refused too, because it would attract the traffic of the special one.
///
/// 0.0.0.0/8 and ::/128 mean "this host", 127.0.0.0/8 and ::1/128 never leave the host, 169.254.0.0/16
/// and fe80::/10 never leave a link (RFC 3927, RFC 4291), 224.0.0.0/4 and ff00::/8 are multicast, and
/// ::ffff:0:0/96 is IPv4-mapped. 240.0.0.0/4 is accepted, because the kernel routes it and some clusters
/// use it for pods; only its last address, the broadcast address, is refused.
fn is_martian(net: &IpNet) -> bool {
    const V4: [(Ipv4Addr, u8); 4] = [
        (Ipv4Addr::new(0, 0, 0, 0), 8),
        (Ipv4Addr::new(127, 0, 0, 0), 8),
        (Ipv4Addr::new(169, 254, 0, 0), 16),
        (Ipv4Addr::new(224, 0, 0, 0), 4),
    ];
    const V6: [(Ipv6Addr, u8); 5] = [
        (Ipv6Addr::UNSPECIFIED, 128),
        (Ipv6Addr::LOCALHOST, 128),
        (Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96),
        (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
        (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
    ];
    match net {
        IpNet::V4(net) => {
            *net == Ipv4Net::from(Ipv4Addr::BROADCAST)
                || V4.iter().any(|(addr, len)| {
                    Ipv4Net::new(*addr, *len)
                        .is_ok_and(|bad| bad.contains(net) || net.contains(&bad))
                })
        }
        IpNet::V6(net) => V6.iter().any(|(addr, len)| {
            Ipv6Net::new(*addr, *len).is_ok_and(|bad| bad.contains(net) || net.contains(&bad))
        }),
    }
}

/// Returns the reason to refuse a network from any peer; `None` if the network is accepted.
pub(crate) fn check_net(config: &Config, net: &IpNet) -> Option<RouteRejectReason> {
    if net.prefix_len() == 0 {
        Some(RouteRejectReason::DefaultRoute)
    } else if is_martian(net) {
        Some(RouteRejectReason::Martian)
    } else if config.import.own.contains(net) {
        Some(RouteRejectReason::OwnNetwork)
    } else if config.origin.pods.iter().any(|own| own.contains(net)) {
        Some(RouteRejectReason::OwnPods)
    } else if config.import.reject.iter().any(|bad| bad.contains(net)) {
        Some(RouteRejectReason::Rejected)
    } else {
        None
    }
}

/// Returns the reason to refuse attributes from a peer for any network; `None` if they are accepted.
pub(crate) fn check_attrs(
    config: &Config,
    from: &PeerSession,
    attrs: &RouteAttrs,
) -> Option<RouteRejectReason> {
    let (own, attributes) = (&config.own, &attrs.attributes);
    let hop = attrs.next_hop;
    // A link-local next hop needs an interface, and the kernel routes do not name one.
    let link_local = matches!(hop, IpAddr::V6(hop) if hop.is_unicast_link_local());
    let invalid = hop.is_unspecified() || hop.is_loopback() || hop.is_multicast() || link_local;
    if invalid || hop == from.local_addr || own.addrs.contains(&hop) {
        Some(RouteRejectReason::NextHop)
    } else if attributes.path_contains(own.asn) {
        Some(RouteRejectReason::AsLoop)
    } else if from.internal {
        if attributes.originator == Some(own.id) {
            Some(RouteRejectReason::Originator)
        } else if own.cluster_id.is_some_and(|own| attributes.clusters.contains(&own)) {
            Some(RouteRejectReason::Cluster)
        } else {
            None
        }
    } else {
        (attributes.neighbor_as() != Some(from.asn)).then_some(RouteRejectReason::FirstAs)
    }
}

/// Returns the reason to refuse a path to a network from a peer; `None` if the path is accepted.
pub(crate) fn check_import(
    config: &Config,
    from: &PeerSession,
    net: &IpNet,
    attrs: &RouteAttrs,
) -> Option<RouteRejectReason> {
    let family = Family::of(net);
    if !from.families.contains(&family) {
        Some(RouteRejectReason::Family)
    } else if family != Family::of_addr(&attrs.next_hop) {
        Some(RouteRejectReason::NextHop)
    } else {
        check_net(config, net).or_else(|| check_attrs(config, from, attrs))
    }
}

/// Returns received attributes without LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST if they come from
/// another AS, because these have a meaning only within one AS (RFC 4271 section 5.1.5, RFC 4456
/// section 8).
pub(crate) fn strip_for_ebgp(from: &PeerSession, mut attributes: Attributes) -> Attributes {
    if !from.internal {
        attributes.local_pref = None;
        attributes.originator = None;
        attributes.clusters = Vec::new();
    }
    attributes
}

/// Returns true if a next hop is on one of this node's links, or if the links are not known.
pub(crate) fn is_on_link(config: &Config, hop: &IpAddr) -> bool {
    let links = &config.import.on_link;
    links.is_empty() || links.iter().any(|link| link.contains(hop))
}

/// The source of a route that may be advertised.
#[derive(Clone, Copy, Debug)]
pub(crate) enum RouteSource<'a> {
    /// This node originates the network.
    Local(LocalKind),
    /// The path was learned from a peer.
    Learned {
        /// The session with the peer.
        from: &'a PeerSession,
        /// The next hop and path attributes that the peer sent.
        attrs: &'a RouteAttrs,
        /// True if the next hop is on one of this node's links.
        resolvable: bool,
    },
}

/// The kind of an originated network. Both fields can be true; both are false for a network that this
/// node does not originate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LocalKind {
    /// True for a pod network.
    pub pods: bool,
    /// True for addresses of Services.
    pub services: bool,
}

impl LocalKind {
    /// Returns the kind of a network in a configuration.
    pub(crate) fn of(config: &Config, net: &IpNet) -> LocalKind {
        let origin = &config.origin;
        LocalKind { pods: origin.pods.contains(net), services: origin.services.contains(net) }
    }
}

/// A route as it is advertised to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExportedRoute {
    /// The next hop, of the family of the route.
    pub next_hop: IpAddr,
    /// The other path attributes.
    pub attributes: Attributes,
}

/// Returns the route to advertise to a peer for the best path to a network of a family. `None` if the
/// path must not be advertised, or if its attributes do not fit in a message.
pub(crate) fn export(
    config: &Config,
    to: &PeerSession,
    family: Family,
    source: RouteSource,
) -> Option<ExportedRoute> {
    if !to.families.contains(&family) {
        return None;
    }
    let route = match source {
        RouteSource::Local(kind) => export_local(config, to, family, kind),
        RouteSource::Learned { from, attrs, resolvable } => {
            export_learned(config, to, family, from, attrs, resolvable)
        }
    }?;
    (max_encoded_len(&route.attributes) + UPDATE_OVERHEAD <= MAX_MESSAGE_LEN).then_some(route)
}

/// Returns the route to advertise for an originated network; `None` if networks of its kind are not
/// advertised to the peer, or if this node has no address of the family.
fn export_local(
    config: &Config,
    to: &PeerSession,
    family: Family,
    kind: LocalKind,
) -> Option<ExportedRoute> {
    let rules = &config.export;
    let pods = if to.external { rules.pods_outside } else { rules.pods_inside };
    if !(kind.pods && pods || kind.services && to.external) {
        return None;
    }
    let mut attributes = Attributes::default();
    if to.internal {
        attributes.local_pref = Some(LOCAL_PREF);
    }
    apply_export_policy(config, to, &mut attributes);
    Some(ExportedRoute { next_hop: own_next_hop(config, to, family)?, attributes })
}

/// Returns the route to advertise for a learned path; always `None` unless this node is a route
/// reflector.
fn export_learned(
    config: &Config,
    to: &PeerSession,
    family: Family,
    from: &PeerSession,
    attrs: &RouteAttrs,
    resolvable: bool,
) -> Option<ExportedRoute> {
    let cluster = config.own.cluster_id?;
    let mut attributes = Cow::Borrowed(&attrs.attributes);
    let has_community = |community| attrs.attributes.communities.contains(&community);
    let no_export = has_community(NO_EXPORT) || has_community(NO_EXPORT_SUBCONFED);
    if from.addr == to.addr || has_community(NO_ADVERTISE) || no_export && !to.internal {
        return None;
    }
    let mut next_hop_self = !to.internal;
    if !to.internal {
        let attributes = attributes.to_mut();
        attributes.med = None;
        attributes.local_pref = None;
        attributes.originator = None;
        attributes.clusters = Vec::new();
        attributes.as_path.retain(|segment| !segment.is_confederation());
    } else if from.internal {
        let originator = attrs.attributes.originator.unwrap_or(from.id);
        // The originator itself would discard the route.
        if !(from.client || to.client) || originator == to.id {
            return None;
        }
        let attributes = attributes.to_mut();
        attributes.local_pref.get_or_insert(LOCAL_PREF);
        attributes.originator = Some(originator);
        attributes.clusters.insert(0, cluster);
        next_hop_self = to.external && config.export.next_hop_self;
    } else {
        attributes.to_mut().local_pref = Some(LOCAL_PREF);
        next_hop_self = config.export.next_hop_self;
    }
    let mut attributes = attributes.into_owned();
    apply_export_policy(config, to, &mut attributes);
    // Traffic must not be attracted to this node if this node cannot forward it to the next hop.
    let next_hop = match (next_hop_self, resolvable) {
        (false, _) => attrs.next_hop,
        (true, true) => own_next_hop(config, to, family)?,
        (true, false) => return None,
    };
    Some(ExportedRoute { next_hop, attributes })
}

/// Adds the configured communities and ASes for routers outside the cluster, and this node's AS for peers
/// in another AS.
fn apply_export_policy(config: &Config, to: &PeerSession, attributes: &mut Attributes) {
    if to.external {
        attributes.add_communities(&config.export.communities);
        if let Some((asn, times)) = config.export.prepend {
            attributes.prepend(asn, times);
        }
    }
    if !to.internal {
        // This node's AS must be the first one, or the peer refuses the path (RFC 4271 section 6.3).
        attributes.prepend(config.own.asn, 1);
    }
}

/// Returns this node's address of a family as a next hop for a peer: the local address of the connection,
/// which the peer can reach, or else the first of the node's addresses. `None` if there is none.
fn own_next_hop(config: &Config, to: &PeerSession, family: Family) -> Option<IpAddr> {
    let is_valid = |addr: &IpAddr| {
        let link_local = matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local());
        Family::of_addr(addr) == family && !link_local && !addr.is_unspecified()
    };
    let mut addrs = std::iter::once(&to.local_addr).chain(&config.own.addrs);
    addrs.find(|addr| is_valid(addr)).copied()
}

/// The most bytes of an UPDATE that are not path attributes: the header, two length fields, the fixed
/// part and next hop of MP_REACH_NLRI, and one route.
const UPDATE_OVERHEAD: usize = 19 + 4 + 4 + 5 + 32 + 17;

/// Returns an upper bound for the encoded size of attributes in bytes. ASes are counted for both AS_PATH
/// and AS4_PATH.
pub(super) fn max_encoded_len(attributes: &Attributes) -> usize {
    let path = attributes.as_path.iter().map(|segment| 4 + 8 * segment.ases().len()).sum::<usize>();
    let words = attributes.communities.len() + attributes.clusters.len();
    let others = attributes.unrecognized.iter().map(|other| 4 + other.value.len()).sum::<usize>();
    // 57: ORIGIN 4, NEXT_HOP 7, MED 7, LOCAL_PREF 7, ATOMIC_AGGREGATE 3, AGGREGATOR 11, AS4_AGGREGATOR 11
    // and ORIGINATOR_ID 7; 16: the headers of four attributes of variable length
    57 + 16 + path + 4 * words + others
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::{
        as_path::Segment,
        attribute::RawAttribute,
        capability::Negotiated,
        message::Message,
        rib::fixtures::*,
        update::{Reach, Update},
    };

    fn learned<'a>(from: &'a PeerSession, attrs: &'a RouteAttrs) -> RouteSource<'a> {
        RouteSource::Learned { from, attrs, resolvable: true }
    }

    fn route_attrs(next_hop: &str, attributes: Attributes) -> RouteAttrs {
        RouteAttrs { next_hop: ip(next_hop), attributes }
    }

    #[test]
    fn paths_that_cannot_be_routes_of_this_node_are_refused() {
        let mut config = reflector();
        config.import.reject = vec![net("10.50.0.0/16")];
        let (node, router) = (session(2, ASN), session(3, 65001));
        let plain = || route_attrs("10.0.0.9", as_path(&[65001, 65002]));
        let six = || route_attrs("fd00::9", as_path(&[65001]));
        let table = [
            ("0.0.0.0/0", plain(), Some(RouteRejectReason::DefaultRoute)),
            ("::/0", six(), Some(RouteRejectReason::DefaultRoute)),
            ("0.0.0.0/1", plain(), Some(RouteRejectReason::Martian)),
            ("127.0.0.0/8", plain(), Some(RouteRejectReason::Martian)),
            ("127.1.2.3/32", plain(), Some(RouteRejectReason::Martian)),
            ("128.0.0.0/1", plain(), Some(RouteRejectReason::Martian)),
            ("169.254.7.0/24", plain(), Some(RouteRejectReason::Martian)),
            ("224.0.0.0/24", plain(), Some(RouteRejectReason::Martian)),
            ("255.255.255.255/32", plain(), Some(RouteRejectReason::Martian)),
            ("240.1.0.0/16", plain(), None),
            ("::1/128", six(), Some(RouteRejectReason::Martian)),
            ("::ffff:10.0.0.0/104", six(), Some(RouteRejectReason::Martian)),
            ("fe80::/64", six(), Some(RouteRejectReason::Martian)),
            ("ff02::/16", six(), Some(RouteRejectReason::Martian)),
            ("2000::/3", six(), None),
            ("64:ff9b::/96", six(), None),
            ("10.43.0.1/32", plain(), Some(RouteRejectReason::OwnNetwork)),
            ("10.43.0.0/24", plain(), None),
            ("10.42.1.0/24", plain(), Some(RouteRejectReason::OwnNetwork)),
            ("10.42.1.7/32", plain(), Some(RouteRejectReason::OwnPods)),
            ("fd42:1::7/128", six(), Some(RouteRejectReason::OwnPods)),
            ("10.42.0.0/16", plain(), None),
            ("10.50.0.0/16", plain(), Some(RouteRejectReason::Rejected)),
            ("10.50.1.0/24", plain(), Some(RouteRejectReason::Rejected)),
            ("10.48.0.0/12", plain(), None),
            (
                "10.9.0.0/16",
                route_attrs("10.0.0.1", as_path(&[65001])),
                Some(RouteRejectReason::NextHop),
            ),
            (
                "fd09::/64",
                route_attrs("fd00::1", as_path(&[65001])),
                Some(RouteRejectReason::NextHop),
            ),
            (
                "10.9.0.0/16",
                route_attrs("0.0.0.0", as_path(&[65001])),
                Some(RouteRejectReason::NextHop),
            ),
            (
                "10.9.0.0/16",
                route_attrs("127.0.0.1", as_path(&[65001])),
                Some(RouteRejectReason::NextHop),
            ),
            (
                "10.9.0.0/16",
                route_attrs("224.0.0.5", as_path(&[65001])),
                Some(RouteRejectReason::NextHop),
            ),
            (
                "fd09::/64",
                route_attrs("fe80::1", as_path(&[65001])),
                Some(RouteRejectReason::NextHop),
            ),
            (
                "10.9.0.0/16",
                route_attrs("fd00::9", as_path(&[65001])),
                Some(RouteRejectReason::NextHop),
            ),
            (
                "10.9.0.0/16",
                route_attrs("10.0.0.9", as_path(&[65001, ASN])),
                Some(RouteRejectReason::AsLoop),
            ),
            ("10.9.0.0/16", plain(), None),
        ];
        for (text, attrs, refusal) in table {
            for from in [&node, &router] {
                assert_eq!(
                    check_import(&config, from, &net(text), &attrs),
                    refusal,
                    "{text} {attrs:?}"
                );
            }
        }
        let mut four = router.clone();
        four.families = vec![Family::Ipv4];
        assert_eq!(
            check_import(&config, &four, &net("fd09::/64"), &six()),
            Some(RouteRejectReason::Family)
        );
    }

    #[test]
    fn a_path_from_another_as_must_begin_with_that_as() {
        let (config, node, router) = (config(), session(2, ASN), session(3, 65001));
        let set = Attributes { as_path: vec![Segment::Set(vec![65001])], ..Attributes::default() };
        let first =
            |from, attributes| check_attrs(&config, from, &route_attrs("10.0.0.9", attributes));
        assert_eq!(first(&router, as_path(&[65001])), None);
        for wrong in [as_path(&[]), as_path(&[65002, 65001]), set] {
            assert_eq!(first(&router, wrong.clone()), Some(RouteRejectReason::FirstAs));
            assert_eq!(first(&node, wrong), None);
        }
    }

    #[test]
    fn a_path_that_passed_through_this_reflector_is_refused() {
        let (config, node, router) = (reflector(), session(2, ASN), session(3, 65001));
        let own_originator = Attributes { originator: Some(config.own.id), ..as_path(&[65001]) };
        let own_cluster = Attributes { clusters: vec![[9, 9, 9, 9].into()], ..as_path(&[65001]) };
        let other_cluster = Attributes { clusters: vec![[9, 9, 9, 8].into()], ..as_path(&[65001]) };
        let attrs = |attributes: &Attributes| route_attrs("10.0.0.9", attributes.clone());
        assert_eq!(
            check_attrs(&config, &node, &attrs(&own_originator)),
            Some(RouteRejectReason::Originator)
        );
        assert_eq!(
            check_attrs(&config, &node, &attrs(&own_cluster)),
            Some(RouteRejectReason::Cluster)
        );
        assert_eq!(check_attrs(&config, &node, &attrs(&other_cluster)), None);
        // These attributes have no meaning if they come from another AS.
        assert_eq!(check_attrs(&config, &router, &attrs(&own_cluster)), None);
        let all = Attributes { local_pref: Some(7), ..own_cluster.clone() };
        assert_eq!(strip_for_ebgp(&router, all.clone()), as_path(&[65001]));
        assert_eq!(strip_for_ebgp(&node, all.clone()), all);
    }

    #[test]
    fn originated_networks_are_advertised_only_to_the_configured_kinds_of_peers() {
        let pods = RouteSource::Local(LocalKind { pods: true, services: false });
        let service = RouteSource::Local(LocalKind { pods: false, services: true });
        let both = RouteSource::Local(LocalKind { pods: true, services: true });
        let (node, router) = (session(2, ASN), session(3, 65001));
        for (inside, outside) in [(false, false), (false, true), (true, false), (true, true)] {
            let mut config = config();
            (config.export.pods_inside, config.export.pods_outside) = (inside, outside);
            let is_exported = |to, source| export(&config, to, Family::Ipv4, source).is_some();
            assert_eq!((is_exported(&node, pods), is_exported(&router, pods)), (inside, outside));
            assert_eq!((is_exported(&node, service), is_exported(&router, service)), (false, true));
            assert_eq!((is_exported(&node, both), is_exported(&router, both)), (inside, true));
        }
    }

    #[test]
    fn the_export_policy_sets_the_attributes_of_originated_networks_by_kind_of_peer() {
        let mut config = config();
        config.export.communities = vec![NO_EXPORT, 7, 7];
        config.export.prepend = Some((65077, 2));
        let source = RouteSource::Local(LocalKind { pods: true, services: false });
        let exported = |to: &PeerSession| export(&config, to, Family::Ipv4, source).unwrap();

        let inside = Attributes { local_pref: Some(100), ..as_path(&[]) };
        assert_eq!(
            exported(&session(2, ASN)),
            ExportedRoute { next_hop: ip("10.0.0.1"), attributes: inside }
        );
        let communities = vec![7, NO_EXPORT];
        let router = Attributes { communities, ..as_path(&[ASN, 65077, 65077]) };
        assert_eq!(exported(&session(3, 65001)).attributes, router);
        let same_as = Attributes { local_pref: Some(100), ..router.clone() };
        let same_as = Attributes { as_path: as_path(&[65077, 65077]).as_path, ..same_as };
        assert_eq!(
            exported(&PeerSession { external: true, ..session(4, ASN) }).attributes,
            same_as
        );
        // A node of the cluster that is in another AS is not a router outside.
        let other = exported(&PeerSession { external: false, ..session(5, 65005) }).attributes;
        assert_eq!(other, as_path(&[ASN]));
    }

    #[test]
    fn next_hop_self_is_the_local_address_of_the_connection_or_one_of_the_family() {
        let mut config = config();
        let source = RouteSource::Local(LocalKind { pods: true, services: false });
        let to = PeerSession { local_addr: ip("10.0.0.7"), ..session(2, ASN) };
        let hop = |config: &Config, to: &PeerSession, family| {
            export(config, to, family, source).map(|exported| exported.next_hop)
        };
        assert_eq!(hop(&config, &to, Family::Ipv4), Some(ip("10.0.0.7")));
        assert_eq!(hop(&config, &to, Family::Ipv6), Some(ip("fd00::1")));
        let linked = PeerSession { local_addr: ip("fe80::7"), ..to.clone() };
        assert_eq!(hop(&config, &linked, Family::Ipv6), Some(ip("fd00::1")));
        config.own.addrs = vec![ip("10.0.0.1")];
        assert_eq!(hop(&config, &to, Family::Ipv6), None);
        let four = PeerSession { families: vec![Family::Ipv4], ..to };
        assert_eq!(hop(&super::tests::config(), &four, Family::Ipv6), None);
    }

    #[test]
    fn only_a_reflector_advertises_learned_paths_and_follows_rfc_4456() {
        let (from, to) = (session(2, ASN), session(3, ASN));
        let attrs = route_attrs("10.0.0.9", Attributes { med: Some(5), ..as_path(&[65001]) });
        let is_exported = |from: &PeerSession, to: &PeerSession| {
            export(&reflector(), to, Family::Ipv4, learned(from, &attrs)).is_some()
        };
        let client = |of: &PeerSession| PeerSession { client: true, ..of.clone() };
        assert_eq!(export(&config(), &to, Family::Ipv4, learned(&client(&from), &attrs)), None);
        assert!(is_exported(&client(&from), &client(&to)));
        assert!(is_exported(&client(&from), &to));
        assert!(is_exported(&from, &client(&to)));
        assert!(!is_exported(&from, &to));
        assert!(!is_exported(&client(&from), &client(&from)));
        let router = session(4, 65001);
        assert!(
            is_exported(&router, &to)
                && is_exported(&from, &router)
                && is_exported(&router, &session(5, 65002))
        );
        assert!(!is_exported(&router, &router));
    }

    #[test]
    fn a_reflected_path_keeps_its_attributes_and_gets_originator_id_and_cluster_list() {
        let (from, to) = (PeerSession { client: true, ..session(2, ASN) }, session(3, ASN));
        let mut config = reflector();
        config.export.next_hop_self = true;
        let as_it_came = Attributes {
            med: Some(5),
            local_pref: Some(200),
            unrecognized: vec![RawAttribute { code: 99, flags: 0xc0, value: Box::new([1]) }],
            ..as_path(&[65001])
        };
        let attrs = route_attrs("10.0.0.9", as_it_came.clone());
        let expected = Attributes {
            originator: Some(from.id),
            clusters: vec![[9, 9, 9, 9].into()],
            ..as_it_came.clone()
        };
        let exported = export(&config, &to, Family::Ipv4, learned(&from, &attrs)).unwrap();
        assert_eq!(exported, ExportedRoute { next_hop: ip("10.0.0.9"), attributes: expected });
        let outside = PeerSession { external: true, ..to.clone() };
        let exported = export(&config, &outside, Family::Ipv4, learned(&from, &attrs)).unwrap();
        assert_eq!(
            exported.next_hop,
            ip("10.0.0.1"),
            "--override-nexthop applies to routers outside"
        );

        let reflected_before = route_attrs(
            "10.0.0.9",
            Attributes {
                originator: Some([1, 1, 1, 1].into()),
                clusters: vec![[8, 8, 8, 8].into()],
                ..as_path(&[])
            },
        );
        let exported = export(&config, &to, Family::Ipv4, learned(&from, &reflected_before))
            .unwrap()
            .attributes;
        assert_eq!(exported.originator, Some([1, 1, 1, 1].into()));
        assert_eq!(exported.clusters, [[9, 9, 9, 9], [8, 8, 8, 8]].map(Ipv4Addr::from));
        assert_eq!(exported.local_pref, Some(100));
        let origin = PeerSession { id: [1, 1, 1, 1].into(), ..to };
        assert_eq!(export(&config, &origin, Family::Ipv4, learned(&from, &reflected_before)), None);
    }

    #[test]
    fn attributes_that_are_local_to_an_as_are_removed_for_another_as() {
        let (from, to) = (session(2, ASN), session(4, 65009));
        let mut attrs = route_attrs(
            "10.0.0.9",
            Attributes {
                med: Some(5),
                local_pref: Some(200),
                originator: Some([1, 1, 1, 1].into()),
                clusters: vec![[8, 8, 8, 8].into()],
                ..as_path(&[65001])
            },
        );
        attrs.attributes.as_path.insert(0, Segment::ConfedSequence(vec![65100]));
        let exported = export(&reflector(), &to, Family::Ipv4, learned(&from, &attrs)).unwrap();
        assert_eq!(
            exported,
            ExportedRoute { next_hop: ip("10.0.0.1"), attributes: as_path(&[ASN, 65001]) }
        );
        // A peer that would get this node as next hop does not get a path that this node cannot resolve.
        let unresolvable = RouteSource::Learned { from: &from, attrs: &attrs, resolvable: false };
        assert_eq!(export(&reflector(), &to, Family::Ipv4, unresolvable), None);
        let client = PeerSession { client: true, ..session(3, ASN) };
        let exported = export(&reflector(), &client, Family::Ipv4, unresolvable).unwrap();
        assert_eq!(exported.next_hop, ip("10.0.0.9"));
    }

    #[test]
    fn an_ebgp_path_keeps_its_next_hop_unless_next_hop_self_is_configured() {
        let (from, to) = (session(4, 65001), session(2, ASN));
        let attrs = route_attrs("10.0.0.9", Attributes { med: Some(5), ..as_path(&[65001]) });
        let mut config = reflector();
        let exported = export(&config, &to, Family::Ipv4, learned(&from, &attrs)).unwrap();
        let attributes = Attributes { local_pref: Some(100), ..attrs.attributes.clone() };
        assert_eq!(exported, ExportedRoute { next_hop: ip("10.0.0.9"), attributes });
        config.export.next_hop_self = true;
        let exported = export(&config, &to, Family::Ipv4, learned(&from, &attrs)).unwrap();
        assert_eq!(exported.next_hop, ip("10.0.0.1"));
    }

    #[test]
    fn well_known_communities_limit_advertisements() {
        let (from, inside) = (session(4, 65001), session(2, ASN));
        let outside = session(5, 65002);
        for (community, is_exported) in [
            (NO_EXPORT, (true, false)),
            (NO_EXPORT_SUBCONFED, (true, false)),
            (NO_ADVERTISE, (false, false)),
            (7, (true, true)),
        ] {
            let attrs = route_attrs(
                "10.0.0.9",
                Attributes { communities: vec![community], ..as_path(&[65001]) },
            );
            let exported =
                |to| export(&reflector(), to, Family::Ipv4, learned(&from, &attrs)).is_some();
            assert_eq!((exported(&inside), exported(&outside)), is_exported, "{community:x}");
        }
    }

    #[test]
    fn a_route_that_does_not_fit_in_a_message_is_not_advertised() {
        let (from, to) = (session(4, 65001), session(2, ASN));
        let attrs = |count| {
            route_attrs(
                "10.0.0.9",
                Attributes { communities: (0..count).collect(), ..as_path(&[65001]) },
            )
        };
        for (count, is_exported) in [(900, true), (1100, false)] {
            let exported = export(&reflector(), &to, Family::Ipv4, learned(&from, &attrs(count)));
            assert_eq!(exported.is_some(), is_exported, "{count}");
        }
    }

    #[test]
    fn the_longest_attributes_that_are_advertised_fit_in_a_message_and_one_more_byte_is_refused() {
        let (from, to) = (session(4, 65001), session(2, ASN));
        // All optional attributes are present, and the ASes do not fit in two octets.
        let attrs = |next_hop, value_len| {
            let unrecognized =
                vec![RawAttribute { code: 99, flags: 0xe0, value: vec![0; value_len].into() }];
            let attributes = Attributes {
                med: Some(1),
                atomic: true,
                aggregator: Some((70_000, [10, 0, 0, 9].into())),
                communities: (0..900).collect(),
                unrecognized,
                ..as_path(&[65001, 70_000])
            };
            route_attrs(next_hop, attributes)
        };
        // 4096 - 81 for the rest of the UPDATE, 73 for all attributes of fixed length and the headers of
        // those of variable length, 20 for the ASes, 3600 for the communities, 4 for the unrecognized one.
        const LONGEST: usize = 4096 - 81 - 73 - 20 - 3600 - 4;
        for (net_of, next_hop) in [("10.1.2.3/32", "10.0.0.9"), ("fd42:9::1/128", "fd00::9")] {
            let dest = net(net_of);
            let exported = |value_len| {
                let attrs = attrs(next_hop, value_len);
                export(&reflector(), &to, Family::of(&dest), learned(&from, &attrs))
            };
            assert!(exported(LONGEST + 1).is_none(), "{net_of}");
            let ExportedRoute { next_hop, attributes } = exported(LONGEST).unwrap();
            let reach = vec![Reach { next_hop, nets: vec![dest] }];
            let update = Message::Update(Update { reach, attributes, ..Update::default() });
            for four_octet in [false, true] {
                let negotiated = Negotiated { four_octet, internal: true };
                let mut bytes = Vec::new();
                update.write(negotiated, &mut bytes);
                assert!(bytes.len() <= 4096, "{}", bytes.len());
                assert!(Message::read(&bytes, negotiated).as_ref() == Ok(&update), "{net_of}");
            }
        }
    }
}
