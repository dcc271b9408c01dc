//! The daemon: `kinglet run`.
//!
//! [`run`] starts one thread per kind of object that watches the API, and then the event loop
//! (`event_loop`). An event is given to the store and to the reconciler, and makes work due in the
//! `schedule`; the loop runs one piece of work at a time. `bgp_handle` derives the BGP configuration and
//! fetches learned routes, `reporter` writes the log and the status. A lost event, a restart and a first
//! start are the same: the next full pass compares everything.

mod bgp_handle;
mod event_loop;
mod reporter;
mod schedule;

pub(crate) use event_loop::{Exit, STUCK, Setup, kernel, lock, run, signals};
