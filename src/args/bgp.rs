//! The flags of BGP, as typed, and their conversion to [`local::Bgp`].
//!
//! The peers outside of the cluster are given in parallel lists, as in kube-router: one AS for each
//! address, and one port and one password for each address or none at all. A password may be empty
//! between commas.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use super::{flags, wrong};
use crate::{
    error::{Doing, Error, Result},
    local::{self, RouterId, Routes},
    router::{Router, Secret, Told},
};

/// The values of the BGP flags, as typed.
#[derive(Clone, Debug, Default)]
pub struct Bgp {
    /// The source of routes to other nodes' pods.
    pub routes: Routes,
    /// The flags with a single value that need no conversion.
    simple: local::Bgp,
    asn: u32,
    port: u16,
    hold: u64,
    restart: bool,
    restart_time: u64,
    deferral: u64,
    id: String,
    ips: Vec<String>,
    asns: Vec<String>,
    ports: Vec<String>,
    /// Each in base64; empty if a peer has none.
    passwords: Vec<Secret>,
    passwords_file: Option<PathBuf>,
    bfd: bool,
    /// The values of `--bfd-*`, in the order of [`BFD`]; empty if not given.
    bfd_numbers: [String; 4],
    /// True if `ranges` is advertised in place of single ClusterIPs.
    aggregate: bool,
    ranges: Vec<IpNet>,
}

/// The names of the BFD flags without `--bfd-`, in the order of [`Told::bfd`].
const BFD: [&str; 4] =
    ["port", "desired-min-tx-interval", "required-min-rx-interval", "detection-multiplier"];
/// kube-router's limit of the deferral time in seconds: 18 hours.
const MAX_DEFERRAL: u64 = 18 * 3600;

impl Bgp {
    /// Returns the defaults.
    pub fn new() -> Bgp {
        let (port, hold, restart_time, deferral) = (179, 90, 90, 360);
        Bgp { port, hold, restart_time, deferral, ..Bgp::default() }
    }

    /// Returns true if flags name peers outside of the cluster.
    pub fn has_routers(&self) -> bool {
        !self.ips.is_empty()
    }

    /// Returns true if the passwords are in a file.
    pub fn has_file(&self) -> bool {
        self.passwords_file.is_some()
    }

    /// Stores the value of a BGP flag; ignores other flags. `on` is the value of a switch.
    pub fn take(&mut self, name: &str, text: &str, on: bool) {
        let (simple, seconds) = (&mut self.simple, || flags::seconds(text).unwrap_or(0));
        let all = || flags::list(text).map(str::to_owned);
        match name {
            "routes" => {
                self.routes = match text {
                    "nodes" => Routes::Nodes,
                    "bgp" => Routes::Bgp,
                    _ => Routes::Both,
                }
            }
            "nodes-full-mesh" => simple.mesh = on,
            "enable-ibgp" => simple.inside = on,
            "override-nexthop" => simple.next_hop_self = on,
            "advertise-pod-cidr" => simple.advertise.pods = on,
            "advertise-cluster-ip" => simple.advertise.cluster_ips = on,
            "advertise-external-ip" => simple.advertise.external_ips = on,
            "advertise-loadbalancer-ip" => simple.advertise.balancer_ips = on,
            "advertise-cluster-ip-range" => self.aggregate = on,
            "service-cluster-ip-range" => {
                self.ranges.extend(flags::list(text).filter_map(|t| t.parse::<IpNet>().ok()));
            }
            "cluster-asn" => self.asn = text.parse().unwrap_or(0),
            "router-id" => self.id = text.to_owned(),
            "bgp-port" => self.port = text.parse().unwrap_or(0),
            "bgp-holdtime" => self.hold = seconds(),
            "bgp-graceful-restart" => self.restart = on,
            "bgp-graceful-restart-time" => self.restart_time = seconds(),
            "bgp-graceful-restart-deferral-time" => self.deferral = seconds(),
            "peer-router-multihop-ttl" => simple.hops = text.parse().unwrap_or(0),
            "enable-bfd" => self.bfd = on,
            "peer-router-ttl-security" => simple.ttl_security = on,
            "peer-router-ips" => self.ips.extend(all()),
            "peer-router-asns" => self.asns.extend(all()),
            "peer-router-ports" => self.ports.extend(all()),
            "peer-router-passwords" => self.passwords.extend(passwords(text)),
            "peer-router-passwords-file" => {
                self.passwords_file = Some(text.into()).filter(|_| !text.is_empty());
            }
            _ => {
                let at =
                    name.strip_prefix("bfd-").and_then(|n| BFD.iter().position(|own| *own == n));
                at.into_iter().for_each(|at| self.bfd_numbers[at] = text.to_owned());
            }
        }
    }

    /// Checks the values and their combination, without reading the password file. Fails with the name of
    /// the flag.
    pub fn check(&self) -> Result<()> {
        let invalid = |flag: &str, why: &str| Err(wrong(format!("{flag}: {why}")));
        if !matches!(self.asn, 0 | 64_512..=65_535 | 4_200_000_000..=4_294_967_294) {
            let why =
                "a private AS number is expected: 64512 to 65535, or 4200000000 to 4294967294";
            return invalid("--cluster-asn", why);
        }
        if self.port == 0 {
            return invalid("--bgp-port", "a port from 1 to 65535 is expected");
        }
        if !(3..=65_536).contains(&self.hold) {
            return invalid("--bgp-holdtime", "a duration from 3s to 65536s is expected");
        }
        if !(1..=4095).contains(&self.restart_time) {
            return invalid(
                "--bgp-graceful-restart-time",
                "a duration of more than 0s and at most 4095s is expected",
            );
        }
        if !(1..=MAX_DEFERRAL).contains(&self.deferral) {
            let why = "a duration of more than 0s and at most 18h is expected";
            return invalid("--bgp-graceful-restart-deferral-time", why);
        }
        if self.id().is_none() {
            return invalid(
                "--router-id",
                "an IPv4 address other than 0.0.0.0, or generate, is expected",
            );
        }
        if self.aggregate && self.ranges.is_empty() {
            return invalid(
                "--advertise-cluster-ip-range",
                "set --service-cluster-ip-range to the networks of the ClusterIPs, as in the API server's \
                 flag of that name",
            );
        }
        if self.aggregate && self.ranges.iter().any(|range| range.prefix_len() == 0) {
            return invalid(
                "--service-cluster-ip-range",
                "a range of all addresses is not a range of Services",
            );
        }
        match &self.passwords_file {
            // Their number is checked when the file is read.
            Some(_) => self.routers(&vec![Secret::new(""); self.ips.len()], "").map(drop),
            None => self.routers(&self.passwords, "--peer-router-passwords").map(drop),
        }
    }

    /// Returns the BGP configuration. `read` returns the text of the password file. Fails if the file cannot
    /// be read, or if its passwords are invalid or too few.
    pub fn config(
        &self,
        read: impl FnOnce(&Path) -> std::io::Result<String>,
    ) -> Result<local::Bgp> {
        let routers = match &self.passwords_file {
            Some(path) => {
                let doing = || format!("reading --peer-router-passwords-file {}", path.display());
                let text = read(path).doing(doing)?;
                let passwords: Vec<Secret> = passwords(text.trim()).collect();
                self.routers(
                    &passwords,
                    &format!("--peer-router-passwords-file {}", path.display()),
                )?
            }
            None => self.routers(&self.passwords, "--peer-router-passwords")?,
        };
        let simple = &self.simple;
        Ok(local::Bgp {
            asn: if self.asn == 0 { simple.asn } else { self.asn },
            id: self.id().unwrap_or(simple.id),
            port: self.port,
            hold: u16::try_from(self.hold).unwrap_or(u16::MAX),
            restart: u16::try_from(self.restart_time).ok().filter(|_| self.restart),
            routers,
            ranges: if self.aggregate { self.ranges.clone() } else { Vec::new() },
            ..simple.clone()
        })
    }

    /// Returns the source of the BGP Identifier; `None` if the text is invalid.
    fn id(&self) -> Option<RouterId> {
        match &*self.id {
            "" => Some(RouterId::Addr),
            "generate" => Some(RouterId::Hash),
            text => {
                let id: Ipv4Addr = text.parse().ok()?;
                Some(RouterId::Given(id)).filter(|_| !id.is_unspecified())
            }
        }
    }

    /// Returns the peers outside of the cluster. `passwords_flag` names the source of the passwords in
    /// errors. Fails if the lists differ in length, a value is invalid, or an address occurs twice.
    fn routers(&self, passwords: &[Secret], passwords_flag: &str) -> Result<Vec<Router>> {
        let many = self.ips.len();
        let lists = [
            ("--peer-router-asns", self.asns.len(), false),
            ("--peer-router-ports", self.ports.len(), true),
            (passwords_flag, passwords.len(), true),
        ];
        for (name, len, optional) in lists {
            if len != many && !(optional && len == 0) {
                let or = if optional { ", or none" } else { "" };
                return Err(wrong(format!(
                    "{name} has {len} entries and --peer-router-ips has {many}: one for each is expected{or}"
                )));
            }
        }
        let mut routers: Vec<Router> = Vec::with_capacity(many);
        for (i, addr) in self.ips.iter().enumerate() {
            let raw = Told {
                addr,
                asn: self.asns.get(i).map_or("", |asn| asn),
                port: self.ports.get(i).map_or("", |port| port),
                local: "",
                password: passwords.get(i).map_or("", Secret::reveal),
                bfd: self.bfd.then(|| self.bfd_numbers.each_ref().map(|text| &**text)),
            };
            let invalid = |why: &str| -> Error {
                wrong(format!("router {addr} of --peer-router-ips: {why}"))
            };
            let router = Router::read(raw).map_err(|why| invalid(&why))?;
            if routers.iter().any(|other| other.addr == router.addr) {
                return Err(invalid("the address occurs twice"));
            }
            routers.push(router);
        }
        Ok(routers)
    }
}

/// Splits a list of passwords. An empty element stands for a peer without a password.
fn passwords(text: &str) -> impl Iterator<Item = Secret> {
    let any = !text.is_empty();
    text.split(',').filter(move |_| any).map(|part| Secret::new(part.trim()))
}

#[cfg(test)]
mod tests;
