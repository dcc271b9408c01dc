//! A Service as IPVS holds it: its addresses on the dummy link, a virtual service per port, and its
//! endpoints as real servers.

use std::net::IpAddr;

use crate::{
    cluster::{EndpointSlice, Service},
    desired::endpoints,
    state::{DUMMY, Forward, Item, Set, TABLE_LOCAL, Virtual, host_net},
};

/// All items of one Service on a node whose addresses are `node` (IPv4 and IPv6, where it has
/// them). An address of a family that the node lacks is left out.
pub fn of(service: &Service, slices: &[&EndpointSlice], node: &[IpAddr]) -> Vec<Item> {
    let mut items = Vec::new();
    for &vip in &service.cluster_ips {
        let Some(&src) = node.iter().find(|a| a.is_ipv4() == vip.is_ipv4()) else { continue };
        for port in &service.ports {
            let at = Virtual { addr: vip, protocol: port.protocol, port: port.port };
            items.push(Item::Element { set: Set::Services, value: at });
            items.push(Item::Service {
                at,
                scheduler: "rr".into(),
                flags: 0,
                persistence: service.affinity,
            });
            let serving = endpoints::serving(slices.iter().copied(), port, vip.is_ipv4());
            items.extend(serving.into_iter().map(|(addr, port)| Item::Real {
                of: at,
                addr,
                port,
                weight: 1,
                forward: Forward::Masq,
            }));
        }
        if service.ports.is_empty() {
            continue;
        }
        items.push(Item::Addr { link: DUMMY.into(), addr: host_net(vip) });
        // Without it the node would take the virtual address itself as source, and a real server
        // elsewhere could not answer.
        items.push(Item::Route {
            table: TABLE_LOCAL,
            to: host_net(vip),
            via: None,
            dev: Some(DUMMY.into()),
            src: Some(src),
        });
    }
    items
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cluster::{Name, ServicePort},
        state::Protocol,
    };

    #[test]
    fn a_family_that_the_node_lacks_is_left_out() {
        let service = Service {
            name: Name { namespace: "shop".into(), name: "web".into() },
            cluster_ips: vec!["10.96.0.10".parse().unwrap(), "fd96::10".parse().unwrap()],
            ports: vec![ServicePort {
                name: "".into(),
                protocol: Protocol::Udp,
                port: 53,
                node_port: None,
            }],
            ..Service::default()
        };
        let items = of(&service, &[], &["192.0.2.11".parse().unwrap()]);
        assert_eq!(items.len(), 4, "{items:?}");
        assert!(items.iter().all(|i| !format!("{i:?}").contains("fd96")));
    }
}
