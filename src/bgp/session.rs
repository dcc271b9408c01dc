//! The BGP thread: sockets and a clock for the [`Speaker`].
//!
//! One loop runs three stages: `Driver::process` gives events to the speaker and performs its actions;
//! the thread waits in poll(2) until a socket is ready, the deadline passes or another thread signals
//! it; `Driver::handle_ready` turns the readiness of sockets into events. Protocol decisions are left
//! to `speaker`, the sockets to `stream` and `bfd`. Other threads lock the speaker directly, while
//! the BGP thread waits: [`Sessions`] to change the configuration or fetch routes, [`SpeakerReader`] to read.

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    bfd::socket::BfdSockets,
    fsm::ConnId,
    notification::Notification,
    speaker::{Dial, Severity, Speaker, SpeakerAction, SpeakerEvent},
    stream::{self, Listener, ReadBuffer, TcpConnection, TcpStatus},
};
use crate::{
    error::{Doing, Result},
    family::Family,
    log,
    model::bgp::{Config, Learned, Peer, peer::Secret},
    sys::{EventFd, Poll},
};

/// The time to wait at the end until the last messages are sent. A peer that accepts no data for that long
/// does not get them.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The stack size of the thread, in bytes.
const STACK_SIZE: usize = 256 << 10;

/// The data that the threads share.
struct SharedSpeaker {
    state: Mutex<SpeakerState>,
    /// The zero of the speaker's clock.
    start: Instant,
    /// Wakes the BGP thread.
    wakeup: EventFd,
    /// Wakes the daemon when routes were learned.
    learned: Arc<EventFd>,
}

/// The data that the mutex protects.
struct SpeakerState {
    speaker: Speaker,
    /// True if routes were learned and not fetched yet.
    learned: bool,
    /// True if the listening sockets may have to change.
    configured: bool,
    /// True if the thread must end.
    ending: bool,
}

impl SharedSpeaker {
    fn lock(&self) -> MutexGuard<'_, SpeakerState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

/// The handle on the BGP thread.
pub(crate) struct Sessions {
    shared: Arc<SharedSpeaker>,
    thread: thread::JoinHandle<()>,
}

/// Read access to the speaker for another thread.
#[derive(Clone)]
pub(crate) struct SpeakerReader(Arc<SharedSpeaker>);

impl SpeakerReader {
    /// Returns the result of `see`, which gets the locked speaker and the current time of its clock.
    pub(crate) fn look<T>(&self, see: impl FnOnce(&Speaker, Duration) -> T) -> T {
        see(&self.0.lock().speaker, self.0.now())
    }
}

impl Sessions {
    /// Starts the BGP thread. `seed` is a random number that differs from those of other nodes. `learned`
    /// is signaled when routes were learned. Fails if the system has no resources for the thread.
    pub(crate) fn start(config: Config, seed: u32, learned: Arc<EventFd>) -> Result<Sessions> {
        const DOING: &str = "starting the BGP thread";
        let speaker = Speaker::new(config, seed);
        let state = SpeakerState { speaker, learned: false, configured: true, ending: false };
        let wakeup = EventFd::new().doing(|| DOING)?;
        let state = Mutex::new(state);
        let shared = Arc::new(SharedSpeaker { state, start: Instant::now(), wakeup, learned });
        let mut driver = Driver::new(Arc::clone(&shared));
        let thread = thread::Builder::new()
            .name("bgp".to_owned())
            .stack_size(STACK_SIZE)
            .spawn(move || driver.run())
            .doing(|| DOING)?;
        Ok(Sessions { shared, thread })
    }

    /// Replaces the configuration.
    pub(crate) fn configure(&self, config: Config) {
        let mut state = self.shared.lock();
        state.speaker.configure(config, self.shared.now());
        state.configured = true;
        drop(state);
        self.shared.wakeup.signal();
    }

    /// Returns true if [`Sessions::learned`] would return routes.
    pub(crate) fn has_learned(&self) -> bool {
        self.shared.lock().learned
    }

    /// Returns the learned routes; `None` if they did not change since the last call.
    pub(crate) fn learned(&self) -> Option<Learned> {
        let mut state = self.shared.lock();
        std::mem::take(&mut state.learned).then(|| state.speaker.take_learned())
    }

    /// Returns read access for another thread.
    pub(crate) fn looker(&self) -> SpeakerReader {
        SpeakerReader(Arc::clone(&self.shared))
    }

    /// Stops the thread and waits for its end, at most about one second. All peers get the NOTIFICATION.
    /// If it is `None`, connections close without one, so that peers keep the routes for a graceful
    /// restart.
    pub(crate) fn stop(self, notification: Option<Notification>) {
        let mut state = self.shared.lock();
        match notification {
            Some(notification) => state.speaker.shut_down(&notification, self.shared.now()),
            None => state.speaker.prepare_restart(),
        }
        state.ending = true;
        drop(state);
        self.shared.wakeup.signal();
        let _ = self.thread.join();
    }
}

/// The part of the configuration that the listening sockets depend on.
#[derive(PartialEq)]
struct ListenConfig {
    addrs: Vec<IpAddr>,
    port: u16,
    keys: Vec<(IpAddr, Secret)>,
    /// The addresses and ports of the BFD receivers.
    bfd: Vec<SocketAddr>,
}

impl ListenConfig {
    fn of(config: &Config) -> ListenConfig {
        let key = |(addr, peer): (&IpAddr, &Peer)| Some((*addr, peer.password.clone()?));
        let mut addrs = config.own.addrs.clone();
        addrs.sort_unstable();
        addrs.dedup();
        let mut receivers = Vec::new();
        for (to, peer) in &config.peers {
            let Some(bfd) = peer.bfd else { continue };
            for addr in addrs.iter().filter(|addr| addr.is_ipv4() == to.is_ipv4()) {
                let at = SocketAddr::new(*addr, bfd.port);
                if !receivers.contains(&at) {
                    receivers.push(at);
                }
            }
        }
        ListenConfig {
            bfd: receivers,
            addrs,
            port: config.own.port,
            keys: config.peers.iter().filter_map(key).collect(),
        }
    }
}

/// The next step of the BGP thread.
enum Next {
    /// Wait for a socket or a signal, at most until this time if there is one.
    Wait(Option<Duration>),
    /// End the thread.
    Stop,
}

/// The state of the BGP thread.
struct Driver {
    shared: Arc<SharedSpeaker>,
    connections: Vec<TcpConnection>,
    /// The configuration of the open listeners; `None` before the first one.
    listen_config: Option<ListenConfig>,
    listeners: Vec<Listener>,
    bfd: BfdSockets,
    /// Events that the speaker has not processed yet.
    events: Vec<SpeakerEvent>,
    /// Accepted connections that the speaker does not know yet.
    accepted: Vec<TcpStream>,
    poll: Poll,
    buffer: Box<ReadBuffer>,
}

impl Driver {
    fn new(shared: Arc<SharedSpeaker>) -> Driver {
        Driver {
            shared,
            connections: Vec::new(),
            listen_config: None,
            listeners: Vec::new(),
            bfd: BfdSockets::default(),
            events: Vec::new(),
            accepted: Vec::new(),
            poll: Poll::default(),
            buffer: stream::read_buffer(),
        }
    }

    /// Runs the loop until [`Sessions::stop`] ends it.
    fn run(&mut self) {
        let mut end = None;
        while let Next::Wait(until) = self.process(&mut end) {
            let now = self.shared.now();
            self.poll.clear();
            self.poll.add(&self.shared.wakeup, true, false);
            self.listeners.iter().for_each(|listener| listener.register(&mut self.poll));
            self.bfd.register(&mut self.poll);
            self.connections.iter().for_each(|connection| connection.register(&mut self.poll));
            self.poll.wait(until.map(|until| until.saturating_sub(now)));
            self.handle_ready();
        }
    }

    /// Gives accepted connections and events to the speaker, runs its timers and performs its actions.
    /// `end` is set when the thread has been asked to end: the time at which it stops even if bytes are
    /// still queued.
    fn process(&mut self, end: &mut Option<Duration>) -> Next {
        let shared = Arc::clone(&self.shared);
        let now = shared.now();
        let mut state = shared.lock();
        for socket in self.accepted.drain(..) {
            self.connections.extend(accept(&mut state.speaker, socket, now));
        }
        for event in self.events.drain(..) {
            state.speaker.handle_event(event, now);
        }
        state.speaker.handle_timeout(now);
        self.perform_actions(&mut state.speaker, now);
        if state.ending {
            let end = *end.get_or_insert(now + FLUSH_TIMEOUT);
            let pending = now < end && self.connections.iter().any(TcpConnection::is_closing);
            return if pending { Next::Wait(Some(end)) } else { Next::Stop };
        }
        if std::mem::take(&mut state.configured) {
            self.listen(state.speaker.config());
        }
        if !state.learned && state.speaker.has_learned() {
            state.learned = true;
            shared.learned.signal();
        }
        let connections = self.connections.iter().filter_map(TcpConnection::deadline);
        let listeners = self.listeners.iter().filter_map(Listener::deadline);
        let at_once = (!self.events.is_empty()).then_some(now);
        let others = [state.speaker.poll_timeout(), at_once].into_iter().flatten();
        Next::Wait(connections.chain(listeners).chain(others).min())
    }

    /// Serves all sockets, in the order in which [`Driver::run`] added them to the poll set.
    fn handle_ready(&mut self) {
        let now = self.shared.now();
        let Driver { shared, poll, events, .. } = self;
        if poll.ready(0).0 {
            shared.wakeup.clear();
        }
        let mut at = 1;
        let keys = self.listen_config.as_ref().map_or(&[][..], |config| &config.keys);
        for listener in &mut self.listeners {
            self.accepted.extend(listener.accept(poll.ready(at).0, now, keys));
            at += 1;
        }
        let mut is_ready = || {
            at += 1;
            poll.ready(at - 1).0
        };
        self.bfd.receive(&mut is_ready, events);
        self.connections.retain_mut(|connection| {
            let ready = poll.ready(at);
            at += 1;
            connection.handle_ready(ready, now, &mut self.buffer, events) == TcpStatus::Alive
        });
    }

    fn perform_actions(&mut self, speaker: &mut Speaker, now: Duration) {
        for action in speaker.take_actions() {
            match action {
                SpeakerAction::Log(Severity::Warning, text) => {
                    log::warn(format_args!("bgp: {text}"));
                }
                SpeakerAction::Log(Severity::Info, text) => log::info(format_args!("bgp: {text}")),
                SpeakerAction::Send(conn, bytes) => {
                    self.with(conn, |connection, events| connection.send(&bytes, now, events));
                }
                SpeakerAction::Close(conn) => self.with(conn, |connection, _| connection.close()),
                SpeakerAction::SendBfd(packet) => self.bfd.send(&packet),
                SpeakerAction::Dial(conn, dial) => self.dial(conn, &dial, now),
            }
        }
    }

    /// Calls `act` with a connection, if it exists, and drops the connection if it is over.
    fn with(
        &mut self,
        id: ConnId,
        act: impl FnOnce(&mut TcpConnection, &mut Vec<SpeakerEvent>) -> TcpStatus,
    ) {
        let Some(at) = self.connections.iter().position(|c| c.id == id) else { return };
        if act(&mut self.connections[at], &mut self.events) == TcpStatus::Over {
            self.connections.remove(at);
        }
    }

    fn dial(&mut self, id: ConnId, dial: &Dial, now: Duration) {
        match TcpConnection::dial(id, dial, now) {
            Ok(connection) => self.connections.push(connection),
            Err(e) => {
                let why = format!("connecting to {}: {e}", dial.to);
                self.events.push(SpeakerEvent::ConnectFailed(id, why));
            }
        }
    }

    /// Replaces the listening sockets if their configuration changed.
    fn listen(&mut self, config: &Config) {
        let new = ListenConfig::of(config);
        if self.listen_config.as_ref() == Some(&new) {
            return;
        }
        self.listeners.clear();
        let at = |addr: &IpAddr| Listener::new(SocketAddr::new(*addr, new.port));
        self.listeners.extend(new.addrs.iter().map(at));
        self.bfd.listen(&new.bfd);
        self.listen_config = Some(new);
    }
}

/// Registers an accepted socket with the speaker. Returns `None` if the speaker refuses the connection, or
/// if it has already been closed.
fn accept(speaker: &mut Speaker, socket: TcpStream, now: Duration) -> Option<TcpConnection> {
    let (peer, local) = (socket.peer_addr().ok()?, socket.local_addr().ok()?);
    let (conn, config) = speaker.accept(peer.ip(), local.ip(), now)?;
    let _ = stream::apply_ttl_policy(&socket, Family::of_addr(&peer.ip()), config.distance);
    Some(TcpConnection::open(conn, socket, config.hold_time))
}
