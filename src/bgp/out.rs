//! What each peer has been told, and is still to be told. Pure.
//!
//! A new peer is told all by a walk over the table. What changes after that stands in one journal for all
//! peers: a list of networks, which each reads from its own place on. Only the last note of a network
//! counts, and none is made while nobody has read the last one. A network that a walk is still to come
//! to is left to the walk. That a peer was told of a network is a bit beside it, so it is told that the
//! network is gone if, and only if, it believes that it is there.
//!
//! One who does not read for long is told all again, so that the journal does not grow without end.

use std::{
    collections::VecDeque,
    net::IpAddr,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    Config, Family,
    choice::{LOCAL, Path, Said},
    message::{Message, Reach, Update},
    policy::{self, Kind, Source, Told},
    rib::{Dest, Rib},
    slot::{Session, Slots},
};

/// So many notes more than there are networks may stand in the journal.
const SLACK: usize = 4096;

/// The places of peers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bits(Vec<u64>);

impl Bits {
    /// Whether a place is there.
    pub fn has(&self, at: u16) -> bool {
        self.0.get(usize::from(at / 64)).is_some_and(|word| word >> (at % 64) & 1 == 1)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Puts a place in; whether it was not there.
    pub fn set(&mut self, at: u16) -> bool {
        let word = usize::from(at / 64);
        if self.0.len() <= word {
            self.0.reserve_exact(word + 1 - self.0.len());
            self.0.resize(word + 1, 0);
        }
        let was = self.0[word];
        self.0[word] |= 1 << (at % 64);
        self.0[word] != was
    }

    /// Takes a place out; whether it was there.
    pub fn clear(&mut self, at: u16) -> bool {
        let Some(word) = self.0.get_mut(usize::from(at / 64)) else { return false };
        let was = *word;
        *word &= !(1 << (at % 64));
        let had = *word != was;
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        had
    }
}

/// The networks that somebody may have to be told of, in the order in which they changed.
#[derive(Debug, Default)]
pub struct Journal {
    nets: VecDeque<IpNet>,
    /// The number of notes that are gone from the front. Notes are numbered from 1 on.
    gone: u64,
    /// Notes up to this one were read by somebody, or are not for all.
    read: u64,
}

impl Journal {
    /// The number of the last note.
    pub fn end(&self) -> u64 {
        self.gone + self.nets.len() as u64
    }

    /// The number of the last note that is gone from the front.
    #[cfg(test)]
    pub fn begin(&self) -> u64 {
        self.gone
    }

    /// Makes a note, and gives its number.
    pub fn push(&mut self, net: IpNet) -> u64 {
        self.nets.push_back(net);
        self.end()
    }

    /// Whether a note is still to be read by all.
    pub fn is_unread(&self, note: u64) -> bool {
        note > self.read.max(self.gone)
    }

    /// Somebody read the notes up to this one, or will never do.
    pub fn read_to(&mut self, note: u64) {
        self.read = self.read.max(note);
    }

    fn get(&self, note: u64) -> Option<&IpNet> {
        self.nets.get(usize::try_from(note.checked_sub(self.gone + 1)?).ok()?)
    }
}

/// How far a walk over the networks of a family has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Walk {
    #[default]
    Done,
    Begins,
    After(IpNet),
}

/// What is still to be told to a peer.
#[derive(Debug, Default)]
pub struct Outbox {
    /// By family.
    walks: [Walk; 2],
    /// The families for which End-of-RIB is to be said after the walk.
    ends: Vec<Family>,
    /// The last note in the journal that was read.
    read: u64,
    /// How many networks the peer believes to be there.
    pub told: usize,
}

impl Outbox {
    /// All is to be told. What changed before is in the table.
    pub fn new(families: &[Family], read: u64) -> Outbox {
        let mut out = Outbox { ends: families.to_vec(), read, ..Outbox::default() };
        families.iter().for_each(|family| out.begin(*family));
        out
    }

    /// All of a family is to be told, again.
    pub fn begin(&mut self, family: Family) {
        self.walks[family as usize] = Walk::Begins;
    }

    /// Whether a walk is still to come to a network.
    fn is_ahead(&self, net: &IpNet) -> bool {
        match self.walks[Family::of(net) as usize] {
            Walk::Done => false,
            Walk::Begins => true,
            Walk::After(last) => *net > last,
        }
    }

    fn is_empty(&self, journal: &Journal) -> bool {
        self.walks == [Walk::Done; 2] && self.ends.is_empty() && self.read == journal.end()
    }
}

impl Rib {
    /// A peer asks to be told all of a family again (RFC 2918).
    pub fn refresh(&mut self, addr: IpAddr, family: Family) {
        let slot = self.slots.find(addr).and_then(|at| self.slots.get_mut(at));
        if let Some(slot) = slot.filter(|slot| slot.up && slot.session.families.contains(&family)) {
            slot.out.begin(family);
        }
    }

    /// Whether there may be something to tell a peer.
    pub fn has_news(&self, addr: IpAddr) -> bool {
        let slot = self.slots.find(addr).and_then(|at| self.slots.get(at));
        slot.is_some_and(|slot| slot.up && !slot.out.is_empty(&self.journal))
    }

    /// Appends the next messages for a peer, about `room` octets of them; whether there is more.
    pub fn tell(&mut self, addr: IpAddr, room: usize, out: &mut Vec<u8>) -> bool {
        let agreed =
            self.slots.find(addr).and_then(|at| self.slots.session(at)).map(|to| to.agreed);
        let Some(agreed) = agreed else { return false };
        for update in self.updates(addr, room) {
            Message::Update(update).write(agreed, out);
        }
        self.has_news(addr)
    }

    /// What a peer is told next, of about `room` octets.
    pub fn updates(&mut self, addr: IpAddr, room: usize) -> Vec<Update> {
        let Some(at) = self.slots.find(addr) else { return Vec::new() };
        let Some(slot) = self.slots.get_mut(at).filter(|slot| slot.up) else { return Vec::new() };
        let mut out = std::mem::take(&mut slot.out);
        let Some(to) = self.slots.session(at) else { return Vec::new() };
        let mut batch = Batch {
            config: &self.config,
            slots: &self.slots,
            to,
            at,
            gone: Default::default(),
            groups: Vec::new(),
            over: Vec::new(),
            size: 0,
        };
        while batch.size < room && out.read < self.journal.end() {
            out.read += 1;
            let Some(net) = self.journal.get(out.read).filter(|net| !out.is_ahead(net)) else {
                continue;
            };
            if let Some(dest) = self.table.get_mut(net).filter(|dest| dest.noted() == out.read) {
                batch.add(*net, dest, &mut out.told);
            }
        }
        let mut ends = Vec::new();
        for family in Family::ALL {
            let from = match out.walks[family as usize] {
                Walk::Done => continue,
                Walk::Begins => Included(first_of(family)),
                Walk::After(net) => Excluded(net),
            };
            let mut nets = self.table.range_mut((from, Unbounded));
            while batch.size < room {
                let next = nets.next().filter(|(net, _)| Family::of(net) == family);
                let Some((net, dest)) = next else {
                    out.walks[family as usize] = Walk::Done;
                    ends.extend(out.ends.extract_if(.., |end| *end == family));
                    break;
                };
                out.walks[family as usize] = Walk::After(*net);
                batch.add(*net, dest, &mut out.told);
            }
        }
        let (over, mut updates) = batch.close();
        updates.extend(ends.into_iter().map(|end| Update { end: Some(end), ..Update::default() }));
        for net in over {
            self.table.remove(&net);
        }
        self.journal.read_to(out.read);
        if let Some(slot) = self.slots.get_mut(at) {
            slot.out = out;
        }
        self.trim();
        updates
    }

    /// A peer forgets all: it has no session.
    pub(super) fn forget_told(&mut self, at: u16) {
        let mut over = Vec::new();
        for (net, dest) in &mut self.table {
            if dest.untell(at) && dest.is_over() {
                over.push(*net);
            }
        }
        for net in over {
            self.table.remove(&net);
        }
    }

    /// Drops notes that all have read. Those who are far behind are told all again.
    pub(super) fn trim(&mut self) {
        let end = self.journal.end();
        if self.journal.nets.len() > self.table.len() + SLACK {
            let half = self.journal.gone + self.journal.nets.len() as u64 / 2;
            for slot in self.slots.iter_mut().filter(|slot| slot.up && slot.out.read < half) {
                slot.session.families.iter().for_each(|family| slot.out.begin(*family));
                slot.out.read = end;
                self.journal.read_to(end);
            }
        }
        let up = self.slots.iter().filter(|slot| slot.up);
        let read = up.map(|slot| slot.out.read).min().unwrap_or(end);
        let count = usize::try_from(read.saturating_sub(self.journal.gone)).unwrap_or(usize::MAX);
        self.journal.nets.drain(..count.min(self.journal.nets.len()));
        self.journal.gone = self.journal.gone.max(read);
        if self.journal.nets.is_empty() {
            self.journal.nets = VecDeque::new(); // a burst is over
        }
    }
}

/// The least network of a family.
fn first_of(family: Family) -> IpNet {
    match family {
        Family::Ipv4 => IpNet::V4(Ipv4Net::default()),
        Family::Ipv6 => IpNet::V6(Ipv6Net::default()),
    }
}

/// What a peer is told of the path `said` by `from`, and the networks that it holds for.
struct Group {
    said: Arc<Said>,
    from: u16,
    kind: Kind,
    family: Family,
    told: Option<Told>,
    nets: Vec<IpNet>,
}

/// What is told to a peer at a time.
struct Batch<'a> {
    config: &'a Config,
    slots: &'a Slots,
    to: &'a Session,
    at: u16,
    gone: [Vec<IpNet>; 2],
    groups: Vec<Group>,
    /// Networks of which nobody has to be told any more.
    over: Vec<IpNet>,
    /// How many octets it will take, about.
    size: usize,
}

impl Batch<'_> {
    /// Adds what there is to say of a network.
    fn add(&mut self, net: IpNet, dest: &mut Dest, told: &mut usize) {
        let group = dest.paths.first().map(|best| self.group(&net, best));
        let group = group.and_then(|group| self.groups.get_mut(group));
        match group.filter(|group| group.told.is_some()) {
            Some(group) => {
                group.nets.push(net);
                *told += usize::from(dest.tell(self.at));
            }
            None if dest.untell(self.at) => {
                self.gone[Family::of(&net) as usize].push(net);
                *told -= 1;
                if dest.is_over() {
                    self.over.push(net);
                }
            }
            None => return,
        }
        self.size += 1 + usize::from(net.prefix_len().div_ceil(8));
    }

    /// The group of a path: those of one UPDATE most often are of one group here too.
    fn group(&mut self, net: &IpNet, best: &Path) -> usize {
        let family = Family::of(net);
        let kind = if best.from == LOCAL { Kind::of(self.config, net) } else { Kind::default() };
        let is = |group: &Group| {
            Arc::ptr_eq(&group.said, &best.said)
                && (group.from, group.kind, group.family) == (best.from, kind, family)
        };
        if let Some(found) = self.groups.iter().rposition(is) {
            return found;
        }
        let told = told(self.config, self.slots, self.to, net, best);
        let same = |group: &Group| group.family == family && group.told == told;
        if let Some(found) = self.groups.iter().rposition(same) {
            return found;
        }
        self.size += told.as_ref().map_or(0, |told| policy::size(&told.attributes));
        let (said, from) = (Arc::clone(&best.said), best.from);
        self.groups.push(Group { said, from, kind, family, told, nets: Vec::new() });
        self.groups.len() - 1
    }

    /// The messages, and the networks that nobody has to be told of any more.
    fn close(self) -> (Vec<IpNet>, Vec<Update>) {
        let gone = self.gone.into_iter().filter(|gone| !gone.is_empty());
        let mut updates: Vec<Update> =
            gone.map(|withdrawn| Update { withdrawn, ..Update::default() }).collect();
        for Group { told, nets, .. } in self.groups {
            let Some(Told { next_hop, attributes }) = told else { continue };
            let reach = vec![Reach { next_hop, nets }];
            updates.push(Update { reach, attributes, ..Update::default() });
        }
        (self.over, updates)
    }
}

/// What a peer is told of a path to a network.
pub(super) fn told(
    config: &Config,
    slots: &Slots,
    to: &Session,
    net: &IpNet,
    best: &Path,
) -> Option<Told> {
    let source = if best.from == LOCAL {
        Source::Local(Kind::of(config, net))
    } else {
        Source::Learned { from: slots.session(best.from)?, said: &best.said, usable: best.usable }
    };
    policy::export(config, to, Family::of(net), source)
}
