//! The commands and the output formats, and the error about a command line.

use crate::error::Error;

/// A command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Command {
    Run,
    Sync,
    Plan,
    Status,
    Bgp,
    Check,
    Dump,
    Cleanup,
    Version,
    #[default]
    Help,
}

impl Command {
    /// All commands with name and description, in the order of the help text.
    #[rustfmt::skip] // one row, one line
    pub(crate) const ALL: [(Command, &str, &str); 10] = [
        (Command::Run, "run", "the daemon: follow the cluster and keep the node right; the default if flags are given"),
        (Command::Sync, "sync", "make one pass, and print each step"),
        (Command::Plan, "plan", "print the steps that sync would take; exits with 2 if there are any"),
        (Command::Status, "status", "show if this node is right, and the reasons if not; exits with 1 if not"),
        (Command::Bgp, "bgp", "show the BGP peers; `bgp routes`: the routes (--peer IP --in, --out)"),
        (Command::Check, "check", "test if this board can run kinglet, and show how to fix what is missing"),
        (Command::Dump, "dump", "print the cluster and this node as JSON, for a bug report"),
        (Command::Cleanup, "cleanup", "remove everything that kinglet made, and nothing else"),
        (Command::Version, "version", "print the version"),
        (Command::Help, "help", "print this text"),
    ];

    /// Returns the name, as typed.
    pub(crate) fn name(self) -> &'static str {
        Command::ALL.iter().find(|(c, ..)| *c == self).map_or("", |(_, name, _)| name)
    }
}

/// An output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    #[default]
    Text,
    Sh,
    Json,
}

/// Returns an error about the command line.
pub(crate) fn wrong(cause: impl std::fmt::Display) -> Error {
    Error::new("reading the command line", cause)
}
