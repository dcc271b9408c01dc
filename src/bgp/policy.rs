//! What is let in, and what goes out in which shape. Pure.
//!
//! Both ways are one function of the configuration, the sessions and one path, so whether a peer has
//! to be told of something can be asked again at any time and needs no copy of what it was told. The
//! rules are kube-router's: from the nodes of the cluster comes all that could be a route here, and
//! out go only the own networks. A reflector (RFC 4456) passes on what it learned as well.
//!
//! What `--override-nexthop`, communities and a prepended AS ask for holds for routers outside alone.

use std::{
    borrow::Cow,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    Config, Family,
    attribute::{Attributes, Segment},
    choice::Said,
    message::MAX,
    slot::Session,
};

/// Not told to peers of other ASes (RFC 1997).
pub const NO_EXPORT: u32 = 0xffff_ff01;
/// Not told to any peer (RFC 1997).
pub const NO_ADVERTISE: u32 = 0xffff_ff02;
/// Not told to peers of other ASes, nor of other ASes of a confederation (RFC 1997).
pub const NO_EXPORT_SUBCONFED: u32 = 0xffff_ff03;
/// LOCAL_PREF of a path that has none, and of the own ones.
pub const LOCAL_PREF: u32 = 100;

/// Why a path is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its family was not agreed upon.
    Family,
    /// It is a default route: a node has its own.
    Default,
    /// It holds addresses that are no unicast ones, or that never leave a link or a host.
    Martian,
    /// It is a network or a Service address of this node.
    Own,
    /// It is a part of this node's pod network.
    Pods,
    /// It is within what the configuration does not let in.
    Rejected,
    /// This AS is in its AS_PATH.
    Loop,
    /// Its AS_PATH does not begin with the AS of the peer (RFC 4271 section 6.3).
    FirstAs,
    /// It began at this speaker (ORIGINATOR_ID, RFC 4456).
    Originator,
    /// It went through the cluster of this reflector (CLUSTER_LIST, RFC 4456).
    Cluster,
    /// Its next hop is this node, or no address of a neighbour.
    NextHop,
}

impl Refusal {
    /// In words, for people.
    pub fn text(self) -> &'static str {
        match self {
            Refusal::Family => "its family was not agreed upon",
            Refusal::Default => "a default route",
            Refusal::Martian => "not a unicast network",
            Refusal::Own => "an own network",
            Refusal::Pods => "within the own pod network",
            Refusal::Rejected => "rejected by the configuration",
            Refusal::Loop => "the own AS is in its path",
            Refusal::FirstAs => "its path does not begin with the AS of the peer",
            Refusal::Originator => "it began here",
            Refusal::Cluster => "it went through the own cluster",
            Refusal::NextHop => "its next hop cannot be one",
        }
    }
}

/// Networks of which no part is let in, and nothing that they are a part of: a shorter one would draw
/// their traffic as well.
///
/// 0.0.0.0/8 and ::/128 mean "this host", 127.0.0.0/8 and ::1/128 never leave it, 169.254.0.0/16 and
/// fe80::/10 never leave a link (RFC 3927, RFC 4291), 224.0.0.0/4 and ff00::/8 are groups, and
/// ::ffff:0:0/96 is IPv4 in disguise. 240.0.0.0/4 is let in: the kernel routes it, and some clusters
/// give it to their pods; only its last address is no host.
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

/// Why a network is not let in, from whomever it comes.
pub fn refuse_net(config: &Config, net: &IpNet) -> Option<Refusal> {
    if net.prefix_len() == 0 {
        Some(Refusal::Default)
    } else if is_martian(net) {
        Some(Refusal::Martian)
    } else if config.import.own.contains(net) {
        Some(Refusal::Own)
    } else if config.origin.pods.iter().any(|own| own.contains(net)) {
        Some(Refusal::Pods)
    } else if config.import.reject.iter().any(|bad| bad.contains(net)) {
        Some(Refusal::Rejected)
    } else {
        None
    }
}

/// Why a path is not let in from a peer, whatever network it leads to.
pub fn refuse_path(config: &Config, from: &Session, said: &Said) -> Option<Refusal> {
    let (own, attributes) = (&config.own, &said.attributes);
    let hop = said.next_hop;
    // A link-local next hop says nothing without the link, which the routes do not name.
    let linked = matches!(hop, IpAddr::V6(hop) if hop.is_unicast_link_local());
    let unfit = hop.is_unspecified() || hop.is_loopback() || hop.is_multicast() || linked;
    if unfit || hop == from.local || own.addrs.contains(&hop) {
        Some(Refusal::NextHop)
    } else if attributes.passed(own.asn) {
        Some(Refusal::Loop)
    } else if from.internal {
        if attributes.originator == Some(own.id) {
            Some(Refusal::Originator)
        } else if own.cluster.is_some_and(|own| attributes.clusters.contains(&own)) {
            Some(Refusal::Cluster)
        } else {
            None
        }
    } else {
        (attributes.first() != Some(from.asn)).then_some(Refusal::FirstAs)
    }
}

/// Why a path to a network is not let in from a peer; `None`: it is.
pub fn refuse(config: &Config, from: &Session, net: &IpNet, said: &Said) -> Option<Refusal> {
    let family = Family::of(net);
    if !from.families.contains(&family) {
        Some(Refusal::Family)
    } else if family != Family::of_addr(&said.next_hop) {
        Some(Refusal::NextHop)
    } else {
        refuse_net(config, net).or_else(|| refuse_path(config, from, said))
    }
}

/// What is taken of attributes that a peer sent: those that mean something within an AS alone are
/// worth nothing from another one (RFC 4271 section 5.1.5, RFC 4456 section 8).
pub fn receive(from: &Session, mut attributes: Attributes) -> Attributes {
    if !from.internal {
        attributes.local_pref = None;
        attributes.originator = None;
        attributes.clusters = Vec::new();
    }
    attributes
}

/// Whether a next hop is on one of the own links, as far as these are known.
pub fn is_on_link(config: &Config, hop: &IpAddr) -> bool {
    let links = &config.import.on_link;
    links.is_empty() || links.iter().any(|link| link.contains(hop))
}

/// What a path is, to one who is told of it.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// It begins here; and what it leads to.
    Local(Kind),
    /// It was learned from a peer.
    Learned {
        /// The peer.
        from: &'a Session,
        /// What it said.
        said: &'a Said,
        /// Whether its next hop is on one of the own links.
        usable: bool,
    },
}

/// What an own network is; in theory both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kind {
    /// A network of pods.
    pub pods: bool,
    /// Addresses of Services.
    pub services: bool,
}

impl Kind {
    /// What the configuration says that an own network is.
    pub fn of(config: &Config, net: &IpNet) -> Kind {
        let origin = &config.origin;
        Kind { pods: origin.pods.contains(net), services: origin.services.contains(net) }
    }
}

/// What a peer is told of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The next hop, of the family of the route.
    pub next_hop: IpAddr,
    /// The rest.
    pub attributes: Attributes,
}

/// What a peer is told of the best path to a network of a family; `None`: nothing.
pub fn export(config: &Config, to: &Session, family: Family, source: Source) -> Option<Told> {
    if !to.families.contains(&family) {
        return None;
    }
    let told = match source {
        Source::Local(kind) => export_local(config, to, family, kind),
        Source::Learned { from, said, usable } => {
            export_learned(config, to, family, from, said, usable)
        }
    }?;
    (size(&told.attributes) + MARGIN <= MAX).then_some(told)
}

/// What a peer is told of a network that begins here.
fn export_local(config: &Config, to: &Session, family: Family, kind: Kind) -> Option<Told> {
    let rules = &config.export;
    let pods = if to.outside { rules.pods_outside } else { rules.pods_inside };
    if !(kind.pods && pods || kind.services && to.outside) {
        return None;
    }
    let mut attributes = Attributes::default();
    if to.internal {
        attributes.local_pref = Some(LOCAL_PREF);
    }
    dress(config, to, &mut attributes);
    Some(Told { next_hop: own_addr(config, to, family)?, attributes })
}

/// What a peer is told of a path that was learned: nothing, but by a reflector.
fn export_learned(
    config: &Config,
    to: &Session,
    family: Family,
    from: &Session,
    said: &Said,
    usable: bool,
) -> Option<Told> {
    let cluster = config.own.cluster?;
    let mut attributes = Cow::Borrowed(&said.attributes);
    let known = |community| said.attributes.communities.contains(&community);
    let stays = known(NO_EXPORT) || known(NO_EXPORT_SUBCONFED);
    if from.addr == to.addr || known(NO_ADVERTISE) || stays && !to.internal {
        return None;
    }
    let mut own_hop = !to.internal;
    if !to.internal {
        let attributes = attributes.to_mut();
        attributes.med = None;
        attributes.local_pref = None;
        attributes.originator = None;
        attributes.clusters = Vec::new();
        attributes.path.retain(|segment| !matches!(segment, Segment::Confederation(..)));
    } else if from.internal {
        let originator = said.attributes.originator.unwrap_or(from.id);
        // Who began it would throw it away.
        if !(from.client || to.client) || originator == to.id {
            return None;
        }
        let attributes = attributes.to_mut();
        attributes.local_pref.get_or_insert(LOCAL_PREF);
        attributes.originator = Some(originator);
        attributes.clusters.insert(0, cluster);
        own_hop = to.outside && config.export.next_hop_self;
    } else {
        attributes.to_mut().local_pref = Some(LOCAL_PREF);
        own_hop = config.export.next_hop_self;
    }
    let mut attributes = attributes.into_owned();
    dress(config, to, &mut attributes);
    // Nobody is asked to send here what cannot be sent on from here.
    let next_hop = match (own_hop, usable) {
        (false, _) => said.next_hop,
        (true, true) => own_addr(config, to, family)?,
        (true, false) => return None,
    };
    Some(Told { next_hop, attributes })
}

/// Adds what is added for all that go to a peer: communities and ASes.
fn dress(config: &Config, to: &Session, attributes: &mut Attributes) {
    if to.outside {
        attributes.add_communities(&config.export.communities);
        if let Some((asn, times)) = config.export.prepend {
            attributes.prepend(asn, times);
        }
    }
    if !to.internal {
        attributes.prepend(config.own.asn, 1); // the first of all, or the peer takes it for a lie
    }
}

/// The address by which this node names itself to a peer as a next hop: that of the connection, which
/// the peer can reach, or the first of another family.
fn own_addr(config: &Config, to: &Session, family: Family) -> Option<IpAddr> {
    let fits = |addr: &IpAddr| {
        let linked = matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local());
        Family::of_addr(addr) == family && !linked && !addr.is_unspecified()
    };
    let mut addrs = std::iter::once(&to.local).chain(&config.own.addrs);
    addrs.find(|addr| fits(addr)).copied()
}

/// What an UPDATE takes besides attributes, at most: its header, two lengths, the head and the next hop
/// of MP_REACH_NLRI, and one route.
const MARGIN: usize = 19 + 4 + 4 + 5 + 32 + 17;

/// How many octets attributes take at most: ASes are counted for AS_PATH and AS4_PATH.
pub(super) fn size(attributes: &Attributes) -> usize {
    let ases = attributes.path.iter().map(|segment| match segment {
        Segment::Sequence(ases) | Segment::Set(ases) | Segment::Confederation(_, ases) => {
            ases.len()
        }
    });
    let path = ases.map(|count| 4 + 8 * count).sum::<usize>();
    let words = attributes.communities.len() + attributes.clusters.len();
    let others = attributes.others.iter().map(|other| 4 + other.value.len()).sum::<usize>();
    // ORIGIN 4, NEXT_HOP 7, MED 7, LOCAL_PREF 7, ATOMIC_AGGREGATE 3, AGGREGATOR 11, AS4_AGGREGATOR 11,
    // ORIGINATOR_ID 7, and the heads of four that are long as they need to be
    57 + 16 + path + 4 * words + others
}

#[cfg(test)]
mod tests;
