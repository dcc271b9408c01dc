//! The requests that this node cannot honour.

use serde::Serialize;

use super::unit::Unit;

/// A request that this node can't honour, with the reason. It does not stop the other requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unmet {
    /// The thing that was requested, for example a route or a port of a Service.
    pub what: String,
    /// The reason, and the remedy if there is one.
    pub why: String,
    /// The unit that asks for it; [`Unit::Base`] for a request beside the units.
    #[serde(skip)]
    pub unit: Unit,
}

impl Unmet {
    /// Creates an entry that belongs to no Service.
    pub fn new(what: impl Into<String>, why: impl Into<String>) -> Unmet {
        Unmet { what: what.into(), why: why.into(), unit: Unit::Base }
    }
}
