//! Encoding of UPDATE (RFC 4271 section 4.3, RFC 4760). One [`Update`] becomes as many messages as it
//! needs.
//!
//! A message has only one of these: withdrawn routes, advertised routes, MP_UNREACH_NLRI or
//! MP_REACH_NLRI, and the last two come first among the attributes. An error in the message then has
//! the mildest consequence (RFC 7606 section 5.1). The networks are encoded by [`nlri::pack`].

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::codes::{
    AGGREGATOR, AS_PATH, AS4_AGGREGATOR, AS4_PATH, ATOMIC_AGGREGATE, CLUSTER_LIST, COMMUNITIES,
    EXTENDED_LENGTH, LOCAL_PREF, MP_REACH_NLRI, MP_UNREACH_NLRI, MULTI_EXIT_DISC, NEXT_HOP,
    OPTIONAL, ORIGIN, ORIGINATOR_ID, TRANSITIVE,
};
use super::types::Update;
use crate::bgp::{
    as_path,
    attribute::{Attributes, OriginCode},
    capability::Negotiated,
    nlri::{self, MAX_ENCODED_LEN},
    wire::{HEADER_LEN, MAX_MESSAGE_LEN, UNICAST},
};
use crate::family::Family;

/// The most bytes of withdrawn routes, attributes and advertised routes in a message: all but the header
/// and the two length fields.
const MAX_PAYLOAD: usize = MAX_MESSAGE_LEN - HEADER_LEN - 4;
/// The bytes of MP_UNREACH_NLRI without the networks.
const MP_UNREACH_OVERHEAD: usize = 4 + 3;
/// The bytes of MP_REACH_NLRI for IPv6 without the networks.
const MP_REACH_OVERHEAD: usize = 4 + 3 + 1 + 16 + 1;

/// Calls `emit` with the body of each message that encodes an UPDATE, without the message header.
///
/// If the attributes leave no room for a route, the routes are withdrawn instead.
pub(crate) fn write(update: &Update, negotiated: Negotiated, emit: &mut dyn FnMut(&[u8])) {
    write_withdrawn(&update.withdrawn, emit);
    for reach in &update.reach {
        let (family, attributes, fixed) = match reach.next_hop {
            IpAddr::V4(addr) => {
                (Family::Ipv4, encode_attributes(&update.attributes, Some(addr), negotiated), 0)
            }
            IpAddr::V6(_) => (
                Family::Ipv6,
                encode_attributes(&update.attributes, None, negotiated),
                MP_REACH_OVERHEAD,
            ),
        };
        let room = MAX_PAYLOAD.checked_sub(attributes.len() + fixed);
        let Some(room) = room.filter(|&room| room >= MAX_ENCODED_LEN) else {
            // The routes cannot be advertised, and the peer may have outdated attributes of them.
            write_withdrawn(&reach.nets, emit);
            continue;
        };
        nlri::pack(&reach.nets, family, room, &mut |nets| match reach.next_hop {
            IpAddr::V4(_) => emit(&body(&[], &attributes, nets)),
            IpAddr::V6(addr) => {
                let mut value = afi_safi(family);
                value.push(16);
                value.extend(addr.octets());
                value.push(0);
                value.extend_from_slice(nets);
                let mut all = Vec::new();
                push_attribute(OPTIONAL | EXTENDED_LENGTH, MP_REACH_NLRI, &value, &mut all);
                all.extend_from_slice(&attributes);
                emit(&body(&[], &all, &[]));
            }
        });
    }
    match update.end_of_rib {
        None => {}
        Some(Family::Ipv4) => emit(&body(&[], &[], &[])),
        Some(family) => {
            let mut all = Vec::new();
            push_attribute(OPTIONAL, MP_UNREACH_NLRI, &afi_safi(family), &mut all);
            emit(&body(&[], &all, &[]));
        }
    }
}

/// Calls `emit` with the body of each message that withdraws the networks.
fn write_withdrawn(nets: &[IpNet], emit: &mut dyn FnMut(&[u8])) {
    nlri::pack(nets, Family::Ipv4, MAX_PAYLOAD, &mut |nets| emit(&body(nets, &[], &[])));
    nlri::pack(nets, Family::Ipv6, MAX_PAYLOAD - MP_UNREACH_OVERHEAD, &mut |nets| {
        let mut value = afi_safi(Family::Ipv6);
        value.extend_from_slice(nets);
        let mut all = Vec::new();
        push_attribute(OPTIONAL | EXTENDED_LENGTH, MP_UNREACH_NLRI, &value, &mut all);
        emit(&body(&[], &all, &[]));
    });
}

/// Returns the AFI and SAFI with which the value of a multiprotocol attribute begins.
fn afi_safi(family: Family) -> Vec<u8> {
    let mut value = family.afi().to_be_bytes().to_vec();
    value.push(UNICAST);
    value
}

/// Returns the body of a message. Each field has at most [`MAX_PAYLOAD`] bytes.
fn body(withdrawn: &[u8], attributes: &[u8], nets: &[u8]) -> Vec<u8> {
    let length = |field: &[u8]| u16::try_from(field.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&length(withdrawn)[..], withdrawn, &length(attributes), attributes, nets].concat()
}

/// Appends an attribute. The length has two bytes if the flags request it or if the value needs it.
fn push_attribute(flags: u8, code: u8, value: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(value.len()) {
        Ok(length) if flags & EXTENDED_LENGTH == 0 => out.extend([flags, code, length]),
        _ => {
            out.extend([flags | EXTENDED_LENGTH, code]);
            // A value of more than 65,535 bytes exceeds the message too, so it is never sent.
            out.extend(u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(value);
}

/// Encodes all attributes but those with routes, in the order of their type codes. `next_hop` is the
/// value of NEXT_HOP; `None` if the next hop is in MP_REACH_NLRI.
fn encode_attributes(
    of: &Attributes,
    next_hop: Option<Ipv4Addr>,
    negotiated: Negotiated,
) -> Vec<u8> {
    const BOTH: u8 = OPTIONAL | TRANSITIVE;
    let mut out = Vec::new();
    let origin = match of.origin {
        OriginCode::Igp => 0,
        OriginCode::Egp => 1,
        OriginCode::Incomplete => 2,
    };
    push_attribute(TRANSITIVE, ORIGIN, &[origin], &mut out);
    let mut value = Vec::new();
    as_path::write(&of.as_path, negotiated.four_octet, &mut value);
    push_attribute(TRANSITIVE, AS_PATH, &value, &mut out);
    if let Some(addr) = next_hop {
        push_attribute(TRANSITIVE, NEXT_HOP, &addr.octets(), &mut out);
    }
    if let Some(med) = of.med {
        push_attribute(OPTIONAL, MULTI_EXIT_DISC, &med.to_be_bytes(), &mut out);
    }
    if let Some(local_pref) = of.local_pref.filter(|_| negotiated.internal) {
        push_attribute(TRANSITIVE, LOCAL_PREF, &local_pref.to_be_bytes(), &mut out);
    }
    if of.atomic {
        push_attribute(TRANSITIVE, ATOMIC_AGGREGATE, &[], &mut out);
    }
    if let Some((asn, addr)) = of.aggregator {
        let (two, four) = (as_path::to_two_octets(asn).to_be_bytes(), asn.to_be_bytes());
        let asn = if negotiated.four_octet { &four[..] } else { &two };
        push_attribute(BOTH, AGGREGATOR, &[asn, &addr.octets()].concat(), &mut out);
    }
    if !of.communities.is_empty() {
        let value: Vec<u8> =
            of.communities.iter().flat_map(|community| community.to_be_bytes()).collect();
        push_attribute(BOTH, COMMUNITIES, &value, &mut out);
    }
    if let Some(originator) = of.originator.filter(|_| negotiated.internal) {
        push_attribute(OPTIONAL, ORIGINATOR_ID, &originator.octets(), &mut out);
    }
    if negotiated.internal && !of.clusters.is_empty() {
        let value: Vec<u8> = of.clusters.iter().flat_map(Ipv4Addr::octets).collect();
        push_attribute(OPTIONAL, CLUSTER_LIST, &value, &mut out);
    }
    let others = |out: &mut Vec<u8>, after: bool| {
        for other in of.unrecognized.iter().filter(|other| (other.code > AS4_AGGREGATOR) == after) {
            push_attribute(other.flags, other.code, &other.value, out);
        }
    };
    others(&mut out, false);
    if !negotiated.four_octet {
        if let Some(as4) = as_path::as4_path(&of.as_path) {
            value.clear();
            as_path::write(&as4, true, &mut value);
            push_attribute(BOTH, AS4_PATH, &value, &mut out);
        }
        if let Some((asn, addr)) = of.aggregator.filter(|&(asn, _)| asn > u16::MAX.into()) {
            push_attribute(
                BOTH,
                AS4_AGGREGATOR,
                &[asn.to_be_bytes(), addr.octets()].concat(),
                &mut out,
            );
        }
    }
    others(&mut out, true);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bgp::{as_path::Segment, attribute::RawAttribute, update::value::take_value};

    #[test]
    fn attributes_are_sent_in_the_order_of_their_type_codes() {
        let unrecognized = [16, 25, 32, 99].map(|code| RawAttribute {
            code,
            flags: OPTIONAL | TRANSITIVE,
            value: vec![0; 60].into(),
        });
        let attributes = Attributes {
            as_path: vec![Segment::Sequence(vec![70_000])],
            med: Some(1),
            local_pref: Some(1),
            atomic: true,
            aggregator: Some((70_000, Ipv4Addr::LOCALHOST)),
            communities: vec![1],
            originator: Some(Ipv4Addr::LOCALHOST),
            clusters: vec![Ipv4Addr::LOCALHOST],
            unrecognized: unrecognized.into(),
            ..Attributes::default()
        };
        let codes = |four_octet| {
            let negotiated = Negotiated { four_octet, internal: true };
            let encoded = encode_attributes(&attributes, Some(Ipv4Addr::LOCALHOST), negotiated);
            let (mut rest, mut codes) = (&encoded[..], Vec::new());
            while let Some(&[_, code]) = rest.first_chunk() {
                codes.push(code);
                take_value(&mut rest).unwrap();
            }
            codes
        };
        assert_eq!(codes(true), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 25, 32, 99]);
        assert_eq!(codes(false), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 16, 17, 18, 25, 32, 99]);
    }
}
