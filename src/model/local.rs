//! The local node: the options from the command line, and the facts found on the host. Pure data:
//! `cli` fills [`Options`] from the flags, `kernel` fills [`Host`], and `desired` reads both.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use super::bgp::options::{AdvertiseOptions, BgpOptions, RouterId, Routes};
use super::items::{BRIDGE, DUMMY, Protocol};
use crate::collections::{FlatMap, FlatSet};

/// The input of `desired` besides the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// The name of its Node object.
    pub node: Box<str>,
    /// The options from the command line.
    pub options: Options,
    /// The facts about the host. `None` if no kernel is read, for example in `plan --from` for any node.
    pub host: Option<Host>,
}

/// The options that decide which parts of the desired state are computed, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// True if routes to the other nodes' pods are installed (`--run-router`).
    pub router: bool,
    /// True if Services are served (`--run-service-proxy`).
    pub services: bool,
    /// True if the CNI configuration is written (`--enable-cni`). It needs `router` too.
    pub cni: bool,
    /// Path of the CNI configuration file.
    pub cni_conf: Box<str>,
    /// True if the pods get the MTU of the node's link (`--auto-mtu`).
    pub auto_mtu: bool,
    /// True if IPv4 is used.
    pub ipv4: bool,
    /// True if IPv6 is used.
    pub ipv6: bool,
    /// Networks whose IPVS services belong to another program (`--excluded-cidrs`). They are never changed.
    pub excluded: Vec<IpNet>,
    /// True if packets to virtual addresses are dropped except on the ports of Services
    /// (`--ipvs-permit-all`).
    pub guard: bool,
    /// True if all traffic through a Service is masqueraded (`--masquerade-all`).
    pub masquerade_all: bool,
    /// True if traffic from pods to outside of the cluster is masqueraded (`--enable-pod-egress`).
    pub pod_egress: bool,
    /// The addresses of this node on which NodePorts are served.
    pub node_ports: NodePorts,
    /// The networks in which external IPs are allowed (`--service-external-ip-range`); empty if any is.
    pub external: Vec<IpNet>,
    /// Seconds for which a real server that is to be removed may keep its connections; 0 if it is removed
    /// at once.
    pub grace: u64,
    /// True if BGP is used or external peers are configured. Their routes are then only removed by BGP.
    pub peers: bool,
    /// The BGP options; `None` if BGP is not used.
    pub bgp: Option<BgpOptions>,
    /// The source of routes to the other nodes' pods (`--routes`).
    pub routes: Routes,
    /// True for the daemon, which can serve healthCheckNodePorts.
    pub daemon: bool,
    /// The IPVS timeouts in seconds, indexed by [`Timeout`](crate::model::items::Timeout)
    /// (`--service-*-timeout`). 0 keeps the kernel's value.
    pub timeouts: [u32; 3],
}

impl Options {
    /// Returns true if a family is used: IPv4 if `ipv4` is true, otherwise IPv6.
    pub fn family(&self, ipv4: bool) -> bool {
        if ipv4 { self.ipv4 } else { self.ipv6 }
    }

    /// Returns true if Services must be read, either to serve them or to advertise their addresses.
    pub fn reads_services(&self) -> bool {
        self.services || self.bgp.as_ref().is_some_and(BgpOptions::announces_services)
    }

    /// Returns true if our nftables table is needed.
    pub fn table(&self) -> bool {
        self.services || self.router && self.pod_egress
    }

    /// Returns true if an IPVS service on this address belongs to another program.
    pub fn is_excluded(&self, addr: IpAddr) -> bool {
        self.excluded.iter().any(|net| net.contains(&addr))
    }
}

/// The addresses of this node on which NodePorts are served.
#[derive(Clone, Debug, PartialEq)]
pub enum NodePorts {
    /// The first one of each family.
    Primary,
    /// All addresses (`--nodeport-bindon-all-ip`).
    All,
    /// The addresses in these networks (`--nodeport-addresses`).
    Of(Vec<IpNet>),
}

/// The facts found on this node before the desired state is computed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// The links that are up, with their addresses.
    pub links: Vec<HostLink>,
    /// The names of the ports of the pods' bridge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Box<str>>,
    /// The tunnels of kube-router, with the pod networks that are routed through them.
    pub tunnels: Vec<Tunnel>,
    /// The kernel modules whose availability is known. A module that is not in the map may be built in or
    /// absent.
    pub modules: FlatMap<Box<str>, Module>,
    /// The sysctls that influence the desired value of others, by their path below /proc/sys.
    pub sysctls: FlatMap<Box<str>, Box<str>>,
    /// The nftables chains of other programs whose policy is drop, written as nft does.
    #[serde(default)]
    pub closed: Vec<Box<str>>,
    /// The legacy iptables chains whose policy is drop and that have no rule to accept packets with our
    /// mark, each with its program.
    #[serde(default)]
    pub legacy: Vec<Box<str>>,
    /// True if there is a legacy iptables chain whose policy is drop and that accepts our mark.
    #[serde(default)]
    pub passing: bool,
    /// Ports on which a program listens, on all addresses or on one of this node's.
    #[serde(default)]
    pub listens: FlatSet<(Protocol, u16)>,
    /// The text of the existing CNI configuration. `None` if there is no file, or it could not be read.
    pub cni: Option<Box<str>>,
    /// The error, if the existing CNI configuration could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni_unreadable: Option<Box<str>>,
    /// The names of all files in the folder of the CNI configuration.
    pub cni_folder: Vec<Box<str>>,
}

impl Host {
    /// Returns the networks of the node's links, except our dummy link and the pods' bridge.
    pub fn on_link(&self) -> Vec<IpNet> {
        let ours = |l: &&HostLink| *l.name != *DUMMY && *l.name != *BRIDGE;
        self.links.iter().filter(ours).flat_map(|l| l.addrs.iter().copied()).collect()
    }

    /// Returns the link that has an address. `None` if no link has it.
    pub fn link_of(&self, addr: IpAddr) -> Option<&HostLink> {
        self.links.iter().find(|l| l.addrs.iter().any(|net| net.addr() == addr))
    }
}

/// A link that is up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostLink {
    /// Interface name.
    pub name: Box<str>,
    /// The MTU in bytes.
    pub mtu: u32,
    /// Its addresses with their prefix lengths.
    pub addrs: Vec<IpNet>,
}

/// A pod network that kube-router routes through one of its tunnels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Interface name, `tun-` and eleven hexadecimal digits.
    pub link: Box<str>,
    /// The destination of the route; `None` if the tunnel has no route.
    pub to: Option<IpNet>,
}

/// The availability of a kernel module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Module {
    /// Loaded or built in.
    Present,
    /// On disk, not loaded.
    Loadable,
    /// Neither loaded nor on disk, and not built in as far as the kernel reports it.
    Absent,
}
