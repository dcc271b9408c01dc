//! The conversion from the flags as typed ([`LowArgs`]) to their meaning ([`Options`]).

use std::{io, path::Path};

use super::{command::Command, flags::defaults, low_args::LowArgs};
#[cfg(test)]
use crate::model::local::BgpOptions;
use crate::{
    error::Result,
    model::local::{NodePorts, Options},
};

impl LowArgs {
    /// Returns the options that the flags mean for the command. `read` returns the text of the file with
    /// the BGP passwords. Fails if that file cannot be read or does not fit the other flags.
    pub(crate) fn options(
        &self,
        read: impl FnOnce(&Path) -> io::Result<String>,
    ) -> Result<Options> {
        let bgp = self.runs_bgp().then(|| self.bgp.config(read)).transpose()?;
        Ok(Options {
            router: self.router,
            services: self.services,
            cni: self.cni,
            cni_conf: self.cni_conf.to_string_lossy().into(),
            auto_mtu: self.auto_mtu,
            ipv4: self.ipv4,
            ipv6: self.ipv6,
            excluded: self.excluded_cidrs.clone(),
            guard: self.guard,
            masquerade_all: self.masquerade_all,
            pod_egress: self.pod_egress,
            node_ports: match &*self.node_port_nets {
                _ if self.node_ports_all => NodePorts::All,
                [] => NodePorts::Primary,
                nets => NodePorts::Of(nets.to_vec()),
            },
            external: if self.strict_external { self.external.clone() } else { Vec::new() },
            grace: if self.graceful { self.grace } else { 0 },
            peers: self.bgp.has_routers() || bgp.is_some(),
            bgp,
            routes: self.bgp.routes,
            daemon: self.command == Command::Run,
            timeouts: self.timeouts.map(|seconds| seconds.try_into().unwrap_or(u32::MAX)),
        })
    }
}

impl Default for Options {
    /// Returns the options of a command line without flags.
    fn default() -> Options {
        defaults().options(|_| Err(io::ErrorKind::Unsupported.into())).expect("no file is read")
    }
}

#[cfg(test)]
impl Default for BgpOptions {
    /// Returns the BGP options of a command line without flags.
    fn default() -> BgpOptions {
        defaults().bgp.config(|_| unreachable!()).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cli::parse, model::local::Routes};

    fn args(line: &str) -> Result<LowArgs> {
        parse(line.split_whitespace().map(Into::into))
    }

    /// Returns the options of a command line that names no password file.
    fn options(line: &str) -> Options {
        args(line).unwrap().options(|_| unreachable!()).unwrap()
    }

    #[test]
    fn options_without_flags_are_the_defaults() {
        let want = Options {
            router: true,
            services: true,
            cni: true,
            cni_conf: "/etc/cni/net.d/10-kuberouter.conflist".into(),
            auto_mtu: true,
            ipv4: true,
            ipv6: true,
            excluded: Vec::new(),
            guard: true,
            masquerade_all: false,
            pod_egress: true,
            node_ports: NodePorts::Primary,
            external: Vec::new(),
            grace: 30,
            peers: false,
            bgp: None,
            routes: Routes::Both,
            daemon: false,
            timeouts: [0; 3],
        };
        assert_eq!(Options::default(), want);
        assert_eq!(options("sync"), want);
        let args = args("sync").unwrap();
        assert_eq!(args.snapshot, Some("/var/lib/kinglet/snapshot".into()));
        assert_eq!((args.poll_interval, args.resync_period, args.audit_period), (0, 3600, 60));
        assert_eq!((args.health_port, args.proxy_health_port, args.metrics_port), (20_244, 0, 0));
        assert_eq!(
            (&*args.metrics_path, args.run_dir.to_str()),
            ("/metrics", Some("/run/kinglet"))
        );
    }

    #[test]
    fn the_daemon_has_bgp_and_other_commands_do_not() {
        let run = options("run");
        assert!(run.daemon && run.peers && run.bgp.is_some());
        let routed = options("run --routes=nodes");
        assert!(routed.daemon && !routed.peers && routed.bgp.is_none());
        let peers = options("sync --peer-router-ips=192.0.2.1 --peer-router-asns=1");
        assert!(!peers.daemon && peers.peers && peers.bgp.is_none());
    }

    #[test]
    fn the_last_nodeport_flag_takes_effect() {
        let nets = NodePorts::Of(vec!["10.0.0.0/8".parse().unwrap()]);
        for (line, want) in [
            ("sync --nodeport-addresses=10.0.0.0/8", nets.clone()),
            ("sync --nodeport-bindon-all-ip --nodeport-addresses=10.0.0.0/8", nets),
            ("sync --nodeport-addresses=10.0.0.0/8 --nodeport-bindon-all-ip", NodePorts::All),
            ("sync --nodeport-bindon-all-ip --nodeport-addresses=primary", NodePorts::Primary),
        ] {
            assert_eq!(options(line).node_ports, want, "{line}");
        }
    }

    #[test]
    fn options_that_switch_others_off() {
        assert_eq!(options("sync --ipvs-graceful-termination=false").grace, 0);
        assert_eq!(options("sync --ipvs-graceful-period=5s").grace, 5);
        let line = "sync --service-external-ip-range=192.0.2.0/24";
        assert_eq!(options(line).external.len(), 1);
        let line = format!("{line} --strict-external-ip-validation=false");
        assert_eq!(options(&line).external.len(), 0);
    }
}
