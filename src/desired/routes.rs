//! Computes the routes to the other nodes' pods (`of_nodes`) and the other routes that BGP
//! learned (`of_peers`).
//!
//! A Node object yields routes at once: its podCIDRs with its address as the gateway. A route that
//! BGP learned to the same podCIDR replaces that route, because the peer has it from the node
//! itself and knows more paths. [`Bounds`] filters the learned routes: none of them may take away
//! this node's own addresses, pods, links or neighbours. Choosing the best paths is left to `bgp`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Draft, NOTHING, Unmet, View, services::Claims};
use crate::{
    bgp::rib::Learned,
    cluster::Node,
    few::{self, Few, Sorted},
    local::{Host, Routes},
    state::{Item, TABLE_MAIN, Via},
};

/// The maximum number of gateways of a route; further ones are dropped. The kernel receives 128
/// such routes in one message, and its answer must fit into our receive buffer.
const MAX_GATEWAYS: usize = 16;

/// The networks that are claimed, each with the name of its node; the name is empty if no node is
/// known for the network.
pub type Claimed<'a> = Few<IpNet, &'a str>;

/// The learned routes, and the input of the filter that they must pass.
#[derive(Debug)]
pub struct Bounds<'a> {
    learned: &'a Learned,
    /// The networks of this node's own links; `None` if the host was not inspected, and every
    /// address then counts as a neighbour.
    on_link: Option<Vec<IpNet>>,
    /// This node's podCIDRs, of disabled families too.
    pods: &'a [IpNet],
    /// This node's own addresses.
    own: Sorted<IpAddr>,
    /// The addresses of all Nodes, and all next hops.
    neighbours: Sorted<IpAddr>,
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

impl<'a> Bounds<'a> {
    /// Returns the filter for the node of a view. It has no learned routes if `--routes` excludes
    /// BGP.
    pub(super) fn of(view: &View<'a>, learned: &'a Learned) -> Bounds<'a> {
        let learned = if view.local.options.routes == Routes::Nodes { &NOTHING } else { learned };
        let mut neighbours = Sorted::new();
        if !learned.routes.is_empty() {
            neighbours.extend(view.cluster.nodes.values().flat_map(Node::addrs));
            neighbours.extend(learned.routes.values().flat_map(Via::addrs).copied());
        }
        Bounds {
            learned,
            on_link: view.host().map(Host::on_link),
            pods: &view.own.pod_cidrs,
            own: view.own_addrs(),
            neighbours,
        }
    }

    /// Returns all learned routes.
    pub(super) fn routes(&self) -> few::Iter<'a, IpNet, Via> {
        self.learned.routes.iter()
    }

    /// Returns the learned routes to some networks.
    pub(super) fn routes_to(
        &self,
        nets: &'a Sorted<IpNet>,
    ) -> impl Iterator<Item = (&'a IpNet, &'a Via)> + use<'a> {
        let learned = self.learned;
        nets.iter().filter_map(|net| Some((net, learned.routes.get(net)?)))
    }

    /// Returns true if the filter may reject other routes than `then` did. A route within the
    /// network of a link depends on all next hops.
    pub(super) fn differ(&self, then: &Bounds<'_>) -> bool {
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
    fn gateways(&self, to: &IpNet, hops: &Via) -> Result<Via, RejectReason> {
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
        Via::new(hops.addrs().iter().filter(usable).copied().take(MAX_GATEWAYS)).ok_or(worst)
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
pub(super) fn of_nodes<'a>(view: &View<'a>, bounds: &Bounds<'_>, draft: &mut Draft) -> Claimed<'a> {
    let tunnels = view.host().map_or(&[][..], |h| &h.tunnels);
    let mut claimed: Claimed<'a> =
        view.own.pod_cidrs.iter().map(|net| (*net, &*view.own.name)).collect();
    let tunnelled: Sorted<IpNet> = tunnels.iter().filter_map(|t| t.to).collect();
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
    view: &View<'_>,
    bounds: &Bounds<'_>,
    routes: impl Iterator<Item = (&'l IpNet, &'l Via)>,
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

fn route(to: IpNet, via: Via) -> Item {
    Item::Route { table: TABLE_MAIN, to, via: Some(via), src: None }
}

/// Returns the next hops to a podCIDR of a node: those of the learned route if there is a usable
/// one, else the node's own address. Fails if the node has no address on a link here, or if it is
/// not Ready and its BGP session is down.
fn next_hops(node: &Node, to: &IpNet, bounds: &Bounds<'_>) -> Result<Via, String> {
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

fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(a) => a.is_link_local(),
        IpAddr::V6(a) => a.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests;
