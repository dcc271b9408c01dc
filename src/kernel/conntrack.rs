//! Conntrack messages: list and delete flows by nfnetlink (linux/netfilter/nfnetlink_conntrack.h).
//!
//! This module builds and parses messages only; `Kernel::remove_flows` does the I/O. Every number is
//! big-endian except the flags of a filter. A delete request without a tuple would delete all flows of
//! the node, so [`remove`] always includes the tuple.

use std::net::IpAddr;

use neli::consts::nl::NlmF;

use crate::{
    model::items::{Flow, Protocol, addr_from_bytes, addr_to_bytes},
    netlink::message::{Attrs, NLA_F_NESTED, Request},
};

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

fn request(message: u16, ipv4: bool) -> Request {
    let family = if ipv4 { libc::AF_INET } else { libc::AF_INET6 };
    Request::new(SUBSYSTEM | message, NlmF::empty(), &[family as u8, 0, 0, 0])
}

/// Requests the UDP flows of one family, to be parsed with [`read_flow`]. Kernels before 5.8 ignore the
/// filter and return the flows of other protocols too.
pub fn list_flows(ipv4: bool) -> Request {
    request(GET, ipv4)
        .nest(TUPLE_ORIG | NLA_F_NESTED, |tuple| {
            tuple.nest(TUPLE_PROTO | NLA_F_NESTED, |proto| {
                proto.attr(PROTO_NUM, &[Protocol::Udp.number()])
            })
        })
        .nest(FILTER | NLA_F_NESTED, |filter| {
            filter
                .attr(FILTER_ORIG_FLAGS, &BY_PROTOCOL.to_ne_bytes())
                .attr(FILTER_REPLY_FLAGS, &0u32.to_ne_bytes())
        })
}

/// Deletes a flow. The request contains the flow's id, so it can't delete a later flow with the same
/// addresses. It succeeds if the flow is already gone.
pub fn remove(flow: &Flow) -> Request {
    let ipv4 = flow.orig_src.is_ipv4();
    let (src, dst) = if ipv4 { (IP_V4_SRC, IP_V4_DST) } else { (IP_V6_SRC, IP_V6_DST) };
    let request = request(DELETE, ipv4)
        .nest(TUPLE_ORIG | NLA_F_NESTED, |tuple| {
            tuple
                .nest(TUPLE_IP | NLA_F_NESTED, |ip| {
                    ip.attr(src, &addr_to_bytes(flow.orig_src))
                        .attr(dst, &addr_to_bytes(flow.orig_dst))
                })
                .nest(TUPLE_PROTO | NLA_F_NESTED, |proto| {
                    proto
                        .attr(PROTO_NUM, &[flow.protocol.number()])
                        .attr(PROTO_SRC_PORT, &flow.orig_sport.to_be_bytes())
                        .attr(PROTO_DST_PORT, &flow.orig_dport.to_be_bytes())
                })
        })
        .attr(ID, &flow.id.to_be_bytes())
        .ignore_errors(&[libc::ENOENT]);
    if flow.zone == 0 { request } else { request.attr(ZONE, &flow.zone.to_be_bytes()) }
}

/// Parses a flow from a message's body. Returns `None` if an attribute is missing or cut, or if the
/// protocol is not TCP, UDP or SCTP.
pub fn read_flow(body: &[u8]) -> Option<Flow> {
    let attrs = Attrs::after(body, NFGEN);
    let (orig, reply) = (attrs.nest(TUPLE_ORIG)?, attrs.nest(TUPLE_REPLY)?);
    let (ip, proto) = (orig.nest(TUPLE_IP)?, orig.nest(TUPLE_PROTO)?);
    // A zone may apply to one direction only; the kernel looks a flow up by the original direction.
    let zone = attrs.get(ZONE).or_else(|| orig.get(TUPLE_ZONE));
    Some(Flow {
        protocol: Protocol::from_number(*proto.get(PROTO_NUM)?.first()?)?,
        orig_src: read_addr(ip, IP_V4_SRC, IP_V6_SRC)?,
        orig_sport: proto.port(PROTO_SRC_PORT)?,
        orig_dst: read_addr(ip, IP_V4_DST, IP_V6_DST)?,
        orig_dport: proto.port(PROTO_DST_PORT)?,
        reply_src: read_addr(reply.nest(TUPLE_IP)?, IP_V4_SRC, IP_V6_SRC)?,
        reply_sport: reply.nest(TUPLE_PROTO)?.port(PROTO_SRC_PORT)?,
        id: u32::from_be_bytes(*attrs.get(ID)?.first_chunk()?),
        zone: zone.and_then(|z| z.first_chunk()).map_or(0, |z| u16::from_be_bytes(*z)),
    })
}

fn read_addr(ip: Attrs<'_>, v4: u16, v6: u16) -> Option<IpAddr> {
    addr_from_bytes(ip.get(v4).or_else(|| ip.get(v6))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::frames;

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

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
    }

    fn flow(loopback: &str, vip: &str, orig_dport: u16, id: u32, zone: u16) -> Flow {
        Flow {
            protocol: Protocol::Udp,
            orig_src: loopback.parse().unwrap(),
            orig_sport: 40_000,
            orig_dst: vip.parse().unwrap(),
            orig_dport,
            reply_src: loopback.parse().unwrap(),
            reply_sport: 5301,
            id,
            zone,
        }
    }

    fn samples() -> [(Vec<u8>, Flow); 2] {
        [
            (bytes(IPV4), flow("127.0.0.1", "10.96.0.10", 54, 0x71ce_2200, 0)),
            (bytes(IPV6), flow("::1", "fd96::10", 53, 0xa559_8375, 7)),
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
            let mut message = Vec::new();
            remove(&flow).write(1, 0, &mut message);
            let frame = frames(&message).next().unwrap().unwrap();
            let (sent, received) =
                (Attrs::after(frame.body(), NFGEN), Attrs::after(&recorded, NFGEN));
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
            let mut message = Vec::new();
            request.write(1, 0, &mut message);
            read_flow(frames(&message).next().unwrap().unwrap().body())
        };
        for (body, flow) in samples() {
            assert_eq!(without(&body, u16::MAX), Some(flow));
            for kind in [TUPLE_ORIG, TUPLE_REPLY, ID] {
                assert_eq!(without(&body, kind), None, "attribute {kind}");
            }
        }
    }
}
