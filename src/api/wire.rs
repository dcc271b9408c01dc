//! The shapes of API objects on the wire: the fields that are used, and no others.
//!
//! Everything may be absent or null, as Go writes empty lists. Each kind's file says what its fields
//! mean; an object that breaks the API's own rules is an error with the path of the field, so that
//! it can be found with `kubectl get -o yaml`.

mod bgp;
mod endpoints;
mod node;
mod notes;
mod path;
mod service;

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, de::IgnoredAny};

use crate::{
    cluster::{Kind, Name, Object},
    json,
};
use notes::Notes;

/// The shapes that are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// core/v1
    Node,
    /// core/v1
    Service,
    /// discovery.k8s.io, v1 and v1beta1
    EndpointSlice,
    /// core/v1
    Endpoints,
}

impl Shape {
    /// By kind and apiVersion. Other groups have kinds of the same names (a Knative Service).
    pub fn of(kind: &str, version: &str) -> Option<Shape> {
        match (kind, version) {
            ("Node", "v1") => Some(Shape::Node),
            ("Service", "v1") => Some(Shape::Service),
            ("Endpoints", "v1") => Some(Shape::Endpoints),
            ("EndpointSlice", "discovery.k8s.io/v1" | "discovery.k8s.io/v1beta1") => {
                Some(Shape::EndpointSlice)
            }
            _ => None,
        }
    }

    /// What it becomes.
    pub fn kind(self) -> Kind {
        match self {
            Shape::Node => Kind::Node,
            Shape::Service => Kind::Service,
            Shape::EndpointSlice | Shape::Endpoints => Kind::EndpointSlice,
        }
    }

    /// As the API writes it.
    pub fn name(self) -> &'static str {
        match self {
            Shape::Node => "Node",
            Shape::Service => "Service",
            Shape::EndpointSlice => "EndpointSlice",
            Shape::Endpoints => "Endpoints",
        }
    }
}

/// What one item of a list says: one object, or one for each subset and family of Endpoints.
pub fn read(shape: Shape, item: &str) -> Result<Vec<Object>, String> {
    match shape {
        Shape::Node => Ok(vec![Object::Node(node::read(parse(item)?)?)]),
        Shape::Service => Ok(vec![Object::Service(service::read(parse(item)?)?)]),
        Shape::EndpointSlice => Ok(vec![Object::EndpointSlice(endpoints::slice(parse(item)?)?)]),
        Shape::Endpoints => {
            Ok(endpoints::subsets(parse(item)?)?.into_iter().map(Object::EndpointSlice).collect())
        }
    }
}

/// The name of an item that is not understood, as far as it can be made out.
pub fn name(item: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        name: String,
        namespace: Option<String>,
    }
    let Metadata { name, namespace } = json::from_str::<Named>(item).ok()?.metadata;
    Some(match namespace {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name,
    })
}

/// The uid of the one Node in a list, and the list's version.
pub fn identity(list: &str) -> Result<(Option<String>, String), String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct List {
        metadata: Version,
        items: Option<Vec<Item>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Version {
        resource_version: String,
    }
    #[derive(Deserialize)]
    struct Item {
        metadata: Uid,
    }
    #[derive(Deserialize)]
    struct Uid {
        uid: Option<String>,
    }
    let wrong = |e| format!("the reply is no list of Nodes: {e}");
    let List { metadata, items } = json::from_str(list).map_err(wrong)?;
    let uid = items.unwrap_or_default().into_iter().find_map(|item| item.metadata.uid);
    Ok((uid, metadata.resource_version))
}

/// JSON into a shape; a wrong type is told with its path.
fn parse<'a, T: Deserialize<'a>>(item: &'a str) -> Result<T, String> {
    json::from_str(item).map_err(|e| {
        let text = e.to_string();
        let why = text.rsplit_once(" at line ").map_or(text.as_str(), |(why, _)| why);
        match path::at(item, e.line(), e.column()) {
            path if path.is_empty() => why.to_owned(),
            path => format!("{path}: {why}"),
        }
    })
}

/// metadata, of every kind.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Meta {
    name: Option<Box<str>>,
    namespace: Option<Box<str>>,
    #[serde(rename = "deletionTimestamp")]
    deleted: Option<IgnoredAny>,
    labels: Option<Notes>,
    annotations: Option<Notes>,
}

impl Meta {
    fn name(&mut self) -> Result<Box<str>, String> {
        let name = self.name.take().filter(|name| !name.is_empty());
        name.ok_or_else(|| "metadata.name: it is missing".to_owned())
    }

    fn full_name(&mut self) -> Result<Name, String> {
        let namespace = self.namespace.take().filter(|name| !name.is_empty());
        let namespace = namespace.ok_or("metadata.namespace: it is missing")?;
        Ok(Name { namespace, name: self.name()? })
    }
}

/// An address as Kubernetes 1.36 wants new ones: no leading zeros, no zone, no IPv4 within IPv6.
fn addr(path: &str, text: &str) -> Result<IpAddr, String> {
    match text.parse() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("{path}: {text:?} is an IPv4 address written as IPv6"))
        }
        Ok(addr) => Ok(addr),
        Err(_) => Err(format!("{path}: {} is no IP address", short(text))),
    }
}

/// A network, without its host bits.
fn net(path: &str, text: &str) -> Result<IpNet, String> {
    let net: IpNet = text.parse().map_err(|_| format!("{path}: {} is no CIDR", short(text)))?;
    match net.addr() {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("{path}: {text:?} is an IPv4 network written as IPv6"))
        }
        _ => Ok(net.trunc()),
    }
}

/// The parts of a text between commas, without blanks and the empty ones.
fn list(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// A port number from 1.
fn port(path: &str, number: i64) -> Result<u16, String> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{path}: {number} is no port (1 to 65535)")),
    }
}

fn protocol(path: &str, text: Option<&str>) -> Result<crate::state::Protocol, String> {
    let text = text.filter(|text| !text.is_empty()).unwrap_or("TCP");
    text.parse().map_err(|_| format!("{path}: {} is not TCP, UDP or SCTP", short(text)))
}

/// In quotes, and no longer than a line of a log can bear.
fn short(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Takes in what is not there yet.
fn add<T: PartialEq>(to: &mut Vec<T>, value: T) {
    if !to.contains(&value) {
        to.push(value);
    }
}
