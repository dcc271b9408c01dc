//! What follows from what the machine of a peer says: for the table, for the connections, for the log.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{Action, Dial, Speaker};
use crate::bgp::{
    Family,
    capability::Restart,
    fsm::{Conn, Output},
    message::{Message, Open},
    rib::Session,
};

/// For how long what a peer said before its restart is kept once it is back, until it has said all
/// again (the Selection_Deferral_Timer of RFC 4724 section 4.2, from the other side).
const RESAY: Duration = Duration::from_secs(180);
/// Kinds of trouble with a peer that are told, one after another.
const TROUBLES: usize = 4;

impl Speaker {
    pub(super) fn say(&mut self, addr: IpAddr, bad: bool, text: &str) {
        let node = self.peers.get(&addr).and_then(|known| known.fsm.peer().node.as_deref());
        let name = node.map(|name| format!(" (node {name})")).unwrap_or_default();
        self.actions.push(Action::Say(bad, format!("peer {addr}{name}: {text}")));
    }

    fn send(&mut self, conn: Conn, addr: IpAddr, message: &Message) {
        let mut bytes = Vec::new();
        message.write(self.agreed(addr, conn), &mut bytes);
        self.actions.push(Action::Send(conn, bytes));
    }

    pub(super) fn ask_again(&mut self, addr: IpAddr) {
        let Some(conn) = self.peers.get(&addr).and_then(|known| known.up) else { return };
        for family in Family::ALL {
            if self.config.own.families.contains(&family) {
                self.send(conn, addr, &Message::Refresh(family));
            }
        }
    }

    pub(super) fn act(&mut self, addr: IpAddr, outputs: Vec<Output>, now: Duration) {
        for output in outputs {
            match output {
                Output::Connect => self.dial(addr),
                Output::Send(conn, message) => self.send(conn, addr, &message),
                Output::Close(conn) => {
                    self.conns.remove(&conn);
                    self.actions.push(Action::Close(conn));
                }
                Output::Up(conn, open) => self.up(addr, conn, &open, now),
                Output::Down(down) => self.down(addr, &down.why, down.restart.as_ref(), now),
                Output::Update(mut update) => {
                    for fault in std::mem::take(&mut update.faults) {
                        self.say(addr, true, &format!("a broken UPDATE: {fault}"));
                    }
                    self.rib.hear(addr, update);
                }
                Output::Refresh(family) => self.rib.refresh(addr, family),
                Output::Failed(why) => self.failed(addr, &why),
            }
        }
    }

    fn dial(&mut self, addr: IpAddr) {
        let conn = self.number(addr, None);
        let Some(known) = self.peers.get(&addr) else { return };
        let peer = known.fsm.peer();
        let dial = Dial {
            to: SocketAddr::new(addr, peer.port),
            local: peer.local,
            password: peer.password.clone(),
            distance: peer.distance,
        };
        self.actions.push(Action::Dial(conn, Box::new(dial)));
    }

    fn up(&mut self, addr: IpAddr, conn: Conn, open: &Open, now: Duration) {
        let agreed = self.agreed(addr, conn);
        let local = self.conns.get(&conn).and_then(|(_, local)| *local);
        let Some(known) = self.peers.get_mut(&addr) else { return };
        let theirs = &open.capabilities.families;
        let speaks = |f: &Family| theirs.contains(f) || theirs.is_empty() && *f == Family::Ipv4;
        let families: Vec<Family> =
            self.config.own.families.iter().copied().filter(speaks).collect();
        let kept = open.capabilities.restart.iter().flat_map(|restart| &restart.families);
        let kept: Vec<Family> =
            kept.filter(|(_, forwarding)| *forwarding).map(|(f, _)| *f).collect();
        let peer = known.fsm.peer();
        let session = Session {
            addr,
            asn: open.asn,
            id: open.id,
            internal: agreed.internal,
            agreed,
            families,
            local: local.or_else(|| self.config.own.addrs.first().copied()).unwrap_or(addr),
            outside: peer.is_outside(),
            client: peer.client,
        };
        known.stale = known.stale.map(|_| now + RESAY);
        (known.up, known.since, known.was_up, known.busy) = (Some(conn), now, true, false);
        (known.error, known.told) = (None, Vec::new());
        self.rib.up(session, &kept);
        self.say(addr, false, &format!("up: AS {}, identifier {}", open.asn, open.id));
    }

    fn down(&mut self, addr: IpAddr, why: &str, restart: Option<&Restart>, now: Duration) {
        let Some(known) = self.peers.get_mut(&addr) else { return };
        (known.up, known.since, known.busy) = (None, now, false);
        known.error = Some(why.to_owned());
        let keep: Vec<Family> = match restart {
            Some(restart) if restart.time > 0 => {
                restart.families.iter().map(|(family, _)| *family).collect()
            }
            _ => Vec::new(),
        };
        known.stale = match restart {
            Some(restart) if !keep.is_empty() => {
                Some(now + Duration::from_secs(u64::from(restart.time)))
            }
            _ => None,
        };
        let kept = known.stale.is_some();
        self.rib.down(addr, &keep);
        let then = if kept { "; its routes stay for now" } else { "" };
        self.say(addr, true, &format!("down: {why}{then}"));
    }

    /// The same trouble is told once, until the session was up.
    fn failed(&mut self, addr: IpAddr, why: &str) {
        let Some(known) = self.peers.get_mut(&addr) else { return };
        let is_new = known.told.len() < TROUBLES && !known.told.iter().any(|told| told == why);
        known.error = Some(why.to_owned());
        if is_new {
            known.told.push(why.to_owned());
            self.say(addr, true, why);
        }
    }
}
