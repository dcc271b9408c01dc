//! The commands about this node and not about the cluster: is it right, is it able, take ours away.

use std::{cell::Cell, fmt::Display, path::Path, thread, time::Duration};

use kinglet::{
    api::snapshot::{self, Snapshot as Last},
    args::{Args, Format},
    bgp::rib::Learned,
    check::{self, Verdict},
    cleanup,
    desired::desired_of,
    error::{Doing, Error, Result},
    kernel::{Kernel, Outcome, Scope, lock::Lock},
    local::Local,
    log,
    reconcile::look,
    report::{
        SOCKET, Status,
        ask::{Said, ask},
        status::{Counts, Snapshot, routes},
        text, unix,
    },
    state::Busy,
};

use super::{node, options, out, source};

/// How often `status --watch` looks.
const AGAIN: Duration = Duration::from_secs(2);

/// What the daemon says; where none runs, how the kernel compares with the snapshot. And how busy
/// IPVS is.
pub fn status(args: &Args) -> Result<u8> {
    let json = args.format == Format::Json;
    let socket = args.run_dir.join(SOCKET);
    loop {
        let said = ask(&socket, if json { "/status.json" } else { "/status" })
            .doing(|| format!("asking the daemon at {}", socket.display()))?;
        let mut kernel = Kernel::open()?;
        let last = snapshot::peek(args.snapshot.as_deref().unwrap_or(Path::new("")));
        let (Said { right, page }, last) = match said {
            Some(said) => (said, last.ok().flatten()),
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
            let _ = name(args, &mut kernel, &last, &mut busy); // they are only the nicer for it
        }
        let page = with(page, &busy, json)?;
        let clear = if args.watch && !json { "\x1b[H\x1b[2J" } else { "" };
        if !out(&format!("{clear}{page}"))? || !args.watch {
            return Ok(u8::from(!right));
        }
        thread::sleep(AGAIN);
    }
}

/// What the daemon's BGP speaker has to show.
pub fn bgp(args: &Args) -> Result<u8> {
    let socket = args.run_dir.join(SOCKET);
    let doing = || format!("asking the daemon at {}", socket.display());
    let page = match &args.peer {
        _ if !args.bgp_routes => "/bgp".to_owned(),
        None => "/bgp/routes".to_owned(),
        Some(peer) if args.only_out => format!("/bgp/out/{peer}"),
        Some(peer) => format!("/bgp/in/{peer}"),
    };
    let json = if args.format == Format::Json { ".json" } else { "" };
    match ask(&socket, &format!("{page}{json}")) {
        Ok(Some(said)) => out(&said.page).map(|_| u8::from(!said.right)),
        Ok(None) => Err(Error::new(
            doing(),
            "no kinglet runs here: start one (kinglet run); --run-dir says where it listens",
        )),
        Err(e) => Err(Error::new(doing(), e)),
    }
}

/// Gives IPVS services the names that the snapshot knows for them.
fn name(args: &Args, kernel: &mut Kernel, last: &Last, busy: &mut [Busy]) -> Result<()> {
    let options = options(args);
    let host = Some(kernel.host(&options)?);
    let local = Local { node: named(args, last)?, options, host };
    let claims = desired_of(&last.cluster, &Learned::default(), &local, &|_| false)?.claims;
    for busy in busy {
        let owner = claims.owner(&busy.at);
        busy.service = owner.map_or(String::new(), ToString::to_string);
    }
    Ok(())
}

/// A page, with how busy IPVS is.
fn with(page: String, busy: &[Busy], json: bool) -> Result<String> {
    match page.strip_suffix('}').filter(|_| json) {
        Some(open) => {
            let ipvs = serde_json::to_string(busy).doing(|| "writing the status as JSON")?;
            Ok(format!("{open},\"ipvs\":{ipvs}}}\n"))
        }
        None => Ok(page + &text::busy(busy)),
    }
}

/// Who wrote the snapshot, unless a flag says otherwise.
fn named(args: &Args, last: &Last) -> Result<Box<str>> {
    if args.hostname_override.is_some() { node(args) } else { Ok(last.node.clone()) }
}

/// Where cron runs `sync`, the snapshot says what the last one knew.
fn without_daemon(
    args: &Args,
    kernel: &mut Kernel,
    last: Option<&Last>,
    json: bool,
) -> Result<Said> {
    let Some(last) = last else {
        return Err(Error::new(
            "asking the daemon",
            "none runs, and there is no snapshot of the cluster either: start one (kinglet run), or \
             see what `kinglet plan` would do",
        ));
    };
    let node = named(args, last)?;
    let path = args.snapshot.as_deref().unwrap_or(Path::new(""));
    let mut status = Status {
        version: env!("CARGO_PKG_VERSION").into(),
        node: node.to_string(),
        router: args.router,
        services: args.services,
        policy: args.firewall,
        snapshot: Snapshot {
            path: path.display().to_string(),
            written: last.listed,
            in_use: false,
        },
        cluster: Counts::of(&last.cluster),
        ..Status::default()
    };
    match look(kernel, &last.cluster, &Learned::default(), &node, &options(args), Scope::All) {
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
    Ok(Said { right: status.wrongs().is_empty(), page })
}

/// Is this board able?
pub fn check(args: &Args) -> Result<u8> {
    let asked = check::Asked {
        source: source(args),
        run_dir: args.run_dir.to_string_lossy().into_owned(),
        snapshot: args.snapshot.as_ref().map(|path| path.display().to_string()),
        health: (args.health_addr.clone(), args.health_port),
        bgp: super::bgp(args)?.map_or(0, |bgp| bgp.port),
    };
    let lines = check::lines(&check::look(&options(args), &asked)?);
    out(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    Ok(u8::from(lines.iter().any(|line| line.verdict == Verdict::Missing)))
}

/// Takes all of ours away.
pub fn cleanup(args: &Args) -> Result<u8> {
    let Some(_lock) = Lock::take().doing(|| "taking the lock @kinglet")? else {
        let why = "another kinglet is at work on this node and would make all of it again: stop it \
                   first";
        return Err(Error::new("cleaning up", why));
    };
    let refused = Cell::new(0);
    let told = |what: &dyn Display, outcome: &Outcome| match outcome {
        Ok(()) => drop(out(&format!("{what}\n"))),
        Err(why) => {
            refused.set(refused.get() + 1);
            log::error(format_args!("{what}: refused: {why}"));
        }
    };
    let socket = args.run_dir.join(SOCKET);
    let aside = args.snapshot.as_deref().map(snapshot::aside);
    let files = [Some(socket.as_path()), args.snapshot.as_deref(), aside.as_deref()];
    cleanup::cleanup(
        &mut Kernel::open()?,
        &options(args),
        files.into_iter().flatten(),
        &mut |step, outcome| told(step, outcome),
        &mut |path, outcome| told(&format_args!("- file {}", path.display()), outcome),
    )?;
    Ok(u8::from(refused.get() > 0))
}
