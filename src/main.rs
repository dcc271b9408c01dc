//! The kinglet binary: parses the command line, runs one command and returns its exit code. The commands
//! are in `run` (the daemon), `pass` (one pass: plan, sync, dump) and `node` (status, bgp, check, cleanup).
//!
//! Exit codes: 0 if the command succeeded or had nothing to do, 1 if it failed or a step was refused.
//! `plan` returns 2 if there are steps to take, `status` 1 if the node is not right, and `check` 1 if the
//! board is not able.

#[path = "main/node.rs"]
mod node;
#[path = "main/pass.rs"]
mod pass;
#[path = "main/run.rs"]
mod run;

use std::{
    env,
    io::{self, Write},
    process::ExitCode,
};

use kinglet::{
    api::{Api, Source},
    cli::{self, Command, LowArgs},
    error::{Doing, Error, Result},
    kernel::files,
    log,
    model::local::Options,
};

fn main() -> ExitCode {
    let args = match arguments() {
        Ok(args) => args,
        Err(e) => {
            log::error(format_args!("{e}"));
            return ExitCode::from(1);
        }
    };
    for warning in &args.warnings {
        log::warn(format_args!("{warning}"));
    }
    let done = match args.command {
        Command::Help => print(&cli::help()).map(|_| 0),
        Command::Version => print(&format!("kinglet {}\n", env!("CARGO_PKG_VERSION"))).map(|_| 0),
        Command::Plan => pass::plan(&args),
        Command::Sync => pass::sync(&args),
        Command::Dump => pass::dump(&args),
        Command::Run => run::run(&args),
        Command::Status => node::status(&args),
        Command::Bgp => node::bgp(&args),
        Command::Check => node::check(&args),
        Command::Cleanup => node::cleanup(&args),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(e) => {
            log::error(format_args!("{e}"));
            ExitCode::from(1)
        }
    }
}

/// Parses the command line and the configuration file. Fails if either is invalid, or if a file that
/// was named with `--config` cannot be read.
fn arguments() -> Result<LowArgs> {
    let env = |name: &str| env::var(name).ok();
    cli::parse_with(env::args_os().skip(1), env, |path| std::fs::read_to_string(path))
}

/// Writes to standard output. Returns false if the reader has closed the pipe, which is not an error;
/// fails on any other write error.
fn print(text: &str) -> Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).doing(|| "writing to standard output"),
    }
}

/// Returns the options that the flags mean. Fails if the password file cannot be read or does not fit the
/// other flags.
fn options(args: &LowArgs) -> Result<Options> {
    args.options(|path| std::fs::read_to_string(path))
}

/// Returns the name of this node's Node object: `--hostname-override`, else `NODE_NAME`, else the host's
/// name. Fails if none of them is set.
fn node_name(args: &LowArgs) -> Result<Box<str>> {
    let given = args.hostname_override.clone().or_else(|| env::var("NODE_NAME").ok());
    // In lower case, as the kubelet registers it.
    let name = given
        .filter(|name| !name.is_empty())
        .or_else(|| files::sysctl("kernel/hostname").map(|name| name.to_lowercase()));
    name.map(Into::into).ok_or_else(|| {
        Error::new("finding this node's name", "the host has no name: set --hostname-override")
    })
}

/// Opens the API client. Fails if the address or the credentials are invalid.
fn open_api(args: &LowArgs) -> Result<Api> {
    Api::open(&source(args))
}

/// Returns the flags that locate the API server.
fn source(args: &LowArgs) -> Source {
    Source { master: args.master.clone(), kubeconfig: args.kubeconfig.clone() }
}

/// Warns if network policy is requested, because this version does not enforce it.
fn warn_about_policy(args: &LowArgs) {
    if args.firewall {
        log::warn(format_args!(
            "NETWORK POLICY IS NOT ENFORCED by this version: every pod can reach every other pod \
             (--run-firewall=false silences this warning)"
        ));
    }
}
