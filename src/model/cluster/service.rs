//! The Service: its addresses, its ports and the options of kube-proxy and kube-router.
//! `api::wire::service` parses it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::name::{Keyed, Name};
use crate::model::items::Protocol;

/// The fields of a core/v1 Service that kinglet uses. A Service that a proxy must not serve
/// (ExternalName, headless, or for another proxy) has no addresses and no ports here, so nothing is
/// programmed for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// metadata.namespace and metadata.name
    pub name: Name,
    /// spec.clusterIPs, or if it is absent spec.clusterIP. Empty if a proxy must not serve it: headless,
    /// ExternalName, or labelled `service.kubernetes.io/service-proxy-name` or `…/headless`.
    pub cluster_ips: Vec<IpAddr>,
    /// spec.externalIPs
    pub external_ips: Vec<IpAddr>,
    /// status.loadBalancer.ingress[].ip if ipMode is not Proxy; empty with the annotation
    /// `kube-router.io/service.skiplbips`.
    pub balancer_ips: Vec<IpAddr>,
    /// spec.ports, in order.
    pub ports: Vec<ServicePort>,
    /// The timeout of spec.sessionAffinity ClientIP in seconds; 0 if sessionAffinity is None.
    pub affinity: u32,
    /// True if spec.internalTrafficPolicy is Local.
    pub internal_local: bool,
    /// True if spec.externalTrafficPolicy is Local, or the annotation `kube-router.io/service.local` is true.
    pub external_local: bool,
    /// spec.loadBalancerSourceRanges, or if it is absent the annotation
    /// `service.beta.kubernetes.io/load-balancer-source-ranges`; empty if any client is
    /// allowed.
    pub source_ranges: Vec<IpNet>,
    /// spec.healthCheckNodePort; 0 if there is none.
    pub health_port: u16,
    /// The annotation `kube-router.io/service.scheduler`: the IPVS scheduler.
    pub scheduler: Option<Box<str>>,
    /// The annotation `kube-router.io/service.schedflags`: flag-1 is 0x08, flag-2 0x10, flag-3 0x20
    /// (`IP_VS_SVC_F_SCHED*`, linux/ip_vs.h).
    pub scheduler_flags: u32,
    /// True if there is an annotation `kube-router.io/service.dsr` (direct server return).
    pub dsr: bool,
    /// Overrides, by annotations, of the addresses that are advertised to external BGP peers.
    #[serde(skip_serializing_if = "ServiceAdvertise::is_silent")]
    pub advertise: ServiceAdvertise,
}

/// The annotations `kube-router.io/service.advertise.…` of a Service. A value replaces the flag of the
/// same kind of address; `None` means that the flag applies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceAdvertise {
    /// `clusterip`
    pub cluster_ips: Option<bool>,
    /// `externalip`
    pub external_ips: Option<bool>,
    /// `loadbalancerip`
    pub balancer_ips: Option<bool>,
}

impl ServiceAdvertise {
    /// Returns true if no such annotation is set.
    pub fn is_silent(&self) -> bool {
        *self == ServiceAdvertise::default()
    }
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServicePort {
    /// The name; it may be empty if there is only one port.
    pub name: Box<str>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port number on the Service's addresses.
    pub port: u16,
    /// The port number on the nodes' addresses (nodePort).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
}

impl Service {
    /// Returns its ClusterIPs, external IPs and load balancer IPs. The nodes' addresses, on which its node
    /// ports are served, are not among them.
    pub fn addrs(&self) -> impl Iterator<Item = IpAddr> {
        [&self.cluster_ips, &self.external_ips, &self.balancer_ips].into_iter().flatten().copied()
    }

    /// Frees the spare capacity of the vectors, which grow by doubling while they are parsed.
    pub(super) fn shrink_to_fit(&mut self) {
        self.cluster_ips.shrink_to_fit();
        self.external_ips.shrink_to_fit();
        self.balancer_ips.shrink_to_fit();
        self.ports.shrink_to_fit();
        self.source_ranges.shrink_to_fit();
    }
}

impl Keyed for Service {
    type Key = Name;

    fn key(&self) -> Name {
        self.name.clone()
    }
}
