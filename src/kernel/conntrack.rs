//! Conntrack: the flows that the kernel knows, and taking one away, by nfnetlink
//! (linux/netfilter/nfnetlink_conntrack.h).
//!
//! Pure messages and readings. Every number is big endian here but the flags of a filter. A request
//! to delete that names no flow would delete them all, so there is none without its tuple.

use std::net::IpAddr;

use neli::consts::nl::NlmF;

use super::message::{Attrs, NLA_F_NESTED, Request};
use crate::state::{Flow, Protocol, addr_from_bytes, addr_to_bytes};

/// NFNL_SUBSYS_CTNETLINK, shifted to where a message's type has it.
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

/// CTA_FILTER_F_CTA_PROTO_NUM (net/netfilter/nf_conntrack_netlink.c): flows of this protocol alone.
const BY_PROTOCOL: u32 = 1 << 3;
/// struct nfgenmsg { u8 family; u8 version; be16 res_id; }
const NFGEN: usize = 4;

fn request(message: u16, ipv4: bool) -> Request {
    let family = if ipv4 { libc::AF_INET } else { libc::AF_INET6 };
    Request::new(SUBSYSTEM | message, NlmF::empty(), &[family as u8, 0, 0, 0])
}

/// The UDP flows of one family, to be read with [`read_flow`]. Kernels before 5.8 do not know the
/// filter and give the other protocols' flows too.
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

/// Takes a flow away: this one, and not a later one of the same addresses.
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
        .fine(&[libc::ENOENT]);
    if flow.zone == 0 { request } else { request.attr(ZONE, &flow.zone.to_be_bytes()) }
}

/// Reads a flow of TCP, UDP or SCTP from a message's body.
pub fn read_flow(body: &[u8]) -> Option<Flow> {
    let attrs = Attrs::after(body, NFGEN);
    let (orig, reply) = (attrs.nest(TUPLE_ORIG)?, attrs.nest(TUPLE_REPLY)?);
    let (ip, proto) = (orig.nest(TUPLE_IP)?, orig.nest(TUPLE_PROTO)?);
    // A zone may hold for one direction alone; looking a flow up goes by the original one.
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
