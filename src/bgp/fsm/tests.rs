//! Tests of the state machine: each proves a requirement of RFC 4271 section 8, RFC 4724, RFC 6286, or
//! of this implementation.

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

fn opens(conn: ConnId, open: &Open) -> Input {
    Input::Message(conn, Message::Open(open.clone()))
}

fn keepalive(conn: ConnId) -> Input {
    Input::Message(conn, Message::Keepalive)
}

/// Returns a machine whose session is established at second 0 over connection 1, which this node opened.
fn up(open: &Open) -> Fsm {
    let mut fsm = fsm();
    assert_eq!(fsm.handle_event(Input::Timeout, s(0)), [Output::Connect]);
    fsm.handle_event(Input::Connected(1), s(0));
    assert_eq!(fsm.state(), State::OpenSent);
    assert_eq!(fsm.handle_event(opens(1, open), s(0)), [Output::Send(1, Message::Keepalive)]);
    assert_eq!(fsm.state(), State::OpenConfirm);
    assert_eq!(fsm.handle_event(keepalive(1), s(0)), [Output::SessionUp(1, open.clone())]);
    assert_eq!(fsm.state(), State::Established);
    fsm
}

fn notifications(outputs: &[Output]) -> Vec<(ConnId, u8, u8)> {
    let notification = |output: &Output| match output {
        Output::Send(conn, Message::Notification(sent)) => Some((*conn, sent.code, sent.subcode)),
        _ => None,
    };
    outputs.iter().filter_map(notification).collect()
}

fn closed(outputs: &[Output]) -> Vec<ConnId> {
    let closed = |output: &Output| match output {
        Output::Close(conn) => Some(*conn),
        _ => None,
    };
    outputs.iter().filter_map(closed).collect()
}

fn ended(outputs: &[Output]) -> Option<&SessionDown> {
    outputs.iter().find_map(|output| match output {
        Output::SessionDown(down) => Some(down),
        _ => None,
    })
}

#[test]
fn the_lower_hold_time_is_used_and_keepalives_are_sent_at_a_third_of_it() {
    let mut fsm = up(&open("192.0.2.1"));
    assert_eq!(fsm.poll_timeout(), Some(s(10)));
    assert_eq!(fsm.handle_event(Input::Timeout, s(9)), []);
    assert_eq!(fsm.handle_event(Input::Timeout, s(10)), [Output::Send(1, Message::Keepalive)]);
    assert_eq!(fsm.poll_timeout(), Some(s(20)));
}

#[test]
fn a_hold_time_of_zero_disables_the_hold_and_keepalive_timers() {
    let fsm = up(&Open { hold: 0, ..open("192.0.2.1") });
    assert_eq!(fsm.poll_timeout(), None);
}

#[test]
fn an_expired_hold_timer_ends_the_session_without_graceful_restart() {
    let mut fsm = up(&graceful("192.0.2.1"));
    fsm.handle_event(keepalive(1), s(5));
    fsm.handle_event(Input::Message(1, Message::Update(Update::default())), s(8));
    assert_eq!(ended(&fsm.handle_event(Input::Timeout, s(37))), None);
    let outputs = fsm.handle_event(Input::Timeout, s(38));
    assert_eq!(notifications(&outputs), [(1, 4, 0)]);
    assert_eq!(closed(&outputs), [1]);
    assert_eq!(ended(&outputs).unwrap().restart, None);
    let reason = DownReason::NotificationSent(Notification::HOLD_TIMER_EXPIRED);
    assert_eq!(ended(&outputs).unwrap().reason, reason);
}

#[test]
fn a_close_without_notification_may_be_a_graceful_restart_and_a_notification_is_not() {
    let restart = graceful("192.0.2.1").capabilities.restart;
    let outputs = up(&graceful("192.0.2.1")).handle_event(Input::Closed(1, "reset".into()), s(5));
    assert_eq!(ended(&outputs).unwrap().restart, restart);
    let outputs = up(&open("192.0.2.1")).handle_event(Input::Closed(1, "reset".into()), s(5));
    assert_eq!(ended(&outputs).unwrap().restart, None);
    let cease = Notification { code: 6, subcode: 2, data: Vec::new() };
    let input = Input::Message(1, Message::Notification(cease));
    let outputs = up(&graceful("192.0.2.1")).handle_event(input, s(5));
    assert_eq!(ended(&outputs).unwrap().restart, None);
    assert_eq!(notifications(&outputs), []);
    assert_eq!(closed(&outputs), [1]);
}

#[test]
fn a_wrong_as_or_identifier_is_rejected_with_an_open_message_error() {
    for (open, subcode) in [(Open { asn: 65002, ..open("192.0.2.1") }, 2), (open("0.0.0.0"), 3)] {
        let mut fsm = fsm();
        fsm.handle_event(Input::Accepted(1), s(0));
        let outputs = fsm.handle_event(opens(1, &open), s(0));
        assert_eq!(notifications(&outputs), [(1, 2, subcode)]);
        assert_eq!(closed(&outputs), [1]);
    }
    // RFC 6286: equal identifiers are an error only within one AS.
    let mut inside = Fsm::new(own(), Peer { asn: 64512, ..peer() }, s(0), 7, s(90));
    inside.handle_event(Input::Accepted(1), s(0));
    let same = Open { asn: 64512, ..open("192.0.2.11") };
    assert_eq!(notifications(&inside.handle_event(opens(1, &same), s(0))), [(1, 2, 3)]);
    up(&open("192.0.2.11"));
}

#[test]
fn connections_are_refused_for_a_while_after_a_protocol_error() {
    let mut fsm = fsm();
    fsm.handle_event(Input::Accepted(1), s(0));
    fsm.handle_event(opens(1, &Open { asn: 65002, ..open("192.0.2.1") }), s(0));
    assert_eq!(fsm.handle_event(Input::Accepted(2), s(0)), [Output::Close(2)]);
    assert!(closed(&fsm.handle_event(Input::Accepted(3), s(31))).is_empty());
    assert_eq!(fsm.state(), State::OpenSent);
}

#[test]
fn an_unexpected_message_is_an_fsm_error_whose_subcode_names_the_state() {
    let mut fsm = fsm();
    fsm.handle_event(Input::Accepted(1), s(0));
    assert_eq!(notifications(&fsm.handle_event(keepalive(1), s(0))), [(1, 5, 1)]);
    let mut fsm = Fsm::new(own(), peer(), s(0), 7, s(90));
    fsm.handle_event(Input::Accepted(1), s(0));
    fsm.handle_event(opens(1, &open("192.0.2.1")), s(0));
    let update = Input::Message(1, Message::Update(Update::default()));
    assert_eq!(notifications(&fsm.handle_event(update, s(0))), [(1, 5, 2)]);
    let mut fsm = up(&open("192.0.2.1"));
    assert_eq!(notifications(&fsm.handle_event(opens(1, &open("192.0.2.1")), s(0))), [(1, 5, 3)]);
}

#[test]
fn a_collision_keeps_the_connection_that_the_higher_identifier_opened() {
    // This node, with identifier 192.0.2.11, opened connection 1; the peer opened connection 2.
    for (id, winner, loser) in [("192.0.2.1", 1, 2), ("192.0.2.200", 2, 1)] {
        for first in [1, 2] {
            let mut fsm = fsm();
            fsm.handle_event(Input::Timeout, s(0));
            fsm.handle_event(Input::Connected(1), s(0));
            fsm.handle_event(Input::Accepted(2), s(0));
            let mut outputs = fsm.handle_event(opens(first, &open(id)), s(0));
            outputs.extend(fsm.handle_event(opens(3 - first, &open(id)), s(0)));
            assert_eq!(notifications(&outputs), [(loser, 6, 7)], "{id} {first}");
            assert_eq!(closed(&outputs), [loser], "{id} {first}");
            assert_eq!(
                fsm.handle_event(keepalive(winner), s(1)),
                [Output::SessionUp(winner, open(id))]
            );
        }
    }
}

#[test]
fn an_old_session_wins_a_collision_unless_the_peer_supports_graceful_restart() {
    let mut fsm = up(&open("192.0.2.200"));
    fsm.handle_event(Input::Accepted(2), s(20));
    let outputs = fsm.handle_event(opens(2, &open("192.0.2.200")), s(20));
    assert_eq!(notifications(&outputs), [(2, 6, 7)]);
    assert_eq!(fsm.state(), State::Established);

    let mut fsm = up(&graceful("192.0.2.1"));
    fsm.handle_event(Input::Accepted(2), s(20));
    let outputs = fsm.handle_event(opens(2, &graceful("192.0.2.1")), s(20));
    assert_eq!(notifications(&outputs), []);
    assert_eq!(closed(&outputs), [1]);
    assert!(ended(&outputs).unwrap().restart.is_some());
    assert_eq!(
        fsm.handle_event(keepalive(2), s(20)),
        [Output::SessionUp(2, graceful("192.0.2.1"))]
    );
}

#[test]
fn at_most_two_pending_connections_of_a_peer_are_accepted() {
    let mut fsm = fsm();
    for conn in 1..100 {
        let refused = closed(&fsm.handle_event(Input::Accepted(conn), s(0)));
        assert_eq!(refused.is_empty(), conn <= 2, "{conn}");
    }
    // Both are closed if no OPEN arrives.
    let outputs = fsm.handle_event(Input::Timeout, OPEN_HOLD_TIME);
    assert_eq!(notifications(&outputs), [(1, 4, 0), (2, 4, 0)]);
}

#[test]
fn the_connect_retry_delay_grows_and_differs_between_seeds() {
    let mut fsm = fsm();
    let (mut now, mut delays) = (s(0), Vec::new());
    for conn in 0..9 {
        assert_eq!(fsm.handle_event(Input::Timeout, now), [Output::Connect]);
        assert_eq!(fsm.state(), State::Connect);
        let outputs = fsm.handle_event(Input::ConnectFailed(conn, "refused".into()), now);
        assert_eq!(outputs, [Output::AttemptFailed(DownReason::Transport("refused".into()))]);
        let next = fsm.poll_timeout().unwrap();
        delays.push((next - now).as_millis());
        now = next;
    }
    assert!((3750..=5000).contains(&delays[0]), "{delays:?}");
    assert!((90_000..=120_000).contains(&delays[8]), "{delays:?}");
    let other = Fsm::new(own(), peer(), s(0), 8, s(90)).first_retry_delay();
    assert_ne!(other, delays[0]);
}

impl Fsm {
    /// Returns the delay after the first failure, in milliseconds.
    fn first_retry_delay(mut self) -> u128 {
        self.handle_event(Input::Timeout, s(0));
        self.handle_event(Input::ConnectFailed(1, "refused".into()), s(0));
        self.poll_timeout().unwrap().as_millis()
    }
}

#[test]
fn no_connection_is_opened_to_a_passive_peer() {
    let mut fsm = Fsm::new(own(), Peer { passive: true, ..peer() }, s(0), 7, s(90));
    assert_eq!(fsm.handle_event(Input::Timeout, s(0)), []);
    assert!(matches!(
        fsm.handle_event(Input::Accepted(1), s(5))[..],
        [Output::Send(1, Message::Open(_))]
    ));
}

#[test]
fn the_restart_state_bit_is_set_until_the_first_session_or_the_end_of_the_restart_time() {
    let restarting =
        |fsm: &mut Fsm, conn, now| match &fsm.handle_event(Input::Accepted(conn), now)[..] {
            [Output::Send(_, Message::Open(open))] => {
                open.capabilities.restart.clone().unwrap().restarting
            }
            other => panic!("{other:?}"),
        };
    assert!(restarting(&mut fsm(), 1, s(1)));
    assert!(!restarting(&mut fsm(), 1, s(90)));
    let mut fsm = up(&open("192.0.2.1"));
    fsm.handle_event(Input::Closed(1, "reset".into()), s(2));
    assert!(!restarting(&mut fsm, 2, s(3)));
}

#[test]
fn stop_notifies_every_connection_and_leaves_no_timer() {
    let mut fsm = up(&graceful("192.0.2.1"));
    fsm.handle_event(Input::Accepted(2), s(1));
    let outputs = fsm.stop(&Notification { code: 6, subcode: 2, data: Vec::new() });
    assert_eq!(notifications(&outputs), [(1, 6, 2), (2, 6, 2)]);
    assert_eq!(closed(&outputs), [1, 2]);
    assert_eq!(ended(&outputs).unwrap().restart, None);
    assert_eq!(fsm.poll_timeout(), None);
}

#[test]
fn messages_of_a_closed_connection_are_ignored() {
    let mut fsm = up(&open("192.0.2.1"));
    fsm.handle_event(Input::Closed(1, "reset".into()), s(1));
    assert_eq!(fsm.handle_event(Input::Message(1, Message::Update(Update::default())), s(1)), []);
    assert_eq!(fsm.handle_event(Input::Closed(1, "reset".into()), s(1)), []);
}
