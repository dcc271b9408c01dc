//! Another configuration for a table that is in use: what is let in by it, what begins here, and who has
//! to be told what again. Sessions end and begin elsewhere; what needs another session is not seen here.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{Fate, LOCAL, Rib, policy};
use crate::bgp::{
    Config,
    policy::{Kind, Refusal},
    slot::Slot,
};

impl Rib {
    /// The configuration is another one. Gives the peers that have to be asked to say all again (RFC
    /// 2918), for something that was refused may be let in now: refused paths are not kept.
    pub fn configure(&mut self, config: Arc<Config>) -> Vec<IpAddr> {
        if *self.config == *config {
            return Vec::new();
        }
        let old = std::mem::replace(&mut self.config, config);
        let config = Arc::clone(&self.config);
        let mut client_changed = false;
        let mut changed_role = Vec::new();
        for slot in self.slots.iter_mut() {
            let session = &mut slot.session;
            let Some(peer) = config.peers.get(&session.addr) else { continue };
            let role = (peer.is_outside(), peer.client);
            if role != (session.outside, session.client) {
                client_changed |= session.client != peer.client;
                changed_role.push(session.addr);
                (session.outside, session.client) = role;
            }
        }
        let own_changed = who(&old) != who(&config);
        let import_changed =
            own_changed || old.import != config.import || old.origin.pods != config.origin.pods;
        if import_changed {
            self.import_again();
        }
        self.begin_and_end(&old);

        let (was, is) = (&old.export, &config.export);
        let passes = config.own.cluster.is_some();
        let outside_changed = (was.pods_outside, &was.communities, was.prepend, was.next_hop_self)
            != (is.pods_outside, &is.communities, is.prepend, is.next_hop_self);
        let inside_changed =
            was.pods_inside != is.pods_inside || passes && was.next_hop_self != is.next_hop_self;
        let all_changed = own_changed || passes && client_changed;
        for slot in self.slots.iter_mut().filter(|slot| slot.up) {
            let session = &slot.session;
            let rules_changed = if session.outside { outside_changed } else { inside_changed };
            if all_changed || rules_changed || changed_role.contains(&session.addr) {
                session.families.iter().for_each(|family| slot.out.begin(*family));
            }
        }
        let up = self.slots.iter().filter(|slot| slot.up && import_changed);
        let ask = up.filter(|slot| may_let_in(&config, slot, own_changed));
        ask.map(|slot| slot.session.addr).collect()
    }

    /// Takes out what is not let in any more, and looks again whether next hops are on a link.
    fn import_again(&mut self) {
        let config = Arc::clone(&self.config);
        let mut refused: Vec<(u16, IpNet, Refusal)> = Vec::new();
        self.sweep(None, false, &mut |slots, net, path| {
            let Some(from) = slots.session(path.from) else { return Fate::Stays };
            path.usable = policy::is_on_link(&config, &path.said.next_hop);
            match policy::refuse(&config, from, net, &path.said) {
                Some(refusal) => {
                    // A stale one was not said in this session.
                    refused.extend((!path.stale).then_some((path.from, *net, refusal)));
                    Fate::Goes
                }
                None => Fate::Stays,
            }
        });
        for (at, net, refusal) in refused {
            self.refuse(at, net, refusal);
        }
        self.slots.leave();
    }

    /// Makes the own networks what the configuration says, where it said something else before.
    fn begin_and_end(&mut self, old: &Config) {
        let config = Arc::clone(&self.config);
        let none = Kind::default();
        for net in old.origin.pods.iter().chain(&old.origin.services) {
            if Kind::of(&config, net) == none {
                self.take_out(LOCAL, net);
            }
        }
        for net in config.origin.pods.iter().chain(&config.origin.services) {
            let was = Kind::of(old, net);
            if was == none {
                self.begin(*net);
            } else if was != Kind::of(&config, net)
                && let Some(dest) = self.table.get_mut(net)
            {
                dest.note(net, &self.slots, &mut self.journal);
            }
        }
    }
}

/// What of the speaker itself counts for what it lets in and says.
fn who(config: &Config) -> impl PartialEq {
    let own = &config.own;
    (own.asn, own.id, own.addrs.clone(), own.cluster)
}

/// Whether something that a peer said may be let in now.
fn may_let_in(config: &Config, slot: &Slot, own_changed: bool) -> bool {
    slot.unnamed > 0
        || slot.refused.iter().any(|(net, refusal)| match refusal {
            Refusal::Own | Refusal::Pods | Refusal::Rejected => {
                policy::refuse_net(config, net).is_none()
            }
            Refusal::Loop | Refusal::Originator | Refusal::Cluster | Refusal::NextHop => {
                own_changed
            }
            Refusal::Family | Refusal::Default | Refusal::Martian | Refusal::FirstAs => false,
        })
}
