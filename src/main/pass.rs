//! The commands that make one pass, or say what it would do.

use std::{
    io::{self, Read},
    time::Duration,
};

use kinglet::{
    api::{
        from_list,
        snapshot::{self, Snapshot},
    },
    args::{Args, Format},
    bgp::rib,
    cluster::{Bad, Kind, Known, Reading},
    desired::Unmet,
    dump::Dump,
    error::{Doing, Error, Result},
    kernel::{Kernel, Scope, lock::Lock},
    local::Local,
    log,
    plan::{Step, sh},
    reconcile::{Pass, imagine, look},
    state::State,
};

use super::{api, node, options, out, policy};

/// More lines than this about what can't be honoured are for `plan` to tell, not for every `sync`.
const UNMET_LINES: usize = 5;
/// Steps are told as they are taken, in pieces of so many bytes.
const TOLD: usize = 8 << 10;

/// What is known for one pass, and what the next one has to know.
struct Learned {
    known: Known,
    /// The API could not be read, or not all of it.
    errors: Vec<Error>,
    file: snapshot::File,
    listed: u64,
    contact: snapshot::Contact,
}

/// From the snapshot, and from what the API says beyond it.
fn learn(args: &Args, node: &str) -> Result<Learned> {
    let api = api(args)?;
    let mut file = snapshot::File::new(args.snapshot.clone(), api.identity(node));
    let snapshot = file.load();
    if args.snapshot.is_some() {
        api.expect(node, snapshot.as_ref());
    }
    let kinds = Kind::needed(args.services);
    let age = snapshot.as_ref().and_then(Snapshot::age);
    let resync = Duration::from_secs(args.resync_period);
    let found = snapshot.is_some();
    let Snapshot { cluster, versions, mut listed, .. } = snapshot.unwrap_or_default();
    let mut known = Known::new(cluster, versions, kinds);
    let mut errors = api.catch_up(&mut known, kinds, age, resync);
    if errors.is_empty() {
        if age.is_none_or(|age| age >= resync) {
            listed = snapshot::now();
        }
    } else if !found {
        return Err(errors.remove(0));
    } else {
        let age = age.map_or("unknown age".to_owned(), |age| format!("{} s ago", age.as_secs()));
        log::warn(format_args!(
            "THE API SERVER CAN'T BE READ; this pass works from the snapshot ({age}), and removes \
             nothing of which was not heard"
        ));
    }
    Ok(Learned { known, errors, file, listed, contact: api.contact() })
}

/// What was not understood, beside what can't be honoured.
fn with_bad(mut pass: Pass, bad: impl Iterator<Item = Bad>) -> Pass {
    let bad = bad.map(|bad| {
        Unmet::new(
            format!("{} {}", bad.kind.name(), bad.name),
            format!("not understood: {}", bad.why),
        )
    });
    pass.desired.unmet.splice(0..0, bad);
    pass
}

pub fn plan(args: &Args) -> Result<u8> {
    let pass = match &args.from {
        None => {
            let reading = read(args)?;
            let mut kernel = Kernel::open()?;
            let (node, options) = (node(args)?, options(args));
            let pass = look(
                &mut kernel,
                &reading.cluster,
                &rib::Learned::default(),
                &node,
                &options,
                Scope::All,
            )?;
            with_bad(pass, reading.bad.into_iter())
        }
        Some(path) => plan_from(args, &text_of(path)?)?,
    };
    let steps = pass.steps();
    out(&match args.format {
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

fn text_of(path: &std::path::Path) -> Result<String> {
    let read = if path.as_os_str() == "-" {
        let mut text = String::new();
        io::stdin().lock().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    read.doing(|| format!("reading {}", path.display()))
}

/// Plans for any node from a dump, or from a list as kubectl prints it: neither API nor root.
fn plan_from(args: &Args, text: &str) -> Result<Pass> {
    let dump = Dump::read(text).doing(|| "reading the dump given by --from")?;
    let options = options(args);
    let Some(dump) = dump else {
        let reading = from_list(text.as_bytes())?;
        let local = Local { node: node(args)?, options, host: None };
        let pass = imagine(&reading.cluster, local, State::new())?;
        return Ok(with_bad(pass, reading.bad.into_iter()));
    };
    let node = args.hostname_override.as_deref().unwrap_or(&dump.node).into();
    let (host, have) =
        if node == dump.node { (dump.host, dump.kernel) } else { (None, State::new()) };
    imagine(&dump.cluster, Local { node, options, host }, have)
}

pub fn sync(args: &Args) -> Result<u8> {
    policy(args);
    let Some(_lock) = Lock::take().doing(|| "taking the lock @kinglet")? else {
        log::info(format_args!("another kinglet is at work on this node; it does the job"));
        return Ok(0);
    };
    let node = node(args)?;
    let learned = learn(args, &node)?;
    let mut kernel = Kernel::open()?;
    let pass = look(
        &mut kernel,
        &learned.known.cluster,
        &rib::Learned::default(),
        &node,
        &options(args),
        Scope::All,
    )?;
    let pass = with_bad(pass, learned.known.complaints());
    let (mut refused, mut taken) = (0, String::new());
    let (flows, errors) = pass.take(&mut kernel, Scope::All, &mut |step, outcome| match outcome {
        Err(why) => {
            refused += 1;
            log::error(format_args!("{step}: refused: {why}"));
        }
        Ok(()) if args.format == Format::Text => {
            taken += &format!("{step}\n");
            if taken.len() >= TOLD {
                let _ = out(&std::mem::take(&mut taken));
            }
        }
        Ok(()) => {}
    });
    let _ = out(&taken);
    if flows > 0 {
        log::info(format_args!("{flows} flows of UDP Services led astray, and were removed"));
    }
    if args.format == Format::Json {
        out(&json(&pass, &pass.steps())?)?;
    }
    let unmet = &pass.desired.unmet;
    for Unmet { what, why, .. } in unmet.iter().take(UNMET_LINES) {
        log::warn(format_args!("unmet: {what}: {why}"));
    }
    if unmet.len() > UNMET_LINES {
        let more = unmet.len() - UNMET_LINES;
        log::warn(format_args!("unmet: {more} more; `kinglet plan` tells them all"));
    }
    for e in learned.errors.iter().chain(&errors).chain(&pass.desired.errors) {
        log::error(format_args!("{e}"));
    }
    let well = refused == 0 && errors.is_empty() && pass.desired.errors.is_empty();
    let well = well && learned.errors.is_empty();
    let Learned { known, errors, mut file, listed, contact } = learned;
    if errors.is_empty()
        && let Err(e) = file.save(&known, listed, &contact).and_then(|_| file.settle())
    {
        log::warn(format_args!("{e}"));
    }
    Ok(u8::from(!well))
}

pub fn dump(args: &Args) -> Result<u8> {
    let mut reading = read(args)?;
    reading.cluster.forget_passwords();
    let (node, options) = (node(args)?, options(args));
    let mut kernel = Kernel::open()?;
    let host = Some(kernel.host(&options)?);
    let local = Local { node: node.clone(), options, host };
    // A node that is not in the cluster is worth a report too.
    let want = match imagine(&reading.cluster, local.clone(), State::new()) {
        Ok(pass) => pass.desired.state,
        Err(e) => {
            log::warn(format_args!("{e}"));
            State::new()
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
    out(&(text + "\n")).map(|_| 0)
}

fn text(pass: &Pass, steps: &[Step]) -> String {
    let steps = steps.iter().map(|step| format!("{step}\n"));
    let unmet =
        pass.desired.unmet.iter().map(|Unmet { what, why, .. }| format!("! {what}: {why}\n"));
    steps.chain(unmet).collect()
}

fn script(pass: &Pass, steps: &[Step]) -> String {
    let head = format!("#!/bin/sh\n# kinglet: what node {} needs\n", pass.local.node);
    let comment = |Unmet { what, why, .. }: &Unmet| {
        let line = format!("# unmet: {what}: {why}");
        line.chars().filter(|c| !c.is_control()).collect::<String>() + "\n"
    };
    let unmet: String = pass.desired.unmet.iter().map(comment).collect();
    head + &unmet + &sh::script(steps)
}

/// The contract for other programs: `{"node":NAME,"steps":[…],"unmet":[…]}`.
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

/// What the API says of them.
fn read(args: &Args) -> Result<Reading> {
    api(args)?.read(Kind::needed(args.services))
}
