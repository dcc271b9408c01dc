//! The peer table: an entry for each peer that has a session, or that has none but still has paths in
//! the table because it restarts gracefully (RFC 4724). Pure.
//!
//! A peer is identified by its index in this table. The index is stored in every path and in every
//! [`PeerSet`](super::adj_rib_out::PeerSet), so it is kept small: two bytes instead of an address.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{
    adj_rib_out::AdjRibOut,
    path::{PeerIndex, RouteAttrs},
    peer_session::PeerSession,
};
use crate::family::Family;
use crate::{bgp::policy::RouteRejectReason, collections::FlatMap};

/// The number of networks exchanged with a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PrefixCounts {
    /// Networks received from the peer, whether accepted or refused. From the 1001st refused network on,
    /// a network that the peer advertises twice is counted twice.
    pub received: usize,
    /// Received networks that the import policy accepted.
    pub accepted: usize,
    /// Networks advertised to the peer.
    pub advertised: usize,
}

/// The most refused networks of a peer that are listed with a reason; further ones are only counted.
pub(super) const MAX_REFUSED: usize = 1000;

/// A peer that has a session or a path.
#[derive(Debug)]
pub(crate) struct PeerEntry {
    /// The current session, or the last one if there is none.
    pub session: PeerSession,
    /// True if the session is established.
    pub up: bool,
    /// The families for which the peer has not sent End-of-RIB in this session.
    pub awaiting_end: Vec<Family>,
    /// The attributes of the last UPDATE with routes. If the next UPDATE has equal attributes, which is
    /// common, its paths share this value.
    pub last_attrs: Option<Arc<RouteAttrs>>,
    /// The refused networks and the reason of each, at most [`MAX_REFUSED`].
    pub refused: FlatMap<IpNet, RouteRejectReason>,
    /// The number of refused networks that are not listed in `refused`.
    pub refused_unlisted: usize,
    /// The number of paths of this peer in the table.
    pub accepted: usize,
    /// The state of advertisements to this peer.
    pub adj_rib_out: AdjRibOut,
}

/// The peers by index.
#[derive(Debug, Default)]
pub(crate) struct PeerTable(Vec<Option<PeerEntry>>);

impl PeerTable {
    /// Returns the entry of a peer; `None` if the index is free or [`PeerIndex::LOCAL`].
    pub(crate) fn get(&self, peer: PeerIndex) -> Option<&PeerEntry> {
        self.0.get(usize::from(peer.0))?.as_ref()
    }

    /// Returns the entry of a peer for modification; `None` if the index is free or
    /// [`PeerIndex::LOCAL`].
    pub(super) fn get_mut(&mut self, peer: PeerIndex) -> Option<&mut PeerEntry> {
        self.0.get_mut(usize::from(peer.0))?.as_mut()
    }

    /// Returns the current or last session of a peer; `None` if the index is free or
    /// [`PeerIndex::LOCAL`].
    pub(crate) fn session(&self, peer: PeerIndex) -> Option<&PeerSession> {
        self.get(peer).map(|entry| &entry.session)
    }

    /// Returns the index of the peer with an address; `None` if the peer has no entry.
    pub(crate) fn index_of(&self, addr: IpAddr) -> Option<PeerIndex> {
        let matches =
            |entry: &Option<PeerEntry>| entry.as_ref().is_some_and(|e| e.session.addr == addr);
        self.0.iter().position(matches).and_then(|at| u16::try_from(at).ok()).map(PeerIndex)
    }

    /// Returns all entries.
    pub(super) fn iter(&self) -> impl Iterator<Item = &PeerEntry> {
        self.0.iter().flatten()
    }

    /// Returns all entries for modification.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut PeerEntry> {
        self.0.iter_mut().flatten()
    }

    /// Adds a peer whose session is down, and returns its index; `None` if all 65,535 indexes are in use.
    pub(super) fn insert(&mut self, session: PeerSession) -> Option<PeerIndex> {
        let at = self.0.iter().position(Option::is_none).unwrap_or(self.0.len());
        let index = u16::try_from(at).ok().map(PeerIndex).filter(|it| *it != PeerIndex::LOCAL)?;
        if at == self.0.len() {
            self.0.push(None);
        }
        self.0[at] = Some(PeerEntry {
            session,
            up: false,
            awaiting_end: Vec::new(),
            last_attrs: None,
            refused: FlatMap::new(),
            refused_unlisted: 0,
            accepted: 0,
            adj_rib_out: AdjRibOut::default(),
        });
        Some(index)
    }

    /// Removes every peer that has neither a session nor a path.
    pub(super) fn remove_unused(&mut self) {
        for entry in &mut self.0 {
            if entry.as_ref().is_some_and(|entry| !entry.up && entry.accepted == 0) {
                *entry = None;
            }
        }
    }
}
