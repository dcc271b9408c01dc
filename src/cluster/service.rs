//! A Service: which addresses and ports stand for it.

use std::net::IpAddr;

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
    /// status.loadBalancer.ingress[].ip, where ipMode is not Proxy.
    pub balancer_ips: Vec<IpAddr>,
    /// spec.ports, in order.
    pub ports: Vec<ServicePort>,
    /// Seconds for which spec.sessionAffinity ClientIP holds a client; 0: None.
    pub affinity: u32,
    /// spec.internalTrafficPolicy is Local.
    pub internal_local: bool,
    /// spec.externalTrafficPolicy is Local.
    pub external_local: bool,
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

impl Keyed for Service {
    type Key = Name;

    fn key(&self) -> Name {
        self.name.clone()
    }
}
