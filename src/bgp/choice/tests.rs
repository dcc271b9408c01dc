use super::*;
use crate::bgp::{
    message::Update,
    rib::{Rib, world::*},
};

/// Has these said of one network, each by another peer, in this order; gives who is chosen and the
/// next hops.
fn choose(said: &[(crate::bgp::slot::Session, Update)], order: &[usize]) -> (IpAddr, Vec<IpAddr>) {
    let mut config = config();
    config.import.on_link = vec![net("10.0.0.0/24")];
    let sessions: Vec<_> = said.iter().map(|(session, _)| session.clone()).collect();
    let mut rib: Rib = rib(config, &sessions);
    for at in order {
        rib.hear(said[*at].0.addr, said[*at].1.clone());
    }
    let best = rib.table[&net("10.9.0.0/16")].paths[0].clone();
    let routes = rib.routes();
    let hops = routes.get(&net("10.9.0.0/16")).map_or(Vec::new(), |via| via.addrs().to_vec());
    (rib.slots.session(best.from).unwrap().addr, hops)
}

fn path(hop: u8, attributes: Attributes) -> Update {
    reach(&["10.9.0.0/16"], &format!("10.0.0.{hop}"), attributes)
}

#[test]
fn each_rule_decides_where_those_before_it_do_not() {
    let internal = |last| session(last, ASN);
    let pref = |local_pref, ases: &[u32]| Attributes { local_pref, ..through(ases) };
    let origin = |origin, ases: &[u32]| Attributes { origin, ..through(ases) };
    let med = |med, ases: &[u32]| Attributes { med, ..through(ases) };
    let reflected = |id: u8, clusters: usize| Attributes {
        originator: Some([1, 1, 1, id].into()),
        clusters: vec![[7, 7, 7, 7].into(); clusters],
        ..through(&[])
    };
    let far = reach(&["10.9.0.0/16"], "10.77.0.1", pref(Some(500), &[]));
    // The first of two is the better; in each line something later speaks for the second.
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
            (internal(2), path(2, through(&[1, 2]))),
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
            (internal(2), path(2, through(&[3]))),
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
        assert_eq!(choose(&both, &[0, 1]).0, best, "{rule}");
        assert_eq!(choose(&both, &[1, 0]).0, best, "{rule}, the other way round");
    }
}

#[test]
fn the_choice_does_not_hang_on_the_order_in_which_paths_came() {
    // By MED the third beats the first, by identifier the first the second, the second the third.
    let said =
        |last, asn, med| (session(last, asn), path(last, Attributes { med, ..through(&[asn]) }));
    let all = [said(2, 1, Some(10)), said(3, 2, Some(7)), said(4, 1, Some(5))];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let (best, hops) = choose(&all, &order);
        assert_eq!(best, ip("10.0.0.3"), "{order:?}");
        assert_eq!(hops, [ip("10.0.0.3"), ip("10.0.0.4")], "{order:?}");
    }
}

#[test]
fn equal_paths_make_one_route_of_sixteen_next_hops_at_most() {
    let said: Vec<_> = (2..30).map(|last| (session(last, 7), path(last, through(&[7])))).collect();
    let order: Vec<_> = (0..said.len()).rev().collect();
    let (best, hops) = choose(&said, &order);
    assert_eq!(best, ip("10.0.0.2"));
    assert_eq!(hops, (2..18).map(|last| [10, 0, 0, last].into()).collect::<Vec<IpAddr>>());

    let same = [(session(2, ASN), path(8, through(&[]))), (session(3, ASN), path(8, through(&[])))];
    assert_eq!(choose(&same, &[0, 1]).1, [ip("10.0.0.8")]);
}

#[test]
fn a_next_hop_elsewhere_makes_no_route() {
    let far = reach(&["10.9.0.0/16"], "10.77.0.1", through(&[]));
    assert_eq!(choose(&[(session(2, ASN), far)], &[0]), (ip("10.0.0.2"), vec![]));
}

#[test]
fn an_own_network_is_no_route_whatever_others_say() {
    let mut config = config();
    config.import.own.clear();
    let peer = session(2, ASN);
    let mut rib = rib(config, std::slice::from_ref(&peer));
    let best = Attributes { local_pref: Some(1000), ..through(&[]) };
    rib.hear(peer.addr, reach(&["10.43.0.1/32", "10.43.0.2/32"], "10.0.0.2", best));
    assert_eq!(rib.routes().keys().collect::<Vec<_>>(), [&net("10.43.0.2/32")]);
    assert_eq!(rib.table[&net("10.43.0.1/32")].paths[0].from, LOCAL);
}
