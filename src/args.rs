//! The command line, as typed; nothing here looks at the machine.
//!
//! Every flag is a row of one table (`flags`), from which parsing, validation and the help text come.
//! [`parse_with`] splits the arguments, merges the configuration file (`conf`), stores the values and
//! checks that they fit together.
//!
//! The syntax is kube-router's (Go's pflag): `--flag value` and `--flag=value`, but a switch takes a
//! value only as `--flag=false`. Lists are separated by commas, and a list flag may be repeated. All flags
//! of kube-router are accepted; a flag that has no effect in this version causes one warning.

mod bgp;
mod conf;
mod flags;
mod help;
mod near;

use std::{ffi::OsString, path::PathBuf};

use ipnet::IpNet;
use lexopt::{Arg, Parser, ValueExt};

use crate::{
    error::{Error, Result},
    local::{NodePorts, Routes},
};
pub use bgp::Bgp;
pub use conf::PATH as CONFIG;
use flags::{FLAGS, Flag, Value};
pub use help::help;
use near::suggestion;

/// A command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // `Command::ALL` describes them
pub enum Command {
    Run,
    Sync,
    Plan,
    Status,
    Bgp,
    Check,
    Dump,
    Cleanup,
    Version,
    Help,
}

impl Command {
    /// All commands with name and description, in the order of the help text.
    #[rustfmt::skip] // one row, one line
    pub const ALL: [(Command, &str, &str); 10] = [
        (Command::Run, "run", "the daemon: follow the cluster and keep the node right; the default if flags are given"),
        (Command::Sync, "sync", "make one pass, and print each step"),
        (Command::Plan, "plan", "print the steps that sync would take; exits with 2 if there are any"),
        (Command::Status, "status", "show if this node is right, and the reasons if not; exits with 1 if not"),
        (Command::Bgp, "bgp", "show the BGP peers; `bgp routes`: the routes (--peer IP --in, --out)"),
        (Command::Check, "check", "test if this board can run kinglet, and show how to fix what is missing"),
        (Command::Dump, "dump", "print the cluster and this node as JSON, for a bug report"),
        (Command::Cleanup, "cleanup", "remove everything that kinglet made, and nothing else"),
        (Command::Version, "version", "print the version"),
        (Command::Help, "help", "print this text"),
    ];

    /// Returns the name, as typed.
    pub fn name(self) -> &'static str {
        Command::ALL.iter().find(|(c, ..)| *c == self).map_or("", |(_, name, _)| name)
    }
}

/// An output format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Format {
    Text,
    Sh,
    Json,
}

/// The values of all flags, as typed.
#[derive(Clone, Debug)]
#[allow(missing_docs)] // each is a flag; see `flags`
pub struct Args {
    pub command: Command,
    pub master: Option<String>,
    pub kubeconfig: Option<PathBuf>,
    pub hostname_override: Option<String>,
    pub router: bool,
    pub services: bool,
    pub firewall: bool,
    pub cni: bool,
    pub cni_conf: Option<String>,
    pub auto_mtu: bool,
    pub ipv4: bool,
    /// `None` if not given: IPv6 is used if the node has it.
    pub ipv6: Option<bool>,
    pub excluded_cidrs: Vec<IpNet>,
    pub bgp: Bgp,
    pub guard: bool,
    pub masquerade_all: bool,
    pub pod_egress: bool,
    pub node_ports: NodePorts,
    pub strict_external: bool,
    /// In seconds; 0 with `--ipvs-graceful-termination=false`.
    pub grace: u64,
    pub external: Vec<IpNet>,
    /// In seconds; 0 keeps a watch open.
    pub poll_interval: u64,
    /// In seconds.
    pub resync_period: u64,
    pub snapshot: Option<PathBuf>,
    /// In seconds, at least 1.
    pub audit_period: u64,
    pub health_addr: String,
    pub health_port: u16,
    pub proxy_health_port: u16,
    pub metrics_addr: String,
    pub metrics_port: u16,
    pub metrics_path: String,
    pub run_dir: PathBuf,
    pub watch: bool,
    /// True for the command `bgp routes`.
    pub bgp_routes: bool,
    pub peer: Option<String>,
    pub only_in: bool,
    pub only_out: bool,
    /// The IPVS timeouts of TCP, TCP FIN and UDP in seconds; 0 keeps the kernel's value.
    pub timeouts: [u32; 3],
    pub format: Format,
    pub from: Option<PathBuf>,
    /// The warnings to log, for example about flags that have no effect.
    pub warnings: Vec<String>,
}

impl Args {
    fn new() -> Args {
        Args {
            command: Command::Help,
            master: None,
            kubeconfig: None,
            hostname_override: None,
            router: true,
            services: true,
            firewall: true,
            cni: true,
            cni_conf: None,
            auto_mtu: true,
            ipv4: true,
            ipv6: None,
            excluded_cidrs: Vec::new(),
            bgp: Bgp::new(),
            guard: true,
            masquerade_all: false,
            pod_egress: true,
            node_ports: NodePorts::Primary,
            strict_external: true,
            grace: 30,
            external: Vec::new(),
            poll_interval: 0,
            resync_period: 3600,
            snapshot: Some("/var/lib/kinglet/snapshot".into()),
            audit_period: 60,
            health_addr: String::new(),
            health_port: 20244,
            proxy_health_port: 0,
            metrics_addr: String::new(),
            metrics_port: 0,
            metrics_path: "/metrics".into(),
            run_dir: "/run/kinglet".into(),
            watch: false,
            bgp_routes: false,
            peer: None,
            only_in: false,
            only_out: false,
            timeouts: [0; 3],
            format: Format::Text,
            from: None,
            warnings: Vec::new(),
        }
    }
}

impl Args {
    /// Returns true if the command runs BGP (`run`) or tests its requirements (`check`), and the flags ask
    /// for BGP.
    pub fn speaks_bgp(&self) -> bool {
        let wanted = self.bgp.routes != Routes::Nodes || self.bgp.has_routers();
        matches!(self.command, Command::Run | Command::Check) && self.router && wanted
    }
}

/// Returns an error about the command line.
fn wrong(cause: impl std::fmt::Display) -> Error {
    Error::new("reading the command line", cause)
}

/// Parses the arguments after the program's name, without a configuration file. Fails if an argument is
/// invalid.
pub fn parse(typed: impl IntoIterator<Item = OsString>) -> Result<Args> {
    parse_with(typed, |_| Ok(None))
}

/// Parses the arguments after the program's name. `conf` receives the value of `--config` and returns the
/// path and the text of the configuration file, or `None` if there is no file. Fails if an argument or the
/// file is invalid; `help`, `version` and `cleanup` work with an invalid file.
pub fn parse_with(
    typed: impl IntoIterator<Item = OsString>,
    conf: impl FnOnce(Option<&str>) -> Result<Option<(String, String)>>,
) -> Result<Args> {
    let mut parser = Parser::from_args(typed);
    let (mut command, mut bgp_routes) = (None, false);
    let mut flags = Vec::new();
    while let Some(arg) = parser.next().map_err(wrong)? {
        let flag = match arg {
            Arg::Value(word) => {
                let word = word.to_string_lossy().into_owned();
                if command == Some(Command::Bgp) && word == "routes" {
                    bgp_routes = true;
                    continue;
                }
                let command_row = Command::ALL.iter().find(|(_, name, _)| *name == word);
                let Some((found, ..)) = command_row else {
                    let near = suggestion(&word, Command::ALL.iter().map(|(_, name, _)| *name));
                    let text =
                        format!("there is no command {word:?}{near}; `kinglet help` lists all");
                    return Err(wrong(text));
                };
                if let Some(first) = command.replace(*found) {
                    return Err(wrong(format!(
                        "{} and {word} are two commands: give one",
                        first.name()
                    )));
                }
                continue;
            }
            Arg::Long(name) => find(&format!("--{name}"), |f| f.name == name)?,
            Arg::Short(letter) => find(&format!("-{letter}"), |f| f.letter == Some(letter))?,
        };
        flags.push((flag, value(flag, &mut parser)?));
    }
    let path = flags.iter().rfind(|(flag, _)| flag.name == "config").map(|(_, path)| &**path);
    let asked = flags.iter().rev().find_map(|(flag, text)| stands_for(flag, text));
    if let (Some(Command::Cleanup), Some(other)) = (asked, command)
        && other != Command::Cleanup
    {
        let text = format!("--cleanup-config and {} are two commands: give one", other.name());
        return Err(wrong(text));
    }
    let command = asked.or(command);
    let mut args = Args { bgp_routes, ..Args::new() };
    let conf = match conf(path)
        .and_then(|conf| conf.map_or(Ok(Vec::new()), |(p, t)| conf::flags(&p, &t)))
    {
        Ok(conf) => conf,
        // Help and version are printed even if the file is invalid.
        Err(_) if matches!(command, Some(Command::Help | Command::Version)) => Vec::new(),
        Err(e) if path.is_none() && command == Some(Command::Cleanup) => {
            args.warnings.push(format!("{e}; the file is ignored"));
            Vec::new()
        }
        Err(e) => return Err(e),
    };
    let is_typed = |flag: &Flag| flags.iter().any(|(typed, _)| typed.name == flag.name);
    let conf: Vec<_> = conf.into_iter().filter(|(flag, _)| !is_typed(flag)).collect();

    let mut period = args.grace;
    let any = !flags.is_empty();
    for (flag, text) in conf.into_iter().chain(flags) {
        take(flag, text, &mut args, &mut period);
    }
    args.command = match command {
        Some(command) => command,
        // kube-router is started without a command.
        None if any => Command::Run,
        None => return Err(wrong("no command given; `kinglet help` lists all")),
    };
    if args.grace != 0 {
        args.grace = period;
    }
    check(&args)?;
    Ok(args)
}

/// Finds a row by its name or letter. Fails with a suggestion if there is none; `typed` is for the error.
fn find(typed: &str, is: impl Fn(&Flag) -> bool) -> Result<&'static Flag> {
    FLAGS.iter().find(|f| is(f)).ok_or_else(|| {
        let name = typed.trim_start_matches('-');
        let near = suggestion(name, FLAGS.iter().map(|f| f.name));
        let near = near.replace("mean ", "mean --");
        wrong(format!("there is no flag {typed}{near}; `kinglet help` lists all"))
    })
}

/// Returns the value that was typed for a flag. Fails if the value is missing or of the wrong kind.
fn value(flag: &Flag, parser: &mut Parser) -> Result<String> {
    let text = if flag.value == Value::Switch {
        match parser.optional_value() {
            Some(value) => utf8(flag, value)?,
            None => "true".to_owned(),
        }
    } else {
        let value = parser.value().map_err(|_| wrong(format!("--{} needs a value", flag.name)))?;
        utf8(flag, value)?
    };
    flag.value
        .check(&text)
        .map_err(|expected| wrong(format!("--{}={text}: {expected} is expected", flag.name)))?;
    Ok(text)
}

/// Returns the command that a flag stands for, if it does for one.
fn stands_for(flag: &Flag, text: &str) -> Option<Command> {
    let command = match flag.name {
        "help" => Command::Help,
        "version" => Command::Version,
        "cleanup-config" => Command::Cleanup,
        _ => return None,
    };
    flags::switch(text).unwrap_or(false).then_some(command)
}

/// Stores a flag's value. `period` is the value of `--ipvs-graceful-period`.
fn take(flag: &Flag, text: String, args: &mut Args, period: &mut u64) {
    if !flag.honoured && text != flag.default {
        let warning = format!("--{} has no effect in this version", flag.name);
        if !args.warnings.contains(&warning) {
            args.warnings.push(warning);
        }
    }
    let on = flags::switch(&text).unwrap_or(false);
    match flag.name {
        "master" => args.master = Some(text).filter(|t| !t.is_empty()),
        "kubeconfig" => args.kubeconfig = Some(text).filter(|t| !t.is_empty()).map(Into::into),
        "hostname-override" => args.hostname_override = Some(text).filter(|t| !t.is_empty()),
        "run-router" => args.router = on,
        "run-service-proxy" => args.services = on,
        "run-firewall" => args.firewall = on,
        "enable-cni" => args.cni = on,
        "cni-conf-file" => args.cni_conf = Some(text),
        "auto-mtu" => args.auto_mtu = on,
        "enable-ipv4" => args.ipv4 = on,
        "enable-ipv6" => args.ipv6 = Some(on),
        "excluded-cidrs" => {
            args.excluded_cidrs.extend(flags::list(&text).filter_map(|t| t.parse::<IpNet>().ok()));
        }
        "ipvs-permit-all" => args.guard = on,
        "masquerade-all" => args.masquerade_all = on,
        "enable-pod-egress" => args.pod_egress = on,
        "ipvs-graceful-period" => *period = flags::seconds(&text).unwrap_or(*period),
        "ipvs-graceful-termination" if !on => args.grace = 0,
        "nodeport-bindon-all-ip" if on => args.node_ports = NodePorts::All,
        "nodeport-addresses" => {
            let nets: Vec<IpNet> = flags::list(&text).filter_map(|t| t.parse().ok()).collect();
            args.node_ports =
                if nets.is_empty() { NodePorts::Primary } else { NodePorts::Of(nets) };
        }
        "service-tcp-timeout" => args.timeouts[0] = short(&text),
        "service-tcpfin-timeout" => args.timeouts[1] = short(&text),
        "service-udp-timeout" => args.timeouts[2] = short(&text),
        "strict-external-ip-validation" => args.strict_external = on,
        "service-external-ip-range" => {
            args.external.extend(flags::list(&text).filter_map(|t| t.parse::<IpNet>().ok()));
        }
        "poll-interval" => args.poll_interval = flags::seconds(&text).unwrap_or(0),
        "resync-period" => {
            args.resync_period = flags::seconds(&text).unwrap_or(args.resync_period);
        }
        "snapshot" => args.snapshot = Some(text).filter(|t| !t.is_empty()).map(Into::into),
        "audit-period" => args.audit_period = flags::seconds(&text).unwrap_or(60).max(1),
        "health-addr" => args.health_addr = text,
        "health-port" => args.health_port = text.parse().unwrap_or(0),
        "proxy-health-port" => args.proxy_health_port = text.parse().unwrap_or(0),
        "metrics-addr" => args.metrics_addr = text,
        "metrics-port" => args.metrics_port = text.parse().unwrap_or(0),
        "metrics-path" => args.metrics_path = text,
        "run-dir" => args.run_dir = text.into(),
        "watch" => args.watch = on,
        "peer" => args.peer = Some(text).filter(|t| !t.is_empty()),
        "in" => args.only_in = on,
        "out" => args.only_out = on,
        "from" => args.from = Some(text.into()),
        "format" => {
            args.format = match &*text {
                "sh" => Format::Sh,
                "json" => Format::Json,
                _ => Format::Text,
            }
        }
        name => args.bgp.take(name, &text, on),
    }
}

/// Parses a duration into seconds, cut to 32 bits.
fn short(duration: &str) -> u32 {
    flags::seconds(duration).unwrap_or(0).try_into().unwrap_or(u32::MAX)
}

/// Returns a value as text. Fails if it is not UTF-8.
fn utf8(flag: &Flag, value: OsString) -> Result<String> {
    value.string().map_err(|_| wrong(format!("the value of --{} is not UTF-8", flag.name)))
}

/// Checks that the flags and the command fit together. Fails with the flags that do not.
fn check(args: &Args) -> Result<()> {
    let command = args.command;
    if args.from.is_some() && command != Command::Plan {
        return Err(wrong(format!("--from is for plan, not for {}", command.name())));
    }
    if args.format == Format::Sh && command != Command::Plan {
        return Err(wrong(format!("--format sh is for plan, not for {}", command.name())));
    }
    if args.watch && command != Command::Status {
        return Err(wrong(format!("--watch is for status, not for {}", command.name())));
    }
    let narrow = args.peer.is_some() || args.only_in || args.only_out;
    if narrow && !(command == Command::Bgp && args.bgp_routes) {
        return Err(wrong("--peer, --in and --out are for bgp routes"));
    }
    if args.bgp_routes && args.peer.is_none() && (args.only_in || args.only_out) {
        return Err(wrong("--in and --out select the routes of a peer: set --peer"));
    }
    if args.only_in && args.only_out {
        return Err(wrong("--in and --out exclude each other: give one"));
    }
    if args.from.is_some() && (args.master.is_some() || args.kubeconfig.is_some()) {
        return Err(wrong("--from replaces the API server: leave out --master and --kubeconfig"));
    }
    let works = matches!(
        command,
        Command::Plan | Command::Sync | Command::Run | Command::Dump | Command::Check
    );
    if works && !args.router && !args.services {
        return Err(wrong("nothing to do: set --run-router or --run-service-proxy to true"));
    }
    if works && !args.ipv4 && args.ipv6 == Some(false) {
        return Err(wrong(
            "--enable-ipv4=false and --enable-ipv6=false leave no address family: enable one",
        ));
    }
    args.bgp.check()
}

#[cfg(test)]
mod tests;
