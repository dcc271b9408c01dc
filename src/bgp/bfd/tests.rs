use super::*;

const BFD: Bfd = Bfd { port: 3784, tx: 300_000, rx: 300_000, times: 3 };

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Returns the packet of a peer that has received packets of session 11.
fn answer() -> ControlPacket {
    ControlPacket {
        state: BfdState::Init,
        detect_mult: 3,
        my_discriminator: 5,
        your_discriminator: 11,
        ..ControlPacket::default()
    }
}

/// Two sessions, connected by a path without delay.
struct Pair {
    ends: [BfdSession; 2],
    now: Duration,
    /// The changes that each session returned, and when.
    changes: [Vec<(Duration, Change)>; 2],
    /// The times at which each session sent a packet.
    sent: [Vec<Duration>; 2],
}

impl Pair {
    fn new(one: Bfd, other: Bfd) -> Pair {
        let ends = [BfdSession::new(one, 11, ms(0)), BfdSession::new(other, 22, ms(0))];
        let (changes, sent) = Default::default();
        Pair { ends, now: ms(0), changes, sent }
    }

    /// Runs both sessions in steps of one millisecond.
    fn run(&mut self, until: Duration) {
        while self.now < until {
            for at in [0, 1] {
                let change = self.ends[at].handle_timeout(self.now);
                self.changes[at].extend(change.map(|change| (self.now, change)));
                if let Some(bytes) = self.ends[at].poll_transmit(self.now) {
                    self.sent[at].push(self.now);
                    let packet = ControlPacket::read(&bytes).unwrap();
                    let change = self.ends[1 - at].handle_packet(packet, self.now);
                    self.changes[1 - at].extend(change.map(|change| (self.now, change)));
                }
                assert!(
                    self.ends[at].poll_timeout() > self.now,
                    "a busy loop: the next timeout is not in the future"
                );
            }
            self.now += ms(1);
        }
    }

    fn kinds(&self, at: usize) -> Vec<Change> {
        self.changes[at].iter().map(|(_, change)| *change).collect()
    }
}

#[test]
fn a_packet_has_the_layout_of_rfc_5880_and_invalid_packets_are_discarded() {
    let packet = ControlPacket {
        diag: 1,
        state: BfdState::Up,
        poll: true,
        fin: false,
        detect_mult: 3,
        my_discriminator: 0x0102_0304,
        your_discriminator: 0x0506_0708,
        desired_min_tx: 1_000_000,
        required_min_rx: 300_000,
    };
    let bytes = packet.write();
    #[rustfmt::skip]
    let want = [
        0x21, 0xe0, 3, 24, 1, 2, 3, 4, 5, 6, 7, 8,
        0x00, 0x0f, 0x42, 0x40, 0x00, 0x04, 0x93, 0xe0, 0, 0, 0, 0,
    ];
    assert_eq!(bytes, want);
    assert_eq!(ControlPacket::read(&bytes), Some(packet));
    for len in 0..LEN {
        assert_eq!(ControlPacket::read(&bytes[..len]), None, "{len}");
    }
    // A wrong version, authentication, multipoint, Detect Mult 0, and two wrong lengths.
    for (at, value) in [(0, 0x41), (1, 0xe4), (1, 0xe1), (2, 0), (3, 25), (3, 23)] {
        let mut wrong = bytes;
        wrong[at] = value;
        assert_eq!(ControlPacket::read(&wrong), None, "{at} {value}");
    }
    assert_eq!(ControlPacket::read(&ControlPacket { my_discriminator: 0, ..packet }.write()), None);
}

#[test]
fn both_sides_come_up_within_two_slow_intervals_and_then_send_at_the_negotiated_interval() {
    let slower = Bfd { tx: 400_000, rx: 500_000, ..BFD };
    let mut pair = Pair::new(BFD, slower);
    pair.run(ms(10_000));
    for at in [0, 1] {
        assert_eq!(pair.kinds(at), [Change::Up]);
        assert!(pair.changes[at][0].0 < ms(2000));
        assert!(!pair.ends[at].polling, "the peer confirmed the new intervals");
    }
    // 75 to 100 % of the greater of Desired Min TX and the peer's Required Min RX: 300 and 500 ms, and
    // 400 and 300 ms.
    for (at, every) in [(0, 500), (1, 400)] {
        let steady: Vec<_> = pair.sent[at].iter().filter(|sent| **sent > ms(4000)).collect();
        for two in steady.windows(2) {
            let pause = *two[1] - *two[0];
            assert!((ms(every * 3 / 4)..=ms(every + 1)).contains(&pause), "{at}: {pause:?}");
        }
    }
}

#[test]
fn three_missing_packets_end_the_session_and_the_peer_learns_of_it() {
    let mut pair = Pair::new(BFD, BFD);
    pair.run(ms(5000));
    pair.ends[0].detection_deadline = Some(ms(5000) + pair.ends[0].detection_time());
    assert_eq!(pair.ends[0].detection_time(), ms(900));
    assert_eq!(pair.ends[0].handle_timeout(ms(5899)), None);
    assert_eq!(
        pair.ends[0].handle_timeout(ms(5900)),
        Some(Change::Down(Diag::DetectionTimeExpired))
    );
    let sent = ControlPacket::read(&pair.ends[0].poll_transmit(ms(5900)).unwrap()).unwrap();
    assert_eq!((sent.diag, sent.state, sent.your_discriminator), (1, BfdState::Down, 0));
    assert_eq!(
        pair.ends[1].handle_packet(sent, ms(5900)),
        Some(Change::Down(Diag::NeighborSignaledDown))
    );
    let texts = [Diag::DetectionTimeExpired, Diag::NeighborSignaledDown].map(|d| d.to_string());
    assert_eq!(texts[0], "no packet was received within the detection time");
    assert_eq!(texts[1], "the peer signaled Down: it does not receive this node's packets");
    // The session comes up again.
    pair.now = ms(5901);
    pair.run(ms(9000));
    assert_eq!(pair.ends.each_ref().map(BfdSession::state), [BfdState::Up; 2]);
}

#[test]
fn an_administratively_disabled_session_is_not_a_path_failure() {
    let mut pair = Pair::new(BFD, BFD);
    pair.run(ms(5000));
    let last = ControlPacket::read(&pair.ends[0].admin_down_packet()).unwrap();
    assert_eq!(pair.ends[1].handle_packet(last, ms(5000)), Some(Change::AdminDown));
    assert_eq!(pair.ends[1].handle_timeout(ms(60_000)), None);
}

#[test]
fn a_packet_for_another_session_is_ignored() {
    let mut pair = Pair::new(BFD, BFD);
    pair.run(ms(5000));
    let foreign = |packet: ControlPacket| ControlPacket { your_discriminator: 77, ..packet };
    let packet = pair.ends[0].packet(BfdState::Down, false);
    assert_eq!(pair.ends[1].handle_packet(foreign(packet), ms(5000)), None);
    assert_eq!(
        pair.ends[1].handle_packet(
            ControlPacket { your_discriminator: 0, state: BfdState::Up, ..packet },
            ms(5000)
        ),
        None
    );
    assert_eq!(pair.ends[1].state(), BfdState::Up);
}

#[test]
fn a_poll_is_answered_at_once_and_a_peer_with_min_rx_zero_gets_no_periodic_packets() {
    let mut session = BfdSession::new(BFD, 11, ms(0));
    session.poll_transmit(ms(0)).unwrap();
    let packet = ControlPacket { poll: true, ..answer() };
    assert_eq!(session.handle_packet(packet, ms(1)), Some(Change::Up));
    let sent = ControlPacket::read(&session.poll_transmit(ms(1)).unwrap()).unwrap();
    assert_eq!((sent.fin, sent.poll, sent.state), (true, false, BfdState::Up));
    // The peer's Required Min RX Interval is 0.
    let sent: Vec<u64> = (2..3000).filter(|at| session.poll_transmit(ms(*at)).is_some()).collect();
    assert_eq!(sent, [0; 0]);
}

#[test]
fn a_shorter_min_rx_of_the_peer_takes_effect_at_once() {
    // FRR accepts one packet a second until the session is up, and then expects its new interval to be
    // used at once.
    let mut session = BfdSession::new(Bfd { tx: 100_000, rx: 100_000, ..BFD }, 11, ms(0));
    session.poll_transmit(ms(0)).unwrap();
    let slow = ControlPacket { desired_min_tx: 1_000_000, required_min_rx: 1_000_000, ..answer() };
    assert_eq!(session.handle_packet(slow, ms(1)), Some(Change::Up));
    session.poll_transmit(ms(1)).unwrap();
    let fast = ControlPacket {
        state: BfdState::Up,
        desired_min_tx: 100_000,
        required_min_rx: 100_000,
        ..slow
    };
    assert_eq!(session.handle_packet(fast, ms(2)), None);
    let sent: Vec<u64> = (2..1000).filter(|at| session.poll_transmit(ms(*at)).is_some()).collect();
    assert!((76..=102).contains(&sent[0]), "{sent:?}");
    assert!(sent.windows(2).all(|two| two[1] - two[0] <= 101), "{sent:?}");
}
