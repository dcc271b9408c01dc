//! A Service: which addresses and ports stand for it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{Keyed, Name};
use crate::state::Protocol;

/// What kinglet keeps of a core/v1 Service. ExternalName and headless Services, and those that
/// belong to another proxy, are kept with no addresses: nothing is programmed for them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// metadata.namespace and metadata.name
    pub name: Name,
    /// spec.clusterIPs, else spec.clusterIP. Empty where a proxy must not serve it: headless,
    /// ExternalName, or labelled `service.kubernetes.io/service-proxy-name` or `…/headless`.
    pub cluster_ips: Vec<IpAddr>,
    /// spec.ports, in order.
    pub ports: Vec<ServicePort>,
    /// Seconds for which spec.sessionAffinity ClientIP holds a client; 0: None.
    pub affinity: u32,
    /// What it asks for that this version does not do, in words (`a NodePort`).
    #[serde(default)]
    pub beyond: Vec<Box<str>>,
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
}

impl Keyed for Service {
    type Key = Name;

    fn key(&self) -> Name {
        self.name.clone()
    }
}
