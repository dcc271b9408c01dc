//! Routes to the other nodes' pods, and whatever else BGP brought.
//!
//! What a Node object says stands at once: its pod networks by way of its address. A route that BGP
//! learned to the same network takes its place, for a peer has it from the node itself and knows more
//! ways. Nothing that was learned may cost this node its own addresses, pods, links or neighbours.

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

/// A route has no more gateways than these, the first ones: 128 such routes are one message to the
/// kernel, and what it sends back must fit into its buffer for us.
const GATEWAYS: usize = 16;

/// Networks that somebody has, with the name of the node; empty where no node is known for it.
pub type Claimed<'a> = Few<IpNet, &'a str>;

/// What was learned, and what none of it may touch.
#[derive(Debug)]
pub struct Bounds<'a> {
    learned: &'a Learned,
    /// The networks of this node's own links; `None` takes everybody for a neighbour (no kernel was
    /// looked at).
    on_link: Option<Vec<IpNet>>,
    /// This node's pod networks, whether their family is used or not.
    pods: &'a [IpNet],
    /// This node's addresses.
    own: Sorted<IpAddr>,
    /// The addresses of Nodes, and all next hops.
    neighbours: Sorted<IpAddr>,
}

/// Why a learned route is not made; the later ones say more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Refused {
    /// It is none of this node's business, which needs no word.
    Quietly,
    OffLink,
    CutsOff,
    OnLink,
    OwnPods,
}

impl Refused {
    const TOLD: [Refused; 4] =
        [Refused::OffLink, Refused::CutsOff, Refused::OnLink, Refused::OwnPods];

    fn why(self) -> &'static str {
        match self {
            Refused::Quietly => "",
            Refused::OffLink => {
                "the next hop is on none of this node's links, and tunnels are not made by this \
                 version: let the peer name itself as the next hop"
            }
            Refused::CutsOff => {
                "a next hop or a node lies in it, so the route would cut it off: let the peer not \
                 announce it, or reject it with the annotation kube-router.io/node.bgp.customimportreject"
            }
            Refused::OnLink => "it is the network of one of this node's own links",
            Refused::OwnPods => {
                "it lies in this node's own podCIDR: whoever announces it takes this node's pods for its own"
            }
        }
    }
}

impl<'a> Bounds<'a> {
    /// As they are for a node.
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

    /// What was learned.
    pub(super) fn routes(&self) -> few::Iter<'a, IpNet, Via> {
        self.learned.routes.iter()
    }

    /// What was learned of some networks.
    pub(super) fn routes_to(
        &self,
        nets: &'a Sorted<IpNet>,
    ) -> impl Iterator<Item = (&'a IpNet, &'a Via)> + use<'a> {
        let learned = self.learned;
        nets.iter().filter_map(|net| Some((net, learned.routes.get(net)?)))
    }

    /// Whether others may be refused now than `then`: what lies within a link hangs on all next hops.
    pub(super) fn differ(&self, then: &Bounds<'_>) -> bool {
        self.neighbours != then.neighbours && (self.routes_a_link() || then.routes_a_link())
    }

    /// Whether anything was learned that lies within the network of one of this node's own links.
    pub(super) fn routes_a_link(&self) -> bool {
        let within = |link: &IpNet| {
            let from = link.trunc();
            let mut rest = self.learned.routes.tail(&from).map(|(to, _)| to);
            rest.find(|to| **to != from).is_some_and(|to| from.contains(to))
        };
        self.on_link.iter().flatten().any(within)
    }

    /// The gateways of a learned route: those of its next hops that can be.
    fn gateways(&self, to: &IpNet, hops: &Via) -> Result<Via, Refused> {
        let alone = to.prefix_len() == to.max_prefix_len();
        if to.prefix_len() == 0 || is_special(to) || alone && self.own.contains(&to.addr()) {
            return Err(Refused::Quietly);
        }
        if self.pods.iter().any(|own| own.contains(to)) {
            return Err(Refused::OwnPods);
        }
        let on_link = self.on_link.as_deref().unwrap_or_default();
        // One that holds a whole link is harmless: the link's own route is longer.
        if let Some(link) = on_link.iter().find(|net| net.contains(to)) {
            if link.prefix_len() == to.prefix_len() {
                return Err(Refused::OnLink);
            }
            let next = self.neighbours.tail(&to.network()).first();
            if next.is_some_and(|addr| *addr <= to.broadcast()) {
                return Err(Refused::CutsOff);
            }
        }
        let mut no = Refused::Quietly;
        let near = |hop: &&IpAddr| match self.refuses(to, **hop) {
            None => true,
            Some(why) => {
                no = no.max(why);
                false
            }
        };
        Via::new(hops.addrs().iter().filter(near).copied().take(GATEWAYS)).ok_or(no)
    }

    fn refuses(&self, to: &IpNet, hop: IpAddr) -> Option<Refused> {
        if self.own.contains(&hop) {
            return Some(Refused::Quietly); // this node's own, told back
        }
        if hop.is_ipv4() != to.addr().is_ipv4()
            || hop.is_ipv6() && is_link_local(hop) // it would need a link beside it
            || !is_on_link(hop, self.on_link.as_deref())
        {
            return Some(Refused::OffLink);
        }
        (self.on_link.is_none() && to.contains(&hop)).then_some(Refused::CutsOff)
    }
}

/// The routes to the pods of all other nodes; given are the networks that are spoken for.
pub(super) fn of_nodes<'a>(view: &View<'a>, bounds: &Bounds<'_>, draft: &mut Draft) -> Claimed<'a> {
    let tunnels = view.host().map_or(&[][..], |h| &h.tunnels);
    let mut claimed: Claimed<'a> =
        view.own.pod_cidrs.iter().map(|net| (*net, &*view.own.name)).collect();
    let tunnelled: Sorted<IpNet> = tunnels.iter().filter_map(|t| t.to).collect();
    let asked = view.local.options.routes != Routes::Bgp;
    for node in view.cluster.nodes.values().filter(|n| asked && n.name != view.own.name) {
        for &to in node.pod_cidrs.iter().filter(|to| view.family(to.addr().is_ipv4())) {
            let what = || format!("route to {to}, the pods of node {}", node.name);
            match way(node, &to, bounds) {
                Err(why) => draft.unmet.push(Unmet::new(what(), why)),
                Ok(via) => match claimed.get(&to) {
                    Some(first) => {
                        let why = format!("node {first} has the same podCIDR");
                        draft.unmet.push(Unmet::new(what(), why));
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
            "this version makes no tunnels, so they are LEFT AS THEY ARE and nobody keeps them; \
             where the nodes share a link, remove them: ip link del TUNNEL",
        ));
    }
    claimed.extend(tunnelled.into_iter().map(|to| (to, "")));
    claimed
}

/// Of these routes, which BGP learned, those to networks that are not spoken for. What is refused is told
/// once for each reason: there may be very many.
pub(super) fn of_peers<'l>(
    view: &View<'_>,
    bounds: &Bounds<'_>,
    routes: impl Iterator<Item = (&'l IpNet, &'l Via)>,
    claimed: &Claimed<'_>,
    claims: &Claims,
    draft: &mut Draft,
) {
    let mut refused = [(0usize, None); 1 + Refused::TOLD.len()];
    for (to, hops) in routes {
        let alone = to.prefix_len() == to.max_prefix_len();
        if claimed.contains_key(to)
            || !view.family(to.addr().is_ipv4())
            || alone && claims.has(to.addr())
        {
            continue; // somebody else's, or a virtual address that is served here
        }
        match bounds.gateways(to, hops) {
            Ok(via) => {
                let item = route(*to, via);
                if (view.asked)(&item) {
                    draft.items.push(item);
                }
            }
            Err(why) => {
                let (count, first) = &mut refused[why as usize];
                *count += 1;
                first.get_or_insert(*to);
            }
        }
    }
    for told in Refused::TOLD {
        let what = match refused[told as usize] {
            (_, None) => continue,
            (1, Some(first)) => format!("route to {first}, which BGP brought"),
            (n, Some(first)) => format!("{n} routes that BGP brought ({first}…)"),
        };
        draft.unmet.push(Unmet::new(what, told.why()));
    }
}

fn route(to: IpNet, via: Via) -> Item {
    Item::Route { table: TABLE_MAIN, to, via: Some(via), src: None }
}

/// The way to a pod network of a node: the one that BGP knows, else by its own address. A node that is
/// not Ready and whose session broke has no other.
fn way(node: &Node, to: &IpNet, bounds: &Bounds<'_>) -> Result<Via, String> {
    let hops = bounds.learned.routes.get(to);
    if let Some(Ok(via)) = hops.map(|hops| bounds.gateways(to, hops)) {
        return Ok(via);
    }
    if !node.ready && node.addrs().any(|addr| bounds.learned.lost.contains(&addr)) {
        return Err(
            "the node is not Ready, its BGP session is down, and no peer knows another way".into(),
        );
    }
    let via = node.addr(to.addr().is_ipv4()).ok_or("the node has no address of this family")?;
    if to.contains(&via) {
        Err(format!("the node's own address {via} lies in it, so the route would cut it off"))
    } else if !is_on_link(via, bounds.on_link.as_deref()) {
        Err(format!(
            "{via} is on none of this node's links, and tunnels are not made by this version"
        ))
    } else {
        Ok(via.into())
    }
}

fn is_on_link(addr: IpAddr, on_link: Option<&[IpNet]>) -> bool {
    on_link.is_none_or(|nets| nets.iter().any(|net| net.contains(&addr) && net.addr() != addr))
}

/// Networks that are never routed: loopback, multicast, and those of a link alone.
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
