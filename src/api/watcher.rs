//! The driver that follows one kind: it lists, probes and watches as [`WatchState`] decides,
//! and passes each change on.
//!
//! [`Api::follow`] blocks in a plain thread per kind and never returns while the receiver lives;
//! [`Api::sync_once`] brings a store up to date once, for a command that runs a single pass.
//! `Watcher::run_action` executes an action, and its result goes to [`WatchState::handle_input`] and, as
//! [`WatchUpdate`], to the receiver. Requests are in `client` and `list`, the parsing of events in
//! `stream`.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::{
    Api,
    client::Timeouts,
    failure::{Cause, Failure},
    stream::{self, StreamEvent, StreamFault, WatchLines},
    watch_state::{SHORT_WATCH, Start, SyncPolicy, WatchAction, WatchInput, WatchState},
};
use crate::{
    error::{Error, Result},
    log,
    model::cluster::{Change, ClusterStore, Kind, WatchUpdate},
};

/// The stack, in bytes, that a thread needs for [`Api::follow`].
pub const STACK: usize = 256 << 10;
/// How often [`Api::sync_once`] waits for a server that asks for it (429), before it gives up.
const MAX_WAITS: usize = 3;
/// Number of failure texts that are remembered, so that each is logged only once.
const REMEMBERED_FAILURES: usize = 8;

impl Api {
    /// Follows one kind until `on_update` returns false, which means that the receiver is gone. It blocks:
    /// each kind has a thread of its own with a stack of [`STACK`] bytes, and all share this `Api`.
    ///
    /// `on_update` receives a full list first, or the changes since `start`; after that each change. It
    /// receives [`Change::UpToDate`] if nothing changed, so that the kind counts as up to date, and
    /// [`Change::Unavailable`] once for each failure with another text. Failures are logged here.
    /// `on_update` may block.
    pub fn follow(
        &self,
        kind: Kind,
        start: Start,
        policy: SyncPolicy,
        on_update: impl FnMut(WatchUpdate) -> bool,
    ) {
        let mut watcher = Watcher::new(self, kind, start, policy, on_update);
        watcher.logs = true;
        while watcher.has_receiver {
            match watcher.next_action() {
                WatchAction::Wait(wait) => thread::sleep(wait),
                action => watcher.run_action(action),
            }
        }
    }

    /// Brings `known` up to date once. If the last full lists are younger than `resync`, only the
    /// changes since then are requested; each kind has its own thread then, because a short watch
    /// takes a second. Otherwise all kinds are listed. Returns the errors; a kind that failed keeps
    /// its old objects.
    pub fn sync_once(
        &self,
        known: &mut ClusterStore,
        kinds: &[Kind],
        age: Option<Duration>,
        resync: Duration,
    ) -> Vec<Error> {
        if age.is_some_and(|age| age < resync) {
            return self.fetch_changes(known, kinds, age, resync);
        }
        let store = |kind, reading| {
            drop(known.apply(WatchUpdate { kind, change: Change::Listed(reading) }, |_, _| {}));
        };
        let failed = self.list_each(kinds, store).err();
        if failed.is_none() && self.checks_cluster() {
            // The uid of our Node is for the snapshot only, so a failure is ignored.
            let _ = self.probe();
        }
        failed.into_iter().collect()
    }

    /// Fetches the changes since the versions in `known`, all kinds at the same time.
    fn fetch_changes(
        &self,
        known: &mut ClusterStore,
        kinds: &[Kind],
        age: Option<Duration>,
        resync: Duration,
    ) -> Vec<Error> {
        let (to, news) = mpsc::sync_channel(64);
        thread::scope(|scope| {
            let mut errors = Vec::new();
            let mut threads = Vec::new();
            for &kind in kinds {
                let start = Start { version: known.versions.get(&kind).cloned(), age };
                let (policy, to) = (SyncPolicy { poll: None, resync }, to.clone());
                let run = move || {
                    let on_update = |news| to.send(news).is_ok();
                    Watcher::new(self, kind, start, policy, on_update).sync_once()
                };
                match thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run) {
                    Ok(thread) => threads.push(thread),
                    Err(e) => {
                        let doing = format!("starting the thread that watches {}", kind.plural());
                        errors.push(Error::new(doing, e));
                    }
                }
            }
            drop(to);
            for news in news {
                known.apply(news, |_, _| {});
            }
            for thread in threads {
                match thread.join() {
                    Ok(done) => errors.extend(done.err()),
                    Err(_) => errors.push(Error::new("watching the API", "a thread panicked")),
                }
            }
            errors
        })
    }
}

/// The follower of one kind.
struct Watcher<'a, T> {
    api: &'a Api,
    kind: Kind,
    state: WatchState,
    /// The zero of the state's times.
    started: Instant,
    /// Receives the changes; returns false if there is no receiver any more.
    on_update: T,
    /// False once `on_update` returned false.
    has_receiver: bool,
    /// True if failures are logged, false if they are returned as an error.
    logs: bool,
    /// The uid of this node's Node object in the cluster that is followed.
    uid: Option<String>,
    /// The distinct failures since the last success, oldest first: the action that failed, and the cause.
    failures: Vec<(String, String)>,
    /// The last request was answered with 429.
    throttled: bool,
}

impl<'a, T: FnMut(WatchUpdate) -> bool> Watcher<'a, T> {
    fn new(api: &'a Api, kind: Kind, mut start: Start, policy: SyncPolicy, on_update: T) -> Self {
        let uid = api.contact().uid;
        if uid.is_none() {
            // Without a uid the probe can't check that the version is of the same cluster.
            start = Start::default();
        }
        let seed = RandomState::new().hash_one(kind.name());
        Watcher {
            api,
            kind,
            state: WatchState::new(start, policy, seed),
            started: Instant::now(),
            on_update,
            has_receiver: true,
            logs: false,
            uid,
            failures: Vec::new(),
            throttled: false,
        }
    }

    /// Runs until all changes from before this call have arrived. Fails with the last failure as soon as
    /// the state machine wants to wait, except for up to [`MAX_WAITS`] waits after a 429.
    fn sync_once(mut self) -> Result<()> {
        let mut waits = 0;
        while !self.state.is_synced() && self.has_receiver {
            match self.next_action() {
                WatchAction::Wait(wait) if self.throttled && waits < MAX_WAITS => {
                    waits += 1;
                    thread::sleep(wait);
                }
                WatchAction::Wait(_) => {
                    let (doing, cause) = self.failures.pop().unwrap_or_else(|| {
                        let doing = format!("watching {}", self.kind.plural());
                        (doing, "the changes could not be fetched".to_owned())
                    });
                    return Err(Error::new(doing, cause));
                }
                action => self.run_action(action),
            }
        }
        Ok(())
    }

    fn next_action(&mut self) -> WatchAction {
        self.state.next_action(self.started.elapsed())
    }

    fn handle_input(&mut self, input: WatchInput) -> bool {
        self.state.handle_input(self.started.elapsed(), input)
    }

    fn run_action(&mut self, action: WatchAction) {
        self.throttled = false;
        match action {
            WatchAction::List => self.list(),
            WatchAction::Probe => self.probe(),
            WatchAction::Watch { version, seconds } => self.watch(&version, seconds),
            WatchAction::Wait(_) => {}
        }
    }

    fn list(&mut self) {
        let known = self.state.version().map(str::to_owned);
        let reading = match self.api.list(self.kind, &mut false, known.as_deref()) {
            Ok(reading) => reading,
            Err(failure) => return self.request_failed("listing", failure),
        };
        let Some(version) = reading.versions.get(&self.kind).cloned() else {
            let why = "the list has no metadata.resourceVersion, so no watch can start from it";
            return self.request_failed("listing", Failure::other(why));
        };
        let empty = reading.cluster.is_empty_of(self.kind) && reading.bad.is_empty();
        self.handle_input(if empty {
            WatchInput::ListedEmpty(version)
        } else {
            WatchInput::Listed(version)
        });
        self.send(Change::Listed(reading));
        if self.kind == Kind::Node && self.uid.is_none() && self.api.checks_cluster() {
            // The uid of our Node is for the snapshot only, so a failure is ignored.
            self.uid = self.api.probe().ok().and_then(|(uid, _)| uid);
        }
    }

    fn probe(&mut self) {
        match self.api.probe() {
            Ok((uid, version)) => {
                let same = self.uid.is_none() || self.uid == uid;
                if !same && self.logs {
                    log::warn(format_args!(
                        "the uid of this node's Node object changed: {} is another cluster than \
                         before, or this node was registered again; listing all {}",
                        self.api.client.server,
                        self.kind.plural()
                    ));
                }
                self.uid = uid.or(self.uid.take());
                self.handle_input(if same {
                    WatchInput::Probed(version)
                } else {
                    WatchInput::OtherCluster
                });
            }
            // This account may not get Nodes, so the cluster can't be checked: a list is needed.
            Err(Failure { cause: Cause::Status(400 | 403 | 404..=407 | 410), .. }) => {
                self.handle_input(WatchInput::OtherCluster);
            }
            Err(failure) => self.request_failed("watching", failure),
        }
    }

    fn watch(&mut self, version: &str, seconds: u64) {
        let (shape, path) = self.api.resource_path(self.kind);
        let path = watch_path(path, version, seconds);
        let Timeouts { idle, grace, item, .. } = self.api.client.timeouts;
        let whole = Duration::from_secs(seconds) + grace;
        let idle = idle.min(whole);
        let mut lines = match self.api.client.watch(&path, idle, whole) {
            Ok(body) => WatchLines::new(body, item),
            Err(failure) => return self.watch_refused(failure),
        };
        self.handle_input(WatchInput::Opened);
        if self.state.is_synced() && seconds > SHORT_WATCH {
            self.send_reached();
        }
        while self.has_receiver {
            let line = match lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => {
                    self.handle_input(WatchInput::Ended);
                    if self.state.is_synced() {
                        self.send_reached();
                    } else {
                        let why = "the watch ended too early to be complete; is there a proxy \
                                   before the API server?";
                        self.note_failure("watching", why);
                    }
                    return;
                }
                Err(fault) => return self.stream_failed(fault, idle),
            };
            self.api.traffic().events.increment();
            match stream::read(shape, line) {
                Ok(StreamEvent::Changed { name, now, version }) => {
                    if !self.handle_input(WatchInput::Event(version.clone())) {
                        return self.report_failure("watching", "events came out of order");
                    }
                    self.send(Change::Object { name, now, version });
                }
                Ok(StreamEvent::Bookmark(version)) => {
                    self.handle_input(WatchInput::Bookmark(version));
                    if self.state.is_synced() {
                        self.send_reached();
                    }
                }
                Ok(StreamEvent::Error { code, text }) => {
                    return self.watch_refused(Failure::event(code, text));
                }
                Err(why) => return self.invalid_event(&why),
            }
        }
    }

    /// Handles an error status, either in reply to the request or as an event of the open watch.
    fn watch_refused(&mut self, failure: Failure) {
        match failure.cause {
            Cause::Status(410) => self.version_expired(),
            _ if failure.future_version => self.version_expired(),
            // The server has another version of the API, or this account may only list. The next list
            // shows which.
            Cause::Status(403 | 404) => {
                self.handle_input(WatchInput::Expired);
                self.report_failure("watching", &failure.text);
            }
            _ => self.request_failed("watching", failure),
        }
    }

    /// Handles a version that the server does not have. This is normal operation and not reported as a
    /// failure, because the server keeps its history only for a limited time.
    fn version_expired(&mut self) {
        self.api.traffic().expired.increment();
        self.handle_input(WatchInput::Expired);
        if self.logs {
            log::info(format_args!(
                "the API server can't watch {} from the last resourceVersion; listing them",
                self.kind.plural()
            ));
        }
        self.note_failure("watching", "each resourceVersion had expired when the watch began");
    }

    /// Remembers a reason why [`Watcher::sync_once`] may fail. To [`Api::follow`] it is no failure.
    fn note_failure(&mut self, doing: &str, why: &str) {
        if !self.logs {
            self.failures.push((format!("{doing} {}", self.kind.plural()), why.to_owned()));
        }
    }

    /// Handles a stream that broke before the watch ended. `idle` is its timeout of a read.
    fn stream_failed(&mut self, fault: StreamFault, idle: Duration) {
        let error = match fault {
            StreamFault::Cut => io::ErrorKind::UnexpectedEof.into(),
            StreamFault::Io(e) => e,
            StreamFault::Invalid(why) => return self.invalid_event(&why),
        };
        let failure = Failure::from_body_error(error, "watch", &self.api.client.ca, idle);
        if failure.cause == Cause::Timeout {
            // No bookmark came. The probe finds out if the server is down; only then it is a failure.
            self.handle_input(WatchInput::TimedOut);
            return;
        }
        self.handle_input(WatchInput::Disconnected);
        self.report_failure("watching", &failure.text);
    }

    /// Handles something in the stream that is not an event of a watch.
    fn invalid_event(&mut self, why: &str) {
        self.handle_input(WatchInput::Invalid);
        self.report_failure("watching", why);
    }

    fn request_failed(&mut self, doing: &str, failure: Failure) {
        let Failure { cause, text, retry_after, .. } = failure;
        self.throttled = cause == Cause::Status(429);
        let answered = matches!(cause, Cause::Status(_));
        self.handle_input(WatchInput::Failed { answered, retry_after });
        self.report_failure(doing, &text);
    }

    /// Logs a failure and sends it as [`Change::Unavailable`], if it differs from those since the last success.
    fn report_failure(&mut self, doing: &str, cause: &str) {
        let doing = format!("{doing} {} from {}", self.kind.plural(), self.api.client.server);
        let text = format!("{doing}: {cause}");
        let failure = (doing, cause.to_owned());
        if self.failures.last() == Some(&failure) {
            return;
        }
        if self.logs && !self.failures.contains(&failure) {
            log::warn(format_args!("{text}; retrying"));
        }
        if self.failures.len() == REMEMBERED_FAILURES {
            self.failures.remove(0);
        }
        self.failures.push(failure);
        self.has_receiver &=
            (self.on_update)(WatchUpdate { kind: self.kind, change: Change::Unavailable(text) });
    }

    /// Sends that the kind is up to date at the current version.
    fn send_reached(&mut self) {
        if let Some(version) = self.state.version().map(str::to_owned) {
            self.send(Change::UpToDate(version));
        }
    }

    /// Sends a change. It ends a series of failures, unless only the lists succeed and each watch after
    /// them fails.
    fn send(&mut self, what: Change) {
        if !self.failures.is_empty() && self.state.watches_work() {
            self.failures.clear();
            if self.logs {
                log::info(format_args!("{} are followed again", self.kind.plural()));
            }
        }
        self.has_receiver &= (self.on_update)(WatchUpdate { kind: self.kind, change: what });
    }
}

/// Returns the path of a watch from `version` that the server ends after `seconds`. A short watch needs
/// no bookmarks: its end shows how far it came.
fn watch_path(resource: &str, version: &str, seconds: u64) -> String {
    let bookmarks = if seconds > SHORT_WATCH { "&allowWatchBookmarks=true" } else { "" };
    let version = super::list::percent_encode(version);
    format!("{resource}?watch=1&resourceVersion={version}&timeoutSeconds={seconds}{bookmarks}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_watch_requests_bookmarks_and_a_short_one_does_not() {
        let path = |seconds| watch_path("/api/v1/nodes", "7", seconds);
        let short = format!("/api/v1/nodes?watch=1&resourceVersion=7&timeoutSeconds={SHORT_WATCH}");
        assert_eq!(path(SHORT_WATCH), short);
        let long = SHORT_WATCH + 1;
        assert_eq!(
            path(long),
            format!(
                "/api/v1/nodes?watch=1&resourceVersion=7&timeoutSeconds={long}\
                 &allowWatchBookmarks=true"
            )
        );
    }
}
