//! The units of the desired state: the parts that are computed one by one.
//!
//! The desired state is the sum of the items of all units, which `ClusterView` computes. An event dirties
//! some of them ([`dirtied_by`]).

use crate::model::cluster::{Delta, Name};

/// A part of the desired state that is computed on its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unit {
    /// The items that follow from the options, the host and this node's own Node object: the bridge, the
    /// CNI configuration, sysctls, modules, timeouts of IPVS, the nftables table with its rules.
    #[default]
    Base,
    /// The routes to the pods of the other Nodes.
    NodeRoutes,
    /// The elements of our nftables sets that hold addresses and pod networks of Nodes.
    NodeElements,
    /// One Service with its EndpointSlices.
    Service(Name),
    /// The routes that BGP learned and that no Node object claims.
    LearnedRoutes,
}

/// Something on which the desired state depends changes.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// The cluster.
    Cluster(&'a Delta),
    /// This host: its links, addresses, sysctls, modules or files.
    Host,
}

/// Returns the units that an event dirties, or `None` if it may dirty any unit.
pub fn dirtied_by(event: Event<'_>) -> Option<Vec<Unit>> {
    match event {
        Event::Host | Event::Cluster(Delta { all: true, .. }) => None,
        Event::Cluster(Delta { all: false, nodes, services }) => {
            let of_nodes = nodes.then_some([Unit::NodeRoutes, Unit::NodeElements]);
            let of_services = services.iter().cloned().map(Unit::Service);
            Some(of_nodes.into_iter().flatten().chain(of_services).collect())
        }
    }
}
