//! Links, addresses and routes of kinglet, as netlink messages.
//!
//! This module translates between items and the structs of [`netlink`](crate::netlink); the caller owns
//! the socket. A pod route has protocol 17. It has no device if the kernel can find it from the gateway; a
//! gateway behind a device is `onlink`. A pod route never replaces another program's route: it is added
//! with NLM_F_EXCL, and replaced only if our route was observed.
//!
//! The kernel adds a local route of its own for each virtual address. Its IPv4 route is replaced by
//! ours. Its IPv6 route has metric 0, which user space can't set and which has precedence, so ours is
//! added beside it and [`delete_kernel_route`] removes it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    family::Family,
    model::items::{DUMMY, Item, LinkKind, NextHops, TABLE_LOCAL},
    netlink::{
        address::{self, IFA_F_NODAD, LinkAddress},
        link::{self, LinkSettings, LinkType},
        message::Request,
        route::{self, NextHop, RTN_UNICAST, RTPROT_KERNEL, Route, RouteQuery},
    },
    sys::errno,
};

pub(super) use crate::netlink::{
    address::IFADDR,
    link::IFINFO,
    route::{RTMSG, RTN_LOCAL, SCOPE_LINK},
};
pub use crate::netlink::{
    address::{list_addresses, read_address},
    link::{LinkInfo, list_links, read_link},
};

/// The protocol number of our routes. kube-router uses it too, so that a switch between the two
/// programs leaves no routes behind.
pub(super) const PROTO_OURS: u8 = 17;

/// A route as the kernel lists it, with its gateways as an item has them.
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
    /// route::RTNH_F_ONLINK: the gateway need not be in a network of the device.
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

/// Parses a route from a message's body. Returns `None` if it is neither IPv4 nor IPv6, or invalid. The
/// weights of several gateways are ignored.
pub fn read_route(body: &[u8]) -> Option<RouteInfo> {
    let route = route::read_route(body)?;
    let Route { table, kind, protocol, to, src, metric, flags, .. } = route;
    let via = match route.hops.is_empty() {
        true => route.gateway.map(NextHops::One),
        false => NextHops::new(route.hops.iter().filter_map(|hop| hop.gateway)),
    };
    let oif = route.oif.or(route.hops.first().map(|hop| hop.oif));
    let onlink = flags & route::RTNH_F_ONLINK != 0;
    Some(RouteInfo { table, kind, protocol, to, via, oif, src, metric, onlink })
}

/// Requests the routes of one family in a table that have our protocol number.
pub fn list_routes(family: Family, table: u32) -> Request {
    route::list_routes(&RouteQuery { family, table, protocol: PROTO_OURS, kind: 0, oif: 0 })
}

/// Requests the `local` routes of one family to a link, with any protocol number.
pub fn list_local_routes(family: Family, index: u32) -> Request {
    let table = TABLE_LOCAL;
    route::list_routes(&RouteQuery { family, table, protocol: 0, kind: RTN_LOCAL, oif: index })
}

/// Adds a link, or changes the existing one, and sets it up. `mtu` is in bytes; `None` keeps the
/// kernel's value.
pub fn put_link(name: &str, kind: &LinkKind, mtu: Option<u32>) -> Request {
    let settings =
        LinkSettings { name: Some(name), mtu, up: Some(true), ..LinkSettings::default() };
    link::put_link(&LinkType::Simple(kind.as_str()), &settings)
}

/// Removes a link. Succeeds if it is already gone.
pub fn remove_link(index: u32) -> Request {
    link::delete_link(index).ignore_errors(&[errno::ENODEV])
}

/// Sets the hairpin mode of a bridge port, so that a packet may leave by the port it came from.
/// Succeeds if the port is gone, because its pod was deleted.
pub fn set_hairpin(index: u32) -> Request {
    link::set_hairpin(index).ignore_errors(&[errno::ENODEV])
}

/// Adds an address to a link. Succeeds if the link already has it.
pub fn add_address(addr: IpNet, index: u32) -> Request {
    address::add_address(&address(addr, index)).ignore_errors(&[errno::EEXIST])
}

/// Removes an address from a link. Succeeds if it is already gone.
pub fn remove_address(addr: IpNet, index: u32) -> Request {
    address::delete_address(&address(addr, index)).ignore_errors(&[errno::EADDRNOTAVAIL])
}

/// Returns an address without duplicate address detection, because a virtual address is on many nodes
/// and must be usable at once.
fn address(addr: IpNet, index: u32) -> LinkAddress {
    let scope = if addr.addr().is_ipv4() { SCOPE_LINK } else { route::SCOPE_UNIVERSE };
    LinkAddress { index, addr, scope, flags: IFA_F_NODAD }
}

/// Adds a route. Returns `None` if the item is not a route, or if `index` does not find its device.
pub fn add_route(item: &Item, index: impl Fn(&str) -> Option<u32>) -> Option<Vec<Request>> {
    let route = new_route(item, index)?;
    // A local route replaces the kernel's own IPv4 route. The kernel's own IPv6 route has another
    // metric, so ours is added beside it; `delete_kernel_route` removes the kernel's afterwards.
    let local = route.table == TABLE_LOCAL;
    let add = if local { route::replace_route } else { route::add_route };
    Some(vec![add(&route)])
}

/// Replaces our route to the same prefix. Returns `None` in the same cases as [`add_route`].
pub fn change_route(item: &Item, index: impl Fn(&str) -> Option<u32>) -> Option<Vec<Request>> {
    Some(vec![route::replace_route(&new_route(item, index)?)])
}

/// Removes a route. For several gateways it returns one request per gateway, because the kernel's
/// behaviour differs: IPv6 removes only the named gateway, IPv4 removes the whole route if its first
/// gateway is named. After all requests the route is gone in both families, in any order of gateways.
/// Returns `None` in the same cases as [`add_route`].
pub fn remove_route(item: &Item, index: impl Fn(&str) -> Option<u32>) -> Option<Vec<Request>> {
    let mut route = new_route(item, index)?;
    route.scope = route::SCOPE_NOWHERE;
    if route.table == TABLE_LOCAL {
        route.protocol = 0; // kube-router may have added it with another protocol number
    }
    let hops = std::mem::take(&mut route.hops);
    let request = |route: &Route| route::delete_route(route).ignore_errors(&[errno::ESRCH]);
    if hops.is_empty() {
        return Some(vec![request(&route)]);
    }
    let one = |hop: NextHop| {
        route.gateway = hop.gateway;
        request(&route)
    };
    Some(hops.into_iter().map(one).collect())
}

/// Deletes the kernel's own IPv6 route to a virtual address. The kernel adds that route shortly after
/// the address (`addrconf_wq`), so ESRCH can mean that it does not exist yet. Returns `None` if the
/// item is not a local IPv6 route, or if `index` does not find its device.
pub fn delete_kernel_route(item: &Item, index: impl Fn(&str) -> Option<u32>) -> Option<Request> {
    let Item::Route { table: TABLE_LOCAL, to: IpNet::V6(_), .. } = item else {
        return None;
    };
    let route = new_route(item, index)?;
    let (scope, protocol) = (route::SCOPE_NOWHERE, RTPROT_KERNEL);
    Some(route::delete_route(&Route { scope, protocol, src: None, ..route }))
}

/// Returns the route of an item. A route in the table `local` delivers packets to this node, by the
/// dummy link. Returns `None` in the same cases as [`add_route`].
fn new_route(item: &Item, index: impl Fn(&str) -> Option<u32>) -> Option<Route> {
    let Item::Route { table, to, via, src } = item else { return None };
    let mut route = Route { src: *src, ..Route::new(*to, *table, PROTO_OURS) };
    match via {
        None => {}
        Some(NextHops::One(via)) => route.gateway = Some(*via),
        Some(NextHops::Many(hops)) => {
            let hop = |via: &IpAddr| NextHop { gateway: Some(*via), oif: 0, weight: 1 };
            route.hops = hops.iter().map(hop).collect();
        }
        Some(NextHops::Device(hop)) => {
            (route.gateway, route.oif) = (hop.via, Some(index(&hop.dev)?));
            match hop.via {
                Some(_) => route.flags = route::RTNH_F_ONLINK,
                // Without a gateway, iproute2 too makes an IPv4 route of this scope.
                None if to.addr().is_ipv4() => route.scope = route::SCOPE_LINK,
                None => {}
            }
        }
    }
    if *table == TABLE_LOCAL {
        (route.kind, route.scope) = (RTN_LOCAL, route::SCOPE_HOST);
        route.oif = Some(index(DUMMY)?);
    }
    Some(route)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::items::TABLE_MAIN, netlink::message::frames};

    fn item(table: u32, to: &str, via: &[&str]) -> Item {
        let via = NextHops::new(via.iter().map(|via| via.parse().unwrap()));
        Item::Route { table, to: to.parse().unwrap(), via, src: None }
    }

    fn read(requests: &[Request]) -> Vec<RouteInfo> {
        let mut messages = Vec::new();
        requests.iter().for_each(|request| request.write(1, 0, &mut messages));
        frames(&messages).map(|frame| read_route(frame.unwrap().body()).unwrap()).collect()
    }

    #[test]
    fn a_route_has_the_gateways_of_its_item_and_no_device() {
        for via in [&["192.0.2.2"][..], &["192.0.2.2", "192.0.2.3"]] {
            let item = item(TABLE_MAIN, "10.244.1.0/24", via);
            for requests in [add_route(&item, |_| None), change_route(&item, |_| None)] {
                let [route] = &read(&requests.unwrap())[..] else { panic!() };
                let Item::Route { table, to, via, src } = &item else { panic!() };
                assert_eq!((&route.table, &route.to, &route.via), (table, to, via));
                assert_eq!(
                    (&route.src, route.protocol, route.kind),
                    (src, PROTO_OURS, RTN_UNICAST)
                );
                assert!(route.oif.is_none_or(|oif| oif == 0) && route.is_ours());
            }
        }
    }

    #[test]
    fn a_local_route_is_to_the_dummy_link_and_is_removed_whoever_added_it() {
        let index = |name: &str| (name == DUMMY).then_some(7);
        let local = item(TABLE_LOCAL, "fd96::1/128", &[]);
        let [added] = &read(&add_route(&local, index).unwrap())[..] else { panic!() };
        assert_eq!((added.kind, added.protocol, added.oif), (RTN_LOCAL, PROTO_OURS, Some(7)));
        let [removed] = &read(&remove_route(&local, index).unwrap())[..] else { panic!() };
        assert_eq!((removed.kind, removed.protocol, removed.oif), (RTN_LOCAL, 0, Some(7)));
        let [kernels] = &read(&[delete_kernel_route(&local, index).unwrap()])[..] else { panic!() };
        assert_eq!((kernels.kind, kernels.protocol, kernels.oif), (RTN_LOCAL, 2, Some(7)));
        assert!(add_route(&local, |_| None).is_none(), "without the dummy link");
        let local = item(TABLE_LOCAL, "10.96.0.1/32", &[]);
        assert!(delete_kernel_route(&local, index).is_none(), "IPv4: it was replaced");
    }

    #[test]
    fn several_gateways_are_removed_one_by_one() {
        let (to, gateways) = ("fd44:1::/64", ["fd77::12", "fd77::13"]);
        let requests = remove_route(&item(TABLE_MAIN, to, &gateways), |_| None).unwrap();
        assert!(requests.iter().all(|request| request.ignores(errno::ESRCH)));
        let removed: Vec<_> = read(&requests).into_iter().map(|route| route.via).collect();
        let each = gateways.map(|gateway| Some(NextHops::One(gateway.parse().unwrap())));
        assert_eq!(removed, each);
    }

    #[test]
    fn the_device_of_a_multipath_route_is_that_of_its_first_next_hop() {
        let hop = |oif| NextHop { gateway: Some([192, 0, 2, oif as u8].into()), oif, weight: 1 };
        let to = "10.244.1.0/24".parse().unwrap();
        let route = Route { hops: vec![hop(4), hop(5)], ..Route::new(to, TABLE_MAIN, PROTO_OURS) };
        let [found] = &read(&[route::add_route(&route)])[..] else { panic!() };
        assert_eq!(found.oif, Some(4));
        let route = Route { oif: Some(6), ..route };
        assert_eq!(read(&[route::add_route(&route)])[0].oif, Some(6));
    }
}
