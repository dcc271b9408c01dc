//! The BFD Control packet (RFC 5880 section 4.1), without authentication. All fields are big-endian.
//! The session that sends and receives the packets is in `bfd`.

/// The length of a packet without authentication section, in bytes.
pub(crate) const LEN: usize = 24;

const VERSION: u8 = 1;

/// The state of a BFD session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // RFC 5880 section 4.1
pub(crate) enum BfdState {
    AdminDown,
    #[default]
    Down,
    Init,
    Up,
}

impl BfdState {
    /// Returns true if the side in this state does not receive packets, or has disabled the session.
    pub(crate) fn is_down(self) -> bool {
        matches!(self, BfdState::AdminDown | BfdState::Down)
    }

    /// Returns the name that RFC 5880 gives the state.
    pub(crate) fn name(self) -> &'static str {
        match self {
            BfdState::AdminDown => "AdminDown",
            BfdState::Down => "Down",
            BfdState::Init => "Init",
            BfdState::Up => "Up",
        }
    }
}

/// A BFD Control packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ControlPacket {
    /// Diagnostic: the reason for the sender's last change to Down.
    pub diag: u8,
    /// The state of the sender's session.
    pub state: BfdState,
    /// True if the sender requests confirmation of its parameters (P bit).
    pub poll: bool,
    /// True if the packet answers a packet with the P bit (F bit).
    pub fin: bool,
    /// Detect Mult: the number of missing packets after which the session is down. Not 0.
    pub detect_mult: u8,
    /// My Discriminator: the sender's number of the session. Not 0.
    pub my_discriminator: u32,
    /// Your Discriminator: the receiver's number of the session; 0 if the sender does not know it.
    pub your_discriminator: u32,
    /// Desired Min TX Interval, in microseconds.
    pub desired_min_tx: u32,
    /// Required Min RX Interval, in microseconds.
    pub required_min_rx: u32,
}

impl ControlPacket {
    /// Parses a packet. Returns `None` if the packet must be discarded (RFC 5880 section 6.8.6).
    pub(crate) fn read(bytes: &[u8]) -> Option<ControlPacket> {
        let bytes = bytes.first_chunk::<LEN>().filter(|all| usize::from(all[3]) == LEN)?;
        let word =
            |at: usize| bytes[at..].first_chunk().map_or(0, |four| u32::from_be_bytes(*four));
        let flags = bytes[1];
        let state = match flags >> 6 {
            0 => BfdState::AdminDown,
            1 => BfdState::Down,
            2 => BfdState::Init,
            _ => BfdState::Up,
        };
        let packet = ControlPacket {
            diag: bytes[0] & 0x1f,
            state,
            poll: flags & 0x20 != 0,
            fin: flags & 0x10 != 0,
            detect_mult: bytes[2],
            my_discriminator: word(4),
            your_discriminator: word(8),
            desired_min_tx: word(12),
            required_min_rx: word(16),
        };
        // Authentication (A bit) is not supported, and the multipoint bit (M) must be zero.
        let invalid = bytes[0] >> 5 != VERSION
            || flags & 0x05 != 0
            || packet.detect_mult == 0
            || packet.my_discriminator == 0;
        (!invalid).then_some(packet)
    }

    /// Returns the packet as it is sent.
    pub(crate) fn write(&self) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        bytes[0] = VERSION << 5 | self.diag;
        bytes[1] = (self.state as u8) << 6 | u8::from(self.poll) << 5 | u8::from(self.fin) << 4;
        bytes[2] = self.detect_mult;
        bytes[3] = LEN as u8;
        let words = [
            (4, self.my_discriminator),
            (8, self.your_discriminator),
            (12, self.desired_min_tx),
            (16, self.required_min_rx),
        ];
        for (at, word) in words {
            bytes[at..at + 4].copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }
}
