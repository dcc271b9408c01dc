//! The routing information base (RFC 4271 sections 3.2 and 9). Pure.
//!
//! One table serves as Adj-RIB-In, Loc-RIB and Adj-RIB-Out of all peers. [`Rib::handle_update`] applies
//! the import policy ([`policy`](super::policy)) to a received UPDATE and stores the accepted paths in a
//! `Destination` for each network; `Destination::run_decision` sorts them with [`decision`] and adds
//! changed networks to the journal of [`adj_rib_out`]; [`Rib::write_updates`] writes the UPDATEs for a
//! peer from the journal with `batch`; [`Rib::routes`] gives the routes for the kernel.
//!
//! The advertisements to a peer are not stored: a destination has one bit for each peer, and
//! [`policy::export`](super::policy::export) recomputes the attributes when they are needed. The
//! attributes of a received UPDATE are shared by all of its networks. A destination without paths is kept
//! until every peer to which it was advertised has been sent a withdrawal.
//!
//! If a peer restarts gracefully (RFC 4724), its paths are kept as stale for a limited time. Peers are
//! identified by their index in the `peer_table`.

pub(crate) mod adj_rib_out;
pub(super) mod batch;
mod configure;
pub(crate) mod decision;
mod destination;
#[cfg(test)]
pub(super) mod fixtures;
#[cfg(test)]
mod model_test;
pub(crate) mod path;
mod paths;
mod peer_session;
mod peer_table;
mod table;
#[cfg(test)]
mod table_test;

pub(crate) use crate::model::bgp::Learned; // some callers still name it here
pub(super) use destination::Destination;
pub(crate) use peer_session::PeerSession;
pub(crate) use peer_table::PrefixCounts;
pub(crate) use table::Rib;
