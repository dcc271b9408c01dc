//! kinglet as a library: what the binary, the black-box tests and the fuzz tests share.
//!
//! The API server says what the cluster looks like ([`cluster`]), `desired` works out what this
//! node's kernel should hold, `kernel` reads what it does hold, and `plan` makes the difference.

pub mod api;
pub mod args;
pub mod bgp;
pub mod check;
pub mod cleanup;
pub mod cluster;
pub mod daemon;
pub mod desired;
pub mod dump;
pub mod error;
pub mod few;
pub mod gzip;
pub mod json;
pub mod kernel;
pub mod local;
pub mod log;
pub mod plan;
pub mod reconcile;
pub mod report;
pub mod router;
pub mod ruleset;
pub mod state;
