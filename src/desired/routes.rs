//! Routes to the other nodes' pods: each pod network by way of its node's address.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Unmet;
use crate::{
    cluster::Node,
    state::{Item, TABLE_MAIN},
};

/// The routes to one other node's pods. `on_link` holds the networks of this node's own links;
/// `None` takes every node for a neighbour (no kernel was looked at).
pub fn of(node: &Node, on_link: Option<&[IpNet]>) -> (Vec<Item>, Vec<Unmet>) {
    let (mut items, mut unmet) = (Vec::new(), Vec::new());
    for &to in &node.pod_cidrs {
        let what = || format!("route to {to}, the pods of node {}", node.name);
        match node.addr(to.addr().is_ipv4()) {
            None => unmet.push(Unmet::new(what(), "the node has no address of this family")),
            Some(via) if to.contains(&via) => unmet.push(Unmet::new(
                what(),
                format!("the node's own address {via} lies in it, so the route would cut it off"),
            )),
            Some(via) if !is_on_link(via, on_link) => unmet.push(Unmet::new(
                what(),
                format!("{via} is on none of this node's links, and tunnels are not made by this version"),
            )),
            Some(via) => items.push(Item::Route {
                table: TABLE_MAIN,
                to,
                via: Some(via),
                dev: None,
                src: None,
            }),
        }
    }
    (items, unmet)
}

fn is_on_link(addr: IpAddr, on_link: Option<&[IpNet]>) -> bool {
    on_link.is_none_or(|nets| nets.iter().any(|net| net.contains(&addr) && net.addr() != addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        Node {
            name: "node-2".into(),
            internal_ips: vec!["192.0.2.12".parse().unwrap()],
            pod_cidrs: vec!["10.244.1.0/24".parse().unwrap(), "fd44:1::/64".parse().unwrap()],
            ..Node::default()
        }
    }

    #[test]
    fn a_neighbour_is_the_gateway_to_its_pods_and_a_family_it_lacks_is_unmet() {
        let on_link = ["192.0.2.11/24".parse().unwrap()];
        let (items, unmet) = of(&node(), Some(&on_link));
        assert_eq!(
            items,
            [Item::Route {
                table: TABLE_MAIN,
                to: "10.244.1.0/24".parse().unwrap(),
                via: Some("192.0.2.12".parse().unwrap()),
                dev: None,
                src: None,
            }]
        );
        assert_eq!(unmet.len(), 1);
        assert!(unmet[0].what.contains("fd44:1::/64"));
    }

    #[test]
    fn a_node_that_is_not_on_link_gets_no_route_but_a_line_that_says_so() {
        let on_link = ["198.51.100.1/24".parse().unwrap()];
        let (items, unmet) = of(&node(), Some(&on_link));
        assert!(items.is_empty());
        assert!(unmet[0].why.contains("192.0.2.12 is on none of this node's links"));
    }

    #[test]
    fn without_a_kernel_every_node_is_a_neighbour() {
        assert_eq!(of(&node(), None).0.len(), 1);
    }
}
