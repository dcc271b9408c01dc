//! The decision process (RFC 4271 section 9.1.2.2): the order of preference among the paths of one
//! destination. Pure.
//!
//! [`sort_by_preference`] sorts the paths of a destination, so that the first is the best path, and
//! [`multipath`] takes the next hops of the route from the front of that order. Rules, in order:
//!
//! 1. a path that this node originates;
//! 2. a resolvable next hop, which is on one of this node's links (other paths never become kernel
//!    routes, but a route reflector passes them on);
//! 3. the higher LOCAL_PREF, 100 if the path has none;
//! 4. the shorter AS_PATH;
//! 5. the lower ORIGIN;
//! 6. the lower MULTI_EXIT_DISC (MED; 0 if the path has none) among paths that are equal by rules 1 to 5
//!    and come through the same neighbouring AS;
//! 7. a path received over eBGP;
//! 8. the lower ORIGINATOR_ID or, if the path has none, BGP Identifier of the peer (RFC 4456 section 9);
//! 9. the shorter CLUSTER_LIST;
//! 10. the lower address of the peer.
//!
//! Paths that are equal by rules 1 to 7 form one multipath route. A stale path is not ranked lower
//! (RFC 4724 section 4.2). Rule 6 alone gives no total order, because it does not compare paths through
//! two different ASes. Therefore [`sort_by_preference`] first marks each path that loses to another one
//! by rule 6, and then ranks marked paths after unmarked ones: the result does not depend on the order
//! in which the paths arrived.

use std::cmp::{Ordering, Reverse};

use super::{
    path::{Path, PeerIndex},
    peer_table::PeerTable,
};
use crate::{
    bgp::{attribute::OriginCode, policy::LOCAL_PREF},
    model::items::NextHops,
};

/// The most next hops of a multipath route.
pub(crate) const MAX_NEXT_HOPS: usize = 16;

/// The sort key of rules 1 to 5; the lower key is preferred.
type Preference = (bool, bool, Reverse<u32>, usize, OriginCode);

/// Returns the sort key of a path.
fn preference(path: &Path) -> Preference {
    let attributes = &path.attrs.attributes;
    (
        path.from != PeerIndex::LOCAL,
        !path.resolvable,
        Reverse(attributes.local_pref.unwrap_or(LOCAL_PREF)),
        attributes.path_len(),
        attributes.origin,
    )
}

/// Returns true if both paths are equal by rules 1 to 5 and `other` is preferred by rule 6.
fn loses_on_med(path: &Path, other: &Path) -> bool {
    let med = |path: &Path| path.attrs.attributes.med.unwrap_or(0);
    med(other) < med(path)
        && other.attrs.attributes.neighbor_as() == path.attrs.attributes.neighbor_as()
        && preference(other) == preference(path)
}

/// Compares two paths by rules 1 to 7; equal paths may form a multipath route.
fn compare_for_multipath(a: &Path, b: &Path, peers: &PeerTable) -> Ordering {
    let internal = |path: &Path| peers.session(path.from).is_some_and(|from| from.internal);
    preference(a)
        .cmp(&preference(b))
        .then(a.loses_on_med.cmp(&b.loses_on_med))
        .then_with(|| internal(a).cmp(&internal(b)))
}

/// Compares two paths by all rules.
fn compare(a: &Path, b: &Path, peers: &PeerTable) -> Ordering {
    let tie_breakers = |path: &Path| {
        let from = peers.session(path.from);
        let attributes = &path.attrs.attributes;
        let id = attributes.originator.or(from.map(|from| from.id));
        (id, attributes.clusters.len(), from.map(|from| from.addr))
    };
    compare_for_multipath(a, b, peers).then_with(|| tie_breakers(a).cmp(&tie_breakers(b)))
}

/// Sorts the paths of a destination, the best first, and updates [`Path::loses_on_med`] of each.
///
/// It is an insertion sort: a destination has few paths, and all but one are sorted already.
pub(crate) fn sort_by_preference(paths: &mut [Path], peers: &PeerTable) {
    let any_med = paths.iter().any(|path| path.attrs.attributes.med.is_some_and(|med| med > 0));
    for at in 0..paths.len() {
        paths[at].loses_on_med =
            any_med && paths.iter().any(|other| loses_on_med(&paths[at], other));
    }
    for mut at in 1..paths.len() {
        while at > 0 && compare(&paths[at], &paths[at - 1], peers).is_lt() {
            paths.swap(at, at - 1);
            at -= 1;
        }
    }
}

/// Returns the next hops of the route that sorted paths give: sorted, without duplicates, and at most
/// [`MAX_NEXT_HOPS`]. `None` if there is no path, if this node originates the best one, or if its next
/// hop is not resolvable.
pub(crate) fn multipath(paths: &[Path], peers: &PeerTable) -> Option<NextHops> {
    let best = paths.first().filter(|best| best.from != PeerIndex::LOCAL && best.resolvable)?;
    let equal = paths.iter().take_while(|path| compare_for_multipath(best, path, peers).is_eq());
    match NextHops::new(equal.map(|path| path.attrs.next_hop))? {
        NextHops::Many(all) => NextHops::new(all.into_iter().take(MAX_NEXT_HOPS)),
        one => Some(one),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::bgp::{
        attribute::Attributes,
        rib::{PeerSession, Rib, fixtures::*},
        update::Update,
    };

    /// Applies one UPDATE from each session, in the given order, all for the same network. Returns the peer
    /// of the best path, and the next hops of the route.
    fn decide(received: &[(PeerSession, Update)], order: &[usize]) -> (IpAddr, Vec<IpAddr>) {
        let mut config = config();
        config.import.on_link = vec![net("10.0.0.0/24")];
        let sessions: Vec<_> = received.iter().map(|(session, _)| session.clone()).collect();
        let mut rib: Rib = rib_with(config, &sessions);
        for at in order {
            rib.handle_update(received[*at].0.addr, received[*at].1.clone());
        }
        let best = rib.table[&net("10.9.0.0/16")].paths[0].clone();
        let routes = rib.routes();
        let hops = routes.get(&net("10.9.0.0/16")).map_or(Vec::new(), |via| via.addrs().to_vec());
        (rib.peers.session(best.from).unwrap().addr, hops)
    }

    fn path(hop: u8, attributes: Attributes) -> Update {
        reach(&["10.9.0.0/16"], &format!("10.0.0.{hop}"), attributes)
    }

    #[test]
    fn each_rule_decides_if_all_rules_before_it_find_the_paths_equal() {
        let internal = |last| session(last, ASN);
        let pref = |local_pref, ases: &[u32]| Attributes { local_pref, ..as_path(ases) };
        let origin = |origin, ases: &[u32]| Attributes { origin, ..as_path(ases) };
        let med = |med, ases: &[u32]| Attributes { med, ..as_path(ases) };
        let reflected = |id: u8, clusters: usize| Attributes {
            originator: Some([1, 1, 1, id].into()),
            clusters: vec![[7, 7, 7, 7].into(); clusters],
            ..as_path(&[])
        };
        let far = reach(&["10.9.0.0/16"], "10.77.0.1", pref(Some(500), &[]));
        // The first path of each pair is preferred by the named rule, and the second by a later rule.
        let table = [
            ("next hop", (internal(9), path(9, pref(Some(50), &[1, 2]))), (internal(2), far)),
            (
                "pref",
                (internal(9), path(9, pref(None, &[1]))),
                (internal(2), path(2, pref(Some(99), &[]))),
            ),
            (
                "length",
                (internal(9), path(9, origin(OriginCode::Egp, &[1]))),
                (internal(2), path(2, as_path(&[1, 2]))),
            ),
            (
                "origin",
                (session(9, 1), path(9, med(Some(9), &[1]))),
                (session(2, 1), path(2, origin(OriginCode::Egp, &[1]))),
            ),
            (
                "med",
                (internal(9), path(9, med(Some(4), &[1]))),
                (session(2, 1), path(2, med(Some(5), &[1]))),
            ),
            (
                "no med",
                (internal(9), path(9, med(None, &[1]))),
                (session(2, 1), path(2, med(Some(1), &[1]))),
            ),
            (
                "external",
                (session(9, 1), path(9, med(Some(5), &[1]))),
                (internal(2), path(2, as_path(&[3]))),
            ),
            (
                "originator",
                (internal(9), path(9, reflected(1, 2))),
                (internal(2), path(2, reflected(2, 1))),
            ),
            (
                "clusters",
                (internal(9), path(9, reflected(1, 1))),
                (internal(2), path(2, reflected(1, 2))),
            ),
            (
                "address",
                (internal(2), path(2, reflected(1, 1))),
                (internal(9), path(9, reflected(1, 1))),
            ),
        ];
        for (rule, better, worse) in table {
            let best = better.0.addr;
            let both = [better, worse];
            assert_eq!(decide(&both, &[0, 1]).0, best, "{rule}");
            assert_eq!(decide(&both, &[1, 0]).0, best, "{rule}, in reverse order");
        }
    }

    #[test]
    fn the_decision_does_not_depend_on_the_order_of_arrival() {
        // The third path beats the first by MED, the first the second by BGP Identifier, and the second the
        // third by BGP Identifier: a cycle.
        let path_with = |last, asn, med| {
            (session(last, asn), path(last, Attributes { med, ..as_path(&[asn]) }))
        };
        let all = [path_with(2, 1, Some(10)), path_with(3, 2, Some(7)), path_with(4, 1, Some(5))];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let (best, hops) = decide(&all, &order);
            assert_eq!(best, ip("10.0.0.3"), "{order:?}");
            assert_eq!(hops, [ip("10.0.0.3"), ip("10.0.0.4")], "{order:?}");
        }
    }

    #[test]
    fn equal_paths_form_a_multipath_route_of_at_most_sixteen_next_hops() {
        let received: Vec<_> =
            (2..30).map(|last| (session(last, 7), path(last, as_path(&[7])))).collect();
        let order: Vec<_> = (0..received.len()).rev().collect();
        let (best, hops) = decide(&received, &order);
        assert_eq!(best, ip("10.0.0.2"));
        assert_eq!(hops, (2..18).map(|last| [10, 0, 0, last].into()).collect::<Vec<IpAddr>>());

        let same =
            [(session(2, ASN), path(8, as_path(&[]))), (session(3, ASN), path(8, as_path(&[])))];
        assert_eq!(decide(&same, &[0, 1]).1, [ip("10.0.0.8")]);
    }

    #[test]
    fn a_path_whose_next_hop_is_on_no_link_gives_no_route() {
        let far = reach(&["10.9.0.0/16"], "10.77.0.1", as_path(&[]));
        assert_eq!(decide(&[(session(2, ASN), far)], &[0]), (ip("10.0.0.2"), vec![]));
    }

    #[test]
    fn an_originated_network_is_no_route_even_if_peers_advertise_it() {
        let mut config = config();
        config.import.own.clear();
        let peer = session(2, ASN);
        let mut rib = rib_with(config, std::slice::from_ref(&peer));
        let best = Attributes { local_pref: Some(1000), ..as_path(&[]) };
        rib.handle_update(peer.addr, reach(&["10.43.0.1/32", "10.43.0.2/32"], "10.0.0.2", best));
        assert_eq!(rib.routes().keys().collect::<Vec<_>>(), [&net("10.43.0.2/32")]);
        assert_eq!(rib.table[&net("10.43.0.1/32")].paths[0].from, PeerIndex::LOCAL);
    }
}
