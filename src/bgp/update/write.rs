//! UPDATE, written: as many messages as it takes, each about one thing.
//!
//! No message has more than one of: withdrawn routes, routes, and either in multiprotocol form, which is
//! then the first attribute: so an error in it can cost no more than it must (RFC 7606 section 5.1).

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::code::{
    AGGREGATOR, AS_PATH, AS4_AGGREGATOR, AS4_PATH, ATOMIC_AGGREGATE, CLUSTER_LIST, COMMUNITIES,
    EXTENDED_LENGTH, LOCAL_PREF, MP_REACH_NLRI, MP_UNREACH_NLRI, MULTI_EXIT_DISC, NEXT_HOP,
    OPTIONAL, ORIGIN, ORIGINATOR_ID, TRANSITIVE,
};
use crate::bgp::{
    Family,
    attribute::{Attributes, Origin},
    capability::UNICAST,
    message::{Agreed, HEADER, MAX, Update},
    nlri::{self, LONGEST},
    path,
};

/// Room for the two lengths, the attributes and the routes.
const ROOM: usize = MAX - HEADER - 4;
/// Of MP_UNREACH_NLRI, all but the networks.
const UNREACH: usize = 4 + 3;
/// Of MP_REACH_NLRI, all but the networks, for IPv6.
const REACH: usize = 4 + 3 + 1 + 16 + 1;

/// Gives the bodies of the messages that say it.
pub fn write(update: &Update, agreed: Agreed, emit: &mut dyn FnMut(&[u8])) {
    withdraw(&update.withdrawn, emit);
    for reach in &update.reach {
        let (family, attributes, fixed) = match reach.next_hop {
            IpAddr::V4(addr) => {
                (Family::Ipv4, attributes(&update.attributes, Some(addr), agreed), 0)
            }
            IpAddr::V6(_) => (Family::Ipv6, attributes(&update.attributes, None, agreed), REACH),
        };
        let Some(room) = ROOM.checked_sub(attributes.len() + fixed).filter(|&room| room >= LONGEST)
        else {
            // They can't be said; what was said of these routes before holds no more.
            withdraw(&reach.nets, emit);
            continue;
        };
        nlri::pack(&reach.nets, family, room, &mut |nets| match reach.next_hop {
            IpAddr::V4(_) => emit(&body(&[], &attributes, nets)),
            IpAddr::V6(addr) => {
                let mut value = start(family);
                value.push(16);
                value.extend(addr.octets());
                value.push(0);
                value.extend_from_slice(nets);
                let mut all = Vec::new();
                attribute(OPTIONAL | EXTENDED_LENGTH, MP_REACH_NLRI, &value, &mut all);
                all.extend_from_slice(&attributes);
                emit(&body(&[], &all, &[]));
            }
        });
    }
    match update.end {
        None => {}
        Some(Family::Ipv4) => emit(&body(&[], &[], &[])),
        Some(family) => {
            let mut all = Vec::new();
            attribute(OPTIONAL, MP_UNREACH_NLRI, &start(family), &mut all);
            emit(&body(&[], &all, &[]));
        }
    }
}

fn withdraw(nets: &[IpNet], emit: &mut dyn FnMut(&[u8])) {
    nlri::pack(nets, Family::Ipv4, ROOM, &mut |nets| emit(&body(nets, &[], &[])));
    nlri::pack(nets, Family::Ipv6, ROOM - UNREACH, &mut |nets| {
        let mut value = start(Family::Ipv6);
        value.extend_from_slice(nets);
        let mut all = Vec::new();
        attribute(OPTIONAL | EXTENDED_LENGTH, MP_UNREACH_NLRI, &value, &mut all);
        emit(&body(&[], &all, &[]));
    });
}

/// How an attribute in multiprotocol form begins.
fn start(family: Family) -> Vec<u8> {
    let mut value = family.afi().to_be_bytes().to_vec();
    value.push(UNICAST);
    value
}

fn body(withdrawn: &[u8], attributes: &[u8], nets: &[u8]) -> Vec<u8> {
    let length = |field: &[u8]| u16::try_from(field.len()).unwrap_or(u16::MAX).to_be_bytes(); // ROOM at most
    [&length(withdrawn)[..], withdrawn, &length(attributes), attributes, nets].concat()
}

/// Appends an attribute, with an extended length where the flags or its value ask for it.
fn attribute(flags: u8, code: u8, value: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(value.len()) {
        Ok(length) if flags & EXTENDED_LENGTH == 0 => out.extend([flags, code, length]),
        _ => {
            out.extend([flags | EXTENDED_LENGTH, code]);
            // One of more bytes does not fit the message either, and then is not sent.
            out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(value);
}

/// The attributes but those with routes, in the order of their codes.
fn attributes(of: &Attributes, next_hop: Option<Ipv4Addr>, agreed: Agreed) -> Vec<u8> {
    const BOTH: u8 = OPTIONAL | TRANSITIVE;
    let mut out = Vec::new();
    let origin = match of.origin {
        Origin::Igp => 0,
        Origin::Egp => 1,
        Origin::Incomplete => 2,
    };
    attribute(TRANSITIVE, ORIGIN, &[origin], &mut out);
    let mut value = Vec::new();
    path::write(&of.path, agreed.four_octet, &mut value);
    attribute(TRANSITIVE, AS_PATH, &value, &mut out);
    if let Some(addr) = next_hop {
        attribute(TRANSITIVE, NEXT_HOP, &addr.octets(), &mut out);
    }
    if let Some(med) = of.med {
        attribute(OPTIONAL, MULTI_EXIT_DISC, &med.to_be_bytes(), &mut out);
    }
    if let Some(local_pref) = of.local_pref.filter(|_| agreed.internal) {
        attribute(TRANSITIVE, LOCAL_PREF, &local_pref.to_be_bytes(), &mut out);
    }
    if of.atomic {
        attribute(TRANSITIVE, ATOMIC_AGGREGATE, &[], &mut out);
    }
    if let Some((asn, addr)) = of.aggregator {
        let (two, four) = (path::to_two(asn).to_be_bytes(), asn.to_be_bytes());
        let asn = if agreed.four_octet { &four[..] } else { &two };
        attribute(BOTH, AGGREGATOR, &[asn, &addr.octets()].concat(), &mut out);
    }
    if !of.communities.is_empty() {
        let value: Vec<u8> =
            of.communities.iter().flat_map(|community| community.to_be_bytes()).collect();
        attribute(BOTH, COMMUNITIES, &value, &mut out);
    }
    if let Some(originator) = of.originator.filter(|_| agreed.internal) {
        attribute(OPTIONAL, ORIGINATOR_ID, &originator.octets(), &mut out);
    }
    if agreed.internal && !of.clusters.is_empty() {
        let value: Vec<u8> = of.clusters.iter().flat_map(Ipv4Addr::octets).collect();
        attribute(OPTIONAL, CLUSTER_LIST, &value, &mut out);
    }
    let others = |out: &mut Vec<u8>, after: bool| {
        for other in of.others.iter().filter(|other| (other.code > AS4_AGGREGATOR) == after) {
            attribute(other.flags, other.code, &other.value, out);
        }
    };
    others(&mut out, false);
    if !agreed.four_octet {
        if let Some(as4) = path::as4(&of.path) {
            value.clear();
            path::write(&as4, true, &mut value);
            attribute(BOTH, AS4_PATH, &value, &mut out);
        }
        if let Some((asn, addr)) = of.aggregator.filter(|&(asn, _)| asn > u16::MAX.into()) {
            attribute(BOTH, AS4_AGGREGATOR, &[asn.to_be_bytes(), addr.octets()].concat(), &mut out);
        }
    }
    others(&mut out, true);
    out
}
