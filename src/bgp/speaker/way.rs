//! The ways to those peers that are watched by BFD: one that breaks ends the session at once (RFC 5882
//! section 4.3), long before the hold time would.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{Action, Known, Probe, Speaker};
use crate::bgp::{
    bfd::{Change, LEN, Packet},
    fsm::Input,
    message::Notification,
};

impl Speaker {
    /// A packet came.
    pub(super) fn probed(&mut self, from: IpAddr, bytes: &[u8], now: Duration) {
        let bfd = self.peers.get_mut(&from).and_then(|known| known.bfd.as_mut());
        let change = bfd.zip(Packet::read(bytes)).and_then(|(bfd, packet)| bfd.hear(packet, now));
        change.into_iter().for_each(|change| self.changed(from, change, now));
    }

    /// The time went on.
    pub(super) fn watch(&mut self, now: Duration) {
        let mut changes = Vec::new();
        for (addr, known) in self.peers.iter_mut() {
            let Some(bfd) = &mut known.bfd else { continue };
            changes.extend(bfd.time(now).map(|change| (*addr, change)));
            if let Some(bytes) = bfd.send(now) {
                self.actions.extend(probe(*addr, known, bytes));
            }
        }
        for (addr, change) in changes {
            self.changed(addr, change, now);
        }
    }

    /// The peer is to know that we watch no longer, so that it does not take that for a fault.
    pub(super) fn unwatch(&mut self, addr: IpAddr) {
        let Some(known) = self.peers.get_mut(&addr) else { return };
        let last = known.bfd.take().and_then(|bfd| probe(addr, known, bfd.end()));
        self.actions.extend(last);
    }

    /// So are all peers, who keep our routes until we are back.
    pub fn pause(&mut self) {
        let all: Vec<IpAddr> = self.peers.keys().copied().collect();
        all.into_iter().for_each(|addr| self.unwatch(addr));
    }

    fn changed(&mut self, addr: IpAddr, change: Change, now: Duration) {
        match change {
            Change::Up => self.say(addr, false, "BFD: the way to it works"),
            Change::Off => self.say(addr, false, "BFD: it watches no longer"),
            Change::Down(why) => {
                self.say(addr, true, &format!("BFD: {why}"));
                if let Some(conn) = self.peers.get(&addr).and_then(|known| known.up) {
                    self.input(addr, Input::Broken(conn, Notification::BFD_DOWN), now);
                }
            }
        }
    }
}

fn probe(addr: IpAddr, known: &Known, bytes: [u8; LEN]) -> Option<Action> {
    let peer = known.fsm.peer();
    let to = SocketAddr::new(addr, peer.bfd?.port);
    Some(Action::Probe(Box::new(Probe { to, local: peer.local, bytes })))
}
