//! The routing information base (RFC 4271 sections 3.2 and 9). Pure.
//!
//! One table serves as Adj-RIB-In, Loc-RIB and Adj-RIB-Out of all peers. [`Rib::hear`] applies the
//! import policy ([`policy`]) to a received UPDATE and stores the accepted paths in a `Destination`
//! for each network; `Destination::run_decision` sorts them with the decision process
//! ([`choice`](super::choice)) and adds changed networks to the journal; [`Rib::tell`]
//! ([`out`](super::out)) writes the UPDATEs for a peer from the journal; [`Rib::routes`] gives the
//! routes for the kernel.
//!
//! The advertisements to a peer are not stored: a destination has one bit for each peer, and
//! [`policy::export`] recomputes the attributes when they are needed. The attributes of a received UPDATE
//! are shared by all of its networks. A destination without paths is kept until every peer to which it
//! was advertised has been sent a withdrawal.
//!
//! If a peer restarts gracefully (RFC 4724), its paths are kept as stale for a limited time. Peers are
//! identified by their index in the peer table (`slot`).

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

pub use super::slot::{Counts, Session};
use super::{
    Config, Family,
    choice::{Path, RouteAttrs, multipath},
    message::Update,
    out::{AdjRibOut, Journal},
    policy::{self, Refusal},
    slot::{MAX_REFUSED, PeerIndex, PeerTable},
};
use crate::{
    few::{Few, Sorted},
    state::Via,
};
pub(super) use dest::Destination;
use dest::{Before, RouteChanges};

/// The routes that BGP contributes to this node. The `desired` module turns them into kernel routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The next hops of each route, sorted: one, or several if the best paths form a multipath route.
    pub routes: Few<IpNet, Via>,
    /// Networks that had a route in this run and have none now. Their kernel routes may be removed at
    /// once, before `complete` is true. Empty once `complete` is true.
    pub gone: Sorted<IpNet>,
    /// Peers whose session was up in this run and is down now, except those that restart gracefully.
    pub lost: Sorted<IpAddr>,
    /// True once every peer has sent all of its routes, or has had the time to do so. From then on, a
    /// network without a path is no route.
    pub complete: bool,
}

/// The table of destinations, and the state of advertisements to each peer.
#[derive(Debug)]
pub struct Rib {
    pub(super) config: Arc<Config>,
    pub(super) peers: PeerTable,
    pub(super) table: BTreeMap<IpNet, Destination>,
    pub(super) journal: Journal,
    /// The attributes of the networks that this node originates.
    local_attrs: Arc<RouteAttrs>,
    /// Changes of the routes since the caller last asked.
    changes: RouteChanges,
}

/// The result of a [`SweepFn`] for a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SweepAction {
    Keep,
    Remove,
}

/// Decides if a path to a network is kept in a sweep. It may modify the path.
type SweepFn<'a> = dyn FnMut(&PeerTable, &IpNet, &mut Path) -> SweepAction + 'a;

impl Rib {
    /// Returns a table that has the networks that this node originates, and no peers.
    pub fn new(config: Arc<Config>) -> Rib {
        let originated = config.origin.pods.iter().chain(&config.origin.services);
        let originated: Vec<IpNet> = originated.copied().collect();
        let mut rib = Rib {
            config,
            peers: PeerTable::default(),
            table: BTreeMap::new(),
            journal: Journal::default(),
            local_attrs: Arc::new(RouteAttrs::local()),
            changes: RouteChanges { any: false, gone: Some(Sorted::new()) },
        };
        originated.into_iter().for_each(|net| rib.originate(net));
        rib
    }

    /// Records that the session with a peer is established. Schedules the advertisement of the whole
    /// table and End-of-RIB for each family. Of the paths from an earlier session, those of the families
    /// in `kept`, for which the peer preserved its forwarding state (RFC 4724), stay as stale paths until
    /// the peer sends End-of-RIB; all others are removed.
    pub fn up(&mut self, session: Session, kept: &[Family]) {
        let addr = session.addr;
        let known = self.peers.index_of(addr);
        if known.and_then(|peer| self.peers.get(peer)).is_some_and(|entry| entry.up) {
            self.down(addr, kept); // the end of the earlier session was not reported
        }
        let mut same = true;
        let peer = match self.peers.index_of(addr) {
            Some(peer) => peer,
            None => match self.peers.insert(session.clone()) {
                Some(peer) => peer,
                None => return, // 65,535 peers
            },
        };
        let end = self.journal.end();
        if let Some(entry) = self.peers.get_mut(peer) {
            let old = &entry.session;
            same = (old.internal, old.id, old.client)
                == (session.internal, session.id, session.client);
            entry.up = true;
            entry.awaiting_end.clone_from(&session.families);
            entry.refused = Few::new();
            entry.refused_unlisted = 0;
            entry.adj_rib_out = AdjRibOut::new(&session.families, end);
            entry.session = session;
        }
        self.journal.mark_read(end);
        // If the session parameters changed, the stale paths may rank or be advertised differently.
        self.sweep(Some(peer), !same, &mut |_, net, _| {
            if kept.contains(&Family::of(net)) { SweepAction::Keep } else { SweepAction::Remove }
        });
    }

    /// Records that the session with a peer is down. Its paths of the families in `keep` stay as stale
    /// paths, except those that were stale before this session ended (RFC 4724 section 4.2). If the
    /// session was down already, only the paths of other families are removed.
    pub fn down(&mut self, addr: IpAddr, keep: &[Family]) {
        let Some(peer) = self.peers.index_of(addr) else { return };
        let Some(entry) = self.peers.get_mut(peer) else { return };
        let was_up = entry.up;
        entry.up = false;
        entry.awaiting_end.clear();
        entry.last_attrs = None;
        entry.refused = Few::new();
        entry.refused_unlisted = 0;
        entry.adj_rib_out = AdjRibOut::default();
        if was_up {
            self.clear_advertised(peer);
        }
        self.sweep(Some(peer), false, &mut |_, net, path| {
            let keep = keep.contains(&Family::of(net)) && !(was_up && path.stale);
            path.stale = true;
            if keep { SweepAction::Keep } else { SweepAction::Remove }
        });
        self.peers.remove_unused();
        self.trim_journal();
    }

    /// Removes the stale paths of a peer when its restart time has expired.
    pub fn expire(&mut self, addr: IpAddr) {
        let Some(peer) = self.peers.index_of(addr) else { return };
        self.sweep(Some(peer), false, &mut |_, _, path| {
            if path.stale { SweepAction::Remove } else { SweepAction::Keep }
        });
        self.peers.remove_unused();
    }

    /// Applies an UPDATE that a peer sent: first the withdrawals, then the advertised routes, then
    /// End-of-RIB. Ignored if the session with the peer is not up.
    pub fn hear(&mut self, addr: IpAddr, update: Update) {
        let Some(peer) = self.peers.index_of(addr) else { return };
        let Some(entry) = self.peers.get(peer).filter(|entry| entry.up) else { return };
        let mut last = entry.last_attrs.clone();
        let attributes = policy::strip_for_ebgp(&entry.session, update.attributes);
        for net in update.withdrawn {
            self.withdraw(peer, net.trunc());
        }
        for reach in update.reach {
            let same = |attrs: &Arc<RouteAttrs>| {
                attrs.next_hop == reach.next_hop && attrs.attributes == attributes
            };
            let attrs = last.take().filter(same).unwrap_or_else(|| {
                Arc::new(RouteAttrs { next_hop: reach.next_hop, attributes: attributes.clone() })
            });
            for net in reach.nets {
                self.import(peer, net.trunc(), &attrs);
            }
            last = Some(attrs);
        }
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.last_attrs = last;
        }
        if let Some(family) = update.end {
            self.end_of_rib(peer, family);
        }
    }

    /// Handles End-of-RIB of a family: removes the paths that are still stale, because the peer has sent
    /// all of its routes without them.
    fn end_of_rib(&mut self, peer: PeerIndex, family: Family) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.awaiting_end.retain(|awaited| *awaited != family);
        }
        self.sweep(Some(peer), false, &mut |_, net, path| {
            let remove = path.stale && Family::of(net) == family;
            if remove { SweepAction::Remove } else { SweepAction::Keep }
        });
    }

    /// Stores the path that a peer advertised if the import policy accepts it. A refused path implicitly
    /// withdraws an earlier one.
    fn import(&mut self, peer: PeerIndex, net: IpNet, attrs: &Arc<RouteAttrs>) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        if let Some(refusal) = policy::check_import(&self.config, &entry.session, &net, attrs) {
            self.record_refusal(peer, net, refusal);
            self.remove_path(peer, &net);
            return;
        }
        entry.refused.remove(&net);
        let path = Path {
            attrs: Arc::clone(attrs),
            from: peer,
            stale: false,
            resolvable: policy::is_on_link(&self.config, &attrs.next_hop),
            loses_on_med: false,
        };
        if self.insert_path(net, path)
            && let Some(entry) = self.peers.get_mut(peer)
        {
            entry.accepted += 1;
        }
    }

    /// Records that a network of a peer was refused, and why.
    fn record_refusal(&mut self, peer: PeerIndex, net: IpNet, refusal: Refusal) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        if entry.refused.len() < MAX_REFUSED || entry.refused.contains_key(&net) {
            entry.refused.insert(net, refusal);
        } else {
            entry.refused_unlisted += 1;
        }
    }

    /// Removes the path, or the refusal, of a network that a peer withdrew.
    fn withdraw(&mut self, peer: PeerIndex, net: IpNet) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.refused.remove(&net);
        }
        self.remove_path(peer, &net);
    }

    /// Adds a network that this node originates.
    fn originate(&mut self, net: IpNet) {
        let path = Path {
            attrs: Arc::clone(&self.local_attrs),
            from: PeerIndex::LOCAL,
            stale: false,
            resolvable: true,
            loses_on_med: false,
        };
        self.insert_path(net, path);
    }

    /// Adds a path, or replaces the one from the same peer, and runs the decision process. Returns true
    /// if there was no path from this peer.
    fn insert_path(&mut self, net: IpNet, path: Path) -> bool {
        let reflects = self.config.own.cluster.is_some();
        let dest = self.table.entry(net).or_default();
        let before = Before::of(dest, &self.peers);
        let old = dest.paths.iter_mut().find(|old| old.from == path.from);
        let is_new = old.is_none();
        match old {
            Some(old) => *old = path,
            None => dest.paths.push(path),
        }
        let (peers, journal, changes) = (&self.peers, &mut self.journal, &mut self.changes);
        dest.run_decision(&net, &before, reflects, peers, journal, changes);
        is_new
    }

    /// Removes the path from a peer to a network, if there is one, and runs the decision process.
    fn remove_path(&mut self, from: PeerIndex, net: &IpNet) {
        let reflects = self.config.own.cluster.is_some();
        let Some(dest) = self.table.get_mut(net) else { return };
        if dest.paths.iter().all(|path| path.from != from) {
            return;
        }
        let before = Before::of(dest, &self.peers);
        dest.paths.retain_mut(|path| path.from != from);
        if let Some(entry) = self.peers.get_mut(from) {
            entry.accepted -= 1;
        }
        let (peers, journal, changes) = (&self.peers, &mut self.journal, &mut self.changes);
        dest.run_decision(net, &before, reflects, peers, journal, changes);
        if dest.is_removable() {
            self.table.remove(net);
        }
    }

    /// Calls `action` for each path from a peer, or from all peers if `from` is `None`, removes the paths
    /// for which it returns [`SweepAction::Remove`], and runs the decision process. If `force` is true,
    /// the visited destinations count as changed in any case (see [`Before::force`]).
    fn sweep(&mut self, from: Option<PeerIndex>, force: bool, action: &mut SweepFn) {
        let reflects = self.config.own.cluster.is_some();
        let is_visited = |path: &Path| from.is_none_or(|from| path.from == from);
        let mut removable = Vec::new();
        for (net, dest) in &mut self.table {
            if !dest.paths.iter().any(is_visited) {
                continue;
            }
            let before = Before { force, ..Before::of(dest, &self.peers) };
            dest.paths.retain_mut(|path| {
                let keep = !is_visited(path) || action(&self.peers, net, path) == SweepAction::Keep;
                if let (false, Some(entry)) = (keep, self.peers.get_mut(path.from)) {
                    entry.accepted -= 1;
                }
                keep
            });
            let (peers, journal, changes) = (&self.peers, &mut self.journal, &mut self.changes);
            dest.run_decision(net, &before, reflects, peers, journal, changes);
            if dest.is_removable() {
                removable.push(*net);
            }
        }
        for net in removable {
            self.table.remove(&net);
        }
    }

    /// Returns true if routes changed since the last call of [`Rib::take_changes`].
    pub fn has_changed(&self) -> bool {
        self.changes.any
    }

    /// Returns true if routes changed since the last call of this method.
    pub fn take_changes(&mut self) -> bool {
        std::mem::take(&mut self.changes.any)
    }

    /// Returns the networks that lost their route in this run. Some may have a route again. Empty after
    /// [`Rib::complete`].
    pub fn gone(&self) -> impl Iterator<Item = &IpNet> {
        self.changes.gone.iter().flatten()
    }

    /// Records that the initial routes of all peers are received, after which [`Rib::gone`] is not
    /// needed.
    pub fn complete(&mut self) {
        self.changes.gone = None;
    }

    /// Returns the routes for the kernel: every network that peers advertise and this node does not
    /// originate, if its best path is resolvable, with the next hops of that route.
    pub fn routes(&self) -> Few<IpNet, Via> {
        let route = |(net, dest): (&IpNet, &Destination)| {
            Some((*net, multipath(&dest.paths, &self.peers)?))
        };
        self.table.iter().filter_map(route).collect()
    }

    /// Returns true if the session with a peer is up and the peer has sent End-of-RIB for all families.
    pub fn is_complete(&self, addr: IpAddr) -> bool {
        let entry = self.peers.index_of(addr).and_then(|peer| self.peers.get(peer));
        entry.is_some_and(|entry| entry.up && entry.awaiting_end.is_empty())
    }

    /// Returns the number of networks exchanged with a peer; all zero if the peer has no entry.
    pub fn counts(&self, addr: IpAddr) -> Counts {
        let entry = self.peers.index_of(addr).and_then(|peer| self.peers.get(peer));
        entry.map_or_else(Counts::default, |entry| Counts {
            received: entry.accepted + entry.refused.len() + entry.refused_unlisted,
            accepted: entry.accepted,
            told: entry.adj_rib_out.advertised,
        })
    }
}

mod configure;
mod dest;
mod paths;

#[cfg(test)]
mod random;

#[cfg(test)]
pub(super) mod world;

#[cfg(test)]
mod tests;
