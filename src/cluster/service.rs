//! A Service: which addresses and ports stand for it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{Keyed, Name};
use crate::state::Protocol;

/// What kinglet keeps of a core/v1 Service. Those that a proxy must not serve (ExternalName, headless,
/// or of another proxy) are kept with no addresses and no ports: nothing is programmed for them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// metadata.namespace and metadata.name
    pub name: Name,
    /// spec.clusterIPs, else spec.clusterIP. Empty where a proxy must not serve it: headless,
    /// ExternalName, or labelled `service.kubernetes.io/service-proxy-name` or `…/headless`.
    pub cluster_ips: Vec<IpAddr>,
    /// spec.externalIPs
    pub external_ips: Vec<IpAddr>,
    /// status.loadBalancer.ingress[].ip, where ipMode is not Proxy; none with the annotation
    /// `kube-router.io/service.skiplbips`.
    pub balancer_ips: Vec<IpAddr>,
    /// spec.ports, in order.
    pub ports: Vec<ServicePort>,
    /// Seconds for which spec.sessionAffinity ClientIP holds a client; 0: None.
    pub affinity: u32,
    /// spec.internalTrafficPolicy is Local.
    pub internal_local: bool,
    /// spec.externalTrafficPolicy is Local, or the annotation `kube-router.io/service.local` is true.
    pub external_local: bool,
    /// spec.loadBalancerSourceRanges, else the annotation
    /// `service.beta.kubernetes.io/load-balancer-source-ranges`; empty: everybody may ask.
    pub source_ranges: Vec<IpNet>,
    /// spec.healthCheckNodePort; 0: none.
    pub health_port: u16,
    /// The annotation `kube-router.io/service.scheduler`.
    pub scheduler: Option<Box<str>>,
    /// The annotation `kube-router.io/service.schedflags`: flag-1 is 0x08, flag-2 0x10, flag-3 0x20
    /// (`IP_VS_SVC_F_SCHED*`, linux/ip_vs.h).
    pub scheduler_flags: u32,
    /// The annotation `kube-router.io/service.dsr` is there.
    pub dsr: bool,
    /// Whether routers outside are told of its addresses, where annotations say so.
    #[serde(skip_serializing_if = "Advertise::is_silent")]
    pub advertise: Advertise,
}

/// What a Service's annotations `kube-router.io/service.advertise.…` say in place of the flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Advertise {
    /// `clusterip`
    pub cluster_ips: Option<bool>,
    /// `externalip`
    pub external_ips: Option<bool>,
    /// `loadbalancerip`
    pub balancer_ips: Option<bool>,
}

impl Advertise {
    /// Whether they say nothing.
    pub fn is_silent(&self) -> bool {
        *self == Advertise::default()
    }
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServicePort {
    /// Empty where there is only one.
    pub name: Box<str>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port at the Service's addresses.
    pub port: u16,
    /// The port at the nodes' addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
}

impl Service {
    /// Its addresses, but for those of its node ports.
    pub fn addrs(&self) -> impl Iterator<Item = IpAddr> {
        [&self.cluster_ips, &self.external_ips, &self.balancer_ips].into_iter().flatten().copied()
    }

    /// Gives back what its lists can do without: a list grows by doubling while it is read.
    pub(super) fn fit(&mut self) {
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
