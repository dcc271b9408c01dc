//! The command line. Nothing here looks at the machine; the caller passes functions that read the
//! environment and files.
//!
//! Every flag is a row of one table (`flags`). [`parse_with`] splits the arguments, parses each value by its
//! `ValueKind` (`value`), merges the defaults, the environment and the configuration file (`config_file`)
//! into [`LowArgs`], and checks that they fit together. `LowArgs::options` turns them into
//! [`Options`](crate::model::local::Options). `help` prints the same table.
//!
//! A module imports only modules above it in this list: `command`, `bgp`, `low_args`, `value`, `flags`,
//! `suggest`, `options`, `help`, `config_file`, `parse`.
//!
//! The syntax is kube-router's (Go's pflag): `--flag value` and `--flag=value`, but a switch takes a
//! value only as `--flag=false`. Lists are separated by commas, and a list flag may be repeated. All flags
//! of kube-router are accepted; a flag that has no effect in this version causes one warning.

mod bgp;
mod command;
mod config_file;
mod flags;
mod help;
mod low_args;
mod options;
mod parse;
mod suggest;
mod value;

pub(crate) use command::{Command, Format};
pub(crate) use help::help;
pub use low_args::LowArgs;
#[cfg(test)]
pub(crate) use parse::parse;
pub use parse::parse_with;
