//! Computes the routes to the other nodes' pods (`of_nodes`) and the other routes that BGP
//! learned (`of_peers`).
//!
//! A Node object yields routes at once: its podCIDRs with its address as the gateway. A route that
//! BGP learned to the same podCIDR replaces that route, because the peer has it from the node
//! itself and knows more paths. [`RouteFilter`] filters the learned routes: none of them may take away
//! this node's own addresses, pods, links or neighbours. Choosing the best paths is left to `bgp`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    Unmet,
    node_view::{Draft, NOTHING, NodeView},
    services::Claims,
};
use crate::{
    collections::{self, FlatMap, FlatSet},
    family::is_link_local,
    model::{
        bgp::Learned,
        cluster::Node,
        items::{Item, NextHops, TABLE_MAIN},
        local::{Host, Routes},
    },
};

/// The maximum number of gateways of a route; further ones are dropped. The kernel receives 128
/// such routes in one message, and its answer must fit into our receive buffer.
const MAX_GATEWAYS: usize = 16;

/// The networks that are claimed, each with the name of its node; the name is empty if no node is
/// known for the network.
pub(crate) type Claimed<'a> = FlatMap<IpNet, &'a str>;

/// The learned routes, and the input of the filter that they must pass.
#[derive(Debug)]
pub(crate) struct RouteFilter<'a> {
    learned: &'a Learned,
    /// The networks of this node's own links; `None` if the host was not inspected, and every
    /// address then counts as a neighbour.
    on_link: Option<Vec<IpNet>>,
    /// This node's podCIDRs, of disabled families too.
    pods: &'a [IpNet],
    /// This node's own addresses.
    own: FlatSet<IpAddr>,
    /// The addresses of all Nodes, and all next hops.
    neighbours: FlatSet<IpAddr>,
}

/// The reason for which a learned route is rejected. If a route has several reasons, the last one
/// in this order is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum RejectReason {
    /// The route does not concern this node; it is not reported.
    Ignored,
    /// The next hop is on no link of this node.
    OffLink,
    /// The route would cut off a next hop or a node.
    CutsOff,
    /// The network is that of a link of this node.
    OnLink,
    /// The network lies in this node's own podCIDR.
    OwnPods,
}

impl RejectReason {
    const REPORTED: [RejectReason; 4] =
        [RejectReason::OffLink, RejectReason::CutsOff, RejectReason::OnLink, RejectReason::OwnPods];

    fn text(self) -> &'static str {
        match self {
            RejectReason::Ignored => "",
            RejectReason::OffLink => {
                "the next hop is on none of this node's links, and this version makes no tunnels: \
                 configure the peer to set itself as the next hop"
            }
            RejectReason::CutsOff => {
                "a next hop or a node lies in it, so the route would cut it off: stop the peer from \
                 advertising it, or reject it with the annotation \
                 kube-router.io/node.bgp.customimportreject"
            }
            RejectReason::OnLink => "it is the network of one of this node's own links",
            RejectReason::OwnPods => {
                "it lies in this node's own podCIDR: stop the peer from advertising it, because it would \
                 divert the traffic of this node's pods"
            }
        }
    }
}

impl<'a> RouteFilter<'a> {
    /// Returns the filter for the node of a view. It has no learned routes if `--routes` excludes
    /// BGP.
    pub(super) fn of(view: &NodeView<'a>, learned: &'a Learned) -> RouteFilter<'a> {
        let learned = if view.local.options.routes == Routes::Nodes { &NOTHING } else { learned };
        let mut neighbours = FlatSet::new();
        if !learned.routes.is_empty() {
            neighbours.extend(view.cluster.nodes.values().flat_map(Node::addrs));
            neighbours.extend(learned.routes.values().flat_map(NextHops::addrs).copied());
        }
        RouteFilter {
            learned,
            on_link: view.host().map(Host::on_link),
            pods: &view.own.pod_cidrs,
            own: view.own_addrs(),
            neighbours,
        }
    }

    /// Returns all learned routes.
    pub(super) fn routes(&self) -> collections::Iter<'a, IpNet, NextHops> {
        self.learned.routes.iter()
    }

    /// Returns the learned routes to some networks.
    pub(super) fn routes_to(
        &self,
        nets: &'a FlatSet<IpNet>,
    ) -> impl Iterator<Item = (&'a IpNet, &'a NextHops)> + use<'a> {
        let learned = self.learned;
        nets.iter().filter_map(|net| Some((net, learned.routes.get(net)?)))
    }

    /// Returns true if the filter may reject other routes than `then` did. A route within the
    /// network of a link depends on all next hops.
    pub(super) fn differ(&self, then: &RouteFilter<'_>) -> bool {
        self.neighbours != then.neighbours && (self.routes_a_link() || then.routes_a_link())
    }

    /// Returns true if a learned route lies within the network of one of this node's own links.
    pub(super) fn routes_a_link(&self) -> bool {
        let within = |link: &IpNet| {
            let from = link.trunc();
            let mut rest = self.learned.routes.tail(&from).map(|(to, _)| to);
            rest.find(|to| **to != from).is_some_and(|to| from.contains(to))
        };
        self.on_link.iter().flatten().any(within)
    }

    /// Returns the usable next hops of a learned route. Fails with the reason if the route is
    /// rejected, or if none of its next hops is usable.
    fn gateways(&self, to: &IpNet, hops: &NextHops) -> Result<NextHops, RejectReason> {
        let is_host = to.prefix_len() == to.max_prefix_len();
        if to.prefix_len() == 0 || is_special(to) || is_host && self.own.contains(&to.addr()) {
            return Err(RejectReason::Ignored);
        }
        if self.pods.iter().any(|own| own.contains(to)) {
            return Err(RejectReason::OwnPods);
        }
        let on_link = self.on_link.as_deref().unwrap_or_default();
        // A route that contains a whole link network is harmless: the link's own route has a longer
        // prefix.
        if let Some(link) = on_link.iter().find(|net| net.contains(to)) {
            if link.prefix_len() == to.prefix_len() {
                return Err(RejectReason::OnLink);
            }
            let next = self.neighbours.tail(&to.network()).first();
            if next.is_some_and(|addr| *addr <= to.broadcast()) {
                return Err(RejectReason::CutsOff);
            }
        }
        let mut worst = RejectReason::Ignored;
        let usable = |hop: &&IpAddr| match self.reject_next_hop(to, **hop) {
            None => true,
            Some(reason) => {
                worst = worst.max(reason);
                false
            }
        };
        NextHops::new(hops.addrs().iter().filter(usable).copied().take(MAX_GATEWAYS)).ok_or(worst)
    }

    /// Returns the reason for which a next hop is not usable; `None` if it is.
    fn reject_next_hop(&self, to: &IpNet, hop: IpAddr) -> Option<RejectReason> {
        if self.own.contains(&hop) {
            return Some(RejectReason::Ignored); // advertised by this node itself
        }
        if hop.is_ipv4() != to.addr().is_ipv4()
            || hop.is_ipv6() && is_link_local(hop) // such a gateway needs an interface, which BGP does not give
            || !is_on_link(hop, self.on_link.as_deref())
        {
            return Some(RejectReason::OffLink);
        }
        (self.on_link.is_none() && to.contains(&hop)).then_some(RejectReason::CutsOff)
    }
}

/// Adds the routes to the pods of all other nodes. Returns the claimed networks: podCIDRs, and the
/// networks behind kube-router's tunnels.
pub(super) fn of_nodes<'a>(
    view: &NodeView<'a>,
    bounds: &RouteFilter<'_>,
    draft: &mut Draft,
) -> Claimed<'a> {
    let tunnels = view.host().map_or(&[][..], |h| &h.tunnels);
    let mut claimed: Claimed<'a> =
        view.own.pod_cidrs.iter().map(|net| (*net, &*view.own.name)).collect();
    let tunnelled: FlatSet<IpNet> = tunnels.iter().filter_map(|t| t.to).collect();
    let asked = view.local.options.routes != Routes::Bgp;
    for node in view.cluster.nodes.values().filter(|n| asked && n.name != view.own.name) {
        for &to in node.pod_cidrs.iter().filter(|to| view.family(to.addr().is_ipv4())) {
            let what = || format!("route to {to}, the pods of node {}", node.name);
            match next_hops(node, &to, bounds) {
                Err(reason) => draft.unmet.push(Unmet::new(what(), reason)),
                Ok(via) => match claimed.get(&to) {
                    Some(first) => {
                        let reason = format!("node {first} has the same podCIDR");
                        draft.unmet.push(Unmet::new(what(), reason));
                    }
                    None => {
                        claimed.insert(to, &node.name);
                        if !tunnelled.contains(&to) {
                            draft.items.push(route(to, via));
                        }
                    }
                },
            }
        }
    }
    if let Some(tunnel) = tunnels.first() {
        let routed = tunnels.iter().filter(|t| t.to.is_some()).count();
        draft.unmet.push(Unmet::new(
            format!("{routed} routes through kube-router's tunnels ({}…)", tunnel.link),
            "this version makes no tunnels, so these routes are LEFT AS THEY ARE and not maintained; \
             if the nodes share a link, remove the tunnels: ip link del TUNNEL",
        ));
    }
    claimed.extend(tunnelled.into_iter().map(|to| (to, "")));
    claimed
}

/// Adds those of the given learned routes whose networks are not claimed. Rejected routes are
/// reported once for each reason, because there may be very many of them.
pub(super) fn of_peers<'l>(
    view: &NodeView<'_>,
    bounds: &RouteFilter<'_>,
    routes: impl Iterator<Item = (&'l IpNet, &'l NextHops)>,
    claimed: &Claimed<'_>,
    claims: &Claims,
    draft: &mut Draft,
) {
    let mut rejected = [(0usize, None); 1 + RejectReason::REPORTED.len()];
    for (to, hops) in routes {
        let is_host = to.prefix_len() == to.max_prefix_len();
        if claimed.contains_key(to)
            || !view.family(to.addr().is_ipv4())
            || is_host && claims.has(to.addr())
        {
            continue; // claimed by a Node, or a virtual address that is served here
        }
        match bounds.gateways(to, hops) {
            Ok(via) => {
                let item = route(*to, via);
                if (view.asked)(&item) {
                    draft.items.push(item);
                }
            }
            Err(reason) => {
                let (count, first) = &mut rejected[reason as usize];
                *count += 1;
                first.get_or_insert(*to);
            }
        }
    }
    for reported in RejectReason::REPORTED {
        let what = match rejected[reported as usize] {
            (_, None) => continue,
            (1, Some(first)) => format!("route to {first}, learned by BGP"),
            (n, Some(first)) => format!("{n} routes learned by BGP ({first}…)"),
        };
        draft.unmet.push(Unmet::new(what, reported.text()));
    }
}

fn route(to: IpNet, via: NextHops) -> Item {
    Item::Route { table: TABLE_MAIN, to, via: Some(via), src: None }
}

/// Returns the next hops to a podCIDR of a node: those of the learned route if there is a usable
/// one, else the node's own address. Fails if the node has no address on a link here, or if it is
/// not Ready and its BGP session is down.
fn next_hops(node: &Node, to: &IpNet, bounds: &RouteFilter<'_>) -> Result<NextHops, String> {
    let hops = bounds.learned.routes.get(to);
    if let Some(Ok(via)) = hops.map(|hops| bounds.gateways(to, hops)) {
        return Ok(via);
    }
    if !node.ready && node.addrs().any(|addr| bounds.learned.lost.contains(&addr)) {
        return Err(
            "the node is not Ready, its BGP session is down, and no other peer advertises this podCIDR".into(),
        );
    }
    let via = node.addr(to.addr().is_ipv4()).ok_or("the node has no address of this family")?;
    if to.contains(&via) {
        Err(format!("the node's own address {via} lies in it, so the route would cut it off"))
    } else if !is_on_link(via, bounds.on_link.as_deref()) {
        Err(format!("{via} is on none of this node's links, and this version makes no tunnels"))
    } else {
        Ok(via.into())
    }
}

/// Returns true if an address is in a network of a link here and is not this node's own on that link.
fn is_on_link(addr: IpAddr, on_link: Option<&[IpNet]>) -> bool {
    on_link.is_none_or(|nets| nets.iter().any(|net| net.contains(&addr) && net.addr() != addr))
}

/// Returns true for networks that are never routed: loopback, multicast and link-local ones.
fn is_special(net: &IpNet) -> bool {
    let addr = net.addr();
    addr.is_loopback() || addr.is_multicast() || is_link_local(addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        desired::{
            ClusterView, desired,
            state::tests::{Dice, service},
        },
        model::{
            cluster::{Cluster, Name, Object, Service, ServicePort},
            items::{ItemSet, Protocol},
            local::{HostLink, Local, Options, Tunnel},
        },
    };

    fn node(name: &str, addr: &str, pods: &str) -> Node {
        Node {
            name: name.into(),
            internal_ips: vec![addr.parse().unwrap()],
            pod_cidrs: vec![pods.parse().unwrap()],
            ..Node::default()
        }
    }

    /// Returns a cluster of this node, `a`, and one neighbour, `b`.
    fn cluster() -> Cluster {
        let mut cluster = Cluster::default();
        cluster.insert(Object::Node(node("a", "192.0.2.11", "10.244.0.0/24")));
        cluster.insert(Object::Node(node("b", "192.0.2.12", "10.244.1.0/24")));
        cluster
    }

    fn local(routes: Routes) -> Local {
        let addrs = ["192.0.2.11/24", "fd77::11/64", "fe80::11/64"].map(|a| a.parse().unwrap());
        let links = vec![HostLink { name: "eth0".into(), mtu: 1500, addrs: addrs.into() }];
        let mut host = Host { links, ..Host::default() };
        host.sysctls.insert("net/ipv6/conf/all/forwarding".into(), "1".into());
        let options = Options { routes, ..Options::default() };
        Local { node: "a".into(), options, host: Some(host) }
    }

    fn learned(routes: &[(&str, &[&str])]) -> Learned {
        let hops =
            |hops: &[&str]| NextHops::new(hops.iter().map(|hop| hop.parse().unwrap())).unwrap();
        let routes = routes.iter().map(|(to, via)| (to.parse().unwrap(), hops(via))).collect();
        Learned { routes, ..Learned::default() }
    }

    /// Returns the routes, and the messages about routes that can't be honoured.
    fn outcome(cluster: &Cluster, learned: &Learned, local: &Local) -> (Vec<String>, Vec<String>) {
        let desired = desired(cluster, learned, local).unwrap();
        let main = |i: &&Item| matches!(i, Item::Route { table: TABLE_MAIN, .. });
        let routes = desired.state.iter().filter(main).map(|i| i.to_string()[6..].to_owned());
        let messages = desired.unmet.iter().filter(|u| u.what.contains("route"));
        (routes.collect(), messages.map(|u| format!("{}: {}", u.what, u.why)).collect())
    }

    fn with_bgp(routes: &[(&str, &[&str])]) -> (Vec<String>, Vec<String>) {
        outcome(&cluster(), &learned(routes), &local(Routes::Both))
    }

    const NODE_ROUTE: &str = "10.244.1.0/24 via 192.0.2.12";

    #[test]
    fn a_node_is_the_gateway_to_its_pods_and_a_family_without_an_address_is_unmet() {
        let mut cluster = cluster();
        cluster.nodes.get_mut("b").unwrap().pod_cidrs.push("fd44:1::/64".parse().unwrap());
        let (routes, messages) = outcome(&cluster, &NOTHING, &local(Routes::Nodes));
        assert_eq!(routes, [NODE_ROUTE]);
        assert!(messages.len() == 1 && messages[0].contains("fd44:1::/64"), "{messages:?}");
    }

    #[test]
    fn a_node_that_is_not_on_link_gets_no_route_and_an_unmet_entry() {
        let mut cluster = cluster();
        cluster.insert(Object::Node(node("b", "198.51.100.12", "10.244.1.0/24")));
        let (routes, messages) = outcome(&cluster, &NOTHING, &local(Routes::Both));
        assert!(routes.is_empty());
        assert!(
            messages[0].contains("198.51.100.12 is on none of this node's links"),
            "{messages:?}"
        );
        // A route that a router on the link advertises is usable.
        let by_router = learned(&[("10.244.1.0/24", &["192.0.2.1"])]);
        let (routes, messages) = outcome(&cluster, &by_router, &local(Routes::Both));
        assert_eq!((routes, messages), (vec!["10.244.1.0/24 via 192.0.2.1".into()], vec![]));
    }

    #[test]
    fn without_an_inspected_host_every_node_counts_as_on_link() {
        let local = Local { host: None, ..local(Routes::Both) };
        assert_eq!(outcome(&cluster(), &NOTHING, &local).0, [NODE_ROUTE]);
    }

    #[test]
    fn a_learned_route_replaces_the_route_of_the_node_and_other_routes_are_added() {
        let (routes, messages) = with_bgp(&[
            ("10.244.1.0/24", &["192.0.2.2", "192.0.2.1"]),
            ("203.0.113.0/24", &["192.0.2.1"]),
            ("2001:db8::/48", &["fd77::1"]),
        ]);
        assert_eq!(
            routes,
            [
                "10.244.1.0/24 nexthop via 192.0.2.1 nexthop via 192.0.2.2",
                "203.0.113.0/24 via 192.0.2.1",
                "2001:db8::/48 via fd77::1",
            ]
        );
        assert_eq!(messages, [] as [&str; 0]);
    }

    #[test]
    fn the_routes_option_selects_node_routes_bgp_routes_or_both() {
        let learned = learned(&[("203.0.113.0/24", &["192.0.2.1"])]);
        let of = |routes| outcome(&cluster(), &learned, &local(routes)).0;
        assert_eq!(of(Routes::Nodes), [NODE_ROUTE]);
        assert_eq!(of(Routes::Bgp), ["203.0.113.0/24 via 192.0.2.1"]);
        assert_eq!(of(Routes::Both).len(), 2);
    }

    #[test]
    fn next_hops_that_are_not_on_link_are_dropped_and_without_any_the_route_of_the_node_stays() {
        let far = "198.51.100.1";
        let (routes, _) = with_bgp(&[("10.244.1.0/24", &[far, "192.0.2.1", "192.0.2.11"])]);
        assert_eq!(routes, ["10.244.1.0/24 via 192.0.2.1"]);
        let (routes, messages) = with_bgp(&[
            ("10.244.1.0/24", &[far]),
            ("203.0.113.0/25", &[far]),
            ("203.0.113.128/25", &[far]),
            ("2001:db8::/48", &["fe80::1"]),
            ("2001:db8:1::/48", &["192.0.2.1"]),
        ]);
        assert_eq!(routes, [NODE_ROUTE]);
        assert_eq!(messages.len(), 1, "one message for all of them: {messages:?}");
        let start = "4 routes learned by BGP (203.0.113.0/25…): the next hop is on none";
        assert!(messages[0].starts_with(start), "{messages:?}");
    }

    #[test]
    fn a_node_that_is_not_ready_and_has_no_session_gets_no_route_unless_a_peer_advertises_one() {
        let mut cluster = cluster();
        let mut learned = learned(&[]);
        learned.lost.insert("192.0.2.12".parse().unwrap());
        let local = local(Routes::Both);
        assert_eq!(outcome(&cluster, &learned, &local).0, [NODE_ROUTE], "it is Ready");
        cluster.nodes.get_mut("b").unwrap().ready = false;
        let (routes, messages) = outcome(&cluster, &learned, &local);
        assert!(
            routes.is_empty() && messages[0].contains("its BGP session is down"),
            "{messages:?}"
        );
        let alone =
            Local { options: Options { routes: Routes::Nodes, ..Options::default() }, ..local };
        assert_eq!(outcome(&cluster, &learned, &alone).0, [NODE_ROUTE], "BGP routes are not used");
        learned
            .routes
            .insert("10.244.1.0/24".parse().unwrap(), NextHops::One("192.0.2.1".parse().unwrap()));
        let local = super::tests::local(Routes::Both);
        assert_eq!(outcome(&cluster, &learned, &local).0, ["10.244.1.0/24 via 192.0.2.1"]);
        learned.routes.clear();
        learned.lost.clear();
        assert_eq!(outcome(&cluster, &learned, &local).0, [NODE_ROUTE], "its session was never up");
    }

    #[test]
    fn a_learned_route_never_replaces_this_nodes_addresses_links_or_pods() {
        let by: &[&str] = &["192.0.2.1"];
        let (routes, messages) = with_bgp(&[
            ("0.0.0.0/0", by),
            ("10.244.0.0/24", by),
            ("10.244.0.128/25", by),
            ("192.0.2.11/32", by),
            ("192.0.2.0/24", by),
            ("127.1.0.0/16", by),
            ("224.0.0.0/8", by),
            ("fe80::/64", &["fd77::1"]),
            ("203.0.113.1/32", &["192.0.2.11"]),
        ]);
        assert_eq!(routes, [NODE_ROUTE]);
        assert_eq!(messages.len(), 2, "{messages:?}");
        assert!(
            messages[0].starts_with("route to 192.0.2.0/24, learned by BGP: it is the network")
        );
        assert!(messages[1].starts_with("route to 10.244.0.128/25, learned by BGP: it lies in"));
    }

    #[test]
    fn a_learned_route_that_contains_a_neighbour_is_rejected_unless_it_contains_the_whole_link() {
        let (routes, messages) = with_bgp(&[
            ("192.0.2.1/32", &["192.0.2.2"]),
            ("192.0.2.12/32", &["192.0.2.1"]),
            ("192.0.2.0/28", &["192.0.2.1"]),
            ("192.0.2.200/32", &["192.0.2.1"]),
            ("192.0.0.0/16", &["192.0.2.1"]),
        ]);
        assert_eq!(routes[1..], ["192.0.0.0/16 via 192.0.2.1", "192.0.2.200/32 via 192.0.2.1"]);
        assert_eq!(messages.len(), 1);
        assert!(
            messages[0].starts_with("3 routes learned by BGP (192.0.2.0/28…): a next hop"),
            "{messages:?}"
        );
        let offline = Local { host: None, ..local(Routes::Both) };
        let wide = learned(&[("192.0.0.0/16", &["192.0.2.1"])]);
        assert!(
            outcome(&cluster(), &wide, &offline).1[0].contains("cut it off"),
            "without a host the links are unknown"
        );
    }

    #[test]
    fn a_learned_route_to_a_virtual_address_that_is_served_here_is_ignored() {
        let mut cluster = cluster();
        let port =
            ServicePort { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
        cluster.insert(Object::Service(Service {
            name: Name { namespace: "shop".into(), name: "web".into() },
            cluster_ips: vec!["10.96.0.10".parse().unwrap()],
            ports: vec![port],
            ..Service::default()
        }));
        let learned =
            learned(&[("10.96.0.10/32", &["192.0.2.1"]), ("10.96.0.11/32", &["192.0.2.1"])]);
        let mut local = local(Routes::Both);
        let (routes, messages) = outcome(&cluster, &learned, &local);
        assert_eq!(
            routes,
            [NODE_ROUTE, "10.96.0.11/32 via 192.0.2.1"][..]
                .iter()
                .rev()
                .copied()
                .collect::<Vec<_>>()
        );
        assert_eq!(messages, [] as [&str; 0]);
        local.options.services = false;
        assert_eq!(outcome(&cluster, &learned, &local).0.len(), 3, "it is served elsewhere");
    }

    #[test]
    fn networks_behind_kube_routers_tunnels_and_of_disabled_families_get_no_route() {
        let learned =
            learned(&[("10.244.1.0/24", &["192.0.2.1"]), ("2001:db8::/48", &["fd77::1"])]);
        let mut local = local(Routes::Both);
        local.options.ipv6 = false;
        local.host.as_mut().unwrap().tunnels =
            vec![Tunnel { link: "tun-1".into(), to: Some("10.244.1.0/24".parse().unwrap()) }];
        for routes in [Routes::Both, Routes::Bgp] {
            local.options.routes = routes;
            let (routes, messages) = outcome(&cluster(), &learned, &local);
            assert!(routes.is_empty() && messages.len() == 1, "{routes:?} {messages:?}");
        }
    }

    #[test]
    fn a_route_has_at_most_the_maximum_number_of_gateways() {
        let hops: Vec<String> = (20..80).map(|i| format!("192.0.2.{i}")).collect();
        let hops: Vec<&str> = hops.iter().map(String::as_str).collect();
        let (routes, _) = with_bgp(&[("203.0.113.0/24", &hops)]);
        assert_eq!(routes[1].matches("nexthop").count(), MAX_GATEWAYS);
    }

    #[test]
    fn incremental_route_updates_equal_a_full_recompute() {
        let mut dice = Dice(0x6b69_6e67_6c65_7432);
        let mut below = |limit: usize| dice.below(limit as u64) as usize;
        let mut cluster = cluster();
        cluster.insert(service("web", "10.96.0.1", 80));
        let local = local(Routes::Both);
        let nets = ["10.244.0.128/25", "10.244.1.0/24", "10.244.2.0/24", "10.96.0.1/32"]
            .into_iter()
            .chain([
                "192.0.2.0/24",
                "192.0.2.8/29",
                "203.0.113.0/24",
                "fd44:1::/64",
                "224.0.0.0/8",
            ]);
        let nets: Vec<IpNet> = nets.map(|net| net.parse().unwrap()).collect();
        let ways: [&[&str]; 5] = [
            &["192.0.2.12"],
            &["192.0.2.13", "192.0.2.12"],
            &["192.0.2.11"],
            &["198.51.100.1"],
            &["fd77::12"],
        ];
        let (mut old, mut alone, mut steps) = (Learned::default(), 0, 0);
        for _ in 0..3000 {
            let (mut new, mut changed) = (old.clone(), FlatSet::new());
            for _ in 0..=below(2) {
                let net = nets[below(nets.len())];
                changed.insert(net);
                match below(4) {
                    0 => drop(new.routes.remove(&net)),
                    _ => {
                        let hops = ways[below(ways.len())].iter().map(|hop| hop.parse().unwrap());
                        new.routes.insert(net, NextHops::new(hops).unwrap());
                    }
                }
            }
            let [before, after] = [&old, &new].map(|l| desired(&cluster, l, &local).unwrap());
            let [then, now] = [&old, &new].map(|l| ClusterView::new(&cluster, l, &local).unwrap());
            if let Some((have, want)) = now.routes_difference(&then, &changed, &after.claims) {
                let kept = before.state.iter().filter(|item| !have.contains(*item)).cloned();
                assert_eq!(kept.chain(want.iter().cloned()).collect::<ItemSet>(), after.state);
                assert_eq!(before.unmet, after.unmet);
                alone += 1;
                steps += usize::from(have != want);
            }
            old = new;
        }
        assert!(alone > 1000 && steps > 200, "{alone} {steps}");
    }
}
