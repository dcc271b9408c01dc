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

pub mod cni_config;
#[cfg(test)]
mod endpoint_cases;
pub mod endpoints;
pub mod health;
mod node;
pub mod routes;
pub mod services;
pub mod unit;
pub(crate) mod view;

pub use unit::Unit;
pub use view::{ClusterView, Desired, Unmet, desired, desired_of, is_removable};
