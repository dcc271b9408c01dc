//! `kinglet plan`, `sync` and `dump`: the commands that make one pass, or print one.
//!
//! A pass reads the cluster (`read_cluster`, `list_cluster`), compares it with the kernel
//! (`reconcile::look`), and applies the steps (`Pass::take`) or prints them as text, script or JSON.

use std::{
    io::{self, Read},
    time::Duration,
};

use kinglet::{
    api::{
        ApiServer, ExpectedCluster, Timeouts, from_list,
        snapshot::{self, Snapshot},
    },
    bgp::rib,
    cli::{Format, LowArgs},
    commands::dump_file::Dump,
    desired::Unmet,
    error::{Doing, Error, Result},
    kernel::{Kernel, Scope, lock::Lock},
    log,
    model::{
        cluster::{ClusterStore, InvalidObject, Kind, ListResult},
        items::ItemSet,
        local::Local,
    },
    plan::{Step, shell},
    reconcile::{Pass, prepare_offline, prepare_pass},
};

use super::{node_name, open_api, options, print, source, warn_about_policy};

/// The number of unmet requests that `sync` logs; `plan` prints all of them.
const MAX_UNMET_LINES: usize = 5;
/// The size in bytes at which the buffered output of `sync` is written.
const FLUSH_AT: usize = 8 << 10;

/// The input of a pass, and the data for the next snapshot.
struct ClusterRead {
    known: ClusterStore,
    /// The errors of the kinds that could not be read.
    errors: Vec<Error>,
    file: snapshot::SnapshotFile,
    /// The time of the last complete list (Unix time).
    listed: u64,
    contact: snapshot::Contact,
}

/// Reads the snapshot and the changes since then from the API. Fails if the API cannot be read and there
/// is no snapshot; with a snapshot, the errors are returned beside the snapshot's cluster.
fn read_cluster(args: &LowArgs, node: &str) -> Result<ClusterRead> {
    let server = ApiServer::locate(&source(args), Timeouts::default())?;
    let mut file = snapshot::SnapshotFile::new(args.snapshot.clone(), server.identity(node));
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

/// Adds the invalid API objects to the unmet requests of a pass.
fn add_invalid(mut pass: Pass, bad: impl Iterator<Item = InvalidObject>) -> Pass {
    let bad = bad.map(|bad| {
        Unmet::new(format!("{} {}", bad.kind.name(), bad.name), format!("invalid: {}", bad.why))
    });
    pass.desired.unmet.splice(0..0, bad);
    pass
}

/// Prints the steps that `sync` would take. Fails if the cluster or the kernel cannot be read.
pub fn plan(args: &LowArgs) -> Result<u8> {
    let pass = match &args.from {
        None => {
            let reading = list_cluster(args)?;
            let mut kernel = Kernel::open()?;
            let (node, options) = (node_name(args)?, options(args)?);
            let pass = prepare_pass(
                &mut kernel,
                &reading.cluster,
                &rib::Learned::default(),
                &node,
                &options,
                Scope::All,
            )?;
            add_invalid(pass, reading.bad.into_iter())
        }
        Some(path) => plan_from(args, &read_input(path)?)?,
    };
    let steps = pass.steps();
    print(&match args.format {
        Format::Text => text(&pass, &steps),
        Format::Sh => script(&pass, &steps),
        Format::Json => json(&pass, &steps)?,
    })?;
    for e in &pass.desired.errors {
        log::error(format_args!("{e}"));
    }
    Ok(match (pass.desired.errors.is_empty(), steps.is_empty()) {
        (false, _) => 1,
        (true, false) => 2,
        (true, true) => 0,
    })
}

/// Reads a file, or standard input if the path is `-`.
fn read_input(path: &std::path::Path) -> Result<String> {
    let read = if path.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.doing(|| format!("reading {}", path.display()))
}

/// Plans for any node from a dump, or from a list in kubectl's JSON format, without API and root. Fails
/// if the text is neither. The kernel counts as empty unless the dump is of the same node.
fn plan_from(args: &LowArgs, text: &str) -> Result<Pass> {
    let dump = Dump::read(text).doing(|| "reading the dump given by --from")?;
    let options = options(args)?;
    let Some(dump) = dump else {
        let reading = from_list(text.as_bytes())?;
        let local = Local { node: node_name(args)?, options, host: None };
        let pass = prepare_offline(&reading.cluster, local, ItemSet::new())?;
        return Ok(add_invalid(pass, reading.bad.into_iter()));
    };
    let node = args.hostname_override.as_deref().unwrap_or(&dump.node).into();
    let (host, have) =
        if node == dump.node { (dump.host, dump.kernel) } else { (None, ItemSet::new()) };
    prepare_offline(&dump.cluster, Local { node, options, host }, have)
}

/// Makes one pass and prints each step. Returns 1 if a step was refused or the cluster could not be read
/// completely. Fails if there is neither an API nor a snapshot.
pub fn sync(args: &LowArgs) -> Result<u8> {
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
        &rib::Learned::default(),
        &node,
        &options(args)?,
        Scope::All,
    )?;
    let pass = add_invalid(pass, read.known.complaints());
    let (mut refused, mut printed) = (0, String::new());
    let (flows, errors) = pass.take(&mut kernel, Scope::All, &mut |step, outcome| match outcome {
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

/// Prints the cluster and this node as JSON, without passwords, as input for `plan --from`. Fails if the
/// cluster or the kernel cannot be read.
pub fn dump(args: &LowArgs) -> Result<u8> {
    let mut reading = list_cluster(args)?;
    reading.cluster.forget_passwords();
    let (node, options) = (node_name(args)?, options(args)?);
    let mut kernel = Kernel::open()?;
    let host = Some(kernel.host(&options)?);
    let local = Local { node: node.clone(), options, host };
    // A dump is useful even if the node is not in the cluster.
    let want = match prepare_offline(&reading.cluster, local.clone(), ItemSet::new()) {
        Ok(pass) => pass.desired.state,
        Err(e) => {
            log::warn(format_args!("{e}"));
            ItemSet::new()
        }
    };
    for bad in &reading.bad {
        log::warn(format_args!("{bad}"));
    }
    let dump = Dump {
        kinglet: env!("CARGO_PKG_VERSION").into(),
        node,
        cluster: reading.cluster,
        kernel: kernel.observe(&local.options, &want, Scope::All)?.0.all(&want),
        host: local.host,
    };
    let text = serde_json::to_string(&dump).doing(|| "writing the dump")?;
    print(&(text + "\n")).map(|_| 0)
}

/// Returns the plan for people: one line for each step, then the unmet requests.
fn text(pass: &Pass, steps: &[Step]) -> String {
    let steps = steps.iter().map(|step| format!("{step}\n"));
    let unmet =
        pass.desired.unmet.iter().map(|Unmet { what, why, .. }| format!("! {what}: {why}\n"));
    steps.chain(unmet).collect()
}

/// Returns the plan as a shell script.
fn script(pass: &Pass, steps: &[Step]) -> String {
    let head = format!("#!/bin/sh\n# kinglet: the steps for node {}\n", pass.local.node);
    let comment = |Unmet { what, why, .. }: &Unmet| {
        let line = format!("# unmet: {what}: {why}");
        line.chars().filter(|c| !c.is_control()).collect::<String>() + "\n"
    };
    let unmet: String = pass.desired.unmet.iter().map(comment).collect();
    head + &unmet + &shell::script(steps)
}

/// Returns the plan as JSON, a stable format for other programs:
/// `{"node":NAME,"steps":[…],"unmet":[…]}`.
fn json(pass: &Pass, steps: &[Step]) -> Result<String> {
    #[derive(serde::Serialize)]
    struct Plan<'a> {
        node: &'a str,
        steps: &'a [Step<'a>],
        unmet: &'a [Unmet],
    }
    let plan = Plan { node: &pass.local.node, steps, unmet: &pass.desired.unmet };
    let text = serde_json::to_string(&plan).doing(|| "writing the plan as JSON")?;
    Ok(text + "\n")
}

/// Lists the needed kinds from the API, without a snapshot.
fn list_cluster(args: &LowArgs) -> Result<ListResult> {
    open_api(args)?.read(Kind::needed(args.services))
}
