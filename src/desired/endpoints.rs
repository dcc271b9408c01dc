//! Selects the endpoints that serve a port of a Service: kube-proxy's `CategorizeEndpoints`
//! (`pkg/proxy/topology.go`), with the rules of KEPs 1669 (terminating endpoints), 2433 and 3015
//! (topology hints).
//!
//! [`choose`] first merges the entries that several slices have for one address and port into one
//! `Candidate`; then each traffic policy selects among the candidates on its own. If nothing is
//! selected, the caller decides between dropping and rejecting, because it knows the policy.

use std::net::IpAddr;

use crate::{
    collections::FlatSet,
    family::Family,
    model::cluster::{Endpoint, EndpointSlice, Node, ServicePort, SlicePort},
};

/// The endpoints that serve a port of a Service, for each traffic policy.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Choice {
    /// The endpoints for the Cluster policy.
    pub cluster: FlatSet<(IpAddr, u16)>,
    /// The endpoints for the Local policy: those on this node.
    pub local: FlatSet<(IpAddr, u16)>,
    /// True if any node has an endpoint that could serve. A Local policy without an endpoint on
    /// this node drops if this is true, and rejects if it is false.
    pub any: bool,
}

/// Returns the endpoints for one port and one family of a Service, out of all its slices, as seen
/// from a node. The port is matched by name and protocol; its number may differ from slice to
/// slice.
pub(crate) fn choose<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    port: &ServicePort,
    family: Family,
    node: &Node,
) -> Choice {
    let mut matches: Vec<((IpAddr, u16), &Endpoint)> = Vec::new();
    for slice in slices {
        let same = |p: &&SlicePort| p.name == port.name && p.protocol == port.protocol;
        let Some(target) = slice.ports.iter().find(same).filter(|p| p.port > 0) else { continue };
        let endpoints = slice.endpoints.iter().filter(|e| Family::of_addr(&e.addr) == family);
        matches.extend(endpoints.map(|endpoint| ((endpoint.addr, target.port), endpoint)));
    }
    matches.sort_unstable_by_key(|(at, _)| *at);
    let candidates = matches.chunk_by(|(a, _), (b, _)| a == b).map(|same| {
        let mut candidate = Candidate::default();
        same.iter().for_each(|(_, endpoint)| candidate.add(endpoint, node));
        (same[0].0, candidate)
    });
    let candidates: Vec<((IpAddr, u16), Candidate)> = candidates.collect();
    let preferred = topology_filter(&candidates);
    let select = |wanted: &dyn Fn(&Candidate) -> bool| -> FlatSet<(IpAddr, u16)> {
        candidates.iter().filter(|(_, c)| wanted(c)).map(|(at, _)| *at).collect()
    };
    // If a topology is preferred, it has a ready endpoint. So if nothing is found here, there is no
    // ready endpoint at all.
    let mut cluster = select(&|c| c.ready && preferred(c));
    if cluster.is_empty() {
        cluster = select(&|c| c.draining);
    }
    let mut local = select(&|c| c.ready && c.local);
    if local.is_empty() {
        local = select(&|c| c.draining && c.local);
    }
    let any = candidates.iter().any(|(_, c)| c.ready || c.draining);
    Choice { cluster, local, any }
}

/// The merged entries of all slices for one address and port. Controllers move endpoints between
/// slices, so one endpoint may be in two slices for a while, in its old state and its new one. A
/// property counts if any of the entries has it, so the order of the slices does not matter.
#[derive(Default)]
struct Candidate {
    ready: bool,
    /// True if it is terminating and still serves.
    draining: bool,
    /// True if it is on this node.
    local: bool,
    for_nodes: Hint,
    for_zones: Hint,
}

/// The topology hints of an endpoint as this node sees them. Hints of endpoints that are not ready
/// are ignored.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Hint {
    #[default]
    /// No hint.
    Missing,
    /// For other nodes or zones only.
    Elsewhere,
    /// For this node or its zone.
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

/// Returns the filter that the hints put on the ready endpoints. Hints count only if every ready
/// endpoint has them and one of them is for this node. Otherwise the controller that set them does
/// not know of this node or of an endpoint yet, and following them could leave this node with no
/// endpoint.
fn topology_filter(candidates: &[((IpAddr, u16), Candidate)]) -> fn(&Candidate) -> bool {
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
