//! The choice of the command.

use super::{
    bgp::bgp, check::check, cleanup::cleanup, context::print, dump::dump, plan::plan, run::run,
    status::status, sync::sync,
};
use crate::{
    cli::{self, Command, LowArgs},
    error::Result,
};

/// Runs the command of the arguments and returns its exit code. Fails as the command does.
pub fn dispatch(args: &LowArgs) -> Result<u8> {
    match args.command {
        Command::Run => run(args),
        Command::Sync => sync(args),
        Command::Plan => plan(args),
        Command::Status => status(args),
        Command::Bgp => bgp(args),
        Command::Check => check(args),
        Command::Dump => dump(args),
        Command::Cleanup => cleanup(args),
        Command::Version => print(&format!("kinglet {}\n", env!("CARGO_PKG_VERSION"))).map(|_| 0),
        Command::Help => print(&cli::help()).map(|_| 0),
    }
}
