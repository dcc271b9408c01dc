//! The outputs of a peer's state machine, applied to the table, the connections and the log.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use super::{Dial, Severity, Speaker, SpeakerAction};
use crate::bgp::{
    capability::Restart,
    fsm::{ConnId, DownReason, Output},
    message::{Message, Open},
    rib::PeerSession,
};
use crate::family::Family;

/// The time after a peer's restart during which its stale paths are kept while it sends its routes again.
/// RFC 4724 section 4.2 allows such an upper bound on the wait for End-of-RIB.
const STALE_PATH_TIME: Duration = Duration::from_secs(180);
/// The maximum number of different errors of a peer that are logged between two sessions.
const MAX_LOGGED_ERRORS: usize = 4;

impl Speaker {
    /// Requests a log line about a peer.
    pub(super) fn log(&mut self, addr: IpAddr, severity: Severity, text: &str) {
        let node = self.peers.get(&addr).and_then(|peer| peer.fsm.peer().node.as_deref());
        let name = node.map(|name| format!(" (node {name})")).unwrap_or_default();
        self.actions.push(SpeakerAction::Log(severity, format!("peer {addr}{name}: {text}")));
    }

    fn send(&mut self, conn: ConnId, addr: IpAddr, message: &Message) {
        let mut bytes = Vec::new();
        message.write(self.negotiated(addr, conn), &mut bytes);
        self.actions.push(SpeakerAction::Send(conn, bytes));
    }

    /// Sends a ROUTE-REFRESH for each family, if the peer has a session.
    pub(super) fn request_refresh(&mut self, addr: IpAddr) {
        let Some(conn) = self.peers.get(&addr).and_then(|peer| peer.session) else { return };
        for family in Family::ALL {
            if self.config.own.families.contains(&family) {
                self.send(conn, addr, &Message::Refresh(family));
            }
        }
    }

    /// Applies the outputs of a peer's state machine in order.
    pub(super) fn apply_outputs(&mut self, addr: IpAddr, outputs: Vec<Output>, now: Duration) {
        for output in outputs {
            match output {
                Output::Connect => self.dial(addr),
                Output::Send(conn, message) => self.send(conn, addr, &message),
                Output::Close(conn) => {
                    self.conns.remove(&conn);
                    self.actions.push(SpeakerAction::Close(conn));
                }
                Output::SessionUp(conn, open) => self.session_up(addr, conn, &open, now),
                Output::SessionDown(down) => {
                    self.session_down(addr, &down.reason, down.restart.as_ref(), now);
                }
                Output::Update(mut update) => {
                    for fault in std::mem::take(&mut update.faults) {
                        self.log(addr, Severity::Warning, &format!("malformed UPDATE: {fault}"));
                    }
                    self.rib.handle_update(addr, update);
                }
                Output::Refresh(family) => self.rib.handle_refresh(addr, family),
                Output::AttemptFailed(reason) => self.attempt_failed(addr, &reason),
            }
        }
    }

    fn dial(&mut self, addr: IpAddr) {
        let conn = self.allocate_conn(addr, None);
        let Some(state) = self.peers.get(&addr) else { return };
        let peer = state.fsm.peer();
        let dial = Dial {
            to: SocketAddr::new(addr, peer.port),
            local: peer.local,
            password: peer.password.clone(),
            distance: peer.distance,
            hold_time: peer.hold_time,
        };
        self.actions.push(SpeakerAction::Dial(conn, Box::new(dial)));
    }

    fn session_up(&mut self, addr: IpAddr, conn: ConnId, open: &Open, now: Duration) {
        let negotiated = self.negotiated(addr, conn);
        let local = self.conns.get(&conn).and_then(|(_, local)| *local);
        let Some(state) = self.peers.get_mut(&addr) else { return };
        let theirs = &open.capabilities.families;
        let supported = |f: &Family| theirs.contains(f) || theirs.is_empty() && *f == Family::Ipv4;
        let families: Vec<Family> =
            self.config.own.families.iter().copied().filter(supported).collect();
        let kept = open.capabilities.restart.iter().flat_map(|restart| &restart.families);
        let kept: Vec<Family> =
            kept.filter(|(_, forwarding)| *forwarding).map(|(f, _)| *f).collect();
        let peer = state.fsm.peer();
        let session = PeerSession {
            addr,
            asn: open.asn,
            id: open.id,
            internal: negotiated.internal,
            negotiated,
            families,
            local_addr: local.or_else(|| self.config.own.addrs.first().copied()).unwrap_or(addr),
            external: peer.is_outside(),
            client: peer.client,
        };
        state.stale_until = state.stale_until.map(|_| now + STALE_PATH_TIME);
        (state.session, state.since, state.was_up, state.sending) = (Some(conn), now, true, false);
        (state.error, state.logged_errors) = (None, Vec::new());
        self.rib.session_up(session, &kept);
        self.log(
            addr,
            Severity::Info,
            &format!("session up: AS {}, BGP Identifier {}", open.asn, open.id),
        );
    }

    fn session_down(
        &mut self,
        addr: IpAddr,
        reason: &DownReason,
        restart: Option<&Restart>,
        now: Duration,
    ) {
        let Some(state) = self.peers.get_mut(&addr) else { return };
        (state.session, state.since, state.sending) = (None, now, false);
        state.error = Some(reason.to_string());
        let keep: Vec<Family> = match restart {
            Some(restart) if restart.time > 0 => {
                restart.families.iter().map(|(family, _)| *family).collect()
            }
            _ => Vec::new(),
        };
        state.stale_until = match restart {
            Some(restart) if !keep.is_empty() => {
                Some(now + Duration::from_secs(u64::from(restart.time)))
            }
            _ => None,
        };
        let kept = state.stale_until.is_some();
        self.rib.session_down(addr, &keep);
        let suffix = if kept { "; its routes are kept while it may be restarting" } else { "" };
        self.log(addr, Severity::Warning, &format!("session down: {reason}{suffix}"));
    }

    /// Records a failed attempt to establish a session. The same error is logged once between two
    /// sessions.
    fn attempt_failed(&mut self, addr: IpAddr, reason: &DownReason) {
        let Some(state) = self.peers.get_mut(&addr) else { return };
        let text = reason.to_string();
        let is_new =
            state.logged_errors.len() < MAX_LOGGED_ERRORS && !state.logged_errors.contains(&text);
        state.error = Some(text.clone());
        if is_new {
            state.logged_errors.push(text.clone());
            self.log(addr, Severity::Warning, &text);
        }
    }
}
