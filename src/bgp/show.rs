//! The rows of `kinglet bgp`: the paths of the table in a form for users. Pure. `report` prints them as
//! text or JSON.

use std::{fmt::Write, net::IpAddr};

use ipnet::IpNet;

use super::{
    as_path::Segment,
    attribute::{Attributes, OriginCode},
    policy::RouteRejectReason,
    rib::{
        Destination, Rib,
        batch::exported_route,
        decision::multipath,
        path::{Path, PeerIndex},
    },
    update::LARGE_COMMUNITY,
    wire::take_u32,
};

/// Selects rows of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RouteSelector {
    /// All accepted and originated paths.
    All,
    /// The paths received from a peer, including refused networks (Adj-RIB-In).
    From(IpAddr),
    /// The routes advertised to a peer, with the attributes that it receives (Adj-RIB-Out).
    To(IpAddr),
}

/// A path, an advertised route or a refused network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteRow {
    /// The network.
    pub net: IpNet,
    /// The next hop; `None` if this node originates the network, or if the network was refused.
    pub next_hop: Option<IpAddr>,
    /// The peer that advertised the path; `None` if this node originates the network.
    pub from: Option<IpAddr>,
    /// AS_PATH, the nearest AS first: sets in `{}`, confederation sequences in `()` and confederation
    /// sets in `[]` (RFC 5065).
    pub path: String,
    /// LOCAL_PREF; `None` if the path has none.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC; `None` if the path has none.
    pub med: Option<u32>,
    /// COMMUNITIES as two decimal numbers, then LARGE_COMMUNITY as three (RFC 8092 section 5).
    pub communities: Vec<String>,
    /// ORIGIN.
    pub origin: OriginCode,
    /// True if the peer restarts and has not advertised the path again yet (RFC 4724).
    pub stale: bool,
    /// True for the best path to the network, which is the one that is advertised to peers.
    pub best: bool,
    /// True if the next hop is one of those of the network's kernel route.
    pub used: bool,
    /// The reason if the import policy refused the network; `None` if it was accepted.
    pub refused: Option<RouteRejectReason>,
}

impl RouteRow {
    fn new(
        net: IpNet,
        next_hop: Option<IpAddr>,
        from: Option<IpAddr>,
        of: &Attributes,
    ) -> RouteRow {
        RouteRow {
            net,
            next_hop,
            from,
            path: format_as_path(&of.as_path),
            local_pref: of.local_pref,
            med: of.med,
            communities: format_communities(of),
            origin: of.origin,
            stale: false,
            best: false,
            used: false,
            refused: None,
        }
    }
}

/// Returns the selected rows, sorted by network and then by preference. Empty if the peer is unknown.
pub(crate) fn rows(rib: &Rib, which: RouteSelector) -> Vec<RouteRow> {
    let peer = match which {
        RouteSelector::All => None,
        RouteSelector::From(addr) | RouteSelector::To(addr) => match rib.peers.index_of(addr) {
            Some(peer) => Some(peer),
            None => return Vec::new(),
        },
    };
    let mut rows = Vec::new();
    for (net, dest) in &rib.table {
        let route = multipath(&dest.paths, &rib.peers);
        for (index, path) in dest.paths.iter().enumerate() {
            let from = rib.peers.session(path.from).map(|from| from.addr);
            let mut row = match which {
                RouteSelector::From(_) if peer != Some(path.from) => continue,
                RouteSelector::From(_) | RouteSelector::All => {
                    let hop = (path.from != PeerIndex::LOCAL).then_some(path.attrs.next_hop);
                    RouteRow::new(*net, hop, from, &path.attrs.attributes)
                }
                RouteSelector::To(_) if index > 0 => break,
                RouteSelector::To(_) => match advertised_row(rib, peer, net, path, dest) {
                    Some(row) => RouteRow { from, ..row },
                    None => break,
                },
            };
            row.stale = path.stale;
            row.best = index == 0;
            row.used = path.from != PeerIndex::LOCAL
                && path.resolvable
                && !path.loses_on_med
                && route.as_ref().is_some_and(|it| it.addrs().contains(&path.attrs.next_hop));
            rows.push(row);
        }
    }
    let entry = peer.and_then(|peer| rib.peers.get(peer));
    if let (RouteSelector::From(addr), Some(entry)) = (which, entry) {
        rows.extend(entry.refused.iter().map(|(net, refusal)| RouteRow {
            refused: Some(*refusal),
            ..RouteRow::new(*net, None, Some(addr), &Attributes::default())
        }));
        rows.sort_by_key(|row| row.net);
    }
    rows
}

/// Returns the row of a route as it is advertised to a peer; `None` if the network is not
/// advertised to the peer.
fn advertised_row(
    rib: &Rib,
    peer: Option<PeerIndex>,
    net: &IpNet,
    path: &Path,
    dest: &Destination,
) -> Option<RouteRow> {
    let peer = peer.filter(|peer| dest.is_advertised_to(*peer))?;
    let session = rib.peers.session(peer)?;
    let route = exported_route(&rib.config, &rib.peers, session, net, path)?;
    Some(RouteRow::new(*net, Some(route.next_hop), None, &route.attributes))
}

/// Formats COMMUNITIES and LARGE_COMMUNITY as routers print them.
fn format_communities(of: &Attributes) -> Vec<String> {
    let two = of.communities.iter().map(|c| format!("{}:{}", c >> 16, c & 0xffff));
    let large = of.unrecognized.iter().filter(|other| other.code == LARGE_COMMUNITY);
    let large = large.flat_map(|other| other.value.chunks_exact(12));
    let three = large.map(|mut value| {
        let mut number = || take_u32(&mut value).unwrap_or_default();
        format!("{}:{}:{}", number(), number(), number())
    });
    two.chain(three).collect()
}

/// Formats an AS_PATH as routers print it.
fn format_as_path(path: &[Segment]) -> String {
    let mut text = String::new();
    for segment in path {
        let (open, ases, close) = match segment {
            Segment::Sequence(ases) => ("", ases, ""),
            Segment::Set(ases) => ("{", ases, "}"),
            Segment::ConfedSequence(ases) => ("(", ases, ")"),
            Segment::ConfedSet(ases) => ("[", ases, "]"),
        };
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(open);
        for (at, asn) in ases.iter().enumerate() {
            let _ = write!(text, "{}{asn}", if at > 0 { " " } else { "" });
        }
        text.push_str(close);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::attribute::RawAttribute;

    #[test]
    fn an_as_path_is_formatted_as_routers_print_it() {
        let path = [
            Segment::ConfedSequence(vec![64512]),
            Segment::Sequence(vec![65001, 65001]),
            Segment::Set(vec![1, 2]),
        ];
        assert_eq!(format_as_path(&path), "(64512) 65001 65001 {1 2}");
        assert_eq!(format_as_path(&[]), "");
    }

    #[test]
    fn large_communities_are_formatted_after_communities() {
        let two = [[65001u32, 1, 2], [4_200_000_001, 0, 7]].as_flattened().iter();
        let large = RawAttribute {
            code: LARGE_COMMUNITY,
            flags: 0xc0,
            value: two.flat_map(|number| number.to_be_bytes()).collect(),
        };
        let others = vec![RawAttribute { code: 99, flags: 0xc0, value: [0; 12].into() }, large];
        let attributes = Attributes {
            communities: vec![65001 << 16 | 7],
            unrecognized: others,
            ..Attributes::default()
        };
        assert_eq!(format_communities(&attributes), ["65001:7", "65001:1:2", "4200000001:0:7"]);
    }
}
