use super::*;
use crate::bgp::{attribute::Other, rib::world::*};

fn learned<'a>(from: &'a Session, said: &'a Said) -> Source<'a> {
    Source::Learned { from, said, usable: true }
}

fn hop(next_hop: &str, attributes: Attributes) -> Said {
    Said { next_hop: ip(next_hop), attributes }
}

#[test]
fn what_can_be_no_route_here_is_refused() {
    let mut config = reflector();
    config.import.reject = vec![net("10.50.0.0/16")];
    let (node, router) = (session(2, ASN), session(3, 65001));
    let plain = || hop("10.0.0.9", through(&[65001, 65002]));
    let six = || hop("fd00::9", through(&[65001]));
    let table = [
        ("0.0.0.0/0", plain(), Some(Refusal::Default)),
        ("::/0", six(), Some(Refusal::Default)),
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
        ("10.43.0.1/32", plain(), Some(Refusal::Own)),
        ("10.43.0.0/24", plain(), None),
        ("10.42.1.0/24", plain(), Some(Refusal::Own)),
        ("10.42.1.7/32", plain(), Some(Refusal::Pods)),
        ("fd42:1::7/128", six(), Some(Refusal::Pods)),
        ("10.42.0.0/16", plain(), None),
        ("10.50.0.0/16", plain(), Some(Refusal::Rejected)),
        ("10.50.1.0/24", plain(), Some(Refusal::Rejected)),
        ("10.48.0.0/12", plain(), None),
        ("10.9.0.0/16", hop("10.0.0.1", through(&[65001])), Some(Refusal::NextHop)),
        ("fd09::/64", hop("fd00::1", through(&[65001])), Some(Refusal::NextHop)),
        ("10.9.0.0/16", hop("0.0.0.0", through(&[65001])), Some(Refusal::NextHop)),
        ("10.9.0.0/16", hop("127.0.0.1", through(&[65001])), Some(Refusal::NextHop)),
        ("10.9.0.0/16", hop("224.0.0.5", through(&[65001])), Some(Refusal::NextHop)),
        ("fd09::/64", hop("fe80::1", through(&[65001])), Some(Refusal::NextHop)),
        ("10.9.0.0/16", hop("fd00::9", through(&[65001])), Some(Refusal::NextHop)),
        ("10.9.0.0/16", hop("10.0.0.9", through(&[65001, ASN])), Some(Refusal::Loop)),
        ("10.9.0.0/16", plain(), None),
    ];
    for (text, said, refusal) in table {
        for from in [&node, &router] {
            assert_eq!(refuse(&config, from, &net(text), &said), refusal, "{text} {said:?}");
        }
    }
    let mut four = router.clone();
    four.families = vec![Family::Ipv4];
    assert_eq!(refuse(&config, &four, &net("fd09::/64"), &six()), Some(Refusal::Family));
}

#[test]
fn a_path_from_another_as_begins_with_it() {
    let (config, node, router) = (config(), session(2, ASN), session(3, 65001));
    let set = Attributes { path: vec![Segment::Set(vec![65001])], ..Attributes::default() };
    let first = |from, attributes| refuse_path(&config, from, &hop("10.0.0.9", attributes));
    assert_eq!(first(&router, through(&[65001])), None);
    for wrong in [through(&[]), through(&[65002, 65001]), set] {
        assert_eq!(first(&router, wrong.clone()), Some(Refusal::FirstAs));
        assert_eq!(first(&node, wrong), None);
    }
}

#[test]
fn what_went_through_this_reflector_does_not_come_back() {
    let (config, node, router) = (reflector(), session(2, ASN), session(3, 65001));
    let began = Attributes { originator: Some(config.own.id), ..through(&[65001]) };
    let went = Attributes { clusters: vec![[9, 9, 9, 9].into()], ..through(&[65001]) };
    let other = Attributes { clusters: vec![[9, 9, 9, 8].into()], ..through(&[65001]) };
    let said = |attributes: &Attributes| hop("10.0.0.9", attributes.clone());
    assert_eq!(refuse_path(&config, &node, &said(&began)), Some(Refusal::Originator));
    assert_eq!(refuse_path(&config, &node, &said(&went)), Some(Refusal::Cluster));
    assert_eq!(refuse_path(&config, &node, &said(&other)), None);
    // From another AS these say nothing.
    assert_eq!(refuse_path(&config, &router, &said(&went)), None);
    let all = Attributes { local_pref: Some(7), ..went.clone() };
    assert_eq!(receive(&router, all.clone()), through(&[65001]));
    assert_eq!(receive(&node, all.clone()), all);
}

#[test]
fn own_networks_go_to_whom_they_may() {
    let pods = Source::Local(Kind { pods: true, services: false });
    let service = Source::Local(Kind { pods: false, services: true });
    let both = Source::Local(Kind { pods: true, services: true });
    let (node, router) = (session(2, ASN), session(3, 65001));
    for (inside, outside) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut config = config();
        (config.export.pods_inside, config.export.pods_outside) = (inside, outside);
        let goes = |to, source| export(&config, to, Family::Ipv4, source).is_some();
        assert_eq!((goes(&node, pods), goes(&router, pods)), (inside, outside));
        assert_eq!((goes(&node, service), goes(&router, service)), (false, true));
        assert_eq!((goes(&node, both), goes(&router, both)), (inside, true));
    }
}

#[test]
fn an_own_network_is_dressed_for_whom_it_goes_to() {
    let mut config = config();
    config.export.communities = vec![NO_EXPORT, 7, 7];
    config.export.prepend = Some((65077, 2));
    let source = Source::Local(Kind { pods: true, services: false });
    let said = |to: &Session| export(&config, to, Family::Ipv4, source).unwrap();

    let inside = Attributes { local_pref: Some(100), ..through(&[]) };
    assert_eq!(said(&session(2, ASN)), Told { next_hop: ip("10.0.0.1"), attributes: inside });
    let communities = vec![7, NO_EXPORT];
    let router = Attributes { communities, ..through(&[ASN, 65077, 65077]) };
    assert_eq!(said(&session(3, 65001)).attributes, router);
    let same_as = Attributes { local_pref: Some(100), ..router.clone() };
    let same_as = Attributes { path: through(&[65077, 65077]).path, ..same_as };
    assert_eq!(said(&Session { outside: true, ..session(4, ASN) }).attributes, same_as);
    // A node of another AS is a node.
    let other = said(&Session { outside: false, ..session(5, 65005) }).attributes;
    assert_eq!(other, through(&[ASN]));
}

#[test]
fn the_own_next_hop_is_the_address_of_the_connection_or_one_of_the_family() {
    let mut config = config();
    let source = Source::Local(Kind { pods: true, services: false });
    let to = Session { local: ip("10.0.0.7"), ..session(2, ASN) };
    let hop = |config: &Config, to: &Session, family| {
        export(config, to, family, source).map(|told| told.next_hop)
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
fn only_a_reflector_passes_on_and_as_rfc_4456_has_it() {
    let (from, to) = (session(2, ASN), session(3, ASN));
    let said = hop("10.0.0.9", Attributes { med: Some(5), ..through(&[65001]) });
    let goes = |from: &Session, to: &Session| {
        export(&reflector(), to, Family::Ipv4, learned(from, &said)).is_some()
    };
    let client = |of: &Session| Session { client: true, ..of.clone() };
    assert_eq!(export(&config(), &to, Family::Ipv4, learned(&client(&from), &said)), None);
    assert!(goes(&client(&from), &client(&to)));
    assert!(goes(&client(&from), &to));
    assert!(goes(&from, &client(&to)));
    assert!(!goes(&from, &to));
    assert!(!goes(&client(&from), &client(&from)));
    let router = session(4, 65001);
    assert!(goes(&router, &to) && goes(&from, &router) && goes(&router, &session(5, 65002)));
    assert!(!goes(&router, &router));
}

#[test]
fn a_reflected_path_keeps_what_it_has_and_says_where_it_was() {
    let (from, to) = (Session { client: true, ..session(2, ASN) }, session(3, ASN));
    let mut config = reflector();
    config.export.next_hop_self = true;
    let as_it_came = Attributes {
        med: Some(5),
        local_pref: Some(200),
        others: vec![Other { code: 99, flags: 0xc0, value: Box::new([1]) }],
        ..through(&[65001])
    };
    let said = hop("10.0.0.9", as_it_came.clone());
    let expected = Attributes {
        originator: Some(from.id),
        clusters: vec![[9, 9, 9, 9].into()],
        ..as_it_came.clone()
    };
    let told = export(&config, &to, Family::Ipv4, learned(&from, &said)).unwrap();
    assert_eq!(told, Told { next_hop: ip("10.0.0.9"), attributes: expected });
    let outside = Session { outside: true, ..to.clone() };
    let told = export(&config, &outside, Family::Ipv4, learned(&from, &said)).unwrap();
    assert_eq!(told.next_hop, ip("10.0.0.1"), "--override-nexthop is for routers outside");

    let again = hop(
        "10.0.0.9",
        Attributes {
            originator: Some([1, 1, 1, 1].into()),
            clusters: vec![[8, 8, 8, 8].into()],
            ..through(&[])
        },
    );
    let told = export(&config, &to, Family::Ipv4, learned(&from, &again)).unwrap().attributes;
    assert_eq!(told.originator, Some([1, 1, 1, 1].into()));
    assert_eq!(told.clusters, [[9, 9, 9, 9], [8, 8, 8, 8]].map(Ipv4Addr::from));
    assert_eq!(told.local_pref, Some(100));
    let origin = Session { id: [1, 1, 1, 1].into(), ..to };
    assert_eq!(export(&config, &origin, Family::Ipv4, learned(&from, &again)), None);
}

#[test]
fn another_as_is_told_nothing_of_what_is_for_one_as() {
    let (from, to) = (session(2, ASN), session(4, 65009));
    let mut said = hop(
        "10.0.0.9",
        Attributes {
            med: Some(5),
            local_pref: Some(200),
            originator: Some([1, 1, 1, 1].into()),
            clusters: vec![[8, 8, 8, 8].into()],
            ..through(&[65001])
        },
    );
    said.attributes.path.insert(0, Segment::Confederation(true, vec![65100]));
    let told = export(&reflector(), &to, Family::Ipv4, learned(&from, &said)).unwrap();
    assert_eq!(told, Told { next_hop: ip("10.0.0.1"), attributes: through(&[ASN, 65001]) });
    // And it is not asked to send here what can't be sent on.
    let unusable = Source::Learned { from: &from, said: &said, usable: false };
    assert_eq!(export(&reflector(), &to, Family::Ipv4, unusable), None);
    let client = Session { client: true, ..session(3, ASN) };
    let told = export(&reflector(), &client, Family::Ipv4, unusable).unwrap();
    assert_eq!(told.next_hop, ip("10.0.0.9"));
}

#[test]
fn what_came_from_another_as_keeps_its_next_hop_unless_told_otherwise() {
    let (from, to) = (session(4, 65001), session(2, ASN));
    let said = hop("10.0.0.9", Attributes { med: Some(5), ..through(&[65001]) });
    let mut config = reflector();
    let told = export(&config, &to, Family::Ipv4, learned(&from, &said)).unwrap();
    let attributes = Attributes { local_pref: Some(100), ..said.attributes.clone() };
    assert_eq!(told, Told { next_hop: ip("10.0.0.9"), attributes });
    config.export.next_hop_self = true;
    let told = export(&config, &to, Family::Ipv4, learned(&from, &said)).unwrap();
    assert_eq!(told.next_hop, ip("10.0.0.1"));
}

#[test]
fn well_known_communities_are_heeded() {
    let (from, inside) = (session(4, 65001), session(2, ASN));
    let outside = session(5, 65002);
    for (community, goes) in [
        (NO_EXPORT, (true, false)),
        (NO_EXPORT_SUBCONFED, (true, false)),
        (NO_ADVERTISE, (false, false)),
        (7, (true, true)),
    ] {
        let said =
            hop("10.0.0.9", Attributes { communities: vec![community], ..through(&[65001]) });
        let told = |to| export(&reflector(), to, Family::Ipv4, learned(&from, &said)).is_some();
        assert_eq!((told(&inside), told(&outside)), goes, "{community:x}");
    }
}

#[test]
fn what_fits_no_message_is_not_told() {
    let (from, to) = (session(4, 65001), session(2, ASN));
    let said = |count| {
        hop("10.0.0.9", Attributes { communities: (0..count).collect(), ..through(&[65001]) })
    };
    for (count, goes) in [(900, true), (1100, false)] {
        let told = export(&reflector(), &to, Family::Ipv4, learned(&from, &said(count)));
        assert_eq!(told.is_some(), goes, "{count}");
    }
}
