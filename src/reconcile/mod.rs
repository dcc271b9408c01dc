//! Brings the kernel into the desired state.
//!
//! A full pass observes the kernel, computes the desired state and plans the difference
//! ([`prepare_pass`]); `Pass::apply` applies it. A dry run stops before that. Between full passes the
//! [`Reconciler`] applies only the difference that events made in some units of the desired state
//! (`knowledge`). `drain` keeps real servers that must go while they have connections, `stale_flows` finds
//! conntrack entries that lead to endpoints that are gone.

pub(crate) mod drain;
mod knowledge;
mod pass;
mod reconciler;
pub mod stale_flows;

pub use pass::{Pass, prepare_offline, prepare_pass};
pub use reconciler::{PassReport, Reconciler};
