//! Bidirectional Forwarding Detection of one peer (RFC 5880 in asynchronous mode, over one hop as RFC
//! 5881 has it), without I/O and without a clock: packets and the time go in, packets and one deadline
//! come out.

mod packet;

use std::time::Duration;

pub use packet::{LEN, Packet, State};

use crate::router::Bfd;

/// The least that is sent while the other side is not known to hear it, in microseconds (RFC 5880
/// section 6.8.3).
const SLOW: u32 = 1_000_000;

/// Why it is down (RFC 5880 section 4.1).
#[derive(Clone, Copy)]
enum Diag {
    Nothing = 0,
    Silence = 1,
    Neighbour = 3,
}

/// What came of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The way works.
    Up,
    /// It does not any more, and why.
    Down(&'static str),
    /// The peer turned it off, which says nothing of the way.
    Off,
}

/// The session.
pub struct Session {
    bfd: Bfd,
    state: State,
    diag: Diag,
    /// Our discriminator, and theirs: zero where it is not known.
    mine: u32,
    yours: u32,
    /// What the peer said last; before that, nothing in particular.
    said: Packet,
    /// When the next packet is due.
    send: Duration,
    /// When the peer has been silent for too long.
    silent: Option<Duration>,
    /// Whether the peer is to confirm our times, and whether it wants ours confirmed.
    poll: bool,
    confirm: bool,
    seed: u32,
}

impl Session {
    /// It sends from now on. `seed`: any number but zero that no other session here has.
    pub fn new(bfd: Bfd, seed: u32, now: Duration) -> Session {
        Session {
            bfd,
            state: State::Down,
            diag: Diag::Nothing,
            mine: seed.max(1),
            yours: 0,
            said: Packet::default(),
            send: now,
            silent: None,
            poll: false,
            confirm: false,
            seed: seed | 1,
        }
    }

    /// How far it is.
    pub fn state(&self) -> State {
        self.state
    }

    /// When to look again.
    pub fn deadline(&self) -> Duration {
        self.silent.map_or(self.send, |silent| silent.min(self.send))
    }

    /// A packet came from the peer (RFC 5880 section 6.8.6).
    pub fn hear(&mut self, packet: Packet, now: Duration) -> Option<Change> {
        let for_us = packet.yours == self.mine;
        if !for_us && (packet.yours != 0 || !packet.state.is_down()) {
            return None;
        }
        if packet.fin {
            self.poll = false;
        }
        self.yours = packet.mine;
        self.said = packet;
        self.silent = Some(now + self.patience());
        self.confirm |= packet.poll;
        let was = self.state;
        self.state = match (self.state, packet.state) {
            (_, State::AdminDown) | (State::Up, State::Down) => State::Down,
            (State::Down, State::Down) => State::Init,
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => State::Up,
            (state, _) => state,
        };
        // One that wants to hear more often does not wait for what was due by what it said before.
        self.send = self.send.min(now + self.every());
        if self.state == was {
            return None;
        }
        // What changes is told at once.
        (self.send, self.poll) = (now, self.state == State::Up);
        self.diag = if was == State::Up { Diag::Neighbour } else { Diag::Nothing };
        match (was, packet.state) {
            (_, State::AdminDown) => Some(Change::Off),
            (State::Up, _) => Some(Change::Down("the peer says that it does not hear us")),
            _ => (self.state == State::Up).then_some(Change::Up),
        }
    }

    /// The time went on.
    pub fn time(&mut self, now: Duration) -> Option<Change> {
        self.silent.take_if(|silent| *silent <= now)?;
        let was = std::mem::replace(&mut self.state, State::Down);
        (self.yours, self.poll) = (0, false);
        if was.is_down() {
            return None;
        }
        (self.diag, self.send) = (Diag::Silence, now);
        (was == State::Up).then_some(Change::Down("nothing was heard for the detection time"))
    }

    /// What is to be sent now, if anything is.
    pub fn send(&mut self, now: Duration) -> Option<[u8; LEN]> {
        if self.send <= now {
            // RFC 5880 section 6.8.7: 75 to 100 % of it, or to 90 where one that is lost is one too many.
            let spread = if self.bfd.times == 1 { 15 } else { 25 };
            let share = 75 + self.dice() % (spread + 1);
            self.send = now + self.every() * share / 100;
        } else if !self.confirm {
            return None;
        }
        let fin = std::mem::take(&mut self.confirm);
        // One that is told to be quiet is, but it confirms.
        (fin || self.said.rx > 0 || self.yours == 0).then(|| self.packet(self.state, fin).write())
    }

    /// The last that the peer hears: it is turned off.
    pub fn end(&self) -> [u8; LEN] {
        self.packet(State::AdminDown, false).write()
    }

    fn packet(&self, state: State, fin: bool) -> Packet {
        Packet {
            diag: self.diag as u8,
            state,
            poll: self.poll && !fin,
            fin,
            times: self.bfd.times,
            mine: self.mine,
            yours: self.yours,
            tx: self.tx(),
            rx: self.bfd.rx,
        }
    }

    fn tx(&self) -> u32 {
        if self.state == State::Up { self.bfd.tx } else { self.bfd.tx.max(SLOW) }
    }

    /// How often something is sent at least.
    fn every(&self) -> Duration {
        Duration::from_micros(self.tx().max(self.said.rx).into())
    }

    /// For how long silence means nothing (RFC 5880 section 6.8.4).
    fn patience(&self) -> Duration {
        let every = self.bfd.rx.max(self.said.tx);
        Duration::from_micros(u64::from(self.said.times) * u64::from(every))
    }

    fn dice(&mut self) -> u32 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 17;
        self.seed ^= self.seed << 5;
        self.seed
    }
}

#[cfg(test)]
mod tests;
