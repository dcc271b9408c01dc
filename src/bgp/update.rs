//! Decoding of UPDATE (RFC 4271 section 4.3, RFC 4760) with the error handling of RFC 7606.
//!
//! [`read`] splits the body into its three fields, `Reader::read_attributes` reads the path attributes
//! one by one (the values with `value`, the networks with [`nlri`]), and `Reader::finish` checks that the
//! mandatory ones are present. `write` encodes UPDATEs.
//!
//! An error has the mildest consequence that RFC 7606 allows: the attribute is discarded, or the routes
//! of the message are treated as withdrawn, or, if these routes cannot be determined, the session is
//! reset.

mod code;
mod value;
mod write;

use std::{
    mem,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;

use super::{
    Family,
    attribute::{Attributes, Origin, Other, Segment},
    capability::UNICAST,
    message::{Agreed, Notification, Reach, Update},
    nlri, path,
    wire::{take, take_u8, take_u16},
};

pub(super) use code::LARGE_COMMUNITY;
pub(super) use write::write;

use code::*;
use value::{
    AttributeError,
    ErrorHandling::{AttributeDiscard, SessionReset, TreatAsWithdraw},
    WRONG_LENGTH, is_valid_next_hop, read_aggregator, read_next_hop_v6, read_u32, read_u32_list,
    take_value,
};

/// The most faults that are reported for one message.
const MAX_FAULTS: usize = 8;

/// Reads the body of an UPDATE, without the message header.
///
/// Fails if the session must be reset; the error is the NOTIFICATION to send. Milder errors are reported
/// in [`Update::faults`].
pub(super) fn read(body: &[u8], agreed: Agreed) -> Result<Update, Notification> {
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

    let mut reader = Reader::new(agreed);
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
    agreed: Agreed,
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
    fn new(agreed: Agreed) -> Reader {
        Reader {
            agreed,
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
        if !self.agreed.internal && matches!(code, LOCAL_PREF | ORIGINATOR_ID | CLUSTER_LIST) {
            return Err((AttributeDiscard, "not allowed from another AS"));
        }
        if self.agreed.four_octet && matches!(code, AS4_PATH | AS4_AGGREGATOR) {
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
                    [0] => Origin::Igp,
                    [1] => Origin::Egp,
                    [2] => Origin::Incomplete,
                    [_] => return Err((TreatAsWithdraw(6), "unknown value")),
                    _ => return Err((TreatAsWithdraw(5), WRONG_LENGTH)),
                }
            }
            AS_PATH => {
                let path = path::read(value, self.agreed.four_octet)
                    .ok_or((TreatAsWithdraw(11), "malformed segment"))?;
                let confederation =
                    |segment: &Segment| matches!(segment, Segment::Confederation(..));
                if !self.agreed.internal && path.iter().any(confederation) {
                    // RFC 5065 section 5
                    return Err((TreatAsWithdraw(11), "confederation segment from another AS"));
                }
                found.path = path;
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
            AGGREGATOR => found.aggregator = Some(read_aggregator(value, self.agreed.four_octet)?),
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
                let path = path::read(value, true).filter(|path| !path.is_empty());
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
        self.found.others.push(Other { code, flags, value: value.into() });
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
        self.found.others.sort_by_key(|other| other.code);
        Ok(Update {
            withdrawn: self.withdrawn,
            reach,
            attributes: self.found,
            end: self.end,
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
            if one.0 != u32::from(path::AS_TRANS) {
                // A two-octet AS speaker aggregated the route again, so both AS4 attributes are outdated.
                return;
            }
            *one = four;
        }
        if let Some(as4) = &self.as4_path {
            self.found.path = path::merge_as4_path(mem::take(&mut self.found.path), as4);
        }
    }
}

/// Returns the data of a NOTIFICATION: the attribute, except for the subcodes 1 (malformed attribute
/// list), 10 (invalid network field) and 11 (malformed AS_PATH) (RFC 4271 section 6.3).
fn notification_data(subcode: u8, attribute: &[u8]) -> &[u8] {
    if matches!(subcode, 1 | 10 | 11) { &[] } else { attribute }
}

#[cfg(test)]
mod tests;
