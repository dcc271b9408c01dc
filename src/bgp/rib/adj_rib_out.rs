//! Adj-RIB-Out (RFC 4271 section 3.2): which UPDATEs each peer must still be sent. Pure.
//!
//! A new peer is sent the whole table by a walk over it. Later changes go into one [`Journal`] for all
//! peers: a list of changed networks, which each peer reads from its own position. `Rib::updates` reads
//! the journal, then continues the walks.
//!
//! Only the last journal entry of a network counts, and a network gets no new entry while no peer has
//! read its last one. An entry is skipped if the walk of the peer has not reached its network yet.
//! Each destination has a bit for each peer to which it is advertised (a [`PeerSet`]), so a withdrawal is
//! sent if and only if the peer has the network. A peer that does not read for long is sent the whole
//! table again, so that the journal stays bounded.

use std::{collections::VecDeque, ops::Bound};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::path::PeerIndex;
use crate::family::Family;

/// The journal may have this many entries more than there are networks in the table.
const JOURNAL_SLACK: usize = 4096;

/// A set of peers, as a bitmap by peer index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PeerSet(Vec<u64>);

impl PeerSet {
    /// Returns true if a peer is in the set.
    pub(crate) fn contains(&self, PeerIndex(at): PeerIndex) -> bool {
        self.0.get(usize::from(at / 64)).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// Returns true if the set has no peers.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds a peer. Returns true if it was not in the set.
    pub(crate) fn insert(&mut self, PeerIndex(at): PeerIndex) -> bool {
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
    pub(crate) fn remove(&mut self, PeerIndex(at): PeerIndex) -> bool {
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
pub(crate) struct Journal {
    nets: VecDeque<IpNet>,
    /// The number of entries that were dropped from the front.
    dropped: u64,
    /// The highest entry that at least one peer has read or skips. All peers will read the later entries.
    read: u64,
}

impl Journal {
    /// Returns the number of the last entry; 0 if there never was one.
    pub(crate) fn end(&self) -> u64 {
        self.dropped + self.nets.len() as u64
    }

    /// Returns the number of the last entry that was dropped from the front.
    #[cfg(test)]
    pub(crate) fn start(&self) -> u64 {
        self.dropped
    }

    /// Appends an entry and returns its number.
    pub(crate) fn push(&mut self, net: IpNet) -> u64 {
        self.nets.push_back(net);
        self.end()
    }

    /// Returns true if no peer has read an entry yet, so that all of them will.
    pub(crate) fn is_unread(&self, entry: u64) -> bool {
        entry > self.read.max(self.dropped)
    }

    /// Records that a peer has read all entries up to this one, or will skip them.
    pub(crate) fn mark_read(&mut self, entry: u64) {
        self.read = self.read.max(entry);
    }

    /// Returns the number in the middle of the entries if the journal is too long for a table with this
    /// number of networks; `None` otherwise.
    pub(crate) fn overlong_at(&self, table_len: usize) -> Option<u64> {
        let len = self.nets.len();
        (len > table_len + JOURNAL_SLACK).then(|| self.dropped + len as u64 / 2)
    }

    /// Drops the entries up to this one.
    pub(crate) fn drop_until(&mut self, entry: u64) {
        let count = usize::try_from(entry.saturating_sub(self.dropped)).unwrap_or(usize::MAX);
        self.nets.drain(..count.min(self.nets.len()));
        self.dropped = self.dropped.max(entry);
        if self.nets.is_empty() {
            self.nets = VecDeque::new(); // frees the memory of a burst of changes
        }
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
pub(crate) struct AdjRibOut {
    /// The walks, by family.
    walks: [Walk; 2],
    /// The families for which End-of-RIB must be sent after the walk.
    end_of_rib: Vec<Family>,
    /// The number of the last journal entry that was processed for this peer.
    pub read: u64,
    /// The number of networks that are advertised to the peer.
    pub advertised: usize,
}

impl AdjRibOut {
    /// Returns the state of a new session: the whole table must be advertised. The journal entries up to
    /// `read` are skipped, because the table has those changes already.
    pub(crate) fn new(families: &[Family], read: u64) -> AdjRibOut {
        let mut out = AdjRibOut { end_of_rib: families.to_vec(), read, ..AdjRibOut::default() };
        families.iter().for_each(|family| out.start_walk(*family));
        out
    }

    /// Schedules the advertisement of all networks of a family, again if they were advertised before.
    pub(crate) fn start_walk(&mut self, family: Family) {
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

    /// Returns the next journal entry of which the peer must be informed, by its number, and marks all
    /// entries up to it as processed. Entries whose network the walk will visit are skipped. `None` if no
    /// entry is left.
    pub(crate) fn next_entry(&mut self, journal: &Journal) -> Option<(u64, IpNet)> {
        while self.read < journal.end() {
            self.read += 1;
            if let Some(net) = journal.get(self.read).filter(|net| !self.will_visit(net)) {
                return Some((self.read, *net));
            }
        }
        None
    }

    /// Returns the bound at which the walk over a family continues; `None` if the walk is done.
    pub(crate) fn walk_bound(&self, family: Family) -> Option<Bound<IpNet>> {
        match self.walks[family as usize] {
            Walk::Done => None,
            Walk::NotStarted => Some(Bound::Included(lowest_net(family))),
            Walk::After(net) => Some(Bound::Excluded(net)),
        }
    }

    /// Records that the walk has visited a network.
    pub(crate) fn mark_visited(&mut self, net: IpNet) {
        self.walks[Family::of(&net) as usize] = Walk::After(net);
    }

    /// Records that the walk over a family is done. Returns true if End-of-RIB must be sent now.
    pub(crate) fn finish_walk(&mut self, family: Family) -> bool {
        self.walks[family as usize] = Walk::Done;
        self.end_of_rib.extract_if(.., |end| *end == family).count() > 0
    }

    /// Returns true if nothing is left to do.
    pub(crate) fn is_idle(&self, journal: &Journal) -> bool {
        self.walks == [Walk::Done; 2] && self.end_of_rib.is_empty() && self.read == journal.end()
    }
}

/// Returns the lowest network of a family in the order of the table.
fn lowest_net(family: Family) -> IpNet {
    match family {
        Family::Ipv4 => IpNet::V4(Ipv4Net::default()),
        Family::Ipv6 => IpNet::V6(Ipv6Net::default()),
    }
}
