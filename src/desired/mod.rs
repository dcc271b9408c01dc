//! What this node's kernel should hold, worked out from the cluster. Pure.
//!
//! Independent functions per object (`routes::of`, `services::of`), so that a change of one object
//! can be worked out and compared alone; here they are put together, and what two objects both claim
//! goes to the first by name.

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

/// What could not be honoured, and why. It never stops the rest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unmet {
    /// What was asked for.
    pub what: String,
    /// Why it can't be had, and what to do about it.
    pub why: String,
    /// The Service that asks for it, where it is one.
    #[serde(skip)]
    pub of: Option<Name>,
}

impl Unmet {
    /// `what` is not honoured because of `why`.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Unmet {
        Unmet { what: what.into(), why: why.into(), of: None }
    }
}

/// The outcome of deciding.
#[derive(Debug, Default)]
pub struct Desired {
    /// What the kernel should hold.
    pub state: State,
    /// What can't be honoured; nobody has to act for the rest to be right.
    pub unmet: Vec<Unmet>,
    /// What is broken on this node and needs someone to mend it.
    pub errors: Vec<Error>,
    /// Which Service has what.
    pub claims: Claims,
}

/// What is gathered of it, in any order.
#[derive(Default)]
struct Draft {
    items: Vec<Item>,
    unmet: Vec<Unmet>,
    errors: Vec<Error>,
}

/// Works out all of it, from the cluster and from what BGP learned. Where this node's own Node object
/// is not known, nothing can be said: its own pod network would be routed away.
pub fn desired(cluster: &Cluster, learned: &Learned, local: &Local) -> Result<Desired> {
    desired_of(cluster, learned, local, &|_| true)
}

/// As [`desired`], of what is asked for.
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
    let claimed = local.options.router.then(|| view.router(&bounds, &mut draft));
    let mut claims = Claims::default();
    if local.options.services {
        view.services(&mut draft, &mut claims);
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

/// Whether a step of the plan may take an item away: never where an object that could still claim it
/// was not understood, or where somebody else may claim it.
pub fn may_go(item: &Item, doubtful: &Sorted<Kind>, learned: &Learned, local: &Local) -> bool {
    let sure = |kind| !doubtful.contains(&kind);
    match item {
        Item::Accept { .. } => true,
        Item::Route { table: TABLE_MAIN, to, .. } => {
            // What no Node claims may have come by BGP from a peer that has not said all yet, or
            // from a kube-router that is still here.
            let tunnels = local.host.as_ref().is_some_and(|h| !h.tunnels.is_empty());
            let over = |to| learned.complete || learned.gone.contains(to);
            sure(Kind::Node) && (!local.options.peers || over(to)) && !tunnels
        }
        Item::Element { set: Set::OwnPods | Set::PodNets | Set::NodeIps, .. } => sure(Kind::Node),
        Item::Element { set: Set::Services | Set::Vips, .. }
        | Item::Service { at: At::Virtual(_), .. }
        | Item::Addr { .. }
        | Item::Route { .. } => sure(Kind::Service),
        _ => sure(Kind::Service) && sure(Kind::EndpointSlice),
    }
}

fn own_node<'a>(cluster: &'a Cluster, local: &Local) -> Result<&'a Node> {
    let doing = || format!("finding node {} in the cluster", local.node);
    let advice = "the name is that of --hostname-override, else of NODE_NAME, else the host's";
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

fn has_ipv6(local: &Local) -> bool {
    let knob = "net/ipv6/conf/all/forwarding";
    local.options.ipv6 && local.host.as_ref().is_none_or(|h| h.sysctls.contains_key(knob))
}

/// What BGP learned where it was not asked.
static NOTHING: Learned =
    Learned { routes: Few::new(), gone: Sorted::new(), lost: Sorted::new(), complete: false };

/// Where nothing is known of the host.
static NO_LISTENS: Sorted<(Protocol, u16)> = Sorted::new();

/// All that the functions per object need to know.
struct View<'a> {
    cluster: &'a Cluster,
    local: &'a Local,
    own: &'a Node,
    /// Whether IPv6 is wanted and there.
    ipv6: bool,
    /// What is asked for.
    asked: &'a dyn Fn(&Item) -> bool,
}

impl<'a> View<'a> {
    fn family(&self, ipv4: bool) -> bool {
        if ipv4 { self.local.options.ipv4 } else { self.ipv6 }
    }

    fn host(&self) -> Option<&'a Host> {
        self.local.host.as_ref()
    }

    fn module(&self, name: &str) -> Option<Module> {
        self.host()?.modules.get(name).copied()
    }

    /// Wants a module where it is known that it can be had, or where nothing is known of the kernel.
    fn want_module(&self, name: &str, draft: &mut Draft) {
        if self.host().is_none() || self.module(name).is_some_and(|m| m != Module::Absent) {
            draft.items.push(Item::Module { name: name.into() });
        }
    }

    /// The pod networks of this node, of the families that are used.
    fn pod_cidrs(&self) -> Vec<IpNet> {
        let used = |net: &&IpNet| self.family(net.addr().is_ipv4());
        self.own.pod_cidrs.iter().filter(used).copied().collect()
    }

    /// Given are the networks to which there are routes, or are to be none.
    fn router(&self, bounds: &routes::Bounds<'_>, draft: &mut Draft) -> routes::Claimed<'a> {
        for module in ["bridge", "veth"] {
            self.want_module(module, draft); // veth is for the CNI plugin, which has no loader of its own
        }
        node::network(self, draft);
        routes::of_nodes(self, bounds, draft)
    }

    fn services(&self, draft: &mut Draft, claims: &mut Claims) {
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

    /// What is asked for of one Service, and what of it can't be had.
    fn service(
        &self,
        service: &Service,
        place: &services::Place<'_>,
        claims: &mut Claims,
    ) -> (impl Iterator<Item = Item>, Vec<Unmet>) {
        let mine: Vec<&EndpointSlice> = self.cluster.slices.of(&service.name).collect();
        let (items, unmet) = services::of(service, &mine, place, claims);
        (items.into_iter().filter(|item| self.is_sure(item) && (self.asked)(item)), unmet)
    }

    /// Where a slice was not understood, nobody knows whether a Service has endpoints.
    fn is_sure(&self, item: &Item) -> bool {
        !self.cluster.doubtful.contains(&Kind::EndpointSlice)
            || !matches!(
                item,
                Item::Element { set: Set::Drop | Set::DropOutside | Set::Reject, .. }
            )
    }

    /// This node's addresses: those of its Node object, and those of its links.
    fn own_addrs(&self) -> Sorted<IpAddr> {
        let on_link = self.host().into_iter().flat_map(Host::on_link);
        self.own.addrs().chain(on_link.map(|net| net.addr())).collect()
    }

    /// What no Service gets on the dummy link: this node's addresses, and those of the others.
    fn taken(&self) -> Sorted<IpAddr> {
        let others = self.cluster.nodes.values().flat_map(Node::addrs);
        self.own_addrs().into_iter().chain(others).collect()
    }

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

    fn has_table(&self) -> bool {
        self.module("nf_tables") != Some(Module::Absent)
    }
}

#[cfg(test)]
mod tests;
