//! The computation of each unit.
//!
//! A full pass adds up every unit ([`ClusterView::units`]). Only the dirty units are computed again after
//! an event ([`ClusterView::items_of`]): once from the cluster before the event and once from the cluster
//! after it. The difference is all that an incremental pass has to apply.
//!
//! A unit may depend on another one through [`Claims`] (Services) or [`NodeExports`] (Nodes); `reconcile`
//! compares these and falls back to a full pass if the dependency is not worth following.

use std::{cell::OnceCell, net::IpAddr};

use ipnet::IpNet;

use super::{
    node,
    node_view::{Draft, NOTHING, NodeView, is_removable},
    routes::{self, Claimed, RouteFilter},
    services::{self, Claims, NodeContext},
    unit::Unit,
    unmet::Unmet,
};
use crate::{
    collections::FlatSet,
    error::Result,
    model::{
        bgp::Learned,
        cluster::{Cluster, EndpointSlice, Node, Service},
        items::{DUMMY, Item, ItemSet, ServiceKey, SetElement, TABLE_LOCAL, TABLE_MAIN},
        local::Local,
        nftables::Set,
    },
};

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

/// The view of one node, with the values that the units share. Each value is computed when it is first
/// needed.
pub struct ClusterView<'a> {
    pub(crate) node: NodeView<'a>,
    context: OnceCell<NodeContext<'a>>,
    route_filter: OnceCell<RouteFilter<'a>>,
    claimed: OnceCell<Claimed<'a>>,
}

impl<'a> ClusterView<'a> {
    /// Returns the view of a cluster and of BGP's routes. Fails if this node's own Node object is not
    /// known: its own pod network would be routed away.
    pub fn new(
        cluster: &'a Cluster,
        learned: &'a Learned,
        local: &'a Local,
    ) -> Result<ClusterView<'a>> {
        Ok(ClusterView {
            node: NodeView::new(cluster, learned, local)?,
            context: OnceCell::new(),
            route_filter: OnceCell::new(),
            claimed: OnceCell::new(),
        })
    }

    /// Returns the view restricted to the items for which `asked` returns true.
    pub(super) fn asking(mut self, asked: &'a dyn Fn(&Item) -> bool) -> ClusterView<'a> {
        self.node.asked = asked;
        self
    }

    /// Returns the claims before any Service has one.
    pub(super) fn claims(&self) -> Claims {
        self.node.claims()
    }

    /// Returns the rules for learned routes.
    pub(super) fn route_filter(&self) -> &RouteFilter<'a> {
        self.route_filter.get_or_init(|| RouteFilter::of(&self.node, self.node.learned))
    }

    /// Returns true if a learned route may be refused in this view and not in the other one, or the other
    /// way round.
    pub(super) fn refuses_differently(&self, other: &ClusterView<'_>) -> bool {
        self.route_filter().differ(other.route_filter())
    }

    /// Returns the prefixes that belong to Nodes.
    pub(super) fn claimed(&self) -> &Claimed<'a> {
        self.claimed.get_or_init(|| {
            routes::of_nodes(&self.node, self.route_filter(), &mut Draft::default())
        })
    }

    /// Adds the items of one Service that the caller asks for, and its requests that cannot be honoured.
    pub(super) fn service(&self, service: &Service, claims: &mut Claims, draft: &mut Draft) {
        let slices: Vec<&EndpointSlice> = self.node.cluster.slices.of(&service.name).collect();
        let (items, unmet) = services::of(service, &slices, self.context(), claims);
        let wanted = |item: &Item| self.node.is_certain(item) && (self.node.asked)(item);
        draft.items.extend(items.into_iter().filter(wanted));
        draft.unmet.extend(unmet);
    }

    /// Returns the properties of this node that [`services::of`] needs.
    /// Returns this node's properties that count for Services.
    pub(super) fn context(&self) -> &NodeContext<'a> {
        self.context.get_or_init(|| self.node.context())
    }
    /// Returns every unit, in the order in which they are computed: [`Unit::LearnedRoutes`] reads the
    /// claims of the Services before it.
    pub fn units(&self) -> impl Iterator<Item = Unit> {
        let first = [Unit::Base, Unit::NodeElements, Unit::NodeRoutes];
        let services = self.node.cluster.services.keys().cloned().map(Unit::Service);
        first.into_iter().chain(services).chain([Unit::LearnedRoutes])
    }

    /// Adds the items of one unit to `draft`. A Service takes what it needs from `claims`.
    pub(super) fn add(&self, unit: &Unit, claims: &mut Claims, draft: &mut Draft) {
        let options = &self.node.local.options;
        let first = draft.unmet.len();
        match unit {
            Unit::Base => {
                if options.router {
                    node::network(&self.node, draft);
                }
                if options.services {
                    node::service_proxy(&self.node, draft);
                }
                if options.table() {
                    node::table(&self.node, draft);
                }
            }
            Unit::NodeRoutes if options.router => {
                let claimed = routes::of_nodes(&self.node, self.route_filter(), draft);
                let _ = self.claimed.set(claimed); // computed already if a caller asked for it before
            }
            Unit::NodeElements if options.table() && self.node.has_table() => {
                node::elements(&self.node, draft);
            }
            Unit::Service(name) if self.node.serves() => {
                if let Some(service) = self.node.cluster.services.get(name) {
                    self.service(service, claims, draft);
                }
            }
            Unit::LearnedRoutes if options.router => {
                let filter = self.route_filter();
                routes::of_peers(
                    &self.node,
                    filter,
                    filter.routes(),
                    self.claimed(),
                    claims,
                    draft,
                );
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
        let claimed = if self.node.local.options.router { Some(self.claimed()) } else { None };
        NodeExports {
            own: self.node.own.clone(),
            taken: self.node.taken(),
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
        let claimed = routes::of_nodes(&self.node, filter, &mut draft);
        draft.items.retain(|item| matches!(item, Item::Route { to, .. } if prefixes.contains(to)));
        routes::of_peers(
            &self.node,
            filter,
            filter.routes_to(prefixes),
            &claimed,
            claims,
            &mut draft,
        );
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
        Item::Link { .. }
        | Item::Hairpin { .. }
        | Item::Sysctl { .. }
        | Item::Table { .. }
        | Item::Element { .. }
        | Item::Accept { .. }
        | Item::Timeout { .. }
        | Item::Service { .. }
        | Item::Real { .. }
        | Item::Addr { .. }
        | Item::Route { .. }
        | Item::File { .. } => false,
    };
    !shared && is_removable(item, &cluster.doubtful, &NOTHING, local)
}

/// Returns the prefixes of the main table's routes among `items`.
pub fn routed_prefixes(items: &ItemSet) -> impl Iterator<Item = IpNet> {
    items.iter().filter_map(|item| {
        let Item::Route { table: TABLE_MAIN, to, .. } = item else { return None };
        Some(*to)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        cluster::{Kind, Object, Service},
        items::{Forward, NextHops, Protocol, ServiceAddr},
        local::{Host, HostLink, Options},
    };
    use crate::{
        desired::unit::dirtied_by,
        model::cluster::{Delta, Name},
    };

    fn name(name: &str) -> Name {
        Name { namespace: "shop".into(), name: name.into() }
    }

    fn service(name: &str) -> Unit {
        Unit::Service(self::name(name))
    }

    #[test]
    fn an_event_dirties_the_units_that_depend_on_it() {
        use Unit::{NodeElements, NodeRoutes};
        let delta = |all, nodes, services: &[&str]| {
            let services = services.iter().map(|service| name(service)).collect();
            Delta { all, nodes, services }
        };
        #[rustfmt::skip]
        let cases = [
            (delta(false, false, &[]), Some(vec![])),
            (delta(false, false, &["b", "a"]), Some(vec![service("a"), service("b")])),
            (delta(false, true, &[]), Some(vec![NodeElements, NodeRoutes])),
            (delta(false, true, &["a"]), Some(vec![NodeElements, NodeRoutes, service("a")])),
            (delta(true, false, &[]), None),
            (delta(true, false, &["a"]), None),
            (delta(true, true, &[]), None),
            (delta(true, true, &["a"]), None),
        ];
        for (delta, units) in cases {
            assert_eq!(dirtied_by(&delta), units, "{delta:?}");
        }
    }

    #[test]
    fn every_unit_is_computed_once_and_learned_routes_are_the_last() {
        let mut cluster = Cluster::default();
        let internal_ips = vec!["192.0.2.11".parse().unwrap()];
        let own = Node { name: "a".into(), internal_ips, ..Node::default() };
        cluster.insert(Object::Node(own));
        for service in ["b", "c", "a"] {
            cluster.insert(Object::Service(Service { name: name(service), ..Service::default() }));
        }
        let local = Local { node: "a".into(), options: Options::default(), host: None };
        let units: Vec<Unit> =
            ClusterView::new(&cluster, &NOTHING, &local).unwrap().units().collect();
        let first = [Unit::Base, Unit::NodeElements, Unit::NodeRoutes];
        let services = ["a", "b", "c"].map(service);
        let all: Vec<Unit> =
            first.into_iter().chain(services).chain([Unit::LearnedRoutes]).collect();
        assert_eq!(units, all);
        assert!(units.is_sorted(), "the order of units is that of the type");
    }

    #[test]
    fn an_item_that_another_service_may_need_is_kept() {
        let links = vec![HostLink {
            name: "eth0".into(),
            mtu: 1500,
            addrs: vec!["192.0.2.11/24".parse().unwrap()],
        }];
        let host = Some(Host { links, ..Host::default() });
        let local = Local { node: "a".into(), options: Options::default(), host };
        let mut cluster = Cluster::default();
        let internal_ips = vec!["192.0.2.11".parse().unwrap()];
        cluster.insert(Object::Node(Node { name: "a".into(), internal_ips, ..Node::default() }));
        let ports = vec![crate::model::cluster::ServicePort {
            name: "".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: None,
        }];
        let cluster_ips = vec!["10.96.0.1".parse().unwrap()];
        let one = Service { name: name("one"), cluster_ips, ports, ..Service::default() };
        cluster.insert(Object::Service(one));
        let view = ClusterView::new(&cluster, &NOTHING, &local).unwrap();
        let mut claims = view.claims();
        view.items_of(&service("one"), &mut claims);

        let element = |set, value| Item::Element { set, value };
        let items_at = |addr: &str| {
            let addr: IpAddr = addr.parse().unwrap();
            let to = addr.into();
            [
                element(Set::Vips, SetElement::Addr(addr)),
                Item::Addr { link: DUMMY.into(), addr: to },
                Item::Route { table: TABLE_LOCAL, to, via: None, src: None },
            ]
        };
        let doubtful = |kinds: &[Kind]| Cluster {
            doubtful: kinds.iter().copied().collect(),
            ..Cluster::default()
        };
        let [certain, services, slices] =
            [&[][..], &[Kind::Service], &[Kind::EndpointSlice]].map(doubtful);
        // For an item: whether it may be removed if all objects are known, if some Services are not, and
        // if some EndpointSlices are not.
        let removable = |item: &Item| {
            [&certain, &services, &slices]
                .map(|cluster| is_removable_service_item(item, cluster, &local, &claims))
        };
        for item in items_at("10.96.0.1") {
            assert_eq!(removable(&item), [false; 3], "{item:?}: Service one needs it");
        }
        for item in items_at("10.96.0.2") {
            assert_eq!(removable(&item), [true, false, true], "{item:?}");
        }
        let addr: IpAddr = "10.96.0.1".parse().unwrap();
        let other_link = Item::Addr { link: "eth0".into(), addr: IpNet::from(addr) };
        assert_eq!(removable(&other_link), [true, false, true]);
        let via = NextHops::new(["192.0.2.12".parse().unwrap()]);
        let main = Item::Route { table: TABLE_MAIN, to: addr.into(), via, src: None };
        assert_eq!(removable(&main), [true; 3]);
        for set in [Set::Loops, Set::NodeIps, Set::TcpPorts, Set::UdpPorts, Set::SctpPorts] {
            let item = element(set, SetElement::Addr("10.244.0.2".parse().unwrap()));
            assert_eq!(removable(&item), [false; 3], "{set:?}: the claims do not list it");
        }
        assert_eq!(removable(&Item::Module { name: "ip_vs_sh".into() }), [false; 3]);
        let at =
            ServiceAddr { addr: "10.96.0.2".parse().unwrap(), protocol: Protocol::Tcp, port: 80 };
        let (addr, forward) = ("10.244.0.2".parse().unwrap(), Forward::Masq);
        let of = at.into();
        let virtual_service =
            Item::Service { at: of, scheduler: "rr".into(), flags: 0, persistence: 0 };
        for item in [virtual_service, element(Set::Services, SetElement::Service(at))] {
            assert_eq!(removable(&item), [true, false, true], "{item:?}");
        }
        let real = Item::Real { of, addr, port: 80, weight: 1, forward };
        for item in [real, element(Set::Reject, SetElement::Service(at))] {
            assert_eq!(removable(&item), [true, false, false], "{item:?}");
        }
    }

    #[test]
    fn a_service_releases_the_addresses_that_it_no_longer_has() {
        let at = |port| ServiceAddr {
            addr: "10.96.0.1".parse().unwrap(),
            protocol: Protocol::Tcp,
            port,
        };
        let item = |port| {
            let at = at(port).into();
            Item::Service { at, scheduler: "rr".into(), flags: 0, persistence: 0 }
        };
        let owned = |claims: &Claims| [80, 81].map(|port| claims.owner(&at(port).into()).is_some());
        let mut cluster = Cluster::default();
        let internal_ips = vec!["192.0.2.11".parse().unwrap()];
        cluster.insert(Object::Node(Node { name: "a".into(), internal_ips, ..Node::default() }));
        let port = |port| crate::model::cluster::ServicePort {
            name: format!("p{port}").into(),
            protocol: Protocol::Tcp,
            port,
            node_port: None,
        };
        let cluster_ips = vec!["10.96.0.1".parse().unwrap()];
        let ports = vec![port(80), port(81)];
        let one = Service { name: name("one"), cluster_ips, ports, ..Service::default() };
        cluster.insert(Object::Service(one));
        let local = Local { node: "a".into(), options: Options::default(), host: None };
        let view = ClusterView::new(&cluster, &NOTHING, &local).unwrap();
        let mut claims = view.claims();
        view.items_of(&service("one"), &mut claims);
        assert_eq!(owned(&claims), [true, true]);
        let both = ItemSet::from([item(80), item(81)]);
        release_claims(&both, &both, &mut claims);
        assert_eq!(owned(&claims), [true, true]);
        release_claims(&both, &ItemSet::from([item(80)]), &mut claims);
        assert_eq!(owned(&claims), [true, false]);
    }
}
