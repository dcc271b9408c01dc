//! The Node: its addresses, its pod networks, and its BGP settings from the annotations of kube-router.
//! `api::wire::node` and `api::wire::bgp` parse it.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::name::Keyed;
use crate::model::bgp::peer::Router;

/// The fields of a core/v1 Node that kinglet uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Node {
    /// metadata.name
    pub name: Box<str>,
    /// status.addresses of type InternalIP, in order.
    pub internal_ips: Vec<IpAddr>,
    /// status.addresses of type ExternalIP, in order.
    pub external_ips: Vec<IpAddr>,
    /// The pod networks: the annotations `kube-router.io/pod-cidrs` and `/pod-cidr` first, then
    /// spec.podCIDRs, then spec.podCIDR. Host bits are cleared and duplicates removed.
    pub pod_cidrs: Vec<IpNet>,
    /// The label `topology.kubernetes.io/zone`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<Box<str>>,
    /// True if the Node is being deleted, or the cluster autoscaler is about to delete it. Load balancers
    /// should not send traffic to it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaving: bool,
    /// True if the condition Ready in status.conditions is True, or if there is no such condition.
    #[serde(default = "default_true", skip_serializing_if = "Clone::clone")]
    pub ready: bool,
    /// The BGP settings from its annotations; `None` for most Nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bgp: Option<Box<NodeBgp>>,
}

/// The BGP settings in the annotations `kube-router.io/…` of a Node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeBgp {
    /// `node.asn`: its AS number, if the nodes are not a full mesh.
    pub asn: Option<u32>,
    /// `node.bgp.communities`: the communities (RFC 1997) of the routes that it advertises.
    pub communities: Vec<u32>,
    /// `node.bgp.customimportreject`: networks from which no route is accepted.
    pub reject: Vec<IpNet>,
    /// `path-prepend.as` and `path-prepend.repeat-n`: an AS number and how often it is prepended.
    pub prepend: Option<(u32, u8)>,
    /// `peers`, or if it is absent `peer.ips` and the other `peer.…` annotations: the external peers.
    pub routers: Vec<Router>,
    /// `rr.server`, or if it is absent `rr.client`: its role in route reflection.
    pub reflector: Option<Reflector>,
    /// `bgp-local-addresses`: the addresses on which it listens for BGP.
    pub addrs: Vec<IpAddr>,
    /// The annotations, or parts of them, that could not be parsed.
    pub faults: Vec<AnnotationFault>,
}

/// The role of a node in route reflection, with the cluster id (RFC 4456).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reflector {
    /// A route reflector: it passes routes from its peers on to its clients.
    Server(Ipv4Addr),
    /// A client: among the nodes, it only peers with reflectors.
    Client(Ipv4Addr),
}

/// An annotation, or a part of one, that could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnnotationFault {
    /// The key of the annotation.
    pub annotation: Box<str>,
    /// The error.
    pub why: Box<str>,
}

/// The serde default of fields that are usually true.
pub(super) fn default_true() -> bool {
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
    /// Returns all its addresses, the internal ones first.
    pub fn addrs(&self) -> impl Iterator<Item = IpAddr> {
        self.internal_ips.iter().chain(&self.external_ips).copied()
    }

    /// Returns its address of a family (IPv4 if `ipv4` is true): the first InternalIP, or if there is none
    /// the first ExternalIP. `None` if it has neither.
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
    fn the_address_of_a_family_is_the_first_internal_one_or_else_the_first_external_one() {
        let node = Node {
            internal_ips: vec!["fd00::1".parse().unwrap()],
            external_ips: vec!["203.0.113.1".parse().unwrap(), "203.0.113.2".parse().unwrap()],
            ..Node::default()
        };
        assert_eq!(node.addr(true), Some("203.0.113.1".parse().unwrap()));
        assert_eq!(node.addr(false), Some("fd00::1".parse().unwrap()));
    }

    #[test]
    fn a_node_of_an_old_snapshot_parses_and_default_fields_are_not_serialized() {
        let old = r#"{"name":"a","internal_ips":[],"external_ips":[],"pod_cidrs":[]}"#;
        let node: Node = crate::codec::json::from_str(old).unwrap();
        assert_eq!(node, Node { name: "a".into(), ..Node::default() });
        assert_eq!(serde_json::to_string(&node).unwrap(), old, "default fields are not serialized");
    }

    #[test]
    fn bgp_annotations_read_back_and_passwords_are_hidden_in_debug_and_dump() {
        let router = Router {
            addr: [192, 0, 2, 1].into(),
            asn: 64_513,
            port: 179,
            local: None,
            password: Some(crate::model::bgp::peer::Secret::new("s3cret")),
            bfd: None,
        };
        let bgp = NodeBgp {
            asn: Some(64_512),
            prepend: Some((64_512, 2)),
            routers: vec![router],
            reflector: Some(Reflector::Client([0, 0, 0, 1].into())),
            faults: vec![AnnotationFault { annotation: "a".into(), why: "b".into() }],
            ..NodeBgp::default()
        };
        let node = Node { ready: false, bgp: Some(Box::new(bgp)), ..Node::default() };
        let text = serde_json::to_string(&node).unwrap();
        assert_eq!(crate::codec::json::from_str::<Node>(&text).unwrap(), node);
        assert!(!format!("{node:?}").contains("s3cret"));

        let mut cluster = crate::model::cluster::Cluster::default();
        cluster.insert(crate::model::cluster::Object::Node(node));
        cluster.forget_passwords();
        let dumped = serde_json::to_string(&cluster).unwrap();
        assert!(dumped.contains("hidden") && !dumped.contains("s3cret"), "{dumped}");
    }
}
