//! Link, address and route messages (linux/rtnetlink.h, if_link.h, if_addr.h).
//!
//! This module builds and parses messages only; the caller owns the socket. A pod route has protocol
//! 17. It has no device if the kernel can find it from the gateway; a gateway behind a device is
//! `onlink`. A pod route never replaces another
//! program's route: it is added with NLM_F_EXCL, and replaced only if our route was observed.
//!
//! The kernel adds a local route of its own for each virtual address. Its IPv4 route is replaced by
//! ours. Its IPv6 route has metric 0, which user space can't set and which has precedence, so ours is
//! added beside it and [`delete_kernel_route`] removes it.
//!
//! Several gateways are one RTA_MULTIPATH, a sequence of `struct rtnexthop`. In both families
//! NLM_F_REPLACE replaces all gateways of the route, so one message changes any gateways to any others.

use std::net::IpAddr;

use ipnet::IpNet;
use neli::consts::{
    nl::NlmF,
    rtnl::{Ifa, Ifla, IflaInfo, Rta, Rtm},
};

use crate::{
    model::items::{DUMMY, Item, LinkKind, NextHops, TABLE_LOCAL, addr_from_bytes, addr_to_bytes},
    netlink::message::{Attrs, NLA_F_NESTED, Request},
};

/// The protocol number of our routes. kube-router uses it too, so that a switch between the two
/// programs leaves no routes behind.
pub(super) const PROTO_OURS: u8 = 17;
/// RTPROT_KERNEL, the protocol number of routes that the kernel adds by itself.
const PROTO_KERNEL: u8 = 2;
const RTN_UNICAST: u8 = 1;
pub(super) const RTN_LOCAL: u8 = 2;
const SCOPE_UNIVERSE: u8 = 0;
pub(super) const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;
const SCOPE_NOWHERE: u8 = 255;
/// IFA_F_NODAD: no duplicate address detection, because a virtual address is on many nodes and must be
/// usable at once.
const IFA_F_NODAD: u8 = 0x02;
const IFF_UP: u32 = 1;
const RTNH_F_ONLINK: u32 = 4;
const BRPORT_MODE: u16 = 4; // IFLA_BRPORT_MODE

pub(super) const IFINFO: usize = 16; // struct ifinfomsg
pub(super) const IFADDR: usize = 8; // struct ifaddrmsg
pub(super) const RTMSG: usize = 12; // struct rtmsg

const CREATE: NlmF = NlmF::CREATE;
const EXCL: NlmF = NlmF::EXCL;
const REPLACE: NlmF = NlmF::REPLACE;

/// A link as the kernel lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkInfo {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// `IFLA_INFO_KIND`; empty for a physical device.
    pub kind: String,
    /// The MTU in bytes.
    pub mtu: u32,
    /// True if IFF_UP is set.
    pub up: bool,
    /// The index of the bridge that this link is a port of; `None` if it is no port.
    pub master: Option<u32>,
    /// True if this link is a bridge port in hairpin mode: a packet may leave by the port it came from.
    pub hairpin: bool,
}

/// An address as the kernel lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressInfo {
    /// The index of its link.
    pub index: u32,
    /// The address with its prefix length.
    pub addr: IpNet,
}

/// A route as the kernel lists it.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the fields are named after the attributes
pub struct RouteInfo {
    pub table: u32,
    pub kind: u8,
    pub protocol: u8,
    pub to: IpNet,
    pub via: Option<NextHops>,
    pub oif: Option<u32>,
    pub src: Option<IpAddr>,
    pub metric: u32,
    /// RTNH_F_ONLINK: the gateway need not be in a network of the device.
    pub onlink: bool,
}

impl RouteInfo {
    /// Returns true if this is a unicast route of kinglet or of kube-router.
    pub fn is_ours(&self) -> bool {
        self.kind == RTN_UNICAST && self.protocol == PROTO_OURS
    }

    /// Returns true if the kernel added this local route together with an address. Such an IPv4 route
    /// has the address itself as its source; such an IPv6 route has metric 0.
    pub fn is_kernel_route(&self) -> bool {
        match self.to {
            IpNet::V4(_) => self.src == Some(self.to.addr()),
            IpNet::V6(_) => self.metric == 0,
        }
    }
}

fn family(addr: IpAddr) -> u8 {
    match addr {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
}

fn ifinfo(flags: u32) -> [u8; IFINFO] {
    let mut header = [0; IFINFO];
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes()); // ifi_change: change these bits only
    header
}

fn ifaddr(addr: IpNet, index: u32) -> [u8; IFADDR] {
    let scope = if addr.addr().is_ipv4() { SCOPE_LINK } else { SCOPE_UNIVERSE };
    let mut header = [family(addr.addr()), addr.prefix_len(), IFA_F_NODAD, scope, 0, 0, 0, 0];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    header
}

/// Requests all links, to be parsed with [`read_link`].
pub fn list_links() -> Request {
    Request::new(Rtm::Getlink, NlmF::empty(), &[0; IFINFO])
}

/// Requests the addresses of both families, to be parsed with [`read_address`].
pub fn list_addresses() -> Request {
    Request::new(Rtm::Getaddr, NlmF::empty(), &[0; IFADDR])
}

/// Requests the routes of one family in a table that have our protocol number.
pub fn list_routes(ipv4: bool, table: u32) -> Request {
    dump_routes(ipv4, table, PROTO_OURS, 0)
}

/// Requests the `local` routes of one family to a link, with any protocol number.
pub fn list_local_routes(ipv4: bool, index: u32) -> Request {
    dump_routes(ipv4, TABLE_LOCAL, 0, RTN_LOCAL).attr(Rta::Oif, &index.to_ne_bytes())
}

fn dump_routes(ipv4: bool, table: u32, protocol: u8, kind: u8) -> Request {
    let family = if ipv4 { libc::AF_INET } else { libc::AF_INET6 } as u8;
    let header = [family, 0, 0, 0, table as u8, protocol, 0, kind, 0, 0, 0, 0];
    Request::new(Rtm::Getroute, NlmF::empty(), &header)
}

/// Parses a link from a message's body. Returns `None` if index, name, MTU or flags are missing.
pub fn read_link(body: &[u8]) -> Option<LinkInfo> {
    let attrs = Attrs::after(body, IFINFO);
    let info = attrs.nest(Ifla::Linkinfo);
    Some(LinkInfo {
        index: u32_at(body, 4)?,
        name: attrs.text(Ifla::Ifname)?,
        kind: info.and_then(|i| i.text(IflaInfo::Kind)).unwrap_or_default(),
        mtu: attrs.u32(Ifla::Mtu)?,
        up: u32_at(body, 8)? & IFF_UP != 0,
        master: attrs.u32(Ifla::Master),
        hairpin: info
            .and_then(|i| i.nest(IflaInfo::SlaveData))
            .and_then(|port| port.get(BRPORT_MODE))
            .is_some_and(|mode| mode != [0]),
    })
}

/// Parses an address from a message's body. Returns `None` if a part is missing or invalid.
pub fn read_address(body: &[u8]) -> Option<AddressInfo> {
    let attrs = Attrs::after(body, IFADDR);
    // On a point-to-point link IFA_LOCAL is our address and IFA_ADDRESS the peer's; otherwise both are
    // equal.
    let addr = addr_from_bytes(attrs.get(Ifa::Local).or_else(|| attrs.get(Ifa::Address))?)?;
    Some(AddressInfo { index: u32_at(body, 4)?, addr: IpNet::new(addr, *body.get(1)?).ok()? })
}

/// Parses a route from a message's body. Returns `None` if it is neither IPv4 nor IPv6, or invalid.
pub fn read_route(body: &[u8]) -> Option<RouteInfo> {
    let attrs = Attrs::after(body, RTMSG);
    let header = body.first_chunk::<RTMSG>()?;
    let addr = |kind| attrs.get(kind).and_then(addr_from_bytes);
    let hops = attrs.nest(Rta::Multipath);
    let anywhere: IpAddr = match i32::from(header[0]) {
        libc::AF_INET => IpAddr::from([0; 4]),
        libc::AF_INET6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    Some(RouteInfo {
        table: attrs.u32(Rta::Table).unwrap_or(header[4].into()),
        kind: header[7],
        protocol: header[5],
        to: IpNet::new(addr(Rta::Dst).unwrap_or(anywhere), header[1]).ok()?,
        via: match hops {
            None => addr(Rta::Gateway).map(NextHops::One),
            Some(hops) => NextHops::new(gateways(hops)),
        },
        oif: attrs.u32(Rta::Oif).or_else(|| u32_at(hops?.into_iter().next()?.1, 0)),
        src: addr(Rta::Prefsrc),
        metric: attrs.u32(Rta::Priority).unwrap_or(0),
        onlink: u32_at(body, 8)? & RTNH_F_ONLINK != 0,
    })
}

/// Returns the gateways in an RTA_MULTIPATH. A `struct rtnexthop { u16 len; u8 flags, hops; i32
/// ifindex; }` starts like an attribute and is parsed as one. Its flags (dead, linkdown) and its weight
/// are ignored.
fn gateways(hops: Attrs<'_>) -> impl Iterator<Item = IpAddr> {
    let gateway = |(_, hop)| Attrs::after(hop, 4).get(Rta::Gateway).and_then(addr_from_bytes);
    hops.into_iter().filter_map(gateway)
}

/// Returns a number in native byte order from a fixed header; `None` if the header is too short.
fn u32_at(body: &[u8], at: usize) -> Option<u32> {
    body.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

/// Adds a link, or changes the existing one, and sets it up. `mtu` is in bytes; `None` keeps the
/// kernel's value.
pub fn put_link(name: &str, kind: &LinkKind, mtu: Option<u32>) -> Request {
    let mut request = Request::new(Rtm::Newlink, CREATE, &ifinfo(IFF_UP)).text(Ifla::Ifname, name);
    if let Some(mtu) = mtu {
        request = request.attr(Ifla::Mtu, &mtu.to_ne_bytes());
    }
    request.nest(Ifla::Linkinfo.into(), |r| r.text(IflaInfo::Kind, kind.as_str()))
}

/// Removes a link. Succeeds if it is already gone.
pub fn remove_link(index: u32) -> Request {
    let mut header = [0; IFINFO];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    Request::new(Rtm::Dellink, NlmF::empty(), &header).ignore_errors(&[libc::ENODEV])
}

/// Sets the hairpin mode of a bridge port, so that a packet may leave by the port it came from.
/// Succeeds if the port is gone.
pub fn set_hairpin(index: u32) -> Request {
    let mut header = [0; IFINFO];
    header[0] = libc::AF_BRIDGE as u8;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    Request::new(Rtm::Setlink, NlmF::empty(), &header)
        .nest(u16::from(Ifla::Protinfo) | NLA_F_NESTED, |port| port.attr(BRPORT_MODE, &[1]))
        .ignore_errors(&[libc::ENODEV]) // the pod was deleted
}

/// Adds an address to a link. Succeeds if the link already has it.
pub fn add_address(addr: IpNet, index: u32) -> Request {
    Request::new(Rtm::Newaddr, CREATE | EXCL, &ifaddr(addr, index))
        .attr(Ifa::Local, &addr_to_bytes(addr.addr()))
        .ignore_errors(&[libc::EEXIST])
}

/// Removes an address from a link. Succeeds if it is already gone.
pub fn remove_address(addr: IpNet, index: u32) -> Request {
    Request::new(Rtm::Deladdr, NlmF::empty(), &ifaddr(addr, index))
        .attr(Ifa::Local, &addr_to_bytes(addr.addr()))
        .ignore_errors(&[libc::EADDRNOTAVAIL])
}

/// Adds a route. Returns `None` if the item is not a route, or if `index` does not find its device.
pub fn add_route(item: &Item, index: impl Fn(&str) -> Option<u32>) -> Option<Vec<Request>> {
    put_route(item, index, CREATE | EXCL)
}

/// Replaces our route to the same prefix. Returns `None` in the same cases as [`add_route`].
pub fn change_route(item: &Item, index: impl Fn(&str) -> Option<u32>) -> Option<Vec<Request>> {
    put_route(item, index, CREATE | REPLACE)
}

fn put_route(
    item: &Item,
    index: impl Fn(&str) -> Option<u32>,
    flags: NlmF,
) -> Option<Vec<Request>> {
    let Item::Route { table, to, .. } = item else { return None };
    let local = *table == TABLE_LOCAL;
    let request = |flags| {
        let (kind, scope) =
            if local { (RTN_LOCAL, SCOPE_HOST) } else { (RTN_UNICAST, SCOPE_UNIVERSE) };
        route_request(item, &index, Rtm::Newroute, flags, PROTO_OURS, kind, scope)
    };
    Some(match to {
        // It replaces the kernel's own route.
        IpNet::V4(_) if local => vec![request(CREATE | REPLACE)?],
        // It is added beside the kernel's own route, which `delete_kernel_route` removes afterwards.
        IpNet::V6(_) if local => vec![request(CREATE | REPLACE)?],
        _ => vec![request(flags)?],
    })
}

/// Removes a route. For several gateways it returns one request per gateway, because the kernel's
/// behaviour differs: IPv6 removes only the named gateway, IPv4 removes the whole route if its first
/// gateway is named. After all requests the route is gone in both families, in any order of gateways.
/// Returns `None` in the same cases as [`add_route`].
pub fn remove_route(item: &Item, index: impl Fn(&str) -> Option<u32>) -> Option<Vec<Request>> {
    let Item::Route { table, to, via, src } = item else { return None };
    // kube-router may have added a local route with another protocol number.
    let (kind, protocol) =
        if *table == TABLE_LOCAL { (RTN_LOCAL, 0) } else { (RTN_UNICAST, PROTO_OURS) };
    let request = |item: &Item| {
        let flags = NlmF::empty();
        let request =
            route_request(item, &index, Rtm::Delroute, flags, protocol, kind, SCOPE_NOWHERE)?;
        Some(request.ignore_errors(&[libc::ESRCH]))
    };
    let Some(NextHops::Many(hops)) = via else { return Some(vec![request(item)?]) };
    let one = |hop: &IpAddr| {
        let via = Some(NextHops::One(*hop));
        request(&Item::Route { table: *table, to: *to, via, src: *src })
    };
    hops.iter().map(one).collect()
}

/// Deletes the kernel's own IPv6 route to a virtual address. The kernel adds that route shortly after
/// the address (`addrconf_wq`), so ESRCH can mean that it does not exist yet. Returns `None` if the
/// item is not a local IPv6 route, or if `index` does not find its device.
pub fn delete_kernel_route(item: &Item, index: impl Fn(&str) -> Option<u32>) -> Option<Request> {
    let Item::Route { table: TABLE_LOCAL, to: to @ IpNet::V6(_), .. } = item else {
        return None;
    };
    let (table, via, src) = (TABLE_LOCAL, None, None);
    let kernels = Item::Route { table, to: *to, via, src };
    let flags = NlmF::empty();
    route_request(&kernels, &index, Rtm::Delroute, flags, PROTO_KERNEL, RTN_LOCAL, SCOPE_NOWHERE)
}

/// Builds a request about a route. Returns `None` in the same cases as [`add_route`].
fn route_request(
    item: &Item,
    index: &impl Fn(&str) -> Option<u32>,
    message: Rtm,
    flags: NlmF,
    protocol: u8,
    kind: u8,
    scope: u8,
) -> Option<Request> {
    let Item::Route { table, to, via, src } = item else { return None };
    let mut header =
        [family(to.addr()), to.prefix_len(), 0, 0, 0, protocol, scope, kind, 0, 0, 0, 0];
    if let Some(NextHops::Device(hop)) = via {
        match hop.via {
            Some(_) => header[8..].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes()),
            // Without a gateway, iproute2 too makes an IPv4 route of this scope.
            None if scope == SCOPE_UNIVERSE && to.addr().is_ipv4() => header[6] = SCOPE_LINK,
            None => {}
        }
    }
    let mut request = Request::new(message, flags, &header)
        .attr(Rta::Table, &table.to_ne_bytes())
        .attr(Rta::Dst, &addr_to_bytes(to.addr()));
    match via {
        None => {}
        Some(NextHops::One(via)) => request = request.attr(Rta::Gateway, &addr_to_bytes(*via)),
        Some(NextHops::Many(hops)) => {
            request = request.nest(Rta::Multipath.into(), |r| hops.iter().fold(r, next_hop));
        }
        Some(NextHops::Device(hop)) => {
            if let Some(via) = hop.via {
                request = request.attr(Rta::Gateway, &addr_to_bytes(via));
            }
            request = request.attr(Rta::Oif, &index(&hop.dev)?.to_ne_bytes());
        }
    }
    if *table == TABLE_LOCAL {
        request = request.attr(Rta::Oif, &index(DUMMY)?.to_ne_bytes());
    }
    if let Some(src) = src {
        request = request.attr(Rta::Prefsrc, &addr_to_bytes(*src));
    }
    Some(request)
}

/// Appends a `struct rtnexthop` of weight 1. Its interface index is 0: the kernel finds the link from
/// the gateway.
fn next_hop(request: Request, via: &IpAddr) -> Request {
    request.nest(0, |hop| hop.bytes(&[0; 4]).attr(Rta::Gateway, &addr_to_bytes(*via)))
}
