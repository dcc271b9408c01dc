//! The state machine of one peer (RFC 4271 section 8), without I/O and without a clock.
//!
//! Events and the current time go in through [`Fsm::handle_event`], the requested actions come out of
//! it, and [`Fsm::poll_timeout`] returns the one time at which it must be called again. A peer may have
//! several connections at once, because both sides may connect. Each connection has a state of its own
//! until one of them wins the collision detection (section 6.8). The states Connect and Active, which
//! have no connection yet, belong to the machine itself. `speaker` turns the actions into changes of
//! the table and into bytes.

mod event;
mod machine;

pub(crate) use event::{ConnId, DownReason, FsmInput, FsmState, Output};
pub(crate) use machine::Fsm;
