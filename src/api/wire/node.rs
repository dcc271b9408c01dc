//! Converts a Node of core/v1: addresses, podCIDRs, zone, readiness and the annotations of kube-router.
//!
//! The annotations for BGP are left to `bgp`.

use ipnet::IpNet;
use serde::Deserialize;

use super::{
    bgp,
    fields::{ObjectMeta, parse_addr, parse_net, push_unique, split_list},
};
use crate::model::cluster::Node;

/// A Node as it is on the wire.
#[derive(Deserialize)]
pub(super) struct NodeJson {
    #[serde(default)]
    metadata: ObjectMeta,
    spec: Option<NodeSpec>,
    status: Option<NodeStatus>,
}

#[derive(Deserialize)]
struct NodeSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
    taints: Option<Vec<Taint>>,
}

#[derive(Deserialize)]
struct Taint {
    #[serde(default)]
    key: Box<str>,
}

/// The taint by which the cluster autoscaler announces that it will delete the Node.
const TO_BE_DELETED: &str = "ToBeDeletedByClusterAutoscaler";

#[derive(Deserialize)]
struct NodeStatus {
    addresses: Option<Vec<NodeAddress>>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: Option<Box<str>>,
    status: Option<Box<str>>,
}

#[derive(Deserialize)]
struct NodeAddress {
    #[serde(rename = "type")]
    kind: Option<String>,
    address: Option<String>,
}

/// Converts a Node. Fails if it has no name, or if an address or a podCIDR is not valid.
pub(super) fn read(mut wire: NodeJson) -> Result<Node, String> {
    let name = wire.metadata.name()?;
    let mut node = Node { name, pod_cidrs: pod_cidrs(&wire)?, ..Node::default() };
    let labels = wire.metadata.labels.unwrap_or_default();
    let zone = labels.get("topology.kubernetes.io/zone");
    let taints = wire.spec.and_then(|spec| spec.taints).unwrap_or_default();
    node.leaving =
        wire.metadata.deleted.is_some() || taints.iter().any(|t| *t.key == *TO_BE_DELETED);
    node.zone = zone.filter(|zone| !zone.is_empty()).map(Into::into);
    node.bgp = wire.metadata.annotations.as_ref().and_then(bgp::read);
    let (addresses, conditions) =
        wire.status.map_or((None, None), |status| (status.addresses, status.conditions));
    let ready = |c: &&Condition| c.kind.as_deref() == Some("Ready");
    let ready = conditions.iter().flatten().find(ready);
    node.ready = ready.is_none_or(|ready| ready.status.as_deref() == Some("True"));
    let addresses = addresses.unwrap_or_default();
    for (i, NodeAddress { kind, address }) in addresses.iter().enumerate() {
        let to = match kind.as_deref() {
            Some("InternalIP") => &mut node.internal_ips,
            Some("ExternalIP") => &mut node.external_ips,
            _ => continue,
        };
        // Some cloud providers set host names as addresses; they are ignored.
        if let Some(text) = address.as_deref().filter(|text| looks_like_ip(text)) {
            push_unique(to, parse_addr(&format!("status.addresses[{i}].address"), text)?);
        }
    }
    Ok(node)
}

/// Returns true if the text has a colon, or is made of digits and dots only.
fn looks_like_ip(text: &str) -> bool {
    text.contains(':') || text.chars().all(|c| c.is_ascii_digit() || c == '.') && !text.is_empty()
}

/// Returns the podCIDRs of the first source that has any, as in kube-router: the annotations pod-cidrs and
/// pod-cidr, then spec.podCIDRs and spec.podCIDR.
fn pod_cidrs(wire: &NodeJson) -> Result<Vec<IpNet>, String> {
    let with_path = |text: Option<&str>, path: &str| -> Vec<(String, String)> {
        split_list(text).map(|part| (path.to_owned(), part.to_owned())).collect()
    };
    let mut found = Vec::new();
    if let Some(annotations) = &wire.metadata.annotations {
        found = with_path(
            annotations.kube_router("pod-cidrs"),
            "the annotation kube-router.io/pod-cidrs",
        );
        if found.is_empty() {
            found = with_path(
                annotations.kube_router("pod-cidr"),
                "the annotation kube-router.io/pod-cidr",
            );
        }
    }
    if let (true, Some(spec)) = (found.is_empty(), &wire.spec) {
        for (i, text) in spec.pod_cidrs.iter().flatten().enumerate() {
            found.push((format!("spec.podCIDRs[{i}]"), text.clone()));
        }
        if found.is_empty() {
            found = with_path(spec.pod_cidr.as_deref(), "spec.podCIDR");
        }
    }
    let mut nets = Vec::new();
    for (path, text) in found {
        push_unique(&mut nets, parse_net(&path, &text)?);
    }
    Ok(nets)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn node(json: &str) -> Result<Node, String> {
        read(crate::api::wire::fields::parse(json)?)
    }

    fn cidrs(json: &str) -> Vec<String> {
        node(json).unwrap().pod_cidrs.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn annotations_precede_the_spec_and_lists_precede_single_values() {
        let spec = r#""spec":{"podCIDR":"10.1.0.0/24","podCIDRs":["10.2.0.7/24","fd00:2::/64","10.2.0.0/24"]}"#;
        assert_eq!(
            cidrs(&format!(r#"{{"metadata":{{"name":"a"}},{spec}}}"#)),
            ["10.2.0.0/24", "fd00:2::/64"]
        );
        let annotations = r#""kube-router.io/pod-cidr":"10.3.0.0/24""#;
        let with = |annotations: &str| {
            format!(r#"{{"metadata":{{"name":"a","annotations":{{{annotations}}}}},{spec}}}"#)
        };
        assert_eq!(cidrs(&with(annotations)), ["10.3.0.0/24"]);
        let both =
            format!(r#"{annotations},"kube-router.io/pod-cidrs":" 10.4.0.0/24 , fd00:4::/64,""#);
        assert_eq!(cidrs(&with(&both)), ["10.4.0.0/24", "fd00:4::/64"]);
        assert_eq!(cidrs(&with(r#""kube-router.io/pod-cidr":"""#)), ["10.2.0.0/24", "fd00:2::/64"]);
        assert_eq!(
            cidrs(r#"{"metadata":{"name":"a"},"spec":{"podCIDRs":null,"podCIDR":"10.1.0.0/24"}}"#),
            ["10.1.0.0/24"]
        );
        assert_eq!(cidrs(r#"{"metadata":{"name":"a"},"spec":{}}"#), [""; 0]);
    }

    #[test]
    fn the_zone_is_read_from_its_label_and_an_empty_label_is_no_zone() {
        for (labels, want) in [
            (r#"{"topology.kubernetes.io/zone":"a"}"#, Some("a")),
            (r#"{"topology.kubernetes.io/zone":""}"#, None),
            (r#"{"topology.kubernetes.io/zone":null}"#, None),
            (r#"{"topology.kubernetes.io/region":"r"}"#, None),
            ("null", None),
        ] {
            let got = node(&format!(r#"{{"metadata":{{"name":"n","labels":{labels}}}}}"#)).unwrap();
            assert_eq!(got.zone.as_deref(), want, "{labels}");
        }
    }

    #[test]
    fn a_node_is_leaving_if_it_is_deleted_or_tainted_for_deletion() {
        for (json, want) in [
            (r#"{"metadata":{"name":"n","deletionTimestamp":null},"spec":{"taints":null}}"#, false),
            (r#"{"metadata":{"name":"n","deletionTimestamp":"2026-11-24T00:00:00Z"}}"#, true),
            (r#"{"metadata":{"name":"n"},"spec":{"taints":[{"key":"disk"},{}]}}"#, false),
            (
                r#"{"metadata":{"name":"n"},"spec":{"taints":[{"key":"disk"},{"key":"ToBeDeletedByClusterAutoscaler","value":"1"}]}}"#,
                true,
            ),
        ] {
            assert_eq!(node(json).unwrap().leaving, want, "{json}");
        }
    }

    #[test]
    fn a_node_is_ready_unless_its_condition_is_false_and_heartbeats_are_no_change() {
        let with = |conditions: &str| {
            node(&format!(
                r#"{{"metadata":{{"name":"n"}},"status":{{"conditions":{conditions}}}}}"#
            ))
            .unwrap()
        };
        for (conditions, want) in [
            ("null", true),
            ("[]", true),
            (r#"[{"type":"DiskPressure","status":"False"}]"#, true),
            (r#"[{},{"type":"Ready","status":"True"}]"#, true),
            (r#"[{"type":"Ready","status":"False"}]"#, false),
            (r#"[{"type":"Ready","status":"Unknown"}]"#, false),
            (r#"[{"type":"Ready"}]"#, false),
        ] {
            assert_eq!(with(conditions).ready, want, "{conditions}");
        }
        let beat = |at: &str| {
            with(&format!(r#"[{{"type":"Ready","status":"True","lastHeartbeatTime":"{at}"}}]"#))
        };
        assert_eq!(beat("2026-11-25T00:00:00Z"), beat("2026-11-25T00:05:00Z"), "no change");
    }

    #[test]
    fn an_invalid_bgp_annotation_does_not_invalidate_the_node() {
        let annotations =
            r#"{"kube-router.io/node.asn":"x","kube-router.io/pod-cidr":"10.3.0.0/24"}"#;
        let json = format!(r#"{{"metadata":{{"name":"n","annotations":{annotations}}}}}"#);
        let got = node(&json).unwrap();
        assert_eq!((got.pod_cidrs.len(), got.bgp.unwrap().faults.len()), (1, 1));
    }

    #[test]
    fn host_names_among_the_addresses_are_ignored() {
        let got = node(r#"{"metadata":{"name":"a"},"status":{"addresses":[{"type":"InternalIP","address":"ip-10.internal"},
            {"type":"Hostname","address":"10.0.0.9"},{"type":"InternalIP","address":"10.0.0.1"},{"type":"InternalIP","address":"10.0.0.1"},
            {"type":"ExternalIP","address":"2001:db8::1"},{"type":"InternalIP"}]}}"#).unwrap();
        assert_eq!(got.internal_ips, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(got.external_ips, ["2001:db8::1".parse::<IpAddr>().unwrap()]);
    }

    #[test]
    fn an_invalid_field_gives_an_error_with_its_path() {
        for (json, want) in [
            ("{}", "metadata.name: it is missing"),
            (r#"{"metadata":{"name":""}}"#, "metadata.name: it is missing"),
            (
                r#"{"metadata":{"name":7}}"#,
                "metadata.name: invalid type: integer `7`, expected a string",
            ),
            (
                r#"{"metadata":{"name":"a"},"spec":{"podCIDR":"10.0.0.0"}}"#,
                "spec.podCIDR: \"10.0.0.0\" is not a CIDR",
            ),
            (
                r#"{"metadata":{"name":"a"},"spec":{"podCIDRs":["::ffff:10.0.0.0/120"]}}"#,
                "spec.podCIDRs[0]: \"::ffff:10.0.0.0/120\" is an IPv4 network written as IPv6",
            ),
            (
                r#"{"metadata":{"name":"a","annotations":{"kube-router.io/pod-cidr":"x"}}}"#,
                "the annotation kube-router.io/pod-cidr: \"x\" is not a CIDR",
            ),
            (
                r#"{"metadata":{"name":"a"},"status":{"addresses":[{"type":"InternalIP","address":"10.0.0.01"}]}}"#,
                "status.addresses[0].address: \"10.0.0.01\" is not an IP address",
            ),
            (
                r#"{"metadata":{"name":"a"},"status":{"addresses":[{"type":"InternalIP","address":"fe80::1%eth0"}]}}"#,
                "status.addresses[0].address: \"fe80::1%eth0\" is not an IP address",
            ),
        ] {
            assert_eq!(node(json).unwrap_err(), want);
        }
    }
}
