//! The command line. Nothing here looks at the machine; the caller passes functions that read the
//! environment and files.
//!
//! Every flag is a row of one table (`flags`). [`parse_with`] splits the arguments, parses each value by
//! its `Kind`, merges the defaults, the environment and the configuration file (`conf`) into [`LowArgs`],
//! and checks that they fit together. [`LowArgs::options`] turns them into `Options`.
//!
//! The syntax is kube-router's (Go's pflag): `--flag value` and `--flag=value`, but a switch takes a
//! value only as `--flag=false`. Lists are separated by commas, and a list flag may be repeated. All flags
//! of kube-router are accepted; a flag that has no effect in this version causes one warning.

mod args;
mod bgp;
mod config_file;
mod flags;
mod help;
mod kind;
mod low_args;
mod options;
mod suggest;

pub use args::{Command, Format, parse, parse_with};
pub use bgp::BgpArgs;
pub use help::help;
pub use low_args::LowArgs;
