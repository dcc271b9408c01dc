//! The Nodes together: what an event about one of them changes, at a cost that grows with them and not
//! with the Services.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Unmet, node, routes, services::Claims, unit::ClusterView, view::Draft};
use crate::{
    collections::{FlatSet, changed_keys},
    model::{
        bgp::Learned,
        cluster::{Node, Service},
        items::ItemSet,
    },
};

/// What follows from the Nodes at one moment, and from no Service.
#[derive(Debug)]
pub struct NodeItems {
    own: Node,
    /// The addresses that no Service may have.
    taken: FlatSet<IpAddr>,
    /// The networks to which there are routes, or are to be none.
    claimed: FlatSet<IpNet>,
    unmet: Vec<Unmet>,
    /// The routes to their pods, and what nftables knows of them.
    pub state: ItemSet,
}

impl ClusterView<'_> {
    /// What follows from the Nodes, and from what BGP learned of their pods.
    pub fn nodes(&self, learned: &Learned) -> NodeItems {
        self.nodes_within(&routes::RouteFilter::of(&self.view, learned))
    }

    fn nodes_within(&self, bounds: &routes::RouteFilter<'_>) -> NodeItems {
        let view = &self.view;
        let mut draft = Draft::default();
        let mut claimed = routes::Claimed::new();
        if view.local.options.router {
            claimed = routes::of_nodes(view, bounds, &mut draft);
        }
        if view.local.options.table() && view.has_table() {
            node::elements(view, &mut draft);
        }
        NodeItems {
            own: view.own.clone(),
            taken: view.taken(),
            claimed: claimed.keys().copied().collect(),
            unmet: draft.unmet,
            state: draft.items.into(),
        }
    }

    /// What follows from the Nodes now, if nothing else changes with it: neither what others may have that
    /// a Node had, nor what is told of them.
    pub fn renode(
        &self,
        old: &NodeItems,
        learned: &Learned,
        claims: &mut Claims,
    ) -> Option<ItemSet> {
        let view = &self.view;
        let bounds = routes::RouteFilter::of(view, learned);
        let new = self.nodes_within(&bounds);
        let nets = only_one_has(&old.claimed, &new.claimed);
        let addrs = only_one_has(&old.taken, &new.taken);
        let fixed = |service: &Service| !service.addrs().any(|addr| addrs.contains(&addr));
        let alone = (&old.own, &old.unmet) == (&new.own, &new.unmet)
            && bounds.routes_to(&nets).next().is_none()
            && (addrs.is_empty() || !bounds.routes_a_link())
            && (addrs.is_empty() || view.cluster.services.values().all(fixed));
        alone.then(|| {
            claims.taken(new.taken);
            new.state
        })
    }
}

fn only_one_has<T: Ord + Copy>(a: &FlatSet<T>, b: &FlatSet<T>) -> FlatSet<T> {
    let [a, b] = [a, b].map(|values| values.iter().map(|value| (*value, ())));
    changed_keys(a, b)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        desired::{
            desired,
            view::tests::{self, Dice},
        },
        model::{
            cluster::{Cluster, Object},
            items::{Item, NextHops},
        },
    };

    /// Two may have one network or one address, one lies behind a router, and one in a network of pods.
    fn node(name: &str, dice: &mut Dice) -> Node {
        let addr =
            dice.of(&["192.0.2.12", "192.0.2.13", "192.0.2.14", "198.51.100.1", "10.244.1.9"]);
        let pods = dice.of(&["10.244.1.0/24", "10.244.2.0/24", "10.244.2.0/25", "fd44:1::/64"]);
        Node {
            name: name.into(),
            internal_ips: vec![addr.parse().unwrap()],
            pod_cidrs: vec![pods.parse().unwrap()],
            ready: dice.below(3) > 0,
            ..Node::default()
        }
    }

    fn service(dice: &mut Dice) -> Service {
        let external = dice.of(&["192.0.2.11", "192.0.2.13", "203.0.113.7", "203.0.113.8"]);
        let Object::Service(web) = tests::service("web", "10.96.0.1", 80) else { unreachable!() };
        Service { external_ips: vec![external.parse().unwrap()], ..web }
    }

    fn learned(dice: &mut Dice) -> Learned {
        let mut learned = Learned { complete: dice.below(2) > 0, ..Learned::default() };
        if dice.below(3) == 0 {
            let to =
                dice.of(&["10.244.1.0/24", "10.244.2.0/24", "192.0.2.12/30", "203.0.113.0/24"]);
            let via =
                NextHops::new([dice.of(&["192.0.2.12", "192.0.2.20"]).parse().unwrap()]).unwrap();
            learned.routes.insert(to.parse().unwrap(), via);
        }
        if dice.below(3) == 0 {
            learned.lost.insert("192.0.2.13".parse().unwrap());
        }
        learned
    }

    #[test]
    fn nodes_that_change_alone_come_to_what_all_of_it_comes_to() {
        let mut dice = Dice(0x6b69_6e67_6c65_7433);
        let local = tests::local(Some(tests::host("192.0.2.11/24")));
        let mut cluster = Cluster::default();
        let own =
            Node { internal_ips: vec!["192.0.2.11".parse().unwrap()], ..node("a", &mut dice) };
        let own = Node { pod_cidrs: vec!["10.244.0.0/24".parse().unwrap()], ..own };
        cluster.nodes.insert(own.name.clone(), own.clone());
        let (mut alone, mut steps) = (0, 0);
        for _ in 0..6000 {
            let service = service(&mut dice);
            cluster.services.insert(service.name.clone(), service);
            let learned = learned(&mut dice);
            let mut next = cluster.clone();
            for _ in 0..=dice.below(2) {
                let name = dice.of(&["a", "b", "c", "d"]);
                match (name, dice.below(3)) {
                    ("a", 0) => {
                        next.nodes.insert(name.into(), Node { ready: false, ..own.clone() })
                    }
                    ("a", _) => next.nodes.insert(name.into(), own.clone()),
                    (_, 0) => next.nodes.remove(name),
                    _ => next.nodes.insert(name.into(), node(name, &mut dice)),
                };
            }
            let [before, after] =
                [&cluster, &next].map(|cluster| desired(cluster, &learned, &local).unwrap());
            let old = ClusterView::of(&cluster, &local).unwrap().nodes(&learned);
            let mut claims = before.claims;
            let moment = ClusterView::of(&next, &local).unwrap();
            if let Some(want) = moment.renode(&old, &learned, &mut claims) {
                assert!(old.state.iter().all(|item| before.state.contains(item)));
                let kept = before.state.iter().filter(|item| !old.state.contains(*item)).cloned();
                assert_eq!(kept.chain(want.iter().cloned()).collect::<ItemSet>(), after.state);
                assert_eq!(before.unmet, after.unmet);
                assert_eq!(format!("{claims:?}"), format!("{:?}", after.claims));
                let routes = |state: &ItemSet| {
                    state
                        .iter()
                        .filter(|i| matches!(i, Item::Route { .. }))
                        .cloned()
                        .collect::<ItemSet>()
                };
                alone += 1;
                steps += usize::from(routes(&old.state) != routes(&want));
            }
            cluster = next;
        }
        assert!(alone > 1000 && steps > 200, "{alone} {steps}");
    }
}
