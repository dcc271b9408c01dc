//! The conversion from the flags as typed ([`LowArgs`]) to their meaning ([`Options`]).

use std::{io, path::Path};

use super::{Command, low_args::LowArgs};
use crate::{
    error::Result,
    model::local::{NodePorts, Options},
};

impl LowArgs {
    /// Returns the options that the flags mean for the command. `read` returns the text of the file with
    /// the BGP passwords. Fails if that file cannot be read or does not fit the other flags.
    pub fn options(&self, read: impl FnOnce(&Path) -> io::Result<String>) -> Result<Options> {
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
        LowArgs::new().options(|_| Err(io::ErrorKind::Unsupported.into())).expect("no file is read")
    }
}
