//! The healthCheckNodePorts of this node (Service `spec.healthCheckNodePort`). A load balancer
//! probes them to find the nodes that have endpoints of a Service with a Local policy, and sends
//! traffic only there. Pure; [`ports`] computes the answers, `report` serves them over HTTP.

use std::net::IpAddr;

use crate::{
    collections::{FlatMap, FlatSet},
    model::cluster::{Cluster, EndpointSlice, Name},
};

/// The answer for each healthCheckNodePort.
pub(crate) type HealthPorts = FlatMap<u16, Answering>;

/// The answer at one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answering {
    /// The Service whose endpoints are counted.
    pub service: Name,
    /// The number of its endpoints that are ready on this node. Terminating endpoints do not count
    /// even if they still serve: the load balancer should move elsewhere before they are gone.
    pub local: usize,
}

/// Returns the ports on which a node has to answer. If two Services have the same port (the API
/// does not allow it), the port belongs to the first one.
pub(crate) fn ports(cluster: &Cluster, node: &str) -> HealthPorts {
    let mut ports = HealthPorts::new();
    for service in cluster.services.values() {
        let is_local = !service.cluster_ips.is_empty() && service.external_local;
        if !is_local || service.health_port == 0 || ports.contains_key(&service.health_port) {
            continue;
        }
        let slices = cluster.slices.of(&service.name).filter(|slice| !slice.ports.is_empty());
        let addrs: FlatSet<IpAddr> = slices.flat_map(|slice| ready_here(slice, node)).collect();
        // A pod with an address of each family is one endpoint.
        let ipv4 = addrs.iter().filter(|addr| addr.is_ipv4()).count();
        let local = ipv4.max(addrs.len() - ipv4);
        ports.insert(service.health_port, Answering { service: service.name.clone(), local });
    }
    ports
}

/// Returns the addresses of a slice's endpoints that are ready on a node.
pub(crate) fn ready_here(slice: &EndpointSlice, node: &str) -> impl Iterator<Item = IpAddr> {
    let here = slice.endpoints.iter().filter(move |e| e.ready && e.node.as_deref() == Some(node));
    here.map(|endpoint| endpoint.addr)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        cluster::{Endpoint, Object, Service, SlicePort},
        items::Protocol,
    };

    fn service(name: &str, health_port: u16) -> Object {
        Object::Service(Service {
            name: Name { namespace: "shop".into(), name: name.into() },
            cluster_ips: vec![[10, 96, 0, 9].into()],
            external_local: true,
            health_port,
            ..Service::default()
        })
    }

    fn slice(name: &str, of: &str, ends: &[(&str, &str, bool, bool)]) -> Object {
        let endpoint = |(addr, node, ready, terminating): &(&str, &str, bool, bool)| Endpoint {
            addr: addr.parse().unwrap(),
            ready: *ready,
            serving: true,
            terminating: *terminating,
            node: Some((*node).into()),
            hints: None,
        };
        let port = SlicePort { name: "".into(), protocol: Protocol::Tcp, port: 80 };
        Object::EndpointSlice(EndpointSlice {
            name: Name { namespace: "shop".into(), name: name.into() },
            service: Some(of.into()),
            endpoints: ends.iter().map(endpoint).collect(),
            ports: vec![port],
        })
    }

    fn counts(objects: Vec<Object>) -> Vec<(u16, usize)> {
        let mut cluster = Cluster::default();
        objects.into_iter().for_each(|object| cluster.insert(object));
        ports(&cluster, "here").iter().map(|(port, a)| (*port, a.local)).collect()
    }

    #[test]
    fn only_ready_endpoints_of_this_node_count_and_each_address_once() {
        let ends = [
            ("10.244.0.1", "here", true, false),
            ("10.244.0.2", "here", false, false),
            ("10.244.0.3", "here", false, true),
            ("10.244.1.1", "there", true, false),
        ];
        let again = [("10.244.0.1", "here", true, false), ("10.244.0.4", "here", true, false)];
        let slices = [slice("web-1", "web", &ends), slice("web-2", "web", &again)];
        assert_eq!(counts([vec![service("web", 31000)], slices.to_vec()].concat()), [(31000, 2)]);
    }

    #[test]
    fn a_pod_with_an_address_of_each_family_is_one_endpoint() {
        let four = [("10.244.0.1", "here", true, false)];
        let six = [("fd44::1", "here", true, false)];
        let slices = [slice("web-4", "web", &four), slice("web-6", "web", &six)];
        assert_eq!(counts([vec![service("web", 31000)], slices.to_vec()].concat()), [(31000, 1)]);
    }

    #[test]
    fn a_service_without_endpoints_has_a_port_with_count_zero_and_one_without_a_health_port_has_none()
     {
        assert_eq!(counts(vec![service("web", 31000), service("db", 0)]), [(31000, 0)]);
        assert_eq!(counts(vec![service("a", 31000), service("b", 31000)]), [(31000, 0)]);
    }
}
