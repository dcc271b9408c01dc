//! The routes that BGP contributes to this node.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::{
    collections::{FlatMap, FlatSet},
    model::items::NextHops,
};

/// The routes that BGP contributes to this node. The `desired` module turns them into kernel routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The next hops of each route, sorted: one, or several if the best paths form a multipath route.
    pub routes: FlatMap<IpNet, NextHops>,
    /// Networks that had a route in this run and have none now. Their kernel routes may be removed at
    /// once, before `complete` is true. Empty once `complete` is true.
    pub gone: FlatSet<IpNet>,
    /// Peers whose session was up in this run and is down now, except those that restart gracefully.
    pub lost: FlatSet<IpAddr>,
    /// True once every peer has sent all of its routes, or has had the time to do so. From then on, a
    /// network without a path is no route.
    pub complete: bool,
}
