//! Which endpoints serve a port of a Service: kube-proxy's `CategorizeEndpoints`
//! (`pkg/proxy/topology.go`), with the rules of the KEPs 1669 (terminating endpoints), 2433 and 3015
//! (hints).
//!
//! What several slices say of one address and port is first made one candidate; then each policy
//! picks from the candidates on its own. Whether to drop or to reject where nothing is picked is for
//! the caller, who knows the policy.

#[cfg(test)]
mod cases;

use std::net::IpAddr;

use crate::{
    cluster::{Endpoint, EndpointSlice, Node, ServicePort, SlicePort},
    few::Sorted,
};

/// Which endpoints of a Service's port serve, by policy.
#[derive(Debug, Default, PartialEq)]
pub struct Choice {
    /// With a Cluster policy.
    pub cluster: Sorted<(IpAddr, u16)>,
    /// With a Local policy: those on this node.
    pub local: Sorted<(IpAddr, u16)>,
    /// Whether there is any endpoint that could serve somewhere: a Local policy without a local one
    /// drops then, and rejects otherwise.
    pub any: bool,
}

/// Chooses among the endpoints of all slices of a Service, for one of its ports and one family, as
/// seen from a node. The port is matched by name and protocol; its number may differ from slice to
/// slice.
pub fn choose<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    port: &ServicePort,
    ipv4: bool,
    node: &Node,
) -> Choice {
    let mut found: Vec<((IpAddr, u16), &Endpoint)> = Vec::new();
    for slice in slices {
        let same = |p: &&SlicePort| p.name == port.name && p.protocol == port.protocol;
        let Some(target) = slice.ports.iter().find(same).filter(|p| p.port > 0) else { continue };
        let endpoints = slice.endpoints.iter().filter(|e| e.addr.is_ipv4() == ipv4);
        found.extend(endpoints.map(|endpoint| ((endpoint.addr, target.port), endpoint)));
    }
    found.sort_unstable_by_key(|(at, _)| *at);
    let candidates = found.chunk_by(|(a, _), (b, _)| a == b).map(|same| {
        let mut candidate = Candidate::default();
        same.iter().for_each(|(_, endpoint)| candidate.add(endpoint, node));
        (same[0].0, candidate)
    });
    let candidates: Vec<((IpAddr, u16), Candidate)> = candidates.collect();
    let preferred = topology(&candidates);
    let pick = |wanted: &dyn Fn(&Candidate) -> bool| -> Sorted<(IpAddr, u16)> {
        candidates.iter().filter(|(_, c)| wanted(c)).map(|(at, _)| *at).collect()
    };
    // Where a topology is preferred it has a ready endpoint: nothing found means none anywhere.
    let mut cluster = pick(&|c| c.ready && preferred(c));
    if cluster.is_empty() {
        cluster = pick(&|c| c.draining);
    }
    let mut local = pick(&|c| c.ready && c.local);
    if local.is_empty() {
        local = pick(&|c| c.draining && c.local);
    }
    let any = candidates.iter().any(|(_, c)| c.ready || c.draining);
    Choice { cluster, local, any }
}

/// All that the slices say of one address and port. Controllers move endpoints between slices, so
/// the same one may stand in two of them for a while, in its old state and its new: what one of them
/// grants is granted, in whatever order they come.
#[derive(Default)]
struct Candidate {
    ready: bool,
    /// Terminating, and still serving.
    draining: bool,
    /// On this node.
    local: bool,
    for_nodes: Hint,
    for_zones: Hint,
}

/// What the hints say to this node. Those of endpoints that are not ready say nothing.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Hint {
    #[default]
    Missing,
    Elsewhere,
    Here,
}

impl Candidate {
    fn add(&mut self, endpoint: &Endpoint, node: &Node) {
        self.ready |= endpoint.ready;
        self.draining |= endpoint.serving && endpoint.terminating;
        self.local |= endpoint.node.as_ref() == Some(&node.name);
        if let (true, Some(hints)) = (endpoint.ready, &endpoint.hints) {
            self.for_nodes = self.for_nodes.max(Hint::of(&hints.nodes, Some(&node.name)));
            self.for_zones = self.for_zones.max(Hint::of(&hints.zones, node.zone.as_deref()));
        }
    }
}

impl Hint {
    fn of(names: &[Box<str>], own: Option<&str>) -> Hint {
        match own {
            _ if names.is_empty() => Hint::Missing,
            Some(own) if names.iter().any(|name| **name == *own) => Hint::Here,
            _ => Hint::Elsewhere,
        }
    }
}

/// Which ready endpoints the hints leave to this node. Hints count only where every ready endpoint
/// has them, and one of them is for us: otherwise the controller that gave them does not know of this
/// node or of that endpoint yet, and following them could leave us with none.
fn topology(candidates: &[((IpAddr, u16), Candidate)]) -> fn(&Candidate) -> bool {
    let usable = |hint: fn(&Candidate) -> Hint| {
        let mut hints = candidates.iter().map(|(_, c)| c).filter(|c| c.ready).map(hint);
        let least = hints.clone().min();
        least > Some(Hint::Missing) && hints.any(|hint| hint == Hint::Here)
    };
    if usable(|c| c.for_nodes) {
        |c| c.for_nodes == Hint::Here
    } else if usable(|c| c.for_zones) {
        |c| c.for_zones == Hint::Here
    } else {
        |_| true
    }
}
