use super::*;
use crate::{
    cluster::{Advertise, Endpoint, EndpointSlice, Name, Object, Service, SlicePort, node::Fault},
    few::Sorted,
    local::{HostLink, Options},
    router::{Router, Secret, Told},
    state::Protocol,
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn ips(text: &str) -> Vec<IpAddr> {
    text.split_whitespace().map(ip).collect()
}

fn node(name: &str, addrs: &str, pods: &str, notes: Notes) -> Object {
    Object::Node(Node {
        name: name.into(),
        internal_ips: ips(addrs),
        pod_cidrs: pods.split_whitespace().map(|net| net.parse().unwrap()).collect(),
        bgp: (notes != Notes::default()).then(|| Box::new(notes)),
        ..Node::default()
    })
}

/// Node a, which is ours, and what else there is.
fn cluster(notes: Notes, others: impl IntoIterator<Item = Object>) -> Cluster {
    let mut cluster = Cluster::default();
    cluster.insert(node("a", "192.0.2.11 fd00::11", "10.244.0.0/24 fd44::/64", notes));
    others.into_iter().for_each(|object| cluster.insert(object));
    cluster
}

fn plain(name: &str, last: u8) -> Object {
    node(
        name,
        &format!("192.0.2.{last} fd00::{last}"),
        &format!("10.244.{last}.0/24"),
        Notes::default(),
    )
}

fn local(told: Bgp) -> Local {
    let options = Options { bgp: Some(told), ..Options::default() };
    Local { node: "a".into(), options, host: None }
}

fn router(addr: &str, asn: &str) -> Router {
    Router::read(Told { addr, asn, ..Told::default() }).unwrap()
}

/// With a router outside.
fn outside() -> Bgp {
    Bgp { routers: vec![router("192.0.2.1", "64513")], ..Bgp::default() }
}

fn of(cluster: &Cluster, local: &Local) -> (Config, Vec<String>) {
    let (config, unmet) = config(cluster, local);
    (config.unwrap(), unmet.into_iter().map(|u| format!("{}: {}", u.what, u.why)).collect())
}

fn names(config: &Config) -> Vec<String> {
    let name =
        |(addr, peer): (&IpAddr, &Peer)| format!("{} {addr}", peer.node.as_deref().unwrap_or("-"));
    config.peers.iter().map(name).collect()
}

fn nets(nets: &Sorted<ipnet::IpNet>) -> Vec<String> {
    nets.iter().map(ToString::to_string).collect()
}

#[test]
fn where_bgp_is_not_spoken_or_the_node_not_known_nothing_is_told() {
    let mut local = local(Bgp::default());
    assert_eq!(config(&Cluster::default(), &local), (None, vec![]));
    local.options.bgp = None;
    assert_eq!(config(&cluster(Notes::default(), []), &local), (None, vec![]));
}

#[test]
fn without_flags_all_nodes_are_a_mesh_of_one_as_and_tell_each_other_of_their_pods() {
    let cluster = cluster(Notes::default(), [plain("b", 12), plain("c", 13)]);
    let (got, unmet) = of(&cluster, &local(Bgp::default()));
    assert_eq!(unmet, [""; 0]);
    let own = Own {
        asn: 64_512,
        id: [192, 0, 2, 11].into(),
        addrs: ips("192.0.2.11 fd00::11"),
        port: 179,
        families: Family::ALL.into(),
        cluster: None,
        restart: None,
    };
    assert_eq!(got.own, own);
    assert_eq!(names(&got), ["b 192.0.2.12", "c 192.0.2.13"]);
    let peer = Peer {
        node: Some("b".into()),
        asn: 64_512,
        port: 179,
        local: Some(ip("192.0.2.11")),
        password: None,
        distance: Distance::Anywhere,
        hold: 90,
        client: false,
        bfd: None,
        passive: false,
    };
    assert_eq!(*got.peers.get(&ip("192.0.2.12")).unwrap(), peer);
    assert_eq!(nets(&got.origin.pods), ["10.244.0.0/24", "fd44::/64"]);
    assert_eq!(nets(&got.import.own), ["10.244.0.0/24", "fd44::/64"]);
    let export = Export { pods_inside: true, pods_outside: true, ..Export::default() };
    assert_eq!((got.export, got.origin.services.len()), (export, 0));
}

#[test]
fn flags_and_annotations_say_who_it_is_and_what_is_done_to_what_goes_out() {
    let notes = Notes {
        communities: vec![7],
        reject: vec!["10.0.0.0/8".parse().unwrap()],
        prepend: Some((64_600, 2)),
        ..Notes::default()
    };
    let mut told = Bgp {
        asn: 64_600,
        id: RouterId::Given([9, 9, 9, 9].into()),
        port: 1790,
        restart: Some(120),
        next_hop_self: true,
        ..Bgp::default()
    };
    told.advertise.pods = false;
    let cluster = cluster(notes, [plain("b", 12)]);
    let (got, _) = of(&cluster, &local(told));
    assert_eq!((got.own.asn, got.own.id, got.own.port), (64_600, [9, 9, 9, 9].into(), 1790));
    assert_eq!(got.own.restart, Some(120));
    let peer = got.peers.get(&ip("192.0.2.12")).unwrap();
    assert_eq!((peer.asn, peer.port), (64_600, 1790));
    let export = Export {
        pods_inside: true,
        pods_outside: false,
        communities: vec![7],
        prepend: Some((64_600, 2)),
        next_hop_self: true,
    };
    assert_eq!(got.export, export);
    assert_eq!(got.import.reject, ["10.0.0.0/8".parse().unwrap()]);
}

#[test]
fn a_node_without_ipv4_needs_a_router_id_and_one_can_be_made() {
    let mut cluster = Cluster::default();
    cluster.insert(node("a", "fd00::11", "fd44::/64", Notes::default()));
    let mut local = local(Bgp::default());
    let (none, unmet) = config(&cluster, &local);
    assert!(none.is_none() && unmet[0].why.ends_with("set --router-id=generate"), "{unmet:?}");
    local.options.bgp = Some(Bgp { id: RouterId::Hash, ..Bgp::default() });
    let (got, _) = of(&cluster, &local);
    assert_eq!(got.own.families, [Family::Ipv6].into());
    assert_eq!(got.own.id, hashed(ip("fd00::11")));
}

#[test]
fn the_hash_is_fnv_1a_over_the_sixteen_bytes_that_go_keeps() {
    // Worked out by hand's longer way: one byte after the other.
    let mut want = 0x811c_9dc5_u32;
    for byte in [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 11] {
        want ^= byte;
        want = want.wrapping_mul(16_777_619);
    }
    assert_eq!(hashed(ip("192.0.2.11")), Ipv4Addr::from(want));
    assert_ne!(hashed(ip("192.0.2.11")), hashed(ip("192.0.2.12")));
}

#[test]
fn without_a_mesh_a_node_speaks_with_those_of_its_own_as() {
    let with = |asn| Notes { asn: Some(asn), ..Notes::default() };
    let others = || {
        [
            node("b", "192.0.2.12", "", with(64_600)),
            node("c", "192.0.2.13", "", with(64_601)),
            plain("d", 14),
        ]
    };
    let local = local(Bgp { mesh: false, asn: 64_999, ..Bgp::default() });
    let (got, unmet) = of(&cluster(with(64_600), others()), &local);
    assert_eq!(
        (got.own.asn, names(&got), unmet.len()),
        (64_600, vec!["b 192.0.2.12".to_owned()], 0)
    );
    assert_eq!(got.peers.get(&ip("192.0.2.12")).unwrap().asn, 64_600);
    let (none, unmet) = config(&cluster(Notes::default(), others()), &local);
    assert!(none.is_none() && unmet[0].why.contains("kube-router.io/node.asn"), "{unmet:?}");
}

#[test]
fn without_ibgp_no_node_is_spoken_with_and_routers_outside_are() {
    let local = local(Bgp { inside: false, ..outside() });
    let (got, _) = of(&cluster(Notes::default(), [plain("b", 12)]), &local);
    assert_eq!(names(&got), ["- 192.0.2.1"]);
    assert!(!got.export.pods_inside && got.export.pods_outside);
}

#[test]
fn clients_of_reflectors_speak_with_servers_alone_and_servers_with_all() {
    let id = Ipv4Addr::new(0, 0, 0, 1);
    let with = |reflector| Notes { reflector, ..Notes::default() };
    let (server, client) = (Some(Reflector::Server(id)), Some(Reflector::Client(id)));
    let others = || {
        [
            node("c", "192.0.2.13", "", with(client)),
            node("n", "192.0.2.14", "", with(None)),
            node("s", "192.0.2.15", "", with(server)),
        ]
    };
    for (ours, speaks, clients, cluster_id) in [
        (client, vec!["s 192.0.2.15"], 0, None),
        (None, vec!["n 192.0.2.14", "s 192.0.2.15"], 0, None),
        (server, vec!["c 192.0.2.13", "n 192.0.2.14", "s 192.0.2.15"], 1, Some(id)),
    ] {
        let (got, _) = of(&cluster(with(ours), others()), &local(Bgp::default()));
        assert_eq!(
            (names(&got), got.own.cluster),
            (speaks.iter().map(ToString::to_string).collect(), cluster_id)
        );
        assert_eq!(got.peers.values().filter(|peer| peer.client).count(), clients, "{ours:?}");
    }
}

#[test]
fn a_node_is_spoken_with_over_ipv4_where_both_have_it_and_else_over_ipv6() {
    let others = [
        node("b", "fd00::12 192.0.2.12", "", Notes::default()),
        node("c", "fd00::13", "", Notes::default()),
    ];
    let mut cluster = cluster(Notes::default(), others);
    let mut local = local(Bgp::default());
    let (got, _) = of(&cluster, &local);
    assert_eq!(names(&got), ["b 192.0.2.12", "c fd00::13"]);
    assert_eq!(got.peers.get(&ip("fd00::13")).unwrap().local, Some(ip("fd00::11")));
    local.options.ipv6 = false;
    let (got, unmet) = of(&cluster, &local);
    assert_eq!(
        (names(&got), nets(&got.origin.pods)),
        (vec!["b 192.0.2.12".to_owned()], vec!["10.244.0.0/24".to_owned()])
    );
    assert_eq!(
        unmet,
        ["BGP with node c: it has no address of a family that this node speaks BGP over"]
    );
    local.options = Options { ipv4: false, bgp: Some(Bgp::default()), ..Options::default() };
    cluster.nodes.remove("c");
    let (got, _) = of(&cluster, &local);
    assert_eq!((names(&got), got.own.id), (vec!["b fd00::12".to_owned()], [192, 0, 2, 11].into()));
}

#[test]
fn two_nodes_with_one_address_are_one_peer_and_ours_is_none() {
    let others = [plain("b", 12), plain("c", 12), plain("d", 11)];
    let (got, unmet) = of(&cluster(Notes::default(), others), &local(Bgp::default()));
    assert_eq!(names(&got), ["b 192.0.2.12"]);
    assert_eq!(
        unmet,
        [
            "BGP with node c: node b has the same address 192.0.2.12",
            "BGP with node d: its address 192.0.2.11 is this node's"
        ]
    );
}

#[test]
fn an_address_that_no_link_here_has_is_not_spoken_from() {
    let mut cluster = cluster(Notes::default(), [plain("b", 12)]);
    cluster.nodes.get_mut("a").unwrap().external_ips = ips("203.0.113.11");
    let mut local = local(Bgp::default());
    let link = |addr: &str| HostLink {
        name: "eth0".into(),
        mtu: 1500,
        addrs: vec![addr.parse().unwrap()],
    };
    local.host = Some(Host { links: vec![link("192.0.2.11/24")], ..Host::default() });
    let (got, unmet) = of(&cluster, &local);
    assert_eq!((got.own.addrs, unmet.len()), (ips("192.0.2.11"), 0));
    local.host = Some(Host { links: vec![link("198.51.100.1/24")], ..Host::default() });
    let (none, unmet) = config(&cluster, &local);
    assert!(none.is_none() && unmet[0].why.contains("no address to speak from"), "{unmet:?}");
}

#[test]
fn local_addresses_of_an_annotation_take_the_place_of_the_nodes() {
    let notes = Notes { addrs: ips("198.51.100.11"), ..Notes::default() };
    let told = outside();
    let (got, unmet) = of(&cluster(notes, [plain("b", 12)]), &local(told));
    assert_eq!((got.own.addrs, got.own.families), (ips("198.51.100.11"), [Family::Ipv4].into()));
    assert_eq!(
        got.peers.get(&ip("192.0.2.12")).unwrap().local,
        Some(ip("192.0.2.11")),
        "nodes know it by that"
    );
    assert_eq!(got.peers.get(&ip("192.0.2.1")).unwrap().local, Some(ip("198.51.100.11")));
    assert_eq!(nets(&got.origin.pods), ["10.244.0.0/24"]);
    assert!(unmet.len() == 1 && unmet[0].starts_with("BGP routes of IPv6: "), "{unmet:?}");
}

#[test]
fn routers_outside_are_the_flags_and_else_the_annotations() {
    let told = Told {
        addr: "192.0.2.2",
        asn: "64514",
        port: "1790",
        local: "192.0.2.99",
        password: "czNjcmV0",
        bfd: None,
    };
    let notes = Notes { routers: vec![Router::read(told).unwrap()], ..Notes::default() };
    let (got, unmet) =
        of(&cluster(notes.clone(), []), &local(Bgp { hops: 3, hold: 30, ..Bgp::default() }));
    let peer = Peer {
        node: None,
        asn: 64_514,
        port: 1790,
        local: Some(ip("192.0.2.99")),
        password: Some(Secret::new("s3cret")),
        distance: Distance::Hops(3),
        hold: 30,
        client: false,
        bfd: None,
        passive: false,
    };
    assert_eq!((got.peers.get(&ip("192.0.2.2")).unwrap(), unmet.len()), (&peer, 0));
    let (got, unmet) = of(&cluster(notes, []), &local(outside()));
    assert_eq!(names(&got), ["- 192.0.2.1"]);
    assert_eq!(got.peers.get(&ip("192.0.2.1")).unwrap().local, Some(ip("192.0.2.11")));
    let want = "the 1 BGP peers that node a is annotated with: --peer-router-ips takes their place, as in kube-router";
    assert_eq!(unmet, [want]);
}

#[test]
fn a_router_outside_at_a_nodes_address_counts_and_this_node_is_none_of_its_own() {
    let routers = vec![
        router("192.0.2.12", "64512"),
        router("192.0.2.11", "64512"),
        router("fd00::99", "64512"),
    ];
    let mut local = local(Bgp { routers, ..Bgp::default() });
    local.options.ipv6 = false;
    let (got, unmet) = of(&cluster(Notes::default(), [plain("b", 12)]), &local);
    assert_eq!(names(&got), ["- 192.0.2.12"]);
    assert_eq!(
        unmet,
        [
            "BGP with router 192.0.2.11: it is this node",
            "BGP with router fd00::99: this node has no address of its family that BGP is spoken from"
        ]
    );
}

#[test]
fn broken_annotations_are_told_by_the_node_that_has_them_and_by_no_other() {
    let broken = || Notes {
        faults: vec![Fault {
            annotation: "kube-router.io/peers".into(),
            why: "it is no list".into(),
        }],
        ..Notes::default()
    };
    let (_, unmet) = of(&cluster(broken(), []), &local(Bgp::default()));
    assert_eq!(unmet, ["the annotation kube-router.io/peers of node a: it is no list"]);
    let other = node("b", "192.0.2.12", "", broken());
    let (got, unmet) = of(&cluster(Notes::default(), [other]), &local(Bgp::default()));
    assert_eq!((unmet.len(), got.peers.len()), (0, 1));
}

fn service(name: &str, change: impl FnOnce(&mut Service)) -> Object {
    let mut service = Service {
        name: Name { namespace: "shop".into(), name: name.into() },
        cluster_ips: ips("10.96.0.10"),
        external_ips: ips("203.0.113.10"),
        balancer_ips: ips("198.51.100.10"),
        ..Service::default()
    };
    change(&mut service);
    Object::Service(service)
}

fn told(cluster_ips: bool, external_ips: bool, balancer_ips: bool) -> Local {
    let mut told = outside();
    told.advertise =
        crate::local::Advertise { pods: true, cluster_ips, external_ips, balancer_ips };
    local(told)
}

fn announced(local: &Local, objects: impl IntoIterator<Item = Object>) -> Vec<String> {
    nets(&of(&cluster(Notes::default(), objects), local).0.origin.services)
}

#[test]
fn each_flag_announces_its_kind_of_address() {
    for (flags, want) in [
        ((false, false, false), vec![]),
        ((true, false, false), vec!["10.96.0.10/32"]),
        ((false, true, false), vec!["203.0.113.10/32"]),
        ((false, false, true), vec!["198.51.100.10/32"]),
        ((true, true, true), vec!["10.96.0.10/32", "198.51.100.10/32", "203.0.113.10/32"]),
    ] {
        let local = told(flags.0, flags.1, flags.2);
        assert_eq!(announced(&local, [service("web", |_| ())]), want, "{flags:?}");
    }
}

#[test]
fn an_annotation_of_the_service_wins_over_the_flags() {
    let says = |cluster, balancer| {
        service("web", |s| {
            s.advertise =
                Advertise { cluster_ips: cluster, balancer_ips: balancer, ..Advertise::default() };
        })
    };
    let (all, none) = (told(true, true, true), told(false, false, false));
    assert_eq!(announced(&all, [says(Some(false), Some(false))]), ["203.0.113.10/32"]);
    assert_eq!(announced(&none, [says(Some(true), None)]), ["10.96.0.10/32"]);
    assert_eq!(announced(&none, [says(None, Some(true))]), ["198.51.100.10/32"]);
}

#[test]
fn without_a_router_outside_or_services_nothing_of_them_is_told() {
    let mut alone = told(true, true, true);
    alone.options.bgp.as_mut().unwrap().routers.clear();
    let (got, _) = of(&cluster(Notes::default(), [service("web", |_| ())]), &alone);
    assert_eq!(nets(&got.import.own), ["10.244.0.0/24", "fd44::/64"]);
    assert!(got.origin.services.is_empty());
    let mut unread = told(false, false, false);
    unread.options.services = false;
    let annotated = service("web", |s| s.advertise.cluster_ips = Some(true));
    assert_eq!(announced(&unread, [annotated]), [""; 0]);
    let mut router_alone = told(true, false, false);
    router_alone.options.services = false;
    assert_eq!(announced(&router_alone, [service("web", |_| ())]), ["10.96.0.10/32"]);
}

#[test]
fn all_addresses_of_services_are_kept_out_whether_they_are_announced_or_not() {
    let (got, _) =
        of(&cluster(Notes::default(), [service("web", |_| ())]), &told(true, false, false));
    assert_eq!(
        nets(&got.import.own),
        ["10.96.0.10/32", "10.244.0.0/24", "198.51.100.10/32", "203.0.113.10/32", "fd44::/64"]
    );
}

/// An endpoint of shop/web on a node: ready, and terminating.
fn slice(addr: &str, node: &str, ready: bool, terminating: bool) -> Object {
    Object::EndpointSlice(EndpointSlice {
        name: Name { namespace: "shop".into(), name: "web-1".into() },
        service: Some("web".into()),
        endpoints: vec![Endpoint {
            addr: ip(addr),
            ready,
            serving: true,
            terminating,
            node: Some(node.into()),
            hints: None,
        }],
        ports: vec![SlicePort { name: "".into(), protocol: Protocol::Tcp, port: 80 }],
    })
}

#[test]
fn an_address_with_a_local_policy_needs_a_ready_endpoint_of_its_family_here() {
    let all = told(true, true, true);
    let both = |s: &mut Service| {
        s.internal_local = true;
        s.external_local = true;
        s.cluster_ips = ips("10.96.0.10 fd96::10");
    };
    let (four, six) = (["10.96.0.10/32", "198.51.100.10/32", "203.0.113.10/32"], ["fd96::10/128"]);
    for (endpoint, want) in [
        (slice("10.244.0.5", "a", true, false), &four[..]),
        (slice("fd44::5", "a", true, false), &six[..]),
        (slice("10.244.12.5", "b", true, false), &[]),
        (slice("10.244.0.5", "a", false, false), &[]),
        (slice("10.244.0.5", "a", false, true), &[]),
    ] {
        let text = format!("{endpoint:?}");
        assert_eq!(announced(&all, [service("web", both), endpoint]), want, "{text}");
    }
    let inside = service("web", |s| s.internal_local = true);
    assert_eq!(announced(&all, [inside]), four[1..], "each policy is for its own addresses");
    let outside = service("web", |s| s.external_local = true);
    assert_eq!(announced(&all, [outside]), four[..1]);
}

#[test]
fn what_no_service_may_have_or_nobody_serves_is_not_announced() {
    let mut all = told(true, true, true);
    let headless = service("web", |s| s.cluster_ips.clear());
    assert_eq!(announced(&all, [headless]), [""; 0]);
    let odd = |s: &mut Service| {
        s.cluster_ips = ips("10.96.0.10 10.97.0.10");
        s.external_ips = ips("192.0.2.11 192.0.2.12 127.0.0.1 203.0.113.10 203.0.114.10");
        s.balancer_ips.clear();
    };
    all.options.excluded = vec!["10.97.0.0/16".parse().unwrap()];
    all.options.external = vec!["203.0.113.0/24".parse().unwrap()];
    let got = announced(&all, [service("web", odd), plain("b", 12)]);
    assert_eq!(got, ["10.96.0.10/32", "203.0.113.10/32"]);
}

#[test]
fn a_range_stands_for_the_clusterips_in_it_but_for_those_that_differ_from_node_to_node() {
    let mut local = told(false, false, false);
    let bgp = local.options.bgp.as_mut().unwrap();
    bgp.ranges = vec!["10.96.0.0/16".parse().unwrap(), "fd96::/112".parse().unwrap()];
    let of = |name: &str, addr: &str, local: bool| {
        service(name, |s| {
            s.cluster_ips = ips(addr);
            s.internal_local = local;
        })
    };
    let objects = || {
        [
            of("dns", "10.96.0.20", false),
            of("far", "10.99.0.1", false),
            of("web", "10.96.0.30", true),
            slice("10.244.0.5", "a", true, false),
        ]
    };
    let want = ["10.96.0.0/16", "10.96.0.30/32", "10.99.0.1/32", "fd96::/112"];
    assert_eq!(announced(&local, objects()), want);
    local.options.ipv6 = false;
    assert_eq!(announced(&local, objects()), want[..3]);
    assert_eq!(announced(&local, []), want[..1], "also before any Service is known");
}
