//! The kinglet binary: parses the command line, runs the command and returns its exit code.
//!
//! Exit codes: 0 if the command succeeded or had nothing to do, 1 if it failed or a step was refused.
//! `plan` returns 2 if there are steps to take, `status` 1 if the node is not right, and `check` 1 if the
//! board is not able.

use std::process::ExitCode;

use kinglet::{
    cli::{Command, LowArgs},
    commands, log,
};

fn main() -> ExitCode {
    let outcome = commands::arguments().and_then(|args| dispatch(&args));
    ExitCode::from(outcome.unwrap_or_else(|e| {
        log::error(format_args!("{e}"));
        1
    }))
}

fn dispatch(args: &LowArgs) -> kinglet::error::Result<u8> {
    args.warnings.iter().for_each(|warning| log::warn(format_args!("{warning}")));
    match args.command {
        Command::Run => commands::run(args),
        Command::Sync => commands::sync(args),
        Command::Plan => commands::plan(args),
        Command::Status => commands::status(args),
        Command::Bgp => commands::bgp(args),
        Command::Check => commands::check(args),
        Command::Dump => commands::dump(args),
        Command::Cleanup => commands::cleanup(args),
        Command::Version => commands::version(),
        Command::Help => commands::help(),
    }
}
