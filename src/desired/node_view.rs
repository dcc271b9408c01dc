//! The inputs of the desired state: the cluster as one node sees it.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    services::{self, Claims, NodeContext},
    unmet::Unmet,
};
use crate::{
    collections::{FlatMap, FlatSet},
    error::{Error, Result},
    model::{
        bgp::Learned,
        cluster::{Cluster, Kind, Node},
        items::{Item, Protocol, TABLE_MAIN},
        local::{Host, Local, Module, NodePorts},
        nftables::Set,
    },
};

/// Collects the parts of a `Desired`, in any order.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) items: Vec<Item>,
    pub(super) unmet: Vec<Unmet>,
    pub(super) errors: Vec<Error>,
}

/// Returns true if the plan may remove an item.
///
/// An item stays if an object that could still claim it did not parse (its kind is `doubtful`), or
/// if a BGP peer or a kube-router tunnel may claim it.
pub fn is_removable(
    item: &Item,
    doubtful: &FlatSet<Kind>,
    learned: &Learned,
    local: &Local,
) -> bool {
    let complete = item.sources().iter().all(|kind| !doubtful.contains(kind));
    if let Item::Route { table: TABLE_MAIN, to, .. } = item {
        // A route that no Node claims may come from a BGP peer that has not sent all its routes
        // yet, or from a kube-router that is still here.
        let tunnels = local.host.as_ref().is_some_and(|h| !h.tunnels.is_empty());
        let unclaimed = || learned.complete || learned.gone.contains(to);
        return complete && (!local.options.peers || unclaimed()) && !tunnels;
    }
    complete
}

/// Returns this node's Node object.
///
/// Fails if the cluster has none of this name. Fails too if the host was inspected and no link here
/// that is up carries an address of that Node: the name then belongs to another machine.
pub(super) fn own_node<'a>(cluster: &'a Cluster, local: &Local) -> Result<&'a Node> {
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
pub(crate) fn has_ipv6(local: &Local) -> bool {
    let path = "net/ipv6/conf/all/forwarding";
    local.options.ipv6 && local.host.as_ref().is_none_or(|h| h.sysctls.contains_key(path))
}

/// The learned routes if BGP is not a source of routes: none.
pub(super) static NOTHING: Learned =
    Learned { routes: FlatMap::new(), gone: FlatSet::new(), lost: FlatSet::new(), complete: false };

/// The listening ports if the host was not inspected: none.
static NO_LISTENS: FlatSet<(Protocol, u16)> = FlatSet::new();

/// The cluster as this node sees it at one moment.
pub(crate) struct NodeView<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(super) learned: &'a Learned,
    pub(crate) local: &'a Local,
    /// This node's own Node object.
    pub(super) own: &'a Node,
    /// True if IPv6 is wanted and the kernel has it.
    pub(super) ipv6: bool,
    /// Returns true for the items that the caller asks for.
    pub(super) asked: &'a dyn Fn(&Item) -> bool,
}

impl<'a> NodeView<'a> {
    /// Returns the view of a cluster and of BGP's routes. Fails if this node's own Node object is not
    /// known: its own pod network would be routed away.
    pub(super) fn new(
        cluster: &'a Cluster,
        learned: &'a Learned,
        local: &'a Local,
    ) -> Result<NodeView<'a>> {
        let (own, ipv6) = (own_node(cluster, local)?, has_ipv6(local));
        Ok(NodeView { cluster, learned, local, own, ipv6, asked: &|_| true })
    }

    /// Returns the claims before any Service has one.
    pub(super) fn claims(&self) -> Claims {
        if self.serves() { Claims::new(self.taken()) } else { Claims::default() }
    }

    /// Returns true if Services are served: they are asked for, and the kernel may have IPVS.
    pub(super) fn serves(&self) -> bool {
        self.local.options.services && self.module("ip_vs") != Some(Module::Absent)
    }

    /// Returns true if an address family is enabled and the kernel has it.
    pub(super) fn family(&self, ipv4: bool) -> bool {
        if ipv4 { self.local.options.ipv4 } else { self.ipv6 }
    }

    pub(super) fn host(&self) -> Option<&'a Host> {
        self.local.host.as_ref()
    }

    /// Returns the state of a kernel module; `None` if the host was not inspected.
    pub(super) fn module(&self, name: &str) -> Option<Module> {
        self.host()?.modules.get(name).copied()
    }

    /// Adds a module to the draft if the kernel has it, or if the host was not inspected.
    pub(super) fn want_module(&self, name: &str, draft: &mut Draft) {
        if self.host().is_none() || self.module(name).is_some_and(|m| m != Module::Absent) {
            draft.items.push(Item::Module { name: name.into() });
        }
    }

    /// Returns the podCIDRs of this node, of the families that are in use.
    pub(super) fn pod_cidrs(&self) -> Vec<IpNet> {
        let used = |net: &&IpNet| self.family(net.addr().is_ipv4());
        self.own.pod_cidrs.iter().filter(used).copied().collect()
    }

    /// Returns false if an item drops or rejects traffic because a Service has no endpoints while
    /// an EndpointSlice did not parse: that slice may hold some.
    pub(super) fn is_certain(&self, item: &Item) -> bool {
        !self.cluster.doubtful.contains(&Kind::EndpointSlice)
            || !matches!(
                item,
                Item::Element { set: Set::Drop | Set::DropOutside | Set::Reject, .. }
            )
    }

    /// Returns this node's addresses: those of its Node object and those on its links.
    pub(super) fn own_addrs(&self) -> FlatSet<IpAddr> {
        let on_link = self.host().into_iter().flat_map(Host::on_link);
        self.own.addrs().chain(on_link.map(|net| net.addr())).collect()
    }

    /// Returns the addresses that no Service may have on the dummy link: those of this node and of
    /// all other Nodes.
    pub(super) fn taken(&self) -> FlatSet<IpAddr> {
        let others = self.cluster.nodes.values().flat_map(Node::addrs);
        self.own_addrs().into_iter().chain(others).collect()
    }

    pub(super) fn context(&self) -> NodeContext<'a> {
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
        NodeContext {
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
    pub(super) fn has_table(&self) -> bool {
        self.module("nf_tables") != Some(Module::Absent)
    }
}
