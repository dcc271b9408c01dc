//! What BIRD and FRR really said, and what each message means.

use super::*;
use crate::bgp::{
    attribute::{Other, Segment::Sequence},
    capability::Restart,
};

const OUTSIDE: Agreed = Agreed { four_octet: true, internal: false };
const TWO_OCTETS: Agreed = Agreed { four_octet: false, internal: false };
const INSIDE: Agreed = Agreed { four_octet: true, internal: true };

const BIRD: u32 = 4_200_000_001;
const FRR: u32 = 65010;

/// Whether the same bytes are written; others choose other flags, orders and capabilities.
#[derive(PartialEq)]
enum Written {
    Same,
    Otherwise,
}

use Written::{Otherwise, Same};

/// What is changed in a byte: each bit, and all.
const NOISE: [u8; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 255];

fn captured() -> Vec<(&'static str, Vec<u8>)> {
    let lines = include_str!("../../../tests/fixtures/bgp-messages.txt").lines();
    lines
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, hex) = line.split_once(' ').unwrap();
            let bytes = hex.as_bytes().chunks(2).map(|two| std::str::from_utf8(two).unwrap());
            (name, bytes.map(|two| u8::from_str_radix(two, 16).unwrap()).collect())
        })
        .collect()
}

fn open(asn: u32, hold: u16, id: &str, restarting: bool, four_octet: bool) -> Message {
    let families = Family::ALL.map(|family| (family, false)).to_vec();
    Message::Open(Open {
        asn,
        hold,
        id: id.parse().unwrap(),
        capabilities: Capabilities {
            families: Family::ALL.to_vec(),
            refresh: true,
            four_octet,
            restart: Some(Restart { restarting, time: 120, families }),
        },
    })
}

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn withdrawn(texts: &[&str]) -> Message {
    Message::Update(Update { withdrawn: nets(texts), ..Update::default() })
}

fn end(family: Family) -> Message {
    Message::Update(Update { end: Some(family), ..Update::default() })
}

fn reach(next_hop: &str, texts: &[&str], path: &[u32], attributes: Attributes) -> Message {
    let path = if path.is_empty() { vec![] } else { vec![Sequence(path.to_vec())] };
    Message::Update(Update {
        reach: vec![Reach { next_hop: next_hop.parse().unwrap(), nets: nets(texts) }],
        attributes: Attributes { path, ..attributes },
        ..Update::default()
    })
}

/// LARGE_COMMUNITY, EXTENDED COMMUNITIES: kept as they are.
fn other(code: u8, value: &[u32]) -> Other {
    let value = value.iter().flat_map(|number| number.to_be_bytes()).collect();
    Other { code, flags: 0xc0, value }
}

fn community(high: u32, low: u32) -> u32 {
    high << 16 | low
}

/// By the name in messages.txt.
fn meaning(name: &str) -> (Agreed, Message, Written) {
    let none = Attributes::default;
    let inside = |med| Attributes { med, local_pref: Some(100), ..none() };
    let reflected = |attributes| Attributes {
        originator: Some(Ipv4Addr::new(10, 9, 0, 1)),
        clusters: vec![Ipv4Addr::new(9, 9, 9, 9)],
        ..attributes
    };
    let marked = |attributes| Attributes {
        communities: vec![community(FRR, 100), 0xffff_ff01],
        others: vec![other(32, &[BIRD, 7, 8])],
        ..attributes
    };
    let marked_v6 = |attributes| Attributes {
        communities: vec![community(FRR, 100)],
        others: vec![other(16, &[0x0002_fdf2, 9])], // a route target
        ..attributes
    };
    let aggregate = Attributes {
        med: Some(0),
        atomic: true,
        aggregator: Some((FRR, Ipv4Addr::new(10, 9, 0, 2))),
        ..none()
    };
    let med = |med| Attributes { med: Some(med), ..none() };
    let (bird6, frr6, loopback6) = ("fd09::1", "fd09::2", "2001:db8::7/128");
    match name {
        "bird-open" => (OUTSIDE, open(BIRD, 240, "10.9.0.1", false, true), Otherwise),
        "bird-open-two-octets" => (OUTSIDE, open(64512, 240, "10.9.0.1", false, false), Otherwise),
        "frr-open" => (OUTSIDE, open(FRR, 15, "10.9.0.2", true, true), Otherwise),
        "bird-keepalive" | "frr-keepalive" => (OUTSIDE, Message::Keepalive, Same),
        "bird-end-ipv4" | "frr-end-ipv4" => (OUTSIDE, end(Family::Ipv4), Same),
        "bird-end-ipv6" | "frr-end-ipv6" => (OUTSIDE, end(Family::Ipv6), Same),
        "bird-refresh-ipv4" => (OUTSIDE, Message::Refresh(Family::Ipv4), Same),
        "frr-refresh-ipv6" => (OUTSIDE, Message::Refresh(Family::Ipv6), Same),
        "bird-refresh-begins" | "frr-refresh-ends" => (OUTSIDE, Message::Unknown, Otherwise),
        "bird-update-ipv4" => {
            (OUTSIDE, reach("10.9.0.1", &["10.20.0.0/16"], &[BIRD], none()), Same)
        }
        "bird-update-med" => {
            (OUTSIDE, reach("10.9.0.1", &["10.21.3.128/25"], &[BIRD], med(50)), Same)
        }
        "bird-update-communities" => (
            OUTSIDE,
            reach("10.9.0.1", &["192.0.2.1/32"], &[BIRD, 64999, 64999], marked(none())),
            Same,
        ),
        "bird-update-ipv6" => {
            let nets = ["2001:db8:21::/49", "2001:db8:20::/48"];
            (OUTSIDE, reach(bird6, &nets, &[BIRD], none()), Otherwise)
        }
        "bird-update-ipv6-communities" => {
            (OUTSIDE, reach(bird6, &[loopback6], &[BIRD, 70000], marked_v6(none())), Otherwise)
        }
        "frr-update-ipv4" => {
            (OUTSIDE, reach("10.9.0.2", &["10.30.0.0/16"], &[FRR], med(0)), Otherwise)
        }
        "frr-update-aggregate" => {
            (OUTSIDE, reach("10.9.0.2", &["10.50.0.0/16"], &[FRR], aggregate), Otherwise)
        }
        "frr-update-ipv6" => {
            let nets = ["2001:db8:30::/48", "2001:db8:31::/64"];
            (OUTSIDE, reach(frr6, &nets, &[FRR], med(0)), Otherwise)
        }
        "bird-withdraw-ipv4" => {
            (OUTSIDE, withdrawn(&["10.21.3.128/25", "10.20.0.0/16", "192.0.2.1/32"]), Same)
        }
        "bird-withdraw-ipv6" => {
            (OUTSIDE, withdrawn(&["2001:db8:21::/49", "2001:db8:20::/48", loopback6]), Same)
        }
        "frr-withdraw-ipv4" => (OUTSIDE, withdrawn(&["10.30.0.0/16"]), Same),
        "frr-withdraw-ipv6" => (OUTSIDE, withdrawn(&["2001:db8:30::/48"]), Same),
        "bird-shutdown" => {
            (OUTSIDE, Message::Notification(Notification::shutdown("Upgrade at 10:00")), Same)
        }
        "frr-shutdown" => {
            (OUTSIDE, Message::Notification(Notification::shutdown("maintenance until noon")), Same)
        }
        "frr-bad-peer-as" => {
            (OUTSIDE, Message::Notification(Notification::with(2, 2, &[0xfd, 0xfc])), Same)
        }
        "bird-two-octets-update-as4-path" => {
            (TWO_OCTETS, reach(bird6, &[loopback6], &[64512, 70000], marked_v6(none())), Otherwise)
        }
        "bird-two-octets-update-communities" => (
            TWO_OCTETS,
            reach("10.9.0.1", &["192.0.2.1/32"], &[64512, 64999, 64999], marked(none())),
            Same,
        ),
        "frr-two-octets-update-as4-path" => (
            TWO_OCTETS,
            reach(frr6, &[loopback6], &[FRR, 64512, 70000], marked_v6(none())),
            Otherwise,
        ),
        "frr-two-octets-update-aggregate" => {
            (TWO_OCTETS, reach("10.9.0.2", &["10.50.0.0/16"], &[FRR], aggregate), Otherwise)
        }
        "bird-inside-update-ipv4" => {
            (INSIDE, reach("10.9.0.1", &["10.21.3.128/25"], &[], inside(Some(50))), Same)
        }
        "bird-inside-update-ipv6" => {
            (INSIDE, reach(bird6, &[loopback6], &[70000], marked_v6(inside(None))), Same)
        }
        "frr-reflected-ipv4" => {
            let attributes = reflected(marked(inside(Some(0))));
            (INSIDE, reach("10.9.0.1", &["192.0.2.1/32"], &[64999, 64999], attributes), Otherwise)
        }
        "frr-reflected-ipv6" => {
            let attributes = reflected(marked_v6(inside(Some(0))));
            (INSIDE, reach(bird6, &[loopback6], &[70000], attributes), Otherwise)
        }
        "frr-inside-update-prepended" => {
            let attributes = Attributes {
                communities: vec![community(FRR, 1), 0xffff_ff01],
                others: vec![other(32, &[FRR, 1, 2])],
                ..inside(Some(77))
            };
            (
                INSIDE,
                reach("10.9.0.2", &["10.31.1.0/24"], &[4_200_000_005, 65099], attributes),
                Otherwise,
            )
        }
        _ => panic!("{name}: nothing is known of it"),
    }
}

fn written(message: &Message, agreed: Agreed) -> Vec<u8> {
    let mut out = Vec::new();
    message.write(agreed, &mut out);
    out
}

#[test]
fn what_bird_and_frr_say_is_understood_and_said_as_well() {
    let captured = captured();
    assert_eq!(captured.len(), 37);
    for (name, bytes) in captured {
        let (agreed, message, how) = meaning(name);
        assert_eq!(frame(&bytes), Ok(Some(bytes.len())), "{name}");
        assert_eq!(Message::read(&bytes, agreed), Ok(message.clone()), "{name}");
        let out = written(&message, agreed);
        assert_eq!(out == bytes, how == Same, "{name}: {out:02x?}");
        if message != Message::Unknown {
            assert_eq!(Message::read(&out, agreed), Ok(message), "{name}");
        }
    }
}

#[test]
fn a_message_that_is_not_all_there_is_waited_for() {
    for (name, bytes) in captured() {
        for cut in 0..bytes.len() {
            assert_eq!(frame(&bytes[..cut]), Ok(None), "{name}, {cut} bytes");
        }
        let more = [&bytes[..], &[0xff; 3]].concat();
        assert_eq!(frame(&more), Ok(Some(bytes.len())), "{name}");
        assert_eq!(Message::read(&more, OUTSIDE).unwrap_err().code, 1, "{name}");
    }
}

#[test]
fn a_header_that_can_be_none_is_an_error_at_once() {
    let header = |length: u16, kind: u8| [&MARKER[..], &length.to_be_bytes(), &[kind]].concat();
    assert_eq!(frame(b"GET / HTTP/1.1"), Err(Notification::new(1, 1)));
    assert_eq!(frame(&[0xff, 0xfe]), Err(Notification::new(1, 1)));
    for kind in [0, 6, 128] {
        assert_eq!(frame(&header(23, kind)), Err(Notification::with(1, 3, &[kind])));
    }
    for (kind, bad, good) in [
        (OPEN, 28u16, 29),
        (UPDATE, 22, 23),
        (NOTIFICATION, 20, 21),
        (KEEPALIVE, 18, 19),
        (KEEPALIVE, 20, 19),
        (REFRESH, 22, 23),
        (UPDATE, 4097, 4096),
    ] {
        let length = bad.to_be_bytes();
        assert_eq!(
            frame(&header(bad, kind)),
            Err(Notification::with(1, 2, &length)),
            "{kind}: {bad}"
        );
        assert!(frame(&header(good, kind)).is_ok(), "{kind}: {good}");
    }
}

#[test]
fn an_open_with_a_bad_field_is_answered_by_its_own_subcode() {
    let open = captured().into_iter().find(|(name, _)| *name == "bird-open-two-octets").unwrap().1;
    let with = |at: usize, bytes: &[u8]| {
        let mut open = open.clone();
        open[HEADER + at..HEADER + at + bytes.len()].copy_from_slice(bytes);
        Message::read(&open, Agreed::default()).unwrap_err()
    };
    assert_eq!(with(0, &[3]), Notification::with(2, 1, &[0, 4]));
    assert_eq!(with(1, &[0, 0]), Notification::BAD_PEER_AS);
    assert_eq!(with(3, &[0, 2]), Notification::UNACCEPTABLE_HOLD_TIME);
    assert_eq!(with(5, &[0; 4]), Notification::BAD_BGP_ID);
    assert_eq!(with(10, &[1]).subcode, 4);
    assert_eq!(with(9, &[0]).subcode, 0);
}

#[test]
fn an_as_of_four_octets_stands_in_its_capability() {
    let message = open(70000, 90, "1.2.3.4", false, true);
    let bytes = written(&message, Agreed::default());
    assert_eq!(bytes[HEADER + 1..HEADER + 3], to_two(70000).to_be_bytes());
    assert_eq!(to_two(70000), 23456);
    assert_eq!(Message::read(&bytes, Agreed::default()), Ok(message));
}

#[test]
fn an_update_takes_as_many_messages_as_it_needs() {
    let v4: Vec<IpNet> = (0..3000u32)
        .map(|n| IpNet::new(Ipv4Addr::from(0x0a00_0000 + n).into(), 32).unwrap())
        .collect();
    let v6: Vec<IpNet> = (0..1000u128)
        .map(|n| IpNet::new(IpAddr::V6((0x2001_0db8 << 96 | n).into()), 128).unwrap())
        .collect();
    let update = Update {
        withdrawn: [&v4[..], &v6].concat(),
        reach: vec![
            Reach { next_hop: "10.0.0.1".parse().unwrap(), nets: v4.clone() },
            Reach { next_hop: "fd00::1".parse().unwrap(), nets: v6.clone() },
        ],
        attributes: Attributes { path: vec![Sequence(vec![70000; 300])], ..Attributes::default() },
        end: Some(Family::Ipv6),
        faults: vec![],
    };
    for agreed in [OUTSIDE, TWO_OCTETS] {
        let mut found = Update::default();
        let bytes = written(&Message::Update(update.clone()), agreed);
        let mut rest = &bytes[..];
        let mut count = 0;
        while let Ok(Some(length)) = frame(rest) {
            let Ok(Message::Update(one)) = Message::read(&rest[..length], agreed) else { panic!() };
            assert_eq!(one.faults, Vec::<String>::new());
            if let Some(reach) = one.reach.first() {
                assert_eq!(one.attributes.length(), 300);
                match found.reach.iter_mut().find(|found| found.next_hop == reach.next_hop) {
                    Some(found) => found.nets.extend(&reach.nets),
                    None => found.reach.extend(one.reach),
                }
            }
            found.withdrawn.extend(one.withdrawn);
            found.end = one.end;
            rest = &rest[length..];
            count += 1;
        }
        assert!(rest.is_empty() && count > 12, "{count}");
        assert_eq!(
            (found.withdrawn, found.reach, found.end),
            (update.withdrawn.clone(), update.reach.clone(), update.end)
        );
    }
    assert!(written(&Message::Update(Update::default()), OUTSIDE).is_empty());
}

#[test]
fn a_route_that_can_not_be_said_is_withdrawn() {
    let Message::Update(mut update) =
        reach("10.0.0.1", &["10.1.0.0/16"], &[1], Attributes::default())
    else {
        panic!()
    };
    update.attributes.others = vec![Other { code: 99, flags: 0xc0, value: vec![0; 4040].into() }];
    let bytes = written(&Message::Update(update.clone()), OUTSIDE);
    assert_eq!(Message::read(&bytes, OUTSIDE), Ok(withdrawn(&["10.1.0.0/16"])));
    update.attributes.others[0].value = vec![0; 100_000].into();
    assert_eq!(written(&Message::Update(update), OUTSIDE), bytes);
}

#[test]
fn noise_in_a_message_is_an_error_or_a_value_that_can_be_said() {
    for (name, bytes) in captured() {
        let agreed = meaning(name).0;
        for at in HEADER..bytes.len() {
            for noise in NOISE {
                let mut bytes = bytes.clone();
                bytes[at] ^= noise;
                let Ok(message) = Message::read(&bytes, agreed) else { continue };
                let mut rest = &written(&message, agreed)[..];
                while let Ok(Some(length)) = frame(rest) {
                    assert!(
                        Message::read(&rest[..length], agreed).is_ok(),
                        "{name}: {noise} at {at}"
                    );
                    rest = &rest[length..];
                }
                assert!(rest.is_empty(), "{name}: {noise} at {at}");
            }
        }
        for cut in HEADER..bytes.len() {
            let mut bytes = bytes[..cut].to_vec();
            bytes[16..18].copy_from_slice(&(cut as u16).to_be_bytes());
            let _ = Message::read(&bytes, agreed);
        }
    }
}
