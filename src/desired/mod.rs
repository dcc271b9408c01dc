//! What this node's kernel should hold, worked out from the cluster. Pure.
//!
//! Independent functions per object (`routes::of`, `services::of`), so that a change of one object
//! can be worked out and compared alone.

pub mod endpoints;
pub mod routes;
pub mod services;

use serde::Serialize;

/// What could not be honoured, and why. It never stops the rest.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unmet {
    /// What was asked for.
    pub what: String,
    /// Why it can't be had, and what to do about it.
    pub why: String,
}

impl Unmet {
    /// `what` is not honoured because of `why`.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Unmet {
        Unmet { what: what.into(), why: why.into() }
    }
}
