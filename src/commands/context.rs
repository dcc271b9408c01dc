//! The steps that several commands share: the arguments, the options, the node's name, the API client, and
//! printing.

use std::{
    env,
    io::{self, Write},
};

use crate::{
    api::{Api, Source},
    cli::{self, LowArgs},
    desired::Unmet,
    error::{Doing, Error, Result},
    kernel::files,
    log,
    model::{
        cluster::{InvalidObject, Kind, ListResult},
        local::Options,
    },
    reconcile::Pass,
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

/// Returns the options that the flags mean. Fails if the password file cannot be read or does not fit the
/// other flags.
pub(super) fn options(args: &LowArgs) -> Result<Options> {
    args.options(|path| std::fs::read_to_string(path))
}

/// Returns the name of this node's Node object: `--hostname-override`, else `NODE_NAME`, else the host's
/// name. Fails if none of them is set.
pub(super) fn node_name(args: &LowArgs) -> Result<Box<str>> {
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
pub(super) fn open_api(args: &LowArgs) -> Result<Api> {
    Api::open(&source(args))
}

/// Returns the flags that locate the API server.
pub(super) fn source(args: &LowArgs) -> Source {
    Source { master: args.master.clone(), kubeconfig: args.kubeconfig.clone() }
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

/// Parses the command line and the configuration file. Fails if either is invalid, or if a file that
/// was named with `--config` cannot be read.
pub fn arguments() -> Result<LowArgs> {
    let env = |name: &str| env::var(name).ok();
    cli::parse_with(env::args_os().skip(1), env, |path| std::fs::read_to_string(path))
}

/// Lists the needed kinds from the API, without a snapshot.
pub(super) fn list_cluster(args: &LowArgs) -> Result<ListResult> {
    open_api(args)?.read(Kind::needed(args.services))
}

/// Adds the invalid API objects to the unmet requests of a pass.
pub(super) fn add_invalid(mut pass: Pass, bad: impl Iterator<Item = InvalidObject>) -> Pass {
    let bad = bad.map(|bad| {
        Unmet::new(format!("{} {}", bad.kind.name(), bad.name), format!("invalid: {}", bad.why))
    });
    pass.desired.unmet.splice(0..0, bad);
    pass
}
