//! Computes the desired state of this node: the items that its kernel and its files should hold,
//! given the cluster. Pure.
//!
//! [`desired`] runs these stages: `own_node` finds this node in the cluster, `View::add_routing`
//! adds the pod network (`node::network`) and the routes to the other nodes (`routes::of_nodes`),
//! `View::add_services` adds IPVS (`services::of`), `routes::of_peers` adds the routes that BGP
//! learned, and `node::table` adds the nftables table.
//!
//! Each stage is a function per object (`routes`, `services`), so that the change of one object can
//! be computed alone ([`part`]). If two objects claim the same resource, the first one by name gets
//! it. Comparing the result with the kernel is left to `plan`, applying it to `kernel`.

pub mod announce;
pub mod cni;
pub mod drain;
pub mod endpoints;
pub mod health;
mod node;
pub mod part;
pub mod routes;
pub mod services;
pub mod stale;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    bgp::rib::Learned,
    cluster::{Cluster, EndpointSlice, Kind, Name, Node, Service},
    error::{Error, Result},
    few::{Few, Sorted},
    local::{Host, Local, Module, NodePorts},
    ruleset::Set,
    state::{At, Item, Protocol, State, TABLE_MAIN},
};
use services::Claims;

/// A request that this node can't honour, with the reason. It does not stop the other requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unmet {
    /// The thing that was requested, for example a route or a port of a Service.
    pub what: String,
    /// The reason, and the remedy if there is one.
    pub why: String,
    /// The Service that requests it; `None` if it is not a Service.
    #[serde(skip)]
    pub of: Option<Name>,
}

impl Unmet {
    /// Creates an entry that belongs to no Service.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Unmet {
        Unmet { what: what.into(), why: why.into(), of: None }
    }
}

/// The result of [`desired`].
#[derive(Debug, Default)]
pub struct Desired {
    /// The items that this node should hold.
    pub state: State,
    /// Requests that can't be honoured; the rest of the state is right without them.
    pub unmet: Vec<Unmet>,
    /// Faults of this node that its administrator has to repair.
    pub errors: Vec<Error>,
    /// The Service that owns each virtual service.
    pub claims: Claims,
}

/// Collects the parts of a [`Desired`], in any order.
#[derive(Default)]
struct Draft {
    items: Vec<Item>,
    unmet: Vec<Unmet>,
    errors: Vec<Error>,
}

/// Returns the desired state, given the cluster and the routes that BGP learned.
///
/// Fails if this node's own Node object is missing or has no address on a link here. Without that
/// object this node's own pod network would be unknown, and a learned route could divert it.
pub fn desired(cluster: &Cluster, learned: &Learned, local: &Local) -> Result<Desired> {
    desired_of(cluster, learned, local, &|_| true)
}

/// Returns the desired state as [`desired`] does, restricted to the items for which `asked` returns
/// true. Fails as [`desired`] does.
pub fn desired_of(
    cluster: &Cluster,
    learned: &Learned,
    local: &Local,
    asked: &dyn Fn(&Item) -> bool,
) -> Result<Desired> {
    let own = own_node(cluster, local)?;
    let mut draft = Draft::default();
    let view = View { cluster, local, own, ipv6: has_ipv6(local), asked };
    let bounds = routes::Bounds::of(&view, learned);
    let claimed = local.options.router.then(|| view.add_routing(&bounds, &mut draft));
    let mut claims = Claims::default();
    if local.options.services {
        view.add_services(&mut draft, &mut claims);
    }
    if let Some(claimed) = claimed {
        routes::of_peers(&view, &bounds, bounds.routes(), &claimed, &claims, &mut draft);
    }
    if local.options.table() {
        node::table(&view, &mut draft);
    }
    let Draft { mut items, unmet, errors } = draft;
    items.retain(asked);
    Ok(Desired { state: items.into(), unmet, errors, claims })
}

/// Returns true if the plan may remove an item.
///
/// An item stays if an object that could still claim it did not parse (its kind is `doubtful`), or
/// if a BGP peer or a kube-router tunnel may claim it.
pub fn may_go(item: &Item, doubtful: &Sorted<Kind>, learned: &Learned, local: &Local) -> bool {
    let complete = |kind| !doubtful.contains(&kind);
    match item {
        Item::Accept { .. } => true,
        Item::Route { table: TABLE_MAIN, to, .. } => {
            // A route that no Node claims may come from a BGP peer that has not sent all its routes
            // yet, or from a kube-router that is still here.
            let tunnels = local.host.as_ref().is_some_and(|h| !h.tunnels.is_empty());
            let unclaimed = |to| learned.complete || learned.gone.contains(to);
            complete(Kind::Node) && (!local.options.peers || unclaimed(to)) && !tunnels
        }
        Item::Element { set: Set::OwnPods | Set::PodNets | Set::NodeIps, .. } => {
            complete(Kind::Node)
        }
        Item::Element { set: Set::Services | Set::Vips, .. }
        | Item::Service { at: At::Virtual(_), .. }
        | Item::Addr { .. }
        | Item::Route { .. } => complete(Kind::Service),
        _ => complete(Kind::Service) && complete(Kind::EndpointSlice),
    }
}

/// Returns this node's Node object.
///
/// Fails if the cluster has none of this name. Fails too if the host was inspected and no link here
/// that is up carries an address of that Node: the name then belongs to another machine.
fn own_node<'a>(cluster: &'a Cluster, local: &Local) -> Result<&'a Node> {
    let doing = || format!("finding node {} in the cluster", local.node);
    let advice = "the node name is taken from --hostname-override, else from NODE_NAME, else from the host name";
    let Some(own) = cluster.nodes.get(&local.node) else {
        let names: Vec<&str> = cluster.nodes.keys().map(|n| &**n).take(5).collect();
        let cause = match cluster.nodes.len() {
            0 => "the API lists no Node that could be read".to_owned(),
            n => {
                format!("it is none of the {n} Nodes of the API ({}…); {advice}", names.join(", "))
            }
        };
        return Err(Error::new(doing(), cause));
    };
    let addrs: Vec<IpAddr> = own.internal_ips.iter().chain(&own.external_ips).copied().collect();
    if let Some(host) = &local.host
        && !addrs.iter().any(|a| host.link_of(*a).is_some())
    {
        let listed: Vec<String> = addrs.iter().map(ToString::to_string).collect();
        let cause = if listed.is_empty() {
            "its Node object has no address in status.addresses yet".to_owned()
        } else {
            format!("no link here that is up carries its address ({}); {advice}", listed.join(", "))
        };
        return Err(Error::new(doing(), cause));
    }
    Ok(own)
}

/// Returns true if IPv6 is enabled and the kernel has it. A host that was not inspected counts as
/// having it.
fn has_ipv6(local: &Local) -> bool {
    let path = "net/ipv6/conf/all/forwarding";
    local.options.ipv6 && local.host.as_ref().is_none_or(|h| h.sysctls.contains_key(path))
}

/// The learned routes if BGP is not a source of routes: none.
static NOTHING: Learned =
    Learned { routes: Few::new(), gone: Sorted::new(), lost: Sorted::new(), complete: false };

/// The listening ports if the host was not inspected: none.
static NO_LISTENS: Sorted<(Protocol, u16)> = Sorted::new();

/// The input that all stages share.
struct View<'a> {
    cluster: &'a Cluster,
    local: &'a Local,
    own: &'a Node,
    /// True if IPv6 is enabled and the kernel has it.
    ipv6: bool,
    /// The filter of [`desired_of`].
    asked: &'a dyn Fn(&Item) -> bool,
}

impl<'a> View<'a> {
    /// Returns true if an address family is enabled and the kernel has it.
    fn family(&self, ipv4: bool) -> bool {
        if ipv4 { self.local.options.ipv4 } else { self.ipv6 }
    }

    fn host(&self) -> Option<&'a Host> {
        self.local.host.as_ref()
    }

    /// Returns the state of a kernel module; `None` if the host was not inspected.
    fn module(&self, name: &str) -> Option<Module> {
        self.host()?.modules.get(name).copied()
    }

    /// Adds a module to the draft if the kernel has it, or if the host was not inspected.
    fn want_module(&self, name: &str, draft: &mut Draft) {
        if self.host().is_none() || self.module(name).is_some_and(|m| m != Module::Absent) {
            draft.items.push(Item::Module { name: name.into() });
        }
    }

    /// Returns the podCIDRs of this node, of the families that are in use.
    fn pod_cidrs(&self) -> Vec<IpNet> {
        let used = |net: &&IpNet| self.family(net.addr().is_ipv4());
        self.own.pod_cidrs.iter().filter(used).copied().collect()
    }

    /// Adds the pod network of this node and the routes to the other nodes. Returns the networks
    /// that are claimed, with or without a route.
    fn add_routing(&self, bounds: &routes::Bounds<'_>, draft: &mut Draft) -> routes::Claimed<'a> {
        for module in ["bridge", "veth"] {
            self.want_module(module, draft); // the CNI plugin needs veth and does not load it
        }
        node::network(self, draft);
        routes::of_nodes(self, bounds, draft)
    }

    /// Adds the service proxy and the items of all Services.
    fn add_services(&self, draft: &mut Draft, claims: &mut Claims) {
        if self.module("ip_vs") == Some(Module::Absent) {
            draft.unmet.push(Unmet::new(
                "Services",
                "this kernel has no IPVS: install the module ip_vs, or build with CONFIG_IP_VS",
            ));
            return;
        }
        node::service_proxy(self, draft);
        let place = self.place();
        *claims = Claims::new(self.taken());
        for service in self.cluster.services.values() {
            let (items, unmet) = self.service(service, &place, claims);
            draft.items.extend(items);
            draft.unmet.extend(unmet);
        }
    }

    /// Returns the items of one Service that pass the filter, and its requests that can't be
    /// honoured.
    fn service(
        &self,
        service: &Service,
        place: &services::Place<'_>,
        claims: &mut Claims,
    ) -> (impl Iterator<Item = Item>, Vec<Unmet>) {
        let slices: Vec<&EndpointSlice> = self.cluster.slices.of(&service.name).collect();
        let (items, unmet) = services::of(service, &slices, place, claims);
        (items.into_iter().filter(|item| self.is_certain(item) && (self.asked)(item)), unmet)
    }

    /// Returns false if an item drops or rejects traffic because a Service has no endpoints while
    /// an EndpointSlice did not parse: that slice may hold some.
    fn is_certain(&self, item: &Item) -> bool {
        !self.cluster.doubtful.contains(&Kind::EndpointSlice)
            || !matches!(
                item,
                Item::Element { set: Set::Drop | Set::DropOutside | Set::Reject, .. }
            )
    }

    /// Returns this node's addresses: those of its Node object and those on its links.
    fn own_addrs(&self) -> Sorted<IpAddr> {
        let on_link = self.host().into_iter().flat_map(Host::on_link);
        self.own.addrs().chain(on_link.map(|net| net.addr())).collect()
    }

    /// Returns the addresses that no Service may have on the dummy link: those of this node and of
    /// all other Nodes.
    fn taken(&self) -> Sorted<IpAddr> {
        let others = self.cluster.nodes.values().flat_map(Node::addrs);
        self.own_addrs().into_iter().chain(others).collect()
    }

    /// Returns the properties of this node that [`services::of`] needs.
    fn place(&self) -> services::Place<'a> {
        let families = [true, false].into_iter().filter(|ipv4| self.family(*ipv4));
        let addrs: Vec<IpAddr> = families.filter_map(|ipv4| self.own.addr(ipv4)).collect();
        let own = self.own_addrs();
        let node_port_addrs = match &self.local.options.node_ports {
            NodePorts::Primary => addrs.clone(),
            NodePorts::All => own.iter().copied().collect(),
            NodePorts::Of(nets) => {
                own.iter().copied().filter(|a| nets.iter().any(|net| net.contains(a))).collect()
            }
        };
        let has = |name: &&str| self.module(&format!("ip_vs_{name}")).is_some();
        let schedulers = services::SCHEDULERS.iter().filter(|name| has(name));
        services::Place {
            node: self.own,
            addrs,
            node_port_addrs,
            own,
            own_pods: self.pod_cidrs(),
            excluded: &self.local.options.excluded,
            external: &self.local.options.external,
            listens: self.host().map_or(&NO_LISTENS, |h| &h.listens),
            schedulers: self.host().map(|_| schedulers.map(|name| (*name).into()).collect()),
            table: self.has_table(),
            daemon: self.local.options.daemon,
        }
    }

    /// Returns true unless the kernel is known to lack nf_tables.
    fn has_table(&self) -> bool {
        self.module("nf_tables") != Some(Module::Absent)
    }
}

#[cfg(test)]
mod tests;
