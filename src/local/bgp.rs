//! What the flags say of BGP.

use std::net::Ipv4Addr;

use ipnet::IpNet;

use crate::router::Router;

/// Where routes to the other nodes' pods come from (`--routes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routes {
    /// From the Node objects alone.
    Nodes,
    /// From BGP alone.
    Bgp,
    /// From the Node objects, and from BGP what they say nothing of.
    #[default]
    Both,
}

impl Routes {
    /// Whether the Node objects tell of routes.
    pub fn from_nodes(self) -> bool {
        self != Routes::Bgp
    }
}

/// What BGP is told by flags, where it is spoken.
#[derive(Clone, Debug, PartialEq)]
pub struct Bgp {
    /// The AS of all nodes, where they are a full mesh (`--cluster-asn`).
    pub asn: u32,
    /// Whether all nodes are of one AS and speak with each other (`--nodes-full-mesh`).
    pub mesh: bool,
    /// Whether nodes speak with each other at all (`--enable-ibgp`).
    pub inside: bool,
    /// The BGP Identifier (`--router-id`).
    pub id: RouterId,
    /// The port at which this node listens, and the others (`--bgp-port`).
    pub port: u16,
    /// The hold time that routers outside are offered, in seconds (`--bgp-holdtime`).
    pub hold: u16,
    /// For how many seconds routes are to be kept while this node restarts (`--bgp-graceful-restart`);
    /// `None`: not at all.
    pub restart: Option<u16>,
    /// The routers outside (`--peer-router-*`).
    pub routers: Vec<Router>,
    /// How many hops away they may be; 0 and 1: neighbours (`--peer-router-multihop-ttl`).
    pub hops: u8,
    /// Whether nothing is taken from farther away (`--peer-router-ttl-security`).
    pub ttl_security: bool,
    /// What they are told.
    pub advertise: Advertise,
    /// Networks that stand for the ClusterIPs in them (`--advertise-cluster-ip-range`); none: each
    /// ClusterIP stands for itself.
    pub ranges: Vec<IpNet>,
    /// Whether they are always given this node as the next hop (`--override-nexthop`).
    pub next_hop_self: bool,
}

/// What routers outside are told, unless an annotation of a Service says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advertise {
    /// Pod networks (`--advertise-pod-cidr`).
    pub pods: bool,
    /// ClusterIPs (`--advertise-cluster-ip`).
    pub cluster_ips: bool,
    /// External addresses (`--advertise-external-ip`).
    pub external_ips: bool,
    /// Addresses of load balancers (`--advertise-loadbalancer-ip`).
    pub balancer_ips: bool,
}

/// Where the BGP Identifier comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterId {
    /// It is the node's first IPv4 address.
    Addr,
    /// It is a hash of the node's first address: for nodes without IPv4.
    Hash,
    /// It was given.
    Given(Ipv4Addr),
}

impl Bgp {
    /// Whether the flags ask for addresses of Services to be announced.
    pub fn announces_services(&self) -> bool {
        let Advertise { cluster_ips, external_ips, balancer_ips, .. } = self.advertise;
        cluster_ips || external_ips || balancer_ips || !self.ranges.is_empty()
    }
}
