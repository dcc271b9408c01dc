//! The daemon's event loop. It waits for an API event, a kernel notification, a BGP update, a signal or a
//! timer, records what became due, and runs one unit of work.
//!
//! One thread per kind of object watches the API and sends its updates here. [`Daemon::apply_update`] gives
//! them to the store and makes work due in the [`Schedule`]; [`Daemon::work`] does it. No event carries
//! more than "compare again", so a lost event, a restart and a first start are the same.

use std::{
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
    api::{ApiServer, ExpectedCluster, STACK, Source, Start, SyncPolicy, Timeouts, snapshot},
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

/// The length of the queue of API updates; a watch that finds it full waits.
const QUEUE: usize = 256;
/// The most API updates that are applied before one unit of work.
const MAX_MERGED: usize = 4096;
/// How long the daemon waits for another kinglet (for example a `sync` from cron) to release the lock.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a node that works already is left alone at the start, until the API has sent the changes since
/// the snapshot.
const CATCH_UP: Duration = Duration::from_secs(4);
/// The longest sleep of the loop.
const MAX_SLEEP: Duration = Duration::from_secs(60);
/// A loop without a heartbeat for this long is stuck.
pub(crate) const STUCK: Duration = Duration::from_secs(300);

/// The parameters of the daemon.
pub(crate) struct Setup {
    /// The name of this node's Node object.
    pub node: Box<str>,
    /// The options for the desired state.
    pub options: Options,
    /// The address of the API server.
    pub source: Source,
    /// The intervals of poll and resync.
    pub sync_policy: SyncPolicy,
    /// The time between two audits.
    pub audit: Duration,
    /// The snapshot file of the last good cluster, if any.
    pub snapshot: Option<PathBuf>,
    /// The status that other threads read.
    pub status: SharedStatus,
    /// Reads the configuration again and returns its first error. A reload is refused if it fails.
    pub validate_config: Box<dyn Fn() -> Result<()>>,
}

/// The reason for which the daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// SIGTERM or SIGINT.
    Stopped,
    /// SIGHUP: the process is to start again with its configuration read again.
    Reload,
}

/// Blocks the termination signals and returns a descriptor that reports them. Must be called before another
/// thread starts.
pub(crate) fn signals() -> Result<sys::Signals> {
    sys::signals(&sys::TERMINATION_SIGNALS).doing(|| "taking over the signals")
}

/// Takes the node's lock. Waits up to 60 s for another kinglet to release it, then fails.
pub(crate) fn lock() -> Result<Lock> {
    let begun = Instant::now();
    let mut logged = false;
    loop {
        if let Some(lock) = Lock::take().doing(|| "taking the lock @kinglet")? {
            return Ok(lock);
        }
        if begun.elapsed() > LOCK_TIMEOUT {
            return Err(Error::new(
                "taking the lock @kinglet",
                "another kinglet is at work on this node: stop it first",
            ));
        }
        if !std::mem::replace(&mut logged, true) {
            log::info(format_args!("another kinglet is at work on this node; waiting for it"));
        }
        thread::sleep(Duration::from_millis(250));
    }
}

/// Opens the kernel, loads the modules that may be needed, and drops the capabilities that only the start
/// needs. If a capability cannot be dropped, that is a warning. `reads_files` is true if a reload must read
/// files that may belong to another user (a kubeconfig, BGP passwords).
pub(crate) fn kernel(options: &Options, reads_files: bool) -> Result<Kernel> {
    let kernel = Kernel::open()?;
    kernel.load_modules(options);
    let more = if reads_files { sys::CAP_DAC_READ_SEARCH } else { 0 };
    if let Err(e) = sys::limit_capabilities(sys::CAPS | more) {
        log::warn(format_args!("dropping capabilities that are not needed: {e}"));
    }
    Ok(kernel)
}

/// Runs until a signal arrives. Fails if the daemon cannot start, or cannot read the kernel's
/// notifications.
pub(crate) fn run(
    setup: Setup,
    mut kernel: Kernel,
    signals: sys::Signals,
    server: StatusServer,
) -> Result<Exit> {
    let api_server = ApiServer::locate(&setup.source, Timeouts::default())?;
    let kinds = Kind::needed(setup.options.reads_services());
    let identity = api_server.identity(&setup.node);
    let mut file = snapshot::SnapshotFile::new(setup.snapshot.clone(), identity);
    let last = file.load();
    let expected = ExpectedCluster::OfNode { node: &setup.node, snapshot: last.as_ref() };
    let api = Arc::new(api_server.open(expected));
    let network = kernel.subscribe_network()?;
    // A kernel without nftables has no such notifications.
    let table = kernel.subscribe_table().ok();
    let bgp = BgpHandle::new()?;
    let sources = Sources::new(signals, network, table, bgp.learned_signal())?;
    let age = last.as_ref().and_then(snapshot::Snapshot::age);
    let listed = last.as_ref().map_or(0, |last| last.listed);
    let (cluster, versions) = last.map(|last| (last.cluster, last.versions)).unwrap_or_default();
    let from_snapshot = !versions.is_empty();
    // After a boot no link of ours exists, and an old snapshot cannot spoil anything.
    let is_ours = |name: &String| [BRIDGE, DUMMY].contains(&&**name);
    let held = from_snapshot && kernel.link_names()?.iter().any(is_ours);
    let (sender, updates) = channel::bounded(QUEUE);
    for &kind in kinds {
        let (api, sender, policy) = (Arc::clone(&api), sender.clone(), setup.sync_policy);
        let start = Start { version: versions.get(&kind).cloned(), age };
        let send = move |update| sender.send_blocking(update).is_ok();
        thread::Builder::new()
            .name(kind.plural().to_owned())
            .stack_size(STACK)
            .spawn(move || api.follow(kind, start, policy, send))
            .doing(|| format!("starting the thread that watches {}", kind.plural()))?;
    }
    drop(sender);
    let mut daemon = Daemon {
        reconciler: Reconciler::new(kernel, &setup.node, setup.options),
        store: ClusterStore::new(cluster, versions, kinds),
        schedule: Schedule::new(setup.audit),
        start: Instant::now(),
        reporter: Reporter::new(server, setup.status, api, &setup.node),
        file,
        bgp,
        listed,
        changed: false,
        first_update: None,
        held,
        from_snapshot,
        validate_config: setup.validate_config,
    };
    daemon.reporter.start(setup.snapshot.as_deref());
    if from_snapshot {
        daemon.schedule.request_full(Scope::All);
    }
    if held {
        daemon.schedule.hold(daemon.now() + CATCH_UP);
    }
    daemon.run(sources, &updates)
}

struct Daemon {
    reconciler: Reconciler,
    store: ClusterStore,
    schedule: Schedule,
    start: Instant,
    reporter: Reporter,
    file: snapshot::SnapshotFile,
    bgp: BgpHandle,
    /// The time of the last full list, in seconds of Unix time.
    listed: u64,
    /// True if the cluster differs from the snapshot.
    changed: bool,
    /// The time of the first update that the kernel does not reflect yet.
    first_update: Option<Duration>,
    /// True while the first pass waits for the changes since the snapshot.
    held: bool,
    /// True until the log says that the node works from a snapshot.
    from_snapshot: bool,
    validate_config: Box<dyn Fn() -> Result<()>>,
}

impl Daemon {
    fn run(&mut self, mut sources: Sources, updates: &Receiver<WatchUpdate>) -> Result<Exit> {
        loop {
            self.reporter.heartbeat();
            let timeout = self.schedule.poll_timeout(self.now()).min(MAX_SLEEP);
            let first = smol::block_on(sources.wait(updates, timeout));
            if self.bgp.has_learned() {
                self.schedule.request_learn();
            }
            let more = std::iter::from_fn(|| updates.try_recv().ok()).take(MAX_MERGED);
            first.into_iter().chain(more).for_each(|update| self.apply_update(update));
            if let Some(exit) = sources.signal().filter(|exit| self.may_exit(*exit)) {
                if self.changed && self.store.is_complete() {
                    self.save();
                }
                self.commit();
                self.bgp.stop();
                return Ok(exit);
            }
            self.kernel_changed(sources.network()?, Scope::Network);
            self.kernel_changed(sources.table()?, Scope::Table);
            if let Some(work) = self.schedule.due(self.now()) {
                self.work(work);
                if sources.network.has_echo() {
                    self.kernel_changed(sources.network()?, Scope::Network);
                }
            }
        }
    }

    fn kernel_changed(&mut self, changed: bool, scope: Scope) {
        if changed {
            self.reporter.kernel_event();
            self.schedule.request_full(scope);
        }
    }

    /// Returns true unless `exit` is a reload with an invalid configuration: the valid one stays in force.
    fn may_exit(&self, exit: Exit) -> bool {
        match exit {
            Exit::Stopped => true,
            Exit::Reload => (self.validate_config)()
                .map_err(|e| log::error(format_args!("{e}; going on with the old configuration")))
                .is_ok(),
        }
    }

    fn now(&self) -> Duration {
        self.start.elapsed()
    }

    fn apply_update(&mut self, update: WatchUpdate) {
        let is_list = matches!(update.change, Change::Listed(_));
        self.reporter.watch_update(&update);
        let Daemon { store, reconciler, bgp, .. } = self;
        let mut affects_bgp = is_list;
        let delta = store.apply(update, |cluster, delta| {
            reconciler.remember(cluster, delta);
            affects_bgp |= bgp.affects_config(cluster, &delta.services);
        });
        if self.held && (self.store.is_complete() || !self.store.lost.is_empty()) {
            self.held = false;
            self.schedule.release();
        }
        if is_list {
            self.listed = snapshot::now();
        }
        if delta.is_empty() {
            return;
        }
        self.changed = true;
        affects_bgp |= delta.all || delta.nodes;
        if affects_bgp || self.bgp.affects_config(&self.store.cluster, &delta.services) {
            self.bgp.mark_dirty();
        }
        self.first_update.get_or_insert(self.start.elapsed());
        if !self.store.has_nodes() {
            return; // the pass begins when they arrive
        }
        if delta.all || is_list || self.reconciler.needs_full_pass() {
            self.schedule.request_full(Scope::All);
        } else {
            self.schedule.request_incremental();
        }
    }

    fn work(&mut self, work: Work) {
        let begun = self.now();
        self.schedule.begin(work, begun);
        if std::mem::take(&mut self.from_snapshot) && !self.store.is_complete() {
            log::info(format_args!("working from the snapshot until the API answers"));
        }
        let Daemon { reconciler, store, reporter, bgp, .. } = self;
        let cluster: &Cluster = &store.cluster;
        let from_api = work == Work::Incremental;
        let on_step = &mut |step: &Step<'_>, outcome: &_| reporter.step(step, outcome, from_api);
        let report = match work {
            Work::Save if self.file.is_unsettled() => return self.commit(),
            Work::Save => return self.save(),
            Work::Full(scope) => reconciler.full(cluster, scope, on_step),
            Work::Learn => match bgp.learned() {
                Some(learned) => reconciler.learn(cluster, learned, on_step),
                None => Ok(PassReport::default()),
            },
            Work::Audit => reconciler.audit(cluster, on_step),
            Work::Incremental => reconciler.incremental(cluster, on_step),
            Work::Drains if reconciler.remember_drains(cluster) => {
                reconciler.incremental(cluster, on_step)
            }
            Work::Drains => Ok(PassReport::default()),
        };
        self.schedule.set_audit_parts(self.reconciler.audit_parts(&self.store.cluster));
        let ok = report.as_ref().is_ok_and(PassReport::is_ok);
        if ok && self.reconciler.needs_full_pass() && !self.store.cluster.nodes.is_empty() {
            self.schedule.request_full(Scope::All);
        }
        let now = self.now();
        self.schedule.end(work, begun, now, ok, self.reconciler.is_draining());
        if self.reconciler.take_host_changed() {
            self.bgp.mark_dirty();
        }
        if let Some(local) = self.reconciler.local() {
            let updated =
                self.bgp.update_config(&self.store.cluster, local, self.reporter.status());
            self.reconciler.set_other_unmet(self.bgp.unmet());
            updated.unwrap_or_else(|e| log::error(format_args!("{e}")));
        }
        let includes_updates = match work {
            Work::Full(Scope::All | Scope::WithoutRealServers) => true,
            Work::Audit | Work::Incremental | Work::Save => true,
            Work::Full(Scope::Network | Scope::Table) | Work::Learn | Work::Drains => false,
        };
        let first_update = self.first_update.take_if(|_| ok && includes_updates);
        let lag = first_update.map(|first| now - first);
        self.reporter.pass(work, &report, &self.store, &self.reconciler, (now - begun, lag));
        if self.changed && self.store.is_complete() {
            self.schedule.request_save(self.now());
        }
    }

    /// Writes the snapshot. An error is a warning: the node works on without it.
    fn save(&mut self) {
        self.changed = false;
        let contact = self.reporter.api().contact();
        match self.file.save(&self.store, self.listed, &contact) {
            Ok(true) => self.schedule.request_commit(self.now()),
            Ok(false) => {}
            Err(e) => log::warn(format_args!("{e}")),
        }
    }

    /// Makes the written snapshot durable and puts it in place.
    fn commit(&mut self) {
        match self.file.settle() {
            Ok(true) => self.reporter.saved(),
            Ok(false) => {}
            Err(e) => log::warn(format_args!("{e}")),
        }
    }
}

/// The event sources other than the API: signals, the kernel, BGP.
struct Sources {
    signals: sys::Signals,
    network: Events,
    table: Option<Events>,
    /// Duplicates of the descriptors, to wait for.
    waits: Vec<Async<OwnedFd>>,
}

impl Sources {
    fn new(
        signals: sys::Signals,
        network: Events,
        table: Option<Events>,
        learned: &sys::EventFd,
    ) -> Result<Sources> {
        let table_fd = table.as_ref().map(Events::as_fd);
        let fds = [Some(signals.as_fd()), Some(network.as_fd()), Some(learned.as_fd()), table_fd];
        let wait = |fd: BorrowedFd<'_>| Async::new(fd.try_clone_to_owned()?);
        let waits = fds.into_iter().flatten().map(wait).collect::<std::io::Result<_>>();
        let waits = waits.doing(|| "preparing to wait for events")?;
        Ok(Sources { signals, network, table, waits })
    }

    /// Waits until an event arrives or `timeout` is over. Returns the API's update if that was the event.
    async fn wait(
        &self,
        updates: &Receiver<WatchUpdate>,
        timeout: Duration,
    ) -> Option<WatchUpdate> {
        let update = async { updates.recv().await.ok() };
        let others = future::poll_fn(|context| {
            let ready = |wait: &Async<OwnedFd>| wait.poll_readable(context).is_ready();
            if self.waits.iter().any(ready) { Poll::Ready(None) } else { Poll::Pending }
        });
        let timer = async {
            Timer::after(timeout).await;
            None
        };
        future::or(update, future::or(others, timer)).await
    }

    fn signal(&mut self) -> Option<Exit> {
        match self.signals.read_next()? {
            sys::RELOAD_SIGNAL => Some(Exit::Reload),
            _ => Some(Exit::Stopped),
        }
    }

    /// Returns true if the kernel's links, addresses or routes may have changed.
    fn network(&mut self) -> Result<bool> {
        self.network.read().doing(|| "reading the kernel's notifications about routes")
    }

    /// Returns true if nftables rules that concern us may have changed.
    fn table(&mut self) -> Result<bool> {
        let changed = self.table.as_mut().map_or(Ok(false), Events::read);
        changed.doing(|| "reading the kernel's notifications about nftables")
    }
}
