//! A Service as IPVS holds it: its addresses on the dummy link, a virtual service per port, and its
//! endpoints as real servers.

use std::net::IpAddr;

use super::Unmet;
use crate::{
    cluster::{EndpointSlice, Node, Service, ServicePort},
    desired::endpoints,
    state::{DUMMY, Forward, Item, Set, TABLE_LOCAL, Virtual, host_net},
};

/// Where a Service is to be served.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// This node.
    pub node: &'a Node,
    /// This node's addresses, one of each family that it has.
    pub addrs: &'a [IpAddr],
    /// Whether there is a table to record our IPVS services in.
    pub record: bool,
}

/// All items of one Service, and what of it can't be had. `claim` says whether a virtual service may
/// be ours, or why not. An address of a family that the node lacks is left out.
pub fn of(
    service: &Service,
    slices: &[&EndpointSlice],
    place: &Place<'_>,
    mut claim: impl FnMut(&Virtual) -> Result<(), &'static str>,
) -> (Vec<Item>, Vec<Unmet>) {
    let (mut items, mut unmet) = (Vec::new(), beyond(service));
    for &vip in &service.cluster_ips {
        let Some(&src) = place.addrs.iter().find(|a| a.is_ipv4() == vip.is_ipv4()) else {
            continue;
        };
        let mut served = false;
        for port in &service.ports {
            let at = Virtual { addr: vip, protocol: port.protocol, port: port.port };
            match claim(&at) {
                Ok(()) => {
                    items.extend(virtual_service(service, slices, place, at, port));
                    served = true;
                }
                Err(why) => {
                    unmet.push(Unmet::new(format!("{at} of Service {}", service.name), why));
                }
            }
        }
        if !served {
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
    (items, unmet)
}

/// The virtual service of one port, and its endpoints as real servers.
fn virtual_service(
    service: &Service,
    slices: &[&EndpointSlice],
    place: &Place<'_>,
    at: Virtual,
    port: &ServicePort,
) -> Vec<Item> {
    let persistence = service.affinity;
    let mut items = vec![Item::Service { at, scheduler: "rr".into(), flags: 0, persistence }];
    if place.record {
        items.push(Item::Element { set: Set::Services, value: at });
    }
    let choice = endpoints::choose(slices.iter().copied(), port, at.addr.is_ipv4(), place.node);
    let serving = if service.internal_local { choice.local } else { choice.cluster };
    items.extend(serving.into_iter().map(|(addr, port)| Item::Real {
        of: at,
        addr,
        port,
        weight: 1,
        forward: Forward::Masq,
    }));
    items
}

/// What it asks for that this version does not do.
fn beyond(service: &Service) -> Vec<Unmet> {
    let list = |addrs: &[IpAddr]| {
        let addrs: Vec<String> = addrs.iter().map(ToString::to_string).collect();
        addrs.join(", ")
    };
    let mut beyond = Vec::new();
    if !service.external_ips.is_empty() {
        beyond.push(format!("external address {}", list(&service.external_ips)));
    }
    if !service.balancer_ips.is_empty() {
        beyond.push(format!("load balancer address {}", list(&service.balancer_ips)));
    }
    let node_ports: Vec<String> =
        service.ports.iter().filter_map(|p| Some(p.node_port?.to_string())).collect();
    if !node_ports.is_empty() {
        beyond.push(format!("NodePort {}", node_ports.join(", ")));
    }
    let why =
        "this version serves ClusterIPs only; kube-proxy or kube-router can serve it meanwhile";
    let unmet = |what| Unmet::new(format!("{what} of Service {}", service.name), why);
    beyond.into_iter().map(unmet).collect()
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
        let node = Node::default();
        let place = Place { node: &node, addrs: &["192.0.2.11".parse().unwrap()], record: true };
        let (items, _) = of(&service, &[], &place, |_| Ok(()));
        assert_eq!(items.len(), 4, "{items:?}");
        assert!(items.iter().all(|i| !format!("{i:?}").contains("fd96")));
    }
}
