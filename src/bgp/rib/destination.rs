//! A destination: the paths to one network, its best path, and the peers to which the network is
//! advertised.
//!
//! The callers in [`rib`](super) change the paths between [`Before::of`] and
//! [`Destination::run_decision`]. The latter compares both states, and if the best path changed, it adds
//! the network to the [`Journal`], from which the peers are updated.

use std::sync::Arc;

use ipnet::IpNet;

use super::{
    adj_rib_out::{Journal, PeerSet},
    decision::{multipath, sort_by_preference},
    path::{Path, PeerIndex},
    paths::Paths,
    peer_table::PeerTable,
};
use crate::{collections::FlatSet, model::items::NextHops};

/// A network, its paths and its advertisements.
#[derive(Debug, Default)]
pub(crate) struct Destination {
    /// The paths, sorted by preference: the first is the best path.
    pub paths: Paths,
    /// The advertisements of the network; `None` if it was never advertised. Most networks never are, and
    /// such a network costs only this pointer.
    advertised: Option<Box<Advertised>>,
}

/// The advertisements of one network.
#[derive(Debug, Default)]
struct Advertised {
    /// The peers to which the network is advertised.
    to: PeerSet,
    /// The number of the network's last entry in the journal; 0 if it has none.
    journal_pos: u64,
}

/// Changes of the routes that the table gives to the kernel.
#[derive(Debug)]
pub(super) struct RouteChanges {
    /// True if a route changed since the caller last asked.
    pub any: bool,
    /// The networks that lost their route in this run; `None` once they are no longer needed.
    pub removed: Option<FlatSet<IpNet>>,
}

/// The results of the decision process, which the peers and the kernel follow.
#[derive(Debug)]
pub(super) struct ChangeLog {
    /// The changed networks that peers may have to be sent.
    pub journal: Journal,
    /// The changes of the routes for the kernel.
    pub routes: RouteChanges,
    /// True if this node is a route reflector and therefore advertises learned paths.
    pub reflects: bool,
}

/// The condition under which a destination counts as changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChangeRule {
    /// Its best path or its route differs.
    IfDifferent,
    /// Always, because something else that the decision or the advertisement depends on has changed, for
    /// example the BGP Identifier of a peer.
    Always,
}

/// The state of a destination before its paths change.
pub(super) struct Before {
    /// The best path; `None` if there was no path.
    pub best: Option<Path>,
    /// The next hops of the route; `None` if there was no route.
    pub next_hops: Option<NextHops>,
    /// The condition under which the destination counts as changed.
    pub rule: ChangeRule,
}

impl Before {
    /// Returns the current state of a destination.
    pub(super) fn of(dest: &Destination, peers: &PeerTable) -> Before {
        let next_hops = multipath(&dest.paths, peers);
        Before { best: dest.paths.first().cloned(), next_hops, rule: ChangeRule::IfDifferent }
    }
}

impl Destination {
    /// Runs the decision process after the paths changed. Adds the network to the journal if peers may
    /// need an update, and records a change of its route.
    pub(super) fn run_decision(
        &mut self,
        net: &IpNet,
        before: &Before,
        peers: &PeerTable,
        changes: &mut ChangeLog,
    ) {
        sort_by_preference(&mut self.paths, peers);
        let best = self.paths.first();
        let same = match (&before.best, best) {
            (Some(old), Some(new)) => {
                (old.from, old.resolvable) == (new.from, new.resolvable)
                    && (Arc::ptr_eq(&old.attrs, &new.attrs) || old.attrs == new.attrs)
            }
            (None, None) => true,
            _ => false,
        };
        let local = |path: Option<&Path>| path.is_some_and(|path| path.from == PeerIndex::LOCAL);
        let concerns_peers =
            changes.reflects || self.is_advertised() || local(best) || local(before.best.as_ref());
        let always = before.rule == ChangeRule::Always;
        if concerns_peers && (always || !same) {
            self.add_to_journal(net, peers, &mut changes.journal);
        }
        let next_hops = multipath(&self.paths, peers);
        if always || before.next_hops != next_hops {
            let routes = &mut changes.routes;
            routes.any = true;
            if let (Some(removed), Some(_), None) =
                (&mut routes.removed, &before.next_hops, &next_hops)
            {
                removed.insert(*net);
            }
        }
    }

    /// Adds the network to the journal, unless no session is up or no peer has read its last entry yet.
    pub(crate) fn add_to_journal(&mut self, net: &IpNet, peers: &PeerTable, journal: &mut Journal) {
        if !journal.is_unread(self.journal_pos()) && peers.iter().any(|peer| peer.up) {
            self.advertised.get_or_insert_default().journal_pos = journal.push(*net);
        }
    }

    /// Returns the number of the network's last entry in the journal; 0 if it has none.
    pub(crate) fn journal_pos(&self) -> u64 {
        self.advertised.as_ref().map_or(0, |advertised| advertised.journal_pos)
    }

    /// Returns true if the network is advertised to any peer.
    fn is_advertised(&self) -> bool {
        self.advertised.as_ref().is_some_and(|advertised| !advertised.to.is_empty())
    }

    /// Returns true if the network is advertised to a peer.
    pub(crate) fn is_advertised_to(&self, peer: PeerIndex) -> bool {
        self.advertised.as_ref().is_some_and(|advertised| advertised.to.contains(peer))
    }

    /// Records that the network is advertised to a peer. Returns true if it was not before.
    pub(crate) fn mark_advertised(&mut self, peer: PeerIndex) -> bool {
        self.advertised.get_or_insert_default().to.insert(peer)
    }

    /// Records that the network is withdrawn from a peer, or that the session with the peer ended.
    /// Returns true if the network was advertised to the peer.
    pub(crate) fn mark_withdrawn(&mut self, peer: PeerIndex) -> bool {
        self.advertised.as_mut().is_some_and(|advertised| advertised.to.remove(peer))
    }

    /// Returns true if the destination can be removed: it has no path and is advertised to no peer.
    pub(crate) fn is_removable(&self) -> bool {
        self.paths.is_empty() && !self.is_advertised()
    }
}
