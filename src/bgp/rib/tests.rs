use super::{world::*, *};
use crate::bgp::{Origin, attribute::Attributes, policy::NO_ADVERTISE, shown::Which};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

/// Returns the networks of the kernel routes.
fn routes(rib: &Rib) -> Vec<String> {
    rib.routes().keys().map(IpNet::to_string).collect()
}

fn two_clients() -> (Session, Session) {
    let client = |last| Session { client: true, ..session(last, ASN) };
    (client(2), client(3))
}

#[test]
fn a_new_peer_receives_all_networks_and_then_end_of_rib_of_each_family() {
    let node = session(2, ASN);
    let mut rib = Rib::new(Arc::new(config()));
    assert!(!rib.has_news(node.addr));
    rib.up(node.clone(), &[]);
    assert!(rib.has_news(node.addr));
    let updates = read_updates(&mut rib, &node);
    let nets: Vec<_> =
        updates.iter().flat_map(|update| &update.reach).flat_map(|reach| &reach.nets).collect();
    assert_eq!(nets, [&net("10.42.1.0/24"), &net("fd42:1::/64")]);
    let ends: Vec<_> = updates.iter().filter_map(|update| update.end).collect();
    assert_eq!(ends, Family::ALL);
    assert_eq!(updates.last().unwrap().end, Some(Family::Ipv6));
    assert_eq!(rib.counts(node.addr).told, 2);
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
    assert!(!rib.has_news(router.addr));
    assert_eq!(read_nets(&mut rib, &node), (vec![], texts(&["10.42.1.0/24", "fd42:1::/64"])));
    config.export.communities = vec![7];
    rib.configure(Arc::new(config.clone()));
    assert!(!rib.has_news(node.addr));
    let updates = read_updates(&mut rib, &router);
    assert!(updates.iter().all(|update| update.attributes.communities == [7]));
    assert_eq!(updates.len(), 2, "{updates:?}");
    config.own.port = 1790;
    rib.configure(Arc::new(config));
    assert!(!rib.has_news(node.addr) && !rib.has_news(router.addr));
}

#[test]
fn networks_with_equal_attributes_share_one_update() {
    let (one, two) = two_clients();
    let mut rib = rib_with(reflector(), &[one.clone(), two.clone()]);
    let many: Vec<String> = (0..100).map(|at| format!("10.9.{at}.0/24")).collect();
    for text in &many {
        rib.hear(one.addr, reach(&[text], "10.0.0.2", as_path(&[])));
    }
    assert_eq!(update_count(&mut rib, &two), 1);
    assert_eq!(rib.counts(two.addr).told, 102);
    assert_eq!(rib.counts(one.addr).accepted, 100);
    let first = rib.table[&net("10.9.0.0/24")].paths[0].clone();
    assert!(
        Arc::ptr_eq(&first.attrs, &rib.table[&net("10.9.99.0/24")].paths[0].attrs),
        "and share one value of attributes"
    );
}

/// Returns the number of pending UPDATEs for a peer, without a limit on their size.
fn update_count(rib: &mut Rib, to: &Session) -> usize {
    rib.updates(to.addr, 1 << 16).len()
}

#[test]
fn a_path_that_is_received_again_unchanged_is_not_advertised_again() {
    let (one, two) = two_clients();
    let mut rib = rib_with(reflector(), &[one.clone(), two.clone()]);
    let update = reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[65001]));
    rib.hear(one.addr, update.clone());
    assert!(rib.take_changes() && !rib.take_changes());
    assert_eq!(read_nets(&mut rib, &two).0, ["10.9.0.0/16"]);
    rib.hear(one.addr, update);
    assert!(!rib.has_news(two.addr) && !rib.take_changes());
}

#[test]
fn route_refresh_sends_all_networks_of_the_family_without_end_of_rib() {
    let node = session(2, ASN);
    let mut rib = rib_with(config(), std::slice::from_ref(&node));
    rib.refresh(node.addr, Family::Ipv6);
    let updates = read_updates(&mut rib, &node);
    assert_eq!(updates.len(), 1);
    assert_eq!(updates[0].reach[0].nets, [net("fd42:1::/64")]);
    let mut four = node.clone();
    four.families = vec![Family::Ipv4];
    rib.up(four.clone(), &[]);
    read_updates(&mut rib, &four);
    rib.refresh(four.addr, Family::Ipv6);
    assert!(!rib.has_news(four.addr));
}

#[test]
fn end_of_rib_removes_the_stale_paths_of_a_restarted_peer() {
    let node = session(2, ASN);
    let mut rib = rib_with(config(), std::slice::from_ref(&node));
    let four = || reach(&["10.8.0.0/16", "10.9.0.0/16"], "10.0.0.2", as_path(&[]));
    rib.hear(node.addr, four());
    rib.hear(node.addr, reach(&["fd08::/64"], "fd00::2", as_path(&[])));
    rib.down(node.addr, &[Family::Ipv4]);
    assert_eq!(routes(&rib), ["10.8.0.0/16", "10.9.0.0/16"]);
    rib.down(node.addr, &[Family::Ipv4]); // a connection attempt that failed
    rib.up(node.clone(), &[Family::Ipv4]);
    assert!(!rib.is_complete(node.addr));
    rib.hear(node.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
    let stale: Vec<_> = rib.shown(Which::From(node.addr)).iter().map(|row| row.stale).collect();
    assert_eq!(stale, [true, false]);
    rib.hear(node.addr, end_of_rib(Family::Ipv6));
    assert_eq!(routes(&rib), ["10.8.0.0/16", "10.9.0.0/16"]);
    assert!(!rib.is_complete(node.addr));
    rib.hear(node.addr, end_of_rib(Family::Ipv4));
    assert_eq!(routes(&rib), ["10.9.0.0/16"]);
    assert!(rib.is_complete(node.addr));
}

#[test]
fn stale_paths_are_removed_at_a_second_restart_and_when_the_restart_time_expires() {
    let node = session(2, ASN);
    let mut rib = rib_with(config(), std::slice::from_ref(&node));
    rib.hear(node.addr, reach(&["10.8.0.0/16"], "10.0.0.2", as_path(&[])));
    rib.down(node.addr, &Family::ALL);
    rib.up(node.clone(), &Family::ALL);
    rib.hear(node.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
    rib.down(node.addr, &Family::ALL);
    assert_eq!(routes(&rib), ["10.9.0.0/16"]);
    rib.expire(node.addr);
    assert_eq!(routes(&rib), [""; 0]);
    assert!(rib.peers.index_of(node.addr).is_none(), "its index is free");
}

#[test]
fn stale_paths_of_a_family_that_was_not_preserved_are_removed_when_the_session_is_up() {
    let node = session(2, ASN);
    let mut rib = rib_with(config(), std::slice::from_ref(&node));
    rib.hear(node.addr, reach(&["10.8.0.0/16"], "10.0.0.2", as_path(&[])));
    rib.down(node.addr, &Family::ALL);
    rib.take_changes();
    rib.up(node, &[Family::Ipv6]);
    assert_eq!(routes(&rib), [""; 0]);
    assert!(rib.take_changes());
}

#[test]
fn a_refused_path_replaces_an_accepted_one() {
    let node = session(2, ASN);
    let mut rib = rib_with(config(), std::slice::from_ref(&node));
    rib.hear(node.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
    rib.hear(node.addr, reach(&["10.9.0.0/16", "0.0.0.0/0"], "10.0.0.2", as_path(&[ASN])));
    assert_eq!(routes(&rib), [""; 0]);
    assert_eq!(rib.counts(node.addr), Counts { received: 2, accepted: 0, told: 2 });
    let refused: Vec<_> = rib.shown(Which::From(node.addr)).iter().map(|row| row.refused).collect();
    assert_eq!(refused, [Some(Refusal::DefaultRoute), Some(Refusal::AsLoop)]);
    rib.hear(node.addr, withdraw(&["0.0.0.0/0"]));
    assert_eq!(rib.counts(node.addr).received, 1);
}

#[test]
fn refused_networks_above_the_limit_are_only_counted() {
    let node = session(2, ASN);
    let mut rib = rib_with(config(), std::slice::from_ref(&node));
    let many: Vec<String> =
        (0..1500).map(|at| format!("127.{}.{}.0/24", at / 256, at % 256)).collect();
    for text in &many {
        rib.hear(node.addr, reach(&[text], "10.0.0.2", as_path(&[])));
    }
    assert_eq!(rib.counts(node.addr).received, 1500);
    assert_eq!(rib.shown(Which::From(node.addr)).len(), 1000);
}

#[test]
fn a_new_import_policy_requests_a_refresh_from_peers_with_networks_that_may_now_be_accepted() {
    let (one, two) = (session(2, ASN), session(3, ASN));
    let mut config = config();
    config.import.reject = vec![net("10.9.0.0/16")];
    let mut rib = rib_with(config.clone(), &[one.clone(), two.clone()]);
    rib.hear(one.addr, reach(&["10.9.1.0/24"], "10.0.0.2", as_path(&[])));
    rib.hear(two.addr, reach(&["10.8.0.0/16", "0.0.0.0/0"], "10.0.0.3", as_path(&[])));
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
    rib.hear(node.addr, reach(&["10.9.0.0/16"], "10.77.0.2", as_path(&[])));
    for (link, count) in [("10.0.0.0/24", 0), ("10.77.0.0/24", 1)] {
        config.import.on_link = vec![net(link)];
        rib.configure(Arc::new(config.clone()));
        assert!(rib.take_changes());
        assert_eq!(rib.routes().len(), count);
    }
}

#[test]
fn a_node_that_stops_being_a_reflector_withdraws_the_learned_networks() {
    let (one, two) = two_clients();
    let mut rib = rib_with(reflector(), &[one.clone(), two.clone()]);
    rib.hear(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
    assert_eq!(read_nets(&mut rib, &two).0, ["10.9.0.0/16"]);
    rib.configure(Arc::new(config()));
    assert_eq!(read_nets(&mut rib, &two).1, ["10.9.0.0/16"]);
    assert_eq!(routes(&rib), ["10.9.0.0/16"]);
}

#[test]
fn a_network_that_may_no_longer_be_advertised_is_withdrawn() {
    let (one, two) = two_clients();
    let mut rib = rib_with(reflector(), &[one.clone(), two.clone()]);
    rib.hear(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
    assert_eq!(read_nets(&mut rib, &two).0, ["10.9.0.0/16"]);
    let no_advertise = Attributes { communities: vec![NO_ADVERTISE], ..as_path(&[]) };
    rib.hear(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", no_advertise));
    assert_eq!(read_nets(&mut rib, &two), (vec![], texts(&["10.9.0.0/16"])));
}

#[test]
fn the_journal_stays_bounded_if_a_peer_does_not_read() {
    let (one, two) = two_clients();
    let three = Session { client: true, ..session(4, ASN) };
    let mut rib = rib_with(reflector(), &[one.clone(), two.clone(), three.clone()]);
    for turn in 0..10_000_u32 {
        let med = Attributes { med: Some(turn), ..as_path(&[]) };
        rib.hear(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", med));
        read_updates(&mut rib, &two);
        assert!(rib.journal.end() - rib.journal.start() < 5000);
    }
    let updates = read_updates(&mut rib, &three);
    let reach: Vec<_> =
        updates.iter().filter(|update| update.attributes.med == Some(9999)).collect();
    assert_eq!(reach.len(), 1);
    assert_eq!(updates.iter().filter(|update| update.end.is_some()).count(), 0);
}

#[test]
fn learned_networks_are_not_journalled_unless_the_node_is_a_reflector() {
    let (one, two) = (session(2, ASN), session(3, ASN));
    let mut rib = rib_with(config(), &[one.clone(), two.clone()]);
    rib.hear(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
    rib.hear(one.addr, withdraw(&["10.9.0.0/16"]));
    assert!(!rib.has_news(two.addr));
    assert_eq!(rib.table.len(), 3);
}

#[test]
fn events_of_a_peer_without_a_session_are_ignored() {
    let mut rib = Rib::new(Arc::new(Config { origin: Origin::default(), ..config() }));
    let node = session(2, ASN);
    rib.hear(node.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
    rib.refresh(node.addr, Family::Ipv4);
    rib.down(node.addr, &Family::ALL);
    rib.expire(node.addr);
    assert!(!rib.tell(node.addr, 1000, &mut Vec::new()));
    assert!(!rib.is_complete(node.addr));
    assert_eq!(rib.counts(node.addr), Counts::default());
    assert!(rib.table.is_empty() && !rib.take_changes());
}

#[test]
fn rows_for_users_show_the_best_and_used_paths_and_the_advertised_attributes() {
    let (one, two) = two_clients();
    let mut rib = rib_with(reflector(), &[one.clone(), two.clone()]);
    rib.hear(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[65001])));
    rib.hear(two.addr, reach(&["10.9.0.0/16"], "10.0.0.3", as_path(&[65001, 65002])));
    read_updates(&mut rib, &two);
    let all = rib.shown(Which::All);
    let of: Vec<_> = all.iter().filter(|row| row.net == net("10.9.0.0/16")).collect();
    assert_eq!(
        of.iter().map(|row| (row.best, row.used)).collect::<Vec<_>>(),
        [(true, true), (false, false)]
    );
    assert_eq!(of[1].path, "65001 65002");
    assert_eq!(all.iter().filter(|row| row.from.is_none() && row.next_hop.is_none()).count(), 3);
    let to = rib.shown(Which::To(two.addr));
    let of: Vec<_> = to.iter().filter(|row| row.net == net("10.9.0.0/16")).collect();
    assert_eq!(
        (of[0].next_hop, of[0].from, of[0].local_pref),
        (Some(ip("10.0.0.2")), Some(one.addr), Some(100))
    );
    assert_eq!(to.len(), 3);
    assert_eq!(rib.shown(Which::From(ip("10.0.0.99"))), []);
}
