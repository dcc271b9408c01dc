use super::{super::serve::Dice, *};

const HOUR: Duration = Duration::from_secs(3600);
const WATCH: Rhythm = Rhythm { poll: None, resync: HOUR };
const POLL: Rhythm = Rhythm { poll: Some(Duration::from_secs(45)), resync: HOUR };

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn no_answer() -> Input {
    Input::Failed { answered: false, retry_after: None }
}

fn status(retry_after: Option<u64>) -> Input {
    Input::Failed { answered: true, retry_after: retry_after.map(s) }
}

fn event(version: u64) -> Input {
    Input::Event(version.to_string())
}

/// Returns a state whose list, of version 10, arrived at second 0.
fn listed(rhythm: Rhythm) -> WatchState {
    let mut f = WatchState::new(Start::default(), rhythm, 7);
    assert_eq!(f.next_action(s(0)), Action::List);
    f.handle_input(s(0), Input::Listed("10".into()));
    f
}

/// Returns a state whose watch from version 10 was opened at second 0.
fn watching() -> WatchState {
    let mut f = listed(WATCH);
    assert!(matches!(f.next_action(s(0)), Action::Watch { .. }));
    assert!(f.handle_input(s(0), Input::Opened));
    f
}

fn from_snapshot(age: Option<Duration>) -> WatchState {
    WatchState::new(Start { version: Some("10".into()), age }, WATCH, 7)
}

/// Returns how long the machine waits, and its action after that.
fn after_wait(f: &mut WatchState, now: Duration) -> (Duration, Action) {
    match f.next_action(now) {
        Action::Wait(wait) => {
            let then = f.next_action(now + wait);
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
fn after_a_list_a_watch_of_five_to_ten_minutes_starts_from_its_version() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let mut f = WatchState::new(Start::default(), WATCH, seed * 1_000_003);
        assert_eq!(f.next_action(s(0)), Action::List);
        assert!(!f.is_synced());
        f.handle_input(s(1), Input::Listed("10".into()));
        assert!(f.is_synced());
        let Action::Watch { version, seconds } = f.next_action(s(1)) else { panic!() };
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
    assert!(f.handle_input(s(70), Input::Bookmark("20".into())));
    assert!(f.handle_input(s(71), Input::Bookmark("15".into())), "a bookmark may be old");
    f.handle_input(s(400), Input::Ended);
    assert_eq!(version(&f.next_action(s(400))), "20");
}

#[test]
fn a_full_list_is_made_once_per_resync_period_and_the_watch_before_ends_in_time() {
    let mut f = watching();
    f.handle_input(s(3500), Input::Ended);
    assert_eq!(f.next_action(s(3500)), Action::Watch { version: "10".into(), seconds: 100 });
    f.handle_input(s(3500), Input::Opened);
    f.handle_input(s(3600), Input::Ended);
    assert_eq!(f.next_action(s(3600)), Action::List);
    f.handle_input(s(3600), Input::Listed("99".into()));
    assert_eq!(version(&f.next_action(s(3600))), "99");
}

#[test]
fn after_a_snapshot_come_a_probe_and_a_short_watch_before_the_long_one() {
    let mut f = from_snapshot(Some(s(60)));
    assert_eq!(f.next_action(s(0)), Action::Probe);
    f.handle_input(s(0), Input::Probed("10".into()));
    assert_eq!(f.next_action(s(0)), Action::Watch { version: "10".into(), seconds: 1 });
    f.handle_input(s(0), Input::Opened);
    assert!(f.handle_input(s(0), event(11)) && !f.is_synced());
    f.handle_input(s(1), Input::Ended);
    assert!(f.is_synced());
    assert!(matches!(f.next_action(s(1)), Action::Watch { seconds: 300.., .. }));
}

#[test]
fn a_snapshot_older_than_the_resync_period_or_of_unknown_age_is_followed_by_a_list() {
    for age in [None, Some(HOUR), Some(HOUR * 100)] {
        assert_eq!(from_snapshot(age).next_action(s(0)), Action::List, "{age:?}");
    }
    let mut f = from_snapshot(Some(s(3000)));
    assert_eq!(f.next_action(s(599)), Action::Probe);
    assert_eq!(f.next_action(s(600)), Action::List);
}

#[test]
fn a_probe_that_finds_another_cluster_or_an_older_version_leads_to_a_list() {
    for input in [Input::OtherCluster, Input::Probed("9".into())] {
        let mut f = from_snapshot(Some(s(60)));
        assert_eq!(f.next_action(s(0)), Action::Probe);
        f.handle_input(s(0), input);
        assert_eq!(f.next_action(s(0)), Action::List);
        f.handle_input(s(0), Input::Listed("3".into()));
        assert_eq!(version(&f.next_action(s(0))), "3");
    }
}

#[test]
fn after_a_lost_connection_a_probe_comes_within_a_second_and_the_watch_resumes() {
    let mut f = watching();
    f.handle_input(s(5), event(12));
    f.handle_input(s(6), Input::Disconnected);
    let (wait, then) = after_wait(&mut f, s(6));
    assert!(wait <= s(1) && wait >= s(1) / 2, "{wait:?}");
    assert_eq!(then, Action::Probe);
    f.handle_input(s(8), Input::Probed("40".into()));
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
        assert_eq!(then, Action::Probe);
        now += wait;
    }
    f.handle_input(now, Input::Probed("10".into()));
    assert!(matches!(f.next_action(now), Action::Watch { .. }));
    f.handle_input(now, Input::Opened);
    f.handle_input(now, event(11));
    f.handle_input(now, Input::Disconnected);
    assert!(after_wait(&mut f, now).0 <= s(1));
}

#[test]
fn failed_lists_back_off_and_a_successful_list_resets_the_backoff() {
    let mut f = WatchState::new(Start::default(), WATCH, 3);
    for _ in 0..8 {
        f.handle_input(s(0), no_answer());
        assert_eq!(after_wait(&mut f, s(0)).1, Action::List);
    }
    f.handle_input(s(60), Input::Listed("5".into()));
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
    assert!(matches!(f.next_action(s(40)), Action::Watch { .. }));
    f.handle_input(s(40), Input::Opened);
    f.handle_input(s(80), Input::Disconnected);
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
    f.handle_input(s(0), Input::Expired);
    assert_eq!(f.next_action(s(0)), Action::List);
}

#[test]
fn lists_after_repeatedly_expired_versions_back_off() {
    let mut f = watching();
    let (mut now, mut waits) = (s(0), Vec::new());
    for version in 11..20 {
        f.handle_input(now, Input::Expired);
        let (wait, then) = after_wait(&mut f, now);
        assert_eq!(then, Action::List);
        waits.push(wait);
        now += wait;
        f.handle_input(now, Input::Listed(version.to_string()));
        assert!(matches!(f.next_action(now), Action::Watch { .. }));
        f.handle_input(now, Input::Opened);
        f.handle_input(now, event(version)); // an event alone does not reset the count
    }
    assert_eq!(waits[0], Duration::ZERO);
    assert!(waits[1] >= s(1) / 2 && waits[8] >= s(15), "{waits:?}");
    f.handle_input(now + s(40), Input::Expired);
    assert_eq!(f.next_action(now + s(40)), Action::List, "a watch of 40 s resets the count");
}

#[test]
fn an_empty_list_is_repeated_with_backoff_and_watched_from_in_between() {
    let (mut f, mut now) = (listed(WATCH), s(3600));
    for nth in 0..8 {
        assert_eq!(f.next_action(now), Action::List);
        f.handle_input(now, Input::ListedEmpty("12".into()));
        let Action::Watch { seconds, .. } = f.next_action(now) else { panic!() };
        assert!(seconds <= 1 << nth && seconds <= 30, "{seconds}");
        f.handle_input(now, Input::Opened);
        now += s(1 << nth).min(MAX_BACKOFF);
        f.handle_input(now, Input::Ended);
    }
    assert_eq!(f.next_action(now), Action::List);
    f.handle_input(now, Input::Listed("13".into()));
    assert!(matches!(f.next_action(now), Action::Watch { seconds: 300.., .. }));
}

#[test]
fn events_out_of_order_and_invalid_events_lead_to_a_list() {
    for input in [event(9), Input::Invalid] {
        let mut f = watching();
        assert!(!f.handle_input(s(5), input), "the watch must be closed");
        assert_eq!(f.next_action(s(5)), Action::List);
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
    f.handle_input(s(150), Input::TimedOut);
    assert_eq!(f.next_action(s(150)), Action::Probe);
    f.handle_input(s(150), Input::Probed("10".into()));
    assert_eq!(version(&f.next_action(s(150))), "10");
}

#[test]
fn a_short_watch_that_times_out_is_replaced_by_a_list() {
    let mut f = listed(POLL);
    assert_eq!(f.next_action(s(45)), Action::Watch { version: "10".into(), seconds: 1 });
    f.handle_input(s(45), Input::Opened);
    f.handle_input(s(76), Input::TimedOut);
    assert_eq!(f.next_action(s(76)), Action::List);
}

#[test]
fn polling_alternates_short_watches_and_waits() {
    let mut f = listed(POLL);
    for poll in 1..70 {
        let now = s(46 * poll - 1);
        assert!(matches!(f.next_action(now - s(1)), Action::Wait(_)));
        let version = (poll + 9).to_string();
        assert_eq!(f.next_action(now), Action::Watch { version, seconds: 1 });
        f.handle_input(now, Input::Opened);
        f.handle_input(now, event(poll + 10));
        f.handle_input(now + s(1), Input::Ended);
        assert_eq!(f.next_action(now + s(1)), Action::Wait(s(45)));
    }
    f.handle_input(s(3300), no_answer());
    assert!(after_wait(&mut f, s(3300)).0 <= s(1), "a failure does not wait for the next poll");
    assert_eq!(f.next_action(s(3601)), Action::List);
}

#[test]
fn an_empty_watch_that_ends_at_once_backs_off() {
    let mut f = watching();
    let mut now = s(0);
    for _ in 0..10 {
        f.handle_input(now, Input::Ended);
        let (wait, then) = after_wait(&mut f, now);
        assert!(wait > Duration::ZERO && matches!(then, Action::Watch { .. }));
        now += wait;
        f.handle_input(now, Input::Opened);
    }
    assert!(now >= s(60), "{now:?}");
}

#[test]
fn versions_that_are_not_numbers_are_accepted_in_any_order() {
    let mut f = watching();
    assert!(
        f.handle_input(s(1), Input::Event("abc".into()))
            && f.handle_input(s(1), Input::Event("abb".into()))
    );
    f.handle_input(s(500), Input::Ended);
    assert_eq!(version(&f.next_action(s(500))), "abb");
}

/// Returns a random fault as the result of an action.
fn random_fault(dice: &mut Dice, action: &Action) -> Input {
    match (dice.below(9), action) {
        (0, _) => no_answer(),
        (1, _) => status(Some(dice.below(100) as u64)),
        (2, _) => status(None),
        (4, Action::List) => Input::ListedEmpty(dice.below(1000).to_string()),
        (3, Action::List) => Input::Listed(dice.below(1000).to_string()),
        (3 | 4, Action::Probe) => Input::OtherCluster,
        (3, Action::Watch { .. }) => Input::Expired,
        (4, Action::Watch { .. }) => Input::Disconnected,
        (5, Action::Watch { .. }) => Input::TimedOut,
        (6, Action::Watch { .. }) => Input::Invalid,
        (7, Action::Watch { .. }) => event(dice.below(1000) as u64),
        (8, Action::Watch { .. }) => Input::Ended,
        _ => no_answer(),
    }
}

#[test]
fn under_random_faults_waits_stay_bounded_and_watching_resumes_soon_after() {
    let mut dice = Dice(99);
    for seed in 0..300u64 {
        let rhythm = if seed.is_multiple_of(2) { WATCH } else { POLL };
        let most = rhythm.poll.unwrap_or_default().max(MAX_BACKOFF);
        let start = if seed.is_multiple_of(3) { Start::default() } else { from(seed) };
        let (mut f, mut now) = (WatchState::new(start, rhythm, seed), s(0));
        for _ in 0..dice.below(300) {
            match f.next_action(now) {
                Action::Wait(wait) => {
                    assert!(wait <= most && wait > Duration::ZERO, "{wait:?} in {f:?}");
                    now += wait;
                }
                action => {
                    if matches!(action, Action::Watch { .. }) && dice.below(2) == 0 {
                        f.handle_input(now, Input::Opened);
                    }
                    now += Duration::from_millis(dice.below(200_000) as u64);
                    f.handle_input(now, random_fault(&mut dice, &action));
                }
            }
        }
        // From here on every request succeeds.
        let end = now + 2 * MAX_BACKOFF;
        while !matches!(f.next_action(now), Action::Watch { .. }) {
            match f.next_action(now) {
                Action::Wait(wait) if f.failures + f.expirations == 0 && rhythm.poll.is_some() => {
                    assert!(wait <= most);
                    break; // it polls without failures
                }
                Action::Wait(wait) => now += wait,
                Action::Probe => drop(f.handle_input(now, Input::Probed("1000".into()))),
                _ => drop(f.handle_input(now, Input::Listed("1000".into()))),
            }
            assert!(now <= end || rhythm.poll.is_some(), "{f:?}");
        }
    }
}

fn from(seed: u64) -> Start {
    Start { version: Some("500".into()), age: (!seed.is_multiple_of(5)).then(|| s(seed)) }
}
