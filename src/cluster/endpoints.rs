//! EndpointSlices: which addresses may answer for a Service.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Name;
use crate::state::Protocol;

/// What kinglet keeps of an EndpointSlice (or of core Endpoints, which become one slice per subset).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointSlice {
    /// metadata.namespace and metadata.name
    pub name: Name,
    /// The label `kubernetes.io/service-name`; `None`: it belongs to no Service.
    pub service: Option<Box<str>>,
    /// Its endpoints. Slices of addressType FQDN are kept with none.
    pub endpoints: Vec<Endpoint>,
    /// Its ports, with the number that the endpoints of this slice listen on.
    pub ports: Vec<SlicePort>,
}

/// One endpoint: what can answer at one address. What nearly all are is not written: there are many.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// addresses[0]; the others mean nothing to a proxy.
    pub addr: IpAddr,
    /// conditions.ready; absent means yes.
    #[serde(default = "super::node::yes", skip_serializing_if = "Clone::clone")]
    pub ready: bool,
    /// conditions.serving; absent means as `ready` there, and yes where this is written.
    #[serde(default = "super::node::yes", skip_serializing_if = "Clone::clone")]
    pub serving: bool,
    /// conditions.terminating; absent means no.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminating: bool,
    /// nodeName, in v1beta1 `topology["kubernetes.io/hostname"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Box<str>>,
    /// Topology hints, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hints: Option<Box<Hints>>,
}

/// For whom an endpoint is meant (`hints` of discovery.k8s.io/v1).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hints {
    /// forZones[].name
    pub zones: Vec<Box<str>>,
    /// forNodes[].name
    pub nodes: Vec<Box<str>>,
}

/// One port of a slice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlicePort {
    /// Matches the Service's port of this name; empty where it has no name.
    pub name: Box<str>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The number; a slice port without one is not kept.
    pub port: u16,
}

impl EndpointSlice {
    /// Gives back what its lists can do without: a list grows by doubling while it is read.
    pub(super) fn fit(&mut self) {
        self.endpoints.shrink_to_fit();
        self.ports.shrink_to_fit();
    }

    /// The Service that it belongs to.
    pub fn of(&self) -> Option<Name> {
        let (namespace, name) = (self.name.namespace.clone(), self.service.clone()?);
        Some(Name { namespace, name })
    }
}
