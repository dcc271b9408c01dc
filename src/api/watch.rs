//! The state machine that keeps one kind in step with the API server: it decides what to do next from
//! the inputs so far. Pure: the time and the seed are passed in. [`follow`](super::follow) drives it
//! and sends the requests.
//!
//! A list gives a resourceVersion, and a watch continues from there. A watch that breaks leaves the
//! version as it is, and the next watch continues from it. A new list is made only if there is no
//! version, if the server no longer has it (410 Gone), if events are invalid or out of order, and once
//! per resync period. Before a watch is resumed on a server that may be another one (after a snapshot
//! or a lost connection), a cheap probe compares the cluster and its resourceVersion with ours. Without
//! it, a watch from a version newer than the server's would block forever.

use std::time::Duration;

/// The wait after the first failure; it doubles with each further one.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// The longest wait after a failure, and the most that is honoured of a server's Retry-After. A watch
/// that stayed open for this long resets the counts of failures.
pub const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// The range, in seconds, from which the length of a long watch is drawn: five to ten minutes as in
/// client-go, so that the nodes do not reconnect all at once.
const WATCH_SECONDS: (u64, u64) = (300, 600);
/// Length, in seconds, of a watch that only fetches the changes so far: the shortest that the API
/// accepts.
pub const SHORT_WATCH: u64 = 1;

/// The intervals at which a kind is brought up to date.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// Interval between short watches that fetch the changes so far. `None` if one watch stays open
    /// instead.
    pub poll: Option<Duration>,
    /// The longest time between two full lists.
    pub resync: Duration,
}

/// The point that a snapshot had reached. The default means that there is no snapshot.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The kind's resourceVersion in the snapshot.
    pub version: Option<String>,
    /// Time since the kind was last listed in full. `None` if that is not known; the kind is then listed.
    pub age: Option<Duration>,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// List all objects.
    List,
    /// Check that the server is of the same cluster, and not an older state of it.
    Probe,
    /// Watch from a version on.
    Watch {
        /// The resourceVersion to start from.
        version: String,
        /// The length of the watch that is requested from the server (timeoutSeconds).
        seconds: u64,
    },
    /// Do nothing for this long, then ask again.
    Wait(Duration),
}

/// The result of an action, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A full list, with its resourceVersion.
    Listed(String),
    /// A list without objects, with its resourceVersion. No kind is ever empty in a working cluster, so
    /// it is listed again soon.
    ListedEmpty(String),
    /// The probe found the same cluster, with this current resourceVersion.
    Probed(String),
    /// The probe found another cluster, or could not find out.
    OtherCluster,
    /// The server accepted the watch.
    Opened,
    /// An object changed; the resourceVersion after that change.
    Event(String),
    /// Nothing changed up to this resourceVersion.
    Bookmark(String),
    /// The watch ended normally.
    Ended,
    /// The server no longer has the version, or does not have it yet, or refuses to watch.
    Expired,
    /// The connection broke in the middle of a watch.
    Disconnected,
    /// The watch brought nothing for longer than allowed.
    TimedOut,
    /// The stream was not a watch, or an event was invalid.
    Invalid,
    /// A request got no answer, or an error.
    Failed {
        /// True if the server answered.
        answered: bool,
        /// The wait that the server asked for (Retry-After).
        retry_after: Option<Duration>,
    },
}

/// The reason for a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListReason {
    /// There is no version yet, or the resync period is over. A successful list proves that the server
    /// works and resets the count of failures.
    Due,
    /// The version can't be continued from. A successful list does not reset the count of failures,
    /// because the watch after it may fail again.
    Required,
}

/// A request to send next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    List(ListReason),
    Probe,
    Watch,
}

/// The state between two inputs. Each request starts from `Waiting`, and its result leads back there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Waits for a time, and then takes a step; the time is in the past if the step is due at once. If
    /// the resync period is over by then, the step becomes a list.
    Waiting { until: Duration, then: Step },
    /// Waits for a list. [`Input::Listed`] and [`Input::ListedEmpty`] lead to a watch, after the poll
    /// interval if there is one. [`Input::Failed`] leads to the same list after a backoff.
    Listing(ListReason),
    /// Waits for a probe. [`Input::Probed`] leads to a watch, or to a list if the server's version is
    /// older than ours; [`Input::OtherCluster`] leads to a list. [`Input::Failed`] leads to another
    /// probe after a backoff.
    Probing,
    /// Waits for the events and the end of a watch. [`Input::Ended`] leads to the next watch, after the
    /// poll interval if there is one, or after a backoff if the watch was empty and far too short.
    /// [`Input::Expired`], [`Input::Invalid`] and an event out of order lead to a list: at once, and with
    /// a backoff if that repeats. [`Input::Disconnected`] leads to a probe after a backoff, and
    /// [`Input::TimedOut`] to a probe, or to a list if the watch was a short one. [`Input::Failed`] leads
    /// to another watch after a backoff, with a probe before it if the server did not answer.
    Watching {
        /// Time of the request, later that of [`Input::Opened`].
        since: Duration,
        /// The requested length in seconds.
        seconds: u64,
        /// True if an event or a bookmark arrived.
        received: bool,
    },
}

/// The state machine of one kind.
#[derive(Debug)]
pub struct WatchState {
    rhythm: Rhythm,
    state: State,
    /// `None` before the first list if there was no snapshot.
    version: Option<String>,
    /// A full list is due from this time on, whatever the inputs are.
    resync_at: Duration,
    /// All changes from before this run have arrived. It never becomes false again (client-go's
    /// HasSynced).
    synced: bool,
    /// Failures in a row, without a success between them.
    failures: u32,
    /// Versions that expired in a row, without a long-lived watch between them.
    expirations: u32,
    /// Empty lists in a row.
    empty_lists: u32,
    rng: u64,
}

impl WatchState {
    /// Creates the state machine at time 0. `seed` is any number that differs between nodes and kinds.
    pub fn new(start: Start, rhythm: Rhythm, seed: u64) -> WatchState {
        let resync_at = start.age.map_or(Duration::ZERO, |age| rhythm.resync.saturating_sub(age));
        let then = match start.version {
            Some(_) => Step::Probe,
            None => Step::List(ListReason::Due),
        };
        WatchState {
            rhythm,
            state: State::Waiting { until: Duration::ZERO, then },
            version: start.version,
            resync_at,
            synced: false,
            failures: 0,
            expirations: 0,
            empty_lists: 0,
            rng: seed | 1,
        }
    }

    /// Returns true if all changes from before this run have arrived.
    pub fn is_synced(&self) -> bool {
        self.synced
    }

    /// Returns true unless the last watch was refused or its version had expired.
    pub fn watches_work(&self) -> bool {
        self.expirations == 0
    }

    /// Returns the resourceVersion that was reached. `None` before the first list if there was no
    /// snapshot.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Returns what to do now. Times are measured from any fixed zero. The value may change after each
    /// call of [`WatchState::handle_input`], and when the time of a [`Action::Wait`] is over.
    pub fn next_action(&mut self, now: Duration) -> Action {
        let step = match self.state {
            State::Waiting { until, .. } if now < until => return Action::Wait(until - now),
            _ => self.step(),
        };
        let version = self.version.clone().filter(|_| now < self.resync_at);
        match (step, version) {
            (Step::List(reason), _) => {
                self.state = State::Listing(reason);
                Action::List
            }
            (_, None) => {
                self.state = State::Listing(ListReason::Due);
                Action::List
            }
            (Step::Probe, Some(_)) => {
                self.state = State::Probing;
                Action::Probe
            }
            (Step::Watch, Some(version)) => {
                let seconds = self.watch_seconds(now);
                self.state = State::Watching { since: now, seconds, received: false };
                Action::Watch { version, seconds }
            }
        }
    }

    /// Returns the request that the state waits for, or with which the wait ends.
    fn step(&self) -> Step {
        match self.state {
            State::Waiting { then, .. } => then,
            State::Listing(reason) => Step::List(reason),
            State::Probing => Step::Probe,
            State::Watching { .. } => Step::Watch,
        }
    }

    /// Returns the length of a watch that starts now. It ends before the next resync.
    fn watch_seconds(&mut self, now: Duration) -> u64 {
        // From a snapshot's version a short watch comes first: its end proves that we are synced.
        if self.rhythm.poll.is_some() || !self.synced {
            return SHORT_WATCH;
        }
        let left = (self.resync_at - now).as_secs().max(SHORT_WATCH);
        left.min(WATCH_SECONDS.0 + self.random_up_to(WATCH_SECONDS.1 - WATCH_SECONDS.0))
    }

    /// Processes an input. Returns false if an open watch must be closed.
    pub fn handle_input(&mut self, now: Duration, input: Input) -> bool {
        match input {
            Input::Listed(version) => {
                self.empty_lists = 0;
                self.listed(now, version, self.rhythm.resync);
            }
            Input::ListedEmpty(version) => {
                self.empty_lists = self.empty_lists.saturating_add(1);
                let pause = self.backoff(self.empty_lists);
                self.listed(now, version, pause.min(self.rhythm.resync));
            }
            Input::Probed(version) if !self.is_older(&version) => self.wait(now, Step::Watch),
            Input::Probed(_) | Input::OtherCluster => {
                self.wait(now, Step::List(ListReason::Required));
            }
            Input::Opened => {
                if let State::Watching { since, .. } = &mut self.state {
                    *since = now;
                }
                return true;
            }
            // Versions only grow: either events are out of order, or the server went back in time.
            Input::Event(version) if self.is_older(&version) => self.relist(now),
            Input::Event(version) => {
                self.version = Some(version);
                self.received(now);
                return true;
            }
            Input::Bookmark(version) => {
                // A bookmark may be older than the last event; it is then ignored.
                if !self.is_older(&version) {
                    self.version = Some(version);
                }
                self.received(now);
                return true;
            }
            Input::Ended => self.ended(now),
            Input::Expired | Input::Invalid => self.relist(now),
            Input::TimedOut => match self.state {
                State::Watching { seconds: ..=SHORT_WATCH, .. } => self.relist(now),
                _ if self.failures > 0 => self.back_off(now, None, Step::Probe),
                _ => self.wait(now, Step::Probe),
            },
            Input::Disconnected => {
                self.reset_if_long_lived(now);
                self.back_off(now, None, Step::Probe);
            }
            Input::Failed { answered, retry_after } => {
                let then = match self.step() {
                    Step::Watch if !answered => Step::Probe,
                    step => step,
                };
                self.back_off(now, retry_after, then);
            }
        }
        false
    }

    fn wait(&mut self, until: Duration, then: Step) {
        self.state = State::Waiting { until, then };
    }

    /// Continues from the version of a list; the next list is due after `again`.
    fn listed(&mut self, now: Duration, version: String, again: Duration) {
        if self.state != State::Listing(ListReason::Required) {
            self.failures = 0;
        }
        self.version = Some(version);
        self.synced = true;
        self.resync_at = now + again;
        self.wait(now + self.rhythm.poll.unwrap_or_default(), Step::Watch);
    }

    fn ended(&mut self, now: Duration) {
        let State::Watching { since, seconds, received } = self.state else { return };
        // An empty watch that ended before half of its time was ended by a proxy: it proves nothing.
        if !received && (now - since).as_millis() * 2 < u128::from(seconds) * 1000 {
            self.reset_if_long_lived(now);
            self.back_off(now, None, Step::Watch);
            return;
        }
        (self.failures, self.expirations, self.synced) = (0, 0, true);
        self.wait(now + self.rhythm.poll.unwrap_or_default(), Step::Watch);
    }

    /// Returns true if `version` is older than ours. Versions that are not numbers can't be compared;
    /// they count as newer.
    fn is_older(&self, version: &str) -> bool {
        let number = |text: &str| text.parse::<u64>().ok();
        match (number(version), self.version.as_deref().and_then(number)) {
            (Some(new), Some(known)) => new < known,
            _ => false,
        }
    }

    /// Records that the open watch brought something.
    fn received(&mut self, now: Duration) {
        if let State::Watching { received, .. } = &mut self.state {
            *received = true;
        }
        self.failures = 0;
        self.reset_if_long_lived(now);
    }

    fn reset_if_long_lived(&mut self, now: Duration) {
        if let State::Watching { since, .. } = self.state
            && now - since >= MAX_BACKOFF
        {
            (self.failures, self.expirations) = (0, 0);
        }
    }

    /// Requires a list: at once the first time, and with a growing wait if watches keep failing right
    /// after it.
    fn relist(&mut self, now: Duration) {
        self.reset_if_long_lived(now);
        self.expirations = self.expirations.saturating_add(1);
        let pause = match self.expirations {
            1 => Duration::ZERO,
            nth => self.backoff(nth - 1),
        };
        self.wait(now + pause, Step::List(ListReason::Required));
    }

    /// Waits after a failure, at least for `retry_after` but no longer than [`MAX_BACKOFF`].
    fn back_off(&mut self, now: Duration, retry_after: Option<Duration>, then: Step) {
        self.failures = self.failures.saturating_add(1);
        let pause = self.backoff(self.failures);
        self.wait(now + pause.max(retry_after.unwrap_or_default()).min(MAX_BACKOFF), then);
    }

    /// Returns the wait after the `nth` failure in a row, from 1: a random time between half of the
    /// doubled wait and all of it.
    fn backoff(&mut self, nth: u32) -> Duration {
        let whole = MIN_BACKOFF * (1 << (nth - 1).min(5));
        let half = whole.min(MAX_BACKOFF) / 2;
        half + Duration::from_millis(self.random_up_to(half.as_millis() as u64))
    }

    /// Returns a pseudo-random number from 0 to `most`, both included (xorshift64*).
    fn random_up_to(&mut self, most: u64) -> u64 {
        self.rng ^= self.rng >> 12;
        self.rng ^= self.rng << 25;
        self.rng ^= self.rng >> 27;
        (self.rng.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % (most + 1)
    }
}

#[cfg(test)]
mod tests;
