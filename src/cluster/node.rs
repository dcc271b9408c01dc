//! A Node: where it is, and which pod networks are its own.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Keyed;

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
    /// Whether its condition Ready is not known to be otherwise.
    #[serde(default = "yes", skip_serializing_if = "Clone::clone")]
    pub ready: bool,
}

fn yes() -> bool {
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
            ready: yes(),
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
}
