//! Bidirectional Forwarding Detection for one peer: RFC 5880 in asynchronous mode, over one hop as in
//! RFC 5881, without I/O and without a clock.
//!
//! Received packets go in through [`BfdSession::handle_packet`] and the time through
//! [`BfdSession::handle_timeout`]; both return a [`Change`] if the path to the peer came up or failed.
//! [`BfdSession::poll_transmit`] returns the packet to send, and [`BfdSession::poll_timeout`] the time at
//! which to call both again. `speaker` ends the BGP session when the path fails; `probes` has the
//! sockets.

mod packet;

use std::{
    fmt::{self, Display, Formatter},
    time::Duration,
};

pub use packet::{BfdState, ControlPacket, LEN};

use crate::router::Bfd;

/// The minimum of Desired Min TX Interval while the session is not Up, in microseconds (RFC 5880 section
/// 6.8.3).
const MIN_TX_WHILE_DOWN: u32 = 1_000_000;

/// The reason for a change to Down, by its diagnostic code (RFC 5880 section 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Diag {
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
pub enum Change {
    /// Packets pass in both directions.
    Up,
    /// The path failed.
    Down(Diag),
    /// The peer disabled its session. This does not indicate a failure of the path.
    AdminDown,
}

/// A BFD session. All times are relative to the start of the speaker.
pub struct BfdSession {
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
    /// The state of the random numbers for the transmit jitter.
    seed: u32,
}

impl BfdSession {
    /// Returns a session in state Down that sends its first packet at `now`. `seed` becomes the
    /// discriminator and must differ from those of the other sessions of this node.
    pub fn new(config: Bfd, seed: u32, now: Duration) -> BfdSession {
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
            seed: seed | 1,
        }
    }

    /// Returns the state of the session.
    pub fn state(&self) -> BfdState {
        self.state
    }

    /// Returns the time at which [`BfdSession::handle_timeout`] and [`BfdSession::poll_transmit`] must be
    /// called. The value may change after each call of a method that takes `&mut self`.
    pub fn poll_timeout(&self) -> Duration {
        self.detection_deadline.map_or(self.next_transmit, |at| at.min(self.next_transmit))
    }

    /// Processes a packet from the peer (RFC 5880 section 6.8.6). Returns the change that it caused, or
    /// `None` if there is none, for example because the packet is for another session.
    pub fn handle_packet(&mut self, packet: ControlPacket, now: Duration) -> Option<Change> {
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
            (_, BfdState::AdminDown) => Some(Change::AdminDown),
            (BfdState::Up, _) => Some(Change::Down(Diag::NeighborSignaledDown)),
            _ => (self.state == BfdState::Up).then_some(Change::Up),
        }
    }

    /// Sets the session to Down if the detection time has expired (RFC 5880 section 6.8.4). Returns the
    /// change, or `None` if the time has not expired or the session was not Up.
    pub fn handle_timeout(&mut self, now: Duration) -> Option<Change> {
        self.detection_deadline.take_if(|deadline| *deadline <= now)?;
        let was = std::mem::replace(&mut self.state, BfdState::Down);
        (self.your_discriminator, self.polling) = (0, false);
        if was.is_down() {
            return None;
        }
        (self.diag, self.next_transmit) = (Some(Diag::DetectionTimeExpired), now);
        (was == BfdState::Up).then_some(Change::Down(Diag::DetectionTimeExpired))
    }

    /// Returns the packet to send at `now`; `None` if no packet is due.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<[u8; LEN]> {
        if self.next_transmit <= now {
            // RFC 5880 section 6.8.7: the interval is 75 to 100 % of the negotiated one. If Detect Mult is
            // 1, it is at most 90 %, because one late packet would end the session.
            let spread = if self.config.times == 1 { 15 } else { 25 };
            let share = 75 + self.next_random() % (spread + 1);
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
    pub fn admin_down_packet(&self) -> [u8; LEN] {
        self.packet(BfdState::AdminDown, false).write()
    }

    fn packet(&self, state: BfdState, fin: bool) -> ControlPacket {
        ControlPacket {
            diag: self.diag.map_or(0, |diag| diag as u8),
            state,
            poll: self.polling && !fin,
            fin,
            detect_mult: self.config.times,
            my_discriminator: self.my_discriminator,
            your_discriminator: self.your_discriminator,
            desired_min_tx: self.desired_min_tx(),
            required_min_rx: self.config.rx,
        }
    }

    /// Returns bfd.DesiredMinTxInterval, in microseconds.
    fn desired_min_tx(&self) -> u32 {
        if self.state == BfdState::Up {
            self.config.tx
        } else {
            self.config.tx.max(MIN_TX_WHILE_DOWN)
        }
    }

    /// Returns the negotiated time between two periodic packets, before jitter (RFC 5880 section 6.8.7).
    fn transmit_interval(&self) -> Duration {
        Duration::from_micros(self.desired_min_tx().max(self.last_received.required_min_rx).into())
    }

    /// Returns the time without packets after which the path is considered failed (RFC 5880 section
    /// 6.8.4).
    fn detection_time(&self) -> Duration {
        let interval = self.config.rx.max(self.last_received.desired_min_tx);
        let detect_mult = u64::from(self.last_received.detect_mult);
        Duration::from_micros(detect_mult * u64::from(interval))
    }

    /// Returns the next number of an xorshift sequence.
    fn next_random(&mut self) -> u32 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 17;
        self.seed ^= self.seed << 5;
        self.seed
    }
}

#[cfg(test)]
mod tests;
