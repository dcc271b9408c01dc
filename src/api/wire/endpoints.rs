//! Converts EndpointSlices of discovery.k8s.io (v1 and v1beta1) and Endpoints of core/v1.
//!
//! [`slice()`] reads both versions of EndpointSlice with the same struct. [`subsets`] converts Endpoints to
//! one EndpointSlice for each subset and address family, so that the rest of the program knows only
//! EndpointSlices.

use std::net::IpAddr;

use serde::Deserialize;

use super::fields::{ObjectMeta, parse_addr, parse_port, parse_protocol, quote};
use crate::{
    family::Family,
    model::cluster::{Endpoint, EndpointSlice, Hints, Name, SlicePort},
};

/// An EndpointSlice as it is on the wire.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct SliceJson {
    #[serde(default)]
    metadata: ObjectMeta,
    address_type: Option<String>,
    endpoints: Option<Vec<Member>>,
    ports: Option<Vec<EndpointPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Member {
    addresses: Option<Vec<String>>,
    conditions: Option<Conditions>,
    node_name: Option<Box<str>>,
    /// Only in v1beta1. A server before Kubernetes 1.20 gives the node name here and not in nodeName.
    topology: Option<Topology>,
    hints: Option<HintLists>,
}

#[derive(Default, Deserialize)]
struct Conditions {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Deserialize)]
struct Topology {
    #[serde(rename = "kubernetes.io/hostname")]
    hostname: Option<Box<str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HintLists {
    for_zones: Option<Vec<For>>,
    for_nodes: Option<Vec<For>>,
}

#[derive(Deserialize)]
struct For {
    name: Option<Box<str>>,
}

#[derive(Deserialize)]
struct EndpointPort {
    name: Option<Box<str>>,
    protocol: Option<String>,
    port: Option<i64>,
}

/// Core Endpoints as they are on the wire.
#[derive(Deserialize)]
pub(super) struct EndpointsJson {
    #[serde(default)]
    metadata: ObjectMeta,
    subsets: Option<Vec<Subset>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subset {
    addresses: Option<Vec<EndpointAddress>>,
    not_ready_addresses: Option<Vec<EndpointAddress>>,
    ports: Option<Vec<EndpointPort>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointAddress {
    ip: Option<String>,
    node_name: Option<Box<str>>,
}

/// Converts an EndpointSlice. A slice of the addressType FQDN has no endpoints. Fails if the name is
/// missing, or if an address, port or addressType is not valid.
pub(super) fn slice(mut wire: SliceJson) -> Result<EndpointSlice, String> {
    let name = wire.metadata.full_name()?;
    let ports = ports("ports", wire.ports.unwrap_or_default())?;
    let family = match wire.address_type.as_deref() {
        Some("IPv4") => Some(Family::Ipv4),
        Some("IPv6") => Some(Family::Ipv6),
        Some("FQDN") => None,
        other => {
            let other = quote(other.unwrap_or_default());
            return Err(format!("addressType: {other} is not IPv4, IPv6 or FQDN"));
        }
    };
    let mut endpoints = Vec::new();
    if let Some(family) = family {
        for (i, member) in wire.endpoints.unwrap_or_default().into_iter().enumerate() {
            endpoints.push(endpoint(i, member, family)?);
        }
    }
    Ok(EndpointSlice { name, service: service(wire.metadata), endpoints, ports })
}

/// Returns the name of the Service that a slice belongs to; `None` if it has none, or if it carries the
/// label for headless Services, which no proxy handles.
fn service(meta: ObjectMeta) -> Option<Box<str>> {
    let labels = meta.labels?;
    let headless = labels.get("service.kubernetes.io/headless").is_some();
    let service = labels.get("kubernetes.io/service-name")?;
    (!service.is_empty() && !headless).then(|| service.into())
}

/// Converts endpoint number `i`. Only its first address is used, and absent conditions have the defaults
/// of the API: ready, serving as ready, not terminating.
fn endpoint(i: usize, member: Member, family: Family) -> Result<Endpoint, String> {
    let path = format!("endpoints[{i}].addresses[0]");
    let text = member.addresses.and_then(|list| list.into_iter().next());
    let addr = parse_addr(&path, &text.ok_or_else(|| format!("{path}: it is missing"))?)?;
    if Family::of_addr(&addr) != family {
        return Err(format!("{path}: {addr} is not of the slice's addressType"));
    }
    let conditions = member.conditions.unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    Ok(Endpoint {
        addr,
        ready,
        serving: conditions.serving.unwrap_or(ready),
        terminating: conditions.terminating.unwrap_or(false),
        node: member.node_name.or(member.topology.and_then(|t| t.hostname)),
        hints: member.hints.and_then(hints),
    })
}

/// Converts the topology hints; `None` if they contain no name, which is the same as no hints.
fn hints(lists: HintLists) -> Option<Box<Hints>> {
    let names = |list: Option<Vec<For>>| -> Vec<Box<str>> {
        let names = list.into_iter().flatten().filter_map(|to| to.name);
        names.filter(|name| !name.is_empty()).collect()
    };
    let hints = Hints { zones: names(lists.for_zones), nodes: names(lists.for_nodes) };
    (hints != Hints::default()).then(|| Box::new(hints))
}

/// Converts the ports of a slice or a subset. `path` is their field.
fn ports(path: &str, wire: Vec<EndpointPort>) -> Result<Vec<SlicePort>, String> {
    let mut ports = Vec::with_capacity(wire.len());
    for (i, from) in wire.into_iter().enumerate() {
        // A port without a number means all ports, which a proxy can't forward to.
        let Some(number) = from.port else { continue };
        ports.push(SlicePort {
            protocol: parse_protocol(&format!("{path}[{i}].protocol"), from.protocol.as_deref())?,
            port: parse_port(&format!("{path}[{i}].port"), number)?,
            name: from.name.unwrap_or_default(),
        });
    }
    Ok(ports)
}

/// Converts core Endpoints. The slices are named `NAME/0`, `NAME/1`, … because no real EndpointSlice can
/// have a slash in its name. Fails if the name is missing, or if an address or a port is not valid.
pub(super) fn subsets(mut wire: EndpointsJson) -> Result<Vec<EndpointSlice>, String> {
    let Name { namespace, name } = wire.metadata.full_name()?;
    let headless = wire.metadata.labels.unwrap_or_default();
    let headless = headless.get("service.kubernetes.io/headless").is_some();
    let mut slices: Vec<EndpointSlice> = Vec::new();
    for (i, subset) in wire.subsets.unwrap_or_default().into_iter().enumerate() {
        let ports = ports(&format!("subsets[{i}].ports"), subset.ports.unwrap_or_default())?;
        let mut all = Vec::new();
        for (list, ready, path) in [
            (subset.addresses, true, "addresses"),
            (subset.not_ready_addresses, false, "notReadyAddresses"),
        ] {
            for (j, from) in list.unwrap_or_default().into_iter().enumerate() {
                let path = format!("subsets[{i}].{path}[{j}].ip");
                let text = from.ip.ok_or_else(|| format!("{path}: it is missing"))?;
                let addr = parse_addr(&path, &text)?;
                let node = from.node_name;
                all.push(Endpoint {
                    addr,
                    ready,
                    serving: ready,
                    terminating: false,
                    node,
                    hints: None,
                });
            }
        }
        let (ipv4, ipv6): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|e| matches!(e.addr, IpAddr::V4(_)));
        for endpoints in [ipv4, ipv6].into_iter().filter(|family| !family.is_empty()) {
            slices.push(EndpointSlice {
                name: Name {
                    namespace: namespace.clone(),
                    name: format!("{name}/{}", slices.len()).into(),
                },
                service: (!headless).then(|| name.clone()),
                endpoints,
                ports: ports.clone(),
            });
        }
    }
    Ok(slices)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(rest: &str) -> Result<EndpointSlice, String> {
        let json = format!(
            r#"{{"metadata":{{"name":"web-1","namespace":"shop","labels":{{"kubernetes.io/service-name":"web"}}}},{rest}}}"#
        );
        slice(crate::api::wire::fields::parse(&json)?)
    }

    #[test]
    fn absent_conditions_have_the_defaults_of_the_api() {
        let got = with(r#""addressType":"IPv4","ports":[{"port":80},{"port":null}],"endpoints":[{"addresses":["10.0.0.1","10.0.0.9"]},
            {"addresses":["10.0.0.2"],"conditions":{"ready":false}},{"addresses":["10.0.0.3"],"conditions":{"ready":false,"serving":true,"terminating":true}},
            {"addresses":["10.0.0.4"],"conditions":null,"nodeName":"a","topology":{"kubernetes.io/hostname":"b"}}]"#).unwrap();
        let got: Vec<_> = got
            .endpoints
            .iter()
            .map(|e| (e.addr.to_string(), e.ready, e.serving, e.terminating, e.node.as_deref()))
            .collect();
        assert_eq!(
            got.iter().map(|(a, b, c, d, e)| (a.as_str(), *b, *c, *d, *e)).collect::<Vec<_>>(),
            [
                ("10.0.0.1", true, true, false, None),
                ("10.0.0.2", false, false, false, None),
                ("10.0.0.3", false, true, true, None),
                ("10.0.0.4", true, true, false, Some("a")),
            ]
        );
    }

    #[test]
    fn hints_are_zone_and_node_names_and_none_without_a_name() {
        let hints = |json: &str| {
            let member = format!(r#"{{"addresses":["10.0.0.1"],"hints":{json}}}"#);
            let got = with(&format!(r#""addressType":"IPv4","endpoints":[{member}]"#)).unwrap();
            got.endpoints[0].hints.as_deref().cloned()
        };
        assert_eq!(
            hints(r#"{"forZones":[{"name":"a"},{"name":"b"}],"forNodes":[{"name":"n"}]}"#),
            Some(Hints { zones: vec!["a".into(), "b".into()], nodes: vec!["n".into()] })
        );
        assert_eq!(
            hints(r#"{"forZones":null,"forNodes":[{"name":"n"},{"name":null}]}"#),
            Some(Hints { zones: vec![], nodes: vec!["n".into()] })
        );
        for none in ["null", "{}", r#"{"forZones":null}"#, r#"{"forZones":[{}],"forNodes":[]}"#] {
            assert_eq!(hints(none), None, "{none}");
        }
    }

    #[test]
    fn fqdn_slices_have_no_endpoints_and_null_lists_are_empty() {
        let got = with(
            r#""addressType":"FQDN","ports":null,"endpoints":[{"addresses":["example.com"]}]"#,
        )
        .unwrap();
        assert_eq!((got.endpoints.len(), got.ports.len()), (0, 0));
        assert_eq!(with(r#""addressType":"IPv6","endpoints":null"#).unwrap().endpoints, []);
    }

    #[test]
    fn an_invalid_field_gives_an_error_with_its_path() {
        for (rest, want) in [
            (r#""addressType":null"#, "addressType: \"\" is not IPv4, IPv6 or FQDN"),
            (
                r#""addressType":"IPv4","endpoints":[{"addresses":[]}]"#,
                "endpoints[0].addresses[0]: it is missing",
            ),
            (
                r#""addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"]},{"addresses":["x"]}]"#,
                "endpoints[1].addresses[0]: \"x\" is not an IP address",
            ),
            (
                r#""addressType":"IPv4","endpoints":[{"addresses":["fd00::1"]}]"#,
                "endpoints[0].addresses[0]: fd00::1 is not of the slice's addressType",
            ),
            (
                r#""addressType":"IPv6","endpoints":[{"addresses":["::ffff:1.2.3.4"]}]"#,
                "endpoints[0].addresses[0]: \"::ffff:1.2.3.4\" is an IPv4 address written as IPv6",
            ),
            (
                r#""addressType":"IPv4","endpoints":[null]"#,
                "endpoints[0]: invalid type: null, expected struct Member",
            ),
            (
                r#""addressType":"IPv4","ports":[{"port":65536}]"#,
                "ports[0].port: 65536 is not a port (1 to 65535)",
            ),
        ] {
            assert_eq!(with(rest).unwrap_err(), want);
        }
    }

    /// The object is hand-made from the documentation of core/v1; there is no recording of one.
    #[test]
    fn core_endpoints_become_one_slice_per_subset_and_family() {
        let json = r#"{"metadata":{"name":"web","namespace":"shop"},"subsets":[{"addresses":[{"ip":"10.0.0.1","nodeName":"a"},{"ip":"fd00::1"}],
            "notReadyAddresses":[{"ip":"10.0.0.2"}],"ports":[{"name":"http","port":80}]},{"addresses":null,"ports":[{"port":81}]},
            {"addresses":[{"ip":"10.0.0.3"}],"ports":[{"port":53,"protocol":"UDP"}]}]}"#;
        let got = subsets(crate::api::wire::fields::parse(json).unwrap()).unwrap();
        assert_eq!(
            got.iter().map(|s| s.name.to_string()).collect::<Vec<_>>(),
            ["shop/web/0", "shop/web/1", "shop/web/2"]
        );
        assert_eq!(got.iter().map(|s| s.endpoints.len()).collect::<Vec<_>>(), [2, 1, 1]);
        assert_eq!(got[0].service.as_deref(), Some("web"));
        assert_eq!(got[0].endpoints[0].node.as_deref(), Some("a"));
        assert!(!got[0].endpoints[1].ready && !got[0].endpoints[1].serving);
    }
}
