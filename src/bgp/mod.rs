//! A BGP-4 speaker (RFC 4271) for IPv4 and IPv6 unicast, limited to the features that a node needs.
//!
//! Two values connect the speaker with the daemon: [`Config`](crate::model::bgp::Config) goes in and is
//! derived from the cluster by `announce`; [`Learned`](crate::model::bgp::Learned) comes out and is turned
//! into kernel routes by `desired`.
//! The stages between them have no I/O and no clock; the current time is an argument. A received
//! message passes through them in this order: `session` and `stream` read the socket and split the
//! bytes with [`message::message_len`]; `Speaker::handle_event` decodes a message with
//! [`message::Message::read`]; `Fsm::handle_event` runs the state machine of the peer (RFC 4271
//! section 8); [`rib`] applies the import rules of [`policy`] and the decision process of
//! [`rib::decision`] (section 9). In the other direction, [`rib::adj_rib_out`] records the changed
//! prefixes, [`policy::export`] applies the export rules, and `Speaker::handle_timeout` returns the UPDATE
//! messages as [`SpeakerAction`](speaker::SpeakerAction)s that `session` sends.

pub mod as_path;
pub(crate) mod attribute;
pub(crate) mod bfd;
pub mod capability;
pub(crate) mod fsm;
pub mod message;
mod nlri;
pub(crate) mod notification;
pub(crate) mod policy;
pub(crate) mod rib;
pub(crate) mod session;
pub(crate) mod show;
pub(crate) mod speaker;
mod stream;
pub mod update;
mod wire;
