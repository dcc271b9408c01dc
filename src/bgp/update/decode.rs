//! The decoder of UPDATE messages.

use super::{
    codes::*,
    types::{Reach, Update},
    value::{
        AttributeError,
        ErrorHandling::{AttributeDiscard, SessionReset, TreatAsWithdraw},
        WRONG_LENGTH, is_valid_next_hop, read_aggregator, read_next_hop_v6, read_u32,
        read_u32_list, take_value,
    },
};
use crate::bgp::{
    as_path::{self, Segment},
    attribute::{Attributes, OriginCode, RawAttribute},
    capability::Negotiated,
    nlri,
    notification::Notification,
    wire::{UNICAST, take, take_u8, take_u16},
};
use crate::family::Family;
use std::{
    mem,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;

/// The most faults that are reported for one message.
const MAX_FAULTS: usize = 8;

/// Reads the body of an UPDATE, without the message header.
///
/// Fails if the session must be reset; the error is the NOTIFICATION to send. Milder errors are reported
/// in [`Update::faults`].
pub(crate) fn read(body: &[u8], negotiated: Negotiated) -> Result<Update, Notification> {
    let field = |rest: &mut &'_ [u8]| -> Result<usize, Notification> {
        take_u16(rest).map(usize::from).ok_or_else(|| Notification::new(3, 1))
    };
    let mut rest = body;
    let length = field(&mut rest)?;
    let withdrawn = take(&mut rest, length).ok_or_else(|| Notification::new(3, 1))?;
    let length = field(&mut rest)?;
    let attributes = take(&mut rest, length).ok_or_else(|| Notification::new(3, 1))?;
    let withdrawn = nlri::read(withdrawn, Family::Ipv4).ok_or_else(|| Notification::new(3, 10))?;
    let reach = nlri::read(rest, Family::Ipv4).ok_or_else(|| Notification::new(3, 10))?;

    let mut reader = Reader::new(negotiated);
    reader.withdrawn = withdrawn.nets;
    reader.report_multicast(withdrawn.multicast + reach.multicast);
    reader.has_routes = !rest.is_empty();
    reader.read_attributes(attributes)?;
    // An End-of-RIB has no other content (RFC 4724 section 2).
    if body == [0; 4] {
        reader.end = Some(Family::Ipv4);
    } else if reader.count > 1 || body.len() > attributes.len() + 4 {
        reader.end = None;
    }
    reader.finish(reach.nets)
}

/// The state while the attributes of a message are read one after the other.
struct Reader {
    negotiated: Negotiated,
    /// The type codes that have been read, by code.
    seen: [bool; 256],
    /// The number of attributes that have been read.
    count: usize,
    found: Attributes,
    next_hop: Option<Ipv4Addr>,
    as4_path: Option<Vec<Segment>>,
    as4_aggregator: Option<(u32, Ipv4Addr)>,
    withdrawn: Vec<IpNet>,
    reach: Option<Reach>,
    /// True if the message advertises routes, even if only of a family that is not supported.
    has_routes: bool,
    end: Option<Family>,
    /// The first error for which the routes are treated as withdrawn.
    withdraw_error: Option<Notification>,
    faults: Vec<String>,
}

impl Reader {
    fn new(negotiated: Negotiated) -> Reader {
        Reader {
            negotiated,
            seen: [false; 256],
            count: 0,
            found: Attributes::default(),
            next_hop: None,
            as4_path: None,
            as4_aggregator: None,
            withdrawn: Vec::new(),
            reach: None,
            has_routes: false,
            end: None,
            withdraw_error: None,
            faults: Vec::new(),
        }
    }

    /// Reads the path attributes field. Fails if the session must be reset.
    fn read_attributes(&mut self, mut bytes: &[u8]) -> Result<(), Notification> {
        while let Some(&flags) = bytes.first() {
            let (start, code) = (bytes, bytes.get(1).copied().unwrap_or(0));
            self.count += 1;
            let Some(value) = take_value(&mut bytes) else {
                // The attributes after this one cannot be found, but the other fields can.
                let handling = if has_routes(code) { SessionReset(1) } else { TreatAsWithdraw(1) };
                return self.handle_error(code, (handling, "exceeds the attributes field"), &[]);
            };
            if let Err(error) = self.read_attribute(flags, code, value) {
                let attribute = start.get(..start.len() - bytes.len()).unwrap_or_default();
                self.handle_error(code, error, attribute)?;
            }
        }
        Ok(())
    }

    /// Records an error in an attribute with its consequence. `attribute` is the received attribute, from
    /// flags to value, for the NOTIFICATION. Fails if the session must be reset.
    fn handle_error(
        &mut self,
        code: u8,
        (handling, problem): AttributeError,
        attribute: &[u8],
    ) -> Result<(), Notification> {
        let notification =
            |subcode| Notification::with(3, subcode, notification_data(subcode, attribute));
        let consequence = match handling {
            SessionReset(subcode) => return Err(notification(subcode)),
            AttributeDiscard => "attribute discarded",
            TreatAsWithdraw(subcode) => {
                self.withdraw_error.get_or_insert_with(|| notification(subcode));
                "routes treated as withdrawn"
            }
        };
        self.add_fault(match flags_and_name(code) {
            Some((_, name)) => format!("{name}: {problem}: {consequence}"),
            None => format!("attribute {code}: {problem}: {consequence}"),
        });
        Ok(())
    }

    fn add_fault(&mut self, fault: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    fn report_multicast(&mut self, count: usize) {
        if count > 0 {
            self.add_fault(format!("{count} multicast networks: ignored"));
        }
    }

    /// Reads one attribute (RFC 7606 sections 3 and 7). Fails if the attribute is invalid.
    fn read_attribute(&mut self, flags: u8, code: u8, value: &[u8]) -> Result<(), AttributeError> {
        let seen =
            self.seen.get_mut(usize::from(code)).is_some_and(|seen| mem::replace(seen, true));
        if seen {
            let handling = if has_routes(code) { SessionReset(1) } else { AttributeDiscard };
            return Err((handling, "duplicate attribute"));
        }
        if !self.negotiated.internal && matches!(code, LOCAL_PREF | ORIGINATOR_ID | CLUSTER_LIST) {
            return Err((AttributeDiscard, "not allowed from another AS"));
        }
        if self.negotiated.four_octet && matches!(code, AS4_PATH | AS4_AGGREGATOR) {
            return Err((AttributeDiscard, "not allowed from a four-octet AS speaker"));
        }
        let Some((expected, _)) = flags_and_name(code) else {
            return self.read_unknown(flags, code, value);
        };
        if (flags ^ expected) & (OPTIONAL | TRANSITIVE) != 0 {
            let handling = if has_routes(code) { SessionReset(9) } else { TreatAsWithdraw(4) };
            return Err((handling, "wrong flags"));
        }
        let found = &mut self.found;
        match code {
            ORIGIN => {
                found.origin = match value {
                    [0] => OriginCode::Igp,
                    [1] => OriginCode::Egp,
                    [2] => OriginCode::Incomplete,
                    [_] => return Err((TreatAsWithdraw(6), "unknown value")),
                    _ => return Err((TreatAsWithdraw(5), WRONG_LENGTH)),
                }
            }
            AS_PATH => {
                let path = as_path::read(value, self.negotiated.four_octet)
                    .ok_or((TreatAsWithdraw(11), "malformed segment"))?;
                if !self.negotiated.internal && path.iter().any(Segment::is_confederation) {
                    // RFC 5065 section 5
                    return Err((TreatAsWithdraw(11), "confederation segment from another AS"));
                }
                found.as_path = path;
            }
            NEXT_HOP => {
                self.next_hop =
                    Some(read_u32(value).ok_or((TreatAsWithdraw(5), WRONG_LENGTH))?.into());
            }
            MULTI_EXIT_DISC => {
                found.med = Some(read_u32(value).ok_or((TreatAsWithdraw(5), WRONG_LENGTH))?);
            }
            LOCAL_PREF => {
                found.local_pref = Some(read_u32(value).ok_or((TreatAsWithdraw(5), WRONG_LENGTH))?);
            }
            ATOMIC_AGGREGATE if value.is_empty() => found.atomic = true,
            ATOMIC_AGGREGATE => return Err((AttributeDiscard, WRONG_LENGTH)),
            AGGREGATOR => {
                found.aggregator = Some(read_aggregator(value, self.negotiated.four_octet)?);
            }
            COMMUNITIES => {
                let communities = read_u32_list(value)?;
                found.communities.clear();
                found.add_communities(&communities);
            }
            ORIGINATOR_ID => {
                found.originator =
                    Some(read_u32(value).ok_or((TreatAsWithdraw(9), WRONG_LENGTH))?.into());
            }
            CLUSTER_LIST => {
                found.clusters = read_u32_list(value)?.into_iter().map(Ipv4Addr::from).collect();
            }
            MP_REACH_NLRI => return self.read_mp_reach(value),
            MP_UNREACH_NLRI => return self.read_mp_unreach(value),
            // A malformed AS4_PATH is discarded, and AS_PATH is used alone (RFC 6793 section 6).
            AS4_PATH => {
                let path = as_path::read(value, true).filter(|path| !path.is_empty());
                self.as4_path = Some(path.ok_or((AttributeDiscard, "malformed segment"))?);
            }
            AS4_AGGREGATOR => self.as4_aggregator = Some(read_aggregator(value, true)?),
            EXTENDED_COMMUNITIES => self.keep_list(flags, code, value, 8)?,
            IPV6_EXTENDED_COMMUNITIES => self.keep_list(flags, code, value, 20)?,
            _ => self.keep_list(flags, code, value, 12)?, // LARGE_COMMUNITY (RFC 8092)
        }
        Ok(())
    }

    /// Keeps an attribute that is only passed on, whose value is a list of elements of `size` bytes.
    /// Fails if the list is empty or the length is wrong.
    fn keep_list(
        &mut self,
        flags: u8,
        code: u8,
        value: &[u8],
        size: usize,
    ) -> Result<(), AttributeError> {
        if value.is_empty() || !value.len().is_multiple_of(size) {
            return Err((TreatAsWithdraw(9), WRONG_LENGTH));
        }
        self.keep(flags, code, value);
        Ok(())
    }

    /// Keeps an unrecognized attribute if it is transitive, and drops it otherwise (RFC 4271 section 5).
    /// Fails if the attribute is marked as well-known.
    fn read_unknown(&mut self, flags: u8, code: u8, value: &[u8]) -> Result<(), AttributeError> {
        if flags & OPTIONAL == 0 {
            return Err((SessionReset(2), "unrecognized well-known attribute"));
        }
        if flags & TRANSITIVE != 0 {
            self.keep(flags | PARTIAL, code, value);
        }
        Ok(())
    }

    fn keep(&mut self, flags: u8, code: u8, value: &[u8]) {
        let flags = flags & (OPTIONAL | TRANSITIVE | PARTIAL);
        self.found.unrecognized.push(RawAttribute { code, flags, value: value.into() });
    }

    /// Reads MP_REACH_NLRI (RFC 4760 section 3): AFI, SAFI, next hop, a reserved byte and networks. Fails
    /// if one of them is malformed. A next hop of unexpected length resets the session, because the
    /// networks cannot be found then (RFC 7606 section 7.11).
    fn read_mp_reach(&mut self, mut value: &[u8]) -> Result<(), AttributeError> {
        const SHORT: AttributeError = (SessionReset(9), "too short");
        self.has_routes = true;
        let bytes = &mut value;
        let afi = take_u16(bytes).ok_or(SHORT)?;
        let (safi, length) = (take_u8(bytes).ok_or(SHORT)?, take_u8(bytes).ok_or(SHORT)?);
        let next_hop = take(bytes, length.into()).ok_or(SHORT)?;
        take_u8(bytes).ok_or(SHORT)?;
        let Some(family) = Family::of_afi(afi).filter(|_| safi == UNICAST) else {
            return Ok(()); // not a family that this speaker negotiates
        };
        let next_hop = match (family, next_hop) {
            (Family::Ipv4, &[a, b, c, d]) => Ipv4Addr::new(a, b, c, d).into(),
            (Family::Ipv6, _) => read_next_hop_v6(next_hop)
                .ok_or((SessionReset(9), "wrong length of the next hop"))?
                .into(),
            _ => return Err((SessionReset(9), "wrong length of the next hop")),
        };
        let found = nlri::read(value, family).ok_or((SessionReset(9), "malformed network"))?;
        self.report_multicast(found.multicast);
        self.reach = Some(Reach { next_hop, nets: found.nets });
        if is_valid_next_hop(next_hop) {
            Ok(())
        } else {
            Err((TreatAsWithdraw(9), "invalid next hop"))
        }
    }

    /// Reads MP_UNREACH_NLRI (RFC 4760 section 4): AFI, SAFI and withdrawn networks. Fails if one of
    /// them is malformed. Without networks it is an End-of-RIB if the message has nothing else (RFC
    /// 4724 section 2).
    fn read_mp_unreach(&mut self, mut value: &[u8]) -> Result<(), AttributeError> {
        let (Some(afi), Some(safi)) = (take_u16(&mut value), take_u8(&mut value)) else {
            return Err((SessionReset(9), "too short"));
        };
        let Some(family) = Family::of_afi(afi).filter(|_| safi == UNICAST) else {
            return Ok(());
        };
        self.end = value.is_empty().then_some(family);
        let found = nlri::read(value, family).ok_or((SessionReset(9), "malformed network"))?;
        self.report_multicast(found.multicast);
        self.withdrawn.extend(found.nets);
        Ok(())
    }

    /// Returns the UPDATE, with the networks of the message's NLRI field. Fails if the session must be
    /// reset.
    fn finish(mut self, nets: Vec<IpNet>) -> Result<Update, Notification> {
        self.merge_as4();
        let mut reach = Vec::new();
        if !nets.is_empty() {
            let next_hop = self.next_hop.map(IpAddr::from);
            if !self.has_seen(NEXT_HOP) {
                self.handle_error(NEXT_HOP, (TreatAsWithdraw(3), "missing"), &[NEXT_HOP])?;
            } else if next_hop.is_some_and(|addr| !is_valid_next_hop(addr)) {
                self.handle_error(NEXT_HOP, (TreatAsWithdraw(8), "invalid next hop"), &[])?;
            }
            reach.push(Reach { next_hop: next_hop.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), nets });
        }
        if let Some(mut more) = self.reach.take().filter(|more| !more.nets.is_empty()) {
            match reach.first_mut() {
                Some(first) if first.next_hop == more.next_hop => first.nets.append(&mut more.nets),
                _ => reach.push(more),
            }
        }
        if !reach.is_empty() {
            for code in [ORIGIN, AS_PATH] {
                if !self.has_seen(code) {
                    self.handle_error(code, (TreatAsWithdraw(3), "missing"), &[code])?;
                }
            }
        }
        if let Some(error) = self.withdraw_error {
            // A message without routes may be one whose routes could not be found (RFC 7606 section 5.2).
            if !self.has_routes {
                return Err(error);
            }
            self.withdrawn.extend(reach.drain(..).flat_map(|reach| reach.nets));
        }
        if reach.is_empty() {
            self.found = Attributes::default();
        } else if !self.withdrawn.is_empty() {
            // A network that is both withdrawn and advertised is advertised (RFC 4271 section 4.3).
            let mut advertised: Vec<IpNet> =
                reach.iter().flat_map(|reach| reach.nets.iter().copied()).collect();
            advertised.sort_unstable();
            self.withdrawn.retain(|net| advertised.binary_search(net).is_err());
        }
        self.found.unrecognized.sort_by_key(|other| other.code);
        Ok(Update {
            withdrawn: self.withdrawn,
            reach,
            attributes: self.found,
            end_of_rib: self.end,
            faults: self.faults,
        })
    }

    /// Returns true if the message has an attribute of a type.
    fn has_seen(&self, code: u8) -> bool {
        self.seen.get(usize::from(code)).copied().unwrap_or_default()
    }

    /// Replaces AS_TRANS in AGGREGATOR and AS_PATH by the numbers of AS4_AGGREGATOR and AS4_PATH (RFC
    /// 6793 section 4.2.3).
    fn merge_as4(&mut self) {
        if let (Some(one), Some(four)) = (&mut self.found.aggregator, self.as4_aggregator) {
            if one.0 != u32::from(as_path::AS_TRANS) {
                // A two-octet AS speaker aggregated the route again, so both AS4 attributes are outdated.
                return;
            }
            *one = four;
        }
        if let Some(as4) = &self.as4_path {
            self.found.as_path = as_path::merge_as4_path(mem::take(&mut self.found.as_path), as4);
        }
    }
}

/// Returns the data of a NOTIFICATION: the attribute, except for the subcodes 1 (malformed attribute
/// list), 10 (invalid network field) and 11 (malformed AS_PATH) (RFC 4271 section 6.3).
fn notification_data(subcode: u8, attribute: &[u8]) -> &[u8] {
    if matches!(subcode, 1 | 10 | 11) { &[] } else { attribute }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::bgp::update::encode::write;

    const OUTSIDE: Negotiated = Negotiated { four_octet: true, internal: false };
    const INSIDE: Negotiated = Negotiated { four_octet: true, internal: true };
    const OLD: Negotiated = Negotiated { four_octet: false, internal: true };

    const GOOD_ORIGIN: &[u8] = &[0x40, 1, 1, 0];
    const GOOD_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe8];
    const GOOD_PATH_OLD: &[u8] = &[0x40, 2, 4, 2, 1, 0xfd, 0xe8];
    const GOOD_HOP: &[u8] = &[0x40, 3, 4, 10, 0, 0, 1];
    /// 2001:db8:1::/48 through the next hop fd00::1.
    const GOOD_REACH: &[u8] = &[
        0x80, 14, 28, 0, 2, 1, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 48, 0x20,
        1, 0xd, 0xb8, 0, 1,
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

    fn outcome(negotiated: Negotiated, attributes: &[&[u8]]) -> Outcome {
        match read(&body(&[], attributes, NETS), negotiated) {
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
        use self::Outcome::*;
        let rows: &[(&str, Negotiated, &[u8], Outcome)] = &[
            ("3c: a transitive MULTI_EXIT_DISC", OUTSIDE, &[0xc0, 4, 4, 0, 0, 0, 1], Withdraw),
            ("3c: non-transitive COMMUNITIES", OUTSIDE, &[0x80, 8, 4, 0, 0, 0, 1], Withdraw),
            ("3c: an optional ATOMIC_AGGREGATE", OUTSIDE, &[0xc0, 6, 0], Withdraw),
            ("3c: the partial bit is allowed", OUTSIDE, &[0xe0, 8, 4, 0, 0, 0, 1], NoError),
            ("3g: ORIGIN twice", OUTSIDE, &[0x40, 1, 1, 2], Discard),
            ("3g: ORIGIN twice, the second malformed", OUTSIDE, &[0x40, 1, 2, 9, 9], Discard),
            ("3g: an unrecognized attribute twice", OUTSIDE, &[0xc0, 99, 0, 0xc0, 99, 0], Discard),
            ("3g: MP_REACH_NLRI twice", OUTSIDE, &[GOOD_REACH, GOOD_REACH].concat(), Reset(1)),
            (
                "3g: MP_UNREACH_NLRI twice",
                OUTSIDE,
                &[GOOD_UNREACH, GOOD_UNREACH].concat(),
                Reset(1),
            ),
            ("3h: the most severe error decides", OUTSIDE, &[0x80, 4, 1, 0, 0x40, 99, 0], Reset(2)),
            ("4: an attribute beyond the end", OUTSIDE, &[0x80, 4, 200, 0], Withdraw),
            ("4: no byte for the length", OUTSIDE, &[0x80, 4], Withdraw),
            ("4: one byte for an extended length", OUTSIDE, &[0x90, 4, 0], Withdraw),
            ("4: one byte", OUTSIDE, &[0x80], Withdraw),
            ("4: an unrecognized attribute beyond the end", OUTSIDE, &[0xc0, 99, 1], Withdraw),
            ("5.3: MP_REACH_NLRI beyond the end", OUTSIDE, &[0x80, 14, 100, 0, 2, 1], Reset(1)),
            (
                "5.3: MP_REACH_NLRI with wrong flags",
                OUTSIDE,
                &[0xc0, 14, 5, 0, 2, 1, 0, 0],
                Reset(9),
            ),
            (
                "5.3: MP_REACH_NLRI of less than 5 bytes",
                OUTSIDE,
                &[0x80, 14, 4, 0, 2, 1, 0],
                Reset(9),
            ),
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
            (
                "RFC 7607: AGGREGATOR of AS 0",
                OUTSIDE,
                &[0xc0, 7, 8, 0, 0, 0, 0, 10, 0, 0, 1],
                Discard,
            ),
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
            (
                "7.11: a next hop beyond the end",
                OUTSIDE,
                &[0x80, 14, 6, 0, 2, 1, 16, 0, 0],
                Reset(9),
            ),
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
            (
                "RFC 4271 6.3: an unrecognized well-known attribute",
                OUTSIDE,
                &[0x40, 99, 0],
                Reset(2),
            ),
            ("an unrecognized non-transitive attribute", OUTSIDE, &[0x80, 99, 1, 0], NoError),
            ("an unsupported family", OUTSIDE, &[0x80, 14, 6, 0, 25, 70, 0, 0, 9], NoError),
        ];
        for (why, negotiated, bad, expected) in rows {
            let path = if negotiated.four_octet { GOOD_PATH } else { GOOD_PATH_OLD };
            assert_eq!(
                outcome(*negotiated, &[GOOD_ORIGIN, path, GOOD_HOP, bad]),
                *expected,
                "{why}"
            );
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
            (
                "7.2: a segment beyond the end",
                [GOOD_ORIGIN, &[0x40, 2, 6, 2, 2, 0, 0, 0, 1], GOOD_HOP],
            ),
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
        assert_eq!(
            subcode(&body(&[], &[GOOD_ORIGIN, GOOD_PATH, GOOD_HOP], &[40, 1, 2, 3, 4, 5])),
            10
        );
    }

    #[test]
    fn the_first_of_two_attributes_is_used_and_the_number_of_faults_is_limited() {
        let twice: &[u8] = &[0x40, 1, 1, 2];
        let mut attributes = vec![GOOD_ORIGIN, GOOD_PATH, GOOD_HOP];
        attributes.extend([twice; 20]);
        let update = read(&body(&[], &attributes, NETS), OUTSIDE).unwrap();
        assert_eq!((update.attributes.origin, update.faults.len()), (OriginCode::Igp, MAX_FAULTS));
        assert_eq!(update.faults[0], "ORIGIN: duplicate attribute: attribute discarded");
    }

    #[test]
    fn an_unrecognized_transitive_attribute_is_passed_on_with_the_partial_flag() {
        let attributes = [
            GOOD_ORIGIN,
            GOOD_PATH,
            GOOD_HOP,
            &[0xd0, 99, 0, 1, 7],
            &[0xc0, 40, 0],
            &[0x80, 98, 1, 7],
        ];
        let update = read(&body(&[], &attributes, NETS), OUTSIDE).unwrap();
        let other = |code, value: &[u8]| RawAttribute { code, flags: 0xe0, value: value.into() };
        assert_eq!(update.attributes.unrecognized, [other(40, &[]), other(99, &[7])]);
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
        let update =
            read(&body(&[], &[mp, GOOD_ORIGIN, GOOD_PATH, GOOD_HOP], NETS), OUTSIDE).unwrap();
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
        let end = |body: &[u8]| read(body, OUTSIDE).unwrap().end_of_rib;
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
    fn ignored_multicast_networks_are_reported() {
        let faults = |withdrawn: &[u8], attributes: &[&[u8]], networks: &[u8]| {
            let update = read(&body(withdrawn, attributes, networks), OUTSIDE).unwrap();
            assert_eq!(nets(&update).len() + update.withdrawn.len(), 1, "{update:?}");
            update.faults
        };
        let good = [GOOD_ORIGIN, GOOD_PATH, GOOD_HOP];
        // 224.0.0.0/4 is withdrawn, and 239.0.0.0/8 is advertised beside 10.1.0.0/16.
        assert_eq!(faults(&[4, 224], &good, NETS), ["1 multicast networks: ignored"]);
        assert_eq!(
            faults(&[4, 224], &good, &[16, 10, 1, 8, 239]),
            ["2 multicast networks: ignored"]
        );
        // ff02::/16 beside the good network, in each of the multiprotocol attributes.
        let mut reach = [GOOD_REACH, &[16, 0xff, 2]].concat();
        reach[2] += 3;
        assert_eq!(
            faults(&[], &[&reach, GOOD_ORIGIN, GOOD_PATH], &[]),
            ["1 multicast networks: ignored"]
        );
        let mut unreach = [GOOD_UNREACH, &[16, 0xff, 2]].concat();
        unreach[2] += 3;
        assert_eq!(faults(&[], &[&unreach], &[]), ["1 multicast networks: ignored"]);
        assert_eq!(faults(&[], &good, NETS), [""; 0]);
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
        // The number of resets by the changed byte and the subcode of the NOTIFICATION.
        let mut resets = BTreeMap::new();
        for negotiated in [OUTSIDE, INSIDE, OLD] {
            for (at, attribute) in whole.iter().enumerate() {
                let with = |changed: &[u8]| {
                    let mut all = whole.to_vec();
                    all[at] = changed;
                    read(&body(&[], &all, NETS), negotiated)
                };
                for cut in 3..attribute.len() {
                    // The length field matches the truncated value, so that only this attribute is malformed.
                    let mut changed = attribute[..cut].to_vec();
                    changed[2] = cut as u8 - 3;
                    let update = with(&changed)
                        .unwrap_or_else(|e| panic!("{attribute:?} cut at {cut}: {e}"));
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
                        match with(&changed) {
                            Ok(update) => {
                                let net = "10.1.0.0/16".parse().unwrap();
                                assert!(
                                    update.withdrawn.contains(&net)
                                        || nets(&update).contains(&"10.1.0.0/16".into())
                                );
                            }
                            Err(notification) => {
                                assert_eq!(notification.code, 3);
                                *resets.entry((byte, notification.subcode)).or_insert(0) += 1;
                            }
                        }
                    }
                }
            }
        }
        // Byte 0: the OPTIONAL bit is cleared, so the unknown attribute counts as well-known. Byte 1: a
        // well-known attribute gets an unknown code, or an attribute gets the code of MP_REACH_NLRI or
        // MP_UNREACH_NLRI. Byte 2: the rest begins with an attribute that is unknown and well-known.
        assert_eq!(resets, [((0, 2), 3), ((1, 2), 81), ((1, 9), 9), ((2, 2), 153)].into());
    }
}
