use super::*;
use crate::bgp::{attribute::Other, rib::world::*};

fn learned<'a>(from: &'a Session, attrs: &'a RouteAttrs) -> RouteSource<'a> {
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
        ("0.0.0.0/0", plain(), Some(Refusal::DefaultRoute)),
        ("::/0", six(), Some(Refusal::DefaultRoute)),
        ("0.0.0.0/1", plain(), Some(Refusal::Martian)),
        ("127.0.0.0/8", plain(), Some(Refusal::Martian)),
        ("127.1.2.3/32", plain(), Some(Refusal::Martian)),
        ("128.0.0.0/1", plain(), Some(Refusal::Martian)),
        ("169.254.7.0/24", plain(), Some(Refusal::Martian)),
        ("224.0.0.0/24", plain(), Some(Refusal::Martian)),
        ("255.255.255.255/32", plain(), Some(Refusal::Martian)),
        ("240.1.0.0/16", plain(), None),
        ("::1/128", six(), Some(Refusal::Martian)),
        ("::ffff:10.0.0.0/104", six(), Some(Refusal::Martian)),
        ("fe80::/64", six(), Some(Refusal::Martian)),
        ("ff02::/16", six(), Some(Refusal::Martian)),
        ("2000::/3", six(), None),
        ("64:ff9b::/96", six(), None),
        ("10.43.0.1/32", plain(), Some(Refusal::OwnNetwork)),
        ("10.43.0.0/24", plain(), None),
        ("10.42.1.0/24", plain(), Some(Refusal::OwnNetwork)),
        ("10.42.1.7/32", plain(), Some(Refusal::OwnPods)),
        ("fd42:1::7/128", six(), Some(Refusal::OwnPods)),
        ("10.42.0.0/16", plain(), None),
        ("10.50.0.0/16", plain(), Some(Refusal::Rejected)),
        ("10.50.1.0/24", plain(), Some(Refusal::Rejected)),
        ("10.48.0.0/12", plain(), None),
        ("10.9.0.0/16", route_attrs("10.0.0.1", as_path(&[65001])), Some(Refusal::NextHop)),
        ("fd09::/64", route_attrs("fd00::1", as_path(&[65001])), Some(Refusal::NextHop)),
        ("10.9.0.0/16", route_attrs("0.0.0.0", as_path(&[65001])), Some(Refusal::NextHop)),
        ("10.9.0.0/16", route_attrs("127.0.0.1", as_path(&[65001])), Some(Refusal::NextHop)),
        ("10.9.0.0/16", route_attrs("224.0.0.5", as_path(&[65001])), Some(Refusal::NextHop)),
        ("fd09::/64", route_attrs("fe80::1", as_path(&[65001])), Some(Refusal::NextHop)),
        ("10.9.0.0/16", route_attrs("fd00::9", as_path(&[65001])), Some(Refusal::NextHop)),
        ("10.9.0.0/16", route_attrs("10.0.0.9", as_path(&[65001, ASN])), Some(Refusal::AsLoop)),
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
    assert_eq!(check_import(&config, &four, &net("fd09::/64"), &six()), Some(Refusal::Family));
}

#[test]
fn a_path_from_another_as_must_begin_with_that_as() {
    let (config, node, router) = (config(), session(2, ASN), session(3, 65001));
    let set = Attributes { path: vec![Segment::Set(vec![65001])], ..Attributes::default() };
    let first = |from, attributes| check_attrs(&config, from, &route_attrs("10.0.0.9", attributes));
    assert_eq!(first(&router, as_path(&[65001])), None);
    for wrong in [as_path(&[]), as_path(&[65002, 65001]), set] {
        assert_eq!(first(&router, wrong.clone()), Some(Refusal::FirstAs));
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
    assert_eq!(check_attrs(&config, &node, &attrs(&own_originator)), Some(Refusal::Originator));
    assert_eq!(check_attrs(&config, &node, &attrs(&own_cluster)), Some(Refusal::Cluster));
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
    let exported = |to: &Session| export(&config, to, Family::Ipv4, source).unwrap();

    let inside = Attributes { local_pref: Some(100), ..as_path(&[]) };
    assert_eq!(
        exported(&session(2, ASN)),
        ExportedRoute { next_hop: ip("10.0.0.1"), attributes: inside }
    );
    let communities = vec![7, NO_EXPORT];
    let router = Attributes { communities, ..as_path(&[ASN, 65077, 65077]) };
    assert_eq!(exported(&session(3, 65001)).attributes, router);
    let same_as = Attributes { local_pref: Some(100), ..router.clone() };
    let same_as = Attributes { path: as_path(&[65077, 65077]).path, ..same_as };
    assert_eq!(exported(&Session { outside: true, ..session(4, ASN) }).attributes, same_as);
    // A node of the cluster that is in another AS is not a router outside.
    let other = exported(&Session { outside: false, ..session(5, 65005) }).attributes;
    assert_eq!(other, as_path(&[ASN]));
}

#[test]
fn next_hop_self_is_the_local_address_of_the_connection_or_one_of_the_family() {
    let mut config = config();
    let source = RouteSource::Local(LocalKind { pods: true, services: false });
    let to = Session { local: ip("10.0.0.7"), ..session(2, ASN) };
    let hop = |config: &Config, to: &Session, family| {
        export(config, to, family, source).map(|exported| exported.next_hop)
    };
    assert_eq!(hop(&config, &to, Family::Ipv4), Some(ip("10.0.0.7")));
    assert_eq!(hop(&config, &to, Family::Ipv6), Some(ip("fd00::1")));
    let linked = Session { local: ip("fe80::7"), ..to.clone() };
    assert_eq!(hop(&config, &linked, Family::Ipv6), Some(ip("fd00::1")));
    config.own.addrs = vec![ip("10.0.0.1")];
    assert_eq!(hop(&config, &to, Family::Ipv6), None);
    let four = Session { families: vec![Family::Ipv4], ..to };
    assert_eq!(hop(&self::config(), &four, Family::Ipv6), None);
}

#[test]
fn only_a_reflector_advertises_learned_paths_and_follows_rfc_4456() {
    let (from, to) = (session(2, ASN), session(3, ASN));
    let attrs = route_attrs("10.0.0.9", Attributes { med: Some(5), ..as_path(&[65001]) });
    let is_exported = |from: &Session, to: &Session| {
        export(&reflector(), to, Family::Ipv4, learned(from, &attrs)).is_some()
    };
    let client = |of: &Session| Session { client: true, ..of.clone() };
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
    let (from, to) = (Session { client: true, ..session(2, ASN) }, session(3, ASN));
    let mut config = reflector();
    config.export.next_hop_self = true;
    let as_it_came = Attributes {
        med: Some(5),
        local_pref: Some(200),
        others: vec![Other { code: 99, flags: 0xc0, value: Box::new([1]) }],
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
    let outside = Session { outside: true, ..to.clone() };
    let exported = export(&config, &outside, Family::Ipv4, learned(&from, &attrs)).unwrap();
    assert_eq!(exported.next_hop, ip("10.0.0.1"), "--override-nexthop applies to routers outside");

    let reflected_before = route_attrs(
        "10.0.0.9",
        Attributes {
            originator: Some([1, 1, 1, 1].into()),
            clusters: vec![[8, 8, 8, 8].into()],
            ..as_path(&[])
        },
    );
    let exported =
        export(&config, &to, Family::Ipv4, learned(&from, &reflected_before)).unwrap().attributes;
    assert_eq!(exported.originator, Some([1, 1, 1, 1].into()));
    assert_eq!(exported.clusters, [[9, 9, 9, 9], [8, 8, 8, 8]].map(Ipv4Addr::from));
    assert_eq!(exported.local_pref, Some(100));
    let origin = Session { id: [1, 1, 1, 1].into(), ..to };
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
    attrs.attributes.path.insert(0, Segment::Confederation(true, vec![65100]));
    let exported = export(&reflector(), &to, Family::Ipv4, learned(&from, &attrs)).unwrap();
    assert_eq!(
        exported,
        ExportedRoute { next_hop: ip("10.0.0.1"), attributes: as_path(&[ASN, 65001]) }
    );
    // A peer that would get this node as next hop does not get a path that this node cannot resolve.
    let unresolvable = RouteSource::Learned { from: &from, attrs: &attrs, resolvable: false };
    assert_eq!(export(&reflector(), &to, Family::Ipv4, unresolvable), None);
    let client = Session { client: true, ..session(3, ASN) };
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
