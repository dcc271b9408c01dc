//! Bidirectional Forwarding Detection for one peer: RFC 5880 in asynchronous mode, over one hop as in
//! RFC 5881, without I/O and without a clock.
//!
//! Received packets go in through [`BfdSession::handle_packet`] and the time through
//! [`BfdSession::handle_timeout`]; both return a [`BfdChange`] if the path to the peer came up or failed.
//! [`BfdSession::poll_transmit`] returns the packet to send, and [`BfdSession::poll_timeout`] the time at
//! which to call both again. `speaker` ends the BGP session when the path fails; `socket` has the
//! sockets.

mod packet;
mod session;
pub(super) mod socket;

pub(crate) use packet::{BfdState, ControlPacket, LEN};
pub(crate) use session::{BfdChange, BfdSession};
