//! Route messages (linux/rtnetlink.h).
//!
//! Several next hops are one RTA_MULTIPATH, a sequence of `struct rtnexthop`. In both families
//! NLM_F_REPLACE replaces all next hops of a route, so one message changes any next hops to any others.
//! A gateway of the other family (RTA_VIA) is not supported.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use neli::consts::nl::NlmF;

use super::message::{Attrs, Request};
use crate::{
    family::{Family, addr_from_bytes},
    sys,
};

const RTM_NEWROUTE: u16 = 24;
const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;

// RTA_*
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_METRICS: u16 = 8;
const RTA_MULTIPATH: u16 = 9;
const RTA_TABLE: u16 = 15;
/// RTAX_MTU, an attribute inside RTA_METRICS.
const RTAX_MTU: u16 = 2;

/// RTN_UNICAST: a route to a gateway or to a link.
pub const RTN_UNICAST: u8 = 1;
/// RTN_LOCAL: packets are delivered to this node.
pub const RTN_LOCAL: u8 = 2;
/// RTPROT_KERNEL, the protocol number of routes that the kernel adds by itself.
pub const RTPROT_KERNEL: u8 = 2;
/// RT_SCOPE_UNIVERSE: the destination can be anywhere.
pub const SCOPE_UNIVERSE: u8 = 0;
/// RT_SCOPE_LINK: the destination is on the link.
pub const SCOPE_LINK: u8 = 253;
/// RT_SCOPE_HOST: the destination is this node.
pub const SCOPE_HOST: u8 = 254;
/// RT_SCOPE_NOWHERE; in a request to delete a route it stands for any scope.
pub const SCOPE_NOWHERE: u8 = 255;
/// RTNH_F_ONLINK: the gateway is on the link even if no route says so.
pub const RTNH_F_ONLINK: u8 = 4;

/// struct rtmsg { u8 family, dst_len, src_len, tos, table, protocol, scope, type; u32 flags; }
pub const RTMSG: usize = 12;
/// struct rtnexthop { u16 len; u8 flags, hops; i32 ifindex; }
const RTNEXTHOP: usize = 8;

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destination.
    pub to: IpNet,
    /// The number of the routing table.
    pub table: u32,
    /// The type (RTN_*).
    pub kind: u8,
    /// The number of the program that added the route (RTPROT_*); 0 in a request to delete it stands
    /// for any.
    pub protocol: u8,
    /// The scope (RT_SCOPE_*).
    pub scope: u8,
    /// Flags of the next hop (RTNH_F_*).
    pub flags: u8,
    /// The gateway; `None` if there is none, or if `hops` has the gateways.
    pub gateway: Option<IpAddr>,
    /// The index of the outgoing link; `None` lets the kernel find it from the gateway.
    pub oif: Option<u32>,
    /// The next hops of a multipath route; empty for any other route.
    pub hops: Vec<NextHop>,
    /// The preferred source address.
    pub src: Option<IpAddr>,
    /// The priority of the route, lower first; 0 lets the kernel choose.
    pub metric: u32,
    /// The path MTU in bytes (RTAX_MTU).
    pub mtu: Option<u32>,
}

/// A next hop of a multipath route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NextHop {
    /// The gateway; `None` if the destination is on the link.
    pub gateway: Option<IpAddr>,
    /// The index of the outgoing link; 0 lets the kernel find it from the gateway.
    pub oif: u32,
    /// The share of the traffic, 1 to 256.
    pub weight: u16,
}

impl Route {
    /// Returns a unicast route of scope universe in a table, without a next hop.
    pub fn new(to: IpNet, table: u32, protocol: u8) -> Route {
        Route {
            to,
            table,
            kind: RTN_UNICAST,
            protocol,
            scope: SCOPE_UNIVERSE,
            flags: 0,
            gateway: None,
            oif: None,
            hops: Vec::new(),
            src: None,
            metric: 0,
            mtu: None,
        }
    }
}

/// The routes that a dump returns. A number that is 0 does not filter.
#[derive(Clone, Copy, Debug)]
pub struct RouteQuery {
    /// The address family.
    pub family: Family,
    /// The number of the routing table.
    pub table: u32,
    /// The protocol number (RTPROT_*).
    pub protocol: u8,
    /// The type (RTN_*).
    pub kind: u8,
    /// The index of the outgoing link.
    pub oif: u32,
}

/// Requests routes, to be parsed with [`read_route`]. The kernel filters only on a socket with strict
/// checking.
pub fn list_routes(query: &RouteQuery) -> Request {
    let RouteQuery { table, protocol, kind, .. } = *query;
    let family = sys::address_family(query.family);
    let small_table = u8::try_from(table).unwrap_or(0);
    let header = [family, 0, 0, 0, small_table, protocol, 0, kind, 0, 0, 0, 0];
    let mut request = Request::new(RTM_GETROUTE, NlmF::empty(), &header);
    if table > u8::MAX.into() {
        request = request.u32(RTA_TABLE, table);
    }
    if query.oif == 0 { request } else { request.u32(RTA_OIF, query.oif) }
}

/// Adds a route. The kernel answers EEXIST if the table has one with the same destination and metric.
pub fn add_route(route: &Route) -> Request {
    request(RTM_NEWROUTE, NlmF::CREATE | NlmF::EXCL, route)
}

/// Adds a route, or replaces the one with the same destination and metric.
pub fn replace_route(route: &Route) -> Request {
    request(RTM_NEWROUTE, NlmF::CREATE | NlmF::REPLACE, route)
}

/// Removes the route with these properties. The kernel answers ESRCH if it does not exist.
///
/// For several next hops the families differ: IPv6 removes only the next hop that `gateway` names, IPv4
/// removes the whole route if `gateway` is its first one.
pub fn delete_route(route: &Route) -> Request {
    request(RTM_DELROUTE, NlmF::empty(), route)
}

fn request(message: u16, flags: NlmF, route: &Route) -> Request {
    let Route { to, protocol, scope, kind, .. } = *route;
    let family = sys::address_family(Family::of(&to));
    let mut header = [family, to.prefix_len(), 0, 0, 0, protocol, scope, kind, 0, 0, 0, 0];
    header[8..].copy_from_slice(&u32::from(route.flags).to_ne_bytes());
    let mut request =
        Request::new(message, flags, &header).u32(RTA_TABLE, route.table).addr(RTA_DST, to.addr());
    if let Some(gateway) = route.gateway {
        request = request.addr(RTA_GATEWAY, gateway);
    }
    if !route.hops.is_empty() {
        request = request.nest(RTA_MULTIPATH, |r| route.hops.iter().fold(r, put_next_hop));
    }
    if let Some(oif) = route.oif {
        request = request.u32(RTA_OIF, oif);
    }
    if let Some(src) = route.src {
        request = request.addr(RTA_PREFSRC, src);
    }
    if route.metric != 0 {
        request = request.u32(RTA_PRIORITY, route.metric);
    }
    if let Some(mtu) = route.mtu {
        request = request.nest(RTA_METRICS, |metrics| metrics.u32(RTAX_MTU, mtu));
    }
    request
}

/// Appends a struct rtnexthop, whose head has the layout of an attribute: the length, then flags and
/// weight - 1 in the place of the type.
fn put_next_hop(request: Request, hop: &NextHop) -> Request {
    let weight = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    request.nest(u16::from_ne_bytes([0, weight]), |r| {
        let r = r.bytes(&hop.oif.to_ne_bytes());
        match hop.gateway {
            Some(gateway) => r.addr(RTA_GATEWAY, gateway),
            None => r,
        }
    })
}

/// Parses a route from a message's body. Returns `None` if it is neither IPv4 nor IPv6, or invalid.
pub fn read_route(body: &[u8]) -> Option<Route> {
    let attrs = Attrs::after(body, RTMSG);
    let header = body.first_chunk::<RTMSG>()?;
    let to = attrs.addr(RTA_DST).unwrap_or(match sys::from_address_family(header[0])? {
        Family::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
    });
    Some(Route {
        to: IpNet::new(to, header[1]).ok()?,
        table: attrs.u32(RTA_TABLE).unwrap_or(header[4].into()),
        kind: header[7],
        protocol: header[5],
        scope: header[6],
        flags: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]) as u8,
        gateway: attrs.addr(RTA_GATEWAY),
        oif: attrs.u32(RTA_OIF),
        hops: attrs.get(RTA_MULTIPATH).map(read_next_hops).unwrap_or_default(),
        src: attrs.addr(RTA_PREFSRC),
        metric: attrs.u32(RTA_PRIORITY).unwrap_or(0),
        mtu: attrs.nest(RTA_METRICS).and_then(|metrics| metrics.u32(RTAX_MTU)),
    })
}

/// Parses the next hops in an RTA_MULTIPATH. One with an invalid length ends the sequence. Their flags
/// (dead, linkdown) are ignored.
fn read_next_hops(mut bytes: &[u8]) -> Vec<NextHop> {
    let mut hops = Vec::new();
    while let Some(head) = bytes.first_chunk::<RTNEXTHOP>() {
        let len = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        let Some(attrs) = bytes.get(RTNEXTHOP..len) else { break };
        hops.push(NextHop {
            gateway: Attrs(attrs).get(RTA_GATEWAY).and_then(addr_from_bytes),
            oif: u32::from_ne_bytes([head[4], head[5], head[6], head[7]]),
            weight: u16::from(head[3]) + 1,
        });
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::{body_of, from_hex, parts_of};

    fn route(to: &str, table: u32) -> Route {
        Route::new(to.parse().unwrap(), table, 17)
    }

    fn hop(gateway: &str, oif: u32, weight: u16) -> NextHop {
        NextHop { gateway: Some(gateway.parse().unwrap()), oif, weight }
    }

    /// Routes recorded from Linux 6.18, and their values.
    fn recorded() -> [(&'static str, Route); 4] {
        [
            (
                "02180000 fe110001 00000000 08000f00fe000000 080001000a010000 0800060005000000
                 0c0008000800020078050000 08000700c0000201 08000500c0000202 0800040003000000",
                Route {
                    gateway: Some([192, 0, 2, 2].into()),
                    oif: Some(3),
                    src: Some([192, 0, 2, 1].into()),
                    metric: 5,
                    mtu: Some(1400),
                    ..route("10.1.0.0/24", 254)
                },
            ),
            (
                "02180000 fe110001 00000000 08000f00fe000000 080001000a020000
                 24000900 100000c70300000008000500c0000202 100000000300000008000500c0000203",
                Route {
                    hops: vec![hop("192.0.2.2", 3, 200), hop("192.0.2.3", 3, 1)],
                    ..route("10.2.0.0/24", 254)
                },
            ),
            (
                "02180000 fc030001 04000000 08000f00e8030000 080001000a030000 08000500cb007101
                 0800040003000000",
                Route {
                    protocol: 3,
                    flags: RTNH_F_ONLINK,
                    gateway: Some([203, 0, 113, 1].into()),
                    oif: Some(3),
                    ..route("10.3.0.0/24", 1000)
                },
            ),
            (
                "0a400000 fe110001 00000000 08000f00fe000000
                 14000100fd440001000000000000000000000000 0800060000040000 3c000900
                 1c0000000300000014000500fd770000000000000000000000000002
                 1c0000000300000014000500fd770000000000000000000000000003",
                Route {
                    hops: vec![hop("fd77::2", 3, 1), hop("fd77::3", 3, 1)],
                    metric: 1024,
                    ..route("fd44:1::/64", 254)
                },
            ),
        ]
    }

    #[test]
    fn a_recorded_route_is_parsed_and_parses_again_after_it_was_built() {
        for (body, route) in recorded() {
            assert_eq!(read_route(&from_hex(body)), Some(route.clone()));
            for build in [add_route, replace_route, delete_route] {
                assert_eq!(read_route(&body_of(&build(&route))), Some(route.clone()));
            }
        }
    }

    #[test]
    fn a_default_route_has_no_destination_attribute() {
        for (family, to) in [("02", "0.0.0.0/0"), ("0a", "::/0")] {
            let body = from_hex(&format!("{family}000000 fe110001 00000000 0800040003000000"));
            let found = read_route(&body).unwrap();
            assert_eq!(found, Route { oif: Some(3), ..route(to, 254) });
        }
        assert_eq!(read_route(&from_hex("1c000000 fe110001 00000000")), None, "AF_MPLS");
        assert_eq!(read_route(&from_hex("02210000 fe110001 00000000")), None, "a prefix of 33");
    }

    #[test]
    fn a_multipath_route_is_one_message() {
        let hops = vec![hop("192.0.2.2", 0, 1), hop("192.0.2.3", 7, 256)];
        let shared = Route { hops, ..route("10.2.0.0/24", 254) };
        let body = from_hex(
            "02180000 00110001 00000000 08000f00fe000000 080001000a020000 24000900
             100000000000000008000500c0000202 100000ff0700000008000500c0000203",
        );
        assert_eq!(parts_of(&add_route(&shared)), (24, 0x600, body.clone()));
        assert_eq!(parts_of(&replace_route(&shared)), (24, 0x500, body.clone()));
        assert_eq!(parts_of(&delete_route(&shared)), (25, 0, body));
    }

    #[test]
    fn a_next_hop_that_is_cut_ends_the_sequence() {
        let whole = from_hex("1000000003000000080005 00c0000202 1000000003000000 08000500c0000203");
        for len in 0..=whole.len() {
            assert_eq!(read_next_hops(&whole[..len]).len(), len / 16, "{len} bytes");
        }
        assert_eq!(read_next_hops(&from_hex("0700000003000000")), [], "a length below the head");
        let direct = NextHop { gateway: None, oif: 3, weight: 1 };
        assert_eq!(read_next_hops(&from_hex("0800000003000000")), [direct]);
    }

    #[test]
    fn a_query_filters_by_what_is_not_zero() {
        let (family, table) = (Family::Ipv4, 254);
        let query = RouteQuery { family, table, protocol: 17, kind: 0, oif: 0 };
        let body = from_hex("02000000 fe110000 00000000");
        assert_eq!(parts_of(&list_routes(&query)), (26, 0, body));
        let query =
            RouteQuery { family: Family::Ipv6, table: 1000, kind: RTN_LOCAL, oif: 7, ..query };
        let body = from_hex("0a000000 00110002 00000000 08000f00e8030000 0800040007000000");
        assert_eq!(parts_of(&list_routes(&query)), (26, 0, body));
    }
}
