//! When to do what: pure, with the time passed in and one deadline coming out.
//!
//! The first event is handled at once. What comes while a pass runs, and for as long again as it took,
//! is joined into the next one, so that a storm costs no more than half of a processor. What
//! follows from some objects or from routes that were learned is little work, and does not wait for as
//! long as a look at everything took. After a pass that went wrong everything is looked at again, later each time.

use std::time::Duration;

use crate::kernel::Scope;

/// The least pause between two passes.
const PAUSE: Duration = Duration::from_millis(100);
/// The same after routes were learned: a peer tells thousands of them one after the other.
const LESSON: Duration = Duration::from_millis(10);
/// The first pause after a pass that went wrong, and the longest.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often the connections of draining real servers are looked at.
const DRAINS: Duration = Duration::from_secs(5);
/// The snapshot follows the first good pass by this much…
const FIRST_SAVE: Duration = Duration::from_secs(10);
/// …and every other one by this much: flash wears out.
const SAVE: Duration = Duration::from_secs(300);
/// What was written is waited for after this time, when it has come to the disk by itself (the kernel
/// writes what is older than 30 s); the first one at once.
const SETTLE: Duration = Duration::from_secs(40);

/// What is to be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Look at the kernel and make it right.
    Look(Scope),
    /// Look at the next part of everything.
    Audit,
    /// Make right what follows from the objects that changed.
    Changes,
    /// Make right what follows from the routes that BGP learned.
    Learn,
    /// Look after the real servers that drain.
    Drains,
    /// Write the snapshot.
    Save,
}

/// What there is to do. Times are those since the daemon's start.
#[derive(Debug)]
pub struct Schedule {
    /// From one audit to the next.
    period: Duration,
    /// In how many parts one is made.
    parts: u32,
    all: bool,
    network: bool,
    table: bool,
    changes: bool,
    learn: bool,
    /// Whether it is the turn of a look: little work goes first, but not for ever.
    turn: bool,
    /// No pass begins before.
    free: Duration,
    /// But what changed and what was learned is looked after from here on.
    soon: Duration,
    audit: Duration,
    drains: Option<Duration>,
    save: Option<Duration>,
    saved: Option<Duration>,
    /// Whether a snapshot was ever written.
    settled: bool,
    /// Passes that went wrong, one after another.
    failures: u32,
}

impl Schedule {
    /// At first there is everything to look at. `period` is that of the audits.
    pub fn new(period: Duration) -> Schedule {
        Schedule {
            period,
            parts: 1,
            all: false,
            network: false,
            table: false,
            changes: false,
            learn: false,
            turn: false,
            free: Duration::ZERO,
            soon: Duration::ZERO,
            audit: period,
            drains: None,
            save: None,
            saved: None,
            settled: false,
            failures: 0,
        }
    }

    /// No pass begins before `until`, unless [`Schedule::go`] says so.
    pub fn hold(&mut self, until: Duration) {
        (self.free, self.soon) = (until, until);
    }

    /// What was waited for is there.
    pub fn go(&mut self) {
        (self.free, self.soon) = (Duration::ZERO, Duration::ZERO);
    }

    /// A look is due.
    pub fn look(&mut self, scope: Scope) {
        match scope {
            Scope::All | Scope::WithoutRealServers => self.all = true,
            Scope::Network => self.network = true,
            Scope::Table => self.table = true,
        }
    }

    /// Audits are made in so many parts, spread over their period.
    pub fn split(&mut self, parts: u32) {
        self.parts = parts.max(1);
    }

    /// Objects changed.
    pub fn change(&mut self) {
        self.changes = true;
    }

    /// Routes were learned.
    pub fn learn(&mut self) {
        self.learn = true;
    }

    /// The cluster is not what the snapshot says any more.
    pub fn save(&mut self, now: Duration) {
        let due = self.saved.map_or(now + FIRST_SAVE, |saved| now.max(saved + SAVE));
        self.save.get_or_insert(due);
    }

    /// The snapshot was written, and is to be put in its place.
    pub fn settle(&mut self, now: Duration) {
        self.save =
            Some(if std::mem::replace(&mut self.settled, true) { now + SETTLE } else { now });
    }

    /// What to do now, if anything.
    pub fn due(&self, now: Duration) -> Option<Work> {
        if now < self.free {
            return self.little().filter(|_| self.soon <= now);
        }
        let over = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        let little = self.little().filter(|_| !self.turn || !self.network && !self.table);
        if self.all {
            Some(Work::Look(Scope::All))
        } else if self.audit <= now {
            Some(Work::Audit)
        } else if little.is_some() {
            little
        } else if self.network {
            Some(Work::Look(Scope::Network))
        } else if self.table {
            Some(Work::Look(Scope::Table))
        } else if over(self.drains) {
            Some(Work::Drains)
        } else if over(self.save) {
            Some(Work::Save)
        } else {
            None
        }
    }

    /// How long there is nothing to do.
    pub fn rest(&self, now: Duration) -> Duration {
        let little = self.little().map(|_| self.soon);
        let at_once = self.all || little.is_some() || self.network || self.table;
        let next = [self.drains, self.save, at_once.then_some(Duration::ZERO)];
        let next = next.into_iter().flatten().fold(self.audit, Duration::min);
        let next = next.max(self.free);
        little.map_or(next, |at| at.min(next)).saturating_sub(now)
    }

    /// What little work there is, if any. A look at everything that is due comes first.
    fn little(&self) -> Option<Work> {
        match self {
            Schedule { all: true, .. } => None,
            Schedule { changes: true, .. } => Some(Work::Changes),
            Schedule { learn: true, .. } => Some(Work::Learn),
            _ => None,
        }
    }

    /// Work has been begun: what comes from here on is new.
    pub fn begin(&mut self, work: Work, now: Duration) {
        match work {
            Work::Look(Scope::All | Scope::WithoutRealServers) => {
                (self.all, self.network, self.table, self.changes) = (false, false, false, false);
                self.audit = now + self.period / self.parts;
            }
            Work::Look(Scope::Network) => self.network = false,
            Work::Look(Scope::Table) => self.table = false,
            Work::Audit => self.audit = now + self.period / self.parts,
            Work::Changes => self.changes = false,
            Work::Learn => self.learn = false,
            Work::Drains => self.drains = None,
            Work::Save => (self.save, self.saved) = (None, Some(now)),
        }
    }

    /// The `work` that began at `begun` is over. `well`: the kernel holds what is wanted, of all that was
    /// looked at; `draining`: real servers wait for their connections to end.
    pub fn end(&mut self, work: Work, begun: Duration, now: Duration, well: bool, draining: bool) {
        let took = now.saturating_sub(begun);
        let least = if work == Work::Learn { LESSON } else { PAUSE };
        self.free = self.free.max(now + took.max(least));
        self.turn = matches!(work, Work::Changes | Work::Learn);
        self.soon = if self.turn { now + took.max(least) } else { now + PAUSE };
        if well {
            self.failures = 0;
        } else {
            let pause = BACK_OFF.0 * (1 << self.failures.min(10));
            self.failures += 1;
            self.audit = self.audit.min(now + pause.min(BACK_OFF.1));
            // News may be what mends it (a link that is up again), but not always.
            let after = PAUSE * (1 << self.failures.min(10));
            self.free = self.free.max(now + after.min(BACK_OFF.0));
            self.soon = self.free;
        }
        self.drains = draining.then_some(self.drains.unwrap_or(now + DRAINS));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn agenda() -> Schedule {
        Schedule::new(Duration::from_secs(60))
    }

    fn work(agenda: &mut Schedule, now: Duration, takes: Duration, well: bool) -> Option<Work> {
        let work = agenda.due(now)?;
        agenda.begin(work, now);
        agenda.end(work, now, now + takes, well, false);
        Some(work)
    }

    #[test]
    fn the_first_event_is_handled_at_once_and_a_burst_is_joined() {
        let mut agenda = agenda();
        assert_eq!(agenda.due(ms(5)), None);
        agenda.change();
        assert_eq!((agenda.due(ms(5)), agenda.rest(ms(5))), (Some(Work::Changes), ms(0)));
        assert_eq!(work(&mut agenda, ms(5), ms(3), true), Some(Work::Changes));
        agenda.change();
        agenda.change();
        assert_eq!((agenda.due(ms(9)), agenda.rest(ms(9))), (None, ms(99)));
        assert_eq!(work(&mut agenda, ms(108), ms(3), true), Some(Work::Changes));
        assert_eq!(agenda.due(ms(500)), None);
    }

    #[test]
    fn a_service_that_changed_does_not_wait_for_as_long_as_a_look_at_everything_took() {
        let mut agenda = agenda();
        agenda.look(Scope::All);
        work(&mut agenda, ms(0), ms(8000), true);
        agenda.change();
        agenda.look(Scope::Network);
        assert_eq!((agenda.due(ms(8000)), agenda.rest(ms(8000))), (None, ms(100)));
        assert_eq!(work(&mut agenda, ms(8100), ms(3), true), Some(Work::Changes));
        assert_eq!((agenda.due(ms(8110)), agenda.rest(ms(8110))), (None, ms(7890)));
        agenda.change();
        assert_eq!(agenda.rest(ms(8110)), ms(93));
        agenda.look(Scope::All);
        assert_eq!(agenda.rest(ms(8300)), ms(7700), "that has it in it");
        assert_eq!(agenda.due(ms(16_000)), Some(Work::Look(Scope::All)));
    }

    #[test]
    fn a_storm_costs_half_of_the_time_at_most() {
        let mut agenda = agenda();
        let (mut now, mut busy) = (ms(0), ms(0));
        while now < ms(60_000) {
            agenda.look(Scope::Network);
            if work(&mut agenda, now, ms(400), true).is_some() {
                now += ms(400);
                busy += ms(400);
            }
            now += ms(1);
        }
        assert!(busy <= ms(30_400) && busy > ms(29_000), "{busy:?}");
    }

    #[test]
    fn a_storm_of_little_work_keeps_nothing_else_from_its_turn() {
        let mut agenda = agenda();
        let mut now = ms(0);
        let mut done = Vec::new();
        while now < ms(1000) {
            agenda.change();
            agenda.learn();
            agenda.look(Scope::Network);
            agenda.look(Scope::Table);
            done.extend(work(&mut agenda, now, ms(2), true));
            now += ms(2);
        }
        let count = |of: Work| done.iter().filter(|work| **work == of).count();
        assert!(count(Work::Changes) > 3, "{done:?}");
        assert!(count(Work::Look(Scope::Network)) > 3, "{done:?}");
    }

    #[test]
    fn routes_that_are_told_one_after_the_other_are_joined_for_a_short_while() {
        let mut agenda = agenda();
        agenda.learn();
        assert_eq!(work(&mut agenda, ms(5), ms(3), true), Some(Work::Learn));
        agenda.learn();
        assert_eq!((agenda.due(ms(9)), agenda.rest(ms(9))), (None, ms(9)));
        assert_eq!(work(&mut agenda, ms(28), ms(60), true), Some(Work::Learn));
        agenda.learn();
        assert_eq!(agenda.rest(ms(88)), ms(60));
        agenda.look(Scope::All);
        assert_eq!(work(&mut agenda, ms(148), ms(9), true), Some(Work::Look(Scope::All)));
        assert_eq!(agenda.rest(ms(157)), ms(100), "what came since is not in it");
    }

    #[test]
    fn a_look_at_everything_takes_the_others_in() {
        let mut agenda = agenda();
        agenda.look(Scope::Table);
        agenda.look(Scope::Network);
        agenda.change();
        agenda.look(Scope::All);
        assert_eq!(work(&mut agenda, ms(0), ms(9), true), Some(Work::Look(Scope::All)));
        assert_eq!(agenda.due(ms(1000)), None);
    }

    #[test]
    fn an_audit_comes_with_its_period_after_the_last_look_at_everything() {
        let mut agenda = agenda();
        agenda.look(Scope::All);
        work(&mut agenda, ms(30_000), ms(9), true);
        assert_eq!(agenda.rest(ms(31_000)), ms(59_000));
        assert_eq!(agenda.due(ms(90_000)), Some(Work::Audit));
    }

    #[test]
    fn an_audit_in_parts_is_spread_over_the_period() {
        let (mut agenda, mut now, mut audits) = (agenda(), ms(0), Vec::new());
        agenda.split(3);
        while audits.len() < 3 {
            now += agenda.rest(now);
            audits.extend(work(&mut agenda, now, ms(5), true).map(|what| (what, now.as_secs())));
        }
        assert_eq!(audits, [60, 80, 100].map(|at| (Work::Audit, at)));
    }

    #[test]
    fn what_went_wrong_is_tried_again_later_each_time_and_at_last_every_half_minute() {
        let mut agenda = agenda();
        agenda.look(Scope::All);
        let (mut now, mut pauses) = (ms(0), Vec::new());
        for what in [Work::Look(Scope::All)].into_iter().chain([Work::Audit; 7]) {
            assert_eq!(work(&mut agenda, now, ms(0), false), Some(what));
            pauses.push(agenda.rest(now).as_secs());
            now += agenda.rest(now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30, 30]);
        agenda.look(Scope::All);
        assert!(agenda.rest(now) <= ms(1000), "news may be what mends it");
        let mut fresh = Schedule::new(ms(60_000));
        fresh.look(Scope::Network);
        work(&mut fresh, ms(0), ms(5), false);
        fresh.look(Scope::Network);
        assert!(fresh.rest(ms(5)) <= ms(200), "soon, where it failed for the first time");
        now += ms(1000);
        assert!(work(&mut agenda, now, ms(0), true).is_some());
        assert_eq!(agenda.rest(now), ms(60_000));
    }

    #[test]
    fn drains_are_looked_at_while_there_are_any() {
        let mut agenda = agenda();
        agenda.change();
        agenda.begin(Work::Changes, ms(0));
        agenda.end(Work::Changes, ms(0), ms(1), true, true);
        assert_eq!(agenda.rest(ms(1)), ms(5000));
        agenda.begin(Work::Changes, ms(3000));
        agenda.end(Work::Changes, ms(3000), ms(3001), true, true);
        assert_eq!(agenda.due(ms(5001)), Some(Work::Drains), "not put off by other work");
        agenda.begin(Work::Drains, ms(5001));
        agenda.end(Work::Drains, ms(5001), ms(5002), true, false);
        assert_eq!(agenda.due(ms(20_000)), None);
    }

    #[test]
    fn what_is_held_back_begins_when_it_may_or_when_its_time_is_over() {
        let mut agenda = agenda();
        agenda.look(Scope::All);
        agenda.hold(ms(3000));
        assert_eq!((agenda.due(ms(10)), agenda.rest(ms(10))), (None, ms(2990)));
        assert!(agenda.due(ms(3000)).is_some());
        agenda.go();
        assert!(agenda.due(ms(20)).is_some());
    }

    #[test]
    fn the_snapshot_is_kind_to_flash() {
        let mut agenda = agenda();
        agenda.look(Scope::All);
        work(&mut agenda, ms(0), ms(0), true);
        agenda.save(ms(1000));
        agenda.save(ms(9000));
        assert_eq!(agenda.due(ms(11_000)), Some(Work::Save));
        agenda.begin(Work::Save, ms(11_000));
        agenda.settle(ms(11_000));
        assert_eq!(agenda.due(ms(11_000)), Some(Work::Save), "the first one at once");
        agenda.begin(Work::Save, ms(11_000));
        agenda.save(ms(12_000));
        agenda.look(Scope::All);
        work(&mut agenda, ms(300_000), ms(0), true);
        assert_eq!(agenda.due(ms(310_999)), None);
        assert_eq!(agenda.due(ms(311_000)), Some(Work::Save));
        agenda.begin(Work::Save, ms(311_000));
        agenda.settle(ms(311_000));
        assert_eq!((agenda.due(ms(350_000)), agenda.due(ms(351_000))), (None, Some(Work::Save)));
    }
}
