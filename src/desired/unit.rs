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
    /// The elements of our nftables sets that hold addresses and pod networks of Nodes. Before the routes, as
    /// in the order of items: the items of both units are sorted when they are put together.
    NodeElements,
    /// The routes to the pods of the other Nodes.
    NodeRoutes,
    /// One Service with its EndpointSlices.
    Service(Name),
    /// The routes that BGP learned and that no Node object claims.
    LearnedRoutes,
}

/// Returns the units that a change of the cluster dirties, or `None` if it may dirty any unit.
pub(crate) fn dirtied_by(delta: &Delta) -> Option<Vec<Unit>> {
    let Delta { all: false, nodes, services } = delta else { return None };
    let of_nodes = nodes.then_some([Unit::NodeElements, Unit::NodeRoutes]);
    let of_services = services.iter().cloned().map(Unit::Service);
    Some(of_nodes.into_iter().flatten().chain(of_services).collect())
}
