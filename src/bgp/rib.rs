//! The paths that were heard, and the choice among them (RFC 4271 section 9). Pure.
//!
//! One table for all peers: a network has the few paths that lead to it, the best first ([`choice`]),
//! and a bit for each peer that was told of it ([`slot`] gives the peers their places). There is no copy
//! of what a peer was told, for [`policy`] says it again at any time; the attributes of an UPDATE are one
//! value for all its networks. What is still to be told is in [`out`]. A network without paths stays
//! until all who were told of it know.
//!
//! A peer that restarts keeps its paths for a while, as stale ones (RFC 4724): it has a slot as long as
//! it has a session or a path.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

pub use super::slot::{Counts, Session};
use super::{
    Config, Family,
    choice::{LOCAL, Path, Said, hops},
    message::Update,
    out::{Journal, Outbox},
    policy::{self, Refusal},
    slot::{REFUSED, Slots},
};
use crate::{
    few::{Few, Sorted},
    state::Via,
};
pub(super) use dest::Dest;
use dest::{Before, Changes};

/// What came of it for the node: routes for `desired`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The next hops of the best paths of each route, in order; several are equally good.
    pub routes: Few<IpNet, Via>,
    /// Networks that were claimed in this run: where nobody claims one any more, nobody will. Empty once
    /// all is complete.
    pub gone: Sorted<IpNet>,
    /// Peers whose session was up in this run and is down, and which are not just restarting.
    pub lost: Sorted<IpAddr>,
    /// Whether all peers have said all that they know, or had the time for it: what nobody claims
    /// then, nobody will.
    pub complete: bool,
}

/// The paths that were heard, and what is told of them.
#[derive(Debug)]
pub struct Rib {
    pub(super) config: Arc<Config>,
    pub(super) slots: Slots,
    pub(super) table: BTreeMap<IpNet, Dest>,
    pub(super) journal: Journal,
    /// What own paths say.
    own: Arc<Said>,
    /// What became of routes.
    changes: Changes,
}

/// What becomes of a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Goes,
}

impl Rib {
    /// Holds the own networks, and nobody to tell them to.
    pub fn new(config: Arc<Config>) -> Rib {
        let own = config.origin.pods.iter().chain(&config.origin.services);
        let own: Vec<IpNet> = own.copied().collect();
        let mut rib = Rib {
            config,
            slots: Slots::default(),
            table: BTreeMap::new(),
            journal: Journal::default(),
            own: Arc::new(Said::nothing()),
            changes: Changes { any: false, gone: Some(Sorted::new()) },
        };
        own.into_iter().for_each(|net| rib.begin(net));
        rib
    }

    /// A session is up. All that there is for it is to be told, and End-of-RIB for each family. Of what
    /// it said in an earlier session, only that of the families that it `kept` forwarding for stays, as
    /// stale, until it says End-of-RIB.
    pub fn up(&mut self, session: Session, kept: &[Family]) {
        let addr = session.addr;
        if self.slots.find(addr).and_then(|at| self.slots.get(at)).is_some_and(|slot| slot.up) {
            self.down(addr, kept); // nobody said so
        }
        let mut same = true;
        let at = match self.slots.find(addr) {
            Some(at) => at,
            None => match self.slots.take(session.clone()) {
                Some(at) => at,
                None => return, // 65,535 peers
            },
        };
        let end = self.journal.end();
        if let Some(slot) = self.slots.get_mut(at) {
            let was = &slot.session;
            same = (was.internal, was.id, was.client)
                == (session.internal, session.id, session.client);
            slot.up = true;
            slot.awaited.clone_from(&session.families);
            slot.refused = Few::new();
            slot.unnamed = 0;
            slot.out = Outbox::new(&session.families, end);
            slot.session = session;
        }
        self.journal.read_to(end);
        // The stale ones may be another choice now, or be passed on differently.
        self.sweep(Some(at), !same, &mut |_, net, _| {
            if kept.contains(&Family::of(net)) { Fate::Stays } else { Fate::Goes }
        });
    }

    /// A session is down. What it said of the families to `keep` stays, as stale; but not what was stale
    /// already (RFC 4724 section 4.2). Where there is no session, only what is not to be kept goes.
    pub fn down(&mut self, addr: IpAddr, keep: &[Family]) {
        let Some(at) = self.slots.find(addr) else { return };
        let Some(slot) = self.slots.get_mut(at) else { return };
        let was_up = slot.up;
        slot.up = false;
        slot.awaited.clear();
        slot.last = None;
        slot.refused = Few::new();
        slot.unnamed = 0;
        slot.out = Outbox::default();
        if was_up {
            self.forget_told(at);
        }
        self.sweep(Some(at), false, &mut |_, net, path| {
            let stays = keep.contains(&Family::of(net)) && !(was_up && path.stale);
            path.stale = true;
            if stays { Fate::Stays } else { Fate::Goes }
        });
        self.slots.leave();
        self.trim();
    }

    /// The time of a peer's restart is over: what is stale of it goes.
    pub fn expire(&mut self, addr: IpAddr) {
        let Some(at) = self.slots.find(addr) else { return };
        self.sweep(Some(at), false, &mut |_, _, path| {
            if path.stale { Fate::Goes } else { Fate::Stays }
        });
        self.slots.leave();
    }

    /// A peer said something. From one without a session it counts for nothing.
    pub fn hear(&mut self, addr: IpAddr, update: Update) {
        let Some(at) = self.slots.find(addr) else { return };
        let Some(slot) = self.slots.get(at).filter(|slot| slot.up) else { return };
        let mut last = slot.last.clone();
        let attributes = policy::receive(&slot.session, update.attributes);
        for net in update.withdrawn {
            self.withdraw(at, net.trunc());
        }
        for reach in update.reach {
            let same =
                |said: &Arc<Said>| said.next_hop == reach.next_hop && said.attributes == attributes;
            let said = last.take().filter(same).unwrap_or_else(|| {
                Arc::new(Said { next_hop: reach.next_hop, attributes: attributes.clone() })
            });
            for net in reach.nets {
                self.announce(at, net.trunc(), &said);
            }
            last = Some(said);
        }
        if let Some(slot) = self.slots.get_mut(at) {
            slot.last = last;
        }
        if let Some(family) = update.end {
            self.end(at, family);
        }
    }

    /// A peer has said all that it had of a family: what is stale of it, it has no longer.
    fn end(&mut self, at: u16, family: Family) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.awaited.retain(|awaited| *awaited != family);
        }
        self.sweep(Some(at), false, &mut |_, net, path| {
            if path.stale && Family::of(net) == family { Fate::Goes } else { Fate::Stays }
        });
    }

    /// A peer has a path to a network.
    fn announce(&mut self, at: u16, net: IpNet, said: &Arc<Said>) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        if let Some(refusal) = policy::refuse(&self.config, &slot.session, &net, said) {
            self.refuse(at, net, refusal);
            self.take_out(at, &net);
            return;
        }
        slot.refused.remove(&net);
        let path = Path {
            said: Arc::clone(said),
            from: at,
            stale: false,
            usable: policy::is_on_link(&self.config, &said.next_hop),
            beaten: false,
        };
        if self.put_in(net, path)
            && let Some(slot) = self.slots.get_mut(at)
        {
            slot.accepted += 1;
        }
    }

    /// Remembers that a network was refused, and why.
    fn refuse(&mut self, at: u16, net: IpNet, refusal: Refusal) {
        let Some(slot) = self.slots.get_mut(at) else { return };
        if slot.refused.len() < REFUSED || slot.refused.contains_key(&net) {
            slot.refused.insert(net, refusal);
        } else {
            slot.unnamed += 1;
        }
    }

    /// A peer has no path to a network any more.
    fn withdraw(&mut self, at: u16, net: IpNet) {
        if let Some(slot) = self.slots.get_mut(at) {
            slot.refused.remove(&net);
        }
        self.take_out(at, &net);
    }

    /// An own network is there.
    fn begin(&mut self, net: IpNet) {
        let said = Arc::clone(&self.own);
        self.put_in(net, Path { said, from: LOCAL, stale: false, usable: true, beaten: false });
    }

    /// Puts in a path, in place of that of the same peer; whether there was none.
    fn put_in(&mut self, net: IpNet, path: Path) -> bool {
        let passes = self.config.own.cluster.is_some();
        let dest = self.table.entry(net).or_default();
        let before = Before::of(dest, &self.slots);
        let old = dest.paths.iter_mut().find(|old| old.from == path.from);
        let is_new = old.is_none();
        match old {
            Some(old) => *old = path,
            None => dest.paths.push(path),
        }
        dest.settle(&net, &before, passes, &self.slots, &mut self.journal, &mut self.changes);
        is_new
    }

    /// Takes out the path of a peer.
    fn take_out(&mut self, from: u16, net: &IpNet) {
        let passes = self.config.own.cluster.is_some();
        let Some(dest) = self.table.get_mut(net) else { return };
        if dest.paths.iter().all(|path| path.from != from) {
            return;
        }
        let before = Before::of(dest, &self.slots);
        dest.paths.retain_mut(|path| path.from != from);
        if let Some(slot) = self.slots.get_mut(from) {
            slot.accepted -= 1;
        }
        dest.settle(net, &before, passes, &self.slots, &mut self.journal, &mut self.changes);
        if dest.is_over() {
            self.table.remove(net);
        }
    }

    /// Looks at all paths of a peer, or of all, and takes out those that are to go. `moved`: what else
    /// counts in the choice or for those who are told has changed as well.
    fn sweep(&mut self, from: Option<u16>, moved: bool, fate: &mut Judge) {
        let passes = self.config.own.cluster.is_some();
        let concerns = |path: &Path| from.is_none_or(|from| path.from == from);
        let mut over = Vec::new();
        for (net, dest) in &mut self.table {
            if !dest.paths.iter().any(concerns) {
                continue;
            }
            let before = Before { moved, ..Before::of(dest, &self.slots) };
            dest.paths.retain_mut(|path| {
                let stays = !concerns(path) || fate(&self.slots, net, path) == Fate::Stays;
                if let (false, Some(slot)) = (stays, self.slots.get_mut(path.from)) {
                    slot.accepted -= 1;
                }
                stays
            });
            dest.settle(net, &before, passes, &self.slots, &mut self.journal, &mut self.changes);
            if dest.is_over() {
                over.push(*net);
            }
        }
        for net in over {
            self.table.remove(&net);
        }
    }

    /// Whether routes changed since that was taken last.
    pub fn has_changed(&self) -> bool {
        self.changes.any
    }

    /// Whether routes changed since this was asked last.
    pub fn take_changes(&mut self) -> bool {
        std::mem::take(&mut self.changes.any)
    }

    /// The networks that had a route in this run, up to the time when all was complete. Some may have one
    /// again.
    pub fn gone(&self) -> impl Iterator<Item = &IpNet> {
        self.changes.gone.iter().flatten()
    }

    /// All that there is was said: which routes went counts no more.
    pub fn complete(&mut self) {
        self.changes.gone = None;
    }

    /// The routes for the kernel: networks that others have, with the next hops of the best paths.
    pub fn routes(&self) -> Few<IpNet, Via> {
        let route = |(net, dest): (&IpNet, &Dest)| Some((*net, hops(&dest.paths, &self.slots)?));
        self.table.iter().filter_map(route).collect()
    }

    /// Whether a peer has a session and said End-of-RIB for all of its families.
    pub fn is_complete(&self, addr: IpAddr) -> bool {
        let slot = self.slots.find(addr).and_then(|at| self.slots.get(at));
        slot.is_some_and(|slot| slot.up && slot.awaited.is_empty())
    }

    /// How many networks there are between this node and a peer.
    pub fn counts(&self, addr: IpAddr) -> Counts {
        let slot = self.slots.find(addr).and_then(|at| self.slots.get(at));
        slot.map_or_else(Counts::default, |slot| Counts {
            received: slot.accepted + slot.refused.len() + slot.unnamed,
            accepted: slot.accepted,
            told: slot.out.told,
        })
    }
}

/// Says what becomes of a path to a network, and may change it.
type Judge<'a> = dyn FnMut(&Slots, &IpNet, &mut Path) -> Fate + 'a;

mod configure;
mod dest;
mod paths;

#[cfg(test)]
mod random;

#[cfg(test)]
pub(super) mod world;

#[cfg(test)]
mod tests;
