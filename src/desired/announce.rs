//! stub
use crate::{bgp::{self, Config, Export, Import, Origin, Own, Peer, Family}, cluster::Cluster, local::Local};
use super::Unmet;
/// stub
pub fn config(cluster: &Cluster, local: &Local) -> (Option<Config>, Vec<Unmet>) {
    let Some(told) = &local.options.bgp else { return (None, Vec::new()) };
    let Some(own) = cluster.nodes.get(&local.node) else { return (None, Vec::new()) };
    let addrs: Vec<_> = [own.addr(true), own.addr(false)].into_iter().flatten().collect();
    let Some(std::net::IpAddr::V4(id)) = own.addr(true) else { return (None, Vec::new()) };
    let mut peers = std::collections::BTreeMap::new();
    for node in cluster.nodes.values().filter(|n| n.name != own.name && told.inside) {
        if let Some(addr) = node.addr(true) {
            peers.insert(addr, Peer { node: Some(node.name.clone()), asn: told.asn, port: told.port, local: own.addr(true), password: None, hops: 0, hold: 90, client: false, passive: false });
        }
    }
    for r in &told.routers {
        peers.insert(r.addr, Peer { node: None, asn: r.asn, port: r.port, local: r.local, password: None, hops: told.hops, hold: told.hold, client: false, passive: false });
    }
    let _ = bgp::PORT;
    let config = Config { own: Own { asn: told.asn, id, addrs, port: told.port, families: Family::ALL.into_iter().collect(), cluster: None, restart: told.restart }, peers,
        origin: Origin { pods: own.pod_cidrs.iter().copied().collect(), services: Default::default() },
        export: Export { pods_inside: true, pods_outside: true, ..Export::default() },
        import: Import::default() };
    (Some(config), Vec::new())
}
