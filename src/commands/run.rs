//! `kinglet run`: the daemon. This module takes the lock, the signals and the listening sockets, hands
//! them to [`daemon::run`], and executes the binary again after a SIGHUP.

use std::{env, time::Duration};

use super::context::{arguments, node_name, options, source, warn_about_policy};
use crate::{
    api::SyncPolicy,
    cli::LowArgs,
    daemon::{self, Exit},
    error::{Error, Result},
    log,
    report::{SOCKET, SharedStatus, Status, StatusServer},
    sys,
};

/// Runs the daemon until a signal ends it. Fails if the lock, a port or the kernel's sockets are not
/// available, or if the daemon fails.
pub(crate) fn run(args: &LowArgs) -> Result<u8> {
    warn_about_policy(args);
    let signals = daemon::signals()?;
    let lock = daemon::lock()?;
    let (node, meant) = (node_name(args)?, options(args)?);
    let files = args.kubeconfig.is_some() || args.bgp.has_file();
    let kernel = daemon::kernel(&meant, files)?;
    let mode = match args.poll_interval {
        0 => "watch".to_owned(),
        seconds => format!("poll {seconds}s"),
    };
    let status = Status {
        version: env!("CARGO_PKG_VERSION").into(),
        node: node.to_string(),
        pid: std::process::id(),
        mode,
        router: args.router,
        services: args.services,
        policy: args.firewall,
        ..Status::default()
    };
    let shared = SharedStatus::new(status, daemon::STUCK);
    let server = StatusServer::open(shared.clone())?;
    server.health(&args.health_addr, args.health_port)?;
    server.proxy(&args.health_addr, args.proxy_health_port)?;
    server.metrics(&args.metrics_addr, args.metrics_port, &args.metrics_path)?;
    if let Err(e) = server.status(&args.run_dir.join(SOCKET)) {
        log::warn(format_args!("{e}; `kinglet status` cannot reach this daemon"));
    }
    let setup = daemon::Setup {
        node,
        options: meant,
        source: source(args),
        sync_policy: sync_policy(args),
        audit: Duration::from_secs(args.audit_period),
        snapshot: args.snapshot.clone(),
        status: shared,
        validate_config: Box::new(|| arguments().and_then(|args| options(&args)).map(drop)),
    };
    let exit = daemon::run(setup, kernel, signals, server)?;
    drop(lock);
    match exit {
        Exit::Stopped => Ok(0),
        // SIGHUP: the same process reads its configuration again. exec returns only if it fails.
        Exit::Reload => {
            Err(Error::new("starting again", sys::exec(c"/proc/self/exe", env::args_os())))
        }
    }
}

/// Returns the poll and resync intervals; without `--poll-interval` a watch stays open.
fn sync_policy(args: &LowArgs) -> SyncPolicy {
    let poll = Some(Duration::from_secs(args.poll_interval)).filter(|poll| !poll.is_zero());
    SyncPolicy { poll, resync: Duration::from_secs(args.resync_period) }
}
