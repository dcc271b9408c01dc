//! The import and export policies. Pure.
//!
//! [`check_import`] decides if a received path is accepted, and [`export`] computes the route that is
//! advertised to a peer. Both depend only on the configuration, the sessions and one path, so an
//! advertisement can be recomputed at any time and [`out`](super::out) stores no copy of it.
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
    Config, Family,
    attribute::{Attributes, Segment},
    choice::RouteAttrs,
    message::MAX,
    slot::Session,
};

/// The community NO_EXPORT: not advertised to other ASes (RFC 1997).
pub const NO_EXPORT: u32 = 0xffff_ff01;
/// The community NO_ADVERTISE: not advertised to any peer (RFC 1997).
pub const NO_ADVERTISE: u32 = 0xffff_ff02;
/// The community NO_EXPORT_SUBCONFED: not advertised to other ASes, including those of the same
/// confederation (RFC 1997).
pub const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;
/// The LOCAL_PREF of originated networks, and of received paths that have none.
pub const LOCAL_PREF: u32 = 100;

/// The reason for which the import policy refuses a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
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

impl Refusal {
    /// Returns the reason as text for users.
    pub fn text(self) -> &'static str {
        match self {
            Refusal::Family => "address family not negotiated",
            Refusal::DefaultRoute => "default route",
            Refusal::Martian => "not a unicast network",
            Refusal::OwnNetwork => "network of this node",
            Refusal::OwnPods => "part of this node's pod network",
            Refusal::Rejected => "rejected by the configuration",
            Refusal::AsLoop => "AS_PATH contains this node's AS",
            Refusal::FirstAs => "AS_PATH does not begin with the peer's AS",
            Refusal::Originator => "ORIGINATOR_ID is this node's",
            Refusal::Cluster => "CLUSTER_LIST contains this node's cluster",
            Refusal::NextHop => "invalid next hop",
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
pub fn check_net(config: &Config, net: &IpNet) -> Option<Refusal> {
    if net.prefix_len() == 0 {
        Some(Refusal::DefaultRoute)
    } else if is_martian(net) {
        Some(Refusal::Martian)
    } else if config.import.own.contains(net) {
        Some(Refusal::OwnNetwork)
    } else if config.origin.pods.iter().any(|own| own.contains(net)) {
        Some(Refusal::OwnPods)
    } else if config.import.reject.iter().any(|bad| bad.contains(net)) {
        Some(Refusal::Rejected)
    } else {
        None
    }
}

/// Returns the reason to refuse attributes from a peer for any network; `None` if they are accepted.
pub fn check_attrs(config: &Config, from: &Session, attrs: &RouteAttrs) -> Option<Refusal> {
    let (own, attributes) = (&config.own, &attrs.attributes);
    let hop = attrs.next_hop;
    // A link-local next hop needs an interface, and the kernel routes do not name one.
    let link_local = matches!(hop, IpAddr::V6(hop) if hop.is_unicast_link_local());
    let invalid = hop.is_unspecified() || hop.is_loopback() || hop.is_multicast() || link_local;
    if invalid || hop == from.local || own.addrs.contains(&hop) {
        Some(Refusal::NextHop)
    } else if attributes.path_contains(own.asn) {
        Some(Refusal::AsLoop)
    } else if from.internal {
        if attributes.originator == Some(own.id) {
            Some(Refusal::Originator)
        } else if own.cluster.is_some_and(|own| attributes.clusters.contains(&own)) {
            Some(Refusal::Cluster)
        } else {
            None
        }
    } else {
        (attributes.neighbor_as() != Some(from.asn)).then_some(Refusal::FirstAs)
    }
}

/// Returns the reason to refuse a path to a network from a peer; `None` if the path is accepted.
pub fn check_import(
    config: &Config,
    from: &Session,
    net: &IpNet,
    attrs: &RouteAttrs,
) -> Option<Refusal> {
    let family = Family::of(net);
    if !from.families.contains(&family) {
        Some(Refusal::Family)
    } else if family != Family::of_addr(&attrs.next_hop) {
        Some(Refusal::NextHop)
    } else {
        check_net(config, net).or_else(|| check_attrs(config, from, attrs))
    }
}

/// Returns received attributes without LOCAL_PREF, ORIGINATOR_ID and CLUSTER_LIST if they come from
/// another AS, because these have a meaning only within one AS (RFC 4271 section 5.1.5, RFC 4456
/// section 8).
pub fn strip_for_ebgp(from: &Session, mut attributes: Attributes) -> Attributes {
    if !from.internal {
        attributes.local_pref = None;
        attributes.originator = None;
        attributes.clusters = Vec::new();
    }
    attributes
}

/// Returns true if a next hop is on one of this node's links, or if the links are not known.
pub fn is_on_link(config: &Config, hop: &IpAddr) -> bool {
    let links = &config.import.on_link;
    links.is_empty() || links.iter().any(|link| link.contains(hop))
}

/// The source of a route that may be advertised.
#[derive(Clone, Copy, Debug)]
pub enum RouteSource<'a> {
    /// This node originates the network.
    Local(LocalKind),
    /// The path was learned from a peer.
    Learned {
        /// The session with the peer.
        from: &'a Session,
        /// The next hop and path attributes that the peer sent.
        attrs: &'a RouteAttrs,
        /// True if the next hop is on one of this node's links.
        resolvable: bool,
    },
}

/// The kind of an originated network. Both fields can be true; both are false for a network that this
/// node does not originate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalKind {
    /// True for a pod network.
    pub pods: bool,
    /// True for addresses of Services.
    pub services: bool,
}

impl LocalKind {
    /// Returns the kind of a network in a configuration.
    pub fn of(config: &Config, net: &IpNet) -> LocalKind {
        let origin = &config.origin;
        LocalKind { pods: origin.pods.contains(net), services: origin.services.contains(net) }
    }
}

/// A route as it is advertised to a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportedRoute {
    /// The next hop, of the family of the route.
    pub next_hop: IpAddr,
    /// The other path attributes.
    pub attributes: Attributes,
}

/// Returns the route to advertise to a peer for the best path to a network of a family. `None` if the
/// path must not be advertised, or if its attributes do not fit in a message.
pub fn export(
    config: &Config,
    to: &Session,
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
    (max_encoded_len(&route.attributes) + UPDATE_OVERHEAD <= MAX).then_some(route)
}

/// Returns the route to advertise for an originated network; `None` if networks of its kind are not
/// advertised to the peer, or if this node has no address of the family.
fn export_local(
    config: &Config,
    to: &Session,
    family: Family,
    kind: LocalKind,
) -> Option<ExportedRoute> {
    let rules = &config.export;
    let pods = if to.outside { rules.pods_outside } else { rules.pods_inside };
    if !(kind.pods && pods || kind.services && to.outside) {
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
    to: &Session,
    family: Family,
    from: &Session,
    attrs: &RouteAttrs,
    resolvable: bool,
) -> Option<ExportedRoute> {
    let cluster = config.own.cluster?;
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
        attributes.path.retain(|segment| !matches!(segment, Segment::Confederation(..)));
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
        next_hop_self = to.outside && config.export.next_hop_self;
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
fn apply_export_policy(config: &Config, to: &Session, attributes: &mut Attributes) {
    if to.outside {
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
fn own_next_hop(config: &Config, to: &Session, family: Family) -> Option<IpAddr> {
    let is_valid = |addr: &IpAddr| {
        let link_local = matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local());
        Family::of_addr(addr) == family && !link_local && !addr.is_unspecified()
    };
    let mut addrs = std::iter::once(&to.local).chain(&config.own.addrs);
    addrs.find(|addr| is_valid(addr)).copied()
}

/// The most bytes of an UPDATE that are not path attributes: the header, two length fields, the fixed
/// part and next hop of MP_REACH_NLRI, and one route.
const UPDATE_OVERHEAD: usize = 19 + 4 + 4 + 5 + 32 + 17;

/// Returns an upper bound for the encoded size of attributes in bytes. ASes are counted for both AS_PATH
/// and AS4_PATH.
pub(super) fn max_encoded_len(attributes: &Attributes) -> usize {
    let ases = attributes.path.iter().map(|segment| match segment {
        Segment::Sequence(ases) | Segment::Set(ases) | Segment::Confederation(_, ases) => {
            ases.len()
        }
    });
    let path = ases.map(|count| 4 + 8 * count).sum::<usize>();
    let words = attributes.communities.len() + attributes.clusters.len();
    let others = attributes.others.iter().map(|other| 4 + other.value.len()).sum::<usize>();
    // 57: ORIGIN 4, NEXT_HOP 7, MED 7, LOCAL_PREF 7, ATOMIC_AGGREGATE 3, AGGREGATOR 11, AS4_AGGREGATOR 11
    // and ORIGINATOR_ID 7; 16: the headers of four attributes of variable length
    57 + 16 + path + 4 * words + others
}

#[cfg(test)]
mod tests;
