use super::{world::*, *};
use crate::bgp::{Origin, attribute::Attributes, policy::NO_ADVERTISE, shown::Which};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// The networks for which there are routes.
fn routes(rib: &Rib) -> Vec<String> {
    rib.routes().keys().map(IpNet::to_string).collect()
}

fn two_clients() -> (Session, Session) {
    let client = |last| Session { client: true, ..session(last, ASN) };
    (client(2), client(3))
}

#[test]
fn a_new_peer_is_told_all_and_then_end_of_rib_for_each_family() {
    let node = session(2, ASN);
    let mut rib = Rib::new(Arc::new(config()));
    assert!(!rib.has_news(node.addr));
    rib.up(node.clone(), &[]);
    assert!(rib.has_news(node.addr));
    let updates = said(&mut rib, &node);
    let nets: Vec<_> =
        updates.iter().flat_map(|update| &update.reach).flat_map(|reach| &reach.nets).collect();
    assert_eq!(nets, [&net("10.42.1.0/24"), &net("fd42:1::/64")]);
    let ends: Vec<_> = updates.iter().filter_map(|update| update.end).collect();
    assert_eq!(ends, Family::ALL);
    assert_eq!(updates.last().unwrap().end, Some(Family::Ipv6));
    assert_eq!(rib.counts(node.addr).told, 2);
    assert_eq!(said(&mut rib, &node), []);
}

#[test]
fn a_peer_is_told_that_a_network_is_gone_only_where_it_was_told_of_it() {
    let (node, router) = (session(2, ASN), session(3, 65001));
    let mut config = config();
    let mut rib = rib(config.clone(), &[node.clone(), router.clone()]);
    config.origin.services.clear();
    rib.configure(Arc::new(config.clone()));
    assert_eq!(nets(&mut rib, &node), (vec![], vec![]));
    assert_eq!(nets(&mut rib, &router), (vec![], texts(&["10.43.0.1/32"])));
    // What comes and goes before anyone reads was never there.
    let before = config.clone();
    config.origin.services.insert(net("10.43.0.9/32"));
    rib.configure(Arc::new(config));
    rib.configure(Arc::new(before));
    assert_eq!(nets(&mut rib, &router), (vec![], vec![]));
    assert!(
        !rib.table.contains_key(&net("10.43.0.9/32"))
            && !rib.table.contains_key(&net("10.43.0.1/32"))
    );
}

#[test]
fn what_changed_of_the_export_is_told_to_whom_it_concerns() {
    let (node, router) = (session(2, ASN), session(3, 65001));
    let mut config = config();
    let mut rib = rib(config.clone(), &[node.clone(), router.clone()]);
    config.export.pods_inside = false;
    assert!(rib.configure(Arc::new(config.clone())).is_empty());
    assert!(!rib.has_news(router.addr));
    assert_eq!(nets(&mut rib, &node), (vec![], texts(&["10.42.1.0/24", "fd42:1::/64"])));
    config.export.communities = vec![7];
    rib.configure(Arc::new(config.clone()));
    assert!(!rib.has_news(node.addr));
    let updates = said(&mut rib, &router);
    assert!(updates.iter().all(|update| update.attributes.communities == [7]));
    assert_eq!(updates.len(), 2, "{updates:?}");
    config.own.port = 1790;
    rib.configure(Arc::new(config));
    assert!(!rib.has_news(node.addr) && !rib.has_news(router.addr));
}

#[test]
fn networks_of_equal_attributes_go_in_one_message() {
    let (one, two) = two_clients();
    let mut rib = rib(reflector(), &[one.clone(), two.clone()]);
    let many: Vec<String> = (0..100).map(|at| format!("10.9.{at}.0/24")).collect();
    for text in &many {
        rib.hear(one.addr, reach(&[text], "10.0.0.2", through(&[])));
    }
    let updates = said_at_once(&mut rib, &two);
    assert_eq!(updates, 1);
    assert_eq!(rib.counts(two.addr).told, 102);
    assert_eq!(rib.counts(one.addr).accepted, 100);
    let first = rib.table[&net("10.9.0.0/24")].paths[0].clone();
    assert!(
        Arc::ptr_eq(&first.said, &rib.table[&net("10.9.99.0/24")].paths[0].said),
        "and in one value"
    );
}

/// How many messages a peer is told, given much room.
fn said_at_once(rib: &mut Rib, to: &Session) -> usize {
    rib.updates(to.addr, 1 << 16).len()
}

#[test]
fn a_path_that_was_said_again_is_told_once() {
    let (one, two) = two_clients();
    let mut rib = rib(reflector(), &[one.clone(), two.clone()]);
    let update = reach(&["10.9.0.0/16"], "10.0.0.2", through(&[65001]));
    rib.hear(one.addr, update.clone());
    assert!(rib.take_changes() && !rib.take_changes());
    assert_eq!(nets(&mut rib, &two).0, ["10.9.0.0/16"]);
    rib.hear(one.addr, update);
    assert!(!rib.has_news(two.addr) && !rib.take_changes());
}

#[test]
fn a_refresh_says_all_of_a_family_again_without_an_end() {
    let node = session(2, ASN);
    let mut rib = rib(config(), std::slice::from_ref(&node));
    rib.refresh(node.addr, Family::Ipv6);
    let updates = said(&mut rib, &node);
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0].reach[0].nets, [net("fd42:1::/64")]);
    let mut four = node.clone();
    four.families = vec![Family::Ipv4];
    rib.up(four.clone(), &[]);
    said(&mut rib, &four);
    rib.refresh(four.addr, Family::Ipv6);
    assert!(!rib.has_news(four.addr));
}

#[test]
fn of_a_peer_that_restarts_what_it_does_not_say_again_goes_with_its_end_of_rib() {
    let node = session(2, ASN);
    let mut rib = rib(config(), std::slice::from_ref(&node));
    let four = || reach(&["10.8.0.0/16", "10.9.0.0/16"], "10.0.0.2", through(&[]));
    rib.hear(node.addr, four());
    rib.hear(node.addr, reach(&["fd08::/64"], "fd00::2", through(&[])));
    rib.down(node.addr, &[Family::Ipv4]);
    assert_eq!(routes(&rib), ["10.8.0.0/16", "10.9.0.0/16"]);
    rib.down(node.addr, &[Family::Ipv4]); // a try that came to nothing
    rib.up(node.clone(), &[Family::Ipv4]);
    assert!(!rib.is_complete(node.addr));
    rib.hear(node.addr, reach(&["10.9.0.0/16"], "10.0.0.2", through(&[])));
    let stale: Vec<_> = rib.shown(Which::From(node.addr)).iter().map(|shown| shown.stale).collect();
    assert_eq!(stale, [true, false]);
    rib.hear(node.addr, end(Family::Ipv6));
    assert_eq!(routes(&rib), ["10.8.0.0/16", "10.9.0.0/16"]);
    assert!(!rib.is_complete(node.addr));
    rib.hear(node.addr, end(Family::Ipv4));
    assert_eq!(routes(&rib), ["10.9.0.0/16"]);
    assert!(rib.is_complete(node.addr));
}

#[test]
fn what_is_stale_goes_at_the_second_restart_and_when_its_time_is_over() {
    let node = session(2, ASN);
    let mut rib = rib(config(), std::slice::from_ref(&node));
    rib.hear(node.addr, reach(&["10.8.0.0/16"], "10.0.0.2", through(&[])));
    rib.down(node.addr, &Family::ALL);
    rib.up(node.clone(), &Family::ALL);
    rib.hear(node.addr, reach(&["10.9.0.0/16"], "10.0.0.2", through(&[])));
    rib.down(node.addr, &Family::ALL);
    assert_eq!(routes(&rib), ["10.9.0.0/16"]);
    rib.expire(node.addr);
    assert_eq!(routes(&rib), [""; 0]);
    assert!(rib.slots.find(node.addr).is_none(), "its place is free");
}

#[test]
fn a_session_that_did_not_keep_forwarding_loses_what_was_stale_at_once() {
    let node = session(2, ASN);
    let mut rib = rib(config(), std::slice::from_ref(&node));
    rib.hear(node.addr, reach(&["10.8.0.0/16"], "10.0.0.2", through(&[])));
    rib.down(node.addr, &Family::ALL);
    rib.take_changes();
    rib.up(node, &[Family::Ipv6]);
    assert_eq!(routes(&rib), [""; 0]);
    assert!(rib.take_changes());
}

#[test]
fn a_refused_path_takes_the_place_of_one_that_was_let_in() {
    let node = session(2, ASN);
    let mut rib = rib(config(), std::slice::from_ref(&node));
    rib.hear(node.addr, reach(&["10.9.0.0/16"], "10.0.0.2", through(&[])));
    rib.hear(node.addr, reach(&["10.9.0.0/16", "0.0.0.0/0"], "10.0.0.2", through(&[ASN])));
    assert_eq!(routes(&rib), [""; 0]);
    assert_eq!(rib.counts(node.addr), Counts { received: 2, accepted: 0, told: 2 });
    let refused: Vec<_> =
        rib.shown(Which::From(node.addr)).iter().map(|shown| shown.refused).collect();
    assert_eq!(refused, [Some(Refusal::Default), Some(Refusal::Loop)]);
    rib.hear(node.addr, gone(&["0.0.0.0/0"]));
    assert_eq!(rib.counts(node.addr).received, 1);
}

#[test]
fn of_many_refused_ones_the_last_are_only_counted() {
    let node = session(2, ASN);
    let mut rib = rib(config(), std::slice::from_ref(&node));
    let many: Vec<String> =
        (0..1500).map(|at| format!("127.{}.{}.0/24", at / 256, at % 256)).collect();
    for text in &many {
        rib.hear(node.addr, reach(&[text], "10.0.0.2", through(&[])));
    }
    assert_eq!(rib.counts(node.addr).received, 1500);
    assert_eq!(rib.shown(Which::From(node.addr)).len(), 1000);
}

#[test]
fn who_said_what_may_be_let_in_now_is_asked_again() {
    let (one, two) = (session(2, ASN), session(3, ASN));
    let mut config = config();
    config.import.reject = vec![net("10.9.0.0/16")];
    let mut rib = rib(config.clone(), &[one.clone(), two.clone()]);
    rib.hear(one.addr, reach(&["10.9.1.0/24"], "10.0.0.2", through(&[])));
    rib.hear(two.addr, reach(&["10.8.0.0/16", "0.0.0.0/0"], "10.0.0.3", through(&[])));
    config.import.reject = vec![net("10.8.0.0/16"), net("10.9.0.0/17")];
    assert!(rib.configure(Arc::new(config.clone())).is_empty());
    assert_eq!(routes(&rib), [""; 0], "what is not let in any more goes");
    config.import.reject = vec![net("10.8.0.0/16")];
    assert_eq!(rib.configure(Arc::new(config)), [one.addr]);
}

#[test]
fn a_next_hop_is_looked_at_again_when_the_links_change() {
    let node = session(2, ASN);
    let mut config = config();
    let mut rib = rib(config.clone(), std::slice::from_ref(&node));
    rib.hear(node.addr, reach(&["10.9.0.0/16"], "10.77.0.2", through(&[])));
    for (link, count) in [("10.0.0.0/24", 0), ("10.77.0.0/24", 1)] {
        config.import.on_link = vec![net(link)];
        rib.configure(Arc::new(config.clone()));
        assert!(rib.take_changes());
        assert_eq!(rib.routes().len(), count);
    }
}

#[test]
fn a_reflector_takes_back_what_it_passed_on_when_it_is_none_any_more() {
    let (one, two) = two_clients();
    let mut rib = rib(reflector(), &[one.clone(), two.clone()]);
    rib.hear(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", through(&[])));
    assert_eq!(nets(&mut rib, &two).0, ["10.9.0.0/16"]);
    rib.configure(Arc::new(config()));
    assert_eq!(nets(&mut rib, &two).1, ["10.9.0.0/16"]);
    assert_eq!(routes(&rib), ["10.9.0.0/16"]);
}

#[test]
fn what_became_unfit_to_be_told_is_taken_back() {
    let (one, two) = two_clients();
    let mut rib = rib(reflector(), &[one.clone(), two.clone()]);
    rib.hear(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", through(&[])));
    assert_eq!(nets(&mut rib, &two).0, ["10.9.0.0/16"]);
    let still = Attributes { communities: vec![NO_ADVERTISE], ..through(&[]) };
    rib.hear(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", still));
    assert_eq!(nets(&mut rib, &two), (vec![], texts(&["10.9.0.0/16"])));
}

#[test]
fn a_peer_that_does_not_read_costs_no_memory_without_end() {
    let (one, two) = two_clients();
    let three = Session { client: true, ..session(4, ASN) };
    let mut rib = rib(reflector(), &[one.clone(), two.clone(), three.clone()]);
    for turn in 0..10_000_u32 {
        let med = Attributes { med: Some(turn), ..through(&[]) };
        rib.hear(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", med));
        said(&mut rib, &two);
        assert!(rib.journal.end() - rib.journal.begin() < 5000);
    }
    let updates = said(&mut rib, &three);
    let reach: Vec<_> =
        updates.iter().filter(|update| update.attributes.med == Some(9999)).collect();
    assert_eq!(reach.len(), 1);
    assert_eq!(updates.iter().filter(|update| update.end.is_some()).count(), 0);
}

#[test]
fn a_node_keeps_no_journal_of_what_it_passes_to_nobody() {
    let (one, two) = (session(2, ASN), session(3, ASN));
    let mut rib = rib(config(), &[one.clone(), two.clone()]);
    rib.hear(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", through(&[])));
    rib.hear(one.addr, gone(&["10.9.0.0/16"]));
    assert!(!rib.has_news(two.addr));
    assert_eq!(rib.table.len(), 3);
}

#[test]
fn from_one_without_a_session_nothing_counts() {
    let mut rib = Rib::new(Arc::new(Config { origin: Origin::default(), ..config() }));
    let node = session(2, ASN);
    rib.hear(node.addr, reach(&["10.9.0.0/16"], "10.0.0.2", through(&[])));
    rib.refresh(node.addr, Family::Ipv4);
    rib.down(node.addr, &Family::ALL);
    rib.expire(node.addr);
    assert!(!rib.tell(node.addr, 1000, &mut Vec::new()));
    assert!(!rib.is_complete(node.addr));
    assert_eq!(rib.counts(node.addr), Counts::default());
    assert!(rib.table.is_empty() && !rib.take_changes());
}

#[test]
fn what_is_shown_is_what_is_there() {
    let (one, two) = two_clients();
    let mut rib = rib(reflector(), &[one.clone(), two.clone()]);
    rib.hear(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", through(&[65001])));
    rib.hear(two.addr, reach(&["10.9.0.0/16"], "10.0.0.3", through(&[65001, 65002])));
    said(&mut rib, &two);
    let all = rib.shown(Which::All);
    let of: Vec<_> = all.iter().filter(|shown| shown.net == net("10.9.0.0/16")).collect();
    assert_eq!(
        of.iter().map(|shown| (shown.best, shown.used)).collect::<Vec<_>>(),
        [(true, true), (false, false)]
    );
    assert_eq!(of[1].path, "65001 65002");
    assert_eq!(
        all.iter().filter(|shown| shown.from.is_none() && shown.next_hop.is_none()).count(),
        3
    );
    let to = rib.shown(Which::To(two.addr));
    let of: Vec<_> = to.iter().filter(|shown| shown.net == net("10.9.0.0/16")).collect();
    assert_eq!(
        (of[0].next_hop, of[0].from, of[0].local_pref),
        (Some(ip("10.0.0.2")), Some(one.addr), Some(100))
    );
    assert_eq!(to.len(), 3);
    assert_eq!(rib.shown(Which::From(ip("10.0.0.99"))), []);
}
