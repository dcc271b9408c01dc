//! The values of the flags, as typed, and the rules for their combination. The setters of the table of flags
//! fill them in; [`LowArgs::options`] turns them into [`Options`](crate::model::local::Options).

use std::path::PathBuf;

use ipnet::IpNet;

use super::{
    bgp::BgpArgs,
    command::{Command, Format, wrong},
};
use crate::{error::Result, model::local::Routes};

/// The values of all flags, as typed. `default()` is empty; `flags::defaults` has the defaults of the
/// flags.
#[derive(Clone, Debug, Default)]
pub struct LowArgs {
    pub(crate) command: Command,
    /// The command that `--help`, `--version` or `--cleanup-config` asks for.
    pub(crate) asked: Option<Command>,
    pub(crate) config: PathBuf,
    pub(crate) master: Option<String>,
    pub(crate) kubeconfig: Option<PathBuf>,
    pub(crate) hostname_override: Option<String>,
    pub(crate) snapshot: Option<PathBuf>,
    pub(crate) router: bool,
    pub(crate) services: bool,
    pub(crate) firewall: bool,
    pub(crate) ipv4: bool,
    pub(crate) ipv6: bool,
    pub(crate) cni: bool,
    pub(crate) cni_conf: PathBuf,
    pub(crate) auto_mtu: bool,
    pub(crate) pod_egress: bool,
    pub(crate) excluded_cidrs: Vec<IpNet>,
    /// True if `--nodeport-bindon-all-ip` was given after `--nodeport-addresses`, or alone.
    pub(crate) node_ports_all: bool,
    /// Empty for `--nodeport-addresses=primary`.
    pub(crate) node_port_nets: Vec<IpNet>,
    pub(crate) guard: bool,
    pub(crate) masquerade_all: bool,
    pub(crate) external: Vec<IpNet>,
    pub(crate) strict_external: bool,
    /// The IPVS timeouts of TCP, TCP FIN and UDP in seconds; 0 keeps the kernel's value.
    pub(crate) timeouts: [u64; 3],
    pub(crate) graceful: bool,
    /// In seconds.
    pub(crate) grace: u64,
    pub(crate) bgp: BgpArgs,
    /// In seconds; 0 keeps a watch open.
    pub(crate) poll_interval: u64,
    /// In seconds.
    pub(crate) resync_period: u64,
    /// In seconds, at least 1.
    pub(crate) audit_period: u64,
    pub(crate) health_addr: String,
    pub(crate) health_port: u16,
    pub(crate) proxy_health_port: u16,
    pub(crate) metrics_addr: String,
    pub(crate) metrics_port: u16,
    pub(crate) metrics_path: String,
    pub(crate) run_dir: PathBuf,
    pub(crate) format: Format,
    pub(crate) from: Option<PathBuf>,
    pub(crate) watch: bool,
    /// True for the command `bgp routes`.
    pub(crate) bgp_routes: bool,
    pub(crate) peer: Option<String>,
    pub(crate) only_in: bool,
    pub(crate) only_out: bool,
    /// The warnings to log, for example about flags that have no effect.
    pub warnings: Vec<String>,
}

impl LowArgs {
    /// Asks for a command if `on` is true; for flags that stand for a command.
    pub(crate) fn ask(&mut self, on: bool, command: Command) {
        self.asked = if on { Some(command) } else { self.asked };
    }

    /// Returns true if the command runs BGP (`run`) or tests its requirements (`check`), and the flags ask
    /// for BGP.
    pub(crate) fn runs_bgp(&self) -> bool {
        let wanted = self.bgp.routes != Routes::Nodes || self.bgp.has_routers();
        matches!(self.command, Command::Run | Command::Check) && self.router && wanted
    }

    /// Checks that the flags and the command fit together. Fails with the flags that do not.
    pub(crate) fn check(&self) -> Result<()> {
        let command = self.command;
        if self.from.is_some() && command != Command::Plan {
            return Err(wrong(format!("--from is for plan, not for {}", command.name())));
        }
        if self.format == Format::Sh && command != Command::Plan {
            return Err(wrong(format!("--format sh is for plan, not for {}", command.name())));
        }
        if self.watch && command != Command::Status {
            return Err(wrong(format!("--watch is for status, not for {}", command.name())));
        }
        let narrow = self.peer.is_some() || self.only_in || self.only_out;
        if narrow && !(command == Command::Bgp && self.bgp_routes) {
            return Err(wrong("--peer, --in and --out are for bgp routes"));
        }
        if self.bgp_routes && self.peer.is_none() && (self.only_in || self.only_out) {
            return Err(wrong("--in and --out select the routes of a peer: set --peer"));
        }
        if self.only_in && self.only_out {
            return Err(wrong("--in and --out exclude each other: give one"));
        }
        if self.from.is_some() && (self.master.is_some() || self.kubeconfig.is_some()) {
            return Err(wrong(
                "--from replaces the API server: leave out --master and --kubeconfig",
            ));
        }
        let works = matches!(
            command,
            Command::Plan | Command::Sync | Command::Run | Command::Dump | Command::Check
        );
        if works && !self.router && !self.services {
            return Err(wrong("nothing to do: set --run-router or --run-service-proxy to true"));
        }
        if works && !self.ipv4 && !self.ipv6 {
            return Err(wrong(
                "--enable-ipv4=false and --enable-ipv6=false leave no address family: enable one",
            ));
        }
        self.bgp.check()
    }
}
