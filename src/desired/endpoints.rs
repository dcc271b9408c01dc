//! Which endpoints serve a port of a Service.

use std::{collections::BTreeSet, net::IpAddr};

use crate::cluster::{Endpoint, EndpointSlice, ServicePort, SlicePort};

/// The ready endpoints of all slices of a Service for one of its ports and one family, each with
/// the port that it listens on; those of one node `only`, where the policy is Local. The port is matched by name and protocol, and its number may
/// differ from slice to slice; what stands in several slices counts once.
pub fn serving<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    port: &ServicePort,
    ipv4: bool,
    only: Option<&str>,
) -> BTreeSet<(IpAddr, u16)> {
    let mut serving = BTreeSet::new();
    for slice in slices {
        let same = |p: &&SlicePort| p.name == port.name && p.protocol == port.protocol;
        let Some(target) = slice.ports.iter().find(same) else { continue };
        let near = |e: &Endpoint| only.is_none() || e.node.as_deref() == only;
        let ready = |e: &&Endpoint| e.ready && e.addr.is_ipv4() == ipv4 && near(e);
        serving.extend(slice.endpoints.iter().filter(ready).map(|e| (e.addr, target.port)));
    }
    serving
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cluster::Name, state::Protocol};

    fn slice(addrs: &[(&str, bool)], port: u16) -> EndpointSlice {
        let endpoint = |&(addr, ready): &(&str, bool)| Endpoint {
            addr: addr.parse().unwrap(),
            ready,
            serving: ready,
            terminating: false,
            node: None,
            hints: None,
        };
        EndpointSlice {
            name: Name { namespace: "shop".into(), name: "web-1".into() },
            service: Some("web".into()),
            endpoints: addrs.iter().map(endpoint).collect(),
            ports: vec![SlicePort { name: "http".into(), protocol: Protocol::Tcp, port }],
        }
    }

    fn http() -> ServicePort {
        ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 80, node_port: None }
    }

    #[test]
    fn only_ready_endpoints_of_the_family_serve() {
        let slice = slice(&[("10.0.0.1", true), ("10.0.0.2", false), ("fd00::1", true)], 8080);
        let found = serving([&slice], &http(), true, None);
        assert_eq!(found, BTreeSet::from([("10.0.0.1".parse().unwrap(), 8080)]));
    }

    #[test]
    fn slices_are_merged_each_with_its_own_port_number_and_duplicates_count_once() {
        let a = slice(&[("10.0.0.1", true), ("10.0.0.2", true)], 8080);
        let b = slice(&[("10.0.0.1", true)], 8080);
        let c = slice(&[("10.0.0.1", true)], 9090);
        assert_eq!(serving([&a, &b, &c], &http(), true, None).len(), 3);
    }

    #[test]
    fn with_a_local_policy_only_the_endpoints_of_this_node_serve() {
        let mut slice = slice(&[("10.0.0.1", true), ("10.0.0.2", true)], 8080);
        slice.endpoints[1].node = Some("node-2".into());
        let found = serving([&slice], &http(), true, Some("node-2"));
        assert_eq!(found, BTreeSet::from([("10.0.0.2".parse().unwrap(), 8080)]));
    }

    #[test]
    fn a_port_of_another_name_or_protocol_is_not_served() {
        let slice = slice(&[("10.0.0.1", true)], 8080);
        let udp = ServicePort { protocol: Protocol::Udp, ..http() };
        let other = ServicePort { name: "".into(), ..http() };
        assert!(serving([&slice], &udp, true, None).is_empty());
        assert!(serving([&slice], &other, true, None).is_empty());
    }
}
