//! Routes of nodes and of peers, by example.

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

/// This node is `a`; it has one neighbour.
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

/// The routes, and what is said of those that are not made.
fn outcome(cluster: &Cluster, learned: &Learned, local: &Local) -> (Vec<String>, Vec<String>) {
    let desired = desired(cluster, learned, local).unwrap();
    let main = |i: &&Item| matches!(i, Item::Route { table: TABLE_MAIN, .. });
    let routes = desired.state.iter().filter(main).map(|i| i.to_string()[6..].to_owned());
    let told = desired.unmet.iter().filter(|u| u.what.contains("route"));
    (routes.collect(), told.map(|u| format!("{}: {}", u.what, u.why)).collect())
}

fn both(routes: &[(&str, &[&str])]) -> (Vec<String>, Vec<String>) {
    outcome(&cluster(), &learned(routes), &local(Routes::Both))
}

const OF_NODE: &str = "10.244.1.0/24 via 192.0.2.12";

#[test]
fn a_neighbour_is_the_gateway_to_its_pods_and_a_family_it_lacks_is_unmet() {
    let mut cluster = cluster();
    cluster.nodes.get_mut("b").unwrap().pod_cidrs.push("fd44:1::/64".parse().unwrap());
    let (routes, told) = outcome(&cluster, &NOTHING, &local(Routes::Nodes));
    assert_eq!(routes, [OF_NODE]);
    assert!(told.len() == 1 && told[0].contains("fd44:1::/64"), "{told:?}");
}

#[test]
fn a_node_that_is_not_on_link_gets_no_route_but_a_line_that_says_so() {
    let mut cluster = cluster();
    cluster.insert(Object::Node(node("b", "198.51.100.12", "10.244.1.0/24")));
    let (routes, told) = outcome(&cluster, &NOTHING, &local(Routes::Both));
    assert!(routes.is_empty());
    assert!(told[0].contains("198.51.100.12 is on none of this node's links"), "{told:?}");
    // A router that knows the way to it is another matter.
    let by_router = learned(&[("10.244.1.0/24", &["192.0.2.1"])]);
    let (routes, told) = outcome(&cluster, &by_router, &local(Routes::Both));
    assert_eq!((routes, told), (vec!["10.244.1.0/24 via 192.0.2.1".into()], vec![]));
}

#[test]
fn without_a_kernel_every_node_is_a_neighbour() {
    let local = Local { host: None, ..local(Routes::Both) };
    assert_eq!(outcome(&cluster(), &NOTHING, &local).0, [OF_NODE]);
}

#[test]
fn a_learned_route_takes_the_place_of_the_nodes_own_and_others_are_added() {
    let (routes, told) = both(&[
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
    assert_eq!(told, [] as [&str; 0]);
}

#[test]
fn whose_routes_are_made_is_chosen() {
    let learned = learned(&[("203.0.113.0/24", &["192.0.2.1"])]);
    let of = |routes| outcome(&cluster(), &learned, &local(routes)).0;
    assert_eq!(of(Routes::Nodes), [OF_NODE]);
    assert_eq!(of(Routes::Bgp), ["203.0.113.0/24 via 192.0.2.1"]);
    assert_eq!(of(Routes::Both).len(), 2);
}

#[test]
fn next_hops_that_are_not_on_link_are_left_out_and_without_any_the_node_stands() {
    let far = "198.51.100.1";
    let (routes, _) = both(&[("10.244.1.0/24", &[far, "192.0.2.1", "192.0.2.11"])]);
    assert_eq!(routes, ["10.244.1.0/24 via 192.0.2.1"]);
    let (routes, told) = both(&[
        ("10.244.1.0/24", &[far]),
        ("203.0.113.0/25", &[far]),
        ("203.0.113.128/25", &[far]),
        ("2001:db8::/48", &["fe80::1"]),
        ("2001:db8:1::/48", &["192.0.2.1"]),
    ]);
    assert_eq!(routes, [OF_NODE]);
    assert_eq!(told.len(), 1, "once for all of them: {told:?}");
    let start = "4 routes that BGP brought (203.0.113.0/25…): the next hop is on none";
    assert!(told[0].starts_with(start), "{told:?}");
}

#[test]
fn a_lost_node_that_is_not_ready_gets_no_route_unless_a_peer_knows_one() {
    let mut cluster = cluster();
    let mut learned = learned(&[]);
    learned.lost.insert("192.0.2.12".parse().unwrap());
    let local = local(Routes::Both);
    assert_eq!(outcome(&cluster, &learned, &local).0, [OF_NODE], "it is Ready");
    cluster.nodes.get_mut("b").unwrap().ready = false;
    let (routes, told) = outcome(&cluster, &learned, &local);
    assert!(routes.is_empty() && told[0].contains("its BGP session is down"), "{told:?}");
    let alone = Local { options: Options { routes: Routes::Nodes, ..Options::default() }, ..local };
    assert_eq!(outcome(&cluster, &learned, &alone).0, [OF_NODE], "BGP is not asked");
    learned.routes.insert("10.244.1.0/24".parse().unwrap(), Via::One("192.0.2.1".parse().unwrap()));
    let local = self::local(Routes::Both);
    assert_eq!(outcome(&cluster, &learned, &local).0, ["10.244.1.0/24 via 192.0.2.1"]);
    learned.routes.clear();
    learned.lost.clear();
    assert_eq!(outcome(&cluster, &learned, &local).0, [OF_NODE], "its session was never up");
}

#[test]
fn nothing_that_was_learned_touches_what_this_node_is() {
    let by: &[&str] = &["192.0.2.1"];
    let (routes, told) = both(&[
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
    assert_eq!(routes, [OF_NODE]);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("route to 192.0.2.0/24, which BGP brought: it is the network"));
    assert!(told[1].starts_with("route to 10.244.0.128/25, which BGP brought: it lies in"));
}

#[test]
fn a_route_that_would_cut_a_neighbour_off_is_not_made_and_one_that_holds_the_whole_link_is() {
    let (routes, told) = both(&[
        ("192.0.2.1/32", &["192.0.2.2"]),
        ("192.0.2.12/32", &["192.0.2.1"]),
        ("192.0.2.0/28", &["192.0.2.1"]),
        ("192.0.2.200/32", &["192.0.2.1"]),
        ("192.0.0.0/16", &["192.0.2.1"]),
    ]);
    assert_eq!(routes[1..], ["192.0.0.0/16 via 192.0.2.1", "192.0.2.200/32 via 192.0.2.1"]);
    assert_eq!(told.len(), 1);
    assert!(
        told[0].starts_with("3 routes that BGP brought (192.0.2.0/28…): a next hop"),
        "{told:?}"
    );
    let blind = Local { host: None, ..local(Routes::Both) };
    let wide = learned(&[("192.0.0.0/16", &["192.0.2.1"])]);
    assert!(outcome(&cluster(), &wide, &blind).1[0].contains("cut it off"), "who knows the link?");
}

#[test]
fn an_address_that_a_service_has_here_is_not_routed_away() {
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
    let (routes, told) = outcome(&cluster, &learned, &local);
    assert_eq!(
        routes,
        [OF_NODE, "10.96.0.11/32 via 192.0.2.1"][..].iter().rev().copied().collect::<Vec<_>>()
    );
    assert_eq!(told, [] as [&str; 0]);
    local.options.services = false;
    assert_eq!(outcome(&cluster, &learned, &local).0.len(), 3, "it is served elsewhere");
}

#[test]
fn kube_routers_tunnels_and_a_family_that_is_off_are_left_alone() {
    let learned = learned(&[("10.244.1.0/24", &["192.0.2.1"]), ("2001:db8::/48", &["fd77::1"])]);
    let mut local = local(Routes::Both);
    local.options.ipv6 = false;
    local.host.as_mut().unwrap().tunnels =
        vec![Tunnel { link: "tun-1".into(), to: Some("10.244.1.0/24".parse().unwrap()) }];
    for routes in [Routes::Both, Routes::Bgp] {
        local.options.routes = routes;
        let (routes, told) = outcome(&cluster(), &learned, &local);
        assert!(routes.is_empty() && told.len() == 1, "{routes:?} {told:?}");
    }
}

#[test]
fn no_route_has_more_gateways_than_one_message_can_hold() {
    let hops: Vec<String> = (20..80).map(|i| format!("192.0.2.{i}")).collect();
    let hops: Vec<&str> = hops.iter().map(String::as_str).collect();
    let (routes, _) = both(&[("203.0.113.0/24", &hops)]);
    assert_eq!(routes[1].matches("nexthop").count(), GATEWAYS);
}

#[test]
fn routes_that_change_alone_come_to_what_all_of_them_come_to() {
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
