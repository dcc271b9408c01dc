//! This node: what it was told, and what it is. Pure data: the flags and `kernel` fill it,
//! `desired` reads it.

mod bgp;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::{
    few::{Few, Sorted},
    state::{BRIDGE, DUMMY, Protocol},
};
pub use bgp::{Advertise, Bgp, RouterId, Routes};

/// What `desired` knows of this node besides the cluster.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// The name of its Node object.
    pub node: Box<str>,
    /// What it was told to do.
    pub options: Options,
    /// What it is; `None` where no kernel is looked at, and any node may be asked for.
    pub host: Option<Host>,
}

/// Which parts of the job are wanted, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Routes to the other nodes' pods (`--run-router`).
    pub router: bool,
    /// Services (`--run-service-proxy`).
    pub services: bool,
    /// The CNI configuration (`--enable-cni`; a part of the router's work).
    pub cni: bool,
    /// Path of the CNI configuration.
    pub cni_conf: Box<str>,
    /// Whether the pods get the MTU of the node's link (`--auto-mtu`).
    pub auto_mtu: bool,
    /// Whether IPv4 is used at all.
    pub ipv4: bool,
    /// Whether IPv6 is used at all.
    pub ipv6: bool,
    /// IPVS services of these networks are a stranger's, whatever the cluster says.
    pub excluded: Vec<IpNet>,
    /// Whether virtual addresses are closed but for the ports of Services (`--ipvs-permit-all`).
    pub guard: bool,
    /// Whether all that comes through a Service is masqueraded (`--masquerade-all`).
    pub masquerade_all: bool,
    /// Whether what pods send out of the cluster is masqueraded (`--enable-pod-egress`).
    pub pod_egress: bool,
    /// At which of this node's addresses NodePorts are served.
    pub node_ports: NodePorts,
    /// The networks that external addresses may be of; empty: any (`--service-external-ip-range`).
    pub external: Vec<IpNet>,
    /// Seconds that a real server which should go may keep its connections; 0: it goes at once.
    pub grace: u64,
    /// Whether BGP peers are configured, whose routes nobody but them may call stale.
    pub peers: bool,
    /// What BGP is told; `None`: it is not spoken.
    pub bgp: Option<Bgp>,
    /// Where routes to the other nodes' pods come from (`--routes`).
    pub routes: Routes,
    /// Whether a daemon is at work, which can answer at healthCheckNodePorts.
    pub daemon: bool,
    /// The timeouts of IPVS by [`crate::state::Timeout`], in seconds; 0: the kernel's own (`--service-*-timeout`).
    pub timeouts: [u32; 3],
}

impl Options {
    /// Whether the family of an address is used.
    pub fn family(&self, ipv4: bool) -> bool {
        if ipv4 { self.ipv4 } else { self.ipv6 }
    }

    /// Whether Services have to be known: to serve them, or to announce their addresses.
    pub fn reads_services(&self) -> bool {
        self.services || self.bgp.as_ref().is_some_and(Bgp::announces_services)
    }

    /// Whether our nftables table is needed.
    pub fn table(&self) -> bool {
        self.services || self.router && self.pod_egress
    }

    /// Whether an IPVS service at an address is none of ours.
    pub fn excludes(&self, addr: IpAddr) -> bool {
        self.excluded.iter().any(|net| net.contains(&addr))
    }
}

/// At which of this node's addresses NodePorts are served.
#[derive(Clone, Debug, PartialEq)]
pub enum NodePorts {
    /// Its first of each family.
    Primary,
    /// All of them (`--nodeport-bindon-all-ip`).
    All,
    /// Those of some networks (`--nodeport-addresses`).
    Of(Vec<IpNet>),
}

/// What was found on this node before anything was decided.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// The links that are up, with their addresses.
    pub links: Vec<HostLink>,
    /// The ports of the pods' bridge.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Box<str>>,
    /// kube-router's tunnels, and the pod networks that are routed through them.
    pub tunnels: Vec<Tunnel>,
    /// Modules by what can be said of them; one that is not named may be built in or absent.
    pub modules: Few<Box<str>, Module>,
    /// The settings on which other settings depend, by their path below /proc/sys.
    pub sysctls: Few<Box<str>, Box<str>>,
    /// The chains of other programs that drop by their policy, as nft writes them.
    #[serde(default)]
    pub closed: Vec<Box<str>>,
    /// The same of the older xtables, with their program, where no rule accepts what ours marks.
    #[serde(default)]
    pub legacy: Vec<Box<str>>,
    /// Whether there are such where one does.
    #[serde(default)]
    pub passing: bool,
    /// Ports on which a program listens at all addresses or at one of this node's.
    #[serde(default)]
    pub listens: Sorted<(Protocol, u16)>,
    /// The CNI configuration that is there.
    pub cni: Option<Box<str>>,
    /// Why the CNI configuration that is there could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni_unreadable: Option<Box<str>>,
    /// The names of all files in its folder.
    pub cni_folder: Vec<Box<str>>,
}

impl Host {
    /// The networks of this node's own links, ours and the pods' left out.
    pub fn on_link(&self) -> Vec<IpNet> {
        let ours = |l: &&HostLink| *l.name != *DUMMY && *l.name != *BRIDGE;
        self.links.iter().filter(ours).flat_map(|l| l.addrs.iter().copied()).collect()
    }

    /// The link that carries an address.
    pub fn link_of(&self, addr: IpAddr) -> Option<&HostLink> {
        self.links.iter().find(|l| l.addrs.iter().any(|net| net.addr() == addr))
    }
}

/// A link that is up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostLink {
    /// Interface name.
    pub name: Box<str>,
    /// In bytes.
    pub mtu: u32,
    /// Its addresses with their prefix lengths.
    pub addrs: Vec<IpNet>,
}

/// A pod network that kube-router routes through one of its tunnels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tunnel {
    /// Interface name, `tun-` and eleven hexadecimal digits.
    pub link: Box<str>,
    /// Where the route leads; `None`: the tunnel has none.
    pub to: Option<IpNet>,
}

/// Whether a kernel module's work can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Module {
    /// Loaded or built in.
    Present,
    /// On disk.
    Loadable,
    /// Neither, and this kernel could tell.
    Absent,
}
