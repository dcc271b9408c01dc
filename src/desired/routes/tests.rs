//! Tests of the routes that follow from Nodes and from BGP peers.

use super::*;
use crate::{
    cluster::{Cluster, Name, Object, Service, ServicePort},
    desired::{
        desired,
        part::Moment,
        tests::{Dice, service},
    },
    local::{HostLink, Local, Options, Tunnel},
    state::{Protocol, State},
};

fn node(name: &str, addr: &str, pods: &str) -> Node {
    Node {
        name: name.into(),
        internal_ips: vec![addr.parse().unwrap()],
        pod_cidrs: vec![pods.parse().unwrap()],
        ..Node::default()
    }
}

/// Returns a cluster of this node, `a`, and one neighbour, `b`.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.insert(Object::Node(node("a", "192.0.2.11", "10.244.0.0/24")));
    cluster.insert(Object::Node(node("b", "192.0.2.12", "10.244.1.0/24")));
    cluster
}

fn local(routes: Routes) -> Local {
    let addrs = ["192.0.2.11/24", "fd77::11/64", "fe80::11/64"].map(|a| a.parse().unwrap());
    let links = vec![HostLink { name: "eth0".into(), mtu: 1500, addrs: addrs.into() }];
    let mut host = Host { links, ..Host::default() };
    host.sysctls.insert("net/ipv6/conf/all/forwarding".into(), "1".into());
    let options = Options { routes, ..Options::default() };
    Local { node: "a".into(), options, host: Some(host) }
}

fn learned(routes: &[(&str, &[&str])]) -> Learned {
    let hops = |hops: &[&str]| Via::new(hops.iter().map(|hop| hop.parse().unwrap())).unwrap();
    let routes = routes.iter().map(|(to, via)| (to.parse().unwrap(), hops(via))).collect();
    Learned { routes, ..Learned::default() }
}

/// Returns the routes, and the messages about routes that can't be honoured.
fn outcome(cluster: &Cluster, learned: &Learned, local: &Local) -> (Vec<String>, Vec<String>) {
    let desired = desired(cluster, learned, local).unwrap();
    let main = |i: &&Item| matches!(i, Item::Route { table: TABLE_MAIN, .. });
    let routes = desired.state.iter().filter(main).map(|i| i.to_string()[6..].to_owned());
    let messages = desired.unmet.iter().filter(|u| u.what.contains("route"));
    (routes.collect(), messages.map(|u| format!("{}: {}", u.what, u.why)).collect())
}

fn with_bgp(routes: &[(&str, &[&str])]) -> (Vec<String>, Vec<String>) {
    outcome(&cluster(), &learned(routes), &local(Routes::Both))
}

const NODE_ROUTE: &str = "10.244.1.0/24 via 192.0.2.12";

#[test]
fn a_node_is_the_gateway_to_its_pods_and_a_family_without_an_address_is_unmet() {
    let mut cluster = cluster();
    cluster.nodes.get_mut("b").unwrap().pod_cidrs.push("fd44:1::/64".parse().unwrap());
    let (routes, messages) = outcome(&cluster, &NOTHING, &local(Routes::Nodes));
    assert_eq!(routes, [NODE_ROUTE]);
    assert!(messages.len() == 1 && messages[0].contains("fd44:1::/64"), "{messages:?}");
}

#[test]
fn a_node_that_is_not_on_link_gets_no_route_and_an_unmet_entry() {
    let mut cluster = cluster();
    cluster.insert(Object::Node(node("b", "198.51.100.12", "10.244.1.0/24")));
    let (routes, messages) = outcome(&cluster, &NOTHING, &local(Routes::Both));
    assert!(routes.is_empty());
    assert!(messages[0].contains("198.51.100.12 is on none of this node's links"), "{messages:?}");
    // A route that a router on the link advertises is usable.
    let by_router = learned(&[("10.244.1.0/24", &["192.0.2.1"])]);
    let (routes, messages) = outcome(&cluster, &by_router, &local(Routes::Both));
    assert_eq!((routes, messages), (vec!["10.244.1.0/24 via 192.0.2.1".into()], vec![]));
}

#[test]
fn without_an_inspected_host_every_node_counts_as_on_link() {
    let local = Local { host: None, ..local(Routes::Both) };
    assert_eq!(outcome(&cluster(), &NOTHING, &local).0, [NODE_ROUTE]);
}

#[test]
fn a_learned_route_replaces_the_route_of_the_node_and_other_routes_are_added() {
    let (routes, messages) = with_bgp(&[
        ("10.244.1.0/24", &["192.0.2.2", "192.0.2.1"]),
        ("203.0.113.0/24", &["192.0.2.1"]),
        ("2001:db8::/48", &["fd77::1"]),
    ]);
    assert_eq!(
        routes,
        [
            "10.244.1.0/24 nexthop via 192.0.2.1 nexthop via 192.0.2.2",
            "203.0.113.0/24 via 192.0.2.1",
            "2001:db8::/48 via fd77::1",
        ]
    );
    assert_eq!(messages, [] as [&str; 0]);
}

#[test]
fn the_routes_option_selects_node_routes_bgp_routes_or_both() {
    let learned = learned(&[("203.0.113.0/24", &["192.0.2.1"])]);
    let of = |routes| outcome(&cluster(), &learned, &local(routes)).0;
    assert_eq!(of(Routes::Nodes), [NODE_ROUTE]);
    assert_eq!(of(Routes::Bgp), ["203.0.113.0/24 via 192.0.2.1"]);
    assert_eq!(of(Routes::Both).len(), 2);
}

#[test]
fn next_hops_that_are_not_on_link_are_dropped_and_without_any_the_route_of_the_node_stays() {
    let far = "198.51.100.1";
    let (routes, _) = with_bgp(&[("10.244.1.0/24", &[far, "192.0.2.1", "192.0.2.11"])]);
    assert_eq!(routes, ["10.244.1.0/24 via 192.0.2.1"]);
    let (routes, messages) = with_bgp(&[
        ("10.244.1.0/24", &[far]),
        ("203.0.113.0/25", &[far]),
        ("203.0.113.128/25", &[far]),
        ("2001:db8::/48", &["fe80::1"]),
        ("2001:db8:1::/48", &["192.0.2.1"]),
    ]);
    assert_eq!(routes, [NODE_ROUTE]);
    assert_eq!(messages.len(), 1, "one message for all of them: {messages:?}");
    let start = "4 routes learned by BGP (203.0.113.0/25…): the next hop is on none";
    assert!(messages[0].starts_with(start), "{messages:?}");
}

#[test]
fn a_node_that_is_not_ready_and_has_no_session_gets_no_route_unless_a_peer_advertises_one() {
    let mut cluster = cluster();
    let mut learned = learned(&[]);
    learned.lost.insert("192.0.2.12".parse().unwrap());
    let local = local(Routes::Both);
    assert_eq!(outcome(&cluster, &learned, &local).0, [NODE_ROUTE], "it is Ready");
    cluster.nodes.get_mut("b").unwrap().ready = false;
    let (routes, messages) = outcome(&cluster, &learned, &local);
    assert!(routes.is_empty() && messages[0].contains("its BGP session is down"), "{messages:?}");
    let alone = Local { options: Options { routes: Routes::Nodes, ..Options::default() }, ..local };
    assert_eq!(outcome(&cluster, &learned, &alone).0, [NODE_ROUTE], "BGP routes are not used");
    learned.routes.insert("10.244.1.0/24".parse().unwrap(), Via::One("192.0.2.1".parse().unwrap()));
    let local = self::local(Routes::Both);
    assert_eq!(outcome(&cluster, &learned, &local).0, ["10.244.1.0/24 via 192.0.2.1"]);
    learned.routes.clear();
    learned.lost.clear();
    assert_eq!(outcome(&cluster, &learned, &local).0, [NODE_ROUTE], "its session was never up");
}

#[test]
fn a_learned_route_never_replaces_this_nodes_addresses_links_or_pods() {
    let by: &[&str] = &["192.0.2.1"];
    let (routes, messages) = with_bgp(&[
        ("0.0.0.0/0", by),
        ("10.244.0.0/24", by),
        ("10.244.0.128/25", by),
        ("192.0.2.11/32", by),
        ("192.0.2.0/24", by),
        ("127.1.0.0/16", by),
        ("224.0.0.0/8", by),
        ("fe80::/64", &["fd77::1"]),
        ("203.0.113.1/32", &["192.0.2.11"]),
    ]);
    assert_eq!(routes, [NODE_ROUTE]);
    assert_eq!(messages.len(), 2, "{messages:?}");
    assert!(messages[0].starts_with("route to 192.0.2.0/24, learned by BGP: it is the network"));
    assert!(messages[1].starts_with("route to 10.244.0.128/25, learned by BGP: it lies in"));
}

#[test]
fn a_learned_route_that_contains_a_neighbour_is_rejected_unless_it_contains_the_whole_link() {
    let (routes, messages) = with_bgp(&[
        ("192.0.2.1/32", &["192.0.2.2"]),
        ("192.0.2.12/32", &["192.0.2.1"]),
        ("192.0.2.0/28", &["192.0.2.1"]),
        ("192.0.2.200/32", &["192.0.2.1"]),
        ("192.0.0.0/16", &["192.0.2.1"]),
    ]);
    assert_eq!(routes[1..], ["192.0.0.0/16 via 192.0.2.1", "192.0.2.200/32 via 192.0.2.1"]);
    assert_eq!(messages.len(), 1);
    assert!(
        messages[0].starts_with("3 routes learned by BGP (192.0.2.0/28…): a next hop"),
        "{messages:?}"
    );
    let offline = Local { host: None, ..local(Routes::Both) };
    let wide = learned(&[("192.0.0.0/16", &["192.0.2.1"])]);
    assert!(
        outcome(&cluster(), &wide, &offline).1[0].contains("cut it off"),
        "without a host the links are unknown"
    );
}

#[test]
fn a_learned_route_to_a_virtual_address_that_is_served_here_is_ignored() {
    let mut cluster = cluster();
    let port = ServicePort { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port: None };
    cluster.insert(Object::Service(Service {
        name: Name { namespace: "shop".into(), name: "web".into() },
        cluster_ips: vec!["10.96.0.10".parse().unwrap()],
        ports: vec![port],
        ..Service::default()
    }));
    let learned = learned(&[("10.96.0.10/32", &["192.0.2.1"]), ("10.96.0.11/32", &["192.0.2.1"])]);
    let mut local = local(Routes::Both);
    let (routes, messages) = outcome(&cluster, &learned, &local);
    assert_eq!(
        routes,
        [NODE_ROUTE, "10.96.0.11/32 via 192.0.2.1"][..].iter().rev().copied().collect::<Vec<_>>()
    );
    assert_eq!(messages, [] as [&str; 0]);
    local.options.services = false;
    assert_eq!(outcome(&cluster, &learned, &local).0.len(), 3, "it is served elsewhere");
}

#[test]
fn networks_behind_kube_routers_tunnels_and_of_disabled_families_get_no_route() {
    let learned = learned(&[("10.244.1.0/24", &["192.0.2.1"]), ("2001:db8::/48", &["fd77::1"])]);
    let mut local = local(Routes::Both);
    local.options.ipv6 = false;
    local.host.as_mut().unwrap().tunnels =
        vec![Tunnel { link: "tun-1".into(), to: Some("10.244.1.0/24".parse().unwrap()) }];
    for routes in [Routes::Both, Routes::Bgp] {
        local.options.routes = routes;
        let (routes, messages) = outcome(&cluster(), &learned, &local);
        assert!(routes.is_empty() && messages.len() == 1, "{routes:?} {messages:?}");
    }
}

#[test]
fn a_route_has_at_most_the_maximum_number_of_gateways() {
    let hops: Vec<String> = (20..80).map(|i| format!("192.0.2.{i}")).collect();
    let hops: Vec<&str> = hops.iter().map(String::as_str).collect();
    let (routes, _) = with_bgp(&[("203.0.113.0/24", &hops)]);
    assert_eq!(routes[1].matches("nexthop").count(), MAX_GATEWAYS);
}

#[test]
fn incremental_route_updates_equal_a_full_recompute() {
    let mut dice = Dice(0x6b69_6e67_6c65_7432);
    let mut below = |limit: usize| dice.below(limit as u64) as usize;
    let mut cluster = cluster();
    cluster.insert(service("web", "10.96.0.1", 80));
    let local = local(Routes::Both);
    let nets = ["10.244.0.128/25", "10.244.1.0/24", "10.244.2.0/24", "10.96.0.1/32"]
        .into_iter()
        .chain(["192.0.2.0/24", "192.0.2.8/29", "203.0.113.0/24", "fd44:1::/64", "224.0.0.0/8"]);
    let nets: Vec<IpNet> = nets.map(|net| net.parse().unwrap()).collect();
    let ways: [&[&str]; 5] = [
        &["192.0.2.12"],
        &["192.0.2.13", "192.0.2.12"],
        &["192.0.2.11"],
        &["198.51.100.1"],
        &["fd77::12"],
    ];
    let (mut old, mut alone, mut steps) = (Learned::default(), 0, 0);
    for _ in 0..3000 {
        let (mut new, mut changed) = (old.clone(), Sorted::new());
        for _ in 0..=below(2) {
            let net = nets[below(nets.len())];
            changed.insert(net);
            match below(4) {
                0 => drop(new.routes.remove(&net)),
                _ => {
                    let hops = ways[below(ways.len())].iter().map(|hop| hop.parse().unwrap());
                    new.routes.insert(net, Via::new(hops).unwrap());
                }
            }
        }
        let [before, after] = [&old, &new].map(|l| desired(&cluster, l, &local).unwrap());
        let moment = Moment::of(&cluster, &local).unwrap();
        if let Some((have, want)) = moment.reroute((&old, &new), &changed, &after.claims) {
            let kept = before.state.iter().filter(|item| !have.contains(*item)).cloned();
            assert_eq!(kept.chain(want.iter().cloned()).collect::<State>(), after.state);
            assert_eq!(before.unmet, after.unmet);
            alone += 1;
            steps += usize::from(have != want);
        }
        old = new;
    }
    assert!(alone > 1000 && steps > 200, "{alone} {steps}");
}
