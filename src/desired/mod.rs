//! Computes the desired state of this node: the items that its kernel and its files should hold,
//! given the cluster. Pure.
//!
//! The desired state is a sum of [`Unit`]s. [`desired`] adds up all of them: `node` computes the base (the
//! pod network, IPVS, the nftables table) and the elements of Nodes, `routes` the routes to the pods of
//! other nodes and those that BGP learned, `services` each Service with its endpoints (`endpoints`). An
//! event dirties some units ([`unit::dirtied_by`]), which [`ClusterView::items_of`] computes alone; that
//! is how `reconcile` follows events. If two objects claim the same resource, the first one by name gets
//! it ([`services::Claims`]). Comparing the result with the kernel is left to `plan`, applying it to
//! `kernel`.

mod cluster_view;
pub mod cni_config;
#[cfg(test)]
mod endpoint_cases;
pub(crate) mod endpoints;
pub(crate) mod health;
mod node;
mod node_view;
pub(crate) mod routes;
pub(crate) mod services;
pub(crate) mod state;
pub(crate) mod unit;
mod unmet;

pub use cluster_view::{
    ClusterView, NodeExports, UnitItems, is_removable_service_item, release_claims, routed_prefixes,
};
pub(crate) use node_view::has_ipv6;
pub use node_view::is_removable;
pub use state::{Desired, desired, desired_of};
pub use unit::Unit;
pub use unmet::Unmet;
