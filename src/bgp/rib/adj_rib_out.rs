//! Adj-RIB-Out (RFC 4271 section 3.2): which UPDATEs each peer must still be sent. Pure.
//!
//! A new peer is sent the whole table by a walk over it. Later changes go into one journal for all peers:
//! a list of changed networks, which each peer reads from its own position. [`Rib::updates`] reads the
//! journal, then continues the walks, collects the networks in a `Batch` by equal attributes, and
//! returns the UPDATEs; [`Rib::write_updates`] encodes them; `Rib::trim_journal` drops the entries that all peers
//! have read. The attributes come from [`policy::export`].
//!
//! Only the last journal entry of a network counts, and a network gets no new entry while no peer has
//! read its last one. An entry is skipped if the walk of the peer has not reached its network yet.
//! Each destination has a bit for each peer to which it is advertised, so a withdrawal is sent if and
//! only if the peer has the network. A peer that does not read for long is sent the whole table again, so
//! that the journal stays bounded.

use std::{
    collections::VecDeque,
    net::IpAddr,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    Destination, Rib,
    decision::{Path, RouteAttrs},
    peer_table::{PeerEntry, PeerIndex, PeerSession, PeerTable},
};
use crate::family::Family;
use crate::{
    bgp::{
        message::Message,
        policy::{self, ExportedRoute, LocalKind, RouteSource},
        update::{Reach, Update},
    },
    model::bgp::Config,
};

/// The journal may have this many entries more than there are networks in the table.
const JOURNAL_SLACK: usize = 4096;

/// A set of peers, as a bitmap by peer index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerSet(Vec<u64>);

impl PeerSet {
    /// Returns true if a peer is in the set.
    pub fn contains(&self, PeerIndex(at): PeerIndex) -> bool {
        self.0.get(usize::from(at / 64)).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// Returns true if the set has no peers.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a peer. Returns true if it was not in the set.
    pub fn insert(&mut self, PeerIndex(at): PeerIndex) -> bool {
        let word = usize::from(at / 64);
        if self.0.len() <= word {
            self.0.reserve_exact(word + 1 - self.0.len());
            self.0.resize(word + 1, 0);
        }
        let before = self.0[word];
        self.0[word] |= 1 << (at % 64);
        self.0[word] != before
    }

    /// Removes a peer. Returns true if it was in the set.
    pub fn remove(&mut self, PeerIndex(at): PeerIndex) -> bool {
        let Some(word) = self.0.get_mut(usize::from(at / 64)) else { return false };
        let before = *word;
        *word &= !(1 << (at % 64));
        let changed = *word != before;
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        changed
    }
}

/// The networks whose advertisements may have changed, in the order of the changes. Entries are numbered
/// from 1.
#[derive(Debug, Default)]
pub struct Journal {
    nets: VecDeque<IpNet>,
    /// The number of entries that were dropped from the front.
    dropped: u64,
    /// The highest entry that at least one peer has read or skips. All peers will read the later entries.
    read: u64,
}

impl Journal {
    /// Returns the number of the last entry; 0 if there never was one.
    pub fn end(&self) -> u64 {
        self.dropped + self.nets.len() as u64
    }

    /// Returns the number of the last entry that was dropped from the front.
    #[cfg(test)]
    pub fn start(&self) -> u64 {
        self.dropped
    }

    /// Appends an entry and returns its number.
    pub fn push(&mut self, net: IpNet) -> u64 {
        self.nets.push_back(net);
        self.end()
    }

    /// Returns true if no peer has read an entry yet, so that all of them will.
    pub fn is_unread(&self, entry: u64) -> bool {
        entry > self.read.max(self.dropped)
    }

    /// Records that a peer has read all entries up to this one, or will skip them.
    pub fn mark_read(&mut self, entry: u64) {
        self.read = self.read.max(entry);
    }

    /// Returns an entry by its number; `None` if it was dropped or does not exist yet.
    fn get(&self, entry: u64) -> Option<&IpNet> {
        self.nets.get(usize::try_from(entry.checked_sub(self.dropped + 1)?).ok()?)
    }
}

/// The progress of a walk over the networks of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Walk {
    #[default]
    Done,
    NotStarted,
    /// The last visited network.
    After(IpNet),
}

/// The state of the advertisements to one peer.
#[derive(Debug, Default)]
pub struct AdjRibOut {
    /// The walks, by family.
    walks: [Walk; 2],
    /// The families for which End-of-RIB must be sent after the walk.
    end_of_rib: Vec<Family>,
    /// The number of the last journal entry that was processed for this peer.
    read: u64,
    /// The number of networks that are advertised to the peer.
    pub advertised: usize,
}

impl AdjRibOut {
    /// Returns the state of a new session: the whole table must be advertised. The journal entries up to
    /// `read` are skipped, because the table has those changes already.
    pub fn new(families: &[Family], read: u64) -> AdjRibOut {
        let mut out = AdjRibOut { end_of_rib: families.to_vec(), read, ..AdjRibOut::default() };
        families.iter().for_each(|family| out.start_walk(*family));
        out
    }

    /// Schedules the advertisement of all networks of a family, again if they were advertised before.
    pub fn start_walk(&mut self, family: Family) {
        self.walks[family as usize] = Walk::NotStarted;
    }

    /// Returns true if a walk has not reached a network yet.
    fn will_visit(&self, net: &IpNet) -> bool {
        match self.walks[Family::of(net) as usize] {
            Walk::Done => false,
            Walk::NotStarted => true,
            Walk::After(last) => *net > last,
        }
    }

    /// Returns true if nothing is left to do.
    fn is_idle(&self, journal: &Journal) -> bool {
        self.walks == [Walk::Done; 2] && self.end_of_rib.is_empty() && self.read == journal.end()
    }
}

impl Rib {
    /// Handles a ROUTE-REFRESH (RFC 2918): schedules the advertisement of all networks of a family.
    /// Ignored if the session is not up or the family was not negotiated.
    pub fn handle_refresh(&mut self, addr: IpAddr, family: Family) {
        let entry = self.peers.index_of(addr).and_then(|peer| self.peers.get_mut(peer));
        let is_valid =
            |entry: &&mut PeerEntry| entry.up && entry.session.families.contains(&family);
        if let Some(entry) = entry.filter(is_valid) {
            entry.adj_rib_out.start_walk(family);
        }
    }

    /// Returns true if there may be UPDATEs to send to a peer.
    pub fn has_pending_updates(&self, addr: IpAddr) -> bool {
        let entry = self.peers.index_of(addr).and_then(|peer| self.peers.get(peer));
        entry.is_some_and(|entry| entry.up && !entry.adj_rib_out.is_idle(&self.journal))
    }

    /// Appends the next UPDATE messages for a peer to `out`, about `max_bytes` of them. Returns true if
    /// there may be more.
    pub fn write_updates(&mut self, addr: IpAddr, max_bytes: usize, out: &mut Vec<u8>) -> bool {
        let session = self.peers.index_of(addr).and_then(|peer| self.peers.session(peer));
        let Some(negotiated) = session.map(|session| session.negotiated) else { return false };
        for update in self.updates(addr, max_bytes) {
            Message::Update(update).write(negotiated, out);
        }
        self.has_pending_updates(addr)
    }

    /// Returns the next UPDATEs for a peer, of about `max_bytes`. Empty if its session is not up.
    pub fn updates(&mut self, addr: IpAddr, max_bytes: usize) -> Vec<Update> {
        let Some(peer) = self.peers.index_of(addr) else { return Vec::new() };
        let Some(entry) = self.peers.get_mut(peer).filter(|entry| entry.up) else {
            return Vec::new();
        };
        let mut out = std::mem::take(&mut entry.adj_rib_out);
        let Some(to) = self.peers.session(peer) else { return Vec::new() };
        let mut batch = Batch {
            config: &self.config,
            peers: &self.peers,
            to,
            peer,
            withdrawn: Default::default(),
            groups: Vec::new(),
            removable: Vec::new(),
            size: 0,
        };
        while batch.size < max_bytes && out.read < self.journal.end() {
            out.read += 1;
            let Some(net) = self.journal.get(out.read).filter(|net| !out.will_visit(net)) else {
                continue;
            };
            let dest = self.table.get_mut(net).filter(|dest| dest.journal_pos() == out.read);
            if let Some(dest) = dest {
                batch.add(*net, dest, &mut out.advertised);
            }
        }
        let mut ends = Vec::new();
        for family in Family::ALL {
            let from = match out.walks[family as usize] {
                Walk::Done => continue,
                Walk::NotStarted => Included(lowest_net(family)),
                Walk::After(net) => Excluded(net),
            };
            let mut nets = self.table.range_mut((from, Unbounded));
            while batch.size < max_bytes {
                let next = nets.next().filter(|(net, _)| Family::of(net) == family);
                let Some((net, dest)) = next else {
                    out.walks[family as usize] = Walk::Done;
                    ends.extend(out.end_of_rib.extract_if(.., |end| *end == family));
                    break;
                };
                out.walks[family as usize] = Walk::After(*net);
                batch.add(*net, dest, &mut out.advertised);
            }
        }
        let (removable, mut updates) = batch.finish();
        updates.extend(
            ends.into_iter().map(|end| Update { end_of_rib: Some(end), ..Update::default() }),
        );
        for net in removable {
            self.table.remove(&net);
        }
        self.journal.mark_read(out.read);
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.adj_rib_out = out;
        }
        self.trim_journal();
        updates
    }

    /// Forgets all advertisements to a peer, because its session is down.
    pub(super) fn clear_advertised(&mut self, peer: PeerIndex) {
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
    pub(super) fn trim_journal(&mut self) {
        let end = self.journal.end();
        if self.journal.nets.len() > self.table.len() + JOURNAL_SLACK {
            let half = self.journal.dropped + self.journal.nets.len() as u64 / 2;
            let behind = |entry: &&mut PeerEntry| entry.up && entry.adj_rib_out.read < half;
            for entry in self.peers.iter_mut().filter(behind) {
                let families = entry.session.families.iter();
                families.for_each(|family| entry.adj_rib_out.start_walk(*family));
                entry.adj_rib_out.read = end;
                self.journal.mark_read(end);
            }
        }
        let up = self.peers.iter().filter(|entry| entry.up);
        let read = up.map(|entry| entry.adj_rib_out.read).min().unwrap_or(end);
        let count =
            usize::try_from(read.saturating_sub(self.journal.dropped)).unwrap_or(usize::MAX);
        self.journal.nets.drain(..count.min(self.journal.nets.len()));
        self.journal.dropped = self.journal.dropped.max(read);
        if self.journal.nets.is_empty() {
            self.journal.nets = VecDeque::new(); // frees the memory of a burst of changes
        }
    }
}

/// Returns the lowest network of a family in the order of the table.
fn lowest_net(family: Family) -> IpNet {
    match family {
        Family::Ipv4 => IpNet::V4(Ipv4Net::default()),
        Family::Ipv6 => IpNet::V6(Ipv6Net::default()),
    }
}

/// The networks of one UPDATE: they have the same attributes after the export policy. The fields `attrs`
/// to `family` are of the first path in the group, and serve to find the group without the export policy.
struct Group {
    attrs: Arc<RouteAttrs>,
    from: PeerIndex,
    kind: LocalKind,
    family: Family,
    /// The route as it is advertised; `None` if the export policy does not advertise it.
    export: Option<ExportedRoute>,
    nets: Vec<IpNet>,
}

/// The UPDATEs that are collected for a peer in one call of [`Rib::updates`].
struct Batch<'a> {
    config: &'a Config,
    peers: &'a PeerTable,
    to: &'a PeerSession,
    peer: PeerIndex,
    /// The networks to withdraw, by family.
    withdrawn: [Vec<IpNet>; 2],
    groups: Vec<Group>,
    /// The networks whose destination can be removed from the table.
    removable: Vec<IpNet>,
    /// An estimate of the encoded size in bytes.
    size: usize,
}

impl Batch<'_> {
    /// Adds the advertisement or withdrawal of a network, if one is due, and updates the number of
    /// networks that are advertised to the peer.
    fn add(&mut self, net: IpNet, dest: &mut Destination, advertised: &mut usize) {
        let group = dest.paths.first().map(|best| self.group(&net, best));
        let group = group.and_then(|group| self.groups.get_mut(group));
        match group.filter(|group| group.export.is_some()) {
            Some(group) => {
                group.nets.push(net);
                *advertised += usize::from(dest.mark_advertised(self.peer));
            }
            None if dest.mark_withdrawn(self.peer) => {
                self.withdrawn[Family::of(&net) as usize].push(net);
                *advertised -= 1;
                if dest.is_removable() {
                    self.removable.push(net);
                }
            }
            None => return,
        }
        self.size += 1 + usize::from(net.prefix_len().div_ceil(8));
    }

    /// Returns the index of the group for the best path of a network, and creates the group if it is new.
    /// Paths of one received UPDATE share their attributes, so most are found by pointer comparison.
    fn group(&mut self, net: &IpNet, best: &Path) -> usize {
        let family = Family::of(net);
        let kind = if best.from == PeerIndex::LOCAL {
            LocalKind::of(self.config, net)
        } else {
            LocalKind::default()
        };
        let has_same_path = |group: &Group| {
            Arc::ptr_eq(&group.attrs, &best.attrs)
                && (group.from, group.kind, group.family) == (best.from, kind, family)
        };
        if let Some(found) = self.groups.iter().rposition(has_same_path) {
            return found;
        }
        let export = exported_route(self.config, self.peers, self.to, net, best);
        let has_same_export = |group: &Group| group.family == family && group.export == export;
        if let Some(found) = self.groups.iter().rposition(has_same_export) {
            return found;
        }
        self.size += export.as_ref().map_or(0, |it| policy::max_encoded_len(&it.attributes));
        let (attrs, from) = (Arc::clone(&best.attrs), best.from);
        self.groups.push(Group { attrs, from, kind, family, export, nets: Vec::new() });
        self.groups.len() - 1
    }

    /// Returns the networks that can be removed from the table, and the UPDATEs, withdrawals first.
    fn finish(self) -> (Vec<IpNet>, Vec<Update>) {
        let withdrawn = self.withdrawn.into_iter().filter(|nets| !nets.is_empty());
        let mut updates: Vec<Update> =
            withdrawn.map(|withdrawn| Update { withdrawn, ..Update::default() }).collect();
        for Group { export, nets, .. } in self.groups {
            let Some(ExportedRoute { next_hop, attributes }) = export else { continue };
            let reach = vec![Reach { next_hop, nets }];
            updates.push(Update { reach, attributes, ..Update::default() });
        }
        (self.removable, updates)
    }
}

/// Returns the route that the export policy makes of the best path of a network; `None` if it is not
/// advertised to the peer.
pub(crate) fn exported_route(
    config: &Config,
    peers: &PeerTable,
    to: &PeerSession,
    net: &IpNet,
    best: &Path,
) -> Option<ExportedRoute> {
    let source = if best.from == PeerIndex::LOCAL {
        RouteSource::Local(LocalKind::of(config, net))
    } else {
        let from = peers.session(best.from)?;
        RouteSource::Learned { from, attrs: &best.attrs, resolvable: best.resolvable }
    };
    policy::export(config, to, Family::of(net), source)
}
