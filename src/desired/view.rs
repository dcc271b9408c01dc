//! The computation of the desired state as a whole.

use super::{
    routes::{self, Claimed, RouteFilter},
    services::{self, Claims, NodeContext},
    unit::Unit,
};
use crate::{
    bgp::rib::Learned,
    collections::{FlatMap, FlatSet},
    error::{Error, Result},
    model::{
        cluster::{Cluster, EndpointSlice, Kind, Node, Service},
        items::{Item, ItemSet, Protocol, TABLE_MAIN},
        local::{Host, Local, Module, NodePorts},
        nftables::Set,
    },
};
use std::{cell::OnceCell, net::IpAddr};

use ipnet::IpNet;
use serde::Serialize;

/// A request that this node can't honour, with the reason. It does not stop the other requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unmet {
    /// The thing that was requested, for example a route or a port of a Service.
    pub what: String,
    /// The reason, and the remedy if there is one.
    pub why: String,
    /// The unit that asks for it; [`Unit::Base`] for a request beside the units.
    #[serde(skip)]
    pub unit: Unit,
}

impl Unmet {
    /// Creates an entry that belongs to no Service.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Unmet {
        Unmet { what: what.into(), why: why.into(), unit: Unit::Base }
    }
}

/// The result of [`desired`].
#[derive(Debug, Default)]
pub struct Desired {
    /// The items that this node should hold.
    pub state: ItemSet,
    /// Requests that can't be honoured; the rest of the state is right without them.
    pub unmet: Vec<Unmet>,
    /// Faults of this node that its administrator has to repair.
    pub errors: Vec<Error>,
    /// The Service that owns each virtual service.
    pub claims: Claims,
}

/// Collects the parts of a [`Desired`], in any order.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) items: Vec<Item>,
    pub(super) unmet: Vec<Unmet>,
    pub(super) errors: Vec<Error>,
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
    let view = ClusterView { asked, ..ClusterView::new(cluster, learned, local)? };
    let (mut draft, mut claims) = (Draft::default(), view.claims());
    view.units().for_each(|unit| view.add(&unit, &mut claims, &mut draft));
    let Draft { mut items, unmet, errors } = draft;
    items.retain(asked);
    Ok(Desired { state: items.into(), unmet, errors, claims })
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

/// The cluster as this node sees it at one moment: the input of all units, and values derived from it,
/// each computed when it is first needed.
pub struct ClusterView<'a> {
    pub(crate) cluster: &'a Cluster,
    learned: &'a Learned,
    pub(crate) local: &'a Local,
    /// This node's own Node object.
    pub(super) own: &'a Node,
    /// True if IPv6 is wanted and the kernel has it.
    pub(super) ipv6: bool,
    /// Returns true for the items that the caller asks for.
    pub(super) asked: &'a dyn Fn(&Item) -> bool,
    context: OnceCell<NodeContext<'a>>,
    route_filter: OnceCell<RouteFilter<'a>>,
    pub(super) claimed: OnceCell<Claimed<'a>>,
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
            cluster,
            learned,
            local,
            own: own_node(cluster, local)?,
            ipv6: has_ipv6(local),
            asked: &|_| true,
            context: OnceCell::new(),
            route_filter: OnceCell::new(),
            claimed: OnceCell::new(),
        })
    }

    /// Returns the claims before any Service has one.
    pub(super) fn claims(&self) -> Claims {
        if self.serves() { Claims::new(self.taken()) } else { Claims::default() }
    }

    /// Returns true if Services are served: they are asked for, and the kernel may have IPVS.
    pub(super) fn serves(&self) -> bool {
        self.local.options.services && self.module("ip_vs") != Some(Module::Absent)
    }

    /// Returns the rules for learned routes.
    pub(super) fn route_filter(&self) -> &RouteFilter<'a> {
        self.route_filter.get_or_init(|| RouteFilter::of(self, self.learned))
    }

    /// Returns true if a learned route may be refused in this view and not in the other one, or the other
    /// way round.
    pub(super) fn refuses_differently(&self, other: &ClusterView<'_>) -> bool {
        self.route_filter().differ(other.route_filter())
    }

    /// Returns the prefixes that belong to Nodes.
    pub(super) fn claimed(&self) -> &Claimed<'a> {
        self.claimed
            .get_or_init(|| routes::of_nodes(self, self.route_filter(), &mut Draft::default()))
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

    /// Adds the items of one Service that the caller asks for, and its requests that cannot be honoured.
    pub(super) fn service(&self, service: &Service, claims: &mut Claims, draft: &mut Draft) {
        let slices: Vec<&EndpointSlice> = self.cluster.slices.of(&service.name).collect();
        let (items, unmet) = services::of(service, &slices, self.context(), claims);
        let wanted = |item: &Item| self.is_certain(item) && (self.asked)(item);
        draft.items.extend(items.into_iter().filter(wanted));
        draft.unmet.extend(unmet);
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

    /// Returns the properties of this node that [`services::of`] needs.
    /// Returns this node's properties that count for Services.
    pub(super) fn context(&self) -> &NodeContext<'a> {
        self.context.get_or_init(|| self.new_context())
    }

    fn new_context(&self) -> NodeContext<'a> {
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

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::{
        cluster::{Name, Object, Service, ServicePort},
        items::{DUMMY, SetElement},
        local::{HostLink, Options},
    };

    fn node(name: &str, addr: &str, pods: &str) -> Object {
        Object::Node(Node {
            name: name.into(),
            internal_ips: vec![addr.parse().unwrap()],
            pod_cidrs: vec![pods.parse().unwrap()],
            ..Node::default()
        })
    }

    pub(crate) fn service(name: &str, addr: &str, port: u16) -> Object {
        let port = ServicePort { name: "".into(), protocol: Protocol::Tcp, port, node_port: None };
        Object::Service(Service {
            name: Name { namespace: "shop".into(), name: name.into() },
            cluster_ips: vec![addr.parse().unwrap()],
            ports: vec![port],
            ..Service::default()
        })
    }

    fn cluster(objects: impl IntoIterator<Item = Object>) -> Cluster {
        let mut cluster = Cluster::default();
        cluster.insert(node("a", "192.0.2.11", "10.244.0.0/24"));
        objects.into_iter().for_each(|object| cluster.insert(object));
        cluster
    }

    pub(crate) fn local(host: Option<Host>) -> Local {
        Local { node: "a".into(), options: Options::default(), host }
    }

    /// A xorshift generator with a fixed seed: the sequence is the same in every run.
    pub(crate) struct Dice(pub u64);

    impl Dice {
        pub fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % limit
        }
    }

    pub(crate) fn host(addr: &str) -> Host {
        let addrs = vec![addr.parse().unwrap()];
        Host { links: vec![HostLink { name: "eth0".into(), mtu: 1450, addrs }], ..Host::default() }
    }

    fn routes(state: &ItemSet) -> Vec<String> {
        let main = |i: &&Item| matches!(i, Item::Route { table: TABLE_MAIN, .. });
        state.iter().filter(main).map(ToString::to_string).collect()
    }

    #[test]
    fn without_its_own_node_object_the_desired_state_is_an_error() {
        let mut local = local(None);
        local.node = "z".into();
        let e = desired(&cluster([]), &NOTHING, &local).unwrap_err().to_string();
        assert!(e.starts_with("finding node z in the cluster: it is none of the 1 Nodes"), "{e}");
        let e = desired(&Cluster::default(), &NOTHING, &local).unwrap_err().to_string();
        assert!(e.ends_with("the API lists no Node that could be read"), "{e}");
    }

    #[test]
    fn a_node_whose_addresses_are_on_no_link_here_is_refused_as_another_machine() {
        let e = desired(&cluster([]), &NOTHING, &local(Some(host("192.0.2.99/24")))).unwrap_err();
        assert!(e.to_string().contains("no link here that is up carries its address (192.0.2.11)"));
        assert!(desired(&cluster([]), &NOTHING, &local(Some(host("192.0.2.11/24")))).is_ok());
    }

    #[test]
    fn a_pod_cidr_is_routed_to_the_first_node_that_has_it_and_this_nodes_own_is_never_routed() {
        let cluster = cluster([
            node("b", "192.0.2.12", "10.244.1.0/24"),
            node("c", "192.0.2.13", "10.244.1.0/24"),
            node("d", "192.0.2.14", "10.244.0.0/24"),
        ]);
        let desired = desired(&cluster, &NOTHING, &local(None)).unwrap();
        assert_eq!(routes(&desired.state), ["route 10.244.1.0/24 via 192.0.2.12"]);
        let why: Vec<_> = desired.unmet.iter().map(|u| &*u.why).collect();
        assert_eq!(why, ["node b has the same podCIDR", "node a has the same podCIDR"]);
    }

    #[test]
    fn a_pod_cidr_that_contains_its_nodes_address_is_not_routed() {
        let cluster = cluster([node("b", "192.0.2.12", "0.0.0.0/0")]);
        let desired = desired(&cluster, &NOTHING, &local(None)).unwrap();
        assert!(routes(&desired.state).is_empty());
        assert!(desired.unmet[0].why.contains("would cut it off"));
    }

    #[test]
    fn a_service_gets_neither_the_address_of_a_node_nor_a_port_of_another_service() {
        let cluster = cluster([
            service("evil", "192.0.2.11", 22),
            service("first", "10.96.0.10", 80),
            service("second", "10.96.0.10", 80),
            service("third", "10.96.0.10", 81),
        ]);
        let desired = desired(&cluster, &NOTHING, &local(None)).unwrap();
        let at =
            |i: &Item| if let Item::Service { at, .. } = i { Some(at.to_string()) } else { None };
        let found: Vec<_> = desired.state.iter().filter_map(at).collect();
        assert_eq!(found, ["tcp 10.96.0.10:80", "tcp 10.96.0.10:81"]);
        let what: Vec<_> = desired.unmet.iter().map(|u| &*u.what).collect();
        assert_eq!(
            what,
            ["tcp 192.0.2.11:22 of Service shop/evil", "tcp 10.96.0.10:80 of Service shop/second"]
        );
        let vips = desired
            .state
            .iter()
            .filter(|i| matches!(i, Item::Addr { link, .. } if **link == *DUMMY));
        assert_eq!(vips.count(), 1);
    }

    #[test]
    fn a_service_in_an_excluded_network_is_not_served() {
        let mut local = local(None);
        local.options.excluded = vec!["10.96.0.0/24".parse().unwrap()];
        let cluster = cluster([service("web", "10.96.0.10", 80)]);
        let desired = desired(&cluster, &NOTHING, &local).unwrap();
        assert!(
            !desired.state.iter().any(|i| matches!(i, Item::Service { .. } | Item::Addr { .. }))
        );
        assert!(desired.unmet[0].why.contains("--excluded-cidrs"));
    }

    #[test]
    fn a_disabled_router_or_service_proxy_has_no_items() {
        let cluster =
            cluster([service("web", "10.96.0.10", 80), node("b", "192.0.2.12", "10.244.1.0/24")]);
        let mut local = local(None);
        local.options.router = false;
        let kinds = desired(&cluster, &NOTHING, &local).unwrap().state;
        assert!(routes(&kinds).is_empty() && !kinds.iter().any(|i| matches!(i, Item::File { .. })));
        local.options = Options { services: false, ..Options::default() };
        let kinds = desired(&cluster, &NOTHING, &local).unwrap().state;
        assert_eq!(routes(&kinds).len(), 1);
        assert!(!kinds.iter().any(|i| matches!(i, Item::Service { .. } | Item::Sysctl { .. } if !i.to_string().contains("forward"))));
    }

    #[test]
    fn the_bridge_gets_the_mtu_of_the_link_with_the_nodes_address() {
        let desired = desired(&cluster([]), &NOTHING, &local(Some(host("192.0.2.11/24")))).unwrap();
        let bridge = desired
            .state
            .iter()
            .find(|i| matches!(i, Item::Link { name, .. } if &**name == "kube-bridge"));
        assert_eq!(bridge.unwrap().to_string(), "link kube-bridge bridge mtu 1450");
    }

    #[test]
    fn a_kernel_without_ipvs_gets_routes_and_one_unmet_entry_for_services() {
        let mut host = host("192.0.2.11/24");
        host.modules.insert("ip_vs".into(), Module::Absent);
        let cluster =
            cluster([service("web", "10.96.0.10", 80), node("b", "192.0.2.12", "10.244.1.0/24")]);
        let desired = desired(&cluster, &NOTHING, &local(Some(host))).unwrap();
        assert_eq!(routes(&desired.state).len(), 1);
        assert!(!desired.state.iter().any(|i| matches!(i, Item::Service { .. })));
        assert_eq!(desired.unmet.iter().filter(|u| u.what == "Services").count(), 1);
    }

    #[test]
    fn forwarding_ipv6_keeps_router_advertisements_accepted_on_links_that_accepted_them() {
        let mut cluster = cluster([]);
        let own = cluster.nodes.get_mut("a").unwrap();
        own.pod_cidrs.push("fd44::/64".parse().unwrap());
        let mut host = host("192.0.2.11/24");
        for (name, value) in
            [("all/forwarding", "0"), ("eth0/accept_ra", "1"), ("wlan0/accept_ra", "2")]
        {
            host.sysctls.insert(format!("net/ipv6/conf/{name}").into(), value.into());
        }
        let desired = desired(&cluster, &NOTHING, &local(Some(host))).unwrap();
        let v6: Vec<String> = desired
            .state
            .iter()
            .filter(|i| matches!(i, Item::Sysctl { name, .. } if name.0.contains("ipv6")))
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            v6,
            ["sysctl net/ipv6/conf/eth0/accept_ra = 2", "sysctl net/ipv6/conf/all/forwarding = 1"]
        );
    }

    #[test]
    fn an_item_is_not_removable_while_an_object_or_peer_that_may_claim_it_is_incomplete() {
        let route = Item::Route {
            table: TABLE_MAIN,
            to: "10.1.0.0/24".parse().unwrap(),
            via: None,
            src: None,
        };
        let addr = Item::Addr { link: DUMMY.into(), addr: "10.96.0.1/32".parse().unwrap() };
        let incomplete = |kind| FlatSet::from([kind]);
        let local = local(None);
        assert!(!is_removable(&route, &incomplete(Kind::Node), &NOTHING, &local));
        assert!(is_removable(&addr, &incomplete(Kind::Node), &NOTHING, &local));
        assert!(!is_removable(&addr, &incomplete(Kind::Service), &NOTHING, &local));
        assert!(is_removable(&route, &incomplete(Kind::Service), &NOTHING, &local));
        let mut peered = local.clone();
        peered.options.peers = true;
        assert!(
            !is_removable(&route, &FlatSet::new(), &NOTHING, &peered),
            "a peer may still advertise it"
        );
        let all = Learned { complete: true, ..Learned::default() };
        assert!(
            is_removable(&route, &FlatSet::new(), &all, &peered),
            "all peers have sent their routes"
        );
        assert!(!is_removable(&route, &incomplete(Kind::Node), &all, &peered));
    }

    #[test]
    fn an_element_is_not_removable_while_the_kind_that_its_set_comes_from_is_incomplete() {
        let element =
            |set, text: &str| Item::Element { set, value: SetElement::Net(text.parse().unwrap()) };
        let local = local(None);
        let kinds = [Kind::Node, Kind::Service, Kind::EndpointSlice];
        for (set, text, from) in [
            (Set::OwnPods, "10.244.0.0/24", Kind::Node),
            (Set::PodNets, "10.244.0.0/16", Kind::Node),
            (Set::NodeIps, "192.0.2.12/32", Kind::Node),
            (Set::Vips, "10.96.0.1/32", Kind::Service),
        ] {
            let element = element(set, text);
            let kept: Vec<Kind> = kinds
                .into_iter()
                .filter(|kind| !is_removable(&element, &FlatSet::from([*kind]), &NOTHING, &local))
                .collect();
            assert_eq!(kept, [from], "{set:?}");
        }
    }
}
