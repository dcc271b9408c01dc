//! The commands: one file each. A command reads its inputs, calls the modules that do the work, prints the
//! result and returns the exit code. [`arguments`] reads the command line, and [`dispatch()`] runs its
//! command. `context` has the steps that several commands share.
//!
//! Exit codes: 0 if the command succeeded or had nothing to do, 1 if it failed or a step was refused.
//! `plan` returns 2 if there are steps to take, `status` 1 if the node is not right, and `check` 1 if the
//! board is not able.

mod bgp;
mod check;
mod cleanup;
mod context;
mod dispatch;
pub mod dump;
mod plan;
mod run;
mod status;
mod sync;

pub use context::arguments;
pub use dispatch::dispatch;
