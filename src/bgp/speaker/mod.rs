//! The BGP speaker: all peers, the table, and the connections between them. It has no I/O and no clock.
//!
//! [`Speaker::handle_event`] decodes a message with `Message::read` and gives it to the `Fsm` of its
//! peer. `apply_outputs` in `outputs` applies what the machine returns: UPDATEs go to the `Rib`, messages
//! and connections become [`SpeakerAction`]s. [`Speaker::handle_timeout`] runs the timers of the peers and
//! writes UPDATEs for all peers that have pending ones. `session` fetches the actions with
//! [`Speaker::take_actions`] and performs them; `bfd` has the BFD sessions of the peers.

mod bfd;
mod io;
mod machine;
mod outputs;

pub(crate) use io::{BfdPacket, Dial, PeerView, Severity, SpeakerAction, SpeakerEvent};
pub(crate) use machine::Speaker;
