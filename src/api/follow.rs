//! Following the kinds, one plain thread for each: [`watch`](super::watch) says what to do next, this
//! does it, and what comes is told piece by piece.

use std::{
    hash::{BuildHasher, RandomState},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use super::{
    Api,
    client::Patience,
    failure::{Failure, Why},
    stream::{self, Event, Lines},
    watch::{Action, Following, Heard, Rhythm, SHORT, Start},
};
use crate::{
    cluster::{Kind, Known, News, What},
    error::{Error, Result},
    log,
};

/// What a thread that follows needs of stack.
pub const STACK: usize = 256 << 10;
/// How often a pass waits for a server that asks to.
const WAITS: usize = 3;
/// Texts of failures that are remembered, so that each is logged once.
const TEXTS: usize = 8;

impl Api {
    /// Follows one kind until `tell` says, with false, that nobody listens any more. It blocks: each
    /// kind has a thread of its own ([`STACK`] is enough), and all share this `Api`.
    ///
    /// `tell` hears a full list first, or from a snapshot's version what changed since; then each
    /// change. It hears [`What::Reached`] where nothing changed, so that the kind counts as heard of,
    /// and [`What::Lost`] once for each failure with another text; failures are logged here. It may
    /// block.
    pub fn follow(&self, kind: Kind, start: Start, rhythm: Rhythm, tell: impl FnMut(News) -> bool) {
        let mut follower = Follower::new(self, kind, start, rhythm, tell);
        follower.logs = true;
        while follower.listens {
            match follower.next() {
                Action::Wait(wait) => thread::sleep(wait),
                action => follower.take(action),
            }
        }
    }

    /// Brings what is known up to date, once. Where the last full lists are of less than `resync`
    /// ago, only what changed since is asked for, the kinds side by side, since each takes a second;
    /// else all is listed. What fails is told, and leaves its kind as it was.
    pub fn catch_up(
        &self,
        known: &mut Known,
        kinds: &[Kind],
        age: Option<Duration>,
        resync: Duration,
    ) -> Vec<Error> {
        if age.is_some_and(|age| age < resync) {
            return self.changes(known, kinds, age, resync);
        }
        let hear = |kind, reading| drop(known.hear(News { kind, what: What::All(reading) }));
        let failed = self.each(kinds, hear).err();
        if failed.is_none() && self.is_expected() {
            // For the snapshot; where it fails, there is a next time.
            let _ = self.probe();
        }
        failed.into_iter().collect()
    }

    fn changes(
        &self,
        known: &mut Known,
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
                let (rhythm, to) = (Rhythm { poll: None, resync }, to.clone());
                let run = move || {
                    let tell = |news| to.send(news).is_ok();
                    Follower::new(self, kind, start, rhythm, tell).once()
                };
                match thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run) {
                    Ok(thread) => threads.push(thread),
                    Err(e) => errors.push(Error::new("starting a thread", e)),
                }
            }
            drop(to);
            for news in news {
                known.hear(news);
            }
            for thread in threads {
                match thread.join() {
                    Ok(done) => errors.extend(done.err()),
                    Err(_) => errors.push(Error::new("following the API", "a thread broke down")),
                }
            }
            errors
        })
    }
}

struct Follower<'a, T> {
    api: &'a Api,
    kind: Kind,
    following: Following,
    begun: Instant,
    tell: T,
    /// Somebody does.
    listens: bool,
    /// Failures are logged.
    logs: bool,
    /// The uid of our own Node in the cluster that is followed.
    uid: Option<String>,
    /// What went wrong since the last good news, in other words each time.
    failures: Vec<String>,
    /// The server asked to wait.
    told_to_wait: bool,
}

impl<'a, T: FnMut(News) -> bool> Follower<'a, T> {
    fn new(api: &'a Api, kind: Kind, mut start: Start, rhythm: Rhythm, tell: T) -> Self {
        let uid = api.contact().uid;
        if uid.is_none() {
            // Nobody could tell whether it is of the same cluster.
            start = Start::default();
        }
        let seed = RandomState::new().hash_one(kind.name());
        Follower {
            api,
            kind,
            following: Following::new(start, rhythm, seed),
            begun: Instant::now(),
            tell,
            listens: true,
            logs: false,
            uid,
            failures: Vec::new(),
            told_to_wait: false,
        }
    }

    /// Until all is known that happened before, or something failed.
    fn once(mut self) -> Result<()> {
        let mut waits = 0;
        while !self.following.is_current() && self.listens {
            match self.next() {
                Action::Wait(wait) if self.told_to_wait && waits < WAITS => {
                    waits += 1;
                    thread::sleep(wait);
                }
                Action::Wait(_) => {
                    let doing = format!("following {}", self.kind.plural());
                    let text = self.failures.pop().unwrap_or_default();
                    let (doing, text) = match text.split_once(": ") {
                        Some((doing, text)) => (doing.to_owned(), text.to_owned()),
                        None => (doing, text),
                    };
                    return Err(Error::new(doing, text));
                }
                action => self.take(action),
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Action {
        self.following.next(self.begun.elapsed())
    }

    fn hear(&mut self, heard: Heard) -> bool {
        self.following.hear(self.begun.elapsed(), heard)
    }

    fn take(&mut self, action: Action) {
        self.told_to_wait = false;
        match action {
            Action::List => self.list(),
            Action::Probe => self.probe(),
            Action::Watch { version, seconds } => self.watch(&version, seconds),
            Action::Wait(_) => {}
        }
    }

    fn list(&mut self) {
        let known = self.following.version().map(str::to_owned);
        let reading = match self.api.list(self.kind, &mut false, known.as_deref()) {
            Ok(reading) => reading,
            Err(failure) => return self.failed("listing", failure),
        };
        let Some(version) = reading.versions.get(&self.kind).cloned() else {
            let why = "the list has no resourceVersion, so it can't be followed";
            return self.failed("listing", Failure::other(why));
        };
        let empty = reading.cluster.is_empty_of(self.kind) && reading.bad.is_empty();
        self.hear(if empty { Heard::Empty(version) } else { Heard::Listed(version) });
        self.good(What::All(reading));
        if self.kind == Kind::Node && self.uid.is_none() && self.api.is_expected() {
            // For the snapshot; where it fails, there is a next time.
            self.uid = self.api.probe().ok().and_then(|(uid, _)| uid);
        }
    }

    fn probe(&mut self) {
        match self.api.probe() {
            Ok((uid, version)) => {
                let same = self.uid.is_none() || self.uid == uid;
                if !same && self.logs {
                    log::warn(format_args!(
                        "{} is another cluster than before, or this node is a new one in it; all {} \
                         are listed again",
                        self.api.client.server,
                        self.kind.plural()
                    ));
                }
                self.uid = uid.or(self.uid.take());
                self.hear(if same { Heard::Probed(version) } else { Heard::Foreign });
            }
            // We may not ask: only a list helps.
            Err(Failure { why: Why::Status(400 | 403 | 404..=407 | 410), .. }) => {
                self.hear(Heard::Foreign);
            }
            Err(failure) => self.failed("watching", failure),
        }
    }

    fn watch(&mut self, version: &str, seconds: u64) {
        let (shape, path) = self.api.place(self.kind);
        let bookmarks = if seconds > SHORT { "&allowWatchBookmarks=true" } else { "" };
        let version = super::list::encode(version);
        let path =
            format!("{path}?watch=1&resourceVersion={version}&timeoutSeconds={seconds}{bookmarks}");
        let Patience { quiet, beyond, item, .. } = self.api.client.patience;
        let whole = Duration::from_secs(seconds) + beyond;
        let mut lines = match self.api.client.watch(&path, quiet.min(whole), whole) {
            Ok(body) => Lines::new(body, item),
            Err(failure) => return self.refused(failure),
        };
        self.hear(Heard::Opened);
        if self.following.is_current() && seconds > SHORT {
            self.reached();
        }
        while self.listens {
            let line = match lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => {
                    self.hear(Heard::Ended);
                    if self.following.is_current() {
                        self.reached();
                    } else {
                        self.ends("watching", "it ended too soon to tell");
                    }
                    return;
                }
                Err(fault) => return self.broken(fault),
            };
            self.api.traffic().events.one();
            match stream::read(shape, line) {
                Ok(Event::One { name, now, version }) => {
                    if !self.hear(Heard::Event(version.clone())) {
                        return self.lost("watching", "events came out of order");
                    }
                    self.good(What::One { name, now, version });
                }
                Ok(Event::Bookmark(version)) => {
                    self.hear(Heard::Bookmark(version));
                    if self.following.is_current() {
                        self.reached();
                    }
                }
                Ok(Event::Error { code, text }) => {
                    return self.refused(Failure::new(Why::Status(code), text));
                }
                Err(why) => return self.broken(stream::Fault::Wrong(why)),
            }
        }
    }

    /// A watch that the server does not want to begin, or to go on with.
    fn refused(&mut self, failure: Failure) {
        let future = failure.text.contains("Too large resource version");
        match failure.why {
            Why::Status(410) => self.gone(),
            Why::Status(504) if future => self.gone(),
            // Another version of the API, or the right to list alone: a list finds out.
            Why::Status(403 | 404) => {
                self.hear(Heard::Gone);
                self.lost("watching", &failure.text);
            }
            _ => self.failed("watching", failure),
        }
    }

    /// No failure: the server keeps what happened only for so long.
    fn gone(&mut self) {
        self.api.traffic().gone.one();
        self.hear(Heard::Gone);
        if self.logs {
            log::info(format_args!(
                "the API server can't go on from where {} were; listing them",
                self.kind.plural()
            ));
        }
        self.ends("following", "their versions are gone at once");
    }

    /// What is no failure to one who goes on, but may be why one who asks once learns nothing.
    fn ends(&mut self, doing: &str, why: &str) {
        if !self.logs {
            self.failures.push(format!("{doing} {}: {why}", self.kind.plural()));
        }
    }

    fn broken(&mut self, fault: stream::Fault) {
        let failure = match fault {
            stream::Fault::Cut => {
                Failure::cut(std::io::ErrorKind::UnexpectedEof.into(), "watch", "")
            }
            stream::Fault::Io(e) => Failure::cut(e, "watch", &self.api.client.ca),
            stream::Fault::Wrong(why) => {
                self.hear(Heard::Garbage);
                return self.lost("watching", &why);
            }
        };
        if failure.why == Why::Silent {
            // The probe finds out whether that means something.
            self.hear(Heard::Silent);
            return;
        }
        self.hear(Heard::Cut);
        self.lost("watching", &failure.text);
    }

    fn failed(&mut self, doing: &str, failure: Failure) {
        let Failure { why, text, retry_after } = failure;
        self.told_to_wait = why == Why::Status(429);
        self.hear(Heard::Failed { answered: matches!(why, Why::Status(_)), retry_after });
        self.lost(doing, &text);
    }

    fn lost(&mut self, doing: &str, text: &str) {
        let (what, server) = (self.kind.plural(), &self.api.client.server);
        let text = format!("{doing} {what} from {server}: {text}");
        if self.failures.last() == Some(&text) {
            return;
        }
        if self.logs && !self.failures.contains(&text) {
            log::warn(format_args!("{text}; it is tried again"));
        }
        if self.failures.len() == TEXTS {
            self.failures.remove(0);
        }
        self.failures.push(text.clone());
        self.listens &= (self.tell)(News { kind: self.kind, what: What::Lost(text) });
    }

    fn reached(&mut self) {
        if let Some(version) = self.following.version().map(str::to_owned) {
            self.good(What::Reached(version));
        }
    }

    fn good(&mut self, what: What) {
        // With lists alone, between watches that fail, nothing is well yet.
        if !self.failures.is_empty() && self.following.is_well() {
            self.failures.clear();
            if self.logs {
                log::info(format_args!("{} are followed again", self.kind.plural()));
            }
        }
        self.listens &= (self.tell)(News { kind: self.kind, what });
    }
}
