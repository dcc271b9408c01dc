//! Sockets and the time for the [`Speaker`]: one thread, one loop, and for each connection a task that
//! reads and one that writes. Nothing is decided here.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use smol::{
    LocalExecutor, Task, Timer,
    channel::{self, Receiver, Sender},
    future,
};

use super::{
    Config, Peer,
    fsm::Conn,
    message::Notification,
    rib::Learned,
    speaker::{Action, Dial, Event, Speaker},
    stream::{self, Stream},
};
use crate::{
    error::{Doing, Result},
    kernel::sys,
    log,
};

/// A peer that takes nothing for so long is not told that we go.
const FLUSH: Duration = Duration::from_secs(1);
/// What was learned is passed on no more often: a peer tells thousands of routes in a burst.
const JOIN: Duration = Duration::from_millis(100);
/// Events that wait to be heard; connections that have more wait.
const WAITING: usize = 128;
/// The thread's stack.
const STACK: usize = 256 << 10;

/// Looks at the speaker.
type See = Box<dyn FnOnce(&Speaker, Duration) + Send>;

/// What the thread is told.
enum Order {
    /// The configuration is another one.
    Configure(Box<Config>),
    /// Somebody wants to look; the answer is made from the speaker as it is.
    Look(See),
    /// End, with a word to the peers where there is one.
    Stop(Option<Notification>),
}

/// The speaker at work.
pub struct Sessions {
    orders: Sender<Order>,
    /// What was learned, whenever it is something else.
    pub learned: Receiver<Learned>,
    thread: thread::JoinHandle<()>,
}

/// Someone who may look at the speaker from another thread.
#[derive(Clone)]
pub struct Looker(Sender<Order>);

impl Looker {
    /// Asks for what `see` makes of the speaker; `None`: it does not answer.
    pub fn look<T: Send + 'static>(
        &self,
        see: impl FnOnce(&Speaker, Duration) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = channel::bounded(1);
        let order = Order::Look(Box::new(move |speaker, now| {
            let _ = answer.try_send(see(speaker, now));
        }));
        self.0.try_send(order).ok()?;
        let late = async {
            Timer::after(Duration::from_secs(2)).await;
            None
        };
        smol::block_on(future::or(async { answered.recv().await.ok() }, late))
    }
}

impl Sessions {
    /// Starts to speak. `seed`: a number that other nodes do not have.
    pub fn start(config: Config, seed: u32) -> Result<Sessions> {
        let (orders, ordered) = channel::unbounded();
        let (teller, learned) = channel::unbounded();
        let thread = thread::Builder::new()
            .name("bgp".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                let executor = Rc::new(LocalExecutor::new());
                let driver = Driver::new(Rc::clone(&executor), config, seed, teller);
                smol::block_on(executor.run(driver.run(ordered)));
            })
            .doing(|| "starting the thread that speaks BGP")?;
        Ok(Sessions { orders, learned, thread })
    }

    /// The configuration is another one.
    pub fn configure(&self, config: Config) {
        let _ = self.orders.try_send(Order::Configure(Box::new(config)));
    }

    /// For those who want to look.
    pub fn looker(&self) -> Looker {
        Looker(self.orders.clone())
    }

    /// Ends it, with a word to the peers where there is one; waits until that is said.
    pub fn stop(self, word: Option<Notification>) {
        let _ = self.orders.try_send(Order::Stop(word));
        let _ = self.thread.join();
    }
}

/// What wakes the loop.
enum Wake {
    Order(Order),
    Event(Event),
    /// A connection that was asked for is there.
    Dialed(Conn, Stream),
    /// Somebody connected.
    Accepted(Stream),
    /// Time went on.
    Time,
    /// Nobody gives orders any more.
    Over,
}

/// One connection.
struct Wire {
    /// What is to be sent.
    out: Sender<Vec<u8>>,
    /// It reads as long as this is kept.
    _reader: Task<()>,
}

struct Driver {
    executor: Rc<LocalExecutor<'static>>,
    speaker: Speaker,
    begun: Instant,
    wires: BTreeMap<Conn, Wire>,
    /// Connections in the making.
    dials: BTreeMap<Conn, Task<()>>,
    /// Writers that end by themselves.
    writers: Vec<Task<()>>,
    listeners: Vec<Task<()>>,
    wake: Sender<Wake>,
    woken: Receiver<Wake>,
    teller: Sender<Learned>,
    /// When what was learned may be passed on again.
    tell: Duration,
    listened: Option<Listening>,
}

/// All that listening depends on.
#[derive(PartialEq)]
struct Listening {
    addrs: Vec<IpAddr>,
    port: u16,
    keys: Vec<(IpAddr, Box<str>)>,
}

impl Listening {
    fn of(config: &Config) -> Listening {
        let key = |(addr, peer): (&IpAddr, &Peer)| Some((*addr, peer.password.clone()?));
        let mut addrs = config.own.addrs.clone();
        addrs.sort_unstable();
        addrs.dedup();
        Listening {
            addrs,
            port: config.own.port,
            keys: config.peers.iter().filter_map(key).collect(),
        }
    }
}

impl Driver {
    fn new(
        executor: Rc<LocalExecutor<'static>>,
        config: Config,
        seed: u32,
        teller: Sender<Learned>,
    ) -> Driver {
        let (wake, woken) = channel::bounded(WAITING);
        Driver {
            executor,
            speaker: Speaker::new(config, seed),
            begun: Instant::now(),
            wires: BTreeMap::new(),
            dials: BTreeMap::new(),
            writers: Vec::new(),
            listeners: Vec::new(),
            wake,
            woken,
            teller,
            tell: Duration::ZERO,
            listened: None,
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    async fn run(mut self, orders: Receiver<Order>) {
        self.listen();
        loop {
            self.act();
            let learned_at = self.pass_on();
            let rest = [self.speaker.deadline(), learned_at].into_iter().flatten().min();
            match self.wait(&orders, rest).await {
                Wake::Order(Order::Configure(config)) => {
                    let now = self.now();
                    self.speaker.configure(*config, now);
                    self.listen();
                }
                Wake::Order(Order::Look(see)) => see(&self.speaker, self.now()),
                Wake::Order(Order::Stop(word)) => return self.stop(word).await,
                Wake::Event(event) => {
                    let now = self.now();
                    self.speaker.hear(event, now);
                }
                Wake::Dialed(conn, stream) => self.dialed(conn, stream),
                Wake::Accepted(stream) => self.accepted(stream),
                Wake::Time => {
                    let now = self.now();
                    self.speaker.hear(Event::Time, now);
                }
                Wake::Over => return,
            }
        }
    }

    async fn wait(&self, orders: &Receiver<Order>, until: Option<Duration>) -> Wake {
        let order = async { orders.recv().await.map_or(Wake::Over, Wake::Order) };
        let event = async { self.woken.recv().await.unwrap_or(Wake::Over) };
        let time = async {
            match until {
                Some(at) => Timer::at(self.begun + at).await,
                None => future::pending().await,
            };
            Wake::Time
        };
        future::or(order, future::or(event, time)).await
    }

    /// Passes on what was learned; when to try again, where it is too early.
    fn pass_on(&mut self) -> Option<Duration> {
        let now = self.now();
        if now < self.tell {
            return Some(self.tell);
        }
        if let Some(learned) = self.speaker.learned(now) {
            self.tell = now + JOIN;
            let _ = self.teller.try_send(learned);
        }
        None
    }

    fn act(&mut self) {
        for action in self.speaker.actions() {
            match action {
                Action::Say(true, text) => log::warn(format_args!("bgp: {text}")),
                Action::Say(false, text) => log::info(format_args!("bgp: {text}")),
                Action::Send(conn, bytes) => {
                    if let Some(wire) = self.wires.get(&conn) {
                        let _ = wire.out.try_send(bytes);
                    }
                }
                Action::Close(conn) => {
                    self.wires.remove(&conn);
                    self.dials.remove(&conn);
                }
                Action::Dial(conn, dial) => self.dial(conn, *dial),
            }
        }
        self.writers.retain(|writer| !writer.is_finished());
    }

    fn dial(&mut self, conn: Conn, dial: Dial) {
        let wake = self.wake.clone();
        let task = self.executor.spawn(async move {
            let said = match stream::connect(&dial).await {
                Ok(stream) => Wake::Dialed(conn, stream),
                Err(e) => {
                    Wake::Event(Event::Failed(conn, format!("connecting to {}: {e}", dial.to)))
                }
            };
            let _ = wake.send(said).await;
        });
        self.dials.insert(conn, task);
    }

    fn dialed(&mut self, conn: Conn, stream: Stream) {
        let now = self.now();
        self.dials.remove(&conn);
        match stream.get_ref().local_addr() {
            Ok(local) => {
                self.attach(conn, stream);
                self.speaker.hear(Event::Connected(conn, local.ip()), now);
            }
            Err(e) => self.speaker.hear(Event::Failed(conn, e.to_string()), now),
        }
    }

    fn accepted(&mut self, stream: Stream) {
        let now = self.now();
        let ends = (stream.get_ref().peer_addr(), stream.get_ref().local_addr());
        let (Ok(peer), Ok(local)) = ends else { return };
        if let Some((conn, ttl)) = self.speaker.accept(peer.ip(), local.ip(), now) {
            if let Some(ttl) = ttl {
                let _ = sys::ttl(stream.get_ref(), peer.is_ipv4(), ttl);
            }
            self.attach(conn, stream);
        }
    }

    fn attach(&mut self, conn: Conn, stream: Stream) {
        let stream = Rc::new(stream);
        let (out, bytes) = channel::unbounded();
        let wake = self.wake.clone();
        let reader = stream::read(Rc::clone(&stream), move |event| {
            let wake = wake.clone();
            async move { wake.send(Wake::Event(event(conn))).await.is_ok() }
        });
        let wake = self.wake.clone();
        let writer = stream::write(stream, bytes, async move || {
            let _ = wake.send(Wake::Event(Event::Sent(conn))).await;
        });
        self.writers.push(self.executor.spawn(writer));
        self.wires.insert(conn, Wire { out, _reader: self.executor.spawn(reader) });
    }

    /// Listens where the configuration says, where that is not what it said before.
    fn listen(&mut self) {
        let listening = Listening::of(self.speaker.config());
        if self.listened.as_ref() == Some(&listening) {
            return;
        }
        self.listeners.clear();
        for addr in &listening.addrs {
            let keys = listening.keys.clone();
            let at = SocketAddr::new(*addr, listening.port);
            let wake = self.wake.clone();
            self.listeners.push(self.executor.spawn(stream::listen(
                at,
                keys,
                async move |stream| {
                    let _ = wake.send(Wake::Accepted(stream)).await;
                },
            )));
        }
        self.listened = Some(listening);
    }

    async fn stop(mut self, word: Option<Notification>) {
        let Some(word) = word else { return };
        let now = self.now();
        self.speaker.shut_down(&word, now);
        self.act();
        let said = async {
            for writer in std::mem::take(&mut self.writers) {
                writer.await;
            }
        };
        future::or(said, async {
            Timer::after(FLUSH).await;
        })
        .await;
    }
}
