use super::*;

const BFD: Bfd = Bfd { port: 3784, tx: 300_000, rx: 300_000, times: 3 };

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What another side says that heard session 11.
fn answer() -> Packet {
    Packet { state: State::Init, times: 3, mine: 5, yours: 11, ..Packet::default() }
}

/// Two sides, and a way between them that takes no time.
struct Pair {
    ends: [Session; 2],
    now: Duration,
    /// What came of it, and when.
    changes: [Vec<(Duration, Change)>; 2],
    /// When each of them sent.
    sent: [Vec<Duration>; 2],
}

impl Pair {
    fn new(one: Bfd, other: Bfd) -> Pair {
        let ends = [Session::new(one, 11, ms(0)), Session::new(other, 22, ms(0))];
        let (changes, sent) = Default::default();
        Pair { ends, now: ms(0), changes, sent }
    }

    /// Millisecond by millisecond.
    fn run(&mut self, until: Duration) {
        while self.now < until {
            for at in [0, 1] {
                let change = self.ends[at].time(self.now);
                self.changes[at].extend(change.map(|change| (self.now, change)));
                if let Some(bytes) = self.ends[at].send(self.now) {
                    self.sent[at].push(self.now);
                    let packet = Packet::read(&bytes).unwrap();
                    let change = self.ends[1 - at].hear(packet, self.now);
                    self.changes[1 - at].extend(change.map(|change| (self.now, change)));
                }
                assert!(self.ends[at].deadline() > self.now, "it sleeps");
            }
            self.now += ms(1);
        }
    }

    fn kinds(&self, at: usize) -> Vec<Change> {
        self.changes[at].iter().map(|(_, change)| *change).collect()
    }
}

#[test]
fn a_packet_is_what_rfc_5880_draws() {
    let packet = Packet {
        diag: 1,
        state: State::Up,
        poll: true,
        fin: false,
        times: 3,
        mine: 0x0102_0304,
        yours: 0x0506_0708,
        tx: 1_000_000,
        rx: 300_000,
    };
    let bytes = packet.write();
    #[rustfmt::skip]
    let want = [
        0x21, 0xe0, 3, 24, 1, 2, 3, 4, 5, 6, 7, 8,
        0x00, 0x0f, 0x42, 0x40, 0x00, 0x04, 0x93, 0xe0, 0, 0, 0, 0,
    ];
    assert_eq!(bytes, want);
    assert_eq!(Packet::read(&bytes), Some(packet));
    for len in 0..LEN {
        assert_eq!(Packet::read(&bytes[..len]), None, "{len}");
    }
    // Another version, authentication, multipoint, no multiplier, another length, no discriminator.
    for (at, value) in [(0, 0x41), (1, 0xe4), (1, 0xe1), (2, 0), (3, 25), (3, 23)] {
        let mut wrong = bytes;
        wrong[at] = value;
        assert_eq!(Packet::read(&wrong), None, "{at} {value}");
    }
    assert_eq!(Packet::read(&Packet { mine: 0, ..packet }.write()), None);
}

#[test]
fn both_come_up_within_two_slow_packets_and_then_send_as_fast_as_was_agreed() {
    let slower = Bfd { tx: 400_000, rx: 500_000, ..BFD };
    let mut pair = Pair::new(BFD, slower);
    pair.run(ms(10_000));
    for at in [0, 1] {
        assert_eq!(pair.kinds(at), [Change::Up]);
        assert!(pair.changes[at][0].0 < ms(2000));
        assert!(!pair.ends[at].poll, "what changed was confirmed");
    }
    // 300 wanted and 500 borne; 400 wanted and 300 borne: the greater, and 75 to 100 % of it.
    for (at, every) in [(0, 500), (1, 400)] {
        let steady: Vec<_> = pair.sent[at].iter().filter(|sent| **sent > ms(4000)).collect();
        for two in steady.windows(2) {
            let pause = *two[1] - *two[0];
            assert!((ms(every * 3 / 4)..=ms(every + 1)).contains(&pause), "{at}: {pause:?}");
        }
    }
}

#[test]
fn silence_of_three_packets_is_down_here_and_the_other_side_is_told() {
    let mut pair = Pair::new(BFD, BFD);
    pair.run(ms(5000));
    pair.ends[0].silent = Some(ms(5000) + pair.ends[0].patience());
    assert_eq!(pair.ends[0].patience(), ms(900));
    assert_eq!(pair.ends[0].time(ms(5899)), None);
    let why = "nothing was heard for the detection time";
    assert_eq!(pair.ends[0].time(ms(5900)), Some(Change::Down(why)));
    let told = Packet::read(&pair.ends[0].send(ms(5900)).unwrap()).unwrap();
    assert_eq!((told.diag, told.state, told.yours), (1, State::Down, 0));
    let why = "the peer says that it does not hear us";
    assert_eq!(pair.ends[1].hear(told, ms(5900)), Some(Change::Down(why)));
    // And up again.
    pair.now = ms(5901);
    pair.run(ms(9000));
    assert_eq!(pair.ends.each_ref().map(Session::state), [State::Up; 2]);
}

#[test]
fn one_that_is_turned_off_is_no_fault_of_the_way() {
    let mut pair = Pair::new(BFD, BFD);
    pair.run(ms(5000));
    let last = Packet::read(&pair.ends[0].end()).unwrap();
    assert_eq!(pair.ends[1].hear(last, ms(5000)), Some(Change::Off));
    assert_eq!(pair.ends[1].time(ms(60_000)), None);
}

#[test]
fn a_packet_for_another_session_changes_nothing() {
    let mut pair = Pair::new(BFD, BFD);
    pair.run(ms(5000));
    let foreign = |packet: Packet| Packet { yours: 77, ..packet };
    let packet = pair.ends[0].packet(State::Down, false);
    assert_eq!(pair.ends[1].hear(foreign(packet), ms(5000)), None);
    assert_eq!(pair.ends[1].hear(Packet { yours: 0, state: State::Up, ..packet }, ms(5000)), None);
    assert_eq!(pair.ends[1].state(), State::Up);
}

#[test]
fn a_poll_is_confirmed_at_once_and_one_that_wants_nothing_is_sent_nothing_else() {
    let mut session = Session::new(BFD, 11, ms(0));
    session.send(ms(0)).unwrap();
    let packet = Packet { poll: true, ..answer() };
    assert_eq!(session.hear(packet, ms(1)), Some(Change::Up));
    let sent = Packet::read(&session.send(ms(1)).unwrap()).unwrap();
    assert_eq!((sent.fin, sent.poll, sent.state), (true, false, State::Up));
    // It said that it bears no packets at all.
    let sent: Vec<u64> = (2..3000).filter(|at| session.send(ms(*at)).is_some()).collect();
    assert_eq!(sent, [0; 0]);
}

#[test]
fn one_that_wants_to_hear_more_often_does_from_then_on() {
    // FRR bears one packet a second until it is up, and counts on what it says then at once.
    let mut session = Session::new(Bfd { tx: 100_000, rx: 100_000, ..BFD }, 11, ms(0));
    session.send(ms(0)).unwrap();
    let slow = Packet { tx: 1_000_000, rx: 1_000_000, ..answer() };
    assert_eq!(session.hear(slow, ms(1)), Some(Change::Up));
    session.send(ms(1)).unwrap();
    let fast = Packet { state: State::Up, tx: 100_000, rx: 100_000, ..slow };
    assert_eq!(session.hear(fast, ms(2)), None);
    let sent: Vec<u64> = (2..1000).filter(|at| session.send(ms(*at)).is_some()).collect();
    assert!((76..=102).contains(&sent[0]), "{sent:?}");
    assert!(sent.windows(2).all(|two| two[1] - two[0] <= 101), "{sent:?}");
}
