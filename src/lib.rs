//! kinglet as a library: what the binary, the black-box tests and the fuzz tests share.
//!
//! The API server says what the cluster looks like ([`cluster`]), `desired` works out what this
//! node's kernel should hold, `kernel` reads what it does hold, and `plan` makes the difference.

pub mod announce;
pub mod api;
pub mod bgp;
pub mod cli;
pub mod codec;
pub mod collections;
pub mod commands;
pub mod daemon;
pub mod desired;
pub mod error;
pub mod family;
mod hash;
pub mod kernel;
pub mod log;
pub mod model;
pub mod netlink;
pub mod plan;
pub mod reconcile;
pub mod report;
mod rng;
pub mod sys;
