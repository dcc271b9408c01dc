//! The table of all paths, and its operations for peers, the node and the display.

use std::{collections::BTreeMap, net::IpAddr, ops::Bound::Unbounded, sync::Arc};

use ipnet::IpNet;

use super::{
    adj_rib_out::{AdjRibOut, Journal},
    batch::Batch,
    configure::{ConfigChanges, may_accept_more},
    decision::multipath,
    destination::{Before, ChangeLog, ChangeRule, Destination, RouteChanges},
    path::{Path, PeerIndex, RouteAttrs},
    peer_session::PeerSession,
    peer_table::{MAX_REFUSED, PeerEntry, PeerTable, PrefixCounts},
};
use crate::{
    bgp::{
        message::Message,
        policy::{self, LocalKind, RouteRejectReason},
        update::Update,
    },
    collections::{FlatMap, FlatSet},
    family::Family,
    model::{bgp::Config, items::NextHops},
};

/// The table of destinations, and the state of advertisements to each peer.
#[derive(Debug)]
pub(crate) struct Rib {
    pub(crate) config: Arc<Config>,
    pub(crate) peers: PeerTable,
    pub(crate) table: BTreeMap<IpNet, Destination>,
    /// The attributes of the networks that this node originates.
    local_attrs: Arc<RouteAttrs>,
    /// The changes that peers and the kernel have not seen yet.
    pub(super) changes: ChangeLog,
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
    pub(crate) fn new(config: Arc<Config>) -> Rib {
        let originated = config.origin.pods.iter().chain(&config.origin.services);
        let originated: Vec<IpNet> = originated.copied().collect();
        let routes = RouteChanges { any: false, removed: Some(FlatSet::new()) };
        let reflects = config.own.cluster_id.is_some();
        let mut rib = Rib {
            config,
            peers: PeerTable::default(),
            table: BTreeMap::new(),
            local_attrs: Arc::new(RouteAttrs::local()),
            changes: ChangeLog { journal: Journal::default(), routes, reflects },
        };
        originated.into_iter().for_each(|net| rib.originate(net));
        rib
    }

    /// Records that the session with a peer is established. Schedules the advertisement of the whole
    /// table and End-of-RIB for each family. Of the paths from an earlier session, those of the families
    /// in `kept`, for which the peer preserved its forwarding state (RFC 4724), stay as stale paths until
    /// the peer sends End-of-RIB; all others are removed.
    pub(crate) fn session_up(&mut self, session: PeerSession, kept: &[Family]) {
        let addr = session.addr;
        let known = self.peers.index_of(addr);
        if known.and_then(|peer| self.peers.get(peer)).is_some_and(|entry| entry.up) {
            self.session_down(addr, kept); // the end of the earlier session was not reported
        }
        let mut same = true;
        let peer = match self.peers.index_of(addr) {
            Some(peer) => peer,
            None => match self.peers.insert(session.clone()) {
                Some(peer) => peer,
                None => return, // 65,535 peers
            },
        };
        let end = self.changes.journal.end();
        if let Some(entry) = self.peers.get_mut(peer) {
            let old = &entry.session;
            same = (old.internal, old.id, old.client)
                == (session.internal, session.id, session.client);
            entry.up = true;
            entry.awaiting_end.clone_from(&session.families);
            entry.refused = FlatMap::new();
            entry.refused_unlisted = 0;
            entry.adj_rib_out = AdjRibOut::new(&session.families, end);
            entry.session = session;
        }
        self.changes.journal.mark_read(end);
        // If the session parameters changed, the stale paths may rank or be advertised differently.
        let rule = if same { ChangeRule::IfDifferent } else { ChangeRule::Always };
        self.sweep(Some(peer), rule, &mut |_, net, _| {
            if kept.contains(&Family::of(net)) { SweepAction::Keep } else { SweepAction::Remove }
        });
    }

    /// Records that the session with a peer is down. Its paths of the families in `keep` stay as stale
    /// paths, except those that were stale before this session ended (RFC 4724 section 4.2). If the
    /// session was down already, only the paths of other families are removed.
    pub(crate) fn session_down(&mut self, addr: IpAddr, keep: &[Family]) {
        let Some(peer) = self.peers.index_of(addr) else { return };
        let Some(entry) = self.peers.get_mut(peer) else { return };
        let was_up = entry.up;
        entry.up = false;
        entry.awaiting_end.clear();
        entry.last_attrs = None;
        entry.refused = FlatMap::new();
        entry.refused_unlisted = 0;
        entry.adj_rib_out = AdjRibOut::default();
        if was_up {
            self.clear_advertised(peer);
        }
        self.sweep(Some(peer), ChangeRule::IfDifferent, &mut |_, net, path| {
            let keep = keep.contains(&Family::of(net)) && !(was_up && path.stale);
            path.stale = true;
            if keep { SweepAction::Keep } else { SweepAction::Remove }
        });
        self.peers.remove_unused();
        self.trim_journal();
    }

    /// Removes the stale paths of a peer when its restart time has expired.
    pub(crate) fn remove_stale(&mut self, addr: IpAddr) {
        let Some(peer) = self.peers.index_of(addr) else { return };
        self.sweep(Some(peer), ChangeRule::IfDifferent, &mut |_, _, path| {
            if path.stale { SweepAction::Remove } else { SweepAction::Keep }
        });
        self.peers.remove_unused();
    }

    /// Applies an UPDATE that a peer sent: first the withdrawals, then the advertised routes, then
    /// End-of-RIB. Ignored if the session with the peer is not up.
    pub(crate) fn handle_update(&mut self, addr: IpAddr, update: Update) {
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
        if let Some(family) = update.end_of_rib {
            self.end_of_rib(peer, family);
        }
    }

    /// Handles End-of-RIB of a family: removes the paths that are still stale, because the peer has sent
    /// all of its routes without them.
    fn end_of_rib(&mut self, peer: PeerIndex, family: Family) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.awaiting_end.retain(|awaited| *awaited != family);
        }
        self.sweep(Some(peer), ChangeRule::IfDifferent, &mut |_, net, path| {
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
    fn record_refusal(&mut self, peer: PeerIndex, net: IpNet, refusal: RouteRejectReason) {
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
        let dest = self.table.entry(net).or_default();
        let before = Before::of(dest, &self.peers);
        let old = dest.paths.iter_mut().find(|old| old.from == path.from);
        let is_new = old.is_none();
        match old {
            Some(old) => *old = path,
            None => dest.paths.push(path),
        }
        dest.run_decision(&net, &before, &self.peers, &mut self.changes);
        is_new
    }

    /// Removes the path from a peer to a network, if there is one, and runs the decision process.
    fn remove_path(&mut self, from: PeerIndex, net: &IpNet) {
        let Some(dest) = self.table.get_mut(net) else { return };
        if dest.paths.iter().all(|path| path.from != from) {
            return;
        }
        let before = Before::of(dest, &self.peers);
        dest.paths.retain_mut(|path| path.from != from);
        if let Some(entry) = self.peers.get_mut(from) {
            entry.accepted -= 1;
        }
        dest.run_decision(net, &before, &self.peers, &mut self.changes);
        if dest.is_removable() {
            self.table.remove(net);
        }
    }

    /// Calls `action` for each path from a peer, or from all peers if `from` is `None`, removes the paths
    /// for which it returns [`SweepAction::Remove`], and runs the decision process. `rule` is the condition
    /// under which a visited destination counts as changed.
    fn sweep(&mut self, from: Option<PeerIndex>, rule: ChangeRule, action: &mut SweepFn) {
        let is_visited = |path: &Path| from.is_none_or(|from| path.from == from);
        let mut removable = Vec::new();
        for (net, dest) in &mut self.table {
            if !dest.paths.iter().any(is_visited) {
                continue;
            }
            let before = Before { rule, ..Before::of(dest, &self.peers) };
            dest.paths.retain_mut(|path| {
                let keep = !is_visited(path) || action(&self.peers, net, path) == SweepAction::Keep;
                if let (false, Some(entry)) = (keep, self.peers.get_mut(path.from)) {
                    entry.accepted -= 1;
                }
                keep
            });
            dest.run_decision(net, &before, &self.peers, &mut self.changes);
            if dest.is_removable() {
                removable.push(*net);
            }
        }
        for net in removable {
            self.table.remove(&net);
        }
    }

    /// Returns true if routes changed since the last call of [`Rib::take_routes_changed`].
    pub(crate) fn routes_changed(&self) -> bool {
        self.changes.routes.any
    }

    /// Returns true if routes changed since the last call of this method.
    pub(crate) fn take_routes_changed(&mut self) -> bool {
        std::mem::take(&mut self.changes.routes.any)
    }

    /// Returns the networks that lost their route in this run. Some may have a route again. Empty after
    /// [`Rib::clear_removed_routes`].
    pub(crate) fn removed_routes(&self) -> impl Iterator<Item = &IpNet> {
        self.changes.routes.removed.iter().flatten()
    }

    /// Records that the initial routes of all peers are received, after which [`Rib::removed_routes`] is not
    /// needed.
    pub(crate) fn clear_removed_routes(&mut self) {
        self.changes.routes.removed = None;
    }

    /// Returns the routes for the kernel: every network that peers advertise and this node does not
    /// originate, if its best path is resolvable, with the next hops of that route.
    pub(crate) fn routes(&self) -> FlatMap<IpNet, NextHops> {
        let route = |(net, dest): (&IpNet, &Destination)| {
            Some((*net, multipath(&dest.paths, &self.peers)?))
        };
        self.table.iter().filter_map(route).collect()
    }

    /// Returns true if the session with a peer is up and the peer has sent End-of-RIB for all families.
    pub(crate) fn is_complete(&self, addr: IpAddr) -> bool {
        let entry = self.peers.index_of(addr).and_then(|peer| self.peers.get(peer));
        entry.is_some_and(|entry| entry.up && entry.awaiting_end.is_empty())
    }

    /// Returns the number of networks exchanged with a peer; all zero if the peer has no entry.
    pub(crate) fn counts(&self, addr: IpAddr) -> PrefixCounts {
        let entry = self.peers.index_of(addr).and_then(|peer| self.peers.get(peer));
        entry.map_or_else(PrefixCounts::default, |entry| PrefixCounts {
            received: entry.accepted + entry.refused.len() + entry.refused_unlisted,
            accepted: entry.accepted,
            advertised: entry.adj_rib_out.advertised,
        })
    }

    /// Applies a new configuration. Returns the peers to which a ROUTE-REFRESH (RFC 2918) must be sent:
    /// refused paths are not stored, and the new import policy may accept some of them.
    pub(crate) fn configure(&mut self, config: Arc<Config>) -> Vec<IpAddr> {
        if *self.config == *config {
            return Vec::new();
        }
        let old = std::mem::replace(&mut self.config, config);
        let config = Arc::clone(&self.config);
        self.changes.reflects = config.own.cluster_id.is_some();
        let mut client_changed = false;
        let mut changed_role = Vec::new();
        for entry in self.peers.iter_mut() {
            let session = &mut entry.session;
            let Some(peer) = config.peers.get(&session.addr) else { continue };
            let role = (peer.is_outside(), peer.client);
            if role != (session.external, session.client) {
                client_changed |= session.client != peer.client;
                changed_role.push(session.addr);
                (session.external, session.client) = role;
            }
        }
        let changes = ConfigChanges::between(&old, &config);
        if changes.import {
            self.reapply_import_policy();
        }
        self.update_originated(&old);

        let all_changed = changes.own || self.changes.reflects && client_changed;
        for entry in self.peers.iter_mut().filter(|entry| entry.up) {
            let session = &entry.session;
            let export_changed =
                if session.external { changes.external_export } else { changes.internal_export };
            if all_changed || export_changed || changed_role.contains(&session.addr) {
                session.families.iter().for_each(|family| entry.adj_rib_out.start_walk(*family));
            }
        }
        let up = self.peers.iter().filter(|entry| entry.up && changes.import);
        let refresh = up.filter(|entry| may_accept_more(&config, entry, changes.own));
        refresh.map(|entry| entry.session.addr).collect()
    }

    /// Removes the paths that the import policy no longer accepts, and checks again if next hops are on a
    /// link.
    fn reapply_import_policy(&mut self) {
        let config = Arc::clone(&self.config);
        let mut refused: Vec<(PeerIndex, IpNet, RouteRejectReason)> = Vec::new();
        self.sweep(None, ChangeRule::IfDifferent, &mut |peers, net, path| {
            let Some(from) = peers.session(path.from) else { return SweepAction::Keep };
            path.resolvable = policy::is_on_link(&config, &path.attrs.next_hop);
            match policy::check_import(&config, from, net, &path.attrs) {
                Some(refusal) => {
                    // A stale path is not recorded, because it was not received in this session.
                    refused.extend((!path.stale).then_some((path.from, *net, refusal)));
                    SweepAction::Remove
                }
                None => SweepAction::Keep,
            }
        });
        for (peer, net, refusal) in refused {
            self.record_refusal(peer, net, refusal);
        }
        self.peers.remove_unused();
    }

    /// Adds and removes originated networks so that they match the new configuration. A network whose
    /// kind changed is added to the journal, because other peers may now receive it.
    fn update_originated(&mut self, old: &Config) {
        let config = Arc::clone(&self.config);
        let none = LocalKind::default();
        for net in old.origin.pods.iter().chain(&old.origin.services) {
            if LocalKind::of(&config, net) == none {
                self.remove_path(PeerIndex::LOCAL, net);
            }
        }
        for net in config.origin.pods.iter().chain(&config.origin.services) {
            let was = LocalKind::of(old, net);
            if was == none {
                self.originate(*net);
            } else if was != LocalKind::of(&config, net)
                && let Some(dest) = self.table.get_mut(net)
            {
                dest.add_to_journal(net, &self.peers, &mut self.changes.journal);
            }
        }
    }

    /// Handles a ROUTE-REFRESH (RFC 2918): schedules the advertisement of all networks of a family.
    /// Ignored if the session is not up or the family was not negotiated.
    pub(crate) fn handle_refresh(&mut self, addr: IpAddr, family: Family) {
        let entry = self.peers.index_of(addr).and_then(|peer| self.peers.get_mut(peer));
        let is_valid =
            |entry: &&mut PeerEntry| entry.up && entry.session.families.contains(&family);
        if let Some(entry) = entry.filter(is_valid) {
            entry.adj_rib_out.start_walk(family);
        }
    }

    /// Returns true if there may be UPDATEs to send to a peer.
    pub(crate) fn has_pending_updates(&self, addr: IpAddr) -> bool {
        let entry = self.peers.index_of(addr).and_then(|peer| self.peers.get(peer));
        entry.is_some_and(|entry| entry.up && !entry.adj_rib_out.is_idle(&self.changes.journal))
    }

    /// Appends the next UPDATE messages for a peer to `out`, about `max_bytes` of them. Returns true if
    /// there may be more.
    pub(crate) fn write_updates(
        &mut self,
        addr: IpAddr,
        max_bytes: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let session = self.peers.index_of(addr).and_then(|peer| self.peers.session(peer));
        let Some(negotiated) = session.map(|session| session.negotiated) else { return false };
        for update in self.updates(addr, max_bytes) {
            Message::Update(update).write(negotiated, out);
        }
        self.has_pending_updates(addr)
    }

    /// Returns the next UPDATEs for a peer, of about `max_bytes`. Empty if its session is not up.
    pub(crate) fn updates(&mut self, addr: IpAddr, max_bytes: usize) -> Vec<Update> {
        let Some(peer) = self.peers.index_of(addr) else { return Vec::new() };
        let Some(entry) = self.peers.get_mut(peer).filter(|entry| entry.up) else {
            return Vec::new();
        };
        let mut out = std::mem::take(&mut entry.adj_rib_out);
        let Some(mut batch) = Batch::new(&self.config, &self.peers, peer) else {
            return Vec::new();
        };
        while batch.size() < max_bytes
            && let Some((entry, net)) = out.next_entry(&self.changes.journal)
        {
            let dest = self.table.get_mut(&net).filter(|dest| dest.journal_pos() == entry);
            if let Some(dest) = dest {
                batch.add(net, dest, &mut out.advertised);
            }
        }
        let mut ends = Vec::new();
        for family in Family::ALL {
            let Some(from) = out.walk_bound(family) else { continue };
            let mut nets = self.table.range_mut((from, Unbounded));
            while batch.size() < max_bytes {
                let next = nets.next().filter(|(net, _)| Family::of(net) == family);
                let Some((net, dest)) = next else {
                    ends.extend(out.finish_walk(family).then_some(family));
                    break;
                };
                out.mark_visited(*net);
                batch.add(*net, dest, &mut out.advertised);
            }
        }
        let (removable, mut updates) = batch.finish();
        let ends = ends.into_iter().map(Some);
        updates.extend(ends.map(|end_of_rib| Update { end_of_rib, ..Update::default() }));
        for net in removable {
            self.table.remove(&net);
        }
        self.changes.journal.mark_read(out.read);
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.adj_rib_out = out;
        }
        self.trim_journal();
        updates
    }

    /// Forgets all advertisements to a peer, because its session is down.
    fn clear_advertised(&mut self, peer: PeerIndex) {
        let mut removable = Vec::new();
        for (net, dest) in &mut self.table {
            if dest.mark_withdrawn(peer) && dest.is_removable() {
                removable.push(*net);
            }
        }
        for net in removable {
            self.table.remove(&net);
        }
    }

    /// Drops the journal entries that all peers have read. If the journal is too long, peers that are far
    /// behind skip it and are sent the whole table again.
    fn trim_journal(&mut self) {
        let journal = &mut self.changes.journal;
        let end = journal.end();
        if let Some(half) = journal.overlong_at(self.table.len()) {
            let behind = |entry: &&mut PeerEntry| entry.up && entry.adj_rib_out.read < half;
            for entry in self.peers.iter_mut().filter(behind) {
                let families = entry.session.families.iter();
                families.for_each(|family| entry.adj_rib_out.start_walk(*family));
                entry.adj_rib_out.read = end;
                journal.mark_read(end);
            }
        }
        let up = self.peers.iter().filter(|entry| entry.up);
        journal.drop_until(up.map(|entry| entry.adj_rib_out.read).min().unwrap_or(end));
    }
}
