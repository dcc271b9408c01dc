//! The kinglet binary: parses the command line, runs one command and returns its exit code
//! ([`kinglet::commands`]).

use std::process::ExitCode;

use kinglet::{commands, error::Error, log};

fn main() -> ExitCode {
    let run = || {
        let args = commands::arguments()?;
        args.warnings.iter().for_each(|warning| log::warn(format_args!("{warning}")));
        commands::dispatch(&args)
    };
    ExitCode::from(run().unwrap_or_else(|e: Error| {
        log::error(format_args!("{e}"));
        1
    }))
}
