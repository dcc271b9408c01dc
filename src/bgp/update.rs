//! UPDATE, read (RFC 4271 section 4.3, RFC 4760) and, in `write`, written.
//!
//! An error costs no more than RFC 7606 says: an attribute that is left out, the routes of the message,
//! which then count as withdrawn, or the connection, where it can't be known which routes they are.

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
    Cost::{Discard, Reset, Withdraw},
    Fault, LENGTH, aggregator, is_host, next_hop_v6, number, numbers, take_value,
};

/// So many faults of a message are told.
const TOLD: usize = 8;

/// Reads what follows the header.
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
    reader.passed_over(withdrawn.passed_over + reach.passed_over);
    reader.has_routes = !rest.is_empty();
    reader.walk(attributes)?;
    if body == [0; 4] {
        reader.end = Some(Family::Ipv4);
    } else if reader.count > 1 || body.len() > attributes.len() + 4 {
        reader.end = None;
    }
    reader.finish(reach.nets)
}

/// The attributes of a message, as they are read one after the other.
struct Reader {
    agreed: Agreed,
    /// The codes that were there already.
    seen: [bool; 256],
    /// How many attributes there were.
    count: usize,
    found: Attributes,
    next_hop: Option<Ipv4Addr>,
    as4_path: Option<Vec<Segment>>,
    as4_aggregator: Option<(u32, Ipv4Addr)>,
    withdrawn: Vec<IpNet>,
    reach: Option<Reach>,
    /// The message has routes, if of a family that is not spoken of here.
    has_routes: bool,
    end: Option<Family>,
    /// The first error for which the routes count as withdrawn.
    broken: Option<Notification>,
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
            broken: None,
            faults: Vec::new(),
        }
    }

    /// Reads all attributes.
    fn walk(&mut self, mut bytes: &[u8]) -> Result<(), Notification> {
        while let Some(&flags) = bytes.first() {
            let (start, code) = (bytes, bytes.get(1).copied().unwrap_or(0));
            self.count += 1;
            let Some(value) = take_value(&mut bytes) else {
                // What is behind it can't be found; the other fields of the message can.
                let cost = if is_routes(code) { Reset(1) } else { Withdraw(1) };
                return self.judge(code, (cost, "longer than what is left"), &[]);
            };
            if let Err(fault) = self.take(flags, code, value) {
                let whole = start.get(..start.len() - bytes.len()).unwrap_or_default();
                self.judge(code, fault, whole)?;
            }
        }
        Ok(())
    }

    /// Lets an error cost what it must. `whole` is the attribute as it came, for the peer.
    fn judge(&mut self, code: u8, (cost, what): Fault, whole: &[u8]) -> Result<(), Notification> {
        let done = match cost {
            Reset(subcode) => return Err(Notification::with(3, subcode, data(subcode, whole))),
            Discard => "left out",
            Withdraw(subcode) => {
                self.broken
                    .get_or_insert_with(|| Notification::with(3, subcode, data(subcode, whole)));
                "its routes count as withdrawn"
            }
        };
        self.tell(match known(code) {
            Some((_, name)) => format!("{name}: {what}: {done}"),
            None => format!("attribute {code}: {what}: {done}"),
        });
        Ok(())
    }

    fn tell(&mut self, fault: String) {
        if self.faults.len() < TOLD {
            self.faults.push(fault);
        }
    }

    fn passed_over(&mut self, count: usize) {
        if count > 0 {
            self.tell(format!("{count} multicast networks: passed over"));
        }
    }

    /// Takes in one attribute (RFC 7606 sections 3 and 7).
    fn take(&mut self, flags: u8, code: u8, value: &[u8]) -> Result<(), Fault> {
        let seen =
            self.seen.get_mut(usize::from(code)).is_some_and(|seen| mem::replace(seen, true));
        if seen {
            return Err((if is_routes(code) { Reset(1) } else { Discard }, "there twice"));
        }
        if !self.agreed.internal && matches!(code, LOCAL_PREF | ORIGINATOR_ID | CLUSTER_LIST) {
            return Err((Discard, "not for other ASes"));
        }
        if self.agreed.four_octet && matches!(code, AS4_PATH | AS4_AGGREGATOR) {
            return Err((Discard, "not for speakers of four octets"));
        }
        let Some((expected, _)) = known(code) else {
            return self.take_unknown(flags, code, value);
        };
        if (flags ^ expected) & (OPTIONAL | TRANSITIVE) != 0 {
            return Err((if is_routes(code) { Reset(9) } else { Withdraw(4) }, "wrong flags"));
        }
        let found = &mut self.found;
        match code {
            ORIGIN => {
                found.origin = match value {
                    [0] => Origin::Igp,
                    [1] => Origin::Egp,
                    [2] => Origin::Incomplete,
                    [_] => return Err((Withdraw(6), "unknown value")),
                    _ => return Err((Withdraw(5), LENGTH)),
                }
            }
            AS_PATH => {
                let path = path::read(value, self.agreed.four_octet)
                    .ok_or((Withdraw(11), "broken segment"))?;
                let confederation =
                    |segment: &Segment| matches!(segment, Segment::Confederation(..));
                if !self.agreed.internal && path.iter().any(confederation) {
                    return Err((Withdraw(11), "a confederation of others")); // RFC 5065 section 5
                }
                found.path = path;
            }
            NEXT_HOP => self.next_hop = Some(number(value).ok_or((Withdraw(5), LENGTH))?.into()),
            MULTI_EXIT_DISC => found.med = Some(number(value).ok_or((Withdraw(5), LENGTH))?),
            LOCAL_PREF => found.local_pref = Some(number(value).ok_or((Withdraw(5), LENGTH))?),
            ATOMIC_AGGREGATE if value.is_empty() => found.atomic = true,
            ATOMIC_AGGREGATE => return Err((Discard, LENGTH)),
            AGGREGATOR => found.aggregator = Some(aggregator(value, self.agreed.four_octet)?),
            COMMUNITIES => {
                let communities = numbers(value)?;
                found.communities.clear();
                found.add_communities(&communities);
            }
            ORIGINATOR_ID => {
                found.originator = Some(number(value).ok_or((Withdraw(9), LENGTH))?.into());
            }
            CLUSTER_LIST => {
                found.clusters = numbers(value)?.into_iter().map(Ipv4Addr::from).collect();
            }
            MP_REACH_NLRI => return self.take_reach(value),
            MP_UNREACH_NLRI => return self.take_unreach(value),
            // A broken one is left out and the rest of the path is good (RFC 6793 section 6).
            AS4_PATH => {
                let path = path::read(value, true).filter(|path| !path.is_empty());
                self.as4_path = Some(path.ok_or((Discard, "broken segment"))?);
            }
            AS4_AGGREGATOR => self.as4_aggregator = Some(aggregator(value, true)?),
            EXTENDED_COMMUNITIES => self.take_other(flags, code, value, 8)?,
            IPV6_EXTENDED_COMMUNITIES => self.take_other(flags, code, value, 20)?,
            _ => self.take_other(flags, code, value, 12)?, // LARGE_COMMUNITY (RFC 8092)
        }
        Ok(())
    }

    /// Takes in one that is only passed on: a list of so many bytes each.
    fn take_other(&mut self, flags: u8, code: u8, value: &[u8], each: usize) -> Result<(), Fault> {
        if value.is_empty() || !value.len().is_multiple_of(each) {
            return Err((Withdraw(9), LENGTH));
        }
        self.keep(flags, code, value);
        Ok(())
    }

    /// One that is not known here is passed on where it is transitive, and else dropped.
    fn take_unknown(&mut self, flags: u8, code: u8, value: &[u8]) -> Result<(), Fault> {
        if flags & OPTIONAL == 0 {
            return Err((Reset(2), "well-known, but not here"));
        }
        if flags & TRANSITIVE != 0 {
            self.keep(flags | PARTIAL, code, value); // RFC 4271 section 5: not all on its way knew it
        }
        Ok(())
    }

    fn keep(&mut self, flags: u8, code: u8, value: &[u8]) {
        let flags = flags & (OPTIONAL | TRANSITIVE | PARTIAL);
        self.found.others.push(Other { code, flags, value: value.into() });
    }

    /// MP_REACH_NLRI: family, next hop, a byte that was reserved, networks. Another length of the next
    /// hop than expected means that the networks can't be found (RFC 7606 section 7.11).
    fn take_reach(&mut self, mut value: &[u8]) -> Result<(), Fault> {
        const SHORT: Fault = (Reset(9), "too short");
        self.has_routes = true;
        let bytes = &mut value;
        let afi = take_u16(bytes).ok_or(SHORT)?;
        let (safi, length) = (take_u8(bytes).ok_or(SHORT)?, take_u8(bytes).ok_or(SHORT)?);
        let next_hop = take(bytes, length.into()).ok_or(SHORT)?;
        take_u8(bytes).ok_or(SHORT)?;
        let Some(family) = Family::of_afi(afi).filter(|_| safi == UNICAST) else {
            return Ok(()); // never asked for
        };
        let next_hop = match (family, next_hop) {
            (Family::Ipv4, &[a, b, c, d]) => Ipv4Addr::new(a, b, c, d).into(),
            (Family::Ipv6, _) => {
                next_hop_v6(next_hop).ok_or((Reset(9), "next hop of wrong length"))?.into()
            }
            _ => return Err((Reset(9), "next hop of wrong length")),
        };
        let found = nlri::read(value, family).ok_or((Reset(9), "broken network"))?;
        self.passed_over(found.passed_over);
        self.reach = Some(Reach { next_hop, nets: found.nets });
        if is_host(next_hop) { Ok(()) } else { Err((Withdraw(9), "next hop that is no host")) }
    }

    /// MP_UNREACH_NLRI: family, networks; none is an End-of-RIB, where nothing else is there.
    fn take_unreach(&mut self, mut value: &[u8]) -> Result<(), Fault> {
        let (Some(afi), Some(safi)) = (take_u16(&mut value), take_u8(&mut value)) else {
            return Err((Reset(9), "too short"));
        };
        let Some(family) = Family::of_afi(afi).filter(|_| safi == UNICAST) else {
            return Ok(());
        };
        self.end = value.is_empty().then_some(family);
        let found = nlri::read(value, family).ok_or((Reset(9), "broken network"))?;
        self.passed_over(found.passed_over);
        self.withdrawn.extend(found.nets);
        Ok(())
    }

    /// Makes the whole of it, with the routes of the message's own field.
    fn finish(mut self, nets: Vec<IpNet>) -> Result<Update, Notification> {
        self.merge_as4();
        let mut reach = Vec::new();
        if !nets.is_empty() {
            let next_hop = self.next_hop.map(IpAddr::from);
            if !self.is_seen(NEXT_HOP) {
                self.judge(NEXT_HOP, (Withdraw(3), "missing"), &[NEXT_HOP])?;
            } else if next_hop.is_some_and(|addr| !is_host(addr)) {
                self.judge(NEXT_HOP, (Withdraw(8), "no host"), &[])?;
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
                if !self.is_seen(code) {
                    self.judge(code, (Withdraw(3), "missing"), &[code])?;
                }
            }
        }
        if let Some(broken) = self.broken {
            // Without routes it may be that just they could not be found (RFC 7606 section 5.2).
            if !self.has_routes {
                return Err(broken);
            }
            self.withdrawn.extend(reach.drain(..).flat_map(|reach| reach.nets));
        }
        if reach.is_empty() {
            self.found = Attributes::default();
        } else if !self.withdrawn.is_empty() {
            // What is in both is there (RFC 4271 section 4.3).
            let mut there: Vec<IpNet> =
                reach.iter().flat_map(|reach| reach.nets.iter().copied()).collect();
            there.sort_unstable();
            self.withdrawn.retain(|net| there.binary_search(net).is_err());
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

    fn is_seen(&self, code: u8) -> bool {
        self.seen.get(usize::from(code)).copied().unwrap_or_default()
    }

    /// Takes the numbers that two octets could not hold from where they are (RFC 6793 section 4.2.3).
    fn merge_as4(&mut self) {
        if let (Some(one), Some(four)) = (&mut self.found.aggregator, self.as4_aggregator) {
            if one.0 != u32::from(path::TRANS) {
                return; // a speaker of two octets has aggregated since: both are old
            }
            *one = four;
        }
        if let Some(as4) = &self.as4_path {
            self.found.path = path::merge(mem::take(&mut self.found.path), as4);
        }
    }
}

/// What a notification of a subcode carries: for most, the attribute (RFC 4271 section 6.3).
fn data(subcode: u8, whole: &[u8]) -> &[u8] {
    if matches!(subcode, 1 | 10 | 11) { &[] } else { whole }
}

#[cfg(test)]
mod tests;
