//! The routing information base (RFC 4271 sections 3.2 and 9). Pure.
//!
//! One table serves as Adj-RIB-In, Loc-RIB and Adj-RIB-Out of all peers. [`Rib::handle_update`] applies the
//! import policy ([`policy`]) to a received UPDATE and stores the accepted paths in a `Destination`
//! for each network; `Destination::run_decision` sorts them with the decision process
//! ([`choice`](super::choice)) and adds changed networks to the journal; [`Rib::write_updates`]
//! ([`out`](super::out)) writes the UPDATEs for a peer from the journal; [`Rib::routes`] gives the
//! routes for the kernel.
//!
//! The advertisements to a peer are not stored: a destination has one bit for each peer, and
//! [`policy::export`] recomputes the attributes when they are needed. The attributes of a received UPDATE
//! are shared by all of its networks. A destination without paths is kept until every peer to which it
//! was advertised has been sent a withdrawal.
//!
//! If a peer restarts gracefully (RFC 4724), its paths are kept as stale for a limited time. Peers are
//! identified by their index in the peer table (`slot`).

pub mod adj_rib_out;
mod configure;
pub mod decision;
mod destination;
#[cfg(test)]
pub(super) mod fixtures;
#[cfg(test)]
mod model_test;
mod paths;
pub(super) mod peer_table;
mod table;

pub(super) use destination::Destination;
pub use peer_table::{PeerSession, PrefixCounts};
pub use table::{Learned, Rib};
