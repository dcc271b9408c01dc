//! The Kubernetes objects that kinglet uses, reduced to the fields that it needs. Pure data: [`api`]
//! parses them, [`desired`] computes the kernel's state from them.
//!
//! [`ClusterStore`] is the store: it applies lists and watch events to the [`Cluster`] and returns the
//! [`Delta`]. Each object type has its own file; [`Slices`] is the index of EndpointSlices by Service.
//!
//! [`api`]: crate::api
//! [`desired`]: crate::desired

pub mod endpoint_slice;
mod name;
pub mod node;
mod objects;
pub mod service;
pub mod slices;
pub mod store;

pub use endpoint_slice::{Endpoint, EndpointSlice, Hints, SlicePort};
pub use name::{Keyed, Name};
pub use node::Node;
pub use objects::{Cluster, Kind, Object};
pub use service::{Service, ServiceAdvertise, ServicePort};
pub use slices::Slices;
pub use store::{Change, ClusterStore, Delta, InvalidName, InvalidObject, ListResult, WatchUpdate};
