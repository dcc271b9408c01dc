//! The EndpointSlice: the addresses that serve a Service, and their ports. Fields follow
//! discovery.k8s.io/v1; `api::wire::endpoints` also maps v1beta1 and core Endpoints to it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::Name;
use crate::model::items::Protocol;

/// The fields of an EndpointSlice that kinglet uses. Core Endpoints become one slice per subset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointSlice {
    /// metadata.namespace and metadata.name
    pub name: Name,
    /// The label `kubernetes.io/service-name`; `None` if the slice belongs to no Service.
    pub service: Option<Box<str>>,
    /// Its endpoints; empty if addressType is FQDN.
    pub endpoints: Vec<Endpoint>,
    /// Its ports, with the numbers on which the endpoints of this slice listen.
    pub ports: Vec<SlicePort>,
}

/// An endpoint: one address that serves. Fields with their usual value are not serialized, because a
/// cluster has many endpoints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// `addresses[0]`. The API defines no meaning for further addresses, and a proxy ignores them.
    pub addr: IpAddr,
    /// conditions.ready; true if absent.
    #[serde(default = "super::node::default_true", skip_serializing_if = "Clone::clone")]
    pub ready: bool,
    /// conditions.serving. If absent in the API, it equals `ready`; if absent in a snapshot or dump, it is
    /// true.
    #[serde(default = "super::node::default_true", skip_serializing_if = "Clone::clone")]
    pub serving: bool,
    /// conditions.terminating; false if absent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminating: bool,
    /// nodeName; in v1beta1 `topology["kubernetes.io/hostname"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Box<str>>,
    /// hints; `None` if there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hints: Option<Box<Hints>>,
}

/// The topology hints of an endpoint (`hints` in discovery.k8s.io/v1): the clients that should use it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hints {
    /// forZones[].name
    pub zones: Vec<Box<str>>,
    /// forNodes[].name
    pub nodes: Vec<Box<str>>,
}

/// A port of a slice.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SlicePort {
    /// The name, equal to that of the Service's port; empty if the port has no name.
    pub name: Box<str>,
    /// The transport protocol.
    pub protocol: Protocol,
    /// The port number. A port without a number is left out.
    pub port: u16,
}

impl EndpointSlice {
    /// Frees the spare capacity of the vectors, which grow by doubling while they are parsed.
    pub(super) fn shrink_to_fit(&mut self) {
        self.endpoints.shrink_to_fit();
        self.ports.shrink_to_fit();
    }

    /// Returns the Service that the slice belongs to. `None` if it has no service-name label.
    pub fn of(&self) -> Option<Name> {
        let (namespace, name) = (self.name.namespace.clone(), self.service.clone()?);
        Some(Name { namespace, name })
    }
}
