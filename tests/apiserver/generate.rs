//! Generates a cluster of any size in the form of the recordings. The same numbers give the same
//! cluster.
//!
//! Node i has an address of 192.0.2.0/24 (172.16.0.0/12 if there are many) and the i-th /24 from
//! 10.244.0.0. Service s has the s-th ClusterIP after 10.96.1.0. Its endpoints are on consecutive
//! nodes, with at most 100 in a slice, as the real controller splits them.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::net::Ipv4Addr;
use std::path::Path;

const MOST_NODES: u32 = 12 * 256; // 10.244.0.0 to 10.255.255.0
const HOSTS: u32 = 250; // pods of one node: .2 to .251
const SLICE: u32 = 100;
const TIME: &str = "2026-11-23T22:15:13Z";
const REVISION: u32 = 1000;

/// The number of objects of each kind.
#[derive(Debug, Default, Clone, Copy)]
pub struct Size {
    pub nodes: u32,
    pub services: u32,
    pub endpoints: u32,
}

pub fn generate(size: Size, dir: &Path) -> Result<(), String> {
    let Size { nodes, services, endpoints } = size;
    if nodes > MOST_NODES {
        return Err(format!("at most {MOST_NODES} nodes"));
    }
    if services > 1 << 19 {
        return Err(format!("at most {} services", 1 << 19));
    }
    if endpoints > 0 && (nodes == 0 || services == 0) {
        return Err("endpoints need nodes and services".to_string());
    }
    if services > 0 && endpoints.div_ceil(services) > nodes * HOSTS {
        return Err(format!("at most {HOSTS} endpoints of one service on each node"));
    }
    fs::create_dir_all(dir).and_then(|()| write(size, dir)).map_err(|e| e.to_string())
}

fn write(size: Size, dir: &Path) -> io::Result<()> {
    let nodes = size.nodes;
    let mut by_name: Vec<u32> = (1..=nodes).collect();
    by_name.sort_by_key(|i| format!("node-{i}")); // the order of etcd
    list(dir, "nodes", "Node", "v1", by_name.into_iter().map(|i| node(i, nodes)))?;
    let services = 0..size.services;
    list(dir, "services", "Service", "v1", services.clone().map(service))?;
    let slices = services.clone().flat_map(|s| {
        let (first, end) = share(size, s);
        (first..end)
            .step_by(SLICE as usize)
            .enumerate()
            .map(move |(n, from)| slice(s, n, from..end.min(from + SLICE), nodes))
    });
    list(dir, "endpointslices", "EndpointSlice", "discovery.k8s.io/v1", slices)?;
    let endpoints = services.map(|s| {
        let (first, end) = share(size, s);
        core_endpoints(s, first..end, nodes)
    });
    list(dir, "endpoints", "Endpoints", "v1", endpoints)
}

/// Returns the range of endpoints that belong to a Service.
fn share(size: Size, service: u32) -> (u32, u32) {
    let cut = |s: u32| {
        let at = u64::from(size.endpoints) * u64::from(s) / u64::from(size.services);
        u32::try_from(at).unwrap_or(u32::MAX)
    };
    (cut(service), cut(service + 1))
}

fn list(
    dir: &Path,
    plural: &str,
    kind: &str,
    version: &str,
    items: impl Iterator<Item = String>,
) -> io::Result<()> {
    let path = dir.join(format!("{plural}.json"));
    let half = dir.join(format!(".{plural}.new"));
    let mut out = BufWriter::new(File::create(&half)?);
    write!(
        out,
        r#"{{"kind":"{kind}List","apiVersion":"{version}","metadata":{{"resourceVersion":"{REVISION}"}},"items":["#
    )?;
    for (n, item) in items.enumerate() {
        out.write_all(if n > 0 { b"," } else { b"" })?;
        out.write_all(item.as_bytes())?;
    }
    out.write_all(b"]}\n")?;
    out.flush()?;
    fs::rename(half, path)
}

fn uid(kind: u32, n: u32) -> String {
    format!("{n:08x}-{kind:04x}-4bbb-8ccc-{n:012x}")
}

fn node_address(i: u32, of: u32) -> Ipv4Addr {
    let base = if of <= 200 { Ipv4Addr::new(192, 0, 2, 10) } else { Ipv4Addr::new(172, 16, 0, 10) };
    Ipv4Addr::from_bits(base.to_bits() + i)
}

fn pod_network(node: u32) -> u32 {
    Ipv4Addr::new(10, 244, 0, 0).to_bits() + ((node - 1) << 8)
}

/// Returns the node and the address of an endpoint.
fn pod(endpoint: u32, nodes: u32) -> (u32, Ipv4Addr) {
    let node = endpoint % nodes + 1;
    let host = 2 + endpoint / nodes % HOSTS;
    (node, Ipv4Addr::from_bits(pod_network(node) + host))
}

fn node(i: u32, of: u32) -> String {
    let (uid, address) = (uid(1, i), node_address(i, of));
    let network = format!("{}/24", Ipv4Addr::from_bits(pod_network(i)));
    let zone = i % 2;
    let labels = format!(
        r#""kubernetes.io/arch":"arm64","kubernetes.io/hostname":"node-{i}","kubernetes.io/os":"linux","topology.kubernetes.io/region":"r1","topology.kubernetes.io/zone":"zone-{zone}""#
    );
    let managed = format!(
        r#"[{{"manager":"kubelet","operation":"Update","apiVersion":"v1","time":"{TIME}","fieldsType":"FieldsV1","fieldsV1":{{"f:metadata":{{"f:annotations":{{".":{{}},"f:volumes.kubernetes.io/controller-managed-attach-detach":{{}}}},"f:labels":{{".":{{}},"f:kubernetes.io/arch":{{}},"f:kubernetes.io/hostname":{{}},"f:kubernetes.io/os":{{}},"f:topology.kubernetes.io/region":{{}},"f:topology.kubernetes.io/zone":{{}}}}}}}}}},{{"manager":"kube-controller-manager","operation":"Update","apiVersion":"v1","time":"{TIME}","fieldsType":"FieldsV1","fieldsV1":{{"f:metadata":{{"f:annotations":{{"f:node.alpha.kubernetes.io/ttl":{{}}}}}},"f:spec":{{"f:podCIDR":{{}},"f:podCIDRs":{{".":{{}},"v:\"{network}\"":{{}}}}}}}}}},{{"manager":"kubelet","operation":"Update","apiVersion":"v1","time":"{TIME}","fieldsType":"FieldsV1","fieldsV1":{{"f:status":{{"f:addresses":{{".":{{}},"k:{{\"type\":\"Hostname\"}}":{{".":{{}},"f:address":{{}},"f:type":{{}}}},"k:{{\"type\":\"InternalIP\"}}":{{".":{{}},"f:address":{{}},"f:type":{{}}}}}},"f:conditions":{{"k:{{\"type\":\"MemoryPressure\"}}":{{"f:lastHeartbeatTime":{{}}}},"k:{{\"type\":\"Ready\"}}":{{"f:lastHeartbeatTime":{{}},"f:lastTransitionTime":{{}},"f:message":{{}},"f:reason":{{}},"f:status":{{}}}}}},"f:images":{{}}}}}},"subresource":"status"}}]"#
    );
    let ready = format!(
        r#"{{"type":"Ready","status":"True","lastHeartbeatTime":"{TIME}","lastTransitionTime":"{TIME}","reason":"KubeletReady","message":"kubelet is posting ready status"}}"#
    );
    let info = r#"{"machineID":"m","systemUUID":"u","bootID":"b","kernelVersion":"6.1.0","osImage":"Debian GNU/Linux 12 (bookworm)","containerRuntimeVersion":"containerd://2.0.0","kubeletVersion":"v1.36.2","kubeProxyVersion":"","operatingSystem":"linux","architecture":"arm64"}"#;
    format!(
        r#"{{"metadata":{{"name":"node-{i}","uid":"{uid}","resourceVersion":"{revision}","creationTimestamp":"{TIME}","labels":{{{labels}}},"annotations":{{"node.alpha.kubernetes.io/ttl":"0","volumes.kubernetes.io/controller-managed-attach-detach":"true"}},"managedFields":{managed}}},"spec":{{"podCIDR":"{network}","podCIDRs":["{network}"]}},"status":{{"capacity":{{"cpu":"4","memory":"8Gi","pods":"110"}},"allocatable":{{"cpu":"4","memory":"8Gi","pods":"110"}},"conditions":[{ready}],"addresses":[{{"type":"InternalIP","address":"{address}"}},{{"type":"Hostname","address":"node-{i}"}}],"daemonEndpoints":{{"kubeletEndpoint":{{"Port":10250}}}},"nodeInfo":{info}}}}}"#,
        revision = 100 + i % 800
    )
}

fn service(s: u32) -> String {
    let uid = uid(2, s);
    let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 1, 0).to_bits() + s);
    let revision = 100 + s % 800;
    let managed = format!(
        r#"[{{"manager":"helm","operation":"Update","apiVersion":"v1","time":"{TIME}","fieldsType":"FieldsV1","fieldsV1":{{"f:metadata":{{"f:labels":{{".":{{}},"f:app":{{}},"f:app.kubernetes.io/managed-by":{{}}}}}},"f:spec":{{"f:internalTrafficPolicy":{{}},"f:ports":{{".":{{}},"k:{{\"port\":80,\"protocol\":\"TCP\"}}":{{".":{{}},"f:name":{{}},"f:port":{{}},"f:protocol":{{}},"f:targetPort":{{}}}}}},"f:selector":{{}},"f:sessionAffinity":{{}},"f:type":{{}}}}}}}}]"#
    );
    format!(
        r#"{{"metadata":{{"name":"app-{s:05}","namespace":"scale","uid":"{uid}","resourceVersion":"{revision}","creationTimestamp":"{TIME}","labels":{{"app":"app-{s:05}","app.kubernetes.io/managed-by":"Helm"}},"managedFields":{managed}}},"spec":{{"ports":[{{"name":"http","protocol":"TCP","port":80,"targetPort":8080}}],"selector":{{"app":"app-{s:05}"}},"clusterIP":"{address}","clusterIPs":["{address}"],"type":"ClusterIP","sessionAffinity":"None","ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","internalTrafficPolicy":"Cluster"}},"status":{{"loadBalancer":{{}}}}}}"#
    )
}

fn target(s: u32, endpoint: u32) -> String {
    let uid = uid(3, endpoint);
    format!(
        r#"{{"kind":"Pod","namespace":"scale","name":"app-{s:05}-6d4cf56db6-{endpoint:05}","uid":"{uid}"}}"#
    )
}

fn slice(s: u32, n: usize, endpoints: std::ops::Range<u32>, nodes: u32) -> String {
    let (own, owner) = (uid(4, endpoints.start), uid(2, s));
    let revision = 100 + s % 800;
    let list: Vec<String> = endpoints
        .map(|e| {
            let ((node, address), target) = (pod(e, nodes), target(s, e));
            let zone = node % 2;
            format!(
                r#"{{"addresses":["{address}"],"conditions":{{"ready":true,"serving":true,"terminating":false}},"targetRef":{target},"nodeName":"node-{node}","zone":"zone-{zone}"}}"#
            )
        })
        .collect();
    let list = list.join(",");
    let managed = format!(
        r#"[{{"manager":"kube-controller-manager","operation":"Update","apiVersion":"discovery.k8s.io/v1","time":"{TIME}","fieldsType":"FieldsV1","fieldsV1":{{"f:addressType":{{}},"f:endpoints":{{}},"f:metadata":{{"f:annotations":{{".":{{}},"f:endpoints.kubernetes.io/last-change-trigger-time":{{}}}},"f:generateName":{{}},"f:labels":{{".":{{}},"f:endpointslice.kubernetes.io/managed-by":{{}},"f:kubernetes.io/service-name":{{}}}},"f:ownerReferences":{{".":{{}},"k:{{\"uid\":\"{owner}\"}}":{{}}}}}},"f:ports":{{}}}}}}]"#
    );
    format!(
        r#"{{"metadata":{{"name":"app-{s:05}-{n:05}","generateName":"app-{s:05}-","namespace":"scale","uid":"{own}","resourceVersion":"{revision}","generation":1,"creationTimestamp":"{TIME}","labels":{{"endpointslice.kubernetes.io/managed-by":"endpointslice-controller.k8s.io","kubernetes.io/service-name":"app-{s:05}"}},"annotations":{{"endpoints.kubernetes.io/last-change-trigger-time":"{TIME}"}},"ownerReferences":[{{"apiVersion":"v1","kind":"Service","name":"app-{s:05}","uid":"{owner}","controller":true,"blockOwnerDeletion":true}}],"managedFields":{managed}}},"addressType":"IPv4","endpoints":[{list}],"ports":[{{"name":"http","protocol":"TCP","port":8080}}]}}"#
    )
}

fn core_endpoints(s: u32, endpoints: std::ops::Range<u32>, nodes: u32) -> String {
    let uid = uid(5, s);
    let revision = 100 + s % 800;
    let list: Vec<String> = endpoints
        .take(1000) // the real controller stops here
        .map(|e| {
            let ((node, address), target) = (pod(e, nodes), target(s, e));
            format!(r#"{{"ip":"{address}","nodeName":"node-{node}","targetRef":{target}}}"#)
        })
        .collect();
    let subsets = if list.is_empty() {
        String::new()
    } else {
        let list = list.join(",");
        format!(
            r#","subsets":[{{"addresses":[{list}],"ports":[{{"name":"http","port":8080,"protocol":"TCP"}}]}}]"#
        )
    };
    format!(
        r#"{{"metadata":{{"name":"app-{s:05}","namespace":"scale","uid":"{uid}","resourceVersion":"{revision}","creationTimestamp":"{TIME}","labels":{{"endpoints.kubernetes.io/managed-by":"endpoint-controller"}}}}{subsets}}}"#
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_thousand_nodes_have_distinct_addresses_and_networks() {
        let addresses: BTreeSet<_> = (1..=1000).map(|i| node_address(i, 1000)).collect();
        let networks: BTreeSet<_> = (1..=MOST_NODES).map(pod_network).collect();
        assert_eq!((addresses.len(), networks.len()), (1000, MOST_NODES as usize));
        assert_eq!(pod(0, 1000).1, Ipv4Addr::new(10, 244, 0, 2));
    }

    #[test]
    fn every_object_is_json_and_every_endpoint_is_in_a_slice() {
        let size = Size { nodes: 3, services: 2, endpoints: 401 };
        let (first, end) = share(size, 1);
        assert_eq!((first, end), (200, 401));
        for text in [node(1, 3), service(1), slice(1, 0, 0..100, 3), core_endpoints(1, 0..5, 3)] {
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_size_without_enough_addresses_is_refused() {
        let dir = Path::new("/nonexistent");
        for (nodes, services, endpoints) in [(4000, 0, 0), (0, 1, 1), (1, 1, 251)] {
            assert!(generate(Size { nodes, services, endpoints }, dir).is_err());
        }
    }
}
