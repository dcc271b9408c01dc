//! Encoding and decoding of BGP messages (RFC 4271 section 4). All numbers on the wire are big-endian.
//!
//! [`message_len`] finds the end of a message in received bytes, [`Message::read`] decodes one message, and
//! [`Message::write`] encodes one. The optional parameters of OPEN are in [`capability`], UPDATE is in
//! [`update`], and NOTIFICATION with its texts is in `notification`. An error while decoding is
//! the NOTIFICATION to send to the peer.

use std::net::Ipv4Addr;

use super::{
    as_path::to_two_octets,
    capability::{self, Capabilities, Negotiated},
    update::{self, Update},
    wire::{HEADER_LEN, MAX_MESSAGE_LEN, UNICAST, take_u8, take_u16, take_u32},
};
use crate::family::Family;

pub use super::notification::Notification;

const MARKER: [u8; 16] = [0xff; 16];
const VERSION: u8 = 4;
const OPEN: u8 = 1;
const UPDATE: u8 = 2;
const NOTIFICATION: u8 = 3;
const KEEPALIVE: u8 = 4;
const ROUTE_REFRESH: u8 = 5;

/// A BGP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// OPEN: the first message on a connection, from both sides.
    Open(Open),
    /// UPDATE: advertised and withdrawn routes.
    Update(Update),
    /// NOTIFICATION: an error; the connection is closed after it.
    Notification(Notification),
    /// KEEPALIVE: restarts the hold timer of the receiver.
    Keepalive,
    /// ROUTE-REFRESH: a request to advertise all routes of a family again (RFC 2918).
    Refresh(Family),
    /// A ROUTE-REFRESH that is ignored: of an unsupported family, or of another subtype (RFC 7313).
    Unknown,
}

/// An OPEN message (RFC 4271 section 4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The AS of the sender; taken from the four-octet AS capability if there is one (RFC 6793).
    pub asn: u32,
    /// The proposed hold time in seconds: 0, or at least 3.
    pub hold_time: u16,
    /// The BGP Identifier of the sender.
    pub id: Ipv4Addr,
    /// The capabilities of the sender (RFC 5492).
    pub capabilities: Capabilities,
}

/// Returns the length of the first message in `bytes`, including its header; `None` if the message is not
/// complete yet.
///
/// Fails with a Message Header Error (RFC 4271 section 6.1) if the header is invalid. The marker is
/// checked as it arrives, so that a connection of another protocol fails at its first bytes.
pub fn message_len(bytes: &[u8]) -> Result<Option<usize>, Notification> {
    if bytes.iter().zip(MARKER).any(|(&byte, mark)| byte != mark) {
        return Err(Notification::new(1, 1));
    }
    let Some(&[high, low, kind]) = bytes.get(MARKER.len()..HEADER_LEN) else {
        return Ok(None);
    };
    let length = usize::from(u16::from_be_bytes([high, low]));
    let (min, max) = match kind {
        OPEN => (HEADER_LEN + 10, MAX_MESSAGE_LEN),
        UPDATE => (HEADER_LEN + 4, MAX_MESSAGE_LEN),
        NOTIFICATION => (HEADER_LEN + 2, MAX_MESSAGE_LEN),
        KEEPALIVE => (HEADER_LEN, HEADER_LEN),
        ROUTE_REFRESH => (HEADER_LEN + 4, MAX_MESSAGE_LEN),
        _ => return Err(Notification::with(1, 3, &[kind])),
    };
    if !(min..=max).contains(&length) {
        return Err(Notification::with(1, 2, &[high, low]));
    }
    Ok((bytes.len() >= length).then_some(length))
}

impl Message {
    /// Decodes one complete message, including its header. Fails if the message is invalid; the error
    /// is the NOTIFICATION to send.
    pub fn read(bytes: &[u8], negotiated: Negotiated) -> Result<Message, Notification> {
        let body = match message_len(bytes)? {
            Some(length) if length == bytes.len() => bytes.get(HEADER_LEN..).unwrap_or_default(),
            _ => return Err(Notification::with(1, 2, bytes.get(16..18).unwrap_or_default())),
        };
        match bytes.get(HEADER_LEN - 1) {
            Some(&OPEN) => Open::read(body).map(Message::Open),
            Some(&UPDATE) => update::read(body, negotiated).map(Message::Update),
            Some(&NOTIFICATION) => {
                let (&[code, subcode], data) = body.split_first_chunk().unwrap_or((&[0; 2], &[]));
                Ok(Message::Notification(Notification::with(code, subcode, data)))
            }
            Some(&KEEPALIVE) => Ok(Message::Keepalive),
            _ => Ok(match *body {
                // The third byte is the subtype (RFC 7313); only 0, the request, is supported.
                [high, low, 0, UNICAST, ..] => Family::of_afi(u16::from_be_bytes([high, low]))
                    .map_or(Message::Unknown, Message::Refresh),
                _ => Message::Unknown,
            }),
        }
    }

    /// Appends the encoded message to `out`. An UPDATE becomes as many messages as it needs, or none if
    /// it is empty. [`Message::Unknown`] becomes no message.
    pub fn write(&self, negotiated: Negotiated, out: &mut Vec<u8>) {
        match self {
            Message::Open(open) => write_framed(OPEN, out, &mut |out| open.write(out)),
            Message::Update(update) => update::write(update, negotiated, &mut |body| {
                write_framed(UPDATE, out, &mut |out| out.extend_from_slice(body));
            }),
            Message::Notification(notification) => write_framed(NOTIFICATION, out, &mut |out| {
                out.extend([notification.code, notification.subcode]);
                out.extend(notification.data.iter().take(MAX_MESSAGE_LEN - HEADER_LEN - 2));
            }),
            Message::Keepalive => write_framed(KEEPALIVE, out, &mut |_| {}),
            Message::Refresh(family) => write_framed(ROUTE_REFRESH, out, &mut |out| {
                out.extend(family.afi().to_be_bytes());
                out.extend([0, UNICAST]);
            }),
            Message::Unknown => {}
        }
    }
}

/// Appends a message of a type: the header, and the body that `body` appends.
fn write_framed(kind: u8, out: &mut Vec<u8>, body: &mut dyn FnMut(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(MARKER);
    out.extend([0, 0, kind]);
    body(out);
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX); // no body exceeds MAX_MESSAGE_LEN
    out[start + 16..start + 18].copy_from_slice(&length.to_be_bytes());
}

impl Open {
    /// Decodes the body of an OPEN. Fails if a field is invalid (RFC 4271 section 6.2).
    fn read(mut body: &[u8]) -> Result<Open, Notification> {
        let short = || Notification::new(1, 2); // does not happen after `message_len`
        if take_u8(&mut body) != Some(VERSION) {
            return Err(Notification::with(2, 1, &[0, VERSION]));
        }
        let asn = take_u16(&mut body).ok_or_else(short)?;
        let hold = take_u16(&mut body).ok_or_else(short)?;
        let id = Ipv4Addr::from(take_u32(&mut body).ok_or_else(short)?);
        let (capabilities, four) = capability::read(body)?;
        let asn = four.unwrap_or(asn.into());
        if asn == 0 {
            return Err(Notification::BAD_PEER_AS); // RFC 7607
        }
        if id.is_unspecified() {
            return Err(Notification::BAD_BGP_ID);
        }
        if matches!(hold, 1 | 2) {
            return Err(Notification::UNACCEPTABLE_HOLD_TIME);
        }
        Ok(Open { asn, hold_time: hold, id, capabilities })
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        out.extend(to_two_octets(self.asn).to_be_bytes());
        out.extend(self.hold_time.to_be_bytes());
        out.extend(self.id.octets());
        capability::write(&self.capabilities, self.asn, out);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use ipnet::IpNet;

    use self::Encoding::{Different, Same};
    use super::*;
    use crate::bgp::{
        as_path::Segment::Sequence,
        attribute::{Attributes, RawAttribute},
        capability::Restart,
        update::Reach,
    };

    const OUTSIDE: Negotiated = Negotiated { four_octet: true, internal: false };
    const TWO_OCTETS: Negotiated = Negotiated { four_octet: false, internal: false };
    const INSIDE: Negotiated = Negotiated { four_octet: true, internal: true };

    const BIRD: u32 = 4_200_000_001;
    const FRR: u32 = 65010;

    /// The relation of our encoding to the captured bytes. It differs if the other implementation chooses
    /// other flags, another order or other capabilities.
    #[derive(PartialEq)]
    enum Encoding {
        Same,
        Different,
    }

    /// The bits to flip in a byte: each one, and all.
    const FLIPS: [u8; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 255];

    fn captured() -> Vec<(&'static str, Vec<u8>)> {
        let lines = include_str!("../../tests/fixtures/bgp-messages.txt").lines();
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
            hold_time: hold,
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
        Message::Update(Update { end_of_rib: Some(family), ..Update::default() })
    }

    fn reach(next_hop: &str, texts: &[&str], path: &[u32], attributes: Attributes) -> Message {
        let path = if path.is_empty() { vec![] } else { vec![Sequence(path.to_vec())] };
        Message::Update(Update {
            reach: vec![Reach { next_hop: next_hop.parse().unwrap(), nets: nets(texts) }],
            attributes: Attributes { as_path: path, ..attributes },
            ..Update::default()
        })
    }

    /// An attribute that is only passed on, for example LARGE_COMMUNITY or EXTENDED COMMUNITIES.
    fn other(code: u8, value: &[u32]) -> RawAttribute {
        let value = value.iter().flat_map(|number| number.to_be_bytes()).collect();
        RawAttribute { code, flags: 0xc0, value }
    }

    fn community(high: u32, low: u32) -> u32 {
        high << 16 | low
    }

    /// Returns the negotiated encoding, the expected value, and the relation of our encoding to a captured
    /// message, by its name in messages.txt.
    fn expected(name: &str) -> (Negotiated, Message, Encoding) {
        let none = Attributes::default;
        let inside = |med| Attributes { med, local_pref: Some(100), ..none() };
        let reflected = |attributes| Attributes {
            originator: Some(Ipv4Addr::new(10, 9, 0, 1)),
            clusters: vec![Ipv4Addr::new(9, 9, 9, 9)],
            ..attributes
        };
        let marked = |attributes| Attributes {
            communities: vec![community(FRR, 100), 0xffff_ff01],
            unrecognized: vec![other(32, &[BIRD, 7, 8])],
            ..attributes
        };
        let marked_v6 = |attributes| Attributes {
            communities: vec![community(FRR, 100)],
            unrecognized: vec![other(16, &[0x0002_fdf2, 9])], // a route target
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
            "bird-open" => (OUTSIDE, open(BIRD, 240, "10.9.0.1", false, true), Different),
            "bird-open-two-octets" => {
                (OUTSIDE, open(64512, 240, "10.9.0.1", false, false), Different)
            }
            "frr-open" => (OUTSIDE, open(FRR, 15, "10.9.0.2", true, true), Different),
            "bird-keepalive" | "frr-keepalive" => (OUTSIDE, Message::Keepalive, Same),
            "bird-end-ipv4" | "frr-end-ipv4" => (OUTSIDE, end(Family::Ipv4), Same),
            "bird-end-ipv6" | "frr-end-ipv6" => (OUTSIDE, end(Family::Ipv6), Same),
            "bird-refresh-ipv4" => (OUTSIDE, Message::Refresh(Family::Ipv4), Same),
            "frr-refresh-ipv6" => (OUTSIDE, Message::Refresh(Family::Ipv6), Same),
            "bird-refresh-begins" | "frr-refresh-ends" => (OUTSIDE, Message::Unknown, Different),
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
                (OUTSIDE, reach(bird6, &nets, &[BIRD], none()), Different)
            }
            "bird-update-ipv6-communities" => {
                (OUTSIDE, reach(bird6, &[loopback6], &[BIRD, 70000], marked_v6(none())), Different)
            }
            "frr-update-ipv4" => {
                (OUTSIDE, reach("10.9.0.2", &["10.30.0.0/16"], &[FRR], med(0)), Different)
            }
            "frr-update-aggregate" => {
                (OUTSIDE, reach("10.9.0.2", &["10.50.0.0/16"], &[FRR], aggregate), Different)
            }
            "frr-update-ipv6" => {
                let nets = ["2001:db8:30::/48", "2001:db8:31::/64"];
                (OUTSIDE, reach(frr6, &nets, &[FRR], med(0)), Different)
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
            "frr-shutdown" => (
                OUTSIDE,
                Message::Notification(Notification::shutdown("maintenance until noon")),
                Same,
            ),
            "frr-bad-peer-as" => {
                (OUTSIDE, Message::Notification(Notification::with(2, 2, &[0xfd, 0xfc])), Same)
            }
            "bird-two-octets-update-as4-path" => (
                TWO_OCTETS,
                reach(bird6, &[loopback6], &[64512, 70000], marked_v6(none())),
                Different,
            ),
            "bird-two-octets-update-communities" => (
                TWO_OCTETS,
                reach("10.9.0.1", &["192.0.2.1/32"], &[64512, 64999, 64999], marked(none())),
                Same,
            ),
            "frr-two-octets-update-as4-path" => (
                TWO_OCTETS,
                reach(frr6, &[loopback6], &[FRR, 64512, 70000], marked_v6(none())),
                Different,
            ),
            "frr-two-octets-update-aggregate" => {
                (TWO_OCTETS, reach("10.9.0.2", &["10.50.0.0/16"], &[FRR], aggregate), Different)
            }
            "bird-inside-update-ipv4" => {
                (INSIDE, reach("10.9.0.1", &["10.21.3.128/25"], &[], inside(Some(50))), Same)
            }
            "bird-inside-update-ipv6" => {
                (INSIDE, reach(bird6, &[loopback6], &[70000], marked_v6(inside(None))), Same)
            }
            "frr-reflected-ipv4" => {
                let attributes = reflected(marked(inside(Some(0))));
                (
                    INSIDE,
                    reach("10.9.0.1", &["192.0.2.1/32"], &[64999, 64999], attributes),
                    Different,
                )
            }
            "frr-reflected-ipv6" => {
                let attributes = reflected(marked_v6(inside(Some(0))));
                (INSIDE, reach(bird6, &[loopback6], &[70000], attributes), Different)
            }
            "frr-inside-update-prepended" => {
                let attributes = Attributes {
                    communities: vec![community(FRR, 1), 0xffff_ff01],
                    unrecognized: vec![other(32, &[FRR, 1, 2])],
                    ..inside(Some(77))
                };
                (
                    INSIDE,
                    reach("10.9.0.2", &["10.31.1.0/24"], &[4_200_000_005, 65099], attributes),
                    Different,
                )
            }
            _ => panic!("{name}: no expected value for this message"),
        }
    }

    fn encode(message: &Message, negotiated: Negotiated) -> Vec<u8> {
        let mut out = Vec::new();
        message.write(negotiated, &mut out);
        out
    }

    #[test]
    fn messages_of_bird_and_frr_are_decoded_and_encoded_again() {
        let captured = captured();
        assert_eq!(captured.len(), 37);
        for (name, bytes) in captured {
            let (negotiated, message, encoding) = expected(name);
            assert_eq!(message_len(&bytes), Ok(Some(bytes.len())), "{name}");
            assert_eq!(Message::read(&bytes, negotiated), Ok(message.clone()), "{name}");
            let out = encode(&message, negotiated);
            assert_eq!(out == bytes, encoding == Same, "{name}: {out:02x?}");
            if message != Message::Unknown {
                assert_eq!(Message::read(&out, negotiated), Ok(message), "{name}");
            }
        }
    }

    #[test]
    fn frame_waits_for_the_rest_of_an_incomplete_message() {
        for (name, bytes) in captured() {
            for cut in 0..bytes.len() {
                assert_eq!(message_len(&bytes[..cut]), Ok(None), "{name}, {cut} bytes");
            }
            let more = [&bytes[..], &[0xff; 3]].concat();
            assert_eq!(message_len(&more), Ok(Some(bytes.len())), "{name}");
            assert_eq!(Message::read(&more, OUTSIDE).unwrap_err().code, 1, "{name}");
        }
    }

    #[test]
    fn an_invalid_header_fails_before_the_message_is_complete() {
        let header = |length: u16, kind: u8| [&MARKER[..], &length.to_be_bytes(), &[kind]].concat();
        assert_eq!(message_len(b"GET / HTTP/1.1"), Err(Notification::new(1, 1)));
        assert_eq!(message_len(&[0xff, 0xfe]), Err(Notification::new(1, 1)));
        for kind in [0, 6, 128] {
            assert_eq!(message_len(&header(23, kind)), Err(Notification::with(1, 3, &[kind])));
        }
        for (kind, bad, good) in [
            (OPEN, 28u16, 29),
            (UPDATE, 22, 23),
            (NOTIFICATION, 20, 21),
            (KEEPALIVE, 18, 19),
            (KEEPALIVE, 20, 19),
            (ROUTE_REFRESH, 22, 23),
            (UPDATE, 4097, 4096),
        ] {
            let length = bad.to_be_bytes();
            assert_eq!(
                message_len(&header(bad, kind)),
                Err(Notification::with(1, 2, &length)),
                "{kind}: {bad}"
            );
            assert!(message_len(&header(good, kind)).is_ok(), "{kind}: {good}");
        }
    }

    #[test]
    fn each_invalid_field_of_an_open_has_its_own_notification_subcode() {
        let open =
            captured().into_iter().find(|(name, _)| *name == "bird-open-two-octets").unwrap().1;
        let with = |at: usize, bytes: &[u8]| {
            let mut open = open.clone();
            open[HEADER_LEN + at..HEADER_LEN + at + bytes.len()].copy_from_slice(bytes);
            Message::read(&open, Negotiated::default()).unwrap_err()
        };
        assert_eq!(with(0, &[3]), Notification::with(2, 1, &[0, 4]));
        assert_eq!(with(1, &[0, 0]), Notification::BAD_PEER_AS);
        assert_eq!(with(3, &[0, 2]), Notification::UNACCEPTABLE_HOLD_TIME);
        assert_eq!(with(5, &[0; 4]), Notification::BAD_BGP_ID);
        assert_eq!(with(10, &[1]).subcode, 4);
        assert_eq!(with(9, &[0]).subcode, 0);
    }

    #[test]
    fn a_four_octet_as_is_sent_in_the_capability_and_as_trans_in_the_open() {
        let message = open(70000, 90, "1.2.3.4", false, true);
        let bytes = encode(&message, Negotiated::default());
        assert_eq!(bytes[HEADER_LEN + 1..HEADER_LEN + 3], to_two_octets(70000).to_be_bytes());
        assert_eq!(to_two_octets(70000), 23456);
        assert_eq!(Message::read(&bytes, Negotiated::default()), Ok(message));
    }

    #[test]
    fn a_large_update_is_split_into_several_messages() {
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
            attributes: Attributes {
                as_path: vec![Sequence(vec![70000; 300])],
                ..Attributes::default()
            },
            end_of_rib: Some(Family::Ipv6),
            faults: vec![],
        };
        for negotiated in [OUTSIDE, TWO_OCTETS] {
            let mut found = Update::default();
            let bytes = encode(&Message::Update(update.clone()), negotiated);
            let mut rest = &bytes[..];
            let mut count = 0;
            while let Ok(Some(length)) = message_len(rest) {
                let Ok(Message::Update(one)) = Message::read(&rest[..length], negotiated) else {
                    panic!()
                };
                assert_eq!(one.faults, Vec::<String>::new());
                if let Some(reach) = one.reach.first() {
                    assert_eq!(one.attributes.path_len(), 300);
                    match found.reach.iter_mut().find(|found| found.next_hop == reach.next_hop) {
                        Some(found) => found.nets.extend(&reach.nets),
                        None => found.reach.extend(one.reach),
                    }
                }
                found.withdrawn.extend(one.withdrawn);
                found.end_of_rib = one.end_of_rib;
                rest = &rest[length..];
                count += 1;
            }
            assert!(rest.is_empty() && count > 12, "{count}");
            assert_eq!(
                (found.withdrawn, found.reach, found.end_of_rib),
                (update.withdrawn.clone(), update.reach.clone(), update.end_of_rib)
            );
        }
        assert!(encode(&Message::Update(Update::default()), OUTSIDE).is_empty());
    }

    #[test]
    fn a_route_whose_attributes_do_not_fit_in_a_message_is_withdrawn() {
        let Message::Update(mut update) =
            reach("10.0.0.1", &["10.1.0.0/16"], &[1], Attributes::default())
        else {
            panic!()
        };
        update.attributes.unrecognized =
            vec![RawAttribute { code: 99, flags: 0xc0, value: vec![0; 4040].into() }];
        let bytes = encode(&Message::Update(update.clone()), OUTSIDE);
        assert_eq!(Message::read(&bytes, OUTSIDE), Ok(withdrawn(&["10.1.0.0/16"])));
        update.attributes.unrecognized[0].value = vec![0; 100_000].into();
        assert_eq!(encode(&Message::Update(update), OUTSIDE), bytes);
    }

    #[test]
    fn a_corrupted_message_fails_or_gives_a_value_that_can_be_encoded() {
        let (mut corrupted, mut decoded, mut truncated) = (0, 0, 0);
        for (name, bytes) in captured() {
            let negotiated = expected(name).0;
            for at in HEADER_LEN..bytes.len() {
                for flip in FLIPS {
                    let mut bytes = bytes.clone();
                    bytes[at] ^= flip;
                    corrupted += 1;
                    let Ok(message) = Message::read(&bytes, negotiated) else { continue };
                    decoded += 1;
                    let mut rest = &encode(&message, negotiated)[..];
                    while let Ok(Some(length)) = message_len(rest) {
                        assert!(
                            Message::read(&rest[..length], negotiated).is_ok(),
                            "{name}: {flip} at {at}"
                        );
                        rest = &rest[length..];
                    }
                    assert!(rest.is_empty(), "{name}: {flip} at {at}");
                }
            }
            for cut in HEADER_LEN..bytes.len() {
                let mut bytes = bytes[..cut].to_vec();
                bytes[16..18].copy_from_slice(&(cut as u16).to_be_bytes());
                truncated += usize::from(Message::read(&bytes, negotiated).is_ok());
            }
        }
        // Most changed bytes are in networks, numbers and texts, where any value is valid.
        assert!(decoded * 5 > corrupted * 4 && truncated > 40, "{decoded}, {truncated}");
    }
}
