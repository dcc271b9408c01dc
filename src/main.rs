//! kinglet: one command makes a small Linux box a member of a Kubernetes pod network.
//!
//! Which command, and what comes out of it. Exit codes: 0 done or nothing to do; 1 an error, or a
//! step that was refused; `plan` exits with 2 where there is something to do, `status` with 1 where
//! the node is not right, `check` with 1 where the board is not able.

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
    args::{self, Args, Command},
    error::{Doing, Error, Result},
    kernel::files,
    local::{Options, Routes},
    log,
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
        Command::Help => out(&args::help()).map(|_| 0),
        Command::Version => out(&format!("kinglet {}\n", env!("CARGO_PKG_VERSION"))).map(|_| 0),
        Command::Plan => pass::plan(&args),
        Command::Sync => pass::sync(&args),
        Command::Dump => pass::dump(&args),
        Command::Run => run::run(&args),
        Command::Status => node::status(&args),
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

/// What was typed, and what the configuration file says besides.
fn arguments() -> Result<Args> {
    args::parse_with(env::args_os().skip(1), |typed| {
        let path = typed.unwrap_or(args::CONFIG);
        match std::fs::read_to_string(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound && typed.is_none() => Ok(None),
            text => {
                text.map(|text| Some((path.to_owned(), text))).doing(|| format!("reading {path}"))
            }
        }
    })
}

/// Writes to stdout. A reader who has seen enough is no error: false.
fn out(text: &str) -> Result<bool> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        written => written.map(|()| true).doing(|| "writing to standard output"),
    }
}

fn options(args: &Args) -> Options {
    let conf = args.cni_conf.clone().or_else(|| env::var("KUBE_ROUTER_CNI_CONF_FILE").ok());
    Options {
        router: args.router,
        services: args.services,
        cni: args.cni,
        cni_conf: conf.as_deref().unwrap_or("/etc/cni/net.d/10-kuberouter.conflist").into(),
        auto_mtu: args.auto_mtu,
        ipv4: args.ipv4,
        ipv6: args.ipv6.unwrap_or(true),
        excluded: args.excluded_cidrs.clone(),
        guard: args.guard,
        masquerade_all: args.masquerade_all,
        pod_egress: args.pod_egress,
        node_ports: args.node_ports.clone(),
        grace: args.grace,
        external: if args.strict_external { args.external.clone() } else { Vec::new() },
        peers: !args.peer_router_ips.is_empty(),
        daemon: args.command == Command::Run,
        routes: Routes::Both,
        timeouts: args.timeouts,
    }
}

/// The name of this node's Node object.
fn node(args: &Args) -> Result<Box<str>> {
    let given = args.hostname_override.clone().or_else(|| env::var("NODE_NAME").ok());
    // The kubelet lowers the host's name too.
    let name = given
        .filter(|name| !name.is_empty())
        .or_else(|| files::sysctl("kernel/hostname").map(|name| name.to_lowercase()));
    name.map(Into::into).ok_or_else(|| {
        Error::new("finding this node's name", "the host has none: set --hostname-override")
    })
}

fn api(args: &Args) -> Result<Api> {
    Api::open(&source(args))
}

fn source(args: &Args) -> Source {
    Source { master: args.master.clone(), kubeconfig: args.kubeconfig.clone() }
}

fn policy(args: &Args) {
    if args.firewall {
        log::warn(format_args!(
            "NETWORK POLICY IS NOT ENFORCED by this version, whatever --run-firewall says: every pod \
             can reach every other (--run-firewall=false silences this)"
        ));
    }
}
