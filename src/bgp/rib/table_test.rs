//! Tests of the table: what each peer is sent, and which routes the kernel gets, after events.

use std::sync::Arc;

use ipnet::IpNet;

use super::{PeerSession, PrefixCounts, Rib, fixtures::*};
use crate::{
    bgp::{
        attribute::Attributes,
        policy::{NO_ADVERTISE, RouteRejectReason},
        show::{RouteSelector, rows},
    },
    family::Family,
    model::bgp::{Config, Originated},
};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Returns the networks of the kernel routes.
fn routes(rib: &Rib) -> Vec<String> {
    rib.routes().keys().map(IpNet::to_string).collect()
}

fn two_clients() -> (PeerSession, PeerSession) {
    let client = |last| PeerSession { client: true, ..session(last, ASN) };
    (client(2), client(3))
}

#[test]
fn a_new_peer_receives_all_networks_and_then_end_of_rib_of_each_family() {
    let node = session(2, ASN);
    let mut rib = Rib::new(Arc::new(config()));
    assert!(!rib.has_pending_updates(node.addr));
    rib.session_up(node.clone(), &[]);
    assert!(rib.has_pending_updates(node.addr));
    let updates = read_updates(&mut rib, &node);
    let nets: Vec<_> =
        updates.iter().flat_map(|update| &update.reach).flat_map(|reach| &reach.nets).collect();
    assert_eq!(nets, [&net("10.42.1.0/24"), &net("fd42:1::/64")]);
    let ends: Vec<_> = updates.iter().filter_map(|update| update.end_of_rib).collect();
    assert_eq!(ends, Family::ALL);
    assert_eq!(updates.last().unwrap().end_of_rib, Some(Family::Ipv6));
    assert_eq!(rib.counts(node.addr).advertised, 2);
    assert_eq!(read_updates(&mut rib, &node), []);
}

#[test]
fn a_withdrawal_goes_only_to_peers_that_were_sent_the_network() {
    let (node, router) = (session(2, ASN), session(3, 65001));
    let mut config = config();
    let mut rib = rib_with(config.clone(), &[node.clone(), router.clone()]);
    config.origin.services.clear();
    rib.configure(Arc::new(config.clone()));
    assert_eq!(read_nets(&mut rib, &node), (vec![], vec![]));
    assert_eq!(read_nets(&mut rib, &router), (vec![], texts(&["10.43.0.1/32"])));
    // A network that is added and removed before any peer reads the journal is never advertised.
    let before = config.clone();
    config.origin.services.insert(net("10.43.0.9/32"));
    rib.configure(Arc::new(config));
    rib.configure(Arc::new(before));
    assert_eq!(read_nets(&mut rib, &router), (vec![], vec![]));
    assert!(
        !rib.table.contains_key(&net("10.43.0.9/32"))
            && !rib.table.contains_key(&net("10.43.0.1/32"))
    );
}

#[test]
fn a_new_export_policy_sends_updates_only_to_the_peers_that_it_concerns() {
    let (node, router) = (session(2, ASN), session(3, 65001));
    let mut config = config();
    let mut rib = rib_with(config.clone(), &[node.clone(), router.clone()]);
    config.export.pods_inside = false;
    assert!(rib.configure(Arc::new(config.clone())).is_empty());
    assert!(!rib.has_pending_updates(router.addr));
    assert_eq!(read_nets(&mut rib, &node), (vec![], texts(&["10.42.1.0/24", "fd42:1::/64"])));
    config.export.communities = vec![7];
    rib.configure(Arc::new(config.clone()));
    assert!(!rib.has_pending_updates(node.addr));
    let updates = read_updates(&mut rib, &router);
    assert!(updates.iter().all(|update| update.attributes.communities == [7]));
    assert_eq!(updates.len(), 2, "{updates:?}");
    config.own.port = 1790;
    rib.configure(Arc::new(config));
    assert!(!rib.has_pending_updates(node.addr) && !rib.has_pending_updates(router.addr));
}

#[test]
fn networks_with_equal_attributes_share_one_update() {
    let (one, two) = two_clients();
    let mut rib = rib_with(reflector(), &[one.clone(), two.clone()]);
    let many: Vec<String> = (0..100).map(|at| format!("10.9.{at}.0/24")).collect();
    for text in &many {
        rib.handle_update(one.addr, reach(&[text], "10.0.0.2", as_path(&[])));
    }
    assert_eq!(update_count(&mut rib, &two), 1);
    assert_eq!(rib.counts(two.addr).advertised, 102);
    assert_eq!(rib.counts(one.addr).accepted, 100);
    let first = rib.table[&net("10.9.0.0/24")].paths[0].clone();
    assert!(
        Arc::ptr_eq(&first.attrs, &rib.table[&net("10.9.99.0/24")].paths[0].attrs),
        "and share one value of attributes"
    );
}

/// Returns the number of pending UPDATEs for a peer, without a limit on their size.
fn update_count(rib: &mut Rib, to: &PeerSession) -> usize {
    rib.updates(to.addr, 1 << 16).len()
}

#[test]
fn a_path_that_is_received_again_unchanged_is_not_advertised_again() {
    let (one, two) = two_clients();
    let mut rib = rib_with(reflector(), &[one.clone(), two.clone()]);
    let update = reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[65001]));
    rib.handle_update(one.addr, update.clone());
    assert!(rib.take_routes_changed() && !rib.take_routes_changed());
    assert_eq!(read_nets(&mut rib, &two).0, ["10.9.0.0/16"]);
    rib.handle_update(one.addr, update.clone());
    assert!(!rib.has_pending_updates(two.addr) && !rib.take_routes_changed());
    // After an UPDATE with other attributes, equal attributes are no longer the same value in memory.
    rib.handle_update(one.addr, reach(&["10.8.0.0/16"], "10.0.0.2", as_path(&[65002])));
    assert!(rib.take_routes_changed());
    assert_eq!(read_nets(&mut rib, &two).0, ["10.8.0.0/16"]);
    let attrs = |rib: &Rib| Arc::clone(&rib.table[&net("10.9.0.0/16")].paths[0].attrs);
    let before = attrs(&rib);
    rib.handle_update(one.addr, update);
    assert!(!Arc::ptr_eq(&before, &attrs(&rib)));
    assert!(!rib.has_pending_updates(two.addr) && !rib.take_routes_changed());
}

#[test]
fn route_refresh_sends_all_networks_of_the_family_without_end_of_rib() {
    let node = session(2, ASN);
    let mut rib = rib_with(config(), std::slice::from_ref(&node));
    rib.handle_refresh(node.addr, Family::Ipv6);
    let updates = read_updates(&mut rib, &node);
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0].reach[0].nets, [net("fd42:1::/64")]);
    let mut four = node.clone();
    four.families = vec![Family::Ipv4];
    rib.session_up(four.clone(), &[]);
    read_updates(&mut rib, &four);
    rib.handle_refresh(four.addr, Family::Ipv6);
    assert!(!rib.has_pending_updates(four.addr));
}

#[test]
fn end_of_rib_removes_the_stale_paths_of_a_restarted_peer() {
    let node = session(2, ASN);
    let mut rib = rib_with(config(), std::slice::from_ref(&node));
    let four = || reach(&["10.8.0.0/16", "10.9.0.0/16"], "10.0.0.2", as_path(&[]));
    rib.handle_update(node.addr, four());
    rib.handle_update(node.addr, reach(&["fd08::/64"], "fd00::2", as_path(&[])));
    rib.session_down(node.addr, &[Family::Ipv4]);
    assert_eq!(routes(&rib), ["10.8.0.0/16", "10.9.0.0/16"]);
    rib.session_down(node.addr, &[Family::Ipv4]); // a connection attempt that failed
    rib.session_up(node.clone(), &[Family::Ipv4]);
    assert!(!rib.is_complete(node.addr));
    rib.handle_update(node.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
    let stale: Vec<_> =
        rows(&rib, RouteSelector::From(node.addr)).iter().map(|row| row.stale).collect();
    assert_eq!(stale, [true, false]);
    rib.handle_update(node.addr, end_of_rib(Family::Ipv6));
    assert_eq!(routes(&rib), ["10.8.0.0/16", "10.9.0.0/16"]);
    assert!(!rib.is_complete(node.addr));
    rib.handle_update(node.addr, end_of_rib(Family::Ipv4));
    assert_eq!(routes(&rib), ["10.9.0.0/16"]);
    assert!(rib.is_complete(node.addr));
}

#[test]
fn stale_paths_are_removed_at_a_second_restart_and_when_the_restart_time_expires() {
    let node = session(2, ASN);
    let mut rib = rib_with(config(), std::slice::from_ref(&node));
    rib.handle_update(node.addr, reach(&["10.8.0.0/16"], "10.0.0.2", as_path(&[])));
    rib.session_down(node.addr, &Family::ALL);
    rib.session_up(node.clone(), &Family::ALL);
    rib.handle_update(node.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
    rib.session_down(node.addr, &Family::ALL);
    assert_eq!(routes(&rib), ["10.9.0.0/16"]);
    rib.remove_stale(node.addr);
    assert_eq!(routes(&rib), [""; 0]);
    assert!(rib.peers.index_of(node.addr).is_none(), "its index is free");
}

#[test]
fn stale_paths_of_a_family_that_was_not_preserved_are_removed_when_the_session_is_up() {
    let node = session(2, ASN);
    let mut rib = rib_with(config(), std::slice::from_ref(&node));
    rib.handle_update(node.addr, reach(&["10.8.0.0/16"], "10.0.0.2", as_path(&[])));
    rib.session_down(node.addr, &Family::ALL);
    rib.take_routes_changed();
    rib.session_up(node, &[Family::Ipv6]);
    assert_eq!(routes(&rib), [""; 0]);
    assert!(rib.take_routes_changed());
}

#[test]
fn a_refused_path_replaces_an_accepted_one() {
    let node = session(2, ASN);
    let mut rib = rib_with(config(), std::slice::from_ref(&node));
    rib.handle_update(node.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
    rib.handle_update(node.addr, reach(&["10.9.0.0/16", "0.0.0.0/0"], "10.0.0.2", as_path(&[ASN])));
    assert_eq!(routes(&rib), [""; 0]);
    assert_eq!(rib.counts(node.addr), PrefixCounts { received: 2, accepted: 0, advertised: 2 });
    let refused: Vec<_> =
        rows(&rib, RouteSelector::From(node.addr)).iter().map(|row| row.refused).collect();
    assert_eq!(refused, [Some(RouteRejectReason::DefaultRoute), Some(RouteRejectReason::AsLoop)]);
    rib.handle_update(node.addr, withdraw(&["0.0.0.0/0"]));
    assert_eq!(rib.counts(node.addr).received, 1);
}

#[test]
fn refused_networks_above_the_limit_are_only_counted() {
    let node = session(2, ASN);
    let mut rib = rib_with(config(), std::slice::from_ref(&node));
    let many: Vec<String> =
        (0..1500).map(|at| format!("127.{}.{}.0/24", at / 256, at % 256)).collect();
    for text in &many {
        rib.handle_update(node.addr, reach(&[text], "10.0.0.2", as_path(&[])));
    }
    assert_eq!(rib.counts(node.addr).received, 1500);
    assert_eq!(rows(&rib, RouteSelector::From(node.addr)).len(), 1000);
}

#[test]
fn a_new_import_policy_requests_a_refresh_from_peers_with_networks_that_may_now_be_accepted() {
    let (one, two) = (session(2, ASN), session(3, ASN));
    let mut config = config();
    config.import.reject = vec![net("10.9.0.0/16")];
    let mut rib = rib_with(config.clone(), &[one.clone(), two.clone()]);
    rib.handle_update(one.addr, reach(&["10.9.1.0/24"], "10.0.0.2", as_path(&[])));
    rib.handle_update(two.addr, reach(&["10.8.0.0/16", "0.0.0.0/0"], "10.0.0.3", as_path(&[])));
    config.import.reject = vec![net("10.8.0.0/16"), net("10.9.0.0/17")];
    assert!(rib.configure(Arc::new(config.clone())).is_empty());
    assert_eq!(routes(&rib), [""; 0], "a path that is no longer accepted is removed");
    config.import.reject = vec![net("10.8.0.0/16")];
    assert_eq!(rib.configure(Arc::new(config)), [one.addr]);
}

#[test]
fn next_hops_are_resolved_again_when_the_links_change() {
    let node = session(2, ASN);
    let mut config = config();
    let mut rib = rib_with(config.clone(), std::slice::from_ref(&node));
    rib.handle_update(node.addr, reach(&["10.9.0.0/16"], "10.77.0.2", as_path(&[])));
    for (link, count) in [("10.0.0.0/24", 0), ("10.77.0.0/24", 1)] {
        config.import.on_link = vec![net(link)];
        rib.configure(Arc::new(config.clone()));
        assert!(rib.take_routes_changed());
        assert_eq!(rib.routes().len(), count);
    }
}

#[test]
fn a_node_that_stops_being_a_reflector_withdraws_the_learned_networks() {
    let (one, two) = two_clients();
    let mut rib = rib_with(reflector(), &[one.clone(), two.clone()]);
    rib.handle_update(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
    assert_eq!(read_nets(&mut rib, &two).0, ["10.9.0.0/16"]);
    rib.configure(Arc::new(config()));
    assert_eq!(read_nets(&mut rib, &two).1, ["10.9.0.0/16"]);
    assert_eq!(routes(&rib), ["10.9.0.0/16"]);
}

#[test]
fn a_network_that_may_no_longer_be_advertised_is_withdrawn() {
    let (one, two) = two_clients();
    let mut rib = rib_with(reflector(), &[one.clone(), two.clone()]);
    rib.handle_update(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
    assert_eq!(read_nets(&mut rib, &two).0, ["10.9.0.0/16"]);
    let no_advertise = Attributes { communities: vec![NO_ADVERTISE], ..as_path(&[]) };
    rib.handle_update(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", no_advertise));
    assert_eq!(read_nets(&mut rib, &two), (vec![], texts(&["10.9.0.0/16"])));
}

#[test]
fn the_journal_stays_bounded_if_a_peer_does_not_read() {
    let (one, two) = two_clients();
    let three = PeerSession { client: true, ..session(4, ASN) };
    let mut rib = rib_with(reflector(), &[one.clone(), two.clone(), three.clone()]);
    for turn in 0..10_000_u32 {
        let med = Attributes { med: Some(turn), ..as_path(&[]) };
        rib.handle_update(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", med));
        read_updates(&mut rib, &two);
        assert!(rib.changes.journal.end() - rib.changes.journal.start() < 5000);
    }
    let updates = read_updates(&mut rib, &three);
    let reach: Vec<_> =
        updates.iter().filter(|update| update.attributes.med == Some(9999)).collect();
    assert_eq!(reach.len(), 1);
    assert_eq!(updates.iter().filter(|update| update.end_of_rib.is_some()).count(), 0);
}

#[test]
fn learned_networks_are_not_journalled_unless_the_node_is_a_reflector() {
    let (one, two) = (session(2, ASN), session(3, ASN));
    let mut rib = rib_with(config(), &[one.clone(), two.clone()]);
    rib.handle_update(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
    rib.handle_update(one.addr, withdraw(&["10.9.0.0/16"]));
    assert!(!rib.has_pending_updates(two.addr));
    assert_eq!(rib.table.len(), 3);
}

#[test]
fn events_of_a_peer_without_a_session_are_ignored() {
    let mut rib = Rib::new(Arc::new(Config { origin: Originated::default(), ..config() }));
    let node = session(2, ASN);
    rib.handle_update(node.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
    rib.handle_refresh(node.addr, Family::Ipv4);
    rib.session_down(node.addr, &Family::ALL);
    rib.remove_stale(node.addr);
    assert!(!rib.write_updates(node.addr, 1000, &mut Vec::new()));
    assert!(!rib.is_complete(node.addr));
    assert_eq!(rib.counts(node.addr), PrefixCounts::default());
    assert!(rib.table.is_empty() && !rib.take_routes_changed());
}

#[test]
fn rows_for_users_show_the_best_and_used_paths_and_the_advertised_attributes() {
    let (one, two) = two_clients();
    let mut rib = rib_with(reflector(), &[one.clone(), two.clone()]);
    rib.handle_update(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[65001])));
    rib.handle_update(two.addr, reach(&["10.9.0.0/16"], "10.0.0.3", as_path(&[65001, 65002])));
    read_updates(&mut rib, &two);
    let all = rows(&rib, RouteSelector::All);
    let of: Vec<_> = all.iter().filter(|row| row.net == net("10.9.0.0/16")).collect();
    assert_eq!(
        of.iter().map(|row| (row.best, row.used)).collect::<Vec<_>>(),
        [(true, true), (false, false)]
    );
    assert_eq!(of[1].path, "65001 65002");
    assert_eq!(all.iter().filter(|row| row.from.is_none() && row.next_hop.is_none()).count(), 3);
    let to = rows(&rib, RouteSelector::To(two.addr));
    let of: Vec<_> = to.iter().filter(|row| row.net == net("10.9.0.0/16")).collect();
    assert_eq!(
        (of[0].next_hop, of[0].from, of[0].local_pref),
        (Some(ip("10.0.0.2")), Some(one.addr), Some(100))
    );
    assert_eq!(to.len(), 3);
    assert_eq!(rows(&rib, RouteSelector::From(ip("10.0.0.99"))), []);
}
