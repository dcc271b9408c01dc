//! A Node: where it is, which pod networks are its own, and what it is annotated with for BGP.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Keyed;
use crate::router::Router;

/// What kinglet keeps of a core/v1 Node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// metadata.name
    pub name: Box<str>,
    /// status.addresses of type InternalIP, in order.
    pub internal_ips: Vec<IpAddr>,
    /// status.addresses of type ExternalIP, in order.
    pub external_ips: Vec<IpAddr>,
    /// The annotations `kube-router.io/pod-cidrs` and `/pod-cidr` first, then spec.podCIDRs, then
    /// spec.podCIDR; without host bits and duplicates.
    pub pod_cidrs: Vec<IpNet>,
    /// The label `topology.kubernetes.io/zone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Box<str>>,
    /// It is being deleted, or the cluster's autoscaler is about to: load balancers should leave it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// status.conditions of type Ready is True; where there is none, it counts as if.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub ready: bool,
    /// What its annotations say of BGP; most Nodes have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp: Option<Box<Bgp>>,
}

/// What annotations of a Node say of BGP (`kube-router.io/…`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bgp {
    /// `node.asn`: its AS, where the nodes are no full mesh.
    pub asn: Option<u32>,
    /// `node.bgp.communities`
    pub communities: Vec<u32>,
    /// `node.bgp.customimportreject`: networks of which nothing is let in.
    pub reject: Vec<IpNet>,
    /// `path-prepend.as` and `path-prepend.repeat-n`
    pub prepend: Option<(u32, u8)>,
    /// `peers`, else `peer.ips` and its fellows: routers outside.
    pub routers: Vec<Router>,
    /// `rr.server`, else `rr.client`
    pub reflector: Option<Reflector>,
    /// `bgp-local-addresses`: at which it listens.
    pub addrs: Vec<IpAddr>,
    /// What could not be read of them.
    pub faults: Vec<Fault>,
}

/// Its part in route reflection (RFC 4456), with the cluster id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reflector {
    /// It passes on to clients what others told it.
    Server(Ipv4Addr),
    /// It speaks with servers alone.
    Client(Ipv4Addr),
}

/// An annotation, or a part of it, that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Its key.
    pub annotation: Box<str>,
    /// What is wrong with it.
    pub why: Box<str>,
}

pub(super) fn yes() -> bool {
    true
}

impl Default for Node {
    fn default() -> Node {
        Node {
            name: Box::default(),
            internal_ips: Vec::new(),
            external_ips: Vec::new(),
            pod_cidrs: Vec::new(),
            zone: None,
            leaving: false,
            ready: true,
            bgp: None,
        }
    }
}

impl Node {
    /// All its addresses.
    pub fn addrs(&self) -> impl Iterator<Item = IpAddr> {
        self.internal_ips.iter().chain(&self.external_ips).copied()
    }

    /// Its address of a family: the first InternalIP, else the first ExternalIP.
    pub fn addr(&self, ipv4: bool) -> Option<IpAddr> {
        self.addrs().find(|a| a.is_ipv4() == ipv4)
    }
}

impl Keyed for Node {
    type Key = Box<str>;

    fn key(&self) -> Box<str> {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_internal_address_of_a_family_counts_and_external_ones_come_after() {
        let node = Node {
            internal_ips: vec!["fd00::1".parse().unwrap()],
            external_ips: vec!["203.0.113.1".parse().unwrap(), "203.0.113.2".parse().unwrap()],
            ..Node::default()
        };
        assert_eq!(node.addr(true), Some("203.0.113.1".parse().unwrap()));
        assert_eq!(node.addr(false), Some("fd00::1".parse().unwrap()));
    }
    #[test]
    fn what_was_written_before_it_had_annotations_and_readiness_still_reads() {
        let old = r#"{"name":"a","internal_ips":[],"external_ips":[],"pod_cidrs":[]}"#;
        let node: Node = crate::json::from_str(old).unwrap();
        assert_eq!(node, Node { name: "a".into(), ..Node::default() });
        assert_eq!(serde_json::to_string(&node).unwrap(), old, "and nothing more is written");
    }

    #[test]
    fn what_it_is_annotated_with_is_written_and_read_back() {
        let router = Router {
            addr: [192, 0, 2, 1].into(),
            asn: 64_513,
            port: 179,
            local: None,
            password: Some(crate::router::Secret::new("s3cret")),
            bfd: None,
        };
        let bgp = Bgp {
            asn: Some(64_512),
            prepend: Some((64_512, 2)),
            routers: vec![router],
            reflector: Some(Reflector::Client([0, 0, 0, 1].into())),
            faults: vec![Fault { annotation: "a".into(), why: "b".into() }],
            ..Bgp::default()
        };
        let node = Node { ready: false, bgp: Some(Box::new(bgp)), ..Node::default() };
        let text = serde_json::to_string(&node).unwrap();
        assert_eq!(crate::json::from_str::<Node>(&text).unwrap(), node);
        assert!(!format!("{node:?}").contains("s3cret"));

        let mut cluster = crate::cluster::Cluster::default();
        cluster.insert(crate::cluster::Object::Node(node));
        cluster.forget_passwords();
        let dumped = serde_json::to_string(&cluster).unwrap();
        assert!(dumped.contains("hidden") && !dumped.contains("s3cret"), "{dumped}");
    }
}
