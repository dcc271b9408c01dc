//! Converts a Service of core/v1: addresses, ports, policies and the annotations of kube-router.
//!
//! A Service that no proxy serves (headless, ExternalName, or of another proxy) is kept with its name
//! only, so that nothing is configured for it.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use super::fields::{
    ObjectMeta, parse_addr, parse_net, parse_port, parse_protocol, push_unique, split_list,
};
use crate::model::cluster::{Service, ServiceAdvertise, ServicePort};

/// The default of ClientIP affinity, in seconds: three hours, as in the API.
const DEFAULT_AFFINITY: i64 = 10_800;

/// A Service as it is on the wire.
#[derive(Deserialize)]
pub(super) struct ServiceJson {
    #[serde(default)]
    metadata: ObjectMeta,
    spec: Option<ServiceSpec>,
    status: Option<ServiceStatus>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceSpec {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    ports: Option<Vec<Port>>,
    session_affinity: Option<String>,
    session_affinity_config: Option<AffinityConfig>,
    internal_traffic_policy: Option<String>,
    external_traffic_policy: Option<String>,
    load_balancer_source_ranges: Option<Vec<String>>,
    health_check_node_port: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Port {
    name: Option<Box<str>>,
    protocol: Option<String>,
    port: Option<i64>,
    node_port: Option<i64>,
}

#[derive(Deserialize)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Option<ClientIp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientIp {
    timeout_seconds: Option<i64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ServiceStatus {
    load_balancer: Option<LoadBalancer>,
}

#[derive(Deserialize)]
struct LoadBalancer {
    ingress: Option<Vec<Ingress>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ingress {
    ip: Option<String>,
    ip_mode: Option<String>,
}

/// Converts a Service. Fails if it has no name, or if an address, a port, a source range or the affinity
/// timeout is not valid.
pub(super) fn read(mut wire: ServiceJson) -> Result<Service, String> {
    let name = wire.metadata.full_name()?;
    let spec = wire.spec.unwrap_or_default();
    let labels = wire.metadata.labels.unwrap_or_default();
    let annotations = wire.metadata.annotations.unwrap_or_default();
    let (path, cluster_ips) = match spec.cluster_ips.as_deref() {
        Some(ips) if !ips.is_empty() => ("spec.clusterIPs", ips.to_vec()),
        _ => ("spec.clusterIP", spec.cluster_ip.iter().cloned().collect()),
    };
    // A Service that is headless, has no address yet, or is served by another proxy.
    if spec.kind.as_deref() == Some("ExternalName")
        || matches!(cluster_ips.first().map(String::as_str), None | Some("" | "None"))
        || labels.get("service.kubernetes.io/service-proxy-name").is_some()
        || labels.get("service.kubernetes.io/headless").is_some()
    {
        return Ok(Service { name, ..Service::default() });
    }
    let ingress = wire.status.and_then(|s| s.load_balancer).and_then(|b| b.ingress);
    let ingress = ingress.unwrap_or_default();
    let balancer_ips: Vec<String> = ingress
        .into_iter()
        .filter(|i| {
            i.ip_mode.as_deref() != Some("Proxy")
                && annotations.kube_router("service.skiplbips").is_none()
        })
        .filter_map(|i| i.ip)
        .collect();
    Ok(Service {
        cluster_ips: addrs(path, &cluster_ips)?,
        external_ips: addrs("spec.externalIPs", &spec.external_ips.unwrap_or_default())?,
        balancer_ips: addrs("status.loadBalancer.ingress[].ip", &balancer_ips)?,
        ports: ports(spec.ports.unwrap_or_default())?,
        affinity: match spec.session_affinity.as_deref() {
            Some("ClientIP") => affinity(spec.session_affinity_config)?,
            _ => 0,
        },
        internal_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        external_local: spec.external_traffic_policy.as_deref() == Some("Local")
            || annotations.kube_router("service.local") == Some("true"),
        source_ranges: source_ranges(
            &spec.load_balancer_source_ranges.unwrap_or_default(),
            annotations.get("service.beta.kubernetes.io/load-balancer-source-ranges"),
        )?,
        health_port: node_port("spec.healthCheckNodePort", spec.health_check_node_port)?
            .unwrap_or_default(),
        scheduler: annotations
            .kube_router("service.scheduler")
            .filter(|name| !name.is_empty())
            .map(Into::into),
        scheduler_flags: scheduler_flags(annotations.kube_router("service.schedflags")),
        dsr: annotations.kube_router("service.dsr").is_some(),
        advertise: ServiceAdvertise {
            cluster_ips: annotations.kube_router("service.advertise.clusterip").map(is_true),
            external_ips: annotations.kube_router("service.advertise.externalip").map(is_true),
            balancer_ips: annotations.kube_router("service.advertise.loadbalancerip").map(is_true),
        },
        name,
    })
}

/// Returns true if Go's strconv.ParseBool would. Any other text counts as false, as in kube-router.
fn is_true(text: &str) -> bool {
    matches!(text, "1" | "t" | "T" | "true" | "True" | "TRUE")
}

/// Returns the source ranges of the spec, or else of the older annotation. Fails if one is not a CIDR.
fn source_ranges(spec: &[String], annotation: Option<&str>) -> Result<Vec<IpNet>, String> {
    let mut ranges = Vec::new();
    for (i, text) in spec.iter().enumerate() {
        // The API server accepts spaces around a range.
        push_unique(
            &mut ranges,
            parse_net(&format!("spec.loadBalancerSourceRanges[{i}]"), text.trim())?,
        );
    }
    if ranges.is_empty() {
        let path = "the annotation service.beta.kubernetes.io/load-balancer-source-ranges";
        for text in split_list(annotation) {
            push_unique(&mut ranges, parse_net(path, text)?);
        }
    }
    Ok(ranges)
}

/// Returns the IPVS scheduler flags for kube-router's names; other names are ignored, as in kube-router.
fn scheduler_flags(annotation: Option<&str>) -> u32 {
    let flags = split_list(annotation).map(|flag| match flag {
        "flag-1" => 0x08, // IP_VS_SVC_F_SCHED1
        "flag-2" => 0x10, // IP_VS_SVC_F_SCHED2
        "flag-3" => 0x20, // IP_VS_SVC_F_SCHED3
        _ => 0,
    });
    flags.fold(0, |all, flag| all | flag)
}

/// Converts a node port; `None` if it is 0, which is how Go encodes an absent one.
fn node_port(path: &str, number: Option<i64>) -> Result<Option<u16>, String> {
    number.filter(|number| *number != 0).map(|number| parse_port(path, number)).transpose()
}

/// Parses addresses, without empty ones and duplicates.
fn addrs(path: &str, texts: &[String]) -> Result<Vec<IpAddr>, String> {
    let mut addrs = Vec::with_capacity(texts.len());
    for text in texts.iter().filter(|text| !text.is_empty()) {
        push_unique(&mut addrs, parse_addr(path, text)?);
    }
    Ok(addrs)
}

/// Converts the ports of a Service. Fails if one has no number, or a value that is not valid.
fn ports(wire: Vec<Port>) -> Result<Vec<ServicePort>, String> {
    let mut ports = Vec::with_capacity(wire.len());
    for (i, from) in wire.into_iter().enumerate() {
        let number = from.port.ok_or_else(|| format!("spec.ports[{i}].port: it is missing"))?;
        ports.push(ServicePort {
            protocol: parse_protocol(
                &format!("spec.ports[{i}].protocol"),
                from.protocol.as_deref(),
            )?,
            port: parse_port(&format!("spec.ports[{i}].port"), number)?,
            node_port: node_port(&format!("spec.ports[{i}].nodePort"), from.node_port)?,
            name: from.name.unwrap_or_default(),
        });
    }
    Ok(ports)
}

/// Returns the timeout of ClientIP affinity in seconds. Fails if it is not from 1 to 86400 (a day), as the
/// API requires.
fn affinity(config: Option<AffinityConfig>) -> Result<u32, String> {
    let seconds = config.and_then(|c| c.client_ip).and_then(|c| c.timeout_seconds);
    let seconds = seconds.unwrap_or(DEFAULT_AFFINITY);
    u32::try_from(seconds).ok().filter(|seconds| (1..=86_400).contains(seconds)).ok_or_else(|| {
        format!("spec.sessionAffinityConfig.clientIP.timeoutSeconds: {seconds} is not 1 to 86400")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(spec: &str) -> Result<Service, String> {
        let json = format!(r#"{{"metadata":{{"name":"web","namespace":"shop"}},"spec":{spec}}}"#);
        read(crate::api::wire::fields::parse(&json)?)
    }

    fn annotated(annotations: &str, spec: &str) -> Result<Service, String> {
        let json = format!(
            r#"{{"metadata":{{"name":"web","namespace":"shop","annotations":{annotations}}},"spec":{{"clusterIP":"10.0.0.1"{spec}}},
                "status":{{"loadBalancer":{{"ingress":[{{"ip":"203.0.113.1"}}]}}}}}}"#
        );
        read(crate::api::wire::fields::parse(&json)?)
    }

    #[test]
    fn annotations_of_kube_router_set_how_a_service_is_served() {
        let got = annotated(
            r#"{"kube-router.io/service.scheduler":"mh","kube-router.io/service.schedflags":" flag-3,flag-1 , flag-9,",
                "kube-router.io/service.dsr":"tunnel","kube-router.io/service.local":"true","kube-router.io/service.skiplbips":""}"#,
            "",
        )
        .unwrap();
        assert_eq!((got.scheduler.as_deref(), got.scheduler_flags), (Some("mh"), 0x28));
        assert!(got.dsr && got.external_local && !got.internal_local);
        assert_eq!(got.balancer_ips.len(), 0);
    }

    #[test]
    fn annotations_set_which_addresses_are_advertised_and_invalid_values_are_false() {
        let got = annotated(
            r#"{"kube-router.io/service.advertise.clusterip":"true",
                "kube-router.io/service.advertise.externalip":"0",
                "kube-router.io/service.advertise.loadbalancerip":"yes"}"#,
            "",
        )
        .unwrap();
        let want = ServiceAdvertise {
            cluster_ips: Some(true),
            external_ips: Some(false),
            balancer_ips: Some(false),
        };
        assert_eq!(got.advertise, want);
        let one = r#"{"kube-router.io/service.advertise.externalip":"T"}"#;
        let want = ServiceAdvertise { external_ips: Some(true), ..ServiceAdvertise::default() };
        assert_eq!(annotated(one, "").unwrap().advertise, want);
        assert!(annotated("{}", "").unwrap().advertise.is_silent());
    }

    #[test]
    fn absent_or_null_annotations_have_no_effect() {
        for annotations in [
            "null",
            "{}",
            r#"{"kube-router.io/service.scheduler":null,"kube-router.io/service.schedflags":null,"kube-router.io/service.dsr":null,
                "kube-router.io/service.local":null,"kube-router.io/service.skiplbips":null}"#,
            r#"{"kube-router.io/service.scheduler":"","kube-router.io/service.schedflags":"","kube-router.io/service.local":"false"}"#,
        ] {
            let got = annotated(annotations, "").unwrap();
            let plain = Service {
                name: got.name.clone(),
                cluster_ips: got.cluster_ips.clone(),
                balancer_ips: vec!["203.0.113.1".parse().unwrap()],
                ..Service::default()
            };
            assert_eq!(got, plain, "{annotations}");
        }
    }

    #[test]
    fn source_ranges_are_read_from_the_spec_or_else_from_the_old_annotation() {
        let old =
            r#"{"service.beta.kubernetes.io/load-balancer-source-ranges":"10.0.0.0/8, fd00::/8,"}"#;
        for (annotations, spec, want) in [
            (
                "null",
                r#"["198.51.100.7/24"," 10.0.0.0/8","10.0.0.0/8"]"#,
                "[198.51.100.0/24, 10.0.0.0/8]",
            ),
            (old, r#"["192.0.2.0/24"]"#, "[192.0.2.0/24]"),
            (old, "[]", "[10.0.0.0/8, fd00::/8]"),
            (old, "null", "[10.0.0.0/8, fd00::/8]"),
            ("{}", "null", "[]"),
        ] {
            let spec = format!(r#","loadBalancerSourceRanges":{spec}"#);
            let got = annotated(annotations, &spec).unwrap();
            assert_eq!(format!("{:?}", got.source_ranges), want, "{annotations} {spec}");
        }
        let bad = annotated(&old.replace("fd00::/8", "x"), "").unwrap_err();
        let path = "the annotation service.beta.kubernetes.io/load-balancer-source-ranges";
        assert_eq!(bad, format!("{path}: \"x\" is not a CIDR"));
    }

    #[test]
    fn a_health_check_node_port_of_0_or_null_is_absent() {
        for (json, want) in [("30848", 30848), ("0", 0), ("null", 0)] {
            let got = annotated("{}", &format!(r#","healthCheckNodePort":{json}"#)).unwrap();
            assert_eq!(got.health_port, want);
        }
    }

    #[test]
    fn null_fields_are_treated_as_absent() {
        let got = with(r#"{"clusterIP":"10.0.0.1","clusterIPs":null,"ports":[{"name":null,"protocol":null,"port":80}],"sessionAffinity":"ClientIP","sessionAffinityConfig":null}"#).unwrap();
        assert_eq!(got.cluster_ips, ["10.0.0.1".parse::<IpAddr>().unwrap()]);
        assert_eq!(
            got.ports,
            [ServicePort {
                name: "".into(),
                protocol: crate::model::items::Protocol::Tcp,
                port: 80,
                node_port: None
            }]
        );
        assert_eq!(got.affinity, 10_800);
    }

    #[test]
    fn services_that_no_proxy_serves_have_no_addresses_and_ports() {
        for spec in [
            "null",
            "{}",
            r#"{"clusterIP":"None","ports":[{"port":0}]}"#,
            r#"{"clusterIP":"","clusterIPs":[""]}"#,
            r#"{"clusterIPs":["None"]}"#,
            r#"{"type":"ExternalName","clusterIP":"10.0.0.1"}"#,
        ] {
            let got = with(spec).unwrap();
            assert_eq!((got.cluster_ips.len(), got.ports.len()), (0, 0), "{spec}");
        }
    }

    #[test]
    fn an_invalid_field_gives_an_error_with_its_path() {
        for (spec, want) in [
            (r#"{"clusterIP":"10.0.0.1","ports":[{}]}"#, "spec.ports[0].port: it is missing"),
            (
                r#"{"clusterIP":"10.0.0.1","ports":[{"port":0}]}"#,
                "spec.ports[0].port: 0 is not a port (1 to 65535)",
            ),
            (
                r#"{"clusterIP":"10.0.0.1","ports":[{"port":1},{"port":70000}]}"#,
                "spec.ports[1].port: 70000 is not a port (1 to 65535)",
            ),
            (
                r#"{"clusterIP":"10.0.0.1","ports":[{"port":"80"}]}"#,
                "spec.ports[0].port: invalid type: string \"80\", expected i64",
            ),
            (
                r#"{"clusterIP":"10.0.0.1","ports":[{"port":1,"nodePort":-1}]}"#,
                "spec.ports[0].nodePort: -1 is not a port (1 to 65535)",
            ),
            (
                r#"{"clusterIP":"10.0.0.1","ports":[{"port":1,"protocol":"ICMP"}]}"#,
                "spec.ports[0].protocol: \"ICMP\" is not TCP, UDP or SCTP",
            ),
            (
                r#"{"clusterIP":"10.0.0.1","loadBalancerSourceRanges":["10.0.0.0/8","10.0.0.0"]}"#,
                "spec.loadBalancerSourceRanges[1]: \"10.0.0.0\" is not a CIDR",
            ),
            (
                r#"{"clusterIP":"10.0.0.1","loadBalancerSourceRanges":["::ffff:10.0.0.0/120"]}"#,
                "spec.loadBalancerSourceRanges[0]: \"::ffff:10.0.0.0/120\" is an IPv4 network written as IPv6",
            ),
            (
                r#"{"clusterIP":"10.0.0.1","healthCheckNodePort":65536}"#,
                "spec.healthCheckNodePort: 65536 is not a port (1 to 65535)",
            ),
            (r#"{"clusterIP":"10.0.0.01"}"#, "spec.clusterIP: \"10.0.0.01\" is not an IP address"),
            (
                r#"{"clusterIPs":["10.0.0.1","::ffff:10.0.0.1"]}"#,
                "spec.clusterIPs: \"::ffff:10.0.0.1\" is an IPv4 address written as IPv6",
            ),
            (
                r#"{"clusterIP":"10.0.0.1","externalIPs":["x"]}"#,
                "spec.externalIPs: \"x\" is not an IP address",
            ),
            (
                r#"{"clusterIP":"10.0.0.1","sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":0}}}"#,
                "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0 is not 1 to 86400",
            ),
        ] {
            assert_eq!(with(spec).unwrap_err(), want);
        }
        assert_eq!(
            read(crate::api::wire::fields::parse(r#"{"metadata":{"name":"web"}}"#).unwrap())
                .unwrap_err(),
            "metadata.namespace: it is missing"
        );
    }
}
