//! One BFD session (RFC 5880 section 6.8).

use super::packet::{BfdState, ControlPacket, LEN};
use crate::{model::bgp::peer::Bfd, rng::Rng};
use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};

/// The minimum of Desired Min TX Interval while the session is not Up, in microseconds (RFC 5880 section
/// 6.8.3).
const MIN_TX_WHILE_DOWN: u32 = 1_000_000;

/// The reason for a change to Down, by its diagnostic code (RFC 5880 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Diag {
    /// No packet was received within the detection time.
    DetectionTimeExpired = 1,
    /// The peer signaled Down.
    NeighborSignaledDown = 3,
}

impl Display for Diag {
    /// Writes the reason for log lines.
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Diag::DetectionTimeExpired => "no packet was received within the detection time",
            Diag::NeighborSignaledDown => {
                "the peer signaled Down: it does not receive this node's packets"
            }
        })
    }
}

/// A change of the state of a session that concerns BGP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BfdChange {
    /// Packets pass in both directions.
    Up,
    /// The path failed.
    Down(Diag),
    /// The peer disabled its session. This does not indicate a failure of the path.
    AdminDown,
}

/// A BFD session. All times are relative to the start of the speaker.
pub(crate) struct BfdSession {
    config: Bfd,
    state: BfdState,
    /// The reason for the last change to Down; `None` (code 0) if there was no failure.
    diag: Option<Diag>,
    /// The discriminator of this node; not 0.
    my_discriminator: u32,
    /// The discriminator of the peer; 0 if it is unknown.
    your_discriminator: u32,
    /// The last packet from the peer; before the first one, a packet with all fields 0.
    last_received: ControlPacket,
    /// The time at which the next periodic packet is due.
    next_transmit: Duration,
    /// The time at which the detection time expires; `None` if no packet has arrived since the last
    /// expiry.
    detection_deadline: Option<Duration>,
    /// True while the peer has not confirmed the current intervals: packets have the P bit.
    polling: bool,
    /// True if the peer sent the P bit and the answer with the F bit is due.
    answer_poll: bool,
    /// The random numbers for the transmit jitter.
    rng: Rng,
}

impl BfdSession {
    /// Returns a session in state Down that sends its first packet at `now`. `seed` becomes the
    /// discriminator and must differ from those of the other sessions of this node.
    pub(crate) fn new(config: Bfd, seed: u32, now: Duration) -> BfdSession {
        BfdSession {
            config,
            state: BfdState::Down,
            diag: None,
            my_discriminator: seed.max(1),
            your_discriminator: 0,
            last_received: ControlPacket::default(),
            next_transmit: now,
            detection_deadline: None,
            polling: false,
            answer_poll: false,
            rng: Rng(u64::from(seed) | 1),
        }
    }

    /// Returns the state of the session.
    pub(crate) fn state(&self) -> BfdState {
        self.state
    }

    /// Returns the time at which [`BfdSession::handle_timeout`] and [`BfdSession::poll_transmit`] must be
    /// called. The value may change after each call of a method that takes `&mut self`.
    pub(crate) fn poll_timeout(&self) -> Duration {
        self.detection_deadline.map_or(self.next_transmit, |at| at.min(self.next_transmit))
    }

    /// Processes a packet from the peer (RFC 5880 section 6.8.6). Returns the change that it caused, or
    /// `None` if there is none, for example because the packet is for another session.
    pub(crate) fn handle_packet(
        &mut self,
        packet: ControlPacket,
        now: Duration,
    ) -> Option<BfdChange> {
        let for_this_session = packet.your_discriminator == self.my_discriminator;
        if !for_this_session && (packet.your_discriminator != 0 || !packet.state.is_down()) {
            return None;
        }
        if packet.fin {
            self.polling = false;
        }
        self.your_discriminator = packet.my_discriminator;
        self.last_received = packet;
        self.detection_deadline = Some(now + self.detection_time());
        self.answer_poll |= packet.poll;
        let was = self.state;
        self.state = match (self.state, packet.state) {
            (_, BfdState::AdminDown) | (BfdState::Up, BfdState::Down) => BfdState::Down,
            (BfdState::Down, BfdState::Down) => BfdState::Init,
            (BfdState::Down, BfdState::Init) | (BfdState::Init, BfdState::Init | BfdState::Up) => {
                BfdState::Up
            }
            (state, _) => state,
        };
        // If the peer now accepts packets more often, the next one is not delayed by the old interval.
        self.next_transmit = self.next_transmit.min(now + self.transmit_interval());
        if self.state == was {
            return None;
        }
        // A change of state is sent at once.
        (self.next_transmit, self.polling) = (now, self.state == BfdState::Up);
        self.diag = (was == BfdState::Up).then_some(Diag::NeighborSignaledDown);
        match (was, packet.state) {
            (_, BfdState::AdminDown) => Some(BfdChange::AdminDown),
            (BfdState::Up, _) => Some(BfdChange::Down(Diag::NeighborSignaledDown)),
            _ => (self.state == BfdState::Up).then_some(BfdChange::Up),
        }
    }

    /// Sets the session to Down if the detection time has expired (RFC 5880 section 6.8.4). Returns the
    /// change, or `None` if the time has not expired or the session was not Up.
    pub(crate) fn handle_timeout(&mut self, now: Duration) -> Option<BfdChange> {
        self.detection_deadline.take_if(|deadline| *deadline <= now)?;
        let was = std::mem::replace(&mut self.state, BfdState::Down);
        (self.your_discriminator, self.polling) = (0, false);
        if was.is_down() {
            return None;
        }
        (self.diag, self.next_transmit) = (Some(Diag::DetectionTimeExpired), now);
        (was == BfdState::Up).then_some(BfdChange::Down(Diag::DetectionTimeExpired))
    }

    /// Returns the packet to send at `now`; `None` if no packet is due.
    pub(crate) fn poll_transmit(&mut self, now: Duration) -> Option<[u8; LEN]> {
        if self.next_transmit <= now {
            // RFC 5880 section 6.8.7: the interval is 75 to 100 % of the negotiated one. If Detect Mult is
            // 1, it is at most 90 %, because one late packet would end the session.
            let spread = if self.config.detect_mult == 1 { 15 } else { 25 };
            let share = 75 + self.rng.below(spread + 1) as u32;
            self.next_transmit = now + self.transmit_interval() * share / 100;
        } else if !self.answer_poll {
            return None;
        }
        let fin = std::mem::take(&mut self.answer_poll);
        // A peer whose Required Min RX Interval is 0 wants no periodic packets, but its polls are answered.
        (fin || self.last_received.required_min_rx > 0 || self.your_discriminator == 0)
            .then(|| self.packet(self.state, fin).write())
    }

    /// Returns the last packet of the session. Its state is AdminDown, so that the peer does not treat the
    /// end of this session as a failure of the path.
    pub(crate) fn admin_down_packet(&self) -> [u8; LEN] {
        self.packet(BfdState::AdminDown, false).write()
    }

    fn packet(&self, state: BfdState, fin: bool) -> ControlPacket {
        ControlPacket {
            diag: self.diag.map_or(0, |diag| diag as u8),
            state,
            poll: self.polling && !fin,
            fin,
            detect_mult: self.config.detect_mult,
            my_discriminator: self.my_discriminator,
            your_discriminator: self.your_discriminator,
            desired_min_tx: self.desired_min_tx(),
            required_min_rx: self.config.min_rx,
        }
    }

    /// Returns bfd.DesiredMinTxInterval, in microseconds.
    fn desired_min_tx(&self) -> u32 {
        if self.state == BfdState::Up {
            self.config.min_tx
        } else {
            self.config.min_tx.max(MIN_TX_WHILE_DOWN)
        }
    }

    /// Returns the negotiated time between two periodic packets, before jitter (RFC 5880 section 6.8.7).
    fn transmit_interval(&self) -> Duration {
        Duration::from_micros(self.desired_min_tx().max(self.last_received.required_min_rx).into())
    }

    /// Returns the time without packets after which the path is considered failed (RFC 5880 section
    /// 6.8.4).
    fn detection_time(&self) -> Duration {
        let interval = self.config.min_rx.max(self.last_received.desired_min_tx);
        let detect_mult = u64::from(self.last_received.detect_mult);
        Duration::from_micros(detect_mult * u64::from(interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BFD: Bfd = Bfd { port: 3784, min_tx: 300_000, min_rx: 300_000, detect_mult: 3 };

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
        changes: [Vec<(Duration, BfdChange)>; 2],
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

        fn kinds(&self, at: usize) -> Vec<BfdChange> {
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
        assert_eq!(
            ControlPacket::read(&ControlPacket { my_discriminator: 0, ..packet }.write()),
            None
        );
    }

    #[test]
    fn both_sides_come_up_within_two_slow_intervals_and_then_send_at_the_negotiated_interval() {
        let slower = Bfd { min_tx: 400_000, min_rx: 500_000, ..BFD };
        let mut pair = Pair::new(BFD, slower);
        pair.run(ms(10_000));
        for at in [0, 1] {
            assert_eq!(pair.kinds(at), [BfdChange::Up]);
            assert!(pair.changes[at][0].0 < ms(2000));
            assert!(!pair.ends[at].polling, "the peer confirmed the new intervals");
        }
        // 75 to 100 % of the greater of Desired Min TX and the peer's Required Min RX: 300 and 500 ms, and
        // 400 and 300 ms.
        for (at, every) in [(0, 500), (1, 400)] {
            let steady: Vec<_> = pair.sent[at].iter().filter(|sent| **sent > ms(4000)).collect();
            assert!(steady.len() as u64 >= 6000 / every - 1, "{at}: only {steady:?}");
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
            Some(BfdChange::Down(Diag::DetectionTimeExpired))
        );
        let sent = ControlPacket::read(&pair.ends[0].poll_transmit(ms(5900)).unwrap()).unwrap();
        assert_eq!((sent.diag, sent.state, sent.your_discriminator), (1, BfdState::Down, 0));
        assert_eq!(
            pair.ends[1].handle_packet(sent, ms(5900)),
            Some(BfdChange::Down(Diag::NeighborSignaledDown))
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
        assert_eq!(pair.ends[1].handle_packet(last, ms(5000)), Some(BfdChange::AdminDown));
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
        assert_eq!(session.handle_packet(packet, ms(1)), Some(BfdChange::Up));
        let sent = ControlPacket::read(&session.poll_transmit(ms(1)).unwrap()).unwrap();
        assert_eq!((sent.fin, sent.poll, sent.state), (true, false, BfdState::Up));
        // The peer's Required Min RX Interval is 0.
        let sent: Vec<u64> =
            (2..3000).filter(|at| session.poll_transmit(ms(*at)).is_some()).collect();
        assert_eq!(sent, [0; 0]);
    }

    #[test]
    fn a_shorter_min_rx_of_the_peer_takes_effect_at_once() {
        // FRR accepts one packet a second until the session is up, and then expects its new interval to be
        // used at once.
        let mut session =
            BfdSession::new(Bfd { min_tx: 100_000, min_rx: 100_000, ..BFD }, 11, ms(0));
        session.poll_transmit(ms(0)).unwrap();
        let slow =
            ControlPacket { desired_min_tx: 1_000_000, required_min_rx: 1_000_000, ..answer() };
        assert_eq!(session.handle_packet(slow, ms(1)), Some(BfdChange::Up));
        session.poll_transmit(ms(1)).unwrap();
        let fast = ControlPacket {
            state: BfdState::Up,
            desired_min_tx: 100_000,
            required_min_rx: 100_000,
            ..slow
        };
        assert_eq!(session.handle_packet(fast, ms(2)), None);
        let sent: Vec<u64> =
            (2..1000).filter(|at| session.poll_transmit(ms(*at)).is_some()).collect();
        assert!((76..=102).contains(&sent[0]) && sent.len() >= 9, "{sent:?}");
        assert!(sent.windows(2).all(|two| two[1] - two[0] <= 101), "{sent:?}");
    }
}
