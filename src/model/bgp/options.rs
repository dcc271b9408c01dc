//! The BGP options from the command line. Pure data: `cli` fills them, and `announce` combines
//! them with the annotations of the Node into the configuration of the speaker.

use std::net::Ipv4Addr;

use ipnet::IpNet;

use super::peer::Router;

/// The source of routes to the other nodes' pods (`--routes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Routes {
    /// Only the Node objects.
    Nodes,
    /// Only BGP.
    Bgp,
    /// Both. A Node's own address is the next hop until BGP has a route to the same podCIDR; then the BGP
    /// route is used. BGP also adds routes to networks that no Node object has.
    #[default]
    Both,
}

impl Routes {
    /// Returns true if routes are derived from the Node objects.
    pub fn from_nodes(self) -> bool {
        self != Routes::Bgp
    }
}

/// The options of the BGP speaker.
#[derive(Clone, Debug, PartialEq)]
pub struct BgpOptions {
    /// The AS number of all nodes, if they are a full mesh (`--cluster-asn`).
    pub asn: u32,
    /// True if all nodes have the same AS number and peer with each other (`--nodes-full-mesh`).
    pub mesh: bool,
    /// True if nodes peer with each other at all (`--enable-ibgp`).
    pub inside: bool,
    /// The source of the BGP Identifier (`--router-id`).
    pub id: RouterId,
    /// The TCP port on which this node and the other nodes listen (`--bgp-port`).
    pub port: u16,
    /// The hold time in seconds that is proposed to external peers (`--bgp-holdtime`).
    pub hold: u16,
    /// The restart time in seconds for which peers are asked to keep our routes while this node restarts
    /// (`--bgp-graceful-restart`, RFC 4724); `None` if they are not asked.
    pub restart: Option<u16>,
    /// The external peers (`--peer-router-*`).
    pub routers: Vec<Router>,
    /// The largest distance of an external peer in hops; 0 and 1 both mean that it must be a direct
    /// neighbour (`--peer-router-multihop-ttl`).
    pub hops: u8,
    /// True if packets from farther away are dropped (`--peer-router-ttl-security`, RFC 5082).
    pub ttl_security: bool,
    /// The addresses that are advertised to external peers.
    pub advertise: AdvertiseOptions,
    /// Networks that are advertised in place of the ClusterIPs in them (`--advertise-cluster-ip-range`);
    /// empty if each ClusterIP is advertised itself.
    pub ranges: Vec<IpNet>,
    /// True if this node is always the next hop in routes to external peers (`--override-nexthop`).
    pub next_hop_self: bool,
}

/// The kinds of addresses that are advertised to external peers. Annotations of a Service override it for
/// that Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdvertiseOptions {
    /// Pod networks are advertised (`--advertise-pod-cidr`).
    pub pods: bool,
    /// ClusterIPs are advertised (`--advertise-cluster-ip`).
    pub cluster_ips: bool,
    /// External IPs are advertised (`--advertise-external-ip`).
    pub external_ips: bool,
    /// Load balancer IPs are advertised (`--advertise-loadbalancer-ip`).
    pub balancer_ips: bool,
}

/// The source of the BGP Identifier (RFC 4271, section 1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterId {
    /// The node's first IPv4 address.
    Addr,
    /// A hash of the node's first address, for nodes without IPv4.
    Hash,
    /// A given value.
    Given(Ipv4Addr),
}

impl BgpOptions {
    /// Returns true if the flags request that addresses of Services are advertised.
    pub fn announces_services(&self) -> bool {
        let AdvertiseOptions { cluster_ips, external_ips, balancer_ips, .. } = self.advertise;
        cluster_ips || external_ips || balancer_ips || !self.ranges.is_empty()
    }
}
