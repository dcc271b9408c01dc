//! `kinglet plan`: prints the steps that `sync` would take, as text, as a shell script or as JSON. With
//! `--from` it plans from a dump, or from a list in kubectl's JSON format, without API and root.

use std::io::{self, Read};

use super::{
    context::{add_invalid, list_cluster, node_name, options, print},
    dump::Dump,
};
use crate::{
    api::from_list,
    cli::{Format, LowArgs},
    desired::Unmet,
    error::{Doing, Result},
    kernel::{Kernel, Scope},
    log,
    model::{bgp::Learned, items::ItemSet, local::Local},
    plan::{Step, shell},
    reconcile::{Pass, prepare_offline, prepare_pass},
};

/// Prints the steps that `sync` would take. Fails if the cluster or the kernel cannot be read.
pub(crate) fn plan(args: &LowArgs) -> Result<u8> {
    let pass = match &args.from {
        None => {
            let reading = list_cluster(args)?;
            let mut kernel = Kernel::open()?;
            let (node, options) = (node_name(args)?, options(args)?);
            let pass = prepare_pass(
                &mut kernel,
                &reading.cluster,
                &Learned::default(),
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
pub(super) fn json(pass: &Pass, steps: &[Step]) -> Result<String> {
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
