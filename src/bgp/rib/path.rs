//! A path to a destination: its next hop and path attributes, and the peer that advertised it.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use crate::bgp::attribute::Attributes;

/// The index of a peer in the peer table. An index is reused after its peer is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerIndex(pub u16);

impl PeerIndex {
    /// Stands for this node instead of a peer.
    pub(crate) const LOCAL: PeerIndex = PeerIndex(u16::MAX);
}

/// The next hop and path attributes of a received route. All routes of an UPDATE share one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RouteAttrs {
    /// The next hop.
    pub next_hop: IpAddr,
    /// The other path attributes.
    pub attributes: Attributes,
}

impl RouteAttrs {
    /// Returns the attributes of the networks that this node originates. They are empty, because
    /// [`policy::export`](crate::bgp::policy::export) sets the next hop and the attributes for each peer.
    pub(crate) fn local() -> RouteAttrs {
        RouteAttrs { next_hop: Ipv4Addr::UNSPECIFIED.into(), attributes: Attributes::default() }
    }
}

/// A path to a destination.
#[derive(Clone, Debug)]
pub(crate) struct Path {
    /// The next hop and path attributes.
    pub attrs: Arc<RouteAttrs>,
    /// The peer that advertised the path, or `PeerIndex::LOCAL` if this node originates it.
    pub from: PeerIndex,
    /// True if the peer restarts and has not advertised the path again yet (RFC 4724).
    pub stale: bool,
    /// True if the next hop is on one of this node's links (RFC 4271 section 9.1.2.1).
    pub resolvable: bool,
    /// True if a path through the same neighbouring AS has a lower MED (rule 6).
    pub loses_on_med: bool,
}
