//! The units of the desired state: the parts that are computed one by one.
//!
//! The desired state is the sum of the items of all units. A full pass adds up every unit
//! ([`ClusterView::units`]). An event dirties some of them ([`dirtied_by`]), and only those are computed
//! again ([`ClusterView::items_of`]): once from the cluster before the event and once from the cluster
//! after it. The difference is all that an incremental pass has to apply.
//!
//! A unit may depend on another one through [`Claims`] (Services) or [`NodeExports`] (Nodes); `reconcile`
//! compares these and falls back to a full pass if the dependency is not worth following.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    Unmet, is_removable, node, routes,
    services::Claims,
    view::{ClusterView, Draft, NOTHING},
};
use crate::{
    collections::FlatSet,
    model::{
        cluster::{Cluster, Delta, Name, Node},
        items::{DUMMY, Item, ItemSet, ServiceKey, SetElement, TABLE_LOCAL, TABLE_MAIN},
        local::Local,
        nftables::Set,
    },
};

/// A part of the desired state that is computed on its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// The items that follow from the options, the host and this node's own Node object: the bridge, the
    /// CNI configuration, sysctls, modules, timeouts of IPVS, the nftables table with its rules.
    #[default]
    Base,
    /// The routes to the pods of the other Nodes.
    NodeRoutes,
    /// The elements of our nftables sets that hold addresses and pod networks of Nodes.
    NodeElements,
    /// One Service with its EndpointSlices.
    Service(Name),
    /// The routes that BGP learned and that no Node object claims.
    LearnedRoutes,
}

/// Something on which the desired state depends changes.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The cluster.
    Cluster(&'a Delta),
    /// This host: its links, addresses, sysctls, modules or files.
    Host,
}

/// Returns the units that an event dirties, or `None` if it may dirty any unit.
pub fn dirtied_by(event: Event<'_>) -> Option<Vec<Unit>> {
    match event {
        Event::Host | Event::Cluster(Delta { all: true, .. }) => None,
        Event::Cluster(Delta { all: false, nodes, services }) => {
            let of_nodes = nodes.then_some([Unit::NodeRoutes, Unit::NodeElements]);
            let of_services = services.iter().cloned().map(Unit::Service);
            Some(of_nodes.into_iter().flatten().chain(of_services).collect())
        }
    }
}

/// The items of one unit.
#[derive(Debug, Default)]
pub struct UnitItems {
    /// The items.
    pub items: ItemSet,
    /// The requests that cannot be honoured.
    pub unmet: Vec<Unmet>,
}

/// The facts about Nodes on which other units depend.
#[derive(Debug)]
pub struct NodeExports {
    /// This node's own Node object.
    pub own: Node,
    /// The addresses that no Service may take.
    pub taken: FlatSet<IpAddr>,
    /// The prefixes that belong to Nodes: BGP routes to them are not [`Unit::LearnedRoutes`].
    pub claimed: FlatSet<IpNet>,
}

impl ClusterView<'_> {
    /// Returns every unit, in the order in which they are computed: [`Unit::LearnedRoutes`] reads the
    /// claims of the Services before it.
    pub fn units(&self) -> impl Iterator<Item = Unit> {
        let first = [Unit::Base, Unit::NodeRoutes, Unit::NodeElements];
        let services = self.cluster.services.keys().cloned().map(Unit::Service);
        first.into_iter().chain(services).chain([Unit::LearnedRoutes])
    }

    /// Adds the items of one unit to `draft`. A Service takes what it needs from `claims`.
    pub(super) fn add(&self, unit: &Unit, claims: &mut Claims, draft: &mut Draft) {
        let options = &self.local.options;
        let first = draft.unmet.len();
        match unit {
            Unit::Base => {
                if options.router {
                    node::network(self, draft);
                }
                if options.services {
                    node::service_proxy(self, draft);
                }
                if options.table() {
                    node::table(self, draft);
                }
            }
            Unit::NodeRoutes if options.router => {
                let claimed = routes::of_nodes(self, self.route_filter(), draft);
                let _ = self.claimed.set(claimed); // computed already if a caller asked for it before
            }
            Unit::NodeElements if options.table() && self.has_table() => {
                node::elements(self, draft);
            }
            Unit::Service(name) if self.serves() => {
                if let Some(service) = self.cluster.services.get(name) {
                    self.service(service, claims, draft);
                }
            }
            Unit::LearnedRoutes if options.router => {
                let filter = self.route_filter();
                routes::of_peers(self, filter, filter.routes(), self.claimed(), claims, draft);
            }
            Unit::NodeRoutes | Unit::NodeElements | Unit::Service(_) | Unit::LearnedRoutes => {}
        }
        draft.unmet[first..].iter_mut().for_each(|unmet| unmet.unit = unit.clone());
    }

    /// Returns the items of one unit.
    pub fn items_of(&self, unit: &Unit, claims: &mut Claims) -> UnitItems {
        let mut draft = Draft::default();
        self.add(unit, claims, &mut draft);
        UnitItems { items: draft.items.into(), unmet: draft.unmet }
    }

    /// Returns the facts about Nodes on which other units depend.
    pub fn node_exports(&self) -> NodeExports {
        let claimed = if self.local.options.router { Some(self.claimed()) } else { None };
        NodeExports {
            own: self.own.clone(),
            taken: self.taken(),
            claimed: claimed.into_iter().flat_map(|claimed| claimed.keys().copied()).collect(),
        }
    }

    /// Returns true if [`Unit::LearnedRoutes`] depends on the addresses of Nodes, or on one of the
    /// prefixes `claimed`.
    pub fn learned_depends_on(&self, addrs: &FlatSet<IpAddr>, claimed: &FlatSet<IpNet>) -> bool {
        let filter = self.route_filter();
        filter.routes_to(claimed).next().is_some() || !addrs.is_empty() && filter.routes_a_link()
    }

    /// Returns the items of [`Unit::NodeRoutes`] and [`Unit::LearnedRoutes`] that lead to `prefixes`: those
    /// of the view `then`, which differs from this one in BGP's routes to these prefixes alone, and those
    /// of this view. `None` if more than these routes differs.
    pub fn routes_difference(
        &self,
        then: &ClusterView<'_>,
        prefixes: &FlatSet<IpNet>,
        claims: &Claims,
    ) -> Option<(ItemSet, ItemSet)> {
        let (before, after) = (then.routes_to(prefixes, claims), self.routes_to(prefixes, claims));
        let alone = !self.refuses_differently(then) && before.unmet == after.unmet;
        alone.then_some((before.items, after.items))
    }

    fn routes_to(&self, prefixes: &FlatSet<IpNet>, claims: &Claims) -> UnitItems {
        let filter = self.route_filter();
        let mut draft = Draft::default();
        let claimed = routes::of_nodes(self, filter, &mut draft);
        draft.items.retain(|item| matches!(item, Item::Route { to, .. } if prefixes.contains(to)));
        routes::of_peers(self, filter, filter.routes_to(prefixes), &claimed, claims, &mut draft);
        UnitItems { items: draft.items.into(), unmet: draft.unmet }
    }
}

/// Releases the claims of a Service whose items were `before` and are now `after`.
pub fn release_claims(before: &ItemSet, after: &ItemSet, claims: &mut Claims) {
    let served: FlatSet<ServiceKey> = after.iter().filter_map(service_key).collect();
    for key in before.iter().filter_map(service_key).filter(|key| !served.contains(key)) {
        if let ServiceKey::Address(addr) = key {
            claims.release(&addr);
        }
    }
}

fn service_key(item: &Item) -> Option<ServiceKey> {
    if let Item::Service { at, .. } = item { Some(*at) } else { None }
}

/// Returns true if an item that a Service no longer needs may be removed. Items that several Services
/// share are kept unless the claims prove that no other Service needs them; a full pass finds the rest.
pub fn is_removable_service_item(
    item: &Item,
    cluster: &Cluster,
    local: &Local,
    claims: &Claims,
) -> bool {
    let shared = match item {
        Item::Element { set: Set::Vips, value: SetElement::Addr(addr) } => claims.has(*addr),
        Item::Addr { link, addr } if **link == *DUMMY => claims.has(addr.addr()),
        Item::Route { table: TABLE_LOCAL, to, .. } => claims.has(to.addr()),
        Item::Element {
            set: Set::Loops | Set::NodeIps | Set::TcpPorts | Set::UdpPorts | Set::SctpPorts,
            ..
        }
        | Item::Module { .. } => true,
        _ => false,
    };
    !shared && is_removable(item, &cluster.doubtful, &NOTHING, local)
}

/// Returns the prefixes of the main table's routes among `items`.
pub fn routed_prefixes(items: &ItemSet) -> impl Iterator<Item = IpNet> {
    items.iter().filter_map(|item| match item {
        Item::Route { table: TABLE_MAIN, to, .. } => Some(*to),
        _ => None,
    })
}
