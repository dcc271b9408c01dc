//! The BGP speaker: all peers, the table, and the connections between them. It has no I/O and no clock.
//!
//! [`Speaker::handle_event`] decodes a message with [`Message::read`] and gives it to the [`Fsm`] of its
//! peer. `apply_outputs` in `act` applies what the machine returns: UPDATEs go to the [`Rib`], messages
//! and connections become [`Action`]s. [`Speaker::handle_timeout`] runs the timers of the peers and
//! writes UPDATEs for all peers that have pending ones. `session` fetches the actions with
//! [`Speaker::take_actions`] and performs them; `way` has the BFD sessions of the peers.

mod act;
mod way;
mod words;

use std::{net::IpAddr, sync::Arc, time::Duration};

use crate::few::{Few, Sorted};

use super::{
    Config, Distance,
    bfd::BfdSession,
    fsm::{ConnId, Fsm, Input},
    message::{Agreed, Message, Notification},
    rib::{Learned, Rib},
};
pub use words::{Action, BfdPacket, Dial, Event, Severity, View};

/// The approximate number of bytes of UPDATEs to queue for a peer at a time. More are written after the
/// kernel has accepted them.
const MAX_QUEUED: usize = 64 << 10;
/// The time after the start at which the table is considered complete even if some peers have not sent
/// End-of-RIB, if no restart time is configured (Selection_Deferral_Timer, RFC 4724 section 4.1).
const DEFAULT_DEFERRAL: Duration = Duration::from_secs(90);
/// The maximum number of refused addresses to remember. The first connection from each is logged.
const MAX_REJECTED_SOURCES: usize = 64;

/// The state of one peer.
struct PeerState {
    fsm: Fsm,
    /// The BFD session; `None` if BFD is off.
    bfd: Option<BfdSession>,
    /// The connection of the established session; `None` if there is none.
    session: Option<ConnId>,
    /// The time at which the session was established or ended, or the peer was added.
    since: Duration,
    /// True if a session was established before.
    was_up: bool,
    /// True while bytes are queued on the connection.
    sending: bool,
    /// The time at which stale paths from before the peer's restart are removed; `None` if there are
    /// none.
    stale_until: Option<Duration>,
    /// The last error.
    error: Option<String>,
    /// The errors that were logged since the last established session.
    logged_errors: Vec<String>,
}

/// The BGP speaker. All times are relative to its start.
pub struct Speaker {
    config: Arc<Config>,
    rib: Rib,
    peers: Few<IpAddr, PeerState>,
    /// The connections, with the peer's address and the local address. The local address is `None` until
    /// the connection is open.
    conns: Few<ConnId, (IpAddr, Option<IpAddr>)>,
    last_conn: ConnId,
    seed: u32,
    /// Addresses that are not peers and tried to connect.
    rejected_sources: Sorted<IpAddr>,
    /// True after all peers have sent End-of-RIB or the deferral time is over.
    complete: bool,
    /// The values of `lost` and `complete` in the last result of [`Speaker::take_learned`].
    reported: (Sorted<IpAddr>, bool),
    actions: Vec<Action>,
}

impl Speaker {
    /// Returns a speaker that connects to all peers on the first timeout. `seed` is a random number that
    /// differs from those of other nodes.
    pub fn new(config: Config, seed: u32) -> Speaker {
        let config = Arc::new(config);
        let mut speaker = Speaker {
            rib: Rib::new(Arc::clone(&config)),
            config: Arc::clone(&config),
            peers: Few::new(),
            conns: Few::new(),
            last_conn: 0,
            seed,
            rejected_sources: Sorted::new(),
            complete: false,
            reported: Default::default(),
            actions: Vec::new(),
        };
        speaker.add_peers(Duration::ZERO);
        speaker
    }

    /// Returns the current configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Replaces the configuration. Peers whose configuration changed are removed and added again; all
    /// sessions are reset if the local speaker changed. Other sessions stay established.
    pub fn configure(&mut self, config: Config, now: Duration) {
        let own = config.own != self.config.own;
        let gone: Vec<IpAddr> = self
            .peers
            .iter()
            .filter(|(addr, state)| own || config.peers.get(addr) != Some(state.fsm.peer()))
            .map(|(addr, _)| *addr)
            .collect();
        for addr in gone {
            let notification = if config.peers.contains_key(&addr) {
                Notification::CONFIGURATION_CHANGE
            } else {
                Notification::PEER_DECONFIGURED
            };
            self.remove_peer(addr, &notification, now);
        }
        let config = Arc::new(config);
        for addr in self.rib.configure(Arc::clone(&config)) {
            self.request_refresh(addr);
        }
        self.config = config;
        self.add_peers(now);
        self.handle_timeout(now);
    }

    /// Adds the configured peers that are new.
    fn add_peers(&mut self, now: Duration) {
        let config = Arc::clone(&self.config);
        let restarting = self.deferral_end(&config);
        for (addr, peer) in &config.peers {
            if self.peers.contains_key(addr) {
                continue;
            }
            self.seed = self.seed.wrapping_mul(0x9E37_79B1).wrapping_add(1);
            let fsm = Fsm::new(config.own.clone(), peer.clone(), now, self.seed, restarting);
            let state = PeerState {
                fsm,
                bfd: peer.bfd.map(|bfd| BfdSession::new(bfd, self.seed, now)),
                session: None,
                since: now,
                was_up: false,
                sending: false,
                stale_until: None,
                error: None,
                logged_errors: Vec::new(),
            };
            self.peers.insert(*addr, state);
            self.rejected_sources.remove(addr);
        }
    }

    /// Returns the time at which the restart of this speaker is over: peers no longer see it as
    /// restarting, and routes that no peer has advertised may be removed.
    fn deferral_end(&self, config: &Config) -> Duration {
        config.own.restart.map_or(DEFAULT_DEFERRAL, |time| Duration::from_secs(u64::from(time)))
    }

    /// Removes a peer and its paths, and closes its connections with a NOTIFICATION.
    fn remove_peer(&mut self, addr: IpAddr, notification: &Notification, now: Duration) {
        self.stop_bfd(addr);
        let Some(state) = self.peers.get_mut(&addr) else { return };
        let outputs = state.fsm.stop(notification);
        self.apply_outputs(addr, outputs, now);
        self.peers.remove(&addr);
        self.rib.down(addr, &[]);
        self.rib.expire(addr);
        let left: Vec<ConnId> =
            self.conns.iter().filter(|(_, (of, _))| *of == addr).map(|(c, _)| *c).collect();
        for conn in left {
            self.conns.remove(&conn);
            self.actions.push(Action::Close(conn));
        }
    }

    /// Removes all peers and closes their connections with a NOTIFICATION.
    pub fn shut_down(&mut self, notification: &Notification, now: Duration) {
        let all: Vec<IpAddr> = self.peers.keys().copied().collect();
        for addr in all {
            self.remove_peer(addr, notification, now);
        }
    }

    /// Registers a connection that was accepted from the address `from` at the address `local`. Returns the
    /// connection's number and hop limit; `None` if it must be closed, because `from` is not a peer or
    /// because the peer's state machine refuses it.
    pub fn accept(
        &mut self,
        from: IpAddr,
        local: IpAddr,
        now: Duration,
    ) -> Option<(ConnId, Distance)> {
        if !self.peers.contains_key(&from) {
            if self.rejected_sources.len() < MAX_REJECTED_SOURCES
                && self.rejected_sources.insert(from)
            {
                let text =
                    format!("refused a connection from {from}, which is not a configured peer");
                self.actions.push(Action::Log(Severity::Warning, text));
            }
            return None;
        }
        let conn = self.allocate_conn(from, Some(local));
        self.input(from, Input::Accepted(conn), now);
        let distance = self.peers.get(&from)?.fsm.peer().distance;
        self.conns.contains_key(&conn).then_some((conn, distance))
    }

    fn allocate_conn(&mut self, peer: IpAddr, local: Option<IpAddr>) -> ConnId {
        self.last_conn += 1;
        self.conns.insert(self.last_conn, (peer, local));
        self.last_conn
    }

    /// Processes a socket event. Its effects on other peers, such as new UPDATEs, are left to
    /// [`Speaker::handle_timeout`], which must be called after a batch of events.
    pub fn handle_event(&mut self, event: Event, now: Duration) {
        let conn = match event {
            Event::BfdReceived(..) => None,
            Event::Connected(conn, _)
            | Event::ConnectFailed(conn, _)
            | Event::Received(conn, _)
            | Event::Malformed(conn, _)
            | Event::Closed(conn, _)
            | Event::Flushed(conn) => Some(conn),
        };
        let known = conn.and_then(|conn| Some((conn, self.conns.get(&conn)?.0)));
        match (event, known) {
            (Event::BfdReceived(from, bytes), _) => self.receive_bfd(from, &bytes, now),
            (Event::Connected(_, local), Some((conn, addr))) => {
                self.conns.insert(conn, (addr, Some(local)));
                self.input(addr, Input::Connected(conn), now);
            }
            (Event::ConnectFailed(_, why), Some((conn, addr))) => {
                self.conns.remove(&conn);
                self.input(addr, Input::ConnectFailed(conn, why), now);
            }
            (Event::Closed(_, why), Some((conn, addr))) => {
                self.conns.remove(&conn);
                self.input(addr, Input::Closed(conn, why), now);
            }
            (Event::Malformed(_, notification), Some((conn, addr))) => {
                self.input(addr, Input::Abort(conn, notification), now);
            }
            (Event::Received(_, bytes), Some((conn, addr))) => {
                let input = match Message::read(&bytes, self.agreed(addr, conn)) {
                    Ok(message) => Input::Message(conn, message),
                    Err(notification) => Input::Abort(conn, notification),
                };
                self.input(addr, input, now);
            }
            (Event::Flushed(_), Some((conn, addr))) => {
                let state = self.peers.get_mut(&addr);
                if let Some(state) = state.filter(|state| state.session == Some(conn)) {
                    state.sending = false;
                }
            }
            (_, None) => {}
        }
    }

    /// Returns the properties of a connection that its messages depend on.
    fn agreed(&self, addr: IpAddr, conn: ConnId) -> Agreed {
        let Some(state) = self.peers.get(&addr) else { return Agreed::default() };
        Agreed {
            four_octet: state.fsm.four_octet(conn),
            internal: state.fsm.peer().asn == self.config.own.asn,
        }
    }

    /// Gives an event to the state machine of a peer and applies its outputs.
    fn input(&mut self, addr: IpAddr, input: Input, now: Duration) {
        let Some(state) = self.peers.get_mut(&addr) else { return };
        let outputs = state.fsm.handle_event(input, now);
        self.apply_outputs(addr, outputs, now);
    }

    /// Runs all expired timers and writes pending UPDATEs. It must be called at the time that
    /// [`Speaker::poll_timeout`] returns and after each batch of [`Speaker::handle_event`].
    pub fn handle_timeout(&mut self, now: Duration) {
        let expired = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        let due: Vec<IpAddr> = self
            .peers
            .iter()
            .filter(|(_, state)| expired(state.fsm.poll_timeout()))
            .map(|(addr, _)| *addr)
            .collect();
        for addr in due {
            self.input(addr, Input::Timeout, now);
        }
        self.poll_bfd(now);
        if !self.complete {
            self.complete = now >= self.deferral_end(&self.config)
                || self.peers.keys().all(|addr| self.rib.is_complete(*addr));
            if self.complete {
                self.rib.complete();
            }
        }
        for (addr, state) in self.peers.iter_mut() {
            if expired(state.stale_until) {
                state.stale_until = None;
                self.rib.expire(*addr);
            }
            if let (Some(conn), false) = (state.session, state.sending)
                && self.rib.has_news(*addr)
            {
                let mut bytes = Vec::new();
                self.rib.tell(*addr, MAX_QUEUED, &mut bytes);
                if !bytes.is_empty() {
                    state.sending = true;
                    self.actions.push(Action::Send(conn, bytes));
                }
            }
        }
    }

    /// Returns the time at which [`Speaker::handle_timeout`] must be called; `None` if no timer runs. The
    /// value may change after each call of a method that takes `&mut self`.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let complete = (!self.complete).then(|| self.deferral_end(&self.config));
        let timers = |state: &PeerState| {
            let bfd = state.bfd.as_ref().map(BfdSession::poll_timeout);
            [state.fsm.poll_timeout(), state.stale_until, bfd]
        };
        let peers = self.peers.values().flat_map(timers);
        peers.chain([complete]).flatten().min()
    }

    /// Removes and returns the requested actions in order.
    pub fn take_actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// Returns true if the result of [`Speaker::take_learned`] would differ from its last result.
    pub fn has_learned(&self) -> bool {
        self.rib.has_changed() || self.reported != (self.lost(), self.complete)
    }

    /// Returns the peers whose session was established and is down, except those that may be restarting.
    fn lost(&self) -> Sorted<IpAddr> {
        let lost = |state: &PeerState| {
            state.was_up && state.session.is_none() && state.stale_until.is_none()
        };
        self.peers.iter().filter(|(_, state)| lost(state)).map(|(addr, _)| *addr).collect()
    }

    /// Returns the learned routes and resets [`Speaker::has_learned`]. The routes may be many, so no other
    /// copy of them is made.
    pub fn take_learned(&mut self) -> Learned {
        let routes = self.rib.routes();
        self.rib.take_changes();
        self.reported = (self.lost(), self.complete);
        let gone = self.rib.gone().filter(|net| !routes.contains_key(net)).copied().collect();
        let (lost, complete) = self.reported.clone();
        Learned { routes, gone, lost, complete }
    }

    /// Returns the state of each peer, for status output.
    pub fn view(&self, now: Duration) -> Vec<View> {
        let view = |(addr, state): (&IpAddr, &PeerState)| View {
            addr: *addr,
            peer: state.fsm.peer().clone(),
            state: state.fsm.state(),
            way: state.bfd.as_ref().map(BfdSession::state),
            age: now.saturating_sub(state.since),
            counts: self.rib.counts(*addr),
            error: state.error.clone(),
        };
        self.peers.iter().map(view).collect()
    }

    /// Returns the table, for status output.
    pub fn rib(&self) -> &Rib {
        &self.rib
    }
}

#[cfg(test)]
mod tests;
