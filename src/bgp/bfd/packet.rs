//! The control packet (RFC 5880 section 4.1), without authentication.

/// Its length.
pub const LEN: usize = 24;

const VERSION: u8 = 1;

/// How far a session is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // RFC 5880 section 4.1
pub enum State {
    AdminDown,
    #[default]
    Down,
    Init,
    Up,
}

impl State {
    /// Whether the side that says so does not hear the other.
    pub fn is_down(self) -> bool {
        matches!(self, State::AdminDown | State::Down)
    }

    /// As the RFC writes it.
    pub fn name(self) -> &'static str {
        match self {
            State::AdminDown => "AdminDown",
            State::Down => "Down",
            State::Init => "Init",
            State::Up => "Up",
        }
    }
}

/// What a packet says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Why its sender is down.
    pub diag: u8,
    /// How far its sender is.
    pub state: State,
    /// It is to be confirmed (P), or confirms (F).
    pub poll: bool,
    /// See `poll`.
    pub fin: bool,
    /// Detect Mult.
    pub times: u8,
    /// My Discriminator.
    pub mine: u32,
    /// Your Discriminator.
    pub yours: u32,
    /// Desired Min TX Interval, in microseconds.
    pub tx: u32,
    /// Required Min RX Interval, in microseconds.
    pub rx: u32,
}

impl Packet {
    /// As it comes; `None`: it is to be passed over (RFC 5880 section 6.8.6).
    pub fn read(bytes: &[u8]) -> Option<Packet> {
        let bytes = bytes.first_chunk::<LEN>().filter(|all| usize::from(all[3]) == LEN)?;
        let word =
            |at: usize| bytes[at..].first_chunk().map_or(0, |four| u32::from_be_bytes(*four));
        let flags = bytes[1];
        let state = match flags >> 6 {
            0 => State::AdminDown,
            1 => State::Down,
            2 => State::Init,
            _ => State::Up,
        };
        let packet = Packet {
            diag: bytes[0] & 0x1f,
            state,
            poll: flags & 0x20 != 0,
            fin: flags & 0x10 != 0,
            times: bytes[2],
            mine: word(4),
            yours: word(8),
            tx: word(12),
            rx: word(16),
        };
        // Authentication (A) would be longer; multipoint (M) is not for us.
        let wrong =
            bytes[0] >> 5 != VERSION || flags & 0x05 != 0 || bytes[2] == 0 || packet.mine == 0;
        (!wrong).then_some(packet)
    }

    /// As it goes.
    pub fn write(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[0] = VERSION << 5 | self.diag;
        bytes[1] = (self.state as u8) << 6 | u8::from(self.poll) << 5 | u8::from(self.fin) << 4;
        bytes[2] = self.times;
        bytes[3] = LEN as u8;
        for (at, word) in [(4, self.mine), (8, self.yours), (12, self.tx), (16, self.rx)] {
            bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}
