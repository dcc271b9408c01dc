//! Links, addresses and routes, in rtnetlink's words (linux/rtnetlink.h, if_link.h, if_addr.h).
//!
//! Pure messages and readings; the socket is the caller's. A pod route is `proto 17`, has no device
//! (the kernel finds it from the gateway) and never replaces a stranger's: it is added with
//! NLM_F_EXCL, and replaced only where ours was seen. The local route of a virtual address is harder:
//! the kernel makes one by itself with the address. The IPv4 one is replaced. The IPv6 one has metric
//! 0, which nobody else may use and which wins, so ours is put beside it and then it is deleted.
//!
//! Several gateways are one RTA_MULTIPATH, a run of `struct rtnexthop`. To both families NLM_F_REPLACE
//! means all of the route that is there, so one message leads from any gateways to any others.

use std::net::IpAddr;

use ipnet::IpNet;
use neli::consts::{
    nl::NlmF,
    rtnl::{Ifa, Ifla, IflaInfo, Rta, Rtm},
};

use super::message::{Attrs, NLA_F_NESTED, Request};
use crate::state::{DUMMY, Item, LinkKind, TABLE_LOCAL, Via, addr_from_bytes, addr_to_bytes};

/// kube-router's number, so that a swap leaves nothing behind.
pub(super) const PROTO_OURS: u8 = 17;
/// What the kernel makes by itself (RTPROT_KERNEL).
const PROTO_KERNEL: u8 = 2;
const RTN_UNICAST: u8 = 1;
pub(super) const RTN_LOCAL: u8 = 2;
const SCOPE_UNIVERSE: u8 = 0;
pub(super) const SCOPE_LINK: u8 = 253;
const SCOPE_HOST: u8 = 254;
const SCOPE_NOWHERE: u8 = 255;
/// IFA_F_NODAD: a virtual address stands on many nodes, and must be usable at once.
const IFA_F_NODAD: u8 = 0x02;
const IFF_UP: u32 = 1;
const BRPORT_MODE: u16 = 4; // IFLA_BRPORT_MODE

pub(super) const IFINFO: usize = 16; // struct ifinfomsg
pub(super) const IFADDR: usize = 8; // struct ifaddrmsg
pub(super) const RTMSG: usize = 12; // struct rtmsg

const CREATE: NlmF = NlmF::CREATE;
const EXCL: NlmF = NlmF::EXCL;
const REPLACE: NlmF = NlmF::REPLACE;

/// A link as the kernel lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// `IFLA_INFO_KIND`; empty for a physical device.
    pub kind: String,
    /// In bytes.
    pub mtu: u32,
    /// Whether IFF_UP is set.
    pub up: bool,
    /// The index of the bridge whose port it is.
    pub master: Option<u32>,
    /// As a port, whether packets may leave by it that came in by it.
    pub hairpin: bool,
}

/// An address as the kernel lists it.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    /// Of the link that carries it.
    pub index: u32,
    /// With its prefix length.
    pub addr: IpNet,
}

/// A route as the kernel lists it.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // the attributes by their names
pub struct Route {
    pub table: u32,
    pub kind: u8,
    pub protocol: u8,
    pub to: IpNet,
    pub via: Option<Via>,
    pub oif: Option<u32>,
    pub src: Option<IpAddr>,
    pub metric: u32,
}

impl Route {
    /// A unicast route of kinglet or of kube-router.
    pub fn is_ours(&self) -> bool {
        self.kind == RTN_UNICAST && self.protocol == PROTO_OURS
    }

    /// The local route that came with an address: its source is the address itself.
    pub fn is_kernels_own(&self) -> bool {
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
    header[12..16].copy_from_slice(&flags.to_ne_bytes()); // ifi_change: only these bits
    header
}

fn ifaddr(addr: IpNet, index: u32) -> [u8; IFADDR] {
    let scope = if addr.addr().is_ipv4() { SCOPE_LINK } else { SCOPE_UNIVERSE };
    let mut header = [family(addr.addr()), addr.prefix_len(), IFA_F_NODAD, scope, 0, 0, 0, 0];
    header[4..].copy_from_slice(&index.to_ne_bytes());
    header
}

/// All links.
pub fn list_links() -> Request {
    Request::new(Rtm::Getlink, NlmF::empty(), &[0; IFINFO])
}

/// All addresses of both families.
pub fn list_addresses() -> Request {
    Request::new(Rtm::Getaddr, NlmF::empty(), &[0; IFADDR])
}

/// The routes of one family in a table that carry our protocol number.
pub fn list_routes(ipv4: bool, table: u32) -> Request {
    dump_routes(ipv4, table, PROTO_OURS, 0)
}

/// The `local` routes of one family that lead to a link, whoever made them.
pub fn list_local_routes(ipv4: bool, index: u32) -> Request {
    dump_routes(ipv4, TABLE_LOCAL, 0, RTN_LOCAL).attr(Rta::Oif, &index.to_ne_bytes())
}

fn dump_routes(ipv4: bool, table: u32, protocol: u8, kind: u8) -> Request {
    let family = if ipv4 { libc::AF_INET } else { libc::AF_INET6 } as u8;
    let header = [family, 0, 0, 0, table as u8, protocol, 0, kind, 0, 0, 0, 0];
    Request::new(Rtm::Getroute, NlmF::empty(), &header)
}

/// Reads a link from a message's body.
pub fn read_link(body: &[u8]) -> Option<Link> {
    let attrs = Attrs::after(body, IFINFO);
    let info = attrs.nest(Ifla::Linkinfo);
    Some(Link {
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

/// Reads an address from a message's body.
pub fn read_address(body: &[u8]) -> Option<Address> {
    let attrs = Attrs::after(body, IFADDR);
    // IFA_LOCAL is our end of a point-to-point link, IFA_ADDRESS the other; elsewhere they are equal.
    let addr = addr_from_bytes(attrs.get(Ifa::Local).or_else(|| attrs.get(Ifa::Address))?)?;
    Some(Address { index: u32_at(body, 4)?, addr: IpNet::new(addr, *body.get(1)?).ok()? })
}

/// Reads a route from a message's body.
pub fn read_route(body: &[u8]) -> Option<Route> {
    let attrs = Attrs::after(body, RTMSG);
    let header = body.first_chunk::<RTMSG>()?;
    let addr = |kind| attrs.get(kind).and_then(addr_from_bytes);
    let hops = attrs.nest(Rta::Multipath);
    let anywhere: IpAddr = match i32::from(header[0]) {
        libc::AF_INET => IpAddr::from([0; 4]),
        libc::AF_INET6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    Some(Route {
        table: attrs.u32(Rta::Table).unwrap_or(header[4].into()),
        kind: header[7],
        protocol: header[5],
        to: IpNet::new(addr(Rta::Dst).unwrap_or(anywhere), header[1]).ok()?,
        via: match hops {
            None => addr(Rta::Gateway).map(Via::One),
            Some(hops) => Via::new(gateways(hops)),
        },
        oif: attrs.u32(Rta::Oif).or_else(|| u32_at(hops?.into_iter().next()?.1, 0)),
        src: addr(Rta::Prefsrc),
        metric: attrs.u32(Rta::Priority).unwrap_or(0),
    })
}

/// The gateways of a route that has several. `struct rtnexthop { u16 len; u8 flags, hops; i32 ifindex; }`
/// begins as an attribute does; its flags (dead, linkdown) and its weight mean nothing here.
fn gateways(hops: Attrs<'_>) -> impl Iterator<Item = IpAddr> {
    let gateway = |(_, hop)| Attrs::after(hop, 4).get(Rta::Gateway).and_then(addr_from_bytes);
    hops.into_iter().filter_map(gateway)
}

fn u32_at(body: &[u8], at: usize) -> Option<u32> {
    body.get(at..)?.first_chunk().map(|b| u32::from_ne_bytes(*b))
}

/// Makes a link, or corrects the one that is there, and sets it up.
pub fn put_link(name: &str, kind: &LinkKind, mtu: Option<u32>) -> Request {
    let mut request = Request::new(Rtm::Newlink, CREATE, &ifinfo(IFF_UP)).text(Ifla::Ifname, name);
    if let Some(mtu) = mtu {
        request = request.attr(Ifla::Mtu, &mtu.to_ne_bytes());
    }
    request.nest(Ifla::Linkinfo.into(), |r| r.text(IflaInfo::Kind, kind.as_str()))
}

/// Takes a link away.
pub fn remove_link(index: u32) -> Request {
    let mut header = [0; IFINFO];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    Request::new(Rtm::Dellink, NlmF::empty(), &header).fine(&[libc::ENODEV])
}

/// Lets packets leave by a port of a bridge that came in by it.
pub fn hairpin(index: u32) -> Request {
    let mut header = [0; IFINFO];
    header[0] = libc::AF_BRIDGE as u8;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    Request::new(Rtm::Setlink, NlmF::empty(), &header)
        .nest(u16::from(Ifla::Protinfo) | NLA_F_NESTED, |port| port.attr(BRPORT_MODE, &[1]))
        .fine(&[libc::ENODEV]) // its pod is gone
}

/// Puts an address on a link.
pub fn add_address(addr: IpNet, index: u32) -> Request {
    Request::new(Rtm::Newaddr, CREATE | EXCL, &ifaddr(addr, index))
        .attr(Ifa::Local, &addr_to_bytes(addr.addr()))
        .fine(&[libc::EEXIST])
}

/// Takes an address from a link.
pub fn remove_address(addr: IpNet, index: u32) -> Request {
    Request::new(Rtm::Deladdr, NlmF::empty(), &ifaddr(addr, index))
        .attr(Ifa::Local, &addr_to_bytes(addr.addr()))
        .fine(&[libc::EADDRNOTAVAIL])
}

/// Makes a route. `None`: the item is none, or its device (found by `index`) is not there.
pub fn add_route(item: &Item, index: impl Fn(&str) -> Option<u32>) -> Option<Vec<Request>> {
    put_route(item, index, CREATE | EXCL)
}

/// Puts a route in the place of ours to the same prefix.
pub fn change_route(item: &Item, index: impl Fn(&str) -> Option<u32>) -> Option<Vec<Request>> {
    put_route(item, index, CREATE | REPLACE)
}

fn put_route(item: &Item, index: impl Fn(&str) -> Option<u32>, how: NlmF) -> Option<Vec<Request>> {
    let Item::Route { table, to, .. } = item else { return None };
    let local = *table == TABLE_LOCAL;
    let request = |flags| {
        let (kind, scope) =
            if local { (RTN_LOCAL, SCOPE_HOST) } else { (RTN_UNICAST, SCOPE_UNIVERSE) };
        route(item, &index, Rtm::Newroute, flags, PROTO_OURS, kind, scope)
    };
    Some(match to {
        // The kernel's own is there, and has to give way.
        IpNet::V4(_) if local => vec![request(CREATE | REPLACE)?],
        // Put beside the kernel's own, which `give_way` takes away then.
        IpNet::V6(_) if local => vec![request(CREATE | REPLACE)?],
        _ => vec![request(how)?],
    })
}

/// Takes a route away. One of several gateways is IPv6's own; IPv4 takes all of the route by the name of
/// the first, whichever that is. Asked for one by one, all of them go, in whatever order they stand.
pub fn remove_route(item: &Item, index: impl Fn(&str) -> Option<u32>) -> Option<Vec<Request>> {
    let Item::Route { table, to, via, src } = item else { return None };
    // A local route may be one that kube-router made with another protocol number.
    let (kind, protocol) =
        if *table == TABLE_LOCAL { (RTN_LOCAL, 0) } else { (RTN_UNICAST, PROTO_OURS) };
    let request = |item: &Item| {
        let flags = NlmF::empty();
        let request = route(item, &index, Rtm::Delroute, flags, protocol, kind, SCOPE_NOWHERE)?;
        Some(request.fine(&[libc::ESRCH]))
    };
    let Some(Via::Many(hops)) = via else { return Some(vec![request(item)?]) };
    let one = |hop: &IpAddr| {
        let via = Some(Via::One(*hop));
        request(&Item::Route { table: *table, to: *to, via, src: *src })
    };
    hops.iter().map(one).collect()
}

/// Takes the kernel's own IPv6 route to a virtual address away. It is made a little later than the
/// address (`addrconf_wq`), so ESRCH may mean that it is still to come.
pub fn give_way(item: &Item, index: impl Fn(&str) -> Option<u32>) -> Option<Request> {
    let Item::Route { table: TABLE_LOCAL, to: to @ IpNet::V6(_), .. } = item else {
        return None;
    };
    let (table, via, src) = (TABLE_LOCAL, None, None);
    let own = Item::Route { table, to: *to, via, src };
    let delete = NlmF::empty();
    route(&own, &index, Rtm::Delroute, delete, PROTO_KERNEL, RTN_LOCAL, SCOPE_NOWHERE)
}

fn route(
    item: &Item,
    index: &impl Fn(&str) -> Option<u32>,
    verb: Rtm,
    flags: NlmF,
    protocol: u8,
    kind: u8,
    scope: u8,
) -> Option<Request> {
    let Item::Route { table, to, via, src } = item else { return None };
    let header = [family(to.addr()), to.prefix_len(), 0, 0, 0, protocol, scope, kind, 0, 0, 0, 0];
    let mut request = Request::new(verb, flags, &header)
        .attr(Rta::Table, &table.to_ne_bytes())
        .attr(Rta::Dst, &addr_to_bytes(to.addr()));
    match via {
        None => {}
        Some(Via::One(via)) => request = request.attr(Rta::Gateway, &addr_to_bytes(*via)),
        Some(Via::Many(hops)) => {
            request = request.nest(Rta::Multipath.into(), |r| hops.iter().fold(r, hop));
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

/// A `struct rtnexthop` of weight 1, whose link the kernel finds from its gateway.
fn hop(request: Request, via: &IpAddr) -> Request {
    request.nest(0, |hop| hop.bytes(&[0; 4]).attr(Rta::Gateway, &addr_to_bytes(*via)))
}
