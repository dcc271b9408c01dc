//! What this node's kernel should hold, worked out from the cluster. Pure.
//!
//! Independent functions per object (`routes::of`, `services::of`), so that a change of one object
//! can be worked out and compared alone; here they are put together, and what two objects both claim
//! goes to the first by name.

pub mod cni;
pub mod drain;
pub mod endpoints;
mod node;
pub mod routes;
pub mod services;
pub mod stale;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use serde::Serialize;

use crate::{
    cluster::{Cluster, EndpointSlice, Kind, Node},
    error::{Error, Result},
    local::{Host, Local, Module, NodePorts},
    ruleset::Set,
    state::{At, Item, Protocol, State, TABLE_MAIN},
};

/// What could not be honoured, and why. It never stops the rest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unmet {
    /// What was asked for.
    pub what: String,
    /// Why it can't be had, and what to do about it.
    pub why: String,
}

impl Unmet {
    /// `what` is not honoured because of `why`.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Unmet {
        Unmet { what: what.into(), why: why.into() }
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
}

/// Works out all of it. Where this node's own Node object is not known, nothing can be said: its own
/// pod network would be routed away.
pub fn desired(cluster: &Cluster, local: &Local) -> Result<Desired> {
    let own = own_node(cluster, local)?;
    let mut desired = Desired::default();
    let view = View { cluster, local, own, ipv6: has_ipv6(local) };
    if local.options.router {
        view.router(&mut desired);
    }
    if local.options.services {
        view.services(&mut desired);
    }
    if local.options.table() {
        node::table(&view, &mut desired);
    }
    Ok(desired)
}

/// Whether a step of the plan may take an item away: never where an object that could still claim it
/// was not understood, or where somebody else may claim it.
pub fn may_go(item: &Item, doubtful: &BTreeSet<Kind>, local: &Local) -> bool {
    let sure = |kind| !doubtful.contains(&kind);
    match item {
        Item::Route { table: TABLE_MAIN, .. } => {
            // What no Node claims may have come by BGP, or from a kube-router that is still here.
            let tunnels = local.host.as_ref().is_some_and(|h| !h.tunnels.is_empty());
            sure(Kind::Node) && !local.options.peers && !tunnels
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

/// All that the functions per object need to know.
struct View<'a> {
    cluster: &'a Cluster,
    local: &'a Local,
    own: &'a Node,
    /// Whether IPv6 is wanted and there.
    ipv6: bool,
}

impl View<'_> {
    fn family(&self, ipv4: bool) -> bool {
        if ipv4 { self.local.options.ipv4 } else { self.ipv6 }
    }

    fn host(&self) -> Option<&Host> {
        self.local.host.as_ref()
    }

    fn module(&self, name: &str) -> Option<Module> {
        self.host()?.modules.get(name).copied()
    }

    /// Wants a module where it is known that it can be had, or where nothing is known of the kernel.
    fn want_module(&self, name: &str, desired: &mut Desired) {
        if self.host().is_none() || self.module(name).is_some_and(|m| m != Module::Absent) {
            desired.state.insert(Item::Module { name: name.into() });
        }
    }

    /// The pod networks of this node, of the families that are used.
    fn pod_cidrs(&self) -> Vec<IpNet> {
        let used = |net: &&IpNet| self.family(net.addr().is_ipv4());
        self.own.pod_cidrs.iter().filter(used).copied().collect()
    }

    fn router(&self, desired: &mut Desired) {
        self.want_module("bridge", desired);
        node::network(self, desired);
        let on_link = self.host().map(Host::on_link);
        let tunnels = self.host().map_or(&[][..], |h| &h.tunnels);
        let mut claimed: BTreeMap<IpNet, &str> =
            self.own.pod_cidrs.iter().map(|net| (*net, &*self.own.name)).collect();
        for node in self.cluster.nodes.values().filter(|n| n.name != self.own.name) {
            let (items, unmet) = routes::of(node, on_link.as_deref());
            desired.unmet.extend(unmet);
            for item in items {
                let Item::Route { to, .. } = item else { continue };
                let what = || format!("route to {to}, the pods of node {}", node.name);
                if !self.family(to.addr().is_ipv4()) {
                    continue;
                } else if let Some(first) = claimed.get(&to) {
                    let why = format!("node {first} has the same podCIDR");
                    desired.unmet.push(Unmet::new(what(), why));
                } else if tunnels.iter().any(|t| t.to == Some(to)) {
                    claimed.insert(to, &node.name); // left alone, and told once for all of them
                } else {
                    claimed.insert(to, &node.name);
                    desired.state.insert(item);
                }
            }
        }
        if let Some(tunnel) = tunnels.first() {
            let routed = tunnels.iter().filter(|t| t.to.is_some()).count();
            desired.unmet.push(Unmet::new(
                format!("{routed} routes through kube-router's tunnels ({}…)", tunnel.link),
                "this version makes no tunnels, so they are LEFT AS THEY ARE and nobody keeps them; \
                 where the nodes share a link, remove them: ip link del TUNNEL",
            ));
        }
    }

    fn services(&self, desired: &mut Desired) {
        if self.module("ip_vs") == Some(Module::Absent) {
            desired.unmet.push(Unmet::new(
                "Services",
                "this kernel has no IPVS: install the module ip_vs, or build with CONFIG_IP_VS",
            ));
            return;
        }
        node::service_proxy(self, desired);
        let mut slices: BTreeMap<(&str, &str), Vec<&EndpointSlice>> = BTreeMap::new();
        for slice in self.cluster.slices.values() {
            if let Some(service) = &slice.service {
                slices.entry((&slice.name.namespace, service)).or_default().push(slice);
            }
        }
        let none = BTreeSet::new();
        let place = self.place(self.host().map_or(&none, |h| &h.listens));
        let mut claims = services::Claims::default();
        // Where a slice was not understood, nobody knows whether a node has endpoints.
        let sure = !self.cluster.doubtful.contains(&Kind::EndpointSlice);
        let kept = |item: &Item| {
            sure || !matches!(item, Item::Element { set: Set::Drop | Set::DropOutside, .. })
        };
        for service in self.cluster.services.values() {
            let mine = slices.get(&(&*service.name.namespace, &*service.name.name));
            let mine = mine.map_or(&[][..], Vec::as_slice);
            let (items, unmet) = services::of(service, mine, &place, &mut claims);
            desired.state.extend(items.into_iter().filter(kept));
            desired.unmet.extend(unmet);
        }
    }

    fn place<'b>(&'b self, listens: &'b BTreeSet<(Protocol, u16)>) -> services::Place<'b> {
        let families = [true, false].into_iter().filter(|ipv4| self.family(*ipv4));
        let addrs: Vec<IpAddr> = families.filter_map(|ipv4| self.own.addr(ipv4)).collect();
        let mut own: BTreeSet<IpAddr> = self.own.addrs().collect();
        own.extend(self.host().into_iter().flat_map(Host::on_link).map(|net| net.addr()));
        let mut taken = own.clone();
        taken.extend(self.cluster.nodes.values().flat_map(Node::addrs));
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
            taken,
            own,
            own_pods: self.pod_cidrs(),
            excluded: &self.local.options.excluded,
            external: &self.local.options.external,
            listens,
            schedulers: self.host().map(|_| schedulers.map(|name| (*name).into()).collect()),
            table: self.has_table(),
        }
    }

    fn has_table(&self) -> bool {
        self.module("nf_tables") != Some(Module::Absent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::{Name, Object, Service, ServicePort},
        local::{HostLink, Options},
        state::DUMMY,
    };

    fn options() -> Options {
        Options {
            router: true,
            services: true,
            cni: true,
            cni_conf: "/etc/cni/net.d/10-kuberouter.conflist".into(),
            auto_mtu: true,
            ipv4: true,
            ipv6: true,
            excluded: vec![],
            guard: true,
            masquerade_all: false,
            pod_egress: true,
            node_ports: NodePorts::Primary,
            external: vec![],
            grace: 30,
            peers: false,
        }
    }

    fn node(name: &str, addr: &str, pods: &str) -> Object {
        Object::Node(Node {
            name: name.into(),
            internal_ips: vec![addr.parse().unwrap()],
            external_ips: vec![],
            pod_cidrs: vec![pods.parse().unwrap()],
            zone: None,
        })
    }

    fn service(name: &str, addr: &str, port: u16) -> Object {
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

    fn local(host: Option<Host>) -> Local {
        Local { node: "a".into(), options: options(), host }
    }

    fn host(addr: &str) -> Host {
        let addrs = vec![addr.parse().unwrap()];
        Host { links: vec![HostLink { name: "eth0".into(), mtu: 1450, addrs }], ..Host::default() }
    }

    fn routes(state: &State) -> Vec<String> {
        let main = |i: &&Item| matches!(i, Item::Route { table: TABLE_MAIN, .. });
        state.iter().filter(main).map(ToString::to_string).collect()
    }

    #[test]
    fn without_its_own_node_object_nothing_is_decided() {
        let mut local = local(None);
        local.node = "z".into();
        let e = desired(&cluster([]), &local).unwrap_err().to_string();
        assert!(e.starts_with("finding node z in the cluster: it is none of the 1 Nodes"), "{e}");
        let e = desired(&Cluster::default(), &local).unwrap_err().to_string();
        assert!(e.ends_with("the API lists no Node that could be read"), "{e}");
    }

    #[test]
    fn a_name_whose_address_is_on_no_link_here_is_another_machines() {
        let e = desired(&cluster([]), &local(Some(host("192.0.2.99/24")))).unwrap_err();
        assert!(e.to_string().contains("no link here that is up carries its address (192.0.2.11)"));
        assert!(desired(&cluster([]), &local(Some(host("192.0.2.11/24")))).is_ok());
    }

    #[test]
    fn two_nodes_with_one_pod_cidr_make_one_route_and_ours_is_never_routed_away() {
        let cluster = cluster([
            node("b", "192.0.2.12", "10.244.1.0/24"),
            node("c", "192.0.2.13", "10.244.1.0/24"),
            node("d", "192.0.2.14", "10.244.0.0/24"),
        ]);
        let desired = desired(&cluster, &local(None)).unwrap();
        assert_eq!(routes(&desired.state), ["route 10.244.1.0/24 via 192.0.2.12"]);
        let why: Vec<_> = desired.unmet.iter().map(|u| &*u.why).collect();
        assert_eq!(why, ["node b has the same podCIDR", "node a has the same podCIDR"]);
    }

    #[test]
    fn a_pod_cidr_that_swallows_its_own_node_is_not_routed() {
        let cluster = cluster([node("b", "192.0.2.12", "0.0.0.0/0")]);
        let desired = desired(&cluster, &local(None)).unwrap();
        assert!(routes(&desired.state).is_empty());
        assert!(desired.unmet[0].why.contains("would cut it off"));
    }

    #[test]
    fn a_service_never_takes_the_address_of_a_node_nor_of_another_service() {
        let cluster = cluster([
            service("evil", "192.0.2.11", 22),
            service("first", "10.96.0.10", 80),
            service("second", "10.96.0.10", 80),
            service("third", "10.96.0.10", 81),
        ]);
        let desired = desired(&cluster, &local(None)).unwrap();
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
    fn excluded_networks_are_somebody_elses() {
        let mut local = local(None);
        local.options.excluded = vec!["10.96.0.0/24".parse().unwrap()];
        let cluster = cluster([service("web", "10.96.0.10", 80)]);
        let desired = desired(&cluster, &local).unwrap();
        assert!(
            !desired.state.iter().any(|i| matches!(i, Item::Service { .. } | Item::Addr { .. }))
        );
        assert!(desired.unmet[0].why.contains("--excluded-cidrs"));
    }

    #[test]
    fn a_part_that_is_switched_off_is_not_wanted() {
        let cluster =
            cluster([service("web", "10.96.0.10", 80), node("b", "192.0.2.12", "10.244.1.0/24")]);
        let mut local = local(None);
        local.options.router = false;
        let kinds = desired(&cluster, &local).unwrap().state;
        assert!(routes(&kinds).is_empty() && !kinds.iter().any(|i| matches!(i, Item::File { .. })));
        local.options = Options { services: false, ..options() };
        let kinds = desired(&cluster, &local).unwrap().state;
        assert_eq!(routes(&kinds).len(), 1);
        assert!(!kinds.iter().any(|i| matches!(i, Item::Service { .. } | Item::Table { .. })));
    }

    #[test]
    fn the_mtu_of_the_nodes_link_is_that_of_the_bridge() {
        let desired = desired(&cluster([]), &local(Some(host("192.0.2.11/24")))).unwrap();
        let bridge = desired
            .state
            .iter()
            .find(|i| matches!(i, Item::Link { name, .. } if &**name == "kube-bridge"));
        assert_eq!(bridge.unwrap().to_string(), "link kube-bridge bridge mtu 1450");
    }

    #[test]
    fn a_kernel_without_ipvs_still_gets_its_routes() {
        let mut host = host("192.0.2.11/24");
        host.modules.insert("ip_vs".into(), Module::Absent);
        let cluster =
            cluster([service("web", "10.96.0.10", 80), node("b", "192.0.2.12", "10.244.1.0/24")]);
        let desired = desired(&cluster, &local(Some(host))).unwrap();
        assert_eq!(routes(&desired.state).len(), 1);
        assert!(!desired.state.iter().any(|i| matches!(i, Item::Service { .. })));
        assert_eq!(desired.unmet.iter().filter(|u| u.what == "Services").count(), 1);
    }

    #[test]
    fn a_board_that_listens_to_ipv6_routers_goes_on_listening_when_it_becomes_one() {
        let mut cluster = cluster([]);
        let own = cluster.nodes.get_mut("a").unwrap();
        own.pod_cidrs.push("fd44::/64".parse().unwrap());
        let mut host = host("192.0.2.11/24");
        for (name, value) in
            [("all/forwarding", "0"), ("eth0/accept_ra", "1"), ("wlan0/accept_ra", "2")]
        {
            host.sysctls.insert(format!("net/ipv6/conf/{name}").into(), value.into());
        }
        let desired = desired(&cluster, &local(Some(host))).unwrap();
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
    fn what_a_doubtful_kind_feeds_may_not_go() {
        let route = Item::Route {
            table: TABLE_MAIN,
            to: "10.1.0.0/24".parse().unwrap(),
            via: None,
            dev: None,
            src: None,
        };
        let addr = Item::Addr { link: DUMMY.into(), addr: "10.96.0.1/32".parse().unwrap() };
        let doubt = |kind| BTreeSet::from([kind]);
        let local = local(None);
        assert!(!may_go(&route, &doubt(Kind::Node), &local));
        assert!(may_go(&addr, &doubt(Kind::Node), &local));
        assert!(!may_go(&addr, &doubt(Kind::Service), &local));
        assert!(may_go(&route, &doubt(Kind::Service), &local));
        let mut peered = local.clone();
        peered.options.peers = true;
        assert!(!may_go(&route, &BTreeSet::new(), &peered), "it may be a peer's");
    }
}
