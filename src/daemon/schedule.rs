//! The schedule: decides when to do what. Pure: time is passed in, and [`Schedule::poll_timeout`] returns
//! the one deadline.
//!
//! The first event is handled at once. Events that arrive during a pass, or within the same time after it,
//! are merged into the next pass. Under a storm of events the daemon therefore uses at most half of one
//! CPU. An incremental pass and learned routes are little work: they do not wait for as long as a full pass
//! took. A pass that failed is followed by full passes, with a growing pause between them.

use std::time::Duration;

use crate::kernel::Scope;

/// The shortest pause between two passes.
const MIN_PAUSE: Duration = Duration::from_millis(100);
/// The shortest pause after a pass over learned routes: a peer sends thousands of them in sequence.
const MIN_PAUSE_AFTER_BGP: Duration = Duration::from_millis(10);
/// The first and the longest pause after a failed pass; each further failure doubles the pause.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// The time between two looks at the connections of draining real servers.
const DRAIN_PERIOD: Duration = Duration::from_secs(5);
/// The time from the first change of the cluster to the first write of the snapshot.
const FIRST_SAVE: Duration = Duration::from_secs(10);
/// The shortest time between two writes of the snapshot: flash memory wears out.
const SAVE_PERIOD: Duration = Duration::from_secs(300);
/// The time from a write of the snapshot until it is made durable. By then the kernel has written it to
/// disk by itself (it writes pages that are older than 30 s). The first snapshot is made durable at once.
const COMMIT_DELAY: Duration = Duration::from_secs(40);

/// A piece of work for the daemon's loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Compare the kernel, as far as the scope reaches, with the desired state.
    Full(Scope),
    /// Compare the next part of everything with the kernel.
    Audit,
    /// Apply the difference that events made.
    Incremental,
    /// Apply the routes that BGP learned.
    Learn,
    /// Look at the connections of draining real servers.
    Drains,
    /// Write the snapshot, or make the written one durable.
    Save,
}

/// The work that is due, and when. Times are measured from the start of the daemon.
#[derive(Debug)]
pub(super) struct Schedule {
    /// The time between two audits.
    period: Duration,
    /// The number of parts of an audit.
    parts: u32,
    all: bool,
    network: bool,
    table: bool,
    incremental: bool,
    learn: bool,
    /// True if a pass over the network or the table is next, before more incremental work: that goes
    /// first, but not for ever.
    scan_next: bool,
    /// No full pass begins before this time.
    full_not_before: Duration,
    /// No incremental work begins before this time.
    incremental_not_before: Duration,
    audit: Duration,
    drains: Option<Duration>,
    save: Option<Duration>,
    saved: Option<Duration>,
    /// True if a snapshot was made durable in this run.
    committed: bool,
    /// The number of failed passes in sequence.
    failures: u32,
}

impl Schedule {
    /// Returns a schedule in which nothing but the first audit is due, after one `period`.
    pub(super) fn new(period: Duration) -> Schedule {
        Schedule {
            period,
            parts: 1,
            all: false,
            network: false,
            table: false,
            incremental: false,
            learn: false,
            scan_next: false,
            full_not_before: Duration::ZERO,
            incremental_not_before: Duration::ZERO,
            audit: period,
            drains: None,
            save: None,
            saved: None,
            committed: false,
            failures: 0,
        }
    }

    /// Lets no pass begin before `until`, unless [`Schedule::release`] is called.
    pub(super) fn hold(&mut self, until: Duration) {
        (self.full_not_before, self.incremental_not_before) = (until, until);
    }

    /// Lets passes begin at once.
    pub(super) fn release(&mut self) {
        self.hold(Duration::ZERO);
    }

    /// Makes a full pass due.
    pub(super) fn request_full(&mut self, scope: Scope) {
        match scope {
            Scope::All | Scope::WithoutRealServers => self.all = true,
            Scope::Network => self.network = true,
            Scope::Table => self.table = true,
        }
    }

    /// Sets the number of parts of an audit. They are spread over the period.
    pub(super) fn set_audit_parts(&mut self, parts: u32) {
        self.parts = parts.max(1);
    }

    /// Makes an incremental pass due.
    pub(super) fn request_incremental(&mut self) {
        self.incremental = true;
    }

    /// Makes a pass over learned routes due.
    pub(super) fn request_learn(&mut self) {
        self.learn = true;
    }

    /// Makes a write of the snapshot due: the cluster differs from it.
    pub(super) fn request_save(&mut self, now: Duration) {
        let due = self.saved.map_or(now + FIRST_SAVE, |saved| now.max(saved + SAVE_PERIOD));
        self.save.get_or_insert(due);
    }

    /// Makes it due to make the written snapshot durable.
    pub(super) fn request_commit(&mut self, now: Duration) {
        let first = !std::mem::replace(&mut self.committed, true);
        self.save = Some(if first { now } else { now + COMMIT_DELAY });
    }

    /// Returns the work to do now, or `None` if none is due.
    pub(super) fn due(&self, now: Duration) -> Option<Work> {
        if now < self.full_not_before {
            return self.incremental_work().filter(|_| self.incremental_not_before <= now);
        }
        let is_over = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        let scan_waits = self.scan_next && (self.network || self.table);
        let incremental = self.incremental_work().filter(|_| !scan_waits);
        if self.all {
            Some(Work::Full(Scope::All))
        } else if self.audit <= now {
            Some(Work::Audit)
        } else if incremental.is_some() {
            incremental
        } else if self.network {
            Some(Work::Full(Scope::Network))
        } else if self.table {
            Some(Work::Full(Scope::Table))
        } else if is_over(self.drains) {
            Some(Work::Drains)
        } else if is_over(self.save) {
            Some(Work::Save)
        } else {
            None
        }
    }

    /// Returns the time until work is due. It may change after every other call.
    pub(super) fn poll_timeout(&self, now: Duration) -> Duration {
        let incremental = self.incremental_work().map(|_| self.incremental_not_before);
        let at_once = self.all || incremental.is_some() || self.network || self.table;
        let next = [self.drains, self.save, at_once.then_some(Duration::ZERO)];
        let next = next.into_iter().flatten().fold(self.audit, Duration::min);
        let next = next.max(self.full_not_before);
        incremental.map_or(next, |at| at.min(next)).saturating_sub(now)
    }

    /// Returns the incremental work that waits. `None` if a full pass of everything is due: it comes
    /// first.
    fn incremental_work(&self) -> Option<Work> {
        match self {
            Schedule { all: true, .. } => None,
            Schedule { incremental: true, .. } => Some(Work::Incremental),
            Schedule { learn: true, .. } => Some(Work::Learn),
            _ => None,
        }
    }

    /// Records that `work` begins: a request from here on is a new one.
    pub(super) fn begin(&mut self, work: Work, now: Duration) {
        match work {
            Work::Full(Scope::All | Scope::WithoutRealServers) => {
                (self.all, self.network, self.table) = (false, false, false);
                self.incremental = false;
                self.audit = now + self.period / self.parts;
            }
            Work::Full(Scope::Network) => self.network = false,
            Work::Full(Scope::Table) => self.table = false,
            Work::Audit => self.audit = now + self.period / self.parts,
            Work::Incremental => self.incremental = false,
            Work::Learn => self.learn = false,
            Work::Drains => self.drains = None,
            Work::Save => (self.save, self.saved) = (None, Some(now)),
        }
    }

    /// Records that the `work` that began at `begun` has ended. `ok` is true if the kernel now holds the
    /// desired state as far as the work reached; `draining` is true if real servers wait for their
    /// connections to end.
    pub(super) fn end(
        &mut self,
        work: Work,
        begun: Duration,
        now: Duration,
        ok: bool,
        draining: bool,
    ) {
        let took = now.saturating_sub(begun);
        let least = if work == Work::Learn { MIN_PAUSE_AFTER_BGP } else { MIN_PAUSE };
        self.full_not_before = self.full_not_before.max(now + took.max(least));
        self.scan_next = matches!(work, Work::Incremental | Work::Learn);
        self.incremental_not_before =
            now + if self.scan_next { took.max(least) } else { MIN_PAUSE };
        if ok {
            self.failures = 0;
        } else {
            let pause = BACK_OFF.0 * (1 << self.failures.min(10));
            self.failures += 1;
            self.audit = self.audit.min(now + pause.min(BACK_OFF.1));
            // An event may remove the cause (for example a link that is up again), so it waits less.
            let after = MIN_PAUSE * (1 << self.failures.min(10));
            self.full_not_before = self.full_not_before.max(now + after.min(BACK_OFF.0));
            self.incremental_not_before = self.full_not_before;
        }
        self.drains = draining.then_some(self.drains.unwrap_or(now + DRAIN_PERIOD));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn schedule() -> Schedule {
        Schedule::new(Duration::from_secs(60))
    }

    fn work(schedule: &mut Schedule, now: Duration, takes: Duration, well: bool) -> Option<Work> {
        let work = schedule.due(now)?;
        schedule.begin(work, now);
        schedule.end(work, now, now + takes, well, false);
        Some(work)
    }

    #[test]
    fn the_first_event_is_handled_at_once_and_a_burst_is_merged() {
        let mut schedule = schedule();
        assert_eq!(schedule.due(ms(5)), None);
        schedule.request_incremental();
        assert_eq!(
            (schedule.due(ms(5)), schedule.poll_timeout(ms(5))),
            (Some(Work::Incremental), ms(0))
        );
        assert_eq!(work(&mut schedule, ms(5), ms(3), true), Some(Work::Incremental));
        schedule.request_incremental();
        schedule.request_incremental();
        assert_eq!((schedule.due(ms(9)), schedule.poll_timeout(ms(9))), (None, ms(99)));
        assert_eq!(work(&mut schedule, ms(108), ms(3), true), Some(Work::Incremental));
        assert_eq!(schedule.due(ms(500)), None);
    }

    #[test]
    fn a_changed_service_does_not_wait_for_as_long_as_a_full_pass_took() {
        let mut schedule = schedule();
        schedule.request_full(Scope::All);
        work(&mut schedule, ms(0), ms(8000), true);
        schedule.request_incremental();
        schedule.request_full(Scope::Network);
        assert_eq!((schedule.due(ms(8000)), schedule.poll_timeout(ms(8000))), (None, ms(100)));
        assert_eq!(work(&mut schedule, ms(8100), ms(3), true), Some(Work::Incremental));
        assert_eq!((schedule.due(ms(8110)), schedule.poll_timeout(ms(8110))), (None, ms(7890)));
        schedule.request_incremental();
        assert_eq!(schedule.poll_timeout(ms(8110)), ms(93));
        schedule.request_full(Scope::All);
        assert_eq!(schedule.poll_timeout(ms(8300)), ms(7700), "the full pass includes it");
        assert_eq!(schedule.due(ms(16_000)), Some(Work::Full(Scope::All)));
    }

    #[test]
    fn a_storm_of_events_uses_at_most_half_of_one_cpu() {
        let mut schedule = schedule();
        let (mut now, mut busy) = (ms(0), ms(0));
        while now < ms(60_000) {
            schedule.request_full(Scope::Network);
            if work(&mut schedule, now, ms(400), true).is_some() {
                now += ms(400);
                busy += ms(400);
            }
            now += ms(1);
        }
        assert!(busy <= ms(30_400) && busy > ms(29_000), "{busy:?}");
    }

    #[test]
    fn a_storm_of_incremental_work_does_not_starve_other_work() {
        let mut schedule = schedule();
        let mut now = ms(0);
        let mut done = Vec::new();
        while now < ms(1000) {
            schedule.request_incremental();
            schedule.request_learn();
            schedule.request_full(Scope::Network);
            schedule.request_full(Scope::Table);
            done.extend(work(&mut schedule, now, ms(2), true));
            now += ms(2);
        }
        let count = |of: Work| done.iter().filter(|work| **work == of).count();
        assert!(count(Work::Incremental) > 3, "{done:?}");
        assert!(count(Work::Full(Scope::Network)) > 3, "{done:?}");
    }

    #[test]
    fn routes_learned_in_sequence_are_merged_for_10_milliseconds() {
        let mut schedule = schedule();
        schedule.request_learn();
        assert_eq!(work(&mut schedule, ms(5), ms(3), true), Some(Work::Learn));
        schedule.request_learn();
        assert_eq!((schedule.due(ms(9)), schedule.poll_timeout(ms(9))), (None, ms(9)));
        assert_eq!(work(&mut schedule, ms(28), ms(60), true), Some(Work::Learn));
        schedule.request_learn();
        assert_eq!(schedule.poll_timeout(ms(88)), ms(60));
        schedule.request_full(Scope::All);
        assert_eq!(work(&mut schedule, ms(148), ms(9), true), Some(Work::Full(Scope::All)));
        assert_eq!(schedule.poll_timeout(ms(157)), ms(100), "a request after begin is a new one");
    }

    #[test]
    fn a_full_pass_of_everything_includes_the_smaller_ones() {
        let mut schedule = schedule();
        schedule.request_full(Scope::Table);
        schedule.request_full(Scope::Network);
        schedule.request_incremental();
        schedule.request_full(Scope::All);
        assert_eq!(work(&mut schedule, ms(0), ms(9), true), Some(Work::Full(Scope::All)));
        assert_eq!(schedule.due(ms(1000)), None);
    }

    #[test]
    fn an_audit_is_due_one_period_after_the_last_full_pass() {
        let mut schedule = schedule();
        schedule.request_full(Scope::All);
        work(&mut schedule, ms(30_000), ms(9), true);
        assert_eq!(schedule.poll_timeout(ms(31_000)), ms(59_000));
        assert_eq!(schedule.due(ms(90_000)), Some(Work::Audit));
    }

    #[test]
    fn an_audit_in_parts_is_spread_over_the_period() {
        let (mut schedule, mut now, mut audits) = (schedule(), ms(0), Vec::new());
        schedule.set_audit_parts(3);
        while audits.len() < 3 {
            now += schedule.poll_timeout(now);
            audits.extend(work(&mut schedule, now, ms(5), true).map(|what| (what, now.as_secs())));
        }
        assert_eq!(audits, [60, 80, 100].map(|at| (Work::Audit, at)));
    }

    #[test]
    fn failed_passes_are_repeated_with_a_growing_pause_of_at_most_30_seconds() {
        let mut schedule = schedule();
        schedule.request_full(Scope::All);
        let (mut now, mut pauses) = (ms(0), Vec::new());
        for what in [Work::Full(Scope::All)].into_iter().chain([Work::Audit; 7]) {
            assert_eq!(work(&mut schedule, now, ms(0), false), Some(what));
            pauses.push(schedule.poll_timeout(now).as_secs());
            now += schedule.poll_timeout(now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        schedule.request_full(Scope::All);
        assert!(schedule.poll_timeout(now) <= ms(1000), "an event may remove the cause");
        let mut fresh = Schedule::new(ms(60_000));
        fresh.request_full(Scope::Network);
        work(&mut fresh, ms(0), ms(5), false);
        fresh.request_full(Scope::Network);
        assert!(fresh.poll_timeout(ms(5)) <= ms(200), "soon after the first failure");
        now += ms(1000);
        assert!(work(&mut schedule, now, ms(0), true).is_some());
        assert_eq!(schedule.poll_timeout(now), ms(60_000));
    }

    #[test]
    fn drains_are_checked_every_5_seconds_while_real_servers_drain() {
        let mut schedule = schedule();
        schedule.request_incremental();
        schedule.begin(Work::Incremental, ms(0));
        schedule.end(Work::Incremental, ms(0), ms(1), true, true);
        assert_eq!(schedule.poll_timeout(ms(1)), ms(5000));
        schedule.begin(Work::Incremental, ms(3000));
        schedule.end(Work::Incremental, ms(3000), ms(3001), true, true);
        assert_eq!(schedule.due(ms(5001)), Some(Work::Drains), "other work does not delay it");
        schedule.begin(Work::Drains, ms(5001));
        schedule.end(Work::Drains, ms(5001), ms(5002), true, false);
        assert_eq!(schedule.due(ms(20_000)), None);
    }

    #[test]
    fn a_held_pass_begins_on_release_or_when_the_time_is_over() {
        let mut schedule = schedule();
        schedule.request_full(Scope::All);
        schedule.hold(ms(3000));
        assert_eq!((schedule.due(ms(10)), schedule.poll_timeout(ms(10))), (None, ms(2990)));
        assert!(schedule.due(ms(3000)).is_some());
        schedule.release();
        assert!(schedule.due(ms(20)).is_some());
    }

    #[test]
    fn the_snapshot_is_written_at_most_every_300_seconds() {
        let mut schedule = schedule();
        schedule.request_full(Scope::All);
        work(&mut schedule, ms(0), ms(0), true);
        schedule.request_save(ms(1000));
        schedule.request_save(ms(9000));
        assert_eq!(schedule.due(ms(11_000)), Some(Work::Save));
        schedule.begin(Work::Save, ms(11_000));
        schedule.request_commit(ms(11_000));
        assert_eq!(schedule.due(ms(11_000)), Some(Work::Save), "the first snapshot at once");
        schedule.begin(Work::Save, ms(11_000));
        schedule.request_save(ms(12_000));
        schedule.request_full(Scope::All);
        work(&mut schedule, ms(300_000), ms(0), true);
        assert_eq!(schedule.due(ms(310_999)), None);
        assert_eq!(schedule.due(ms(311_000)), Some(Work::Save));
        schedule.begin(Work::Save, ms(311_000));
        schedule.request_commit(ms(311_000));
        assert_eq!(
            (schedule.due(ms(350_000)), schedule.due(ms(351_000))),
            (None, Some(Work::Save))
        );
    }
}
