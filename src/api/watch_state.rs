//! The state machine that keeps one kind in step with the API server: it decides on the next action
//! from the inputs so far. Pure: the time and the seed are passed in. [`watcher`](super::watcher) drives it
//! and sends the requests.
//!
//! A list gives a resourceVersion, and a watch continues from there. A watch that breaks leaves the
//! version as it is, and the next watch continues from it. A new list is made only if there is no
//! version, if the server no longer has it (410 Gone), if events are invalid or out of order, and once
//! per resync period. Before a watch is resumed on a server that may be another one (after a snapshot
//! or a lost connection), a cheap probe compares the cluster and its resourceVersion with ours. Without
//! it, a watch from a version newer than the server's would block forever.

use std::time::Duration;

use crate::rng::Rng;

/// The wait after the first failure; it doubles with each further one.
const MIN_BACKOFF: Duration = Duration::from_secs(1);
/// The longest wait after a failure, and the most that is honoured of a server's Retry-After. A watch
/// that stayed open for this long resets the counts of failures.
pub(super) const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// The range, in seconds, from which the length of a long watch is drawn: five to ten minutes as in
/// client-go, so that the nodes do not reconnect all at once.
const WATCH_SECONDS: (u64, u64) = (300, 600);
/// Length, in seconds, of a watch that only fetches the changes so far: the shortest that the API
/// accepts.
pub(super) const SHORT_WATCH: u64 = 1;

/// The intervals at which a kind is brought up to date.
#[derive(Clone, Copy, Debug)]
pub struct SyncPolicy {
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
pub(super) enum WatchAction {
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
pub(super) enum WatchInput {
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
enum WatchStep {
    List(ListReason),
    Probe,
    Watch,
}

/// The state between two inputs. Each request starts from `Waiting`, and its result leads back there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WatchPhase {
    /// Waits for a time, and then takes a step; the time is in the past if the step is due at once. If
    /// the resync period is over by then, the step becomes a list.
    Waiting { until: Duration, then: WatchStep },
    /// Waits for a list. [`WatchInput::Listed`] and [`WatchInput::ListedEmpty`] lead to a watch, after the poll
    /// interval if there is one. [`WatchInput::Failed`] leads to the same list after a backoff.
    Listing(ListReason),
    /// Waits for a probe. [`WatchInput::Probed`] leads to a watch, or to a list if the server's version is
    /// older than ours; [`WatchInput::OtherCluster`] leads to a list. [`WatchInput::Failed`] leads to another
    /// probe after a backoff.
    Probing,
    /// Waits for the events and the end of a watch. [`WatchInput::Ended`] leads to the next watch, after the
    /// poll interval if there is one, or after a backoff if the watch was empty and far too short.
    /// [`WatchInput::Expired`], [`WatchInput::Invalid`] and an event out of order lead to a list: at once, and with
    /// a backoff if that repeats. [`WatchInput::Disconnected`] leads to a probe after a backoff, and
    /// [`WatchInput::TimedOut`] to a probe, or to a list if the watch was a short one. [`WatchInput::Failed`] leads
    /// to another watch after a backoff, with a probe before it if the server did not answer.
    Watching {
        /// Time of the request, later that of [`WatchInput::Opened`].
        since: Duration,
        /// The requested length in seconds.
        seconds: u64,
        /// True if an event or a bookmark arrived.
        received: bool,
    },
}

/// The state machine of one kind.
#[derive(Debug)]
pub(super) struct WatchState {
    policy: SyncPolicy,
    state: WatchPhase,
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
    rng: Rng,
}

impl WatchState {
    /// Creates the state machine at time 0. `seed` is any number that differs between nodes and kinds.
    pub(super) fn new(start: Start, policy: SyncPolicy, seed: u64) -> WatchState {
        let resync_at = start.age.map_or(Duration::ZERO, |age| policy.resync.saturating_sub(age));
        let then = match start.version {
            Some(_) => WatchStep::Probe,
            None => WatchStep::List(ListReason::Due),
        };
        WatchState {
            policy,
            state: WatchPhase::Waiting { until: Duration::ZERO, then },
            version: start.version,
            resync_at,
            synced: false,
            failures: 0,
            expirations: 0,
            empty_lists: 0,
            rng: Rng(seed | 1),
        }
    }

    /// Returns true if all changes from before this run have arrived.
    pub(super) fn is_synced(&self) -> bool {
        self.synced
    }

    /// Returns true unless the last watch was refused or its version had expired.
    pub(super) fn watches_work(&self) -> bool {
        self.expirations == 0
    }

    /// Returns the resourceVersion that was reached. `None` before the first list if there was no
    /// snapshot.
    pub(super) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Returns the action that is due now. Times are measured from any fixed zero. The value may change after each
    /// call of [`WatchState::handle_input`], and when the time of a [`WatchAction::Wait`] is over.
    pub(super) fn next_action(&mut self, now: Duration) -> WatchAction {
        let step = match self.state {
            WatchPhase::Waiting { until, .. } if now < until => {
                return WatchAction::Wait(until - now);
            }
            _ => self.step(),
        };
        let version = self.version.clone().filter(|_| now < self.resync_at);
        match (step, version) {
            (WatchStep::List(reason), _) => {
                self.state = WatchPhase::Listing(reason);
                WatchAction::List
            }
            (_, None) => {
                self.state = WatchPhase::Listing(ListReason::Due);
                WatchAction::List
            }
            (WatchStep::Probe, Some(_)) => {
                self.state = WatchPhase::Probing;
                WatchAction::Probe
            }
            (WatchStep::Watch, Some(version)) => {
                let seconds = self.watch_seconds(now);
                self.state = WatchPhase::Watching { since: now, seconds, received: false };
                WatchAction::Watch { version, seconds }
            }
        }
    }

    /// Returns the request that the state waits for, or with which the wait ends.
    fn step(&self) -> WatchStep {
        match self.state {
            WatchPhase::Waiting { then, .. } => then,
            WatchPhase::Listing(reason) => WatchStep::List(reason),
            WatchPhase::Probing => WatchStep::Probe,
            WatchPhase::Watching { .. } => WatchStep::Watch,
        }
    }

    /// Returns the length of a watch that starts now. It ends before the next resync.
    fn watch_seconds(&mut self, now: Duration) -> u64 {
        // From a snapshot's version a short watch comes first: its end proves that we are synced.
        if self.policy.poll.is_some() || !self.synced {
            return SHORT_WATCH;
        }
        let left = (self.resync_at - now).as_secs().max(SHORT_WATCH);
        left.min(WATCH_SECONDS.0 + self.random_up_to(WATCH_SECONDS.1 - WATCH_SECONDS.0))
    }

    /// Processes an input. Returns false if an open watch must be closed.
    pub(super) fn handle_input(&mut self, now: Duration, input: WatchInput) -> bool {
        match input {
            WatchInput::Listed(version) => {
                self.empty_lists = 0;
                self.listed(now, version, self.policy.resync);
            }
            WatchInput::ListedEmpty(version) => {
                self.empty_lists = self.empty_lists.saturating_add(1);
                let pause = self.backoff(self.empty_lists);
                self.listed(now, version, pause.min(self.policy.resync));
            }
            WatchInput::Probed(version) if !self.is_older(&version) => {
                self.wait(now, WatchStep::Watch);
            }
            WatchInput::Probed(_) | WatchInput::OtherCluster => {
                self.wait(now, WatchStep::List(ListReason::Required));
            }
            WatchInput::Opened => {
                if let WatchPhase::Watching { since, .. } = &mut self.state {
                    *since = now;
                }
                return true;
            }
            // Versions only grow: either events are out of order, or the server went back in time.
            WatchInput::Event(version) if self.is_older(&version) => self.relist(now),
            WatchInput::Event(version) => {
                self.version = Some(version);
                self.received(now);
                return true;
            }
            WatchInput::Bookmark(version) => {
                // A bookmark may be older than the last event; it is then ignored.
                if !self.is_older(&version) {
                    self.version = Some(version);
                }
                self.received(now);
                return true;
            }
            WatchInput::Ended => self.ended(now),
            WatchInput::Expired | WatchInput::Invalid => self.relist(now),
            WatchInput::TimedOut => match self.state {
                WatchPhase::Watching { seconds: ..=SHORT_WATCH, .. } => self.relist(now),
                _ if self.failures > 0 => self.back_off(now, None, WatchStep::Probe),
                _ => self.wait(now, WatchStep::Probe),
            },
            WatchInput::Disconnected => {
                self.reset_if_long_lived(now);
                self.back_off(now, None, WatchStep::Probe);
            }
            WatchInput::Failed { answered, retry_after } => {
                let then = match self.step() {
                    WatchStep::Watch if !answered => WatchStep::Probe,
                    step => step,
                };
                self.back_off(now, retry_after, then);
            }
        }
        false
    }

    fn wait(&mut self, until: Duration, then: WatchStep) {
        self.state = WatchPhase::Waiting { until, then };
    }

    /// Continues from the version of a list; the next list is due after `again`.
    fn listed(&mut self, now: Duration, version: String, again: Duration) {
        if self.state != WatchPhase::Listing(ListReason::Required) {
            self.failures = 0;
        }
        self.version = Some(version);
        self.synced = true;
        self.resync_at = now + again;
        self.wait(now + self.policy.poll.unwrap_or_default(), WatchStep::Watch);
    }

    fn ended(&mut self, now: Duration) {
        let WatchPhase::Watching { since, seconds, received } = self.state else { return };
        // An empty watch that ended before half of its time was ended by a proxy: it proves nothing.
        if !received && (now - since).as_millis() * 2 < u128::from(seconds) * 1000 {
            self.reset_if_long_lived(now);
            self.back_off(now, None, WatchStep::Watch);
            return;
        }
        (self.failures, self.expirations, self.synced) = (0, 0, true);
        self.wait(now + self.policy.poll.unwrap_or_default(), WatchStep::Watch);
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
        if let WatchPhase::Watching { received, .. } = &mut self.state {
            *received = true;
        }
        self.failures = 0;
        self.reset_if_long_lived(now);
    }

    fn reset_if_long_lived(&mut self, now: Duration) {
        if let WatchPhase::Watching { since, .. } = self.state
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
        self.wait(now + pause, WatchStep::List(ListReason::Required));
    }

    /// Waits after a failure, at least for `retry_after` but no longer than [`MAX_BACKOFF`].
    fn back_off(&mut self, now: Duration, retry_after: Option<Duration>, then: WatchStep) {
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

    /// Returns a pseudo-random number from 0 to `most`, both included.
    fn random_up_to(&mut self, most: u64) -> u64 {
        self.rng.below(most as usize + 1) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const WATCH: SyncPolicy = SyncPolicy { poll: None, resync: HOUR };
    const POLL: SyncPolicy = SyncPolicy { poll: Some(Duration::from_secs(45)), resync: HOUR };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn no_answer() -> WatchInput {
        WatchInput::Failed { answered: false, retry_after: None }
    }

    fn status(retry_after: Option<u64>) -> WatchInput {
        WatchInput::Failed { answered: true, retry_after: retry_after.map(s) }
    }

    fn event(version: u64) -> WatchInput {
        WatchInput::Event(version.to_string())
    }

    /// Returns a state whose list, of version 10, arrived at second 0.
    fn listed(policy: SyncPolicy) -> WatchState {
        let mut f = WatchState::new(Start::default(), policy, 7);
        assert_eq!(f.next_action(s(0)), WatchAction::List);
        f.handle_input(s(0), WatchInput::Listed("10".into()));
        f
    }

    /// Returns a state whose watch from version 10 was opened at second 0.
    fn watching() -> WatchState {
        let mut f = listed(WATCH);
        assert!(matches!(f.next_action(s(0)), WatchAction::Watch { .. }));
        assert!(f.handle_input(s(0), WatchInput::Opened));
        f
    }

    fn from_snapshot(age: Option<Duration>) -> WatchState {
        WatchState::new(Start { version: Some("10".into()), age }, WATCH, 7)
    }

    /// Returns how long the machine waits, and its action after that.
    fn after_wait(f: &mut WatchState, now: Duration) -> (Duration, WatchAction) {
        match f.next_action(now) {
            WatchAction::Wait(wait) => {
                let then = f.next_action(now + wait);
                assert!(!matches!(then, WatchAction::Wait(_)));
                (wait, then)
            }
            action => (Duration::ZERO, action),
        }
    }

    fn version(action: &WatchAction) -> &str {
        match action {
            WatchAction::Watch { version, .. } => version,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn after_a_list_a_watch_of_five_to_ten_minutes_starts_from_its_version() {
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut f = WatchState::new(Start::default(), WATCH, seed * 1_000_003);
            assert_eq!(f.next_action(s(0)), WatchAction::List);
            assert!(!f.is_synced());
            f.handle_input(s(1), WatchInput::Listed("10".into()));
            assert!(f.is_synced());
            let WatchAction::Watch { version, seconds } = f.next_action(s(1)) else { panic!() };
            assert_eq!(version, "10");
            assert!((300..=600).contains(&seconds), "{seconds}");
            lengths.insert(seconds);
        }
        assert!(lengths.len() > 20, "lengths are random: {lengths:?}");
    }

    #[test]
    fn after_a_normal_end_the_next_watch_starts_at_once_from_the_last_version() {
        let mut f = watching();
        assert!(f.handle_input(s(10), event(12)));
        assert!(f.handle_input(s(70), WatchInput::Bookmark("20".into())));
        assert!(f.handle_input(s(71), WatchInput::Bookmark("15".into())), "a bookmark may be old");
        f.handle_input(s(400), WatchInput::Ended);
        assert_eq!(version(&f.next_action(s(400))), "20");
    }

    #[test]
    fn a_full_list_is_made_once_per_resync_period_and_the_watch_before_ends_in_time() {
        let mut f = watching();
        f.handle_input(s(3500), WatchInput::Ended);
        assert_eq!(
            f.next_action(s(3500)),
            WatchAction::Watch { version: "10".into(), seconds: 100 }
        );
        f.handle_input(s(3500), WatchInput::Opened);
        f.handle_input(s(3600), WatchInput::Ended);
        assert_eq!(f.next_action(s(3600)), WatchAction::List);
        f.handle_input(s(3600), WatchInput::Listed("99".into()));
        assert_eq!(version(&f.next_action(s(3600))), "99");
    }

    #[test]
    fn after_a_snapshot_come_a_probe_and_a_short_watch_before_the_long_one() {
        let mut f = from_snapshot(Some(s(60)));
        assert_eq!(f.next_action(s(0)), WatchAction::Probe);
        f.handle_input(s(0), WatchInput::Probed("10".into()));
        assert_eq!(f.next_action(s(0)), WatchAction::Watch { version: "10".into(), seconds: 1 });
        f.handle_input(s(0), WatchInput::Opened);
        assert!(f.handle_input(s(0), event(11)) && !f.is_synced());
        f.handle_input(s(1), WatchInput::Ended);
        assert!(f.is_synced());
        assert!(matches!(f.next_action(s(1)), WatchAction::Watch { seconds: 300.., .. }));
    }

    #[test]
    fn a_snapshot_older_than_the_resync_period_or_of_unknown_age_is_followed_by_a_list() {
        for age in [None, Some(HOUR), Some(HOUR * 100)] {
            assert_eq!(from_snapshot(age).next_action(s(0)), WatchAction::List, "{age:?}");
        }
        let mut f = from_snapshot(Some(s(3000)));
        assert_eq!(f.next_action(s(599)), WatchAction::Probe);
        assert_eq!(f.next_action(s(600)), WatchAction::List);
    }

    #[test]
    fn a_probe_that_finds_another_cluster_or_an_older_version_leads_to_a_list() {
        for input in [WatchInput::OtherCluster, WatchInput::Probed("9".into())] {
            let mut f = from_snapshot(Some(s(60)));
            assert_eq!(f.next_action(s(0)), WatchAction::Probe);
            f.handle_input(s(0), input);
            assert_eq!(f.next_action(s(0)), WatchAction::List);
            f.handle_input(s(0), WatchInput::Listed("3".into()));
            assert_eq!(version(&f.next_action(s(0))), "3");
        }
    }

    #[test]
    fn after_a_lost_connection_a_probe_comes_within_a_second_and_the_watch_resumes() {
        let mut f = watching();
        f.handle_input(s(5), event(12));
        f.handle_input(s(6), WatchInput::Disconnected);
        let (wait, then) = after_wait(&mut f, s(6));
        assert!(wait <= s(1) && wait >= s(1) / 2, "{wait:?}");
        assert_eq!(then, WatchAction::Probe);
        f.handle_input(s(8), WatchInput::Probed("40".into()));
        assert_eq!(version(&f.next_action(s(8))), "12", "the missed events are replayed");
    }

    #[test]
    fn the_backoff_doubles_up_to_thirty_seconds_and_an_event_resets_it() {
        let mut f = watching();
        let mut now = s(0);
        for nth in 0..12 {
            f.handle_input(now, no_answer());
            let (wait, then) = after_wait(&mut f, now);
            let whole = s(1 << nth.min(5)).min(MAX_BACKOFF);
            assert!(wait >= whole / 2 && wait <= whole, "{nth}: {wait:?}");
            assert_eq!(then, WatchAction::Probe);
            now += wait;
        }
        f.handle_input(now, WatchInput::Probed("10".into()));
        assert!(matches!(f.next_action(now), WatchAction::Watch { .. }));
        f.handle_input(now, WatchInput::Opened);
        f.handle_input(now, event(11));
        f.handle_input(now, WatchInput::Disconnected);
        assert!(after_wait(&mut f, now).0 <= s(1));
    }

    #[test]
    fn failed_lists_back_off_and_a_successful_list_resets_the_backoff() {
        let mut f = WatchState::new(Start::default(), WATCH, 3);
        for _ in 0..8 {
            f.handle_input(s(0), no_answer());
            assert_eq!(after_wait(&mut f, s(0)).1, WatchAction::List);
        }
        f.handle_input(s(60), WatchInput::Listed("5".into()));
        assert_eq!(version(&f.next_action(s(60))), "5");
        f.handle_input(s(60), status(None));
        assert!(after_wait(&mut f, s(60)).0 <= s(1));
    }

    #[test]
    fn a_long_lived_watch_resets_the_backoff() {
        let mut f = watching();
        for _ in 0..6 {
            f.handle_input(s(0), status(None));
        }
        assert!(matches!(f.next_action(s(40)), WatchAction::Watch { .. }));
        f.handle_input(s(40), WatchInput::Opened);
        f.handle_input(s(80), WatchInput::Disconnected);
        assert!(after_wait(&mut f, s(80)).0 <= s(1));
    }

    #[test]
    fn retry_after_is_honoured_up_to_the_longest_backoff() {
        let mut f = watching();
        f.handle_input(s(0), status(Some(7)));
        let (wait, then) = after_wait(&mut f, s(0));
        assert_eq!((wait, version(&then)), (s(7), "10"), "no probe is needed after an answer");
        f.handle_input(s(7), status(Some(86_400)));
        assert_eq!(after_wait(&mut f, s(7)).0, MAX_BACKOFF);
    }

    #[test]
    fn an_expired_version_leads_to_a_list_at_once() {
        let mut f = watching();
        f.handle_input(s(0), WatchInput::Expired);
        assert_eq!(f.next_action(s(0)), WatchAction::List);
    }

    #[test]
    fn lists_after_repeatedly_expired_versions_back_off() {
        let mut f = watching();
        let (mut now, mut waits) = (s(0), Vec::new());
        for version in 11..20 {
            f.handle_input(now, WatchInput::Expired);
            let (wait, then) = after_wait(&mut f, now);
            assert_eq!(then, WatchAction::List);
            waits.push(wait);
            now += wait;
            f.handle_input(now, WatchInput::Listed(version.to_string()));
            assert!(matches!(f.next_action(now), WatchAction::Watch { .. }));
            f.handle_input(now, WatchInput::Opened);
            f.handle_input(now, event(version)); // an event alone does not reset the count
        }
        assert_eq!(waits[0], Duration::ZERO);
        assert!(waits[1] >= s(1) / 2 && waits[8] >= s(15), "{waits:?}");
        f.handle_input(now + s(40), WatchInput::Expired);
        assert_eq!(
            f.next_action(now + s(40)),
            WatchAction::List,
            "a watch of 40 s resets the count"
        );
    }

    #[test]
    fn an_empty_list_is_repeated_with_backoff_and_watched_from_in_between() {
        let (mut f, mut now) = (listed(WATCH), s(3600));
        for nth in 0..8 {
            assert_eq!(f.next_action(now), WatchAction::List);
            f.handle_input(now, WatchInput::ListedEmpty("12".into()));
            let WatchAction::Watch { seconds, .. } = f.next_action(now) else { panic!() };
            assert!(seconds <= 1 << nth && seconds <= 30, "{seconds}");
            f.handle_input(now, WatchInput::Opened);
            now += s(1 << nth).min(MAX_BACKOFF);
            f.handle_input(now, WatchInput::Ended);
        }
        assert_eq!(f.next_action(now), WatchAction::List);
        f.handle_input(now, WatchInput::Listed("13".into()));
        assert!(matches!(f.next_action(now), WatchAction::Watch { seconds: 300.., .. }));
    }

    #[test]
    fn events_out_of_order_and_invalid_events_lead_to_a_list() {
        for input in [event(9), WatchInput::Invalid] {
            let mut f = watching();
            assert!(!f.handle_input(s(5), input), "the watch must be closed");
            assert_eq!(f.next_action(s(5)), WatchAction::List);
        }
        let mut f = watching();
        assert!(
            f.handle_input(s(5), event(11)) && f.handle_input(s(5), event(11)),
            "a repeated event is harmless"
        );
    }

    #[test]
    fn a_watch_that_times_out_is_probed_without_backoff() {
        let mut f = watching();
        f.handle_input(s(150), WatchInput::TimedOut);
        assert_eq!(f.next_action(s(150)), WatchAction::Probe);
        f.handle_input(s(150), WatchInput::Probed("10".into()));
        assert_eq!(version(&f.next_action(s(150))), "10");
    }

    #[test]
    fn a_short_watch_that_times_out_is_replaced_by_a_list() {
        let mut f = listed(POLL);
        assert_eq!(f.next_action(s(45)), WatchAction::Watch { version: "10".into(), seconds: 1 });
        f.handle_input(s(45), WatchInput::Opened);
        f.handle_input(s(76), WatchInput::TimedOut);
        assert_eq!(f.next_action(s(76)), WatchAction::List);
    }

    #[test]
    fn polling_alternates_short_watches_and_waits() {
        let mut f = listed(POLL);
        for poll in 1..70 {
            let now = s(46 * poll - 1);
            assert!(matches!(f.next_action(now - s(1)), WatchAction::Wait(_)));
            let version = (poll + 9).to_string();
            assert_eq!(f.next_action(now), WatchAction::Watch { version, seconds: 1 });
            f.handle_input(now, WatchInput::Opened);
            f.handle_input(now, event(poll + 10));
            f.handle_input(now + s(1), WatchInput::Ended);
            assert_eq!(f.next_action(now + s(1)), WatchAction::Wait(s(45)));
        }
        f.handle_input(s(3300), no_answer());
        assert!(after_wait(&mut f, s(3300)).0 <= s(1), "a failure does not wait for the next poll");
        assert_eq!(f.next_action(s(3601)), WatchAction::List);
    }

    #[test]
    fn an_empty_watch_that_ends_at_once_backs_off() {
        let mut f = watching();
        let mut now = s(0);
        for _ in 0..10 {
            f.handle_input(now, WatchInput::Ended);
            let (wait, then) = after_wait(&mut f, now);
            assert!(wait > Duration::ZERO && matches!(then, WatchAction::Watch { .. }));
            now += wait;
            f.handle_input(now, WatchInput::Opened);
        }
        assert!(now >= s(60), "{now:?}");
    }

    #[test]
    fn versions_that_are_not_numbers_are_accepted_in_any_order() {
        let mut f = watching();
        assert!(
            f.handle_input(s(1), WatchInput::Event("abc".into()))
                && f.handle_input(s(1), WatchInput::Event("abb".into()))
        );
        f.handle_input(s(500), WatchInput::Ended);
        assert_eq!(version(&f.next_action(s(500))), "abb");
    }

    /// Returns a random fault as the result of an action.
    fn random_fault(dice: &mut Rng, action: &WatchAction) -> WatchInput {
        match (dice.below(9), action) {
            (0, _) => no_answer(),
            (1, _) => status(Some(dice.below(100) as u64)),
            (2, _) => status(None),
            (4, WatchAction::List) => WatchInput::ListedEmpty(dice.below(1000).to_string()),
            (3, WatchAction::List) => WatchInput::Listed(dice.below(1000).to_string()),
            (3 | 4, WatchAction::Probe) => WatchInput::OtherCluster,
            (3, WatchAction::Watch { .. }) => WatchInput::Expired,
            (4, WatchAction::Watch { .. }) => WatchInput::Disconnected,
            (5, WatchAction::Watch { .. }) => WatchInput::TimedOut,
            (6, WatchAction::Watch { .. }) => WatchInput::Invalid,
            (7, WatchAction::Watch { .. }) => event(dice.below(1000) as u64),
            (8, WatchAction::Watch { .. }) => WatchInput::Ended,
            _ => no_answer(),
        }
    }

    #[test]
    fn under_random_faults_waits_stay_bounded_and_watching_resumes_soon_after() {
        let mut dice = Rng(99);
        let mut longest = [s(0); 2];
        for seed in 0..300u64 {
            let policy = if seed.is_multiple_of(2) { WATCH } else { POLL };
            let most = policy.poll.unwrap_or_default().max(MAX_BACKOFF);
            let start = if seed.is_multiple_of(3) { Start::default() } else { from(seed) };
            let (mut f, mut now) = (WatchState::new(start, policy, seed), s(0));
            for _ in 0..dice.below(300) {
                match f.next_action(now) {
                    WatchAction::Wait(wait) => {
                        assert!(wait <= most && wait > Duration::ZERO, "{wait:?} in {f:?}");
                        now += wait;
                    }
                    action => {
                        if matches!(action, WatchAction::Watch { .. }) && dice.below(2) == 0 {
                            f.handle_input(now, WatchInput::Opened);
                        }
                        now += Duration::from_millis(dice.below(200_000) as u64);
                        f.handle_input(now, random_fault(&mut dice, &action));
                    }
                }
            }
            // From here on every request succeeds. At most one wait is left from the faults; a list at
            // its end is followed by the poll interval, if there is one.
            let begin = now;
            loop {
                match f.next_action(now) {
                    WatchAction::Watch { .. } => break,
                    WatchAction::Wait(wait) => now += wait,
                    WatchAction::Probe => {
                        assert!(!f.handle_input(now, WatchInput::Probed("1000".into())));
                    }
                    WatchAction::List => {
                        assert!(!f.handle_input(now, WatchInput::Listed("1000".into())));
                    }
                }
                assert!(now - begin <= most + policy.poll.unwrap_or_default(), "{f:?}");
            }
            let longest = &mut longest[usize::from(policy.poll.is_some())];
            *longest = (*longest).max(now - begin);
        }
        // The bounds are near to the longest times: 30 s without polls, 45 s + 45 s with them.
        assert!(longest[0] > s(25) && longest[1] > s(60), "{longest:?}");
    }

    fn from(seed: u64) -> Start {
        Start { version: Some("500".into()), age: (!seed.is_multiple_of(5)).then(|| s(seed)) }
    }
}
