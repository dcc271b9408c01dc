//! Tests of the error handling of RFC 7606; each row is named after the section of the RFC.

use super::*;

const OUTSIDE: Agreed = Agreed { four_octet: true, internal: false };
const INSIDE: Agreed = Agreed { four_octet: true, internal: true };
const OLD: Agreed = Agreed { four_octet: false, internal: true };

const GOOD_ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const GOOD_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8];
const GOOD_PATH_OLD: &[u8] = &[0x40, 2, 4, 2, 1, 0xfd, 0xe8];
const GOOD_HOP: &[u8] = &[0x40, 3, 4, 10, 0, 0, 1];
/// 2001:db8:1::/48 through the next hop fd00::1.
const GOOD_REACH: &[u8] = &[
    0x80, 14, 28, 0, 2, 1, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 48, 0x20, 1,
    0xd, 0xb8, 0, 1,
];
/// 2001:db8:2::/48.
const GOOD_UNREACH: &[u8] = &[0x80, 15, 10, 0, 2, 1, 48, 0x20, 1, 0xd, 0xb8, 0, 2];
/// 10.1.0.0/16.
const NETS: &[u8] = &[16, 10, 1];

/// The bits to flip in a byte: each one, and all.
const FLIPS: [u8; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 255];

fn body(withdrawn: &[u8], attributes: &[&[u8]], nets: &[u8]) -> Vec<u8> {
    let attributes = attributes.concat();
    let length = |bytes: &[u8]| (bytes.len() as u16).to_be_bytes();
    [&length(withdrawn)[..], withdrawn, &length(&attributes), &attributes, nets].concat()
}

fn nets(update: &Update) -> Vec<String> {
    update.reach.iter().flat_map(|reach| &reach.nets).map(ToString::to_string).collect()
}

/// The consequence of an error in a message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    NoError,
    Discard,
    Withdraw,
    Reset(u8),
}

fn outcome(agreed: Agreed, attributes: &[&[u8]]) -> Outcome {
    match read(&body(&[], attributes, NETS), agreed) {
        Err(notification) => {
            assert_eq!(notification.code, 3);
            Outcome::Reset(notification.subcode)
        }
        Ok(update) if update.reach.is_empty() => {
            assert!(!update.faults.is_empty());
            assert!(update.withdrawn.contains(&"10.1.0.0/16".parse().unwrap()), "{update:?}");
            assert_eq!(update.attributes, Attributes::default());
            Outcome::Withdraw
        }
        Ok(update) => {
            assert_eq!((nets(&update)[0].as_str(), update.withdrawn.len()), ("10.1.0.0/16", 0));
            if update.faults.is_empty() { Outcome::NoError } else { Outcome::Discard }
        }
    }
}

#[test]
fn each_error_has_the_consequence_that_rfc_7606_requires() {
    use Outcome::*;
    let rows: &[(&str, Agreed, &[u8], Outcome)] = &[
        ("3c: a transitive MULTI_EXIT_DISC", OUTSIDE, &[0xc0, 4, 4, 0, 0, 0, 1], Withdraw),
        ("3c: non-transitive COMMUNITIES", OUTSIDE, &[0x80, 8, 4, 0, 0, 0, 1], Withdraw),
        ("3c: an optional ATOMIC_AGGREGATE", OUTSIDE, &[0xc0, 6, 0], Withdraw),
        ("3c: the partial bit is allowed", OUTSIDE, &[0xe0, 8, 4, 0, 0, 0, 1], NoError),
        ("3g: ORIGIN twice", OUTSIDE, &[0x40, 1, 1, 2], Discard),
        ("3g: ORIGIN twice, the second malformed", OUTSIDE, &[0x40, 1, 2, 9, 9], Discard),
        ("3g: an unrecognized attribute twice", OUTSIDE, &[0xc0, 99, 0, 0xc0, 99, 0], Discard),
        ("3g: MP_REACH_NLRI twice", OUTSIDE, &[GOOD_REACH, GOOD_REACH].concat(), Reset(1)),
        ("3g: MP_UNREACH_NLRI twice", OUTSIDE, &[GOOD_UNREACH, GOOD_UNREACH].concat(), Reset(1)),
        ("3h: the most severe error decides", OUTSIDE, &[0x80, 4, 1, 0, 0x40, 99, 0], Reset(2)),
        ("4: an attribute beyond the end", OUTSIDE, &[0x80, 4, 200, 0], Withdraw),
        ("4: no byte for the length", OUTSIDE, &[0x80, 4], Withdraw),
        ("4: one byte for an extended length", OUTSIDE, &[0x90, 4, 0], Withdraw),
        ("4: one byte", OUTSIDE, &[0x80], Withdraw),
        ("4: an unrecognized attribute beyond the end", OUTSIDE, &[0xc0, 99, 1], Withdraw),
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
        ("7.4: MULTI_EXIT_DISC of 0 bytes", OUTSIDE, &[0x80, 4, 0], Withdraw),
        ("7.5: LOCAL_PREF from another AS", OUTSIDE, &[0x40, 5, 4, 0, 0, 0, 1], Discard),
        ("7.5: a malformed LOCAL_PREF from another AS", OUTSIDE, &[0x40, 5, 1, 0], Discard),
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
        ("7.8: COMMUNITIES of 0 bytes", OUTSIDE, &[0xc0, 8, 0], Withdraw),
        ("7.9: ORIGINATOR_ID from another AS", OUTSIDE, &[0x80, 9, 4, 1, 2, 3, 4], Discard),
        ("7.9: ORIGINATOR_ID of 3 bytes", INSIDE, &[0x80, 9, 3, 1, 2, 3], Withdraw),
        ("7.10: CLUSTER_LIST from another AS", OUTSIDE, &[0x80, 10, 3, 1, 2, 3], Discard),
        ("7.10: CLUSTER_LIST of 5 bytes", INSIDE, &[0x80, 10, 5, 1, 2, 3, 4, 5], Withdraw),
        ("7.10: CLUSTER_LIST of 0 bytes", INSIDE, &[0x80, 10, 0], Withdraw),
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
            "a next hop that is not a host address",
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
        ("7.14: EXTENDED COMMUNITIES of 0 bytes", OUTSIDE, &[0xc0, 16, 0], Withdraw),
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
            "RFC 6793: AS4_PATH with a malformed segment",
            OLD,
            &[0xc0, 17, 6, 2, 2, 0, 0, 0, 1],
            Discard,
        ),
        ("RFC 6793: AS4_PATH of 0 bytes", OLD, &[0xc0, 17, 0], Discard),
        ("RFC 6793: AS4_AGGREGATOR of 6 bytes", OLD, &[0xc0, 18, 6, 0, 1, 1, 2, 3, 4], Discard),
        ("RFC 4271 6.3: an unrecognized well-known attribute", OUTSIDE, &[0x40, 99, 0], Reset(2)),
        ("an unrecognized non-transitive attribute", OUTSIDE, &[0x80, 99, 1, 0], NoError),
        ("an unsupported family", OUTSIDE, &[0x80, 14, 6, 0, 25, 70, 0, 0, 9], NoError),
    ];
    for (why, agreed, bad, expected) in rows {
        let path = if agreed.four_octet { GOOD_PATH } else { GOOD_PATH_OLD };
        assert_eq!(outcome(*agreed, &[GOOD_ORIGIN, path, GOOD_HOP, bad]), *expected, "{why}");
    }
}

#[test]
fn a_malformed_or_missing_mandatory_attribute_withdraws_the_routes() {
    let rows: &[(&str, [&[u8]; 3])] = &[
        ("7.1: ORIGIN of 2 bytes", [&[0x40, 1, 2, 0, 0], GOOD_PATH, GOOD_HOP]),
        ("7.1: ORIGIN of 0 bytes", [&[0x40, 1, 0], GOOD_PATH, GOOD_HOP]),
        ("7.1: an unknown ORIGIN", [&[0x40, 1, 1, 3], GOOD_PATH, GOOD_HOP]),
        ("3c: an optional ORIGIN", [&[0xc0, 1, 1, 0], GOOD_PATH, GOOD_HOP]),
        ("3d: no ORIGIN", [&[], GOOD_PATH, GOOD_HOP]),
        (
            "7.2: a segment of an unknown type",
            [GOOD_ORIGIN, &[0x40, 2, 6, 9, 1, 0, 0, 0, 1], GOOD_HOP],
        ),
        ("7.2: a segment beyond the end", [GOOD_ORIGIN, &[0x40, 2, 6, 2, 2, 0, 0, 0, 1], GOOD_HOP]),
        ("7.2: a trailing byte", [GOOD_ORIGIN, &[0x40, 2, 7, 2, 1, 0, 0, 0, 1, 2], GOOD_HOP]),
        ("7.2: an empty segment", [GOOD_ORIGIN, &[0x40, 2, 2, 2, 0], GOOD_HOP]),
        ("RFC 7607: AS 0", [GOOD_ORIGIN, &[0x40, 2, 6, 2, 1, 0, 0, 0, 0], GOOD_HOP]),
        (
            "RFC 5065: a confederation segment from outside",
            [GOOD_ORIGIN, &[0x40, 2, 6, 3, 1, 0, 0, 0, 1], GOOD_HOP],
        ),
        ("3c: a non-transitive AS_PATH", [GOOD_ORIGIN, &[0, 2, 0], GOOD_HOP]),
        ("3d: no AS_PATH", [GOOD_ORIGIN, &[], GOOD_HOP]),
        ("7.3: NEXT_HOP of 3 bytes", [GOOD_ORIGIN, GOOD_PATH, &[0x40, 3, 3, 10, 0, 0]]),
        ("7.3: NEXT_HOP 0.0.0.0", [GOOD_ORIGIN, GOOD_PATH, &[0x40, 3, 4, 0, 0, 0, 0]]),
        ("7.3: a multicast NEXT_HOP", [GOOD_ORIGIN, GOOD_PATH, &[0x40, 3, 4, 224, 0, 0, 5]]),
        ("3d: no NEXT_HOP", [GOOD_ORIGIN, GOOD_PATH, &[]]),
    ];
    for (why, attributes) in rows {
        assert_eq!(outcome(OUTSIDE, attributes), Outcome::Withdraw, "{why}");
    }
    assert_eq!(outcome(OUTSIDE, &[GOOD_ORIGIN, GOOD_PATH, GOOD_HOP]), Outcome::NoError);
    assert_eq!(
        outcome(OUTSIDE, &[GOOD_ORIGIN, &[0x40, 2, 0], GOOD_HOP]),
        Outcome::NoError,
        "an empty AS_PATH"
    );
}

#[test]
fn treat_as_withdraw_adds_the_routes_to_the_withdrawn_ones() {
    let attributes = [GOOD_REACH, GOOD_UNREACH, &[0x40, 1, 1, 9], GOOD_PATH, GOOD_HOP];
    let update = read(&body(&[8, 11], &attributes, NETS), OUTSIDE).unwrap();
    let mut withdrawn: Vec<String> = update.withdrawn.iter().map(ToString::to_string).collect();
    withdrawn.sort();
    assert_eq!(withdrawn, ["10.1.0.0/16", "11.0.0.0/8", "2001:db8:1::/48", "2001:db8:2::/48"]);
    assert_eq!(update.faults, ["ORIGIN: unknown value: routes treated as withdrawn"]);
}

#[test]
fn an_error_in_a_message_without_routes_resets_the_session_unless_the_attribute_is_discarded() {
    let read = |attributes: &[&[u8]]| read(&body(&[8, 11], attributes, &[]), OUTSIDE);
    let bad_origin: &[u8] = &[0x40, 1, 1, 9];
    assert_eq!(read(&[bad_origin]).unwrap_err(), Notification::with(3, 6, bad_origin));
    assert_eq!(read(&[GOOD_UNREACH, &[0x80, 4, 9, 0]]).unwrap_err(), Notification::new(3, 1));
    let discarded = read(&[&[0x40, 6, 1, 0]]).unwrap();
    assert_eq!((discarded.withdrawn.len(), discarded.faults.len()), (1, 1));
    assert_eq!(
        read(&[GOOD_ORIGIN]).unwrap().faults,
        Vec::<String>::new(),
        "no attribute is mandatory without routes"
    );
    assert_eq!(read(&[&[0x40, 99, 0]]).unwrap_err(), Notification::with(3, 2, &[0x40, 99, 0]));
}

#[test]
fn fields_that_exceed_the_message_reset_the_session() {
    let subcode = |body: &[u8]| read(body, OUTSIDE).unwrap_err().subcode;
    assert_eq!(subcode(&[0, 1, 0, 0]), 1, "no bytes for the second length");
    assert_eq!(subcode(&[0, 9, 0, 0]), 1, "withdrawn routes beyond the end");
    assert_eq!(subcode(&[0, 0, 0, 1]), 1, "attributes beyond the end");
    assert_eq!(subcode(&body(&[33, 1, 2, 3, 4, 5], &[], &[])), 10);
    assert_eq!(subcode(&body(&[24, 1], &[], &[])), 10);
    assert_eq!(subcode(&body(&[], &[GOOD_ORIGIN, GOOD_PATH, GOOD_HOP], &[40, 1, 2, 3, 4, 5])), 10);
}

#[test]
fn the_first_of_two_attributes_is_used_and_the_number_of_faults_is_limited() {
    let twice: &[u8] = &[0x40, 1, 1, 2];
    let mut attributes = vec![GOOD_ORIGIN, GOOD_PATH, GOOD_HOP];
    attributes.extend([twice; 20]);
    let update = read(&body(&[], &attributes, NETS), OUTSIDE).unwrap();
    assert_eq!((update.attributes.origin, update.faults.len()), (Origin::Igp, MAX_FAULTS));
    assert_eq!(update.faults[0], "ORIGIN: duplicate attribute: attribute discarded");
}

#[test]
fn an_unrecognized_transitive_attribute_is_passed_on_with_the_partial_flag() {
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
fn a_route_that_is_both_withdrawn_and_advertised_is_advertised() {
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
fn an_end_of_rib_must_be_the_only_content_of_its_message() {
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
fn the_global_one_of_two_next_hops_is_used() {
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
    assert_eq!(hop([0, 0]), "fe80::9", "a router without a global address sends :: instead");
}

#[test]
fn a_four_octet_aggregator_is_read_from_and_written_to_as4_aggregator() {
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
            update.attributes.neighbor_as().unwrap(),
            again == bytes,
        )
    };
    assert_eq!(aggregator(trans), (70000, 70000, true));
    let newer: &[u8] = &[0xc0, 7, 6, 0, 5, 1, 2, 3, 4];
    assert_eq!(aggregator(newer), (5, 23456, false), "a two-octet AS speaker aggregated again");
}

#[test]
fn a_truncated_or_corrupted_attribute_withdraws_at_most_the_routes() {
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
                // The length field matches the truncated value, so that only this attribute is malformed.
                let mut changed = attribute[..cut].to_vec();
                changed[2] = cut as u8 - 3;
                let update =
                    with(&changed).unwrap_or_else(|e| panic!("{attribute:?} cut at {cut}: {e}"));
                assert_eq!(nets(&update).len() + update.withdrawn.len(), 1);
            }
            for byte in 3..attribute.len() {
                for flip in FLIPS {
                    let mut changed = attribute.to_vec();
                    changed[byte] ^= flip;
                    let update = with(&changed).unwrap();
                    assert_eq!(nets(&update).len() + update.withdrawn.len(), 1);
                }
            }
            for byte in 0..3 {
                for flip in FLIPS {
                    let mut changed = attribute.to_vec();
                    changed[byte] ^= flip;
                    // The rest may be read as other attributes, but the routes must be found in any case.
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
