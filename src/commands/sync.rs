//! `kinglet sync`: one pass, for an init script or cron. It works from the snapshot and from the changes
//! since then that the API returns (`read_cluster`), and writes the snapshot for the next pass.

use std::time::Duration;

use super::{
    context::{add_invalid, node_name, options, print, source, warn_about_policy},
    plan::json,
};
use crate::{
    api::{
        ApiServer, ExpectedCluster, Timeouts,
        snapshot::{self, Snapshot, SnapshotFile},
    },
    cli::{Format, LowArgs},
    desired::Unmet,
    error::{Doing, Error, Result},
    kernel::{Kernel, Scope, lock::Lock},
    log,
    model::{
        bgp::Learned,
        cluster::{ClusterStore, Kind},
    },
    reconcile::prepare_pass,
};

/// The number of unmet requests that `sync` logs; `plan` prints all of them.
const MAX_UNMET_LINES: usize = 5;
/// The size in bytes at which the buffered output of `sync` is written.
const FLUSH_AT: usize = 8 << 10;

/// The input of a pass, and the data for the next snapshot.
struct ClusterRead {
    known: ClusterStore,
    /// The errors of the kinds that could not be read.
    errors: Vec<Error>,
    file: SnapshotFile,
    /// The time of the last complete list (Unix time).
    listed: u64,
    contact: snapshot::Contact,
}

/// Reads the snapshot and the changes since then from the API. Fails if the API cannot be read and there
/// is no snapshot; with a snapshot, the errors are returned beside the snapshot's cluster.
fn read_cluster(args: &LowArgs, node: &str) -> Result<ClusterRead> {
    let server = ApiServer::locate(&source(args), Timeouts::default())?;
    let mut file = SnapshotFile::new(args.snapshot.clone(), server.identity(node));
    let snapshot = file.load();
    let api = server.open(match &args.snapshot {
        Some(_) => ExpectedCluster::OfNode { node, snapshot: snapshot.as_ref() },
        None => ExpectedCluster::Any,
    });
    let kinds = Kind::needed(args.services);
    let age = snapshot.as_ref().and_then(Snapshot::age);
    let resync = Duration::from_secs(args.resync_period);
    let found = snapshot.is_some();
    let Snapshot { cluster, versions, mut listed, .. } = snapshot.unwrap_or_default();
    let mut known = ClusterStore::new(cluster, versions, kinds);
    let mut errors = api.sync_once(&mut known, kinds, age, resync);
    if errors.is_empty() {
        if age.is_none_or(|age| age >= resync) {
            listed = snapshot::now();
        }
    } else if !found {
        return Err(errors.remove(0));
    } else {
        let age = age.map_or("unknown age".to_owned(), |age| format!("{} s ago", age.as_secs()));
        log::warn(format_args!(
            "THE API SERVER CAN'T BE READ; this pass works from the snapshot ({age}) and removes \
             nothing that depends on missing data"
        ));
    }
    Ok(ClusterRead { known, errors, file, listed, contact: api.contact() })
}

/// Makes one pass and prints each step. Returns 1 if a step was refused or the cluster could not be read
/// completely. Fails if there is neither an API nor a snapshot.
pub(crate) fn sync(args: &LowArgs) -> Result<u8> {
    warn_about_policy(args);
    let Some(_lock) = Lock::take().doing(|| "taking the lock @kinglet")? else {
        log::info(format_args!("another kinglet is at work on this node; nothing to do"));
        return Ok(0);
    };
    let node = node_name(args)?;
    let read = read_cluster(args, &node)?;
    let mut kernel = Kernel::open()?;
    let pass = prepare_pass(
        &mut kernel,
        &read.known.cluster,
        &Learned::default(),
        &node,
        &options(args)?,
        Scope::All,
    )?;
    let pass = add_invalid(pass, read.known.complaints());
    let (mut refused, mut printed) = (0, String::new());
    let (flows, errors) = pass.apply(&mut kernel, Scope::All, &mut |step, outcome| match outcome {
        Err(why) => {
            refused += 1;
            log::error(format_args!("{step}: refused: {why}"));
        }
        Ok(()) if args.format == Format::Text => {
            printed += &format!("{step}\n");
            if printed.len() >= FLUSH_AT {
                let _ = print(&std::mem::take(&mut printed));
            }
        }
        Ok(()) => {}
    });
    let _ = print(&printed);
    if flows > 0 {
        log::info(format_args!("removed {flows} stale UDP conntrack entries"));
    }
    if args.format == Format::Json {
        print(&json(&pass, &pass.steps())?)?;
    }
    let unmet = &pass.desired.unmet;
    for Unmet { what, why, .. } in unmet.iter().take(MAX_UNMET_LINES) {
        log::warn(format_args!("unmet: {what}: {why}"));
    }
    if unmet.len() > MAX_UNMET_LINES {
        let more = unmet.len() - MAX_UNMET_LINES;
        log::warn(format_args!("unmet: {more} more; `kinglet plan` lists them all"));
    }
    for e in read.errors.iter().chain(&errors).chain(&pass.desired.errors) {
        log::error(format_args!("{e}"));
    }
    let succeeded = refused == 0 && errors.is_empty() && pass.desired.errors.is_empty();
    let succeeded = succeeded && read.errors.is_empty();
    let ClusterRead { known, errors, mut file, listed, contact } = read;
    if errors.is_empty()
        && let Err(e) = file.save(&known, listed, &contact).and_then(|_| file.settle())
    {
        log::warn(format_args!("{e}"));
    }
    Ok(u8::from(!succeeded))
}
