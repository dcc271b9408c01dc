//! The desired state as a whole: the sum of all units.

use super::{cluster_view::ClusterView, node_view::Draft, services::Claims, unmet::Unmet};
use crate::{
    error::{Error, Result},
    model::{
        bgp::Learned,
        cluster::Cluster,
        items::{Item, ItemSet},
        local::Local,
    },
};

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
    let view = ClusterView::new(cluster, learned, local)?.asking(asked);
    let (mut draft, mut claims) = (Draft::default(), view.claims());
    view.units().for_each(|unit| view.add(&unit, &mut claims, &mut draft));
    let Draft { mut items, unmet, errors } = draft;
    items.retain(asked);
    Ok(Desired { state: items.into(), unmet, errors, claims })
}

#[cfg(test)]
pub(super) mod tests {

    use super::*;
    use crate::model::{
        cluster::{Name, Object, Service, ServicePort},
        items::{DUMMY, SetElement},
        local::{HostLink, Options},
    };
    use crate::{
        collections::FlatSet,
        desired::node_view::{NOTHING, is_removable},
        model::{
            cluster::{Kind, Node},
            items::{Protocol, TABLE_MAIN},
            local::{Host, Module},
            nftables::Set,
        },
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
        pub(crate) fn below(&mut self, limit: u64) -> u64 {
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
