//! `kinglet help` and `kinglet version`.

use super::output::print;
use crate::{cli, error::Result};

/// Prints the help text. Fails if standard output cannot be written.
pub fn help() -> Result<u8> {
    print(&cli::help()).map(|_| 0)
}

/// Prints the version. Fails if standard output cannot be written.
pub fn version() -> Result<u8> {
    print(&format!("kinglet {}\n", env!("CARGO_PKG_VERSION"))).map(|_| 0)
}
