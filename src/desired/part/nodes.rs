//! The Nodes together: what an event about one of them changes, at a cost that grows with them and not
//! with the Services.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Moment;
use crate::{
    bgp::rib::Learned,
    cluster::{Node, Service},
    desired::{Draft, Unmet, node, routes, services::Claims},
    few::{Sorted, differing},
    state::State,
};

/// What follows from the Nodes at one moment, and from no Service.
#[derive(Debug)]
pub struct Nodes {
    own: Node,
    /// The addresses that no Service may have.
    taken: Sorted<IpAddr>,
    /// The networks to which there are routes, or are to be none.
    claimed: Sorted<IpNet>,
    unmet: Vec<Unmet>,
    /// The routes to their pods, and what nftables knows of them.
    pub state: State,
}

impl Moment<'_> {
    /// What follows from the Nodes, and from what BGP learned of their pods.
    pub fn nodes(&self, learned: &Learned) -> Nodes {
        self.nodes_within(&routes::Bounds::of(&self.view, learned))
    }

    fn nodes_within(&self, bounds: &routes::Bounds<'_>) -> Nodes {
        let view = &self.view;
        let mut draft = Draft::default();
        let mut claimed = routes::Claimed::new();
        if view.local.options.router {
            claimed = routes::of_nodes(view, bounds, &mut draft);
        }
        if view.local.options.table() && view.has_table() {
            node::elements(view, &mut draft);
        }
        Nodes {
            own: view.own.clone(),
            taken: view.taken(),
            claimed: claimed.keys().copied().collect(),
            unmet: draft.unmet,
            state: draft.items.into(),
        }
    }

    /// What follows from the Nodes now, if nothing else changes with it: neither what others may have that
    /// a Node had, nor what is told of them.
    pub fn renode(&self, old: &Nodes, learned: &Learned, claims: &mut Claims) -> Option<State> {
        let view = &self.view;
        let bounds = routes::Bounds::of(view, learned);
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

fn only_one_has<T: Ord + Copy>(a: &Sorted<T>, b: &Sorted<T>) -> Sorted<T> {
    let [a, b] = [a, b].map(|values| values.iter().map(|value| (*value, ())));
    differing(a, b)
}

#[cfg(test)]
mod tests;
