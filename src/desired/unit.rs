//! Some Services alone, the Nodes alone, or some routes that BGP learned: what an event about them changes,
//! at a cost that does not grow with all that there is.
//!
//! Worked out once before the cluster changes and once after it; the difference is all that there is
//! to do, as long as the kernel held what was wanted. Items that several Services share are given up
//! only where it is plain that nobody else has them; a look at everything finds the rest.

use ipnet::IpNet;

pub use super::unit_nodes::NodeItems;

use super::{
    Unmet, is_removable, routes,
    services::{Claims, NodeContext},
    view::{Draft, NOTHING, View, has_ipv6, own_node},
};
use crate::{
    bgp::rib::Learned,
    collections::FlatSet,
    error::Result,
    model::{
        cluster::{Cluster, Name},
        items::{DUMMY, Item, ItemSet, ServiceKey, SetElement, TABLE_LOCAL},
        local::{Local, Module},
        nftables::Set,
    },
};

/// What follows from one Service and its slices.
#[derive(Debug, Default)]
pub struct UnitItems {
    /// Its items.
    pub state: ItemSet,
    /// What of it can't be had.
    pub unmet: Vec<Unmet>,
}

/// One moment of the cluster, from which Services are worked out one by one.
pub struct ClusterView<'a> {
    pub(super) view: View<'a>,
    place: NodeContext<'a>,
}

impl<'a> ClusterView<'a> {
    /// As [`super::desired`] sees it: nothing can be said without this node's own Node.
    pub fn of(cluster: &'a Cluster, local: &'a Local) -> Result<ClusterView<'a>> {
        let own = own_node(cluster, local)?;
        let view = View { cluster, local, own, ipv6: has_ipv6(local), asked: &|_| true };
        Ok(ClusterView { place: view.place(), view })
    }

    /// The part of a Service; an empty one where there is none of this name.
    pub fn part(&self, name: &Name, claims: &mut Claims) -> UnitItems {
        let view = &self.view;
        let served = view.local.options.services && view.module("ip_vs") != Some(Module::Absent);
        let Some(service) = view.cluster.services.get(name).filter(|_| served) else {
            return UnitItems::default();
        };
        let (items, unmet) = view.service(service, &self.place, claims);
        UnitItems { state: items.collect(), unmet }
    }

    /// The routes to some networks as `old` had them, and as `new` has them; `None` where that is not all
    /// that follows from it. Nobody else may have changed.
    pub fn reroute(
        &self,
        (old, new): (&Learned, &Learned),
        nets: &FlatSet<IpNet>,
        claims: &Claims,
    ) -> Option<(ItemSet, ItemSet)> {
        let view = &self.view;
        let [then, now] = [old, new].map(|learned| routes::RouteFilter::of(view, learned));
        let [before, after] = [&then, &now].map(|bounds| {
            let mut draft = Draft::default();
            let claimed = routes::of_nodes(view, bounds, &mut draft);
            draft.items.retain(|item| matches!(item, Item::Route { to, .. } if nets.contains(to)));
            routes::of_peers(view, bounds, bounds.routes_to(nets), &claimed, claims, &mut draft);
            draft
        });
        let alone = !now.differ(&then) && before.unmet == after.unmet;
        alone.then(|| (before.items.into(), after.items.into()))
    }
}

/// Gives up what Services had and have no use for any more.
pub fn release_claims(before: &ItemSet, after: &ItemSet, claims: &mut Claims) {
    let served: FlatSet<ServiceKey> = after.iter().filter_map(service).collect();
    for at in before.iter().filter_map(service).filter(|at| !served.contains(at)) {
        if let ServiceKey::Address(at) = at {
            claims.release(&at);
        }
    }
}

fn service(item: &Item) -> Option<ServiceKey> {
    if let Item::Service { at, .. } = item { Some(*at) } else { None }
}

/// Whether an item that a Service had, and gave up, may be taken away.
pub fn is_removable_service_item(
    item: &Item,
    cluster: &Cluster,
    local: &Local,
    claims: &Claims,
) -> bool {
    let shared = match item {
        Item::Element { set: Set::Vips, value: SetElement::Addr(addr) } => claims.has(*addr),
        Item::Addr { link, addr } if **link == *DUMMY => claims.has(addr.addr()),
        Item::Route { table: TABLE_LOCAL, to, .. } => claims.has(to.addr()),
        Item::Element {
            set: Set::Loops | Set::NodeIps | Set::TcpPorts | Set::UdpPorts | Set::SctpPorts,
            ..
        }
        | Item::Module { .. } => true,
        _ => false,
    };
    !shared && is_removable(item, &cluster.doubtful, &NOTHING, local)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::{
        desired::{desired, view::tests::Dice},
        model::{
            cluster::{Endpoint, EndpointSlice, Node, Service, ServicePort, SlicePort},
            items::Protocol,
            local::Host,
        },
    };

    fn name(number: u64) -> Name {
        Name { namespace: "shop".into(), name: format!("s{number}").into() }
    }

    /// Addresses are seldom shared, and ports often.
    fn service(number: u64, dice: &mut Dice) -> Service {
        let last = |number: u64| number as u8;
        let mut ports = Vec::new();
        for i in 0..1 + dice.below(3) {
            let protocol = if dice.one_in(3) { Protocol::Udp } else { Protocol::Tcp };
            let node_port = dice.one_in(3).then(|| 30_000 + (number * 4 + i) as u16);
            let port = 80 + (number * 4 + i) as u16;
            ports.push(ServicePort { name: format!("p{i}").into(), protocol, port, node_port });
        }
        let external: &[IpAddr] = &[[192, 0, 2, 11].into(), [198, 51, 100, 7].into()];
        Service {
            name: name(number),
            cluster_ips: vec![[10, 96, 0, last(number)].into()],
            external_ips: external.iter().filter(|_| dice.one_in(3)).copied().collect(),
            ports,
            affinity: if dice.one_in(4) { 600 } else { 0 },
            internal_local: dice.one_in(5),
            external_local: dice.one_in(3),
            ..Service::default()
        }
    }

    fn slice(number: u64, of: u64, dice: &mut Dice) -> EndpointSlice {
        let endpoint = |dice: &mut Dice| {
            let (ready, here) = (!dice.one_in(4), dice.one_in(3));
            Endpoint {
                addr: [10, 244, u8::from(!here), 1 + dice.below(9) as u8].into(),
                ready,
                serving: true,
                terminating: !ready,
                node: Some(if here { "a".into() } else { "b".into() }),
                hints: None,
            }
        };
        let port = |i: u16| {
            let (name, port): (Box<str>, u16) = (format!("p{i}").into(), 8080 + i);
            [Protocol::Tcp, Protocol::Udp].map(|protocol| SlicePort {
                name: name.clone(),
                protocol,
                port,
            })
        };
        EndpointSlice {
            name: Name { namespace: "shop".into(), name: format!("x{number}").into() },
            service: Some(name(of).name),
            endpoints: (0..dice.below(4)).map(|_| endpoint(dice)).collect(),
            ports: (0..3).flat_map(port).collect(),
        }
    }

    fn local() -> Local {
        let link = crate::model::local::HostLink {
            name: "eth0".into(),
            mtu: 1500,
            addrs: vec!["192.0.2.11/24".parse().unwrap()],
        };
        crate::desired::view::tests::local(Some(Host { links: vec![link], ..Host::default() }))
    }

    #[test]
    fn what_changes_alone_comes_to_what_all_of_it_comes_to() {
        let mut dice = Dice(0x6b69_6e67_6c65_7431);
        let mut cluster = Cluster::default();
        for (node, last) in [("a", 11), ("b", 12)] {
            let internal_ips = vec![[192, 0, 2, last].into()];
            let pod_cidrs = vec![format!("10.244.{}.0/24", last - 11).parse().unwrap()];
            let node = Node { name: node.into(), internal_ips, pod_cidrs, ..Node::default() };
            cluster.nodes.insert(node.name.clone(), node);
        }
        let local = local();
        let mut whole = desired(&cluster, &NOTHING, &local).unwrap();
        let (mut alone, mut removed) = (0, 0);
        for _ in 0..4000 {
            let (number, changed) = (dice.below(12), dice.below(20));
            let mut touched = FlatSet::from([name(number)]);
            let mut next = cluster.clone();
            if dice.one_in(3) {
                next.services.remove(&name(number));
                if !dice.one_in(3) {
                    next.services.insert(name(number), service(number, &mut dice));
                }
            } else {
                let slice = slice(changed, number, &mut dice);
                let key = slice.name.clone();
                touched.extend(next.slices.remove(&key).and_then(|s| s.of()));
                if !dice.one_in(4) {
                    next.slices.insert(slice);
                }
            }
            let fresh = desired(&next, &NOTHING, &local).unwrap();
            if whole.claims.is_contested() || fresh.claims.is_contested() {
                (cluster, whole) = (next, fresh);
                continue;
            }
            let claims = &mut whole.claims;
            let parts = |cluster: &Cluster, claims: &mut Claims| -> ItemSet {
                let moment = ClusterView::of(cluster, &local).unwrap();
                touched.iter().flat_map(|name| moment.part(name, claims).state).collect()
            };
            let before = parts(&cluster, claims);
            assert!(before.iter().all(|item| whole.state.contains(item)), "{before:#?}");
            let after = {
                let moment = ClusterView::of(&next, &local).unwrap();
                let mut after = ItemSet::new();
                for name in &touched {
                    let one = moment.part(name, claims).state;
                    let was = parts_of(&cluster, &local, name, claims);
                    release_claims(&was, &one, claims);
                    after.extend(one);
                }
                after
            };
            let gone: Vec<_> = before
                .iter()
                .filter(|item| {
                    !after.contains(*item) && is_removable_service_item(item, &next, &local, claims)
                })
                .cloned()
                .collect();
            removed += gone.len();
            whole.state.retain(|item| !gone.contains(item));
            let changed: FlatSet<_> = after.iter().map(Item::key).collect();
            whole.state.retain(|item| !changed.contains(&item.key()));
            whole.state.extend(after);
            let lacks: Vec<_> =
                fresh.state.iter().filter(|item| !whole.state.contains(*item)).collect();
            assert_eq!(lacks, [] as [&Item; 0]);
            let shared = |item: &&Item| {
                matches!(item, Item::Module { .. })
                    || matches!(item, Item::Element { set, .. }
                        if [Set::Loops, Set::NodeIps, Set::TcpPorts, Set::UdpPorts].contains(set))
            };
            let more = |item: &&Item| !fresh.state.contains(*item) && !shared(item);
            let more: Vec<_> = whole.state.iter().filter(more).collect();
            assert_eq!(more, [] as [&Item; 0]);
            (cluster, whole.state, alone) = (next, fresh.state, alone + 1);
        }
        assert!(alone > 1000 && removed > 1000, "{alone} {removed}");
    }

    fn parts_of(cluster: &Cluster, local: &Local, name: &Name, claims: &mut Claims) -> ItemSet {
        ClusterView::of(cluster, local).unwrap().part(name, claims).state
    }
}
