//! The output that several commands have in common: text on standard output, and a warning.

use std::io::{self, Write};

use crate::{
    cli::LowArgs,
    error::{Doing, Result},
    log,
};

/// Writes to standard output. Returns false if the reader has closed the pipe, which is not an error;
/// fails on any other write error.
pub(super) fn print(text: &str) -> Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).doing(|| "writing to standard output"),
    }
}

/// Warns if network policy is requested, because this version does not enforce it.
pub(super) fn warn_about_policy(args: &LowArgs) {
    if args.firewall {
        log::warn(format_args!(
            "NETWORK POLICY IS NOT ENFORCED by this version: every pod can reach every other pod \
             (--run-firewall=false silences this warning)"
        ));
    }
}
