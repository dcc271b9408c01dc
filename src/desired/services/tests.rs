//! The items of one Service on a node, by example.

use super::*;
use crate::cluster::{Endpoint, SlicePort};

const NODE: &str = "192.0.2.11";

/// Returns a Service `shop/web` with a NodePort, and a slice with endpoints by address and node.
fn web(endpoints: &[(&str, &str)]) -> (Service, EndpointSlice) {
    let name = Name { namespace: "shop".into(), name: "web".into() };
    let port =
        ServicePort { name: "".into(), protocol: Protocol::Tcp, port: 80, node_port: Some(30080) };
    let service = Service {
        name: name.clone(),
        cluster_ips: vec!["10.96.0.10".parse().unwrap()],
        ports: vec![port],
        ..Service::default()
    };
    let endpoint = |(addr, node): &(&str, &str)| Endpoint {
        addr: addr.parse().unwrap(),
        ready: true,
        serving: true,
        terminating: false,
        node: Some((*node).into()),
        hints: None,
    };
    let slice = EndpointSlice {
        name,
        service: Some("web".into()),
        endpoints: endpoints.iter().map(endpoint).collect(),
        ports: vec![SlicePort { name: "".into(), protocol: Protocol::Tcp, port: 8080 }],
    };
    (service, slice)
}

/// Returns the items of the Service on node-1 as lines of text, and its unmet requests.
fn items_of(service: &Service, slice: &EndpointSlice) -> (Vec<String>, Vec<String>) {
    let node = Node {
        name: "node-1".into(),
        internal_ips: vec![NODE.parse().unwrap()],
        ..Node::default()
    };
    let own: Sorted<IpAddr> = [NODE.parse().unwrap()].into();
    let mut taken = own.clone();
    taken.insert("192.0.2.12".parse().unwrap());
    let place = Place {
        node: &node,
        addrs: vec![NODE.parse().unwrap()],
        node_port_addrs: vec![NODE.parse().unwrap()],
        own,
        own_pods: vec!["10.244.0.0/24".parse().unwrap()],
        excluded: &[],
        external: &[],
        listens: &Sorted::from([(Protocol::Tcp, 22)]),
        schedulers: Some(["rr".into(), "mh".into()].into()),
        table: true,
        daemon: false,
    };
    let (items, unmet) = of(service, &[slice], &place, &mut Claims::new(taken));
    let items: Sorted<Item> = items.into_iter().collect();
    let unmet = unmet.iter().map(|u| format!("{}: {}", u.what, u.why));
    (items.iter().map(ToString::to_string).collect(), unmet.collect())
}

fn has(lines: &[String], line: &str) -> bool {
    lines.iter().any(|l| l.starts_with(line))
}

const BOTH: [(&str, &str); 2] = [("10.244.0.2", "node-1"), ("10.244.1.2", "node-2")];

#[test]
fn a_cluster_ip_and_a_node_port_have_the_same_endpoints() {
    let (service, slice) = web(&BOTH);
    let (lines, unmet) = items_of(&service, &slice);
    for at in ["10.96.0.10:80", "192.0.2.11:30080"] {
        for real in ["10.244.0.2:8080", "10.244.1.2:8080"] {
            assert!(has(&lines, &format!("real tcp {at} -> {real} weight 1")), "{lines:#?}");
        }
    }
    assert!(has(&lines, "addr 10.96.0.10/32") && !has(&lines, "addr 192.0.2.11"));
    assert!(has(&lines, "element vips 10.96.0.10") && !has(&lines, "element vips 192.0.2.11"));
    assert!(has(&lines, "element tcp-ports 30080"), "{lines:#?}");
    assert!(has(&lines, "element loops 10.244.0.2") && !has(&lines, "element loops 10.244.1.2"));
    assert!(unmet.is_empty(), "{unmet:?}");
}

#[test]
fn a_local_external_policy_adds_a_marked_service_for_traffic_from_outside() {
    let (service, slice) = web(&BOTH);
    let (lines, _) = items_of(&Service { external_local: true, ..service }, &slice);
    let marked: Vec<_> = lines.iter().filter(|l| l.starts_with("real mark ")).collect();
    assert_eq!(marked.len(), 1, "{lines:#?}");
    assert!(marked[0].contains("-> 10.244.0.2:8080"), "{marked:?}");
    assert!(has(&lines, "element outside tcp 192.0.2.11:30080 : 0x4b1a"), "{lines:#?}");
    assert!(
        has(&lines, "real tcp 192.0.2.11:30080 -> 10.244.1.2:8080"),
        "for traffic from the cluster"
    );
}

#[test]
fn a_local_policy_drops_without_a_local_endpoint_and_rejects_without_any_endpoint() {
    let (service, slice) = web(&BOTH[1..]);
    let service = Service { external_local: true, internal_local: true, ..service };
    let (lines, _) = items_of(&service, &slice);
    assert!(has(&lines, "element drop tcp 10.96.0.10:80"), "{lines:#?}");
    assert!(has(&lines, "element drop-outside tcp 192.0.2.11:30080"), "{lines:#?}");
    assert!(!has(&lines, "element reject"), "{lines:#?}");
    let (lines, _) = items_of(&service, &EndpointSlice { endpoints: vec![], ..slice });
    assert!(has(&lines, "element reject tcp 10.96.0.10:80"), "{lines:#?}");
    assert!(has(&lines, "element reject tcp 192.0.2.11:30080"), "{lines:#?}");
    assert!(!has(&lines, "element drop"), "{lines:#?}");
}

#[test]
fn an_external_ip_that_is_a_node_address_is_served_by_that_node_only_and_added_to_no_link() {
    let (service, slice) = web(&BOTH);
    let addrs = [NODE, "192.0.2.12"].map(|a| a.parse().unwrap()).to_vec();
    let (lines, unmet) = items_of(&Service { external_ips: addrs, ..service }, &slice);
    assert!(has(&lines, "service tcp 192.0.2.11:80 rr"), "{lines:#?}");
    assert!(!has(&lines, "service tcp 192.0.2.12:80"), "another node serves it");
    assert!(!has(&lines, "addr 192.0.2.") && !has(&lines, "element vips 192.0.2."));
    assert!(unmet.is_empty(), "{unmet:?}");
}

#[test]
fn a_port_on_which_a_program_of_the_node_listens_is_not_served() {
    let (mut service, slice) = web(&BOTH);
    service.external_ips = vec![NODE.parse().unwrap()];
    service.ports[0].port = 22;
    let (lines, unmet) = items_of(&service, &slice);
    assert!(!has(&lines, "service tcp 192.0.2.11:22"), "{lines:#?}");
    assert!(has(&lines, "service tcp 10.96.0.10:22"), "its other addresses are served");
    assert!(unmet[0].contains("a program of this node listens on that port"), "{unmet:?}");
}

#[test]
fn source_ranges_restrict_the_load_balancer_address_only() {
    let (mut service, slice) = web(&BOTH);
    service.balancer_ips = vec!["203.0.113.9".parse().unwrap()];
    service.source_ranges =
        ["10.0.0.0/8", "10.1.0.0/16", "fd00::/8"].map(|n| n.parse().unwrap()).to_vec();
    let (lines, _) = items_of(&service, &slice);
    let ranges: Vec<_> = lines.iter().filter(|l| l.starts_with("element r")).collect();
    assert_eq!(
        ranges,
        [
            "element restricted tcp 203.0.113.9:80",
            "element ranges tcp 203.0.113.9:80 from 10.0.0.0/8"
        ]
    );
}

#[test]
fn an_unavailable_scheduler_is_reported_and_replaced_by_rr() {
    let (service, slice) = web(&BOTH);
    for (asked, got, unmet_count) in [("mh", "mh", 0), ("wrr", "rr", 1), ("best", "rr", 1)] {
        let service = Service { scheduler: Some(asked.into()), ..service.clone() };
        let (lines, unmet) = items_of(&service, &slice);
        assert!(has(&lines, &format!("service tcp 10.96.0.10:80 {got}")), "{asked}: {lines:#?}");
        assert_eq!(unmet.len(), unmet_count, "{asked}: {unmet:?}");
    }
}

#[test]
fn affinity_with_a_local_external_policy_uses_a_hash_scheduler() {
    let (service, slice) = web(&BOTH);
    let service = Service { external_local: true, affinity: 600, ..service };
    let (lines, _) = items_of(&service, &slice);
    let by_mark = lines.iter().find(|l| l.starts_with("service mark ")).unwrap();
    assert!(by_mark.ends_with(" ipv4 mh"), "{by_mark}");
    assert!(has(&lines, "service tcp 192.0.2.11:30080 rr persistent 600 s"), "{lines:#?}");
}

#[test]
fn each_address_and_port_gets_a_mark_of_its_own() {
    let mut claims = Claims::default();
    let at = |port| Virtual { addr: [10, 0, 0, 1].into(), protocol: Protocol::Tcp, port };
    let marks: Sorted<u32> = (1..=5000).map(|port| claims.assign_mark(&at(port))).collect();
    assert_eq!(marks.len(), 5000);
    assert_eq!(Claims::default().assign_mark(&at(7)), Claims::default().assign_mark(&at(7)));
}

#[test]
fn outermost_returns_the_networks_that_are_in_no_other() {
    let mut random = 0x9e37_79b9_u32; // xorshift
    for _ in 0..2000 {
        let mut nets: Vec<IpNet> = Vec::new();
        while nets.len() < 12 {
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let addr = IpAddr::from([10, 0, 0, (random >> 8) as u8]);
            nets.push(IpNet::new(addr, 24 + (random >> 3) as u8 % 9).unwrap());
        }
        nets.push("fd00::/8".parse().unwrap());
        let truncated: Sorted<IpNet> = nets.iter().map(IpNet::trunc).collect();
        let inner = |net: &IpNet| truncated.iter().any(|o| o != net && o.contains(net));
        let expected: Vec<_> = truncated.iter().copied().filter(|net| !inner(net)).collect();
        assert_eq!(outermost(&nets), expected);
    }
}
