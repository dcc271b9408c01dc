//! Sockets and the time for the [`Speaker`]: one thread, one loop, which sleeps until a socket, the
//! time or somebody else has something for it. Nothing is decided here. Whoever wants to look at the
//! speaker or to tell it something does so himself while the thread sleeps.

use std::{
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use super::{
    Config, Peer,
    fsm::Conn,
    message::Notification,
    probes::Probes,
    rib::Learned,
    speaker::{Action, Dial, Event, Speaker},
    stream::{self, Buffer, Link, Listener},
};
use crate::{
    error::{Doing, Result},
    kernel::sys::{Bell, Poll},
    log,
    router::Secret,
};

/// A peer that takes nothing for so long is not told that we go.
const FLUSH: Duration = Duration::from_secs(1);
/// The thread's stack.
const STACK: usize = 256 << 10;

/// What the threads share.
struct Shared {
    held: Mutex<Held>,
    begun: Instant,
    /// Wakes the thread that speaks.
    work: Bell,
    /// Wakes who wants to know what was learned.
    news: Arc<Bell>,
}

struct Held {
    speaker: Speaker,
    /// Whether something was learned and not fetched yet.
    learned: bool,
    /// Whether the configuration may be another one.
    configured: bool,
    ending: bool,
}

impl Shared {
    fn hold(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// The speaker at work.
pub struct Sessions {
    shared: Arc<Shared>,
    thread: thread::JoinHandle<()>,
}

/// Someone who may look at the speaker from another thread.
#[derive(Clone)]
pub struct Looker(Arc<Shared>);

impl Looker {
    /// What `see` makes of the speaker as it is.
    pub fn look<T>(&self, see: impl FnOnce(&Speaker, Duration) -> T) -> T {
        see(&self.0.hold().speaker, self.0.now())
    }
}

impl Sessions {
    /// Starts to speak. `seed`: a number that other nodes do not have. `news` rings whenever something
    /// was learned.
    pub fn start(config: Config, seed: u32, news: Arc<Bell>) -> Result<Sessions> {
        const DOING: &str = "starting the thread that speaks BGP";
        let speaker = Speaker::new(config, seed);
        let held = Mutex::new(Held { speaker, learned: false, configured: true, ending: false });
        let work = Bell::new().doing(|| DOING)?;
        let shared = Arc::new(Shared { held, begun: Instant::now(), work, news });
        let mut driver = Driver::new(Arc::clone(&shared));
        let thread = thread::Builder::new()
            .name("bgp".to_owned())
            .stack_size(STACK)
            .spawn(move || driver.run())
            .doing(|| DOING)?;
        Ok(Sessions { shared, thread })
    }

    /// The configuration is another one.
    pub fn configure(&self, config: Config) {
        let mut held = self.shared.hold();
        held.speaker.configure(config, self.shared.now());
        held.configured = true;
        drop(held);
        self.shared.work.ring();
    }

    /// Whether something was learned since it was given last.
    pub fn has_learned(&self) -> bool {
        self.shared.hold().learned
    }

    /// What was learned, where something changed since it was given last.
    pub fn learned(&self) -> Option<Learned> {
        let mut held = self.shared.hold();
        std::mem::take(&mut held.learned).then(|| held.speaker.learned())
    }

    /// For those who want to look.
    pub fn looker(&self) -> Looker {
        Looker(Arc::clone(&self.shared))
    }

    /// Ends it, with a word to the peers where there is one; waits until that is said.
    pub fn stop(self, word: Option<Notification>) {
        let mut held = self.shared.hold();
        match word {
            Some(word) => held.speaker.shut_down(&word, self.shared.now()),
            None => held.speaker.pause(),
        }
        held.ending = true;
        drop(held);
        self.shared.work.ring();
        let _ = self.thread.join();
    }
}

/// All that listening depends on.
#[derive(PartialEq)]
struct Listening {
    addrs: Vec<IpAddr>,
    port: u16,
    keys: Vec<(IpAddr, Secret)>,
    /// Where BFD listens.
    probes: Vec<SocketAddr>,
}

impl Listening {
    fn of(config: &Config) -> Listening {
        let key = |(addr, peer): (&IpAddr, &Peer)| Some((*addr, peer.password.clone()?));
        let mut addrs = config.own.addrs.clone();
        addrs.sort_unstable();
        addrs.dedup();
        let mut probes = Vec::new();
        for (to, peer) in &config.peers {
            let Some(bfd) = peer.bfd else { continue };
            for addr in addrs.iter().filter(|addr| addr.is_ipv4() == to.is_ipv4()) {
                let at = SocketAddr::new(*addr, bfd.port);
                if !probes.contains(&at) {
                    probes.push(at);
                }
            }
        }
        Listening {
            probes,
            addrs,
            port: config.own.port,
            keys: config.peers.iter().filter_map(key).collect(),
        }
    }
}

/// The thread.
struct Driver {
    shared: Arc<Shared>,
    links: Vec<Link>,
    listening: Option<Listening>,
    listeners: Vec<Listener>,
    probes: Probes,
    /// What happened and was not heard yet.
    events: Vec<Event>,
    /// Who connected.
    callers: Vec<TcpStream>,
    poll: Poll,
    buffer: Box<Buffer>,
}

impl Driver {
    fn new(shared: Arc<Shared>) -> Driver {
        Driver {
            shared,
            links: Vec::new(),
            listening: None,
            listeners: Vec::new(),
            probes: Probes::default(),
            events: Vec::new(),
            callers: Vec::new(),
            poll: Poll::default(),
            buffer: stream::buffer(),
        }
    }

    fn run(&mut self) {
        let mut end = None;
        while let Some(until) = self.speak(&mut end) {
            let now = self.shared.now();
            self.poll.clear();
            self.poll.add(&self.shared.work, true, false);
            self.listeners.iter().for_each(|listener| listener.wait(&mut self.poll));
            self.probes.wait(&mut self.poll);
            self.links.iter().for_each(|link| link.wait(&mut self.poll));
            self.poll.wait(until.map(|until| until.saturating_sub(now)));
            self.serve();
        }
    }

    /// Tells the speaker what happened, and does what follows from that; when to go on, whatever
    /// happens, or `None`: it is over. `end`: until when it may end.
    fn speak(&mut self, end: &mut Option<Duration>) -> Option<Option<Duration>> {
        let shared = Arc::clone(&self.shared);
        let now = shared.now();
        let mut held = shared.hold();
        for caller in self.callers.drain(..) {
            self.links.extend(accept(&mut held.speaker, caller, now));
        }
        for event in self.events.drain(..) {
            held.speaker.hear(event, now);
        }
        held.speaker.turn(now);
        self.act(&mut held.speaker, now);
        if held.ending {
            let end = *end.get_or_insert(now + FLUSH);
            let waits = now < end && self.links.iter().any(Link::is_closing);
            return waits.then_some(Some(end));
        }
        if std::mem::take(&mut held.configured) {
            self.listen(held.speaker.config());
        }
        if !held.learned && held.speaker.has_learned() {
            held.learned = true;
            shared.news.ring();
        }
        let links = self.links.iter().filter_map(Link::deadline);
        let listeners = self.listeners.iter().filter_map(Listener::deadline);
        let at_once = (!self.events.is_empty()).then_some(now);
        let others = [held.speaker.deadline(), at_once].into_iter().flatten();
        Some(links.chain(listeners).chain(others).min())
    }

    /// Sees what the sockets have for us.
    fn serve(&mut self) {
        let now = self.shared.now();
        let Driver { shared, poll, events, .. } = self;
        if poll.ready(0).0 {
            shared.work.hush();
        }
        let mut at = 1;
        let keys = self.listening.as_ref().map_or(&[][..], |listening| &listening.keys);
        for listener in &mut self.listeners {
            self.callers.extend(listener.serve(poll.ready(at).0, now, keys));
            at += 1;
        }
        let mut ready = || {
            at += 1;
            poll.ready(at - 1).0
        };
        self.probes.serve(&mut ready, events);
        self.links.retain_mut(|link| {
            let ready = poll.ready(at);
            at += 1;
            link.serve(ready, now, &mut self.buffer, events)
        });
    }

    fn act(&mut self, speaker: &mut Speaker, now: Duration) {
        for action in speaker.actions() {
            match action {
                Action::Say(true, text) => log::warn(format_args!("bgp: {text}")),
                Action::Say(false, text) => log::info(format_args!("bgp: {text}")),
                Action::Send(conn, bytes) => {
                    self.with(conn, |link, events| link.send(&bytes, now, events));
                }
                Action::Close(conn) => self.with(conn, |link, _| !link.close()),
                Action::Probe(probe) => self.probes.send(&probe),
                Action::Dial(conn, dial) => self.dial(conn, &dial, now),
            }
        }
    }

    /// Does something with a connection that lets it go where it says so by `false`.
    fn with(&mut self, conn: Conn, act: impl FnOnce(&mut Link, &mut Vec<Event>) -> bool) {
        let Some(at) = self.links.iter().position(|link| link.conn == conn) else { return };
        if !act(&mut self.links[at], &mut self.events) {
            self.links.remove(at);
        }
    }

    fn dial(&mut self, conn: Conn, dial: &Dial, now: Duration) {
        match Link::dial(conn, dial, now) {
            Ok(link) => self.links.push(link),
            Err(e) => {
                self.events.push(Event::Failed(conn, format!("connecting to {}: {e}", dial.to)));
            }
        }
    }

    /// Listens where the configuration says, where that is not what it said before.
    fn listen(&mut self, config: &Config) {
        let listening = Listening::of(config);
        if self.listening.as_ref() == Some(&listening) {
            return;
        }
        self.listeners.clear();
        let at = |addr: &IpAddr| Listener::new(SocketAddr::new(*addr, listening.port));
        self.listeners.extend(listening.addrs.iter().map(at));
        self.probes.listen(&listening.probes);
        self.listening = Some(listening);
    }
}

/// Somebody connected; the connection, where it is one of the peers.
fn accept(speaker: &mut Speaker, socket: TcpStream, now: Duration) -> Option<Link> {
    let (peer, local) = (socket.peer_addr().ok()?, socket.local_addr().ok()?);
    let (conn, distance) = speaker.accept(peer.ip(), local.ip(), now)?;
    let _ = stream::distance(&socket, peer.is_ipv4(), distance);
    Some(Link::open(conn, socket))
}
