//! Parses the fields that objects of several kinds have: metadata, addresses, networks, ports and
//! protocols. The error of an invalid field starts with its path.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, de::IgnoredAny};

use super::{annotations::Annotations, path};
use crate::{
    codec::json,
    model::{cluster::Name, items::Protocol},
};

/// Parses JSON. Fails if the text is not valid or a field has the wrong type; the error starts with the
/// path of the field.
pub(super) fn parse<'a, T: Deserialize<'a>>(item: &'a str) -> Result<T, String> {
    json::from_str(item).map_err(|e| {
        let text = e.to_string();
        let why = text.rsplit_once(" at line ").map_or(text.as_str(), |(why, _)| why);
        match path::at_position(item, e.line(), e.column()) {
            path if path.is_empty() => why.to_owned(),
            path => format!("{path}: {why}"),
        }
    })
}

/// The metadata of an object of any kind.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ObjectMeta {
    name: Option<Box<str>>,
    namespace: Option<Box<str>>,
    #[serde(rename = "deletionTimestamp")]
    pub(super) deleted: Option<IgnoredAny>,
    pub(super) labels: Option<Annotations>,
    pub(super) annotations: Option<Annotations>,
}

impl ObjectMeta {
    /// Takes the name. Fails if it is absent or empty.
    pub(super) fn name(&mut self) -> Result<Box<str>, String> {
        let name = self.name.take().filter(|name| !name.is_empty());
        name.ok_or_else(|| "metadata.name: it is missing".to_owned())
    }

    /// Takes the namespace and the name. Fails if one of them is absent or empty.
    pub(super) fn full_name(&mut self) -> Result<Name, String> {
        let namespace = self.namespace.take().filter(|name| !name.is_empty());
        let namespace = namespace.ok_or("metadata.namespace: it is missing")?;
        Ok(Name { namespace, name: self.name()? })
    }
}

/// Parses an IP address by the strict rules of Kubernetes 1.36 for new objects: no leading zeros, no zone
/// and no IPv4 address mapped to IPv6. `path` is the field, for the error.
pub(super) fn parse_addr(path: &str, text: &str) -> Result<IpAddr, String> {
    match text.parse() {
        Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("{path}: {text:?} is an IPv4 address written as IPv6"))
        }
        Ok(addr) => Ok(addr),
        Err(_) => Err(format!("{path}: {} is not an IP address", quote(text))),
    }
}

/// Parses a CIDR and clears its host bits. Fails if it is not one, or if it is an IPv4 network mapped to
/// IPv6.
pub(super) fn parse_net(path: &str, text: &str) -> Result<IpNet, String> {
    let net: IpNet = text.parse().map_err(|_| format!("{path}: {} is not a CIDR", quote(text)))?;
    match net.addr() {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("{path}: {text:?} is an IPv4 network written as IPv6"))
        }
        _ => Ok(net.trunc()),
    }
}

/// Returns the parts of a text between commas, trimmed, without empty ones.
pub(super) fn split_list(text: Option<&str>) -> impl Iterator<Item = &str> {
    text.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Converts a port number. Fails if it is not from 1 to 65535.
pub(super) fn parse_port(path: &str, number: i64) -> Result<u16, String> {
    match u16::try_from(number) {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(format!("{path}: {number} is not a port (1 to 65535)")),
    }
}

/// Parses a protocol; TCP if it is absent or empty.
pub(super) fn parse_protocol(path: &str, text: Option<&str>) -> Result<Protocol, String> {
    let text = text.filter(|text| !text.is_empty()).unwrap_or("TCP");
    text.parse().map_err(|_| format!("{path}: {} is not TCP, UDP or SCTP", quote(text)))
}

/// Returns the text in quotes, cut to 80 characters so that a log line stays readable.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// Appends a value if the list does not contain it yet.
pub(super) fn push_unique<T: PartialEq>(to: &mut Vec<T>, value: T) {
    if !to.contains(&value) {
        to.push(value);
    }
}
