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

mod bgp;
mod conf;
mod flags;
mod help;
mod kind;
mod low;
mod near;
mod options;

use std::{ffi::OsString, io, path::Path};

use lexopt::{Arg, Parser, ValueExt};

use crate::error::{Error, Result};
pub use bgp::Bgp;
use flags::{ENVIRONMENT, FLAGS, Flag, Section};
pub use help::help;
use kind::Kind;
pub use low::LowArgs;
use near::suggestion;

/// A command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // `Command::ALL` describes them
pub enum Command {
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
    pub const ALL: [(Command, &str, &str); 10] = [
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
    pub fn name(self) -> &'static str {
        Command::ALL.iter().find(|(c, ..)| *c == self).map_or("", |(_, name, _)| name)
    }
}

/// An output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Format {
    #[default]
    Text,
    Sh,
    Json,
}

/// Returns an error about the command line.
fn wrong(cause: impl std::fmt::Display) -> Error {
    Error::new("reading the command line", cause)
}

/// Parses the arguments after the program's name, without environment and configuration file. Fails if an
/// argument is invalid.
pub fn parse(typed: impl IntoIterator<Item = OsString>) -> Result<LowArgs> {
    parse_with(typed, |_| None, |_| Err(io::ErrorKind::NotFound.into()))
}

/// Parses the arguments after the program's name. They take precedence over the configuration file, which
/// takes precedence over the environment.
///
/// `env` returns an environment variable, and `read` the text of a file. Fails if an argument or the
/// configuration file is invalid, or if a file that `--config` names does not exist. `help` and `version`
/// work with an invalid file, and so does `cleanup` without `--config`.
pub fn parse_with(
    typed: impl IntoIterator<Item = OsString>,
    env: impl Fn(&str) -> Option<String>,
    read: impl FnOnce(&Path) -> io::Result<String>,
) -> Result<LowArgs> {
    let mut parser = Parser::from_args(typed);
    let (mut command, mut bgp_routes) = (None, false);
    // `first` receives every typed value, which checks it; only the flags that select the command and the
    // configuration file are read from it.
    let (mut first, mut flags) = (LowArgs::default(), Vec::new());
    while let Some(arg) = parser.next().map_err(wrong)? {
        let flag = match arg {
            Arg::Value(word) => {
                let word = word.to_string_lossy().into_owned();
                if command == Some(Command::Bgp) && word == "routes" {
                    bgp_routes = true;
                    continue;
                }
                let row = Command::ALL.iter().find(|(_, name, _)| *name == word);
                let Some((found, ..)) = row else {
                    let near = suggestion(&word, Command::ALL.iter().map(|(_, name, _)| *name));
                    let text =
                        format!("there is no command {word:?}{near}; `kinglet help` lists all");
                    return Err(wrong(text));
                };
                if let Some(first) = command.replace(*found) {
                    let text = format!("{} and {word} are two commands: give one", first.name());
                    return Err(wrong(text));
                }
                continue;
            }
            Arg::Long(name) => find(&format!("--{name}"), |f| f.name() == name)?,
            Arg::Short(letter) => find(&format!("-{letter}"), |f| f.letter == Some(letter))?,
        };
        let text = value(flag, &mut parser)?;
        flag.kind.set(&mut first, &text).map_err(|expected| {
            wrong(format!("--{}={text}: {expected} is expected", flag.name()))
        })?;
        flags.push((flag, text));
    }
    if let (Some(Command::Cleanup), Some(other)) = (first.asked, command)
        && other != Command::Cleanup
    {
        let text = format!("--cleanup-config and {} are two commands: give one", other.name());
        return Err(wrong(text));
    }
    let command = first.asked.or(command);
    let mut args = LowArgs { bgp_routes, ..LowArgs::new() };
    let config_is_typed = !first.config.as_os_str().is_empty();
    let path = if config_is_typed { &first.config } else { &args.config };
    let conf = match read(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound && !config_is_typed => Ok(Vec::new()),
        text => conf::flags(path, text),
    };
    let conf = match conf {
        Ok(conf) => conf,
        // Help and version are printed even if the file is invalid.
        Err(_) if matches!(command, Some(Command::Help | Command::Version)) => Vec::new(),
        Err(e) if !config_is_typed && command == Some(Command::Cleanup) => {
            args.warnings.push(format!("{e}; the file is ignored"));
            Vec::new()
        }
        Err(e) => return Err(e),
    };
    args.command = match command {
        Some(command) => command,
        // kube-router is started without a command.
        None if !flags.is_empty() => Command::Run,
        None => return Err(wrong("no command given; `kinglet help` lists all")),
    };
    let env = ENVIRONMENT.iter().filter_map(|(name, variable)| {
        let flag = FLAGS.iter().find(|flag| flag.name() == *name)?;
        Some((flag, env(variable)?))
    });
    // A list on the command line replaces the list in the file, so the file's flag is left out.
    let is_typed = |flag: &Flag| flags.iter().any(|(typed, _)| typed.name() == flag.name());
    let conf: Vec<_> = conf.into_iter().filter(|(flag, _)| !is_typed(flag)).collect();
    for (flag, text) in env.chain(conf).chain(flags) {
        // Only a value from the environment can be invalid here; the default then stays.
        let _ = flag.kind.set(&mut args, &text);
        if flag.section == Section::Ignored && text != flag.default() {
            let warning = format!("--{} has no effect in this version", flag.name());
            if !args.warnings.contains(&warning) {
                args.warnings.push(warning);
            }
        }
    }
    args.check()?;
    Ok(args)
}

/// Finds a row by its name or letter. Fails with a suggestion if there is none; `typed` is for the error.
fn find(typed: &str, is: impl Fn(&Flag) -> bool) -> Result<&'static Flag> {
    FLAGS.iter().find(|f| is(f)).ok_or_else(|| {
        let name = typed.trim_start_matches('-');
        let near = suggestion(name, FLAGS.iter().map(Flag::name));
        let near = near.replace("mean ", "mean --");
        wrong(format!("there is no flag {typed}{near}; `kinglet help` lists all"))
    })
}

/// Returns the value that was typed for a flag. Fails if the value is missing or not UTF-8.
fn value(flag: &Flag, parser: &mut Parser) -> Result<String> {
    let typed = match flag.kind {
        Kind::Switch(_) => match parser.optional_value() {
            Some(value) => value,
            None => return Ok("true".to_owned()),
        },
        _ => parser.value().map_err(|_| wrong(format!("--{} needs a value", flag.name())))?,
    };
    typed.string().map_err(|_| wrong(format!("the value of --{} is not UTF-8", flag.name())))
}

#[cfg(test)]
mod tests;
