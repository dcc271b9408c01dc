//! Computes the desired state of this node: the items that its kernel and its files should hold,
//! given the cluster. Pure.
//!
//! [`desired`] runs these stages: `own_node` finds this node in the cluster, `View::add_routing`
//! adds the pod network (`node::network`) and the routes to the other nodes (`routes::of_nodes`),
//! `View::add_services` adds IPVS (`services::of`), `routes::of_peers` adds the routes that BGP
//! learned, and `node::table` adds the nftables table.
//!
//! Each stage is a function per object (`routes`, `services`), so that the change of one object can
//! be computed alone ([`part`]). If two objects claim the same resource, the first one by name gets
//! it. Comparing the result with the kernel is left to `plan`, applying it to `kernel`.

pub mod cni_config;
#[cfg(test)]
mod endpoint_cases;
pub mod endpoints;
pub mod health;
mod node;
pub mod routes;
pub mod services;
pub mod unit;
mod unit_nodes;
pub(crate) mod view;

pub use view::{Desired, Unmet, desired, desired_of, is_removable};
