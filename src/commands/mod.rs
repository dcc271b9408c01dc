//! The commands: one file each. A command reads its inputs, calls the modules that do the work, prints the
//! result and returns the exit code.
//!
//! Exit codes: 0 if the command succeeded or had nothing to do, 1 if it failed or a step was refused.
//! `plan` returns 2 if there are steps to take, `status` 1 if the node is not right, and `check` 1 if the
//! board is not able.

pub mod bgp;
pub mod check;
pub mod cleanup;
mod context;
pub mod dump;
mod plan;
mod run;
mod status;
mod sync;

use crate::{
    cli::{self, Command, LowArgs},
    error::Result,
};
pub use context::arguments;
use context::print;

/// Runs the command of the arguments and returns its exit code. Fails as the command does.
pub fn dispatch(args: &LowArgs) -> Result<u8> {
    match args.command {
        Command::Run => run::run(args),
        Command::Sync => sync::sync(args),
        Command::Plan => plan::plan(args),
        Command::Status => status::status(args),
        Command::Bgp => bgp::bgp(args),
        Command::Check => check::check(args),
        Command::Dump => dump::dump(args),
        Command::Cleanup => cleanup::cleanup(args),
        Command::Version => print(&format!("kinglet {}\n", env!("CARGO_PKG_VERSION"))).map(|_| 0),
        Command::Help => print(&cli::help()).map(|_| 0),
    }
}
