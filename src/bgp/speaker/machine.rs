//! The speaker's state, and its reaction to events and to the time.

use super::io::{PeerView, Severity, SpeakerAction, SpeakerEvent};
use crate::{
    bgp::{
        bfd::BfdSession,
        capability::Negotiated,
        fsm::{ConnId, Fsm, FsmInput},
        message::Message,
        notification::Notification,
        rib::Rib,
    },
    collections::{FlatMap, FlatSet},
    model::bgp::{Config, Learned, Peer},
};
use std::{net::IpAddr, sync::Arc, time::Duration};

/// The approximate number of bytes of UPDATEs to queue for a peer at a time. More are written after the
/// kernel has accepted them.
const MAX_QUEUED: usize = 64 << 10;
/// The time after the start at which the table is considered complete even if some peers have not sent
/// End-of-RIB, if no restart time is configured (Selection_Deferral_Timer, RFC 4724 section 4.1).
const DEFAULT_DEFERRAL: Duration = Duration::from_secs(90);
/// The maximum number of refused addresses to remember. The first connection from each is logged.
const MAX_REJECTED_SOURCES: usize = 64;
/// The time after which all refused addresses are forgotten, so that later ones are logged too.
const REJECTED_SOURCES_TIME: Duration = Duration::from_secs(3600);

/// The state of one peer.
pub(super) struct PeerState {
    pub(super) fsm: Fsm,
    /// The BFD session; `None` if BFD is off.
    pub(super) bfd: Option<BfdSession>,
    /// The connection of the established session; `None` if there is none.
    pub(super) session: Option<ConnId>,
    /// The time at which the session was established or ended, or the peer was added.
    pub(super) since: Duration,
    /// True if a session was established before.
    pub(super) was_up: bool,
    /// True while bytes are queued on the connection.
    pub(super) sending: bool,
    /// The time at which stale paths from before the peer's restart are removed; `None` if there are
    /// none.
    pub(super) stale_until: Option<Duration>,
    /// The last error.
    pub(super) error: Option<String>,
    /// The errors that were logged since the last established session.
    pub(super) logged_errors: Vec<String>,
}

/// The BGP speaker. All times are relative to its start.
pub(crate) struct Speaker {
    pub(super) config: Arc<Config>,
    pub(super) rib: Rib,
    pub(super) peers: FlatMap<IpAddr, PeerState>,
    /// The connections, with the peer's address and the local address. The local address is `None` until
    /// the connection is open.
    pub(super) conns: FlatMap<ConnId, (IpAddr, Option<IpAddr>)>,
    last_conn: ConnId,
    seed: u32,
    /// Addresses that are not peers and tried to connect.
    rejected_sources: FlatSet<IpAddr>,
    /// The time at which `rejected_sources` is cleared.
    rejected_sources_until: Duration,
    /// True after all peers have sent End-of-RIB or the deferral time is over.
    complete: bool,
    /// The values of `lost` and `complete` in the last result of [`Speaker::take_learned`].
    reported: (FlatSet<IpAddr>, bool),
    pub(super) actions: Vec<SpeakerAction>,
}

impl Speaker {
    /// Returns a speaker that connects to all peers on the first timeout. `seed` is a random number that
    /// differs from those of other nodes.
    pub(crate) fn new(config: Config, seed: u32) -> Speaker {
        let config = Arc::new(config);
        let mut speaker = Speaker {
            rib: Rib::new(Arc::clone(&config)),
            config: Arc::clone(&config),
            peers: FlatMap::new(),
            conns: FlatMap::new(),
            last_conn: 0,
            seed,
            rejected_sources: FlatSet::new(),
            rejected_sources_until: REJECTED_SOURCES_TIME,
            complete: false,
            reported: Default::default(),
            actions: Vec::new(),
        };
        speaker.add_peers(Duration::ZERO);
        speaker
    }

    /// Returns the current configuration.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// Replaces the configuration. Peers whose configuration changed are removed and added again; all
    /// sessions are reset if the local speaker changed. Other sessions stay established.
    pub(crate) fn configure(&mut self, config: Config, now: Duration) {
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
        self.rib.session_down(addr, &[]);
        self.rib.remove_stale(addr);
        let left: Vec<ConnId> =
            self.conns.iter().filter(|(_, (of, _))| *of == addr).map(|(c, _)| *c).collect();
        for conn in left {
            self.conns.remove(&conn);
            self.actions.push(SpeakerAction::Close(conn));
        }
    }

    /// Removes all peers and closes their connections with a NOTIFICATION.
    pub(crate) fn shut_down(&mut self, notification: &Notification, now: Duration) {
        let all: Vec<IpAddr> = self.peers.keys().copied().collect();
        for addr in all {
            self.remove_peer(addr, notification, now);
        }
    }

    /// Registers a connection that was accepted from the address `from` at the address `local`. Returns the
    /// connection's number and the peer's configuration; `None` if it must be closed, because `from` is not a peer or
    /// because the peer's state machine refuses it.
    pub(crate) fn accept(
        &mut self,
        from: IpAddr,
        local: IpAddr,
        now: Duration,
    ) -> Option<(ConnId, &Peer)> {
        if !self.peers.contains_key(&from) {
            if now >= self.rejected_sources_until {
                self.rejected_sources.clear();
                self.rejected_sources_until = now + REJECTED_SOURCES_TIME;
            }
            if self.rejected_sources.len() < MAX_REJECTED_SOURCES
                && self.rejected_sources.insert(from)
            {
                let text =
                    format!("refused a connection from {from}, which is not a configured peer");
                self.actions.push(SpeakerAction::Log(Severity::Warning, text));
            }
            return None;
        }
        let conn = self.allocate_conn(from, Some(local));
        self.input(from, FsmInput::Accepted(conn), now);
        let peer = self.peers.get(&from)?.fsm.peer();
        self.conns.contains_key(&conn).then_some((conn, peer))
    }

    pub(super) fn allocate_conn(&mut self, peer: IpAddr, local: Option<IpAddr>) -> ConnId {
        self.last_conn += 1;
        self.conns.insert(self.last_conn, (peer, local));
        self.last_conn
    }

    /// Processes a socket event. Its effects on other peers, such as new UPDATEs, are left to
    /// [`Speaker::handle_timeout`], which must be called after a batch of events.
    pub(crate) fn handle_event(&mut self, event: SpeakerEvent, now: Duration) {
        let conn = match event {
            SpeakerEvent::BfdReceived(..) => None,
            SpeakerEvent::Connected(conn, _)
            | SpeakerEvent::ConnectFailed(conn, _)
            | SpeakerEvent::Received(conn, _)
            | SpeakerEvent::Malformed(conn, _)
            | SpeakerEvent::Closed(conn, _)
            | SpeakerEvent::Flushed(conn) => Some(conn),
        };
        let known = conn.and_then(|conn| Some((conn, self.conns.get(&conn)?.0)));
        match (event, known) {
            (SpeakerEvent::BfdReceived(from, bytes), _) => self.receive_bfd(from, &bytes, now),
            (SpeakerEvent::Connected(_, local), Some((conn, addr))) => {
                self.conns.insert(conn, (addr, Some(local)));
                self.input(addr, FsmInput::Connected(conn), now);
            }
            (SpeakerEvent::ConnectFailed(_, why), Some((conn, addr))) => {
                self.conns.remove(&conn);
                self.input(addr, FsmInput::ConnectFailed(why), now);
            }
            (SpeakerEvent::Closed(_, why), Some((conn, addr))) => {
                self.conns.remove(&conn);
                self.input(addr, FsmInput::Closed(conn, why), now);
            }
            (SpeakerEvent::Malformed(_, notification), Some((conn, addr))) => {
                self.input(addr, FsmInput::Abort(conn, notification), now);
            }
            (SpeakerEvent::Received(_, bytes), Some((conn, addr))) => {
                let input = match Message::read(&bytes, self.negotiated(addr, conn)) {
                    Ok(message) => FsmInput::Message(conn, message),
                    Err(notification) => FsmInput::Abort(conn, notification),
                };
                self.input(addr, input, now);
            }
            (SpeakerEvent::Flushed(_), Some((conn, addr))) => {
                let state = self.peers.get_mut(&addr);
                if let Some(state) = state.filter(|state| state.session == Some(conn)) {
                    state.sending = false;
                }
            }
            (_, None) => {}
        }
    }

    /// Returns the properties of a connection that its messages depend on.
    pub(super) fn negotiated(&self, addr: IpAddr, conn: ConnId) -> Negotiated {
        let Some(state) = self.peers.get(&addr) else { return Negotiated::default() };
        Negotiated {
            four_octet: state.fsm.four_octet(conn),
            internal: state.fsm.peer().asn == self.config.own.asn,
        }
    }

    /// Gives an event to the state machine of a peer and applies its outputs.
    pub(super) fn input(&mut self, addr: IpAddr, input: FsmInput, now: Duration) {
        let Some(state) = self.peers.get_mut(&addr) else { return };
        let outputs = state.fsm.handle_event(input, now);
        self.apply_outputs(addr, outputs, now);
    }

    /// Runs all expired timers and writes pending UPDATEs. It must be called at the time that
    /// [`Speaker::poll_timeout`] returns and after each batch of [`Speaker::handle_event`].
    pub(crate) fn handle_timeout(&mut self, now: Duration) {
        let expired = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        let due: Vec<IpAddr> = self
            .peers
            .iter()
            .filter(|(_, state)| expired(state.fsm.poll_timeout()))
            .map(|(addr, _)| *addr)
            .collect();
        for addr in due {
            self.input(addr, FsmInput::Timeout, now);
        }
        self.poll_bfd(now);
        if !self.complete {
            self.complete = now >= self.deferral_end(&self.config)
                || self.peers.keys().all(|addr| self.rib.is_complete(*addr));
            if self.complete {
                self.rib.clear_removed_routes();
            }
        }
        for (addr, state) in self.peers.iter_mut() {
            if expired(state.stale_until) {
                state.stale_until = None;
                self.rib.remove_stale(*addr);
            }
            if let (Some(conn), false) = (state.session, state.sending)
                && self.rib.has_pending_updates(*addr)
            {
                let mut bytes = Vec::new();
                self.rib.write_updates(*addr, MAX_QUEUED, &mut bytes);
                if !bytes.is_empty() {
                    state.sending = true;
                    self.actions.push(SpeakerAction::Send(conn, bytes));
                }
            }
        }
    }

    /// Returns the time at which [`Speaker::handle_timeout`] must be called; `None` if no timer runs. The
    /// value may change after each call of a method that takes `&mut self`.
    pub(crate) fn poll_timeout(&self) -> Option<Duration> {
        let complete = (!self.complete).then(|| self.deferral_end(&self.config));
        let timers = |state: &PeerState| {
            let bfd = state.bfd.as_ref().map(BfdSession::poll_timeout);
            [state.fsm.poll_timeout(), state.stale_until, bfd]
        };
        let peers = self.peers.values().flat_map(timers);
        peers.chain([complete]).flatten().min()
    }

    /// Removes and returns the requested actions in order.
    pub(crate) fn take_actions(&mut self) -> Vec<SpeakerAction> {
        std::mem::take(&mut self.actions)
    }

    /// Returns true if the result of [`Speaker::take_learned`] would differ from its last result.
    pub(crate) fn has_learned(&self) -> bool {
        self.rib.routes_changed() || self.reported != (self.lost(), self.complete)
    }

    /// Returns the peers whose session was established and is down, except those that may be restarting.
    fn lost(&self) -> FlatSet<IpAddr> {
        let lost = |state: &PeerState| {
            state.was_up && state.session.is_none() && state.stale_until.is_none()
        };
        self.peers.iter().filter(|(_, state)| lost(state)).map(|(addr, _)| *addr).collect()
    }

    /// Returns the learned routes and resets [`Speaker::has_learned`]. The routes may be many, so no other
    /// copy of them is made.
    pub(crate) fn take_learned(&mut self) -> Learned {
        let routes = self.rib.routes();
        self.rib.take_routes_changed();
        self.reported = (self.lost(), self.complete);
        let gone =
            self.rib.removed_routes().filter(|net| !routes.contains_key(net)).copied().collect();
        let (lost, complete) = self.reported.clone();
        Learned { routes, gone, lost, complete }
    }

    /// Returns the state of each peer, for status output.
    pub(crate) fn view(&self, now: Duration) -> Vec<PeerView> {
        let view = |(addr, state): (&IpAddr, &PeerState)| PeerView {
            addr: *addr,
            peer: state.fsm.peer().clone(),
            state: state.fsm.state(),
            bfd: state.bfd.as_ref().map(BfdSession::state),
            age: now.saturating_sub(state.since),
            counts: self.rib.counts(*addr),
            error: state.error.clone(),
        };
        self.peers.iter().map(view).collect()
    }

    /// Returns the table, for status output.
    pub(crate) fn rib(&self) -> &Rib {
        &self.rib
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::family::Family;
    use crate::{
        bgp::{bfd::BfdState, fsm::FsmState, message::message_len},
        model::{
            bgp::{Export, Import, LocalSpeaker, Originated, TtlPolicy},
            items::NextHops,
        },
    };

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn addr(node: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, node])
    }

    fn pods(node: u8) -> ipnet::IpNet {
        format!("10.244.{node}.0/24").parse().unwrap()
    }

    fn peer(asn: u32) -> Peer {
        Peer {
            node: Some("other".into()),
            asn,
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

    fn config(node: u8, peers: &[u8]) -> Config {
        Config {
            own: LocalSpeaker {
                asn: 64512,
                id: [192, 0, 2, node].into(),
                addrs: vec![addr(node)],
                port: 179,
                families: [Family::Ipv4].into(),
                cluster_id: None,
                restart: Some(90),
            },
            peers: peers.iter().map(|peer_of| (addr(*peer_of), peer(64512))).collect(),
            origin: Originated { pods: [pods(node)].into(), ..Originated::default() },
            export: Export { pods_inside: true, pods_outside: true, ..Export::default() },
            import: Import::default(),
        }
    }

    /// A network of speakers. `ends` maps each end of a connection to the other end.
    #[derive(Default)]
    struct Net {
        speakers: BTreeMap<u8, Speaker>,
        ends: BTreeMap<(u8, ConnId), (u8, ConnId)>,
        learned: BTreeMap<u8, Learned>,
        log: Vec<(u8, String)>,
        now: Duration,
        /// True if BFD packets are lost.
        drop_bfd: bool,
        /// True if learned routes are not fetched.
        ignore_learned: bool,
    }

    impl Net {
        fn of(nodes: &[u8]) -> Net {
            let mut net = Net::default();
            for node in nodes {
                let peers: Vec<u8> = nodes.iter().copied().filter(|other| other != node).collect();
                net.start(*node, config(*node, &peers));
            }
            net
        }

        fn start(&mut self, node: u8, config: Config) {
            self.speakers.insert(node, Speaker::new(config, u32::from(node)));
        }

        /// Performs actions until no speaker has any left at the current time.
        fn settle(&mut self) {
            for _ in 0..10_000 {
                let nodes: Vec<u8> = self.speakers.keys().copied().collect();
                let mut idle = true;
                for node in nodes {
                    let now = self.now;
                    let Some(speaker) = self.speakers.get_mut(&node) else { continue };
                    speaker.handle_timeout(now);
                    for action in speaker.take_actions() {
                        idle = false;
                        self.act(node, action);
                    }
                    let speaker = self.speakers.get_mut(&node).unwrap();
                    if !self.ignore_learned && speaker.has_learned() {
                        self.learned.insert(node, speaker.take_learned());
                    }
                }
                if idle {
                    return;
                }
            }
            panic!("the speakers never stop sending");
        }

        fn act(&mut self, node: u8, action: SpeakerAction) {
            let now = self.now;
            match action {
                SpeakerAction::SendBfd(packet) => {
                    let IpAddr::V4(to) = packet.to.ip() else { panic!("{packet:?}") };
                    let to = to.octets()[3];
                    if !self.drop_bfd
                        && let Some(other) = self.speakers.get_mut(&to)
                    {
                        other.handle_event(
                            SpeakerEvent::BfdReceived(addr(node), packet.bytes.to_vec()),
                            now,
                        );
                    }
                }
                SpeakerAction::Log(_, text) => self.log.push((node, text)),
                SpeakerAction::Dial(conn, dial) => {
                    let IpAddr::V4(to) = dial.to.ip() else { panic!("{dial:?}") };
                    let to = to.octets()[3];
                    let accepted = self.speakers.get_mut(&to);
                    let accepted = accepted.and_then(|s| s.accept(addr(node), addr(to), now));
                    let event = match accepted {
                        Some((other, _)) => {
                            self.ends.insert((node, conn), (to, other));
                            self.ends.insert((to, other), (node, conn));
                            SpeakerEvent::Connected(conn, addr(node))
                        }
                        None => SpeakerEvent::ConnectFailed(conn, "refused".to_owned()),
                    };
                    self.speakers.get_mut(&node).unwrap().handle_event(event, now);
                }
                SpeakerAction::Send(conn, bytes) => {
                    let mut rest = &bytes[..];
                    while let Some(len) = message_len(rest).unwrap() {
                        if let Some((to, other)) = self.ends.get(&(node, conn)) {
                            let event = SpeakerEvent::Received(*other, rest[..len].to_vec());
                            if let Some(speaker) = self.speakers.get_mut(to) {
                                speaker.handle_event(event, now);
                            }
                        }
                        rest = &rest[len..];
                    }
                    assert!(rest.is_empty());
                    self.speakers
                        .get_mut(&node)
                        .unwrap()
                        .handle_event(SpeakerEvent::Flushed(conn), now);
                }
                SpeakerAction::Close(conn) => self.cut(node, conn),
            }
        }

        fn cut(&mut self, node: u8, conn: ConnId) {
            if let Some((to, other)) = self.ends.remove(&(node, conn)) {
                self.ends.remove(&(to, other));
                if let Some(speaker) = self.speakers.get_mut(&to) {
                    speaker
                        .handle_event(SpeakerEvent::Closed(other, "closed".to_owned()), self.now);
                }
            }
        }

        /// Stops a node without a NOTIFICATION. If `reset` is true, its kernel closes the connections.
        fn kill(&mut self, node: u8, reset: bool) {
            self.speakers.remove(&node);
            let conns: Vec<ConnId> =
                self.ends.keys().filter(|(of, _)| *of == node).map(|(_, conn)| *conn).collect();
            for conn in conns {
                if reset {
                    self.cut(node, conn);
                } else if let Some(end) = self.ends.remove(&(node, conn)) {
                    self.ends.remove(&end);
                }
            }
        }

        fn run(&mut self, until: Duration) {
            self.settle();
            loop {
                let next = self.speakers.values().filter_map(Speaker::poll_timeout).min();
                self.now = next.unwrap_or(until).max(self.now).min(until);
                self.settle();
                if self.now >= until {
                    return;
                }
            }
        }

        fn routes(&self, node: u8) -> Vec<String> {
            let routes = self.learned.get(&node).map(|learned| &learned.routes);
            let text = |(net, via): (&ipnet::IpNet, &NextHops)| {
                let via: Vec<String> = via.addrs().iter().map(ToString::to_string).collect();
                format!("{net} via {}", via.join(" "))
            };
            routes.into_iter().flatten().map(text).collect()
        }
    }

    const FROM_2: &str = "10.244.2.0/24 via 192.0.2.2";
    const FROM_3: &str = "10.244.3.0/24 via 192.0.2.3";

    #[test]
    fn a_full_mesh_comes_up_at_once_and_every_node_learns_all_pod_networks() {
        let mut net = Net::of(&[1, 2, 3]);
        net.run(s(1));
        assert_eq!(net.routes(1), [FROM_2, FROM_3]);
        assert_eq!(net.routes(3), ["10.244.1.0/24 via 192.0.2.1", FROM_2]);
        assert!(net.learned.values().all(|learned| learned.complete));
        for speaker in net.speakers.values() {
            for view in speaker.view(net.now) {
                assert_eq!(view.state, FsmState::Established);
                assert_eq!(
                    (view.counts.received, view.counts.accepted, view.counts.advertised),
                    (1, 1, 1)
                );
            }
        }
    }

    #[test]
    fn a_day_of_keepalives_causes_no_change_and_no_log_line() {
        let mut net = Net::of(&[1, 2]);
        net.run(s(24 * 3600));
        assert_eq!(net.routes(1), [FROM_2]);
        assert_eq!(net.log.len(), 2, "{:?}", net.log);
    }

    #[test]
    fn routes_of_a_restarting_peer_are_kept_and_removed_if_not_advertised_again() {
        let mut net = Net::of(&[1, 2]);
        net.run(s(60));
        net.kill(2, true);
        net.run(s(100));
        assert_eq!(net.routes(1), [FROM_2]);
        assert!(net.learned[&1].lost.is_empty());
        let mut changed = config(2, &[1]);
        changed.origin.pods = [pods(3)].into();
        net.start(2, changed);
        net.run(s(200));
        assert_eq!(
            net.routes(1),
            ["10.244.3.0/24 via 192.0.2.2"],
            "the route that was not advertised again is removed"
        );
    }

    #[test]
    fn bfd_ends_the_session_long_before_the_hold_time() {
        let mut net = Net::default();
        for (node, other) in [(1, 2), (2, 1)] {
            let bfd = crate::model::bgp::peer::Bfd {
                port: 3784,
                min_tx: 300_000,
                min_rx: 300_000,
                detect_mult: 3,
            };
            let mut config = config(node, &[other]);
            config.peers = [(addr(other), Peer { bfd: Some(bfd), ..peer(64512) })].into();
            net.start(node, config);
        }
        net.run(s(60));
        assert_eq!(net.routes(1), [FROM_2]);
        assert_eq!(net.speakers[&1].view(net.now)[0].bfd, Some(BfdState::Up));
        net.drop_bfd = true;
        net.log.clear();
        net.run(net.now + Duration::from_millis(910));
        assert_eq!(net.routes(1), [""; 0], "no route is kept for a restart");
        let line = "BFD: no packet was received within the detection time";
        assert!(
            net.log.iter().any(|(node, text)| *node == 1 && text.contains(line)),
            "{:?}",
            net.log
        );
        net.drop_bfd = false;
        net.run(s(120));
        assert_eq!(net.routes(1), [FROM_2]);
        assert_eq!(net.speakers[&2].view(net.now)[0].bfd, Some(BfdState::Up));
    }

    #[test]
    fn routes_of_a_peer_that_does_not_return_are_removed_after_its_restart_time() {
        let mut net = Net::of(&[1, 2]);
        net.run(s(60));
        net.kill(2, true);
        net.run(s(149));
        assert_eq!(net.routes(1), [FROM_2]);
        net.run(s(151));
        assert_eq!(net.routes(1), [""; 0]);
        assert_eq!(net.learned[&1].lost, [addr(2)].into());
    }

    #[test]
    fn routes_of_a_silent_peer_are_removed_at_the_hold_time() {
        let mut net = Net::of(&[1, 2]);
        net.run(s(60));
        net.kill(2, false);
        net.run(s(149));
        assert_eq!(net.routes(1), [FROM_2]);
        net.run(s(151));
        assert_eq!(net.routes(1), [""; 0]);
        assert_eq!(net.learned[&1].lost, [addr(2)].into());
    }

    #[test]
    fn a_deconfigured_peer_is_notified_and_only_its_routes_are_removed() {
        let mut net = Net::of(&[1, 2, 3]);
        net.run(s(1));
        let now = net.now;
        net.speakers.get_mut(&1).unwrap().configure(config(1, &[3]), now);
        net.run(s(2));
        assert_eq!(net.routes(1), [FROM_3]);
        assert_eq!(
            net.routes(2),
            [FROM_3],
            "after a NOTIFICATION, routes are not kept for a restart"
        );
        assert_eq!(net.routes(3), ["10.244.1.0/24 via 192.0.2.1", FROM_2]);
        let is_down = |(node, text): &&(u8, String)| *node == 2 && text.contains("down");
        assert_eq!(net.log.iter().filter(is_down).count(), 1, "{:?}", net.log);
    }

    #[test]
    fn originated_routes_change_without_a_session_reset() {
        let mut net = Net::of(&[1, 2]);
        net.run(s(1));
        let mut changed = config(2, &[1]);
        changed.origin.pods = [pods(2), pods(3)].into();
        let now = net.now;
        net.speakers.get_mut(&2).unwrap().configure(changed.clone(), now);
        net.run(s(2));
        assert_eq!(net.routes(1), [FROM_2, "10.244.3.0/24 via 192.0.2.2"]);
        changed.origin.pods = [pods(3)].into();
        net.speakers.get_mut(&2).unwrap().configure(changed, s(2));
        net.run(s(3));
        assert_eq!(net.routes(1), ["10.244.3.0/24 via 192.0.2.2"]);
        assert_eq!(net.log.len(), 2, "{:?}", net.log);
    }

    #[test]
    fn connections_from_unknown_addresses_are_refused_and_logged_once() {
        let mut net = Net::of(&[1, 2]);
        net.run(s(1));
        for _ in 0..1000 {
            let speaker = net.speakers.get_mut(&1).unwrap();
            assert!(speaker.accept(addr(77), addr(1), s(1)).is_none());
        }
        net.run(s(2));
        let about = |(_, text): &&(u8, String)| text.contains("192.0.2.77");
        assert_eq!(net.log.iter().filter(about).count(), 1);
        assert_eq!(net.routes(1), [FROM_2]);
    }

    #[test]
    fn at_most_sixty_four_refused_addresses_are_logged_in_an_hour() {
        let mut speaker = Speaker::new(config(1, &[2]), 1);
        let mut logged = |now| {
            for last in 100..=255 {
                assert!(speaker.accept(addr(last), addr(1), now).is_none());
            }
            let is_log = |action: &SpeakerAction| matches!(action, SpeakerAction::Log(..));
            speaker.take_actions().iter().filter(|action| is_log(action)).count()
        };
        assert_eq!((logged(s(1)), logged(s(3599))), (64, 0));
        assert_eq!((logged(s(3600)), logged(s(7199)), logged(s(9000))), (64, 0, 64));
    }

    #[test]
    fn a_peer_with_a_wrong_as_is_rejected_and_the_error_is_logged_once() {
        let mut net = Net::of(&[1, 2]);
        let mut wrong = config(2, &[1]);
        wrong.own.asn = 64999;
        net.start(2, wrong);
        net.run(s(3600));
        assert_eq!(net.routes(1), [""; 0]);
        let about = net.log.iter().filter(|(node, _)| *node == 1).count();
        assert!((1..=2).contains(&about), "{:?}", net.log);
    }

    #[test]
    fn the_table_is_complete_after_the_restart_time_if_no_peer_answers() {
        let mut net = Net::default();
        net.start(1, config(1, &[2]));
        net.run(s(89));
        assert!(net.learned.get(&1).is_none_or(|learned| !learned.complete));
        net.run(s(91));
        assert!(net.learned[&1].complete);
    }

    #[test]
    fn completeness_is_reported_even_if_earlier_routes_were_not_fetched() {
        let mut net = Net::of(&[1, 2, 3]);
        net.ignore_learned = true;
        net.run(s(20));
        let learned = net.speakers.get_mut(&1).unwrap().take_learned();
        assert_eq!((learned.routes.len(), learned.complete), (2, true));
        let mut net = Net { ignore_learned: true, ..Net::default() };
        net.start(1, config(1, &[2]));
        net.run(s(200));
        assert!(
            net.speakers[&1].poll_timeout().unwrap() > net.now,
            "a busy loop: the next timeout is not in the future"
        );
    }

    #[test]
    fn malformed_bytes_from_a_peer_end_only_its_own_session() {
        let mut net = Net::of(&[1, 2, 3]);
        net.run(s(1));
        let (conn, now) = {
            let speaker = &net.speakers[&1];
            (speaker.peers.get(&addr(2)).unwrap().session.unwrap(), net.now)
        };
        let noise = vec![0xff; 19].into_iter().chain([0; 4]).collect();
        net.speakers.get_mut(&1).unwrap().handle_event(SpeakerEvent::Received(conn, noise), now);
        let speaker = &net.speakers[&1];
        assert!(speaker.peers.get(&addr(2)).unwrap().session.is_none());
        assert!(speaker.peers.get(&addr(3)).unwrap().session.is_some());
        net.run(s(60));
        assert_eq!(net.routes(1), [FROM_2, FROM_3]);
    }
}
