//! Parses API objects from JSON, reading only the fields that kinglet uses.
//!
//! [`parse_item`] adds an item of a list to the result. [`read`] parses an object with serde
//! (`fields::parse`) and converts it with the function of its kind (`node::read`, `service::read`,
//! `endpoints::slice`, `endpoints::subsets`). Every field may be absent or null, because Go encodes an
//! empty list as null. An object that violates the rules of the API is an error with the path of the
//! field (from `path`), so that the field can be found with `kubectl get -o yaml`. Splitting lists and
//! watches into objects is left to `page` and `stream`.

mod annotations;
mod bgp;
mod endpoints;
mod fields;
mod node;
mod path;
mod resource;
mod service;

pub(super) use resource::{ApiResource, identity, parse_item, read};
