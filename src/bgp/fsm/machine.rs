//! The state machine of one peer (RFC 4271 section 8.2.2).

use super::event::{ConnId, DownReason, FsmInput, FsmState, Output, SessionDown};
use crate::family::Family;
use crate::{
    bgp::{
        capability::{Capabilities, Restart},
        message::{Message, Open},
        notification::Notification,
    },
    model::bgp::{LocalSpeaker, Peer},
    rng::Rng,
};
use std::{net::Ipv4Addr, time::Duration};

/// The hold time until the peer's OPEN arrives. It is the "large value" of RFC 4271 section 8.2.2; the
/// RFC suggests 4 minutes.
const OPEN_HOLD_TIME: Duration = Duration::from_secs(30);
/// The shortest and the longest delay before the next attempt to connect (ConnectRetryTime). The delay
/// doubles with each failure.
const CONNECT_RETRY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(120));
/// The age up to which an established session may still take part in a connection collision. A second
/// connection that arrives later cannot have been opened at the same time.
const COLLISION_WINDOW: Duration = Duration::from_secs(10);
/// The maximum number of connections per peer that are not established. One for each direction
/// suffices; more are refused.
const MAX_PENDING: usize = 2;

/// The side that opened a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Initiator {
    Local,
    Peer,
}

/// The connection that a collision leaves open.
#[derive(PartialEq, Eq)]
enum Winner {
    Existing,
    New,
}

/// A connection with the peer, in state OpenSent or later.
struct Connection {
    id: ConnId,
    initiator: Initiator,
    state: FsmState,
    /// The OPEN that the peer sent; `None` in state OpenSent.
    open: Option<Open>,
    /// The negotiated hold time; zero if keepalives are off.
    hold: Duration,
    /// The time at which the hold timer expires; `None` if the hold time is zero.
    hold_deadline: Option<Duration>,
    /// The time at which the next KEEPALIVE is due; `None` if the hold time is zero.
    keepalive_due: Option<Duration>,
    /// The time at which the connection was opened, or at which the session was established.
    since: Duration,
}

/// The state machine of one peer. All times are relative to the start of the speaker.
pub(crate) struct Fsm {
    own: LocalSpeaker,
    peer: Peer,
    connections: Vec<Connection>,
    /// True while a requested connection is being opened.
    connecting: bool,
    /// The time of the next attempt to connect; `None` while none is planned.
    connect_retry: Option<Duration>,
    /// Connections from the peer are refused before this time, because the last one ended with an error.
    refuse_until: Duration,
    /// The number of consecutive failed attempts.
    failures: u32,
    /// The OPEN has the Restart State bit set before this time (RFC 4724 section 3). `None` if graceful
    /// restart is off, or after the first session was established.
    restarting_until: Option<Duration>,
    /// The random numbers that spread retries in time.
    rng: Rng,
    outputs: Vec<Output>,
}

impl Fsm {
    /// Returns a machine that requests a connection on the first timeout. `seed` is a random number that
    /// differs from the numbers of other peers and nodes. `restarting` is the time until which this node
    /// advertises that it has just restarted.
    pub(crate) fn new(
        own: LocalSpeaker,
        peer: Peer,
        now: Duration,
        seed: u32,
        restarting: Duration,
    ) -> Fsm {
        let restarting_until = own.restart.map(|_| restarting);
        Fsm {
            own,
            peer,
            connections: Vec::new(),
            connecting: false,
            connect_retry: Some(now),
            refuse_until: Duration::ZERO,
            failures: 0,
            restarting_until,
            rng: Rng(u64::from(seed) | 1),
            outputs: Vec::new(),
        }
    }

    /// Returns the peer's configuration.
    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Returns the state of the connection that is furthest ahead, or Connect or Active if there is no
    /// connection.
    pub(crate) fn state(&self) -> FsmState {
        let idle = if self.connecting { FsmState::Connect } else { FsmState::Active };
        self.connections.iter().map(|connection| connection.state).fold(idle, FsmState::max)
    }

    /// Returns true if the machine has the connection `id`.
    pub(crate) fn has(&self, id: ConnId) -> bool {
        self.connections.iter().any(|connection| connection.id == id)
    }

    /// Returns true if AS numbers on the connection have four octets (RFC 6793). This is also the case
    /// before the peer's OPEN has arrived.
    pub(crate) fn four_octet(&self, id: ConnId) -> bool {
        let connection = self.connections.iter().find(|connection| connection.id == id);
        connection.and_then(|c| c.open.as_ref()).is_none_or(|open| open.capabilities.four_octet)
    }

    /// Returns the time at which [`Fsm::handle_event`] must be called with [`FsmInput::Timeout`]; `None` if
    /// no timer runs. The value may change after each call of `handle_event` or [`Fsm::stop`].
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        let timers = self.connections.iter().flat_map(|c| [c.hold_deadline, c.keepalive_due]);
        timers.chain([self.connect_retry]).flatten().min()
    }

    /// Closes all connections with a NOTIFICATION and stops the retry timer (ManualStop, RFC 4271
    /// section 8.1.2). Returns the requested actions in order.
    pub(crate) fn stop(&mut self, notification: &Notification) -> Vec<Output> {
        self.connect_retry = None;
        for Connection { id, state, .. } in std::mem::take(&mut self.connections) {
            self.send(id, Message::Notification(notification.clone()));
            self.outputs.push(Output::Close(id));
            if state == FsmState::Established {
                self.session_down(DownReason::NotificationSent(notification.clone()), None);
            }
        }
        std::mem::take(&mut self.outputs)
    }

    /// Processes one event and all timers that have expired. Returns the requested actions in order.
    pub(crate) fn handle_event(&mut self, input: FsmInput, now: Duration) -> Vec<Output> {
        match input {
            FsmInput::Connected(id) => {
                self.connecting = false;
                self.start_connection(id, Initiator::Local, now);
            }
            FsmInput::ConnectFailed(error) => {
                self.connecting = false;
                self.attempt_failed(DownReason::Transport(error), now);
            }
            FsmInput::Accepted(id) => self.handle_accepted(id, now),
            FsmInput::Closed(id, error) => self.handle_closed(id, error, now),
            FsmInput::Abort(id, notification) => self.abort(id, notification, now),
            FsmInput::Message(id, message) => self.handle_message(id, message, now),
            FsmInput::Timeout => {}
        }
        self.handle_timers(now);
        std::mem::take(&mut self.outputs)
    }

    fn send(&mut self, id: ConnId, message: Message) {
        self.outputs.push(Output::Send(id, message));
    }

    fn session_down(&mut self, reason: DownReason, restart: Option<Restart>) {
        self.outputs.push(Output::SessionDown(SessionDown { reason, restart }));
    }

    fn find(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == id)
    }

    fn handle_accepted(&mut self, id: ConnId, now: Duration) {
        let pending = self.connections.iter().filter(|c| c.state != FsmState::Established).count();
        if now < self.refuse_until || pending >= MAX_PENDING {
            self.outputs.push(Output::Close(id));
        } else {
            self.start_connection(id, Initiator::Peer, now);
        }
    }

    /// Sends an OPEN on a new connection, which enters OpenSent.
    fn start_connection(&mut self, id: ConnId, initiator: Initiator, now: Duration) {
        let up = self.connections.iter().any(|c| c.state == FsmState::Established);
        if initiator == Initiator::Local && up {
            self.outputs.push(Output::Close(id));
            return;
        }
        let open = self.open(now);
        self.send(id, Message::Open(open));
        self.connections.push(Connection {
            id,
            initiator,
            state: FsmState::OpenSent,
            open: None,
            hold: OPEN_HOLD_TIME,
            hold_deadline: Some(now + OPEN_HOLD_TIME),
            keepalive_due: None,
            since: now,
        });
    }

    /// Returns the OPEN of this node.
    fn open(&self, now: Duration) -> Open {
        let families: Vec<Family> = self.own.families.iter().copied().collect();
        Open {
            asn: self.own.asn,
            hold_time: self.peer.hold_time,
            id: self.own.id,
            capabilities: Capabilities {
                refresh: true,
                four_octet: true,
                // Without families, the capability only advertises that this node sends End-of-RIB and
                // supports a restart of the peer (RFC 4724 section 3).
                restart: Some(self.own.restart.map_or_else(Restart::default, |time| Restart {
                    restarting: self.restarting_until.is_some_and(|until| now < until),
                    time: time.min(4095),
                    // The F bit is always set, because the kernel keeps forwarding without the speaker.
                    families: families.iter().map(|family| (*family, true)).collect(),
                })),
                families,
            },
        }
    }

    fn handle_message(&mut self, id: ConnId, message: Message, now: Duration) {
        let Some(connection) = self.find(id) else { return };
        if connection.state != FsmState::OpenSent && connection.hold > Duration::ZERO {
            connection.hold_deadline = Some(now + connection.hold);
        }
        match (connection.state, message) {
            (FsmState::OpenSent, Message::Open(open)) => self.handle_open(id, open, now),
            (FsmState::OpenConfirm, Message::Keepalive) => self.establish(id, now),
            (FsmState::Established, Message::Keepalive | Message::Unknown) => {}
            (FsmState::Established, Message::Update(update)) => {
                self.outputs.push(Output::Update(update));
            }
            (FsmState::Established, Message::Refresh(family)) => {
                self.outputs.push(Output::Refresh(family));
            }
            (_, Message::Notification(notification)) => {
                self.outputs.push(Output::Close(id));
                let reason = DownReason::NotificationReceived(notification);
                self.remove_connection(id, reason, None, now);
            }
            // RFC 6608: the subcode of the error depends on the state.
            (state, _) => {
                let notification = match state {
                    FsmState::OpenSent => Notification::UNEXPECTED_IN_OPEN_SENT,
                    FsmState::OpenConfirm => Notification::UNEXPECTED_IN_OPEN_CONFIRM,
                    _ => Notification::UNEXPECTED_IN_ESTABLISHED,
                };
                self.abort(id, notification, now);
            }
        }
    }

    /// Checks the peer's OPEN, resolves collisions with other connections and enters OpenConfirm.
    fn handle_open(&mut self, id: ConnId, open: Open, now: Duration) {
        if let Err((notification, reason)) = self.check_open(&open) {
            return self.abort_because(id, notification, reason, now);
        }
        let Some(initiator) = self.find(id).map(|c| c.initiator) else { return };
        for i in (0..self.connections.len()).rev() {
            let rival = &self.connections[i];
            if rival.id == id || rival.state < FsmState::OpenConfirm {
                continue;
            }
            let old = rival.state == FsmState::Established && now >= rival.since + COLLISION_WINDOW;
            let restart = rival.open.as_ref().and_then(|o| o.capabilities.restart.clone());
            // RFC 4724 section 4.2: the peer restarted without closing its old connection.
            if old && restart.is_some() {
                let gone = self.connections.remove(i);
                self.outputs.push(Output::Close(gone.id));
                self.session_down(DownReason::Reconnected, restart);
                continue;
            }
            let winner = self.collision_winner(rival.initiator, initiator, &open);
            if old || winner == Winner::Existing {
                self.send(id, Message::Notification(Notification::COLLISION));
                self.outputs.push(Output::Close(id));
                self.connections.retain(|connection| connection.id != id);
                return;
            }
            self.close_loser(i);
        }
        let hold = Duration::from_secs(u64::from(open.hold_time.min(self.peer.hold_time)));
        let Some(connection) = self.find(id) else { return };
        connection.state = FsmState::OpenConfirm;
        connection.hold = hold;
        connection.open = Some(open);
        let keepalives = hold > Duration::ZERO;
        connection.hold_deadline = keepalives.then_some(now + hold);
        connection.keepalive_due = keepalives.then_some(now + hold / 3);
        self.send(id, Message::Keepalive);
    }

    /// Checks an OPEN against the configuration. Fails with the NOTIFICATION to send and the reason for
    /// the log.
    fn check_open(&self, open: &Open) -> Result<(), (Notification, DownReason)> {
        let Open { asn, id, .. } = *open;
        if asn != self.peer.asn {
            let reason = DownReason::WrongAs { received: asn, configured: self.peer.asn };
            return Err((Notification::BAD_PEER_AS, reason));
        }
        // RFC 6286: equal identifiers are an error only within one AS.
        if id == Ipv4Addr::UNSPECIFIED || asn == self.own.asn && id == self.own.id {
            return Err((Notification::BAD_BGP_ID, DownReason::BadIdentifier(id)));
        }
        Ok(())
    }

    /// Decides a collision between an existing connection and the one that received `open`. The connection
    /// that the speaker with the higher BGP Identifier opened stays (RFC 4271 section 6.8). If the
    /// identifiers are equal, the higher AS number decides (RFC 6286).
    fn collision_winner(&self, existing: Initiator, new: Initiator, open: &Open) -> Winner {
        if existing == new {
            return Winner::New; // the same side opened both, so it has given up the existing one
        }
        let local_is_higher = (self.own.id, self.own.asn) > (open.id, open.asn);
        let higher = if local_is_higher { Initiator::Local } else { Initiator::Peer };
        if existing == higher { Winner::Existing } else { Winner::New }
    }

    /// Closes the connection at index `at`, which lost a collision.
    fn close_loser(&mut self, at: usize) {
        let loser = self.connections.remove(at);
        self.send(loser.id, Message::Notification(Notification::COLLISION));
        self.outputs.push(Output::Close(loser.id));
        if loser.state == FsmState::Established {
            // The winner is about to be established. Until then the routes may be kept as stale.
            let restart = loser.open.and_then(|open| open.capabilities.restart);
            self.session_down(DownReason::Collision, restart);
        }
    }

    fn establish(&mut self, id: ConnId, now: Duration) {
        for i in (0..self.connections.len()).rev() {
            if self.connections[i].id != id && self.connections[i].state >= FsmState::OpenConfirm {
                self.close_loser(i);
            }
        }
        let Some(connection) = self.find(id) else { return };
        connection.state = FsmState::Established;
        connection.since = now;
        if let Some(open) = connection.open.clone() {
            self.outputs.push(Output::SessionUp(id, open));
        }
        (self.failures, self.connect_retry, self.restarting_until) = (0, None, None);
    }

    /// Sends a NOTIFICATION and closes the connection.
    fn abort(&mut self, id: ConnId, notification: Notification, now: Duration) {
        let reason = DownReason::NotificationSent(notification.clone());
        self.abort_because(id, notification, reason, now);
    }

    fn abort_because(
        &mut self,
        id: ConnId,
        notification: Notification,
        reason: DownReason,
        now: Duration,
    ) {
        if !self.has(id) {
            return;
        }
        self.send(id, Message::Notification(notification));
        self.outputs.push(Output::Close(id));
        self.remove_connection(id, reason, None, now);
        self.refuse_until = now + self.retry_delay() / 4;
    }

    fn handle_closed(&mut self, id: ConnId, error: String, now: Duration) {
        let Some(connection) = self.find(id) else { return };
        let restart = connection.open.as_ref().and_then(|open| open.capabilities.restart.clone());
        self.remove_connection(id, DownReason::Transport(error), restart, now);
    }

    /// Forgets a connection. If it was established, the session is down; if not, the attempt failed.
    fn remove_connection(
        &mut self,
        id: ConnId,
        reason: DownReason,
        restart: Option<Restart>,
        now: Duration,
    ) {
        let Some(at) = self.connections.iter().position(|c| c.id == id) else { return };
        let connection = self.connections.remove(at);
        if connection.state == FsmState::Established {
            self.session_down(reason, restart);
            let delay = self.retry_delay();
            self.connect_retry.get_or_insert(now + delay / 2);
        } else {
            self.attempt_failed(reason, now);
        }
    }

    /// Counts a failed attempt and plans the next one, if no other connection is left.
    fn attempt_failed(&mut self, reason: DownReason, now: Duration) {
        if self.connections.is_empty() {
            self.failures += 1;
            self.connect_retry = Some(now + self.retry_delay());
            self.outputs.push(Output::AttemptFailed(reason));
        }
    }

    /// Returns the delay before the next attempt. It doubles with each failure, and a random factor
    /// between 0.75 and 1 is applied (RFC 4271 section 10).
    fn retry_delay(&mut self) -> Duration {
        let (shortest, longest) = CONNECT_RETRY;
        let whole = (shortest * (1 << self.failures.saturating_sub(1).min(5))).min(longest);
        whole * (768 + self.rng.below(256) as u32) / 1024
    }

    fn handle_timers(&mut self, now: Duration) {
        let expired = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        while let Some(connection) = self.connections.iter().find(|c| expired(c.hold_deadline)) {
            let id = connection.id;
            self.abort(id, Notification::HOLD_TIMER_EXPIRED, now);
        }
        for connection in self.connections.iter_mut().filter(|c| expired(c.keepalive_due)) {
            connection.keepalive_due = Some(now + connection.hold / 3);
            self.outputs.push(Output::Send(connection.id, Message::Keepalive));
        }
        if expired(self.connect_retry) {
            self.connect_retry = None;
            if self.peer.passive || self.connecting || !self.connections.is_empty() {
                return;
            }
            self.connecting = true;
            self.outputs.push(Output::Connect);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bgp::update::Update, model::bgp::TtlPolicy};

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn own() -> LocalSpeaker {
        LocalSpeaker {
            asn: 64512,
            id: "192.0.2.11".parse().unwrap(),
            addrs: vec!["192.0.2.11".parse().unwrap()],
            port: 179,
            families: [Family::Ipv4].into(),
            cluster_id: None,
            restart: Some(90),
        }
    }

    fn peer() -> Peer {
        Peer {
            node: None,
            asn: 65001,
            port: 179,
            local: None,
            password: None,
            distance: TtlPolicy::Anywhere,
            hold_time: 90,
            client: false,
            bfd: None,
            passive: false,
        }
    }

    fn fsm() -> Fsm {
        Fsm::new(own(), peer(), s(0), 7, s(90))
    }

    fn open(id: &str) -> Open {
        let capabilities = Capabilities { four_octet: true, ..Capabilities::default() };
        Open { asn: 65001, hold_time: 30, id: id.parse().unwrap(), capabilities }
    }

    fn graceful(id: &str) -> Open {
        let restart = Restart { restarting: false, time: 60, families: vec![(Family::Ipv4, true)] };
        let capabilities = Capabilities { restart: Some(restart), ..open(id).capabilities };
        Open { capabilities, ..open(id) }
    }

    fn opens(conn: ConnId, open: &Open) -> FsmInput {
        FsmInput::Message(conn, Message::Open(open.clone()))
    }

    fn keepalive(conn: ConnId) -> FsmInput {
        FsmInput::Message(conn, Message::Keepalive)
    }

    /// Returns a machine whose session is established at second 0 over connection 1, which this node opened.
    fn up(open: &Open) -> Fsm {
        let mut fsm = fsm();
        assert_eq!(fsm.handle_event(FsmInput::Timeout, s(0)), [Output::Connect]);
        fsm.handle_event(FsmInput::Connected(1), s(0));
        assert_eq!(fsm.state(), FsmState::OpenSent);
        assert_eq!(fsm.handle_event(opens(1, open), s(0)), [Output::Send(1, Message::Keepalive)]);
        assert_eq!(fsm.state(), FsmState::OpenConfirm);
        assert_eq!(fsm.handle_event(keepalive(1), s(0)), [Output::SessionUp(1, open.clone())]);
        assert_eq!(fsm.state(), FsmState::Established);
        fsm
    }

    fn notifications(outputs: &[Output]) -> Vec<(ConnId, u8, u8)> {
        let notification = |output: &Output| match output {
            Output::Send(conn, Message::Notification(sent)) => {
                Some((*conn, sent.code, sent.subcode))
            }
            _ => None,
        };
        outputs.iter().filter_map(notification).collect()
    }

    fn closed(outputs: &[Output]) -> Vec<ConnId> {
        let closed = |output: &Output| match output {
            Output::Close(conn) => Some(*conn),
            _ => None,
        };
        outputs.iter().filter_map(closed).collect()
    }

    fn ended(outputs: &[Output]) -> Option<&SessionDown> {
        outputs.iter().find_map(|output| match output {
            Output::SessionDown(down) => Some(down),
            _ => None,
        })
    }

    #[test]
    fn the_lower_hold_time_is_used_and_keepalives_are_sent_at_a_third_of_it() {
        let mut fsm = up(&open("192.0.2.1"));
        assert_eq!(fsm.poll_timeout(), Some(s(10)));
        assert_eq!(fsm.handle_event(FsmInput::Timeout, s(9)), []);
        assert_eq!(
            fsm.handle_event(FsmInput::Timeout, s(10)),
            [Output::Send(1, Message::Keepalive)]
        );
        assert_eq!(fsm.poll_timeout(), Some(s(20)));
    }

    #[test]
    fn a_hold_time_of_zero_disables_the_hold_and_keepalive_timers() {
        let fsm = up(&Open { hold_time: 0, ..open("192.0.2.1") });
        assert_eq!(fsm.poll_timeout(), None);
    }

    #[test]
    fn an_expired_hold_timer_ends_the_session_without_graceful_restart() {
        let mut fsm = up(&graceful("192.0.2.1"));
        fsm.handle_event(keepalive(1), s(5));
        fsm.handle_event(FsmInput::Message(1, Message::Update(Update::default())), s(8));
        assert_eq!(ended(&fsm.handle_event(FsmInput::Timeout, s(37))), None);
        let outputs = fsm.handle_event(FsmInput::Timeout, s(38));
        assert_eq!(notifications(&outputs), [(1, 4, 0)]);
        assert_eq!(closed(&outputs), [1]);
        assert_eq!(ended(&outputs).unwrap().restart, None);
        let reason = DownReason::NotificationSent(Notification::HOLD_TIMER_EXPIRED);
        assert_eq!(ended(&outputs).unwrap().reason, reason);
    }

    #[test]
    fn a_close_without_notification_may_be_a_graceful_restart_and_a_notification_is_not() {
        let restart = graceful("192.0.2.1").capabilities.restart;
        let outputs =
            up(&graceful("192.0.2.1")).handle_event(FsmInput::Closed(1, "reset".into()), s(5));
        assert_eq!(ended(&outputs).unwrap().restart, restart);
        let outputs =
            up(&open("192.0.2.1")).handle_event(FsmInput::Closed(1, "reset".into()), s(5));
        assert_eq!(ended(&outputs).unwrap().restart, None);
        let cease = Notification { code: 6, subcode: 2, data: Vec::new() };
        let input = FsmInput::Message(1, Message::Notification(cease));
        let outputs = up(&graceful("192.0.2.1")).handle_event(input, s(5));
        assert_eq!(ended(&outputs).unwrap().restart, None);
        assert_eq!(notifications(&outputs), []);
        assert_eq!(closed(&outputs), [1]);
    }

    #[test]
    fn a_wrong_as_or_identifier_is_rejected_with_an_open_message_error() {
        for (open, subcode) in [(Open { asn: 65002, ..open("192.0.2.1") }, 2), (open("0.0.0.0"), 3)]
        {
            let mut fsm = fsm();
            fsm.handle_event(FsmInput::Accepted(1), s(0));
            let outputs = fsm.handle_event(opens(1, &open), s(0));
            assert_eq!(notifications(&outputs), [(1, 2, subcode)]);
            assert_eq!(closed(&outputs), [1]);
        }
        // RFC 6286: equal identifiers are an error only within one AS.
        let mut inside = Fsm::new(own(), Peer { asn: 64512, ..peer() }, s(0), 7, s(90));
        inside.handle_event(FsmInput::Accepted(1), s(0));
        let same = Open { asn: 64512, ..open("192.0.2.11") };
        assert_eq!(notifications(&inside.handle_event(opens(1, &same), s(0))), [(1, 2, 3)]);
        up(&open("192.0.2.11"));
    }

    #[test]
    fn connections_are_refused_for_a_while_after_a_protocol_error() {
        let mut fsm = fsm();
        fsm.handle_event(FsmInput::Accepted(1), s(0));
        fsm.handle_event(opens(1, &Open { asn: 65002, ..open("192.0.2.1") }), s(0));
        assert_eq!(fsm.handle_event(FsmInput::Accepted(2), s(0)), [Output::Close(2)]);
        assert!(closed(&fsm.handle_event(FsmInput::Accepted(3), s(31))).is_empty());
        assert_eq!(fsm.state(), FsmState::OpenSent);
    }

    #[test]
    fn an_unexpected_message_is_an_fsm_error_whose_subcode_names_the_state() {
        let mut fsm = fsm();
        fsm.handle_event(FsmInput::Accepted(1), s(0));
        assert_eq!(notifications(&fsm.handle_event(keepalive(1), s(0))), [(1, 5, 1)]);
        let mut fsm = Fsm::new(own(), peer(), s(0), 7, s(90));
        fsm.handle_event(FsmInput::Accepted(1), s(0));
        fsm.handle_event(opens(1, &open("192.0.2.1")), s(0));
        let update = FsmInput::Message(1, Message::Update(Update::default()));
        assert_eq!(notifications(&fsm.handle_event(update, s(0))), [(1, 5, 2)]);
        let mut fsm = up(&open("192.0.2.1"));
        assert_eq!(
            notifications(&fsm.handle_event(opens(1, &open("192.0.2.1")), s(0))),
            [(1, 5, 3)]
        );
    }

    #[test]
    fn a_collision_keeps_the_connection_that_the_higher_identifier_opened() {
        // This node, with identifier 192.0.2.11, opened connection 1; the peer opened connection 2.
        for (id, winner, loser) in [("192.0.2.1", 1, 2), ("192.0.2.200", 2, 1)] {
            for first in [1, 2] {
                let mut fsm = fsm();
                fsm.handle_event(FsmInput::Timeout, s(0));
                fsm.handle_event(FsmInput::Connected(1), s(0));
                fsm.handle_event(FsmInput::Accepted(2), s(0));
                let mut outputs = fsm.handle_event(opens(first, &open(id)), s(0));
                outputs.extend(fsm.handle_event(opens(3 - first, &open(id)), s(0)));
                assert_eq!(notifications(&outputs), [(loser, 6, 7)], "{id} {first}");
                assert_eq!(closed(&outputs), [loser], "{id} {first}");
                assert_eq!(
                    fsm.handle_event(keepalive(winner), s(1)),
                    [Output::SessionUp(winner, open(id))]
                );
            }
        }
    }

    #[test]
    fn an_old_session_wins_a_collision_unless_the_peer_supports_graceful_restart() {
        let mut fsm = up(&open("192.0.2.200"));
        fsm.handle_event(FsmInput::Accepted(2), s(20));
        let outputs = fsm.handle_event(opens(2, &open("192.0.2.200")), s(20));
        assert_eq!(notifications(&outputs), [(2, 6, 7)]);
        assert_eq!(fsm.state(), FsmState::Established);

        let mut fsm = up(&graceful("192.0.2.1"));
        fsm.handle_event(FsmInput::Accepted(2), s(20));
        let outputs = fsm.handle_event(opens(2, &graceful("192.0.2.1")), s(20));
        assert_eq!(notifications(&outputs), []);
        assert_eq!(closed(&outputs), [1]);
        assert!(ended(&outputs).unwrap().restart.is_some());
        assert_eq!(
            fsm.handle_event(keepalive(2), s(20)),
            [Output::SessionUp(2, graceful("192.0.2.1"))]
        );
    }

    #[test]
    fn at_most_two_pending_connections_of_a_peer_are_accepted() {
        let mut fsm = fsm();
        for conn in 1..100 {
            let refused = closed(&fsm.handle_event(FsmInput::Accepted(conn), s(0)));
            assert_eq!(refused.is_empty(), conn <= 2, "{conn}");
        }
        // Both are closed if no OPEN arrives.
        let outputs = fsm.handle_event(FsmInput::Timeout, OPEN_HOLD_TIME);
        assert_eq!(notifications(&outputs), [(1, 4, 0), (2, 4, 0)]);
    }

    #[test]
    fn the_connect_retry_delay_grows_and_differs_between_seeds() {
        let mut fsm = fsm();
        let (mut now, mut delays) = (s(0), Vec::new());
        for _conn in 0..9 {
            assert_eq!(fsm.handle_event(FsmInput::Timeout, now), [Output::Connect]);
            assert_eq!(fsm.state(), FsmState::Connect);
            let outputs = fsm.handle_event(FsmInput::ConnectFailed("refused".into()), now);
            assert_eq!(outputs, [Output::AttemptFailed(DownReason::Transport("refused".into()))]);
            let next = fsm.poll_timeout().unwrap();
            delays.push((next - now).as_millis());
            now = next;
        }
        assert!((3750..=5000).contains(&delays[0]), "{delays:?}");
        assert!((90_000..=120_000).contains(&delays[8]), "{delays:?}");
        let other = Fsm::new(own(), peer(), s(0), 8, s(90)).first_retry_delay();
        assert_ne!(other, delays[0]);
    }

    impl Fsm {
        /// Returns the delay after the first failure, in milliseconds.
        fn first_retry_delay(mut self) -> u128 {
            self.handle_event(FsmInput::Timeout, s(0));
            self.handle_event(FsmInput::ConnectFailed("refused".into()), s(0));
            self.poll_timeout().unwrap().as_millis()
        }
    }

    #[test]
    fn no_connection_is_opened_to_a_passive_peer() {
        let mut fsm = Fsm::new(own(), Peer { passive: true, ..peer() }, s(0), 7, s(90));
        assert_eq!(fsm.handle_event(FsmInput::Timeout, s(0)), []);
        assert!(matches!(
            fsm.handle_event(FsmInput::Accepted(1), s(5))[..],
            [Output::Send(1, Message::Open(_))]
        ));
    }

    #[test]
    fn the_restart_state_bit_is_set_until_the_first_session_or_the_end_of_the_restart_time() {
        let restarting =
            |fsm: &mut Fsm, conn, now| match &fsm.handle_event(FsmInput::Accepted(conn), now)[..] {
                [Output::Send(_, Message::Open(open))] => {
                    open.capabilities.restart.clone().unwrap().restarting
                }
                other => panic!("{other:?}"),
            };
        assert!(restarting(&mut fsm(), 1, s(1)));
        assert!(!restarting(&mut fsm(), 1, s(90)));
        let mut fsm = up(&open("192.0.2.1"));
        fsm.handle_event(FsmInput::Closed(1, "reset".into()), s(2));
        assert!(!restarting(&mut fsm, 2, s(3)));
    }

    #[test]
    fn stop_notifies_every_connection_and_leaves_no_timer() {
        let mut fsm = up(&graceful("192.0.2.1"));
        fsm.handle_event(FsmInput::Accepted(2), s(1));
        let outputs = fsm.stop(&Notification { code: 6, subcode: 2, data: Vec::new() });
        assert_eq!(notifications(&outputs), [(1, 6, 2), (2, 6, 2)]);
        assert_eq!(closed(&outputs), [1, 2]);
        assert_eq!(ended(&outputs).unwrap().restart, None);
        assert_eq!(fsm.poll_timeout(), None);
    }

    #[test]
    fn messages_of_a_closed_connection_are_ignored() {
        let mut fsm = up(&open("192.0.2.1"));
        fsm.handle_event(FsmInput::Closed(1, "reset".into()), s(1));
        assert_eq!(
            fsm.handle_event(FsmInput::Message(1, Message::Update(Update::default())), s(1)),
            []
        );
        assert_eq!(fsm.handle_event(FsmInput::Closed(1, "reset".into()), s(1)), []);
    }
}
