//! Each test is a sentence of RFC 4271 section 8, RFC 4724, RFC 6286 or of our own.

use super::*;
use crate::bgp::{Distance, message::Update};

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn own() -> Own {
    Own {
        asn: 64512,
        id: "192.0.2.11".parse().unwrap(),
        addrs: vec!["192.0.2.11".parse().unwrap()],
        port: 179,
        families: [Family::Ipv4].into(),
        cluster: None,
        restart: Some(90),
    }
}

fn peer() -> Peer {
    Peer {
        node: None,
        asn: 65001,
        port: 179,
        local: None,
        password: None,
        distance: Distance::Anywhere,
        hold: 90,
        client: false,
        bfd: None,
        passive: false,
    }
}

fn fsm() -> Fsm {
    Fsm::new(own(), peer(), s(0), 7, s(90))
}

fn open(id: &str) -> Open {
    let capabilities = Capabilities { four_octet: true, ..Capabilities::default() };
    Open { asn: 65001, hold: 30, id: id.parse().unwrap(), capabilities }
}

fn graceful(id: &str) -> Open {
    let restart = Restart { restarting: false, time: 60, families: vec![(Family::Ipv4, true)] };
    let capabilities = Capabilities { restart: Some(restart), ..open(id).capabilities };
    Open { capabilities, ..open(id) }
}

fn says(conn: Conn, open: &Open) -> Input {
    Input::Message(conn, Message::Open(open.clone()))
}

fn keepalive(conn: Conn) -> Input {
    Input::Message(conn, Message::Keepalive)
}

/// Up over connection 1, which is ours, at second 0.
fn up(open: &Open) -> Fsm {
    let mut fsm = fsm();
    assert_eq!(fsm.hear(Input::Time, s(0)), [Output::Connect]);
    fsm.hear(Input::Connected(1), s(0));
    assert_eq!(fsm.state(), State::OpenSent);
    assert_eq!(fsm.hear(says(1, open), s(0)), [Output::Send(1, Message::Keepalive)]);
    assert_eq!(fsm.state(), State::OpenConfirm);
    assert_eq!(fsm.hear(keepalive(1), s(0)), [Output::Up(1, open.clone())]);
    assert_eq!(fsm.state(), State::Established);
    fsm
}

fn words(outputs: &[Output]) -> Vec<(Conn, u8, u8)> {
    let word = |output: &Output| match output {
        Output::Send(conn, Message::Notification(word)) => Some((*conn, word.code, word.subcode)),
        _ => None,
    };
    outputs.iter().filter_map(word).collect()
}

fn closed(outputs: &[Output]) -> Vec<Conn> {
    let closed = |output: &Output| match output {
        Output::Close(conn) => Some(*conn),
        _ => None,
    };
    outputs.iter().filter_map(closed).collect()
}

fn ended(outputs: &[Output]) -> Option<&Down> {
    outputs.iter().find_map(|output| match output {
        Output::Down(down) => Some(down),
        _ => None,
    })
}

#[test]
fn the_lower_hold_time_counts_and_keepalives_come_at_a_third_of_it() {
    let mut fsm = up(&open("192.0.2.1"));
    assert_eq!(fsm.deadline(), Some(s(10)));
    assert_eq!(fsm.hear(Input::Time, s(9)), []);
    assert_eq!(fsm.hear(Input::Time, s(10)), [Output::Send(1, Message::Keepalive)]);
    assert_eq!(fsm.deadline(), Some(s(20)));
}

#[test]
fn a_hold_time_of_zero_means_that_nobody_has_to_say_anything() {
    let fsm = up(&Open { hold: 0, ..open("192.0.2.1") });
    assert_eq!(fsm.deadline(), None);
}

#[test]
fn silence_ends_the_session_at_the_hold_time_and_nothing_of_it_is_kept() {
    let mut fsm = up(&graceful("192.0.2.1"));
    fsm.hear(keepalive(1), s(5));
    fsm.hear(Input::Message(1, Message::Update(Update::default())), s(8));
    assert_eq!(ended(&fsm.hear(Input::Time, s(37))), None);
    let outputs = fsm.hear(Input::Time, s(38));
    assert_eq!(words(&outputs), [(1, 4, 0)]);
    assert_eq!(closed(&outputs), [1]);
    assert_eq!(ended(&outputs).unwrap().restart, None);
}

#[test]
fn a_connection_that_ends_without_a_word_may_be_a_restart_and_one_with_a_word_is_none() {
    let restart = graceful("192.0.2.1").capabilities.restart;
    let outputs = up(&graceful("192.0.2.1")).hear(Input::Closed(1, "reset".into()), s(5));
    assert_eq!(ended(&outputs).unwrap().restart, restart);
    let outputs = up(&open("192.0.2.1")).hear(Input::Closed(1, "reset".into()), s(5));
    assert_eq!(ended(&outputs).unwrap().restart, None);
    let word = Notification { code: 6, subcode: 2, data: Vec::new() };
    let input = Input::Message(1, Message::Notification(word));
    let outputs = up(&graceful("192.0.2.1")).hear(input, s(5));
    assert_eq!(ended(&outputs).unwrap().restart, None);
    assert_eq!(words(&outputs), []);
    assert_eq!(closed(&outputs), [1]);
}

#[test]
fn another_as_or_identifier_than_may_be_is_refused_with_the_words_of_the_rfc() {
    for (open, subcode) in [(Open { asn: 65002, ..open("192.0.2.1") }, 2), (open("0.0.0.0"), 3)] {
        let mut fsm = fsm();
        fsm.hear(Input::Accepted(1), s(0));
        let outputs = fsm.hear(says(1, &open), s(0));
        assert_eq!(words(&outputs), [(1, 2, subcode)]);
        assert_eq!(closed(&outputs), [1]);
    }
    // RFC 6286: equal identifiers are a mistake within an AS only.
    let mut inside = Fsm::new(own(), Peer { asn: 64512, ..peer() }, s(0), 7, s(90));
    inside.hear(Input::Accepted(1), s(0));
    let same = Open { asn: 64512, ..open("192.0.2.11") };
    assert_eq!(words(&inside.hear(says(1, &same), s(0))), [(1, 2, 3)]);
    up(&open("192.0.2.11"));
}

#[test]
fn who_has_just_done_something_wrong_is_not_let_in_for_a_moment_and_then_is() {
    let mut fsm = fsm();
    fsm.hear(Input::Accepted(1), s(0));
    fsm.hear(says(1, &Open { asn: 65002, ..open("192.0.2.1") }), s(0));
    assert_eq!(fsm.hear(Input::Accepted(2), s(0)), [Output::Close(2)]);
    assert!(closed(&fsm.hear(Input::Accepted(3), s(31))).is_empty());
    assert_eq!(fsm.state(), State::OpenSent);
}

#[test]
fn a_message_that_does_not_belong_to_the_state_is_an_error_with_its_subcode() {
    let mut fsm = fsm();
    fsm.hear(Input::Accepted(1), s(0));
    assert_eq!(words(&fsm.hear(keepalive(1), s(0))), [(1, 5, 1)]);
    let mut fsm = Fsm::new(own(), peer(), s(0), 7, s(90));
    fsm.hear(Input::Accepted(1), s(0));
    fsm.hear(says(1, &open("192.0.2.1")), s(0));
    let update = Input::Message(1, Message::Update(Update::default()));
    assert_eq!(words(&fsm.hear(update, s(0))), [(1, 5, 2)]);
    let mut fsm = up(&open("192.0.2.1"));
    assert_eq!(words(&fsm.hear(says(1, &open("192.0.2.1")), s(0))), [(1, 5, 3)]);
}

#[test]
fn of_two_connections_the_one_stays_that_the_higher_identifier_began() {
    // Connection 1 is ours, 2 the peer's; ours has the identifier 192.0.2.11.
    for (id, stays, goes) in [("192.0.2.1", 1, 2), ("192.0.2.200", 2, 1)] {
        for first in [1, 2] {
            let mut fsm = fsm();
            fsm.hear(Input::Time, s(0));
            fsm.hear(Input::Connected(1), s(0));
            fsm.hear(Input::Accepted(2), s(0));
            let mut outputs = fsm.hear(says(first, &open(id)), s(0));
            outputs.extend(fsm.hear(says(3 - first, &open(id)), s(0)));
            assert_eq!(words(&outputs), [(goes, 6, 7)], "{id} {first}");
            assert_eq!(closed(&outputs), [goes], "{id} {first}");
            assert_eq!(fsm.hear(keepalive(stays), s(1)), [Output::Up(stays, open(id))]);
        }
    }
}

#[test]
fn a_session_of_some_age_keeps_its_place_unless_the_peer_may_have_restarted() {
    let mut fsm = up(&open("192.0.2.200"));
    fsm.hear(Input::Accepted(2), s(20));
    let outputs = fsm.hear(says(2, &open("192.0.2.200")), s(20));
    assert_eq!(words(&outputs), [(2, 6, 7)]);
    assert_eq!(fsm.state(), State::Established);

    let mut fsm = up(&graceful("192.0.2.1"));
    fsm.hear(Input::Accepted(2), s(20));
    let outputs = fsm.hear(says(2, &graceful("192.0.2.1")), s(20));
    assert_eq!(words(&outputs), []);
    assert_eq!(closed(&outputs), [1]);
    assert!(ended(&outputs).unwrap().restart.is_some());
    assert_eq!(fsm.hear(keepalive(2), s(20)), [Output::Up(2, graceful("192.0.2.1"))]);
}

#[test]
fn a_peer_that_opens_many_connections_gets_two() {
    let mut fsm = fsm();
    for conn in 1..100 {
        let refused = closed(&fsm.hear(Input::Accepted(conn), s(0)));
        assert_eq!(refused.is_empty(), conn <= 2, "{conn}");
    }
    // They are let go when they say nothing.
    let outputs = fsm.hear(Input::Time, OPEN_WAIT);
    assert_eq!(words(&outputs), [(1, 4, 0), (2, 4, 0)]);
}

#[test]
fn tries_come_later_and_later_and_never_all_at_once() {
    let mut fsm = fsm();
    let (mut now, mut pauses) = (s(0), Vec::new());
    for conn in 0..9 {
        assert_eq!(fsm.hear(Input::Time, now), [Output::Connect]);
        assert_eq!(fsm.state(), State::Connect);
        let outputs = fsm.hear(Input::Failed(conn, "refused".into()), now);
        assert_eq!(outputs, [Output::Failed("refused".into())]);
        let next = fsm.deadline().unwrap();
        pauses.push((next - now).as_millis());
        now = next;
    }
    assert!((3750..=5000).contains(&pauses[0]), "{pauses:?}");
    assert!((90_000..=120_000).contains(&pauses[8]), "{pauses:?}");
    let other = Fsm::new(own(), peer(), s(0), 8, s(90)).hear_failure();
    assert_ne!(other, pauses[0]);
}

impl Fsm {
    /// The pause after a first failure, in milliseconds.
    fn hear_failure(mut self) -> u128 {
        self.hear(Input::Time, s(0));
        self.hear(Input::Failed(1, "refused".into()), s(0));
        self.deadline().unwrap().as_millis()
    }
}

#[test]
fn a_passive_peer_is_left_to_connect() {
    let mut fsm = Fsm::new(own(), Peer { passive: true, ..peer() }, s(0), 7, s(90));
    assert_eq!(fsm.hear(Input::Time, s(0)), []);
    assert!(matches!(fsm.hear(Input::Accepted(1), s(5))[..], [Output::Send(1, Message::Open(_))]));
}

#[test]
fn it_says_that_it_restarts_until_a_session_was_up_or_the_time_for_it_is_over() {
    let said = |fsm: &mut Fsm, conn, now| match &fsm.hear(Input::Accepted(conn), now)[..] {
        [Output::Send(_, Message::Open(open))] => {
            open.capabilities.restart.clone().unwrap().restarting
        }
        other => panic!("{other:?}"),
    };
    assert!(said(&mut fsm(), 1, s(1)));
    assert!(!said(&mut fsm(), 1, s(90)));
    let mut fsm = up(&open("192.0.2.1"));
    fsm.hear(Input::Closed(1, "reset".into()), s(2));
    assert!(!said(&mut fsm, 2, s(3)));
}

#[test]
fn an_end_is_said_over_every_connection_and_nothing_begins_after_it() {
    let mut fsm = up(&graceful("192.0.2.1"));
    fsm.hear(Input::Accepted(2), s(1));
    let outputs = fsm.stop(&Notification { code: 6, subcode: 2, data: Vec::new() });
    assert_eq!(words(&outputs), [(1, 6, 2), (2, 6, 2)]);
    assert_eq!(closed(&outputs), [1, 2]);
    assert_eq!(ended(&outputs).unwrap().restart, None);
    assert_eq!(fsm.deadline(), None);
}

#[test]
fn what_a_closed_connection_still_had_to_say_is_not_heard() {
    let mut fsm = up(&open("192.0.2.1"));
    fsm.hear(Input::Closed(1, "reset".into()), s(1));
    assert_eq!(fsm.hear(Input::Message(1, Message::Update(Update::default())), s(1)), []);
    assert_eq!(fsm.hear(Input::Closed(1, "reset".into()), s(1)), []);
}
