//! The command itself: probes the board and prints the report.

use super::{
    probe::{ProbeOptions, probe},
    requirements::{CheckVerdict, lines},
};
use crate::{
    cli::LowArgs,
    commands::context::{options, print, source},
    error::Result,
};

/// Prints the report of `check`. Returns 1 if a mandatory requirement is not met; fails if the kernel's
/// state cannot be read.
pub(crate) fn check(args: &LowArgs) -> Result<u8> {
    let options = options(args)?;
    let asked = ProbeOptions {
        source: source(args),
        run_dir: args.run_dir.to_string_lossy().into_owned(),
        snapshot: args.snapshot.as_ref().map(|path| path.display().to_string()),
        health: (args.health_addr.clone(), args.health_port),
        bgp: options.bgp.as_ref().map_or(0, |bgp| bgp.port),
    };
    let lines = lines(&probe(&options, &asked)?);
    print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    Ok(u8::from(lines.iter().any(|line| line.verdict == CheckVerdict::Missing)))
}
