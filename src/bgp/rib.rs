//! The paths that were heard, and the choice among them (RFC 4271 section 9). Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

/// What came of it for the node: routes for `desired`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The next hops of the best paths of each route, in order; several are equally good.
    pub routes: BTreeMap<IpNet, Vec<IpAddr>>,
    /// Peers whose session was up in this run and is down, and which are not just restarting.
    pub lost: BTreeSet<IpAddr>,
    /// Whether all peers have said all that they know, or had the time for it: what nobody claims
    /// then, nobody will.
    pub complete: bool,
}
