use super::{super::serve::Dice, *};

const HOUR: Duration = Duration::from_secs(3600);
const WATCH: Rhythm = Rhythm { poll: None, resync: HOUR };
const POLL: Rhythm = Rhythm { poll: Some(Duration::from_secs(45)), resync: HOUR };

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn no_answer() -> Heard {
    Heard::Failed { answered: false, retry_after: None }
}

fn status(retry_after: Option<u64>) -> Heard {
    Heard::Failed { answered: true, retry_after: retry_after.map(s) }
}

fn event(version: u64) -> Heard {
    Heard::Event(version.to_string())
}

/// One whose list of version 10 came at second 0.
fn listed(rhythm: Rhythm) -> Following {
    let mut f = Following::new(Start::default(), rhythm, 7);
    assert_eq!(f.next(s(0)), Action::List);
    f.hear(s(0), Heard::Listed("10".into()));
    f
}

/// One whose watch was opened at second 0.
fn watching() -> Following {
    let mut f = listed(WATCH);
    assert!(matches!(f.next(s(0)), Action::Watch { .. }));
    assert!(f.hear(s(0), Heard::Opened));
    f
}

fn from_snapshot(age: Option<Duration>) -> Following {
    Following::new(Start { version: Some("10".into()), age }, WATCH, 7)
}

/// How long it waits, and what comes then.
fn after_wait(f: &mut Following, now: Duration) -> (Duration, Action) {
    match f.next(now) {
        Action::Wait(wait) => {
            let then = f.next(now + wait);
            assert!(!matches!(then, Action::Wait(_)));
            (wait, then)
        }
        action => (Duration::ZERO, action),
    }
}

fn version(action: &Action) -> &str {
    match action {
        Action::Watch { version, .. } => version,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_lists_and_watches_from_there_for_five_to_ten_minutes() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let mut f = Following::new(Start::default(), WATCH, seed * 1_000_003);
        assert_eq!(f.next(s(0)), Action::List);
        assert!(!f.is_current());
        f.hear(s(1), Heard::Listed("10".into()));
        assert!(f.is_current());
        let Action::Watch { version, seconds } = f.next(s(1)) else { panic!() };
        assert_eq!(version, "10");
        assert!((300..=600).contains(&seconds), "{seconds}");
        lengths.insert(seconds);
    }
    assert!(lengths.len() > 20, "by chance: {lengths:?}");
}

#[test]
fn a_watch_that_ended_goes_on_at_once_from_what_it_reached() {
    let mut f = watching();
    assert!(f.hear(s(10), event(12)));
    assert!(f.hear(s(70), Heard::Bookmark("20".into())));
    assert!(f.hear(s(71), Heard::Bookmark("15".into())), "a bookmark may be old");
    f.hear(s(400), Heard::Ended);
    assert_eq!(version(&f.next(s(400))), "20");
}

#[test]
fn once_per_resync_period_all_is_listed_and_the_watch_before_ends_in_time() {
    let mut f = watching();
    f.hear(s(3500), Heard::Ended);
    assert_eq!(f.next(s(3500)), Action::Watch { version: "10".into(), seconds: 100 });
    f.hear(s(3500), Heard::Opened);
    f.hear(s(3600), Heard::Ended);
    assert_eq!(f.next(s(3600)), Action::List);
    f.hear(s(3600), Heard::Listed("99".into()));
    assert_eq!(version(&f.next(s(3600))), "99");
}

#[test]
fn a_snapshot_is_probed_and_caught_up_with_by_a_short_watch_before_a_long_one() {
    let mut f = from_snapshot(Some(s(60)));
    assert_eq!(f.next(s(0)), Action::Probe);
    f.hear(s(0), Heard::Probed("10".into()));
    assert_eq!(f.next(s(0)), Action::Watch { version: "10".into(), seconds: 1 });
    f.hear(s(0), Heard::Opened);
    assert!(f.hear(s(0), event(11)) && !f.is_current());
    f.hear(s(1), Heard::Ended);
    assert!(f.is_current());
    assert!(matches!(f.next(s(1)), Action::Watch { seconds: 300.., .. }));
}

#[test]
fn a_snapshot_older_than_the_resync_period_or_of_an_unknown_age_is_listed() {
    for age in [None, Some(HOUR), Some(HOUR * 100)] {
        assert_eq!(from_snapshot(age).next(s(0)), Action::List, "{age:?}");
    }
    let mut f = from_snapshot(Some(s(3000)));
    assert_eq!(f.next(s(599)), Action::Probe);
    assert_eq!(f.next(s(600)), Action::List);
}

#[test]
fn another_cluster_or_one_whose_version_is_behind_is_listed() {
    for heard in [Heard::Foreign, Heard::Probed("9".into())] {
        let mut f = from_snapshot(Some(s(60)));
        assert_eq!(f.next(s(0)), Action::Probe);
        f.hear(s(0), heard);
        assert_eq!(f.next(s(0)), Action::List);
        f.hear(s(0), Heard::Listed("3".into()));
        assert_eq!(version(&f.next(s(0))), "3");
    }
}

#[test]
fn a_connection_that_is_cut_is_probed_and_goes_on_after_a_second() {
    let mut f = watching();
    f.hear(s(5), event(12));
    f.hear(s(6), Heard::Cut);
    let (wait, then) = after_wait(&mut f, s(6));
    assert!(wait <= s(1) && wait >= s(1) / 2, "{wait:?}");
    assert_eq!(then, Action::Probe);
    f.hear(s(8), Heard::Probed("40".into()));
    assert_eq!(version(&f.next(s(8))), "12", "what was missed is replayed");
}

#[test]
fn waits_double_up_to_thirty_seconds_and_begin_anew_after_something_good() {
    let mut f = watching();
    let mut now = s(0);
    for nth in 0..12 {
        f.hear(now, no_answer());
        let (wait, then) = after_wait(&mut f, now);
        let whole = s(1 << nth.min(5)).min(LONGEST);
        assert!(wait >= whole / 2 && wait <= whole, "{nth}: {wait:?}");
        assert_eq!(then, Action::Probe);
        now += wait;
    }
    f.hear(now, Heard::Probed("10".into()));
    assert!(matches!(f.next(now), Action::Watch { .. }));
    f.hear(now, Heard::Opened);
    f.hear(now, event(11));
    f.hear(now, Heard::Cut);
    assert!(after_wait(&mut f, now).0 <= s(1));
}

#[test]
fn a_list_that_fails_backs_off_and_one_that_comes_ends_that() {
    let mut f = Following::new(Start::default(), WATCH, 3);
    for _ in 0..8 {
        f.hear(s(0), no_answer());
        assert_eq!(after_wait(&mut f, s(0)).1, Action::List);
    }
    f.hear(s(60), Heard::Listed("5".into()));
    assert_eq!(version(&f.next(s(60))), "5");
    f.hear(s(60), status(None));
    assert!(after_wait(&mut f, s(60)).0 <= s(1));
}

#[test]
fn a_watch_that_stayed_open_for_a_while_was_something_good() {
    let mut f = watching();
    for _ in 0..6 {
        f.hear(s(0), status(None));
    }
    assert!(matches!(f.next(s(40)), Action::Watch { .. }));
    f.hear(s(40), Heard::Opened);
    f.hear(s(80), Heard::Cut);
    assert!(after_wait(&mut f, s(80)).0 <= s(1));
}

#[test]
fn a_server_that_asks_to_wait_is_waited_for_but_not_for_ever() {
    let mut f = watching();
    f.hear(s(0), status(Some(7)));
    let (wait, then) = after_wait(&mut f, s(0));
    assert_eq!((wait, version(&then)), (s(7), "10"), "an answer casts no doubt on the server");
    f.hear(s(7), status(Some(86_400)));
    assert_eq!(after_wait(&mut f, s(7)).0, LONGEST);
}

#[test]
fn a_version_that_is_gone_is_listed_at_once() {
    let mut f = watching();
    f.hear(s(0), Heard::Gone);
    assert_eq!(f.next(s(0)), Action::List);
}

#[test]
fn versions_that_are_gone_again_and_again_are_listed_slower_and_slower() {
    let mut f = watching();
    let (mut now, mut waits) = (s(0), Vec::new());
    for version in 11..20 {
        f.hear(now, Heard::Gone);
        let (wait, then) = after_wait(&mut f, now);
        assert_eq!(then, Action::List);
        waits.push(wait);
        now += wait;
        f.hear(now, Heard::Listed(version.to_string()));
        assert!(matches!(f.next(now), Action::Watch { .. }));
        f.hear(now, Heard::Opened);
        f.hear(now, event(version)); // even if it brings something
    }
    assert_eq!(waits[0], Duration::ZERO);
    assert!(waits[1] >= s(1) / 2 && waits[8] >= s(15), "{waits:?}");
    f.hear(now + s(40), Heard::Gone);
    assert_eq!(f.next(now + s(40)), Action::List, "this one had lived");
}

#[test]
fn a_list_with_nothing_in_it_is_made_again_soon_and_watched_from_meanwhile() {
    let (mut f, mut now) = (listed(WATCH), s(3600));
    for nth in 0..8 {
        assert_eq!(f.next(now), Action::List);
        f.hear(now, Heard::Empty("12".into()));
        let Action::Watch { seconds, .. } = f.next(now) else { panic!() };
        assert!(seconds <= 1 << nth && seconds <= 30, "{seconds}");
        f.hear(now, Heard::Opened);
        now += s(1 << nth).min(LONGEST);
        f.hear(now, Heard::Ended);
    }
    assert_eq!(f.next(now), Action::List);
    f.hear(now, Heard::Listed("13".into()));
    assert!(matches!(f.next(now), Action::Watch { seconds: 300.., .. }));
}

#[test]
fn events_out_of_order_and_garbage_are_a_reason_to_list() {
    for heard in [event(9), Heard::Garbage] {
        let mut f = watching();
        assert!(!f.hear(s(5), heard), "the watch is of no use any more");
        assert_eq!(f.next(s(5)), Action::List);
    }
    let mut f = watching();
    assert!(f.hear(s(5), event(11)) && f.hear(s(5), event(11)), "one that came twice is harmless");
}

#[test]
fn a_long_silence_is_a_reason_to_ask_and_not_yet_a_failure() {
    let mut f = watching();
    f.hear(s(150), Heard::Silent);
    assert_eq!(f.next(s(150)), Action::Probe);
    f.hear(s(150), Heard::Probed("10".into()));
    assert_eq!(version(&f.next(s(150))), "10");
}

#[test]
fn a_short_watch_that_does_not_end_is_replaced_by_a_list() {
    let mut f = listed(POLL);
    assert_eq!(f.next(s(45)), Action::Watch { version: "10".into(), seconds: 1 });
    f.hear(s(45), Heard::Opened);
    f.hear(s(76), Heard::Silent);
    assert_eq!(f.next(s(76)), Action::List);
}

#[test]
fn polling_asks_what_changed_and_waits() {
    let mut f = listed(POLL);
    for poll in 1..70 {
        let now = s(46 * poll - 1);
        assert!(matches!(f.next(now - s(1)), Action::Wait(_)));
        let version = (poll + 9).to_string();
        assert_eq!(f.next(now), Action::Watch { version, seconds: 1 });
        f.hear(now, Heard::Opened);
        f.hear(now, event(poll + 10));
        f.hear(now + s(1), Heard::Ended);
        assert_eq!(f.next(now + s(1)), Action::Wait(s(45)));
    }
    f.hear(s(3300), no_answer());
    assert!(after_wait(&mut f, s(3300)).0 <= s(1), "a failure does not wait for the next poll");
    assert_eq!(f.next(s(3601)), Action::List);
}

#[test]
fn a_watch_that_is_ended_at_once_with_nothing_said_is_not_opened_in_a_tight_loop() {
    let mut f = watching();
    let mut now = s(0);
    for _ in 0..10 {
        f.hear(now, Heard::Ended);
        let (wait, then) = after_wait(&mut f, now);
        assert!(wait > Duration::ZERO && matches!(then, Action::Watch { .. }));
        now += wait;
        f.hear(now, Heard::Opened);
    }
    assert!(now >= s(60), "{now:?}");
}

#[test]
fn versions_that_are_no_numbers_are_taken_as_they_come() {
    let mut f = watching();
    assert!(f.hear(s(1), Heard::Event("abc".into())) && f.hear(s(1), Heard::Event("abb".into())));
    f.hear(s(500), Heard::Ended);
    assert_eq!(version(&f.next(s(500))), "abb");
}

/// What a fault may make of an action.
fn harm(dice: &mut Dice, action: &Action) -> Heard {
    match (dice.below(9), action) {
        (0, _) => no_answer(),
        (1, _) => status(Some(dice.below(100) as u64)),
        (2, _) => status(None),
        (4, Action::List) => Heard::Empty(dice.below(1000).to_string()),
        (3, Action::List) => Heard::Listed(dice.below(1000).to_string()),
        (3 | 4, Action::Probe) => Heard::Foreign,
        (3, Action::Watch { .. }) => Heard::Gone,
        (4, Action::Watch { .. }) => Heard::Cut,
        (5, Action::Watch { .. }) => Heard::Silent,
        (6, Action::Watch { .. }) => Heard::Garbage,
        (7, Action::Watch { .. }) => event(dice.below(1000) as u64),
        (8, Action::Watch { .. }) => Heard::Ended,
        _ => no_answer(),
    }
}

#[test]
fn whatever_is_heard_no_wait_is_long_and_after_the_faults_it_follows_soon() {
    let mut dice = Dice(99);
    for seed in 0..300u64 {
        let rhythm = if seed.is_multiple_of(2) { WATCH } else { POLL };
        let most = rhythm.poll.unwrap_or_default().max(LONGEST);
        let start = if seed.is_multiple_of(3) { Start::default() } else { from(seed) };
        let (mut f, mut now) = (Following::new(start, rhythm, seed), s(0));
        for _ in 0..dice.below(300) {
            match f.next(now) {
                Action::Wait(wait) => {
                    assert!(wait <= most && wait > Duration::ZERO, "{wait:?} in {f:?}");
                    now += wait;
                }
                action => {
                    if matches!(action, Action::Watch { .. }) && dice.below(2) == 0 {
                        f.hear(now, Heard::Opened);
                    }
                    now += Duration::from_millis(dice.below(200_000) as u64);
                    f.hear(now, harm(&mut dice, &action));
                }
            }
        }
        // From here on everything is answered.
        let end = now + 2 * LONGEST;
        while !matches!(f.next(now), Action::Watch { .. }) {
            match f.next(now) {
                Action::Wait(wait) if f.failures + f.gones == 0 && rhythm.poll.is_some() => {
                    assert!(wait <= most);
                    break; // it polls in peace
                }
                Action::Wait(wait) => now += wait,
                Action::Probe => drop(f.hear(now, Heard::Probed("1000".into()))),
                _ => drop(f.hear(now, Heard::Listed("1000".into()))),
            }
            assert!(now <= end || rhythm.poll.is_some(), "{f:?}");
        }
    }
}

fn from(seed: u64) -> Start {
    Start { version: Some("500".into()), age: (!seed.is_multiple_of(5)).then(|| s(seed)) }
}
