use super::*;
use crate::bgp::{
    message::Update,
    rib::{Rib, world::*},
};

/// Applies one UPDATE from each session, in the given order, all for the same network. Returns the peer
/// of the best path, and the next hops of the route.
fn decide(
    received: &[(crate::bgp::slot::Session, Update)],
    order: &[usize],
) -> (IpAddr, Vec<IpAddr>) {
    let mut config = config();
    config.import.on_link = vec![net("10.0.0.0/24")];
    let sessions: Vec<_> = received.iter().map(|(session, _)| session.clone()).collect();
    let mut rib: Rib = rib_with(config, &sessions);
    for at in order {
        rib.hear(received[*at].0.addr, received[*at].1.clone());
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
            (internal(9), path(9, origin(Origin::Egp, &[1]))),
            (internal(2), path(2, as_path(&[1, 2]))),
        ),
        (
            "origin",
            (session(9, 1), path(9, med(Some(9), &[1]))),
            (session(2, 1), path(2, origin(Origin::Egp, &[1]))),
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
    let path_with =
        |last, asn, med| (session(last, asn), path(last, Attributes { med, ..as_path(&[asn]) }));
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

    let same = [(session(2, ASN), path(8, as_path(&[]))), (session(3, ASN), path(8, as_path(&[])))];
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
    rib.hear(peer.addr, reach(&["10.43.0.1/32", "10.43.0.2/32"], "10.0.0.2", best));
    assert_eq!(rib.routes().keys().collect::<Vec<_>>(), [&net("10.43.0.2/32")]);
    assert_eq!(rib.table[&net("10.43.0.1/32")].paths[0].from, PeerIndex::LOCAL);
}
