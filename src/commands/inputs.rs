//! The inputs that several commands have in common: the command line, the options, the name of this node,
//! the API server, and the path of the daemon's socket.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use crate::{
    api::{Api, Source},
    cli::{self, LowArgs},
    error::{Error, Result},
    kernel::files,
    model::{
        cluster::{Kind, ListResult},
        local::Options,
    },
    report::SOCKET,
};

/// Parses the command line, the environment and the configuration file of this process. Fails if one of
/// them is invalid, or if a file that was named with `--config` cannot be read.
pub fn arguments() -> Result<LowArgs> {
    let env = |name: &str| env::var(name).ok();
    cli::parse_with(env::args_os().skip(1), env, |path| fs::read_to_string(path))
}

/// Returns the options that the flags mean. Fails if the password file cannot be read or does not fit the
/// other flags.
pub(super) fn options(args: &LowArgs) -> Result<Options> {
    args.options(|path| fs::read_to_string(path))
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

/// Returns the flags that locate the API server.
pub(super) fn source(args: &LowArgs) -> Source {
    Source { master: args.master.clone(), kubeconfig: args.kubeconfig.clone() }
}

/// Opens the API client. Fails if the address or the credentials are invalid.
pub(super) fn open_api(args: &LowArgs) -> Result<Api> {
    Api::open(&source(args))
}

/// Lists the needed kinds from the API, without a snapshot. Fails if a kind cannot be listed.
pub(super) fn list_cluster(args: &LowArgs) -> Result<ListResult> {
    open_api(args)?.read(Kind::needed(args.services))
}

/// Returns the path of the snapshot; empty if snapshots are off.
pub(super) fn snapshot_path(args: &LowArgs) -> &Path {
    args.snapshot.as_deref().unwrap_or(Path::new(""))
}

/// Returns the path of the daemon's status socket.
pub(super) fn socket(args: &LowArgs) -> PathBuf {
    args.run_dir.join(SOCKET)
}
