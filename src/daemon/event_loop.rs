//! The event loop.

use std::{
    net::IpAddr,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::PathBuf,
    sync::Arc,
    task::Poll,
    thread,
    time::{Duration, Instant},
};

use smol::{
    Async, Timer,
    channel::{self, Receiver},
    future,
};

use super::{
    bgp_handle::BgpHandle,
    reporter::Reporter,
    schedule::{Schedule, Work},
};
use crate::{
    api::{Api, STACK, Source, Start, SyncPolicy, snapshot},
    collections::FlatSet,
    error::{Doing, Error, Result},
    kernel::{Kernel, Scope, events::Events, lock::Lock},
    log,
    model::{
        cluster::{Change, Cluster, ClusterStore, Kind, WatchUpdate},
        items::{BRIDGE, DUMMY},
        local::Options,
    },
    plan::Step,
    reconcile::{PassReport, Reconciler},
    report::{SharedStatus, StatusServer},
    sys,
};

/// News that wait to be taken in; whoever has more waits.
const WAITING: usize = 256;
/// News that are taken in before anything is done.
const JOINED: usize = 4096;
/// How long another kinglet (a `sync` from cron) may take to give the lock back.
const LOCK_PATIENCE: Duration = Duration::from_secs(60);
/// How long a node that works is left as it is while the API is asked what the snapshot lacks.
const CATCH_UP: Duration = Duration::from_secs(4);
/// The loop never sleeps longer.
const SLEEP: Duration = Duration::from_secs(60);
/// Longer than that without a sign of life means that it is stuck.
pub const STUCK: Duration = Duration::from_secs(300);

/// What the daemon was told.
pub struct Setup {
    /// The name of this node's Node object.
    pub node: Box<str>,
    /// What it does.
    pub options: Options,
    /// Where the API server is.
    pub source: Source,
    /// How the API is followed.
    pub rhythm: SyncPolicy,
    /// How often everything is looked at, whatever was said.
    pub audit: Duration,
    /// The file with the last good cluster.
    pub snapshot: Option<PathBuf>,
    /// Where it writes down what it does.
    pub facts: SharedStatus,
    /// Whether a start anew would come to something: what is wrong with the configuration now.
    pub again: Box<dyn Fn() -> Result<()>>,
}

/// Why the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was told to stop (SIGTERM, SIGINT).
    Stopped,
    /// It was told to read its configuration again (SIGHUP).
    Reload,
}

/// Signals are kept for the loop from here on. To be called before there is another thread.
pub fn signals() -> Result<sys::Signals> {
    sys::signals(&sys::TERMINATION_SIGNALS).doing(|| "taking over the signals")
}

/// The right to change this node, once nobody else has it.
pub fn lock() -> Result<Lock> {
    let begun = Instant::now();
    let mut told = false;
    loop {
        if let Some(lock) = Lock::take().doing(|| "taking the lock @kinglet")? {
            return Ok(lock);
        }
        if begun.elapsed() > LOCK_PATIENCE {
            return Err(Error::new(
                "taking the lock @kinglet",
                "another kinglet is at work on this node: stop it first",
            ));
        }
        if !std::mem::replace(&mut told, true) {
            log::info(format_args!("another kinglet is at work on this node; waiting for it"));
        }
        thread::sleep(Duration::from_millis(250));
    }
}

/// The kernel, and all that takes more rights than the loop has: its modules are loaded, then the
/// rights are given away. What can't be given away is only said. `kubeconfig`: its credentials may be
/// another user's.
pub fn kernel(options: &Options, kubeconfig: bool) -> Result<Kernel> {
    let kernel = Kernel::open()?;
    kernel.load_modules(options);
    let more = if kubeconfig { sys::CAP_DAC_READ_SEARCH } else { 0 };
    if let Err(e) = sys::limit_capabilities(sys::CAPS | more) {
        log::warn(format_args!("giving up rights that are not needed: {e}"));
    }
    Ok(kernel)
}

/// Runs until a signal comes.
pub fn run(
    setup: Setup,
    mut kernel: Kernel,
    signals: sys::Signals,
    desk: StatusServer,
) -> Result<Exit> {
    let api = Arc::new(Api::open(&setup.source)?);
    let kinds = Kind::needed(setup.options.reads_services());
    let mut file = snapshot::SnapshotFile::new(setup.snapshot.clone(), api.identity(&setup.node));
    let last = file.load();
    api.expect(&setup.node, last.as_ref());
    let ports = kernel.ports();
    let network = Events::of_network(&ports).doing(|| "listening to the kernel's routes")?;
    // A kernel without nftables has nothing to say of it.
    let table = Events::of_table(&ports).ok();
    let voice = BgpHandle::new()?;
    let sources = Sources::new(signals, network, table, voice.news())?;
    let age = last.as_ref().and_then(snapshot::Snapshot::age);
    let listed = last.as_ref().map_or(0, |last| last.listed);
    let (cluster, versions) = last.map(|last| (last.cluster, last.versions)).unwrap_or_default();
    let from_snapshot = !versions.is_empty();
    // After a boot there is nothing that an old snapshot could spoil.
    let at_work = |name: &String| [BRIDGE, DUMMY].contains(&&**name);
    let held = from_snapshot && kernel.link_names()?.iter().any(at_work);
    let (sender, news) = channel::bounded(WAITING);
    for &kind in kinds {
        let (api, sender, rhythm) = (Arc::clone(&api), sender.clone(), setup.rhythm);
        let start = Start { version: versions.get(&kind).cloned(), age };
        let tell = move |news| sender.send_blocking(news).is_ok();
        thread::Builder::new()
            .name(kind.plural().to_owned())
            .stack_size(STACK)
            .spawn(move || api.follow(kind, start, rhythm, tell))
            .doing(|| format!("starting the thread that follows {}", kind.plural()))?;
    }
    drop(sender);
    let mut daemon = Daemon {
        keeper: Reconciler::new(kernel, &setup.node, setup.options),
        known: ClusterStore::new(cluster, versions, kinds),
        agenda: Schedule::new(setup.audit),
        start: Instant::now(),
        teller: Reporter::new(desk, setup.facts, api, &setup.node),
        file,
        voice,
        listed,
        changed: false,
        heard: None,
        held,
        from_snapshot,
        again: setup.again,
    };
    daemon.teller.start(setup.snapshot.as_deref());
    if from_snapshot {
        daemon.agenda.look(Scope::All);
    }
    if held {
        daemon.agenda.hold(daemon.now() + CATCH_UP);
    }
    daemon.run(sources, &news)
}

struct Daemon {
    keeper: Reconciler,
    known: ClusterStore,
    agenda: Schedule,
    start: Instant,
    teller: Reporter,
    file: snapshot::SnapshotFile,
    voice: BgpHandle,
    /// When everything was last listed (Unix time).
    listed: u64,
    /// Whether the cluster is another one than the snapshot's.
    changed: bool,
    /// When the first news came that the kernel does not know of.
    heard: Option<Duration>,
    /// Whether it waits for the API to tell what the snapshot lacks.
    held: bool,
    /// Whether all that is known is from the snapshot, and nobody was told.
    from_snapshot: bool,
    again: Box<dyn Fn() -> Result<()>>,
}

impl Daemon {
    fn run(&mut self, mut sources: Sources, news: &Receiver<WatchUpdate>) -> Result<Exit> {
        loop {
            self.teller.beat();
            let rest = self.agenda.rest(self.now()).min(SLEEP);
            let first = smol::block_on(sources.wait(news, rest));
            if self.voice.has_learned() {
                self.agenda.learn();
            }
            let rest = std::iter::from_fn(|| news.try_recv().ok()).take(JOINED);
            first.into_iter().chain(rest).for_each(|news| self.hear(news));
            if let Some(ended) = sources.signal().filter(|ended| self.may_end(*ended)) {
                if self.changed && self.known.is_complete() {
                    self.save();
                }
                self.settle();
                self.voice.end();
                return Ok(ended);
            }
            self.told(sources.network(&FlatSet::new())?, Scope::Network);
            self.told(sources.table()?, Scope::Table);
            if let Some(work) = self.agenda.due(self.now()) {
                self.work(work);
                let own = self.keeper.addrs();
                if !own.is_empty() {
                    self.told(sources.network(&own)?, Scope::Network);
                }
            }
        }
    }

    /// The kernel told of something: a reason to look, where it is news.
    fn told(&mut self, news: bool, scope: Scope) {
        if news {
            self.teller.kernel_event();
            self.agenda.look(scope);
        }
    }

    /// A configuration that is wrong is no reason to give up a right one.
    fn may_end(&self, ended: Exit) -> bool {
        match ended {
            Exit::Stopped => true,
            Exit::Reload => (self.again)()
                .map_err(|e| log::error(format_args!("{e}; going on as before")))
                .is_ok(),
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn hear(&mut self, news: WatchUpdate) {
        let touched = self.known.touches(&news);
        let sure = self.keeper.touch(&self.known.cluster, &touched);
        let listed = matches!(news.what, Change::Listed(_));
        self.teller.heard(&news);
        let changes = self.known.hear(news);
        if self.held && (self.known.is_complete() || !self.known.lost.is_empty()) {
            self.held = false;
            self.agenda.go();
        }
        if listed {
            self.listed = snapshot::now();
        }
        if changes.is_empty() {
            return;
        }
        self.changed = true;
        let said = changes.all || changes.nodes || listed;
        if said || self.voice.concerns(&self.known.cluster, &touched.services) {
            self.voice.may_differ();
        }
        self.heard.get_or_insert(self.start.elapsed());
        if !self.known.has_nodes() {
            return; // they will come
        }
        if changes.all || listed || !sure {
            self.agenda.look(Scope::All);
        } else {
            self.agenda.change();
        }
    }

    fn work(&mut self, work: Work) {
        let begun = self.now();
        self.agenda.begin(work, begun);
        if std::mem::take(&mut self.from_snapshot) && !self.known.is_complete() {
            log::info(format_args!("working from the snapshot until the API answers"));
        }
        let Daemon { keeper, known, teller, voice, .. } = self;
        let cluster: &Cluster = &known.cluster;
        let moved = work == Work::Changes;
        let done = &mut |step: &Step<'_>, outcome: &_| teller.step(step, outcome, moved);
        let deed = match work {
            Work::Save if self.file.is_unsettled() => return self.settle(),
            Work::Save => return self.save(),
            Work::Look(scope) => keeper.look(cluster, scope, done),
            Work::Learn => match voice.learned() {
                Some(learned) => keeper.learn(cluster, learned, done),
                None => Ok(PassReport::default()),
            },
            Work::Audit => keeper.audit(cluster, done),
            Work::Changes => keeper.changes(cluster, done),
            Work::Drains if keeper.touch_drains(cluster) => keeper.changes(cluster, done),
            Work::Drains => Ok(PassReport::default()),
        };
        self.agenda.split(self.keeper.parts(&self.known.cluster));
        let well = deed.as_ref().is_ok_and(PassReport::is_well);
        // Nobody may be wrong about the kernel for longer than a moment.
        if well && self.keeper.is_lost() && !self.known.cluster.nodes.is_empty() {
            self.agenda.look(Scope::All);
        }
        let now = self.now();
        self.agenda.end(work, begun, now, well, self.keeper.is_draining());
        let done = well
            && !matches!(
                work,
                Work::Look(Scope::Network | Scope::Table) | Work::Learn | Work::Drains
            );
        if self.keeper.has_moved() {
            self.voice.may_differ();
        }
        if let Some(local) = self.keeper.local() {
            let spoken = self.voice.speak(&self.known.cluster, local, self.teller.facts());
            self.keeper.also(self.voice.unmet());
            spoken.unwrap_or_else(|e| log::error(format_args!("{e}")));
        }
        let lag = self.heard.take_if(|_| done).map(|heard| now - heard);
        self.teller.pass(work, &deed, &self.known, &self.keeper, (now - begun, lag));
        if self.changed && self.known.is_complete() {
            self.agenda.save(self.now());
        }
    }

    /// A snapshot that can't be written costs a warning, and nothing else.
    fn save(&mut self) {
        self.changed = false;
        let contact = self.teller.api().contact();
        match self.file.save(&self.known, self.listed, &contact) {
            Ok(true) => self.agenda.settle(self.now()),
            Ok(false) => {}
            Err(e) => log::warn(format_args!("{e}")),
        }
    }

    fn settle(&mut self) {
        match self.file.settle() {
            Ok(true) => self.teller.saved(),
            Ok(false) => {}
            Err(e) => log::warn(format_args!("{e}")),
        }
    }
}

/// All that wakes the loop but the API: signals, the kernel, BGP's peers.
struct Sources {
    signals: sys::Signals,
    network: Events,
    table: Option<Events>,
    /// The same descriptors, for waiting.
    waits: Vec<Async<OwnedFd>>,
}

impl Sources {
    fn new(
        signals: sys::Signals,
        network: Events,
        table: Option<Events>,
        peers: &sys::EventFd,
    ) -> Result<Sources> {
        let table_fd = table.as_ref().map(Events::as_fd);
        let fds = [Some(signals.as_fd()), Some(network.as_fd()), Some(peers.as_fd()), table_fd];
        let wait = |fd: BorrowedFd<'_>| Async::new(fd.try_clone_to_owned()?);
        let waits = fds.into_iter().flatten().map(wait).collect::<std::io::Result<_>>();
        let waits = waits.doing(|| "waiting for the kernel")?;
        Ok(Sources { signals, network, table, waits })
    }

    /// Waits until there is something, or for `rest`; gives news of the API, where that is it.
    async fn wait(&self, news: &Receiver<WatchUpdate>, rest: Duration) -> Option<WatchUpdate> {
        let said = async { news.recv().await.ok() };
        let others = future::poll_fn(|context| {
            let ready = |wait: &Async<OwnedFd>| wait.poll_readable(context).is_ready();
            if self.waits.iter().any(ready) { Poll::Ready(None) } else { Poll::Pending }
        });
        let over = async {
            Timer::after(rest).await;
            None
        };
        future::or(said, future::or(others, over)).await
    }

    fn signal(&mut self) -> Option<Exit> {
        match self.signals.read_next()? {
            sys::RELOAD_SIGNAL => Some(Exit::Reload),
            _ => Some(Exit::Stopped),
        }
    }

    fn network(&mut self, own: &FlatSet<IpAddr>) -> Result<bool> {
        self.network.read(own).doing(|| "listening to the kernel's routes")
    }

    fn table(&mut self) -> Result<bool> {
        let read = |table: &mut Events| table.read(&FlatSet::new());
        let table = self.table.as_mut().map_or(Ok(false), read);
        table.doing(|| "listening to nftables")
    }
}
