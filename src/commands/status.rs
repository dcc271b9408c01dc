//! `kinglet status`: prints the daemon's status (from its socket, see `report::client`), or a comparison of
//! the kernel with the snapshot if no daemon runs.

use std::{path::Path, thread, time::Duration};

use super::context::{node_name, options, print};
use crate::{
    api::snapshot::{self, Snapshot as Last},
    cli::{Format, LowArgs},
    desired::desired_of,
    error::{Doing, Error, Result},
    kernel::{Kernel, Scope},
    log,
    model::{bgp::Learned, items::ServiceStats, local::Local},
    reconcile::prepare_pass,
    report::{
        SOCKET, Status, StatusReply, ask,
        status::{ClusterCounts, SnapshotStatus, routes},
        text, unix,
    },
};

/// The interval of `status --watch`.
const REFRESH: Duration = Duration::from_secs(2);

/// Prints the daemon's status, or a comparison of the kernel with the snapshot if no daemon runs, and the
/// IPVS counters. Returns 1 if the node is not right; fails if there is neither a daemon nor a snapshot.
pub(crate) fn status(args: &LowArgs) -> Result<u8> {
    let json = args.format == Format::Json;
    let socket = args.run_dir.join(SOCKET);
    loop {
        let reply = ask(&socket, if json { "/status.json" } else { "/status" })
            .doing(|| format!("asking the daemon at {}", socket.display()))?;
        let mut kernel = Kernel::open()?;
        let last = snapshot::read_any(args.snapshot.as_deref().unwrap_or(Path::new("")));
        let (StatusReply { right, page }, last) = match reply {
            Some(reply) => (reply, last.ok().flatten()),
            None => {
                let last = last?;
                (without_daemon(args, &mut kernel, last.as_ref(), json)?, last)
            }
        };
        let mut busy = kernel.busy().unwrap_or_else(|e| {
            log::warn(format_args!("{e}"));
            Vec::new()
        });
        if let Some(last) = last.filter(|_| !busy.is_empty()) {
            let _ = add_names(args, &mut kernel, &last, &mut busy); // the page is useful without names
        }
        let page = add_ipvs(page, &busy, json)?;
        let clear = if args.watch && !json { "\x1b[H\x1b[2J" } else { "" };
        if !print(&format!("{clear}{page}"))? || !args.watch {
            return Ok(u8::from(!right));
        }
        thread::sleep(REFRESH);
    }
}

/// Sets the Service names of IPVS services from the snapshot.
fn add_names(
    args: &LowArgs,
    kernel: &mut Kernel,
    last: &Last,
    busy: &mut [ServiceStats],
) -> Result<()> {
    let options = options(args)?;
    let host = Some(kernel.host(&options)?);
    let local = Local { node: node_of(args, last)?, options, host };
    let claims = desired_of(&last.cluster, &Learned::default(), &local, &|_| false)?.claims;
    for busy in busy {
        let owner = claims.owner(&busy.at);
        busy.service = owner.map_or(String::new(), ToString::to_string);
    }
    Ok(())
}

/// Adds the IPVS counters to a status page.
fn add_ipvs(page: String, busy: &[ServiceStats], json: bool) -> Result<String> {
    match page.strip_suffix('}').filter(|_| json) {
        Some(open) => {
            let ipvs = serde_json::to_string(busy).doing(|| "writing the status as JSON")?;
            Ok(format!("{open},\"ipvs\":{ipvs}}}\n"))
        }
        None => Ok(page + &text::ipvs(busy)),
    }
}

/// Returns the node's name: the flag if given, else the name in the snapshot.
fn node_of(args: &LowArgs, last: &Last) -> Result<Box<str>> {
    if args.hostname_override.is_some() { node_name(args) } else { Ok(last.node.clone()) }
}

/// Returns the status of a node without a daemon, for example if cron runs `sync`: the plan that follows
/// from the snapshot. Fails if there is no snapshot.
fn without_daemon(
    args: &LowArgs,
    kernel: &mut Kernel,
    last: Option<&Last>,
    json: bool,
) -> Result<StatusReply> {
    let Some(last) = last else {
        return Err(Error::new(
            "asking the daemon",
            "none runs, and there is no snapshot of the cluster: start a daemon (kinglet run), or run \
             `kinglet plan`",
        ));
    };
    let node = node_of(args, last)?;
    let path = args.snapshot.as_deref().unwrap_or(Path::new(""));
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION").into(),
        node: node.to_string(),
        router: args.router,
        services: args.services,
        policy: args.firewall,
        snapshot: SnapshotStatus {
            path: path.display().to_string(),
            written: last.listed,
            in_use: false,
        },
        cluster: ClusterCounts::of(&last.cluster),
        ..Status::default()
    };
    match prepare_pass(
        kernel,
        &last.cluster,
        &Learned::default(),
        &node,
        &options(args)?,
        Scope::All,
    ) {
        Ok(mut pass) => {
            for step in pass.steps() {
                status.todo.push(|| (String::new(), step.to_string()));
            }
            pass.desired.state.extend(pass.draining);
            status.want(&pass.desired.state);
            status.routes = routes(&last.cluster, &node, &pass.desired.state);
            for unmet in &pass.desired.unmet {
                status.unmet.push(|| (unmet.what.clone(), unmet.why.clone()));
            }
            for e in &pass.desired.errors {
                status.errors.push(|| (String::new(), e.to_string()));
            }
        }
        Err(e) => status.errors.push(|| (String::new(), e.to_string())),
    }
    let page = match json {
        true => serde_json::to_string(&status).doing(|| "writing the status as JSON")?,
        false => text::page(&status, unix()),
    };
    Ok(StatusReply { right: status.problems().is_empty(), page })
}
