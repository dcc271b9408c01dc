//! One network: the paths to it, the choice among them, and who was told of it.

use std::sync::Arc;

use ipnet::IpNet;

use super::paths::Paths;
use crate::{
    bgp::{
        choice::{LOCAL, Path, arrange, hops},
        out::{Bits, Journal},
        slot::Slots,
    },
    few::Sorted,
    state::Via,
};

/// A network, and what is known of the ways to it.
#[derive(Debug, Default)]
pub struct Dest {
    /// The paths, the best first.
    pub paths: Paths,
    /// What was told of it: nothing of most, so there is no more than a place for it here.
    tale: Option<Box<Tale>>,
}

/// What was told of a network, and is to be told.
#[derive(Debug, Default)]
struct Tale {
    /// The places of those who were told of it.
    told: Bits,
    /// Where in the journal it stands last.
    noted: u64,
}

/// What became of routes.
#[derive(Debug)]
pub(super) struct Changes {
    /// Whether any changed.
    pub any: bool,
    /// The networks whose route went; `None`: nobody wants to know any more.
    pub gone: Option<Sorted<IpNet>>,
}

/// What there was of a network before its paths changed.
pub(super) struct Before {
    pub best: Option<Path>,
    pub hops: Option<Via>,
    /// What the paths are measured by has changed, so these are not to be compared.
    pub moved: bool,
}

impl Before {
    pub fn of(dest: &Dest, slots: &Slots) -> Before {
        Before { best: dest.paths.first().cloned(), hops: hops(&dest.paths, slots), moved: false }
    }
}

impl Dest {
    /// Chooses anew, and notes the network where somebody may have to be told, and where its route
    /// changed. `passes`: what was learned is passed on.
    pub(super) fn settle(
        &mut self,
        net: &IpNet,
        before: &Before,
        passes: bool,
        slots: &Slots,
        journal: &mut Journal,
        changes: &mut Changes,
    ) {
        arrange(&mut self.paths, slots);
        let best = self.paths.first();
        let same = match (&before.best, best) {
            (Some(old), Some(new)) => {
                (old.from, old.usable) == (new.from, new.usable)
                    && (Arc::ptr_eq(&old.said, &new.said) || old.said == new.said)
            }
            (None, None) => true,
            _ => false,
        };
        let local = |path: Option<&Path>| path.is_some_and(|path| path.from == LOCAL);
        let is_told = passes || self.is_told() || local(best) || local(before.best.as_ref());
        if is_told && (before.moved || !same) {
            self.note(net, slots, journal);
        }
        let hops = hops(&self.paths, slots);
        if before.moved || before.hops != hops {
            changes.any = true;
            if let (Some(gone), Some(_), None) = (&mut changes.gone, &before.hops, &hops) {
                gone.insert(*net);
            }
        }
    }

    /// Notes that there may be something to tell, unless nobody has read the last note yet.
    pub fn note(&mut self, net: &IpNet, slots: &Slots, journal: &mut Journal) {
        if !journal.is_unread(self.noted()) && slots.iter().any(|slot| slot.up) {
            self.tale.get_or_insert_default().noted = journal.push(*net);
        }
    }

    /// Where in the journal it stands last; 0: nowhere.
    pub fn noted(&self) -> u64 {
        self.tale.as_ref().map_or(0, |tale| tale.noted)
    }

    /// Whether anybody was told of it.
    fn is_told(&self) -> bool {
        self.tale.as_ref().is_some_and(|tale| !tale.told.is_empty())
    }

    /// Whether a peer was told of it.
    pub fn was_told(&self, at: u16) -> bool {
        self.tale.as_ref().is_some_and(|tale| tale.told.has(at))
    }

    /// A peer is told of it; whether it was not before.
    pub fn tell(&mut self, at: u16) -> bool {
        self.tale.get_or_insert_default().told.set(at)
    }

    /// A peer does not believe any more that it is there; whether it did.
    pub fn untell(&mut self, at: u16) -> bool {
        self.tale.as_mut().is_some_and(|tale| tale.told.clear(at))
    }

    /// Whether there is neither a path nor anyone who believes so.
    pub fn is_over(&self) -> bool {
        self.paths.is_empty() && !self.is_told()
    }
}
