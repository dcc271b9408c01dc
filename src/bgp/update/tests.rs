//! RFC 7606, row by row.

use super::*;

const OUTSIDE: Agreed = Agreed { four_octet: true, internal: false };
const INSIDE: Agreed = Agreed { four_octet: true, internal: true };
const OLD: Agreed = Agreed { four_octet: false, internal: true };

const GOOD_ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const GOOD_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8];
const GOOD_PATH_OLD: &[u8] = &[0x40, 2, 4, 2, 1, 0xfd, 0xe8];
const GOOD_HOP: &[u8] = &[0x40, 3, 4, 10, 0, 0, 1];
/// 2001:db8:1::/48 by way of fd00::1.
const GOOD_REACH: &[u8] = &[
    0x80, 14, 28, 0, 2, 1, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 48, 0x20, 1,
    0xd, 0xb8, 0, 1,
];
/// 2001:db8:2::/48.
const GOOD_UNREACH: &[u8] = &[0x80, 15, 10, 0, 2, 1, 48, 0x20, 1, 0xd, 0xb8, 0, 2];
/// 10.1.0.0/16.
const NETS: &[u8] = &[16, 10, 1];

/// What is changed in a byte: each bit, and all.
const NOISE: [u8; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 255];

fn body(withdrawn: &[u8], attributes: &[&[u8]], nets: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let length = |bytes: &[u8]| (bytes.len() as u16).to_be_bytes();
    [&length(withdrawn)[..], withdrawn, &length(&attributes), &attributes, nets].concat()
}

fn nets(update: &Update) -> Vec<String> {
    update.reach.iter().flat_map(|reach| &reach.nets).map(ToString::to_string).collect()
}

/// What became of a message with the good attributes and a bad one behind them.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Cost {
    Nothing,
    Discard,
    Withdraw,
    Reset(u8),
}

fn cost(agreed: Agreed, attributes: &[&[u8]]) -> Cost {
    match read(&body(&[], attributes, NETS), agreed) {
        Err(notification) => {
            assert_eq!(notification.code, 3);
            Cost::Reset(notification.subcode)
        }
        Ok(update) if update.reach.is_empty() => {
            assert!(!update.faults.is_empty());
            assert!(update.withdrawn.contains(&"10.1.0.0/16".parse().unwrap()), "{update:?}");
            assert_eq!(update.attributes, Attributes::default());
            Cost::Withdraw
        }
        Ok(update) => {
            assert_eq!((nets(&update)[0].as_str(), update.withdrawn.len()), ("10.1.0.0/16", 0));
            if update.faults.is_empty() { Cost::Nothing } else { Cost::Discard }
        }
    }
}

#[test]
fn each_error_costs_what_rfc_7606_says() {
    use Cost::*;
    let rows: &[(&str, Agreed, &[u8], Cost)] = &[
        (
            "3c: an optional MULTI_EXIT_DISC that is transitive",
            OUTSIDE,
            &[0xc0, 4, 4, 0, 0, 0, 1],
            Withdraw,
        ),
        ("3c: COMMUNITIES that are not transitive", OUTSIDE, &[0x80, 8, 4, 0, 0, 0, 1], Withdraw),
        ("3c: ATOMIC_AGGREGATE that is optional", OUTSIDE, &[0xc0, 6, 0], Withdraw),
        ("3c: the partial bit is no conflict", OUTSIDE, &[0xe0, 8, 4, 0, 0, 0, 1], Nothing),
        ("3g: ORIGIN twice", OUTSIDE, &[0x40, 1, 1, 2], Discard),
        ("3g: ORIGIN twice, the second broken", OUTSIDE, &[0x40, 1, 2, 9, 9], Discard),
        ("3g: an unknown one twice", OUTSIDE, &[0xc0, 99, 0, 0xc0, 99, 0], Discard),
        ("3g: MP_REACH_NLRI twice", OUTSIDE, &[GOOD_REACH, GOOD_REACH].concat(), Reset(1)),
        ("3g: MP_UNREACH_NLRI twice", OUTSIDE, &[GOOD_UNREACH, GOOD_UNREACH].concat(), Reset(1)),
        ("3h: the worst counts", OUTSIDE, &[0x80, 4, 1, 0, 0x40, 99, 0], Reset(2)),
        ("4: an attribute beyond the end", OUTSIDE, &[0x80, 4, 200, 0], Withdraw),
        ("4: no room for a length", OUTSIDE, &[0x80, 4], Withdraw),
        ("4: no room for an extended length", OUTSIDE, &[0x90, 4, 0], Withdraw),
        ("4: one byte", OUTSIDE, &[0x80], Withdraw),
        ("4: an unknown one beyond the end", OUTSIDE, &[0xc0, 99, 1], Withdraw),
        ("5.3: MP_REACH_NLRI beyond the end", OUTSIDE, &[0x80, 14, 100, 0, 2, 1], Reset(1)),
        ("5.3: MP_REACH_NLRI with wrong flags", OUTSIDE, &[0xc0, 14, 5, 0, 2, 1, 0, 0], Reset(9)),
        ("5.3: MP_REACH_NLRI of less than 5 bytes", OUTSIDE, &[0x80, 14, 4, 0, 2, 1, 0], Reset(9)),
        ("5.3: MP_UNREACH_NLRI of less than 3 bytes", OUTSIDE, &[0x80, 15, 2, 0, 2], Reset(9)),
        ("5.3: MP_UNREACH_NLRI with wrong flags", OUTSIDE, &[0x40, 15, 3, 0, 2, 1], Reset(9)),
        (
            "5.3: an IPv6 prefix of 129",
            OUTSIDE,
            &[&[0x80, 15, 21, 0, 2, 1, 129], &[0; 17][..]].concat(),
            Reset(9),
        ),
        (
            "5.3: an IPv4 prefix of 33",
            OUTSIDE,
            &[0x80, 15, 9, 0, 1, 1, 33, 1, 2, 3, 4, 5],
            Reset(9),
        ),
        ("5.3: a prefix beyond the end", OUTSIDE, &[0x80, 15, 6, 0, 2, 1, 48, 1, 2], Reset(9)),
        ("7.4: MULTI_EXIT_DISC of 3 bytes", OUTSIDE, &[0x80, 4, 3, 0, 0, 0], Withdraw),
        ("7.4: MULTI_EXIT_DISC of none", OUTSIDE, &[0x80, 4, 0], Withdraw),
        ("7.5: LOCAL_PREF from another AS", OUTSIDE, &[0x40, 5, 4, 0, 0, 0, 1], Discard),
        ("7.5: a broken one from another AS", OUTSIDE, &[0x40, 5, 1, 0], Discard),
        ("7.5: LOCAL_PREF of 5 bytes", INSIDE, &[0x40, 5, 5, 0, 0, 0, 0, 1], Withdraw),
        ("7.6: ATOMIC_AGGREGATE of 1 byte", OUTSIDE, &[0x40, 6, 1, 0], Discard),
        (
            "7.7: AGGREGATOR of 6 bytes of four octets",
            OUTSIDE,
            &[0xc0, 7, 6, 0, 1, 10, 0, 0, 1],
            Discard,
        ),
        (
            "7.7: AGGREGATOR of 8 bytes of two octets",
            OLD,
            &[0xc0, 7, 8, 0, 0, 0, 1, 10, 0, 0, 1],
            Discard,
        ),
        ("RFC 7607: AGGREGATOR of AS 0", OUTSIDE, &[0xc0, 7, 8, 0, 0, 0, 0, 10, 0, 0, 1], Discard),
        ("7.8: COMMUNITIES of 6 bytes", OUTSIDE, &[0xc0, 8, 6, 0, 0, 0, 1, 0, 0], Withdraw),
        ("7.8: COMMUNITIES of none", OUTSIDE, &[0xc0, 8, 0], Withdraw),
        ("7.9: ORIGINATOR_ID from another AS", OUTSIDE, &[0x80, 9, 4, 1, 2, 3, 4], Discard),
        ("7.9: ORIGINATOR_ID of 3 bytes", INSIDE, &[0x80, 9, 3, 1, 2, 3], Withdraw),
        ("7.10: CLUSTER_LIST from another AS", OUTSIDE, &[0x80, 10, 3, 1, 2, 3], Discard),
        ("7.10: CLUSTER_LIST of 5 bytes", INSIDE, &[0x80, 10, 5, 1, 2, 3, 4, 5], Withdraw),
        ("7.10: CLUSTER_LIST of none", INSIDE, &[0x80, 10, 0], Withdraw),
        (
            "7.11: a next hop of 17 bytes",
            OUTSIDE,
            &[&[0x80, 14, 22, 0, 2, 1, 17], &[0; 18][..]].concat(),
            Reset(9),
        ),
        (
            "7.11: an IPv4 next hop of 16 bytes",
            OUTSIDE,
            &[&[0x80, 14, 21, 0, 1, 1, 16], &[0; 17][..]].concat(),
            Reset(9),
        ),
        ("7.11: a next hop beyond the end", OUTSIDE, &[0x80, 14, 6, 0, 2, 1, 16, 0, 0], Reset(9)),
        (
            "a next hop that is no host",
            OUTSIDE,
            &[&[0x80, 14, 21, 0, 2, 1, 16], &[0; 17][..]].concat(),
            Withdraw,
        ),
        (
            "7.14: EXTENDED COMMUNITIES of 9 bytes",
            OUTSIDE,
            &[&[0xc0, 16, 9], &[0; 9][..]].concat(),
            Withdraw,
        ),
        ("7.14: EXTENDED COMMUNITIES of none", OUTSIDE, &[0xc0, 16, 0], Withdraw),
        (
            "7.15: IPv6 EXTENDED COMMUNITIES of 8 bytes",
            OUTSIDE,
            &[&[0xc0, 25, 8], &[0; 8][..]].concat(),
            Withdraw,
        ),
        (
            "RFC 8092: LARGE_COMMUNITY of 13 bytes",
            OUTSIDE,
            &[&[0xc0, 32, 13], &[0; 13][..]].concat(),
            Withdraw,
        ),
        (
            "RFC 6793: AS4_PATH from a speaker of four octets",
            OUTSIDE,
            &[0xc0, 17, 6, 2, 1, 0, 0, 0, 1],
            Discard,
        ),
        (
            "RFC 6793: AS4_PATH with a broken segment",
            OLD,
            &[0xc0, 17, 6, 2, 2, 0, 0, 0, 1],
            Discard,
        ),
        ("RFC 6793: AS4_PATH of none", OLD, &[0xc0, 17, 0], Discard),
        ("RFC 6793: AS4_AGGREGATOR of 6 bytes", OLD, &[0xc0, 18, 6, 0, 1, 1, 2, 3, 4], Discard),
        ("RFC 4271 6.3: an unknown well-known one", OUTSIDE, &[0x40, 99, 0], Reset(2)),
        ("an unknown one that is not transitive", OUTSIDE, &[0x80, 99, 1, 0], Nothing),
        ("a family that is not spoken of", OUTSIDE, &[0x80, 14, 6, 0, 25, 70, 0, 0, 9], Nothing),
    ];
    for (why, agreed, bad, expected) in rows {
        let path = if agreed.four_octet { GOOD_PATH } else { GOOD_PATH_OLD };
        assert_eq!(cost(*agreed, &[GOOD_ORIGIN, path, GOOD_HOP, bad]), *expected, "{why}");
    }
}

#[test]
fn a_broken_or_missing_mandatory_attribute_costs_the_routes() {
    let rows: &[(&str, [&[u8]; 3])] = &[
        ("7.1: ORIGIN of 2 bytes", [&[0x40, 1, 2, 0, 0], GOOD_PATH, GOOD_HOP]),
        ("7.1: ORIGIN of none", [&[0x40, 1, 0], GOOD_PATH, GOOD_HOP]),
        ("7.1: an unknown ORIGIN", [&[0x40, 1, 1, 3], GOOD_PATH, GOOD_HOP]),
        ("3c: an optional ORIGIN", [&[0xc0, 1, 1, 0], GOOD_PATH, GOOD_HOP]),
        ("3d: no ORIGIN", [&[], GOOD_PATH, GOOD_HOP]),
        (
            "7.2: a segment of an unknown type",
            [GOOD_ORIGIN, &[0x40, 2, 6, 9, 1, 0, 0, 0, 1], GOOD_HOP],
        ),
        ("7.2: a segment beyond the end", [GOOD_ORIGIN, &[0x40, 2, 6, 2, 2, 0, 0, 0, 1], GOOD_HOP]),
        ("7.2: a byte that is left", [GOOD_ORIGIN, &[0x40, 2, 7, 2, 1, 0, 0, 0, 1, 2], GOOD_HOP]),
        ("7.2: an empty segment", [GOOD_ORIGIN, &[0x40, 2, 2, 2, 0], GOOD_HOP]),
        ("RFC 7607: AS 0", [GOOD_ORIGIN, &[0x40, 2, 6, 2, 1, 0, 0, 0, 0], GOOD_HOP]),
        ("RFC 5065: a confederation", [GOOD_ORIGIN, &[0x40, 2, 6, 3, 1, 0, 0, 0, 1], GOOD_HOP]),
        ("3c: an AS_PATH that is not transitive", [GOOD_ORIGIN, &[0, 2, 0], GOOD_HOP]),
        ("3d: no AS_PATH", [GOOD_ORIGIN, &[], GOOD_HOP]),
        ("7.3: NEXT_HOP of 16 bytes", [GOOD_ORIGIN, GOOD_PATH, &[0x40, 3, 3, 10, 0, 0]]),
        ("7.3: NEXT_HOP that is no host", [GOOD_ORIGIN, GOOD_PATH, &[0x40, 3, 4, 0, 0, 0, 0]]),
        ("7.3: NEXT_HOP that is many hosts", [GOOD_ORIGIN, GOOD_PATH, &[0x40, 3, 4, 224, 0, 0, 5]]),
        ("3d: no NEXT_HOP", [GOOD_ORIGIN, GOOD_PATH, &[]]),
    ];
    for (why, attributes) in rows {
        assert_eq!(cost(OUTSIDE, attributes), Cost::Withdraw, "{why}");
    }
    assert_eq!(cost(OUTSIDE, &[GOOD_ORIGIN, GOOD_PATH, GOOD_HOP]), Cost::Nothing);
    assert_eq!(
        cost(OUTSIDE, &[GOOD_ORIGIN, &[0x40, 2, 0], GOOD_HOP]),
        Cost::Nothing,
        "an empty AS_PATH"
    );
}

#[test]
fn all_routes_of_a_broken_message_are_withdrawn_with_those_that_it_withdraws() {
    let attributes = [GOOD_REACH, GOOD_UNREACH, &[0x40, 1, 1, 9], GOOD_PATH, GOOD_HOP];
    let update = read(&body(&[8, 11], &attributes, NETS), OUTSIDE).unwrap();
    let mut withdrawn: Vec<String> = update.withdrawn.iter().map(ToString::to_string).collect();
    withdrawn.sort();
    assert_eq!(withdrawn, ["10.1.0.0/16", "11.0.0.0/8", "2001:db8:1::/48", "2001:db8:2::/48"]);
    assert_eq!(update.faults, ["ORIGIN: unknown value: its routes count as withdrawn"]);
}

#[test]
fn an_error_without_routes_costs_the_connection_unless_it_can_be_left_out() {
    let read = |attributes: &[&[u8]]| read(&body(&[8, 11], attributes, &[]), OUTSIDE);
    let bad_origin: &[u8] = &[0x40, 1, 1, 9];
    assert_eq!(read(&[bad_origin]).unwrap_err(), Notification::with(3, 6, bad_origin));
    assert_eq!(read(&[GOOD_UNREACH, &[0x80, 4, 9, 0]]).unwrap_err(), Notification::new(3, 1));
    let left_out = read(&[&[0x40, 6, 1, 0]]).unwrap();
    assert_eq!((left_out.withdrawn.len(), left_out.faults.len()), (1, 1));
    assert_eq!(
        read(&[GOOD_ORIGIN]).unwrap().faults,
        Vec::<String>::new(),
        "nothing is mandatory there"
    );
    assert_eq!(read(&[&[0x40, 99, 0]]).unwrap_err(), Notification::with(3, 2, &[0x40, 99, 0]));
}

#[test]
fn fields_that_do_not_fit_cost_the_connection() {
    let subcode = |body: &[u8]| read(body, OUTSIDE).unwrap_err().subcode;
    assert_eq!(subcode(&[0, 1, 0, 0]), 1, "no room for the second length");
    assert_eq!(subcode(&[0, 9, 0, 0]), 1, "withdrawn routes beyond the end");
    assert_eq!(subcode(&[0, 0, 0, 1]), 1, "attributes beyond the end");
    assert_eq!(subcode(&body(&[33, 1, 2, 3, 4, 5], &[], &[])), 10);
    assert_eq!(subcode(&body(&[24, 1], &[], &[])), 10);
    assert_eq!(subcode(&body(&[], &[GOOD_ORIGIN, GOOD_PATH, GOOD_HOP], &[40, 1, 2, 3, 4, 5])), 10);
}

#[test]
fn the_first_of_two_counts_and_so_many_faults_are_told() {
    let twice: &[u8] = &[0x40, 1, 1, 2];
    let mut attributes = vec![GOOD_ORIGIN, GOOD_PATH, GOOD_HOP];
    attributes.extend([twice; 20]);
    let update = read(&body(&[], &attributes, NETS), OUTSIDE).unwrap();
    assert_eq!((update.attributes.origin, update.faults.len()), (Origin::Igp, TOLD));
    assert_eq!(update.faults[0], "ORIGIN: there twice: left out");
}

#[test]
fn what_is_unknown_and_transitive_is_passed_on_as_partial() {
    let attributes =
        [GOOD_ORIGIN, GOOD_PATH, GOOD_HOP, &[0xd0, 99, 0, 1, 7], &[0xc0, 40, 0], &[0x80, 98, 1, 7]];
    let update = read(&body(&[], &attributes, NETS), OUTSIDE).unwrap();
    let other = |code, value: &[u8]| Other { code, flags: 0xe0, value: value.into() };
    assert_eq!(update.attributes.others, [other(40, &[]), other(99, &[7])]);
    let mut bytes = Vec::new();
    write(&update, OUTSIDE, &mut |body| bytes.extend_from_slice(body));
    assert_eq!(
        bytes,
        body(&[], &[GOOD_ORIGIN, GOOD_PATH, GOOD_HOP, &[0xe0, 40, 0], &[0xe0, 99, 1, 7]], NETS)
    );
}

#[test]
fn a_route_that_is_withdrawn_and_there_is_there() {
    let attributes = [GOOD_ORIGIN, GOOD_PATH, GOOD_HOP];
    let update = read(&body(&[16, 10, 1, 8, 11], &attributes, NETS), OUTSIDE).unwrap();
    assert_eq!(
        (nets(&update), update.withdrawn),
        (vec!["10.1.0.0/16".into()], vec!["11.0.0.0/8".parse().unwrap()])
    );
}

#[test]
fn ipv4_in_multiprotocol_form_is_the_same() {
    let mp: &[u8] = &[0x80, 14, 12, 0, 1, 1, 4, 10, 0, 0, 1, 0, 16, 10, 2];
    let update = read(&body(&[], &[mp, GOOD_ORIGIN, GOOD_PATH, GOOD_HOP], NETS), OUTSIDE).unwrap();
    assert_eq!(
        (update.reach.len(), nets(&update)),
        (1, vec!["10.1.0.0/16".into(), "10.2.0.0/16".into()])
    );
    let alone = read(&body(&[], &[mp, GOOD_ORIGIN, GOOD_PATH], &[]), OUTSIDE).unwrap();
    assert_eq!((nets(&alone), alone.faults), (vec!["10.2.0.0/16".into()], vec![]));
    let gone = read(&body(&[], &[&[0x80, 15, 6, 0, 1, 1, 16, 10, 2]], &[]), OUTSIDE).unwrap();
    assert_eq!(gone.withdrawn, ["10.2.0.0/16".parse().unwrap()]);
}

#[test]
fn an_end_of_rib_says_nothing_else() {
    let end = |body: &[u8]| read(body, OUTSIDE).unwrap().end;
    let none: &[u8] = &[0x80, 15, 3, 0, 2, 1];
    assert_eq!(end(&body(&[], &[], &[])), Some(Family::Ipv4));
    assert_eq!(end(&body(&[], &[none], &[])), Some(Family::Ipv6));
    assert_eq!(end(&body(&[], &[&[0x80, 15, 3, 0, 1, 1]], &[])), Some(Family::Ipv4));
    assert_eq!(end(&body(&[8, 11], &[none], &[])), None);
    assert_eq!(end(&body(&[], &[none, GOOD_ORIGIN, GOOD_PATH, GOOD_HOP], NETS)), None);
    assert_eq!(end(&body(&[], &[GOOD_ORIGIN], &[])), None);
    assert_eq!(end(&body(&[], &[&[0x80, 15, 3, 0, 25, 70]], &[])), None);
}

#[test]
fn of_two_next_hops_the_global_one_counts() {
    let hop = |first: [u8; 2]| {
        let mut mp = vec![0x80, 14, 44, 0, 2, 1, 32];
        mp.extend(first);
        mp.extend([0; 14]);
        mp.extend([0xfe, 0x80]);
        mp.extend([0; 13]);
        mp.extend([9, 0, 48, 0x20, 1, 0xd, 0xb8, 0, 1]);
        read(&body(&[], &[&mp, GOOD_ORIGIN, GOOD_PATH], &[]), OUTSIDE).unwrap().reach[0]
            .next_hop
            .to_string()
    };
    assert_eq!(hop([0xfd, 1]), "fd01::");
    assert_eq!(hop([0, 0]), "fe80::9", "who has no global one sends none");
}

#[test]
fn an_aggregator_of_four_octets_comes_and_goes_by_as4_aggregator() {
    let trans: &[u8] = &[0xc0, 7, 6, 0x5b, 0xa0, 1, 2, 3, 4];
    let four: &[u8] = &[0xc0, 18, 8, 0, 1, 0x11, 0x70, 1, 2, 3, 4];
    let path: &[u8] = &[0x40, 2, 4, 2, 1, 0x5b, 0xa0];
    let path4: &[u8] = &[0xc0, 17, 6, 2, 1, 0, 1, 0x11, 0x70];
    let aggregator = |one: &[u8]| {
        let attributes = [GOOD_ORIGIN, path, GOOD_HOP, one, path4, four];
        let bytes = body(&[], &attributes, NETS);
        let update = read(&bytes, OLD).unwrap();
        let mut again = Vec::new();
        write(&update, OLD, &mut |body| again.extend_from_slice(body));
        (
            update.attributes.aggregator.unwrap().0,
            update.attributes.first().unwrap(),
            again == bytes,
        )
    };
    assert_eq!(aggregator(trans), (70000, 70000, true));
    let newer: &[u8] = &[0xc0, 7, 6, 0, 5, 1, 2, 3, 4];
    assert_eq!(aggregator(newer), (5, 23456, false), "one of two octets has aggregated since");
}

#[test]
fn an_attribute_that_is_cut_or_noisy_costs_no_more_than_the_routes() {
    let whole: &[&[u8]] = &[
        GOOD_ORIGIN,
        GOOD_PATH,
        GOOD_HOP,
        &[0x80, 4, 4, 0, 0, 0, 1],
        &[0x40, 5, 4, 0, 0, 0, 1],
        &[0x40, 6, 0],
        &[0xc0, 7, 8, 0, 0, 0, 1, 10, 0, 0, 1],
        &[0xc0, 8, 8, 0, 0, 0, 1, 0, 0, 0, 2],
        &[0x80, 9, 4, 1, 2, 3, 4],
        &[0x80, 10, 8, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0xc0, 16, 8, 0, 2, 0, 1, 0, 0, 0, 1],
        &[0xc0, 32, 12, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1],
        &[0xc0, 99, 3, 1, 2, 3],
    ];
    for agreed in [OUTSIDE, INSIDE, OLD] {
        for (at, attribute) in whole.iter().enumerate() {
            let with = |changed: &[u8]| {
                let mut all = whole.to_vec();
                all[at] = changed;
                read(&body(&[], &all, NETS), agreed)
            };
            for cut in 3..attribute.len() {
                // Of the right length for its bytes: nothing else is touched.
                let mut changed = attribute[..cut].to_vec();
                changed[2] = cut as u8 - 3;
                let update =
                    with(&changed).unwrap_or_else(|e| panic!("{attribute:?} cut at {cut}: {e}"));
                assert_eq!(nets(&update).len() + update.withdrawn.len(), 1);
            }
            for byte in 3..attribute.len() {
                for noise in NOISE {
                    let mut changed = attribute.to_vec();
                    changed[byte] ^= noise;
                    let update = with(&changed).unwrap();
                    assert_eq!(nets(&update).len() + update.withdrawn.len(), 1);
                }
            }
            for byte in 0..3 {
                for noise in NOISE {
                    let mut changed = attribute.to_vec();
                    changed[byte] ^= noise;
                    // The rest may then read as anything; the routes are there in any case.
                    if let Ok(update) = with(&changed) {
                        let net = "10.1.0.0/16".parse().unwrap();
                        assert!(
                            update.withdrawn.contains(&net)
                                || nets(&update).contains(&"10.1.0.0/16".into())
                        );
                    }
                }
            }
        }
    }
}
