//! Conntrack messages: list and delete flows by nfnetlink (linux/netfilter/nfnetlink_conntrack.h).
//!
//! Every number is big-endian except the flags of a filter. A delete request without a tuple would
//! delete all flows of the node, so [`delete_flow`] always includes the tuple.

use std::net::IpAddr;

use neli::consts::nl::NlmF;

use super::message::{Attrs, NLA_F_NESTED, Request};
use crate::{family::Family, sys};

/// NFNL_SUBSYS_CTNETLINK in the upper byte of a message's type.
const SUBSYSTEM: u16 = 1 << 8;

// IPCTNL_MSG_CT_*
const GET: u16 = 1;
const DELETE: u16 = 2;

// CTA_*
const TUPLE_ORIG: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const TUPLE_ZONE: u16 = 3;
const IP_V4_SRC: u16 = 1;
const IP_V4_DST: u16 = 2;
const IP_V6_SRC: u16 = 3;
const IP_V6_DST: u16 = 4;
const PROTO_NUM: u16 = 1;
const PROTO_SRC_PORT: u16 = 2;
const PROTO_DST_PORT: u16 = 3;
const FILTER_ORIG_FLAGS: u16 = 1;
const FILTER_REPLY_FLAGS: u16 = 2;

/// CTA_FILTER_F_CTA_PROTO_NUM (net/netfilter/nf_conntrack_netlink.c): return only flows of the
/// tuple's protocol.
const BY_PROTOCOL: u32 = 1 << 3;
/// struct nfgenmsg { u8 family; u8 version; be16 res_id; }
const NFGEN: usize = 4;

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlowTuple {
    /// The number of the transport protocol (`IPPROTO_*`).
    pub protocol: u8,
    /// Source address.
    pub src: IpAddr,
    /// Source port.
    pub sport: u16,
    /// Destination address.
    pub dst: IpAddr,
    /// Destination port.
    pub dport: u16,
}

/// An entry of conntrack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConntrackEntry {
    /// The original direction.
    pub orig: FlowTuple,
    /// The reply direction, after address translation.
    pub reply: FlowTuple,
    /// The id, which distinguishes the entry from a later one with the same addresses.
    pub id: u32,
    /// Conntrack zone of the original direction; 0 is the default zone.
    pub zone: u16,
}

fn request(message: u16, family: Family) -> Request {
    let header = [sys::address_family(family), 0, 0, 0];
    Request::new(SUBSYSTEM | message, NlmF::empty(), &header)
}

/// Requests the flows of one family and one transport protocol, to be parsed with [`read_flow`].
/// Kernels before 5.8 ignore the filter and return the flows of other protocols too.
pub(crate) fn list_flows(family: Family, protocol: u8) -> Request {
    request(GET, family)
        .nest(TUPLE_ORIG | NLA_F_NESTED, |tuple| {
            tuple.nest(TUPLE_PROTO | NLA_F_NESTED, |proto| proto.attr(PROTO_NUM, &[protocol]))
        })
        .nest(FILTER | NLA_F_NESTED, |filter| {
            filter.u32(FILTER_ORIG_FLAGS, BY_PROTOCOL).u32(FILTER_REPLY_FLAGS, 0)
        })
}

/// Deletes the flow with this original direction, id and zone. Because of the id it can't delete a
/// later flow with the same addresses. The kernel answers ENOENT if the flow does not exist.
pub(crate) fn delete_flow(orig: &FlowTuple, id: u32, zone: u16) -> Request {
    let family = Family::of_addr(&orig.src);
    let (src, dst) = match family {
        Family::Ipv4 => (IP_V4_SRC, IP_V4_DST),
        Family::Ipv6 => (IP_V6_SRC, IP_V6_DST),
    };
    let request = request(DELETE, family)
        .nest(TUPLE_ORIG | NLA_F_NESTED, |tuple| {
            tuple
                .nest(TUPLE_IP | NLA_F_NESTED, |ip| ip.addr(src, orig.src).addr(dst, orig.dst))
                .nest(TUPLE_PROTO | NLA_F_NESTED, |proto| {
                    proto
                        .attr(PROTO_NUM, &[orig.protocol])
                        .attr(PROTO_SRC_PORT, &orig.sport.to_be_bytes())
                        .attr(PROTO_DST_PORT, &orig.dport.to_be_bytes())
                })
        })
        .attr(ID, &id.to_be_bytes());
    if zone == 0 { request } else { request.attr(ZONE, &zone.to_be_bytes()) }
}

/// Parses a flow from a message's body. Returns `None` if an attribute is missing or cut, or if the
/// protocol has no ports.
pub(crate) fn read_flow(body: &[u8]) -> Option<ConntrackEntry> {
    let attrs = Attrs::after(body, NFGEN);
    let orig = attrs.nest(TUPLE_ORIG)?;
    // A zone may apply to one direction only; the kernel looks a flow up by the original direction.
    let zone = attrs.get(ZONE).or_else(|| orig.get(TUPLE_ZONE));
    Some(ConntrackEntry {
        orig: read_tuple(orig)?,
        reply: read_tuple(attrs.nest(TUPLE_REPLY)?)?,
        id: u32::from_be_bytes(*attrs.get(ID)?.first_chunk()?),
        zone: zone.and_then(|z| z.first_chunk()).map_or(0, |z| u16::from_be_bytes(*z)),
    })
}

fn read_tuple(tuple: Attrs<'_>) -> Option<FlowTuple> {
    let (ip, proto) = (tuple.nest(TUPLE_IP)?, tuple.nest(TUPLE_PROTO)?);
    Some(FlowTuple {
        protocol: *proto.get(PROTO_NUM)?.first()?,
        src: ip.addr(IP_V4_SRC).or_else(|| ip.addr(IP_V6_SRC))?,
        sport: proto.port(PROTO_SRC_PORT)?,
        dst: ip.addr(IP_V4_DST).or_else(|| ip.addr(IP_V6_DST))?,
        dport: proto.port(PROTO_DST_PORT)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::{body_of, from_hex};

    /// Recorded from Linux 6.18 on a little-endian machine: two translated flows, the second in zone 7.
    const IPV4: &str = "02000000 34000180 14000180 080001007f000001 080002000a60000a 1c000280 05000100
        11000000 060002009c400000 0600030000360000 34000280 14000180 080001007f000001 080002007f000001
        1c000280 0500010011000000 0600020014b50000 060003009c400000 08000300000001a8 0800080000000000
        08000c0071ce2200 08000b0000000001 080007000000001d";
    const IPV6: &str = "0a000000 4c000180 2c000180 1400030000000000000000000000000000000001
        14000400fd960000000000000000000000000010 1c000280 0500010011000000 060002009c400000
        0600030000350000 4c000280 2c000180 1400030000000000000000000000000000000001
        1400040000000000000000000000000000000001 1c000280 0500010011000000 0600020014b50000
        060003009c400000 0600120000070000 08000300000001a8 0800080000000000 08000c00a5598375
        08000b0000000001 080007000000001d";

    fn flow(loopback: &str, vip: &str, dport: u16, id: u32, zone: u16) -> ConntrackEntry {
        let loopback = loopback.parse().unwrap();
        let tuple =
            |sport, dst, dport| FlowTuple { protocol: 17, src: loopback, sport, dst, dport };
        ConntrackEntry {
            orig: tuple(40_000, vip.parse().unwrap(), dport),
            reply: tuple(5301, loopback, 40_000),
            id,
            zone,
        }
    }

    fn samples() -> [(Vec<u8>, ConntrackEntry); 2] {
        [
            (from_hex(IPV4), flow("127.0.0.1", "10.96.0.10", 54, 0x71ce_2200, 0)),
            (from_hex(IPV6), flow("::1", "fd96::10", 53, 0xa559_8375, 7)),
        ]
    }

    #[test]
    fn a_recorded_flow_is_parsed() {
        for (body, flow) in samples() {
            assert_eq!(read_flow(&body), Some(flow));
        }
    }

    #[test]
    fn a_delete_request_repeats_the_tuple_and_id_of_its_flow() {
        for (recorded, flow) in samples() {
            let body = body_of(&delete_flow(&flow.orig, flow.id, flow.zone));
            let (sent, received) = (Attrs::after(&body, NFGEN), Attrs::after(&recorded, NFGEN));
            for kind in [TUPLE_ORIG, ID, ZONE] {
                assert_eq!(sent.get(kind), received.get(kind), "{kind}");
            }
            assert!(sent.get(TUPLE_ORIG).is_some(), "without a tuple all flows would be deleted");
        }
    }

    #[test]
    fn a_truncated_message_yields_a_complete_flow_or_none() {
        for (body, flow) in samples() {
            // The id is the last attribute that a flow needs.
            let id = [&[8, 0, ID as u8, 0][..], &flow.id.to_be_bytes()].concat();
            let id_end = body.windows(id.len()).position(|bytes| bytes == id).unwrap() + id.len();
            for len in 0..body.len() {
                let expected = (len >= id_end).then_some(flow);
                assert_eq!(read_flow(&body[..len]), expected, "{len} bytes");
            }
        }
    }

    #[test]
    fn a_flow_without_a_tuple_or_an_id_is_ignored() {
        let without = |body: &[u8], omitted: u16| {
            let kept = Attrs::after(body, NFGEN).into_iter().filter(|(kind, _)| *kind != omitted);
            let request = Request::new(0u16, NlmF::empty(), &body[..NFGEN]);
            let request =
                kept.fold(request, |request, (kind, payload)| request.attr(kind, payload));
            read_flow(&body_of(&request))
        };
        for (body, flow) in samples() {
            assert_eq!(without(&body, u16::MAX), Some(flow));
            for kind in [TUPLE_ORIG, TUPLE_REPLY, ID] {
                assert_eq!(without(&body, kind), None, "attribute {kind}");
            }
        }
    }
}
