//! The flags of BGP: what was typed of them, and whether it goes together.
//!
//! The routers outside are told in lists that belong together by their places, as kube-router has it:
//! as many ASes as addresses, and as many ports and passwords or none. A password may be left out
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

/// What was typed.
#[derive(Clone, Debug, Default)]
pub struct Bgp {
    /// Where routes come from.
    pub routes: Routes,
    /// All that is one value.
    told: local::Bgp,
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
    /// In base64.
    passwords: Vec<Secret>,
    passwords_file: Option<PathBuf>,
    bfd: bool,
    /// `--bfd-*`: as `Told` has them.
    bfd_numbers: [String; 4],
    /// Whether the ranges of ClusterIPs stand for them.
    aggregate: bool,
    ranges: Vec<IpNet>,
}

/// What follows `--bfd-`, as `Told` has them.
const BFD: [&str; 4] =
    ["port", "desired-min-tx-interval", "required-min-rx-interval", "detection-multiplier"];
/// In seconds: the most that kube-router takes, 18 hours.
const LONGEST_DEFERRAL: u64 = 18 * 3600;

impl Bgp {
    /// As it is without flags.
    pub fn new() -> Bgp {
        let (port, hold, restart_time, deferral) = (179, 90, 90, 360);
        Bgp { port, hold, restart_time, deferral, ..Bgp::default() }
    }

    /// Whether routers outside are told by flags.
    pub fn has_routers(&self) -> bool {
        !self.ips.is_empty()
    }

    /// Whether a file has to be read for it.
    pub fn has_file(&self) -> bool {
        self.passwords_file.is_some()
    }

    /// Keeps a flag's value, if it is one of BGP.
    pub fn take(&mut self, name: &str, text: &str, on: bool) {
        let (told, seconds) = (&mut self.told, || flags::seconds(text).unwrap_or(0));
        let all = || flags::list(text).map(str::to_owned);
        match name {
            "routes" => {
                self.routes = match text {
                    "nodes" => Routes::Nodes,
                    "bgp" => Routes::Bgp,
                    _ => Routes::Both,
                }
            }
            "nodes-full-mesh" => told.mesh = on,
            "enable-ibgp" => told.inside = on,
            "override-nexthop" => told.next_hop_self = on,
            "advertise-pod-cidr" => told.advertise.pods = on,
            "advertise-cluster-ip" => told.advertise.cluster_ips = on,
            "advertise-external-ip" => told.advertise.external_ips = on,
            "advertise-loadbalancer-ip" => told.advertise.balancer_ips = on,
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
            "peer-router-multihop-ttl" => told.hops = text.parse().unwrap_or(0),
            "enable-bfd" => self.bfd = on,
            "peer-router-ttl-security" => told.ttl_security = on,
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

    /// Whether it goes together, as far as the command line alone can tell.
    pub fn check(&self) -> Result<()> {
        let told = |flag: &str, why: &str| Err(wrong(format!("{flag}: {why}")));
        if !matches!(self.asn, 0 | 64_512..=65_535 | 4_200_000_000..=4_294_967_294) {
            let why =
                "an AS of private use is expected, 64512 to 65535 or 4200000000 to 4294967294";
            return told("--cluster-asn", why);
        }
        if self.port == 0 {
            return told("--bgp-port", "a port from 1 to 65535 is expected");
        }
        if !(3..=65_536).contains(&self.hold) {
            return told("--bgp-holdtime", "3s to 65536s are expected");
        }
        if !(1..=4095).contains(&self.restart_time) {
            return told(
                "--bgp-graceful-restart-time",
                "more than 0s and at most 4095s are expected",
            );
        }
        if !(1..=LONGEST_DEFERRAL).contains(&self.deferral) {
            let why = "more than 0s and at most 18h are expected";
            return told("--bgp-graceful-restart-deferral-time", why);
        }
        if self.id().is_none() {
            return told(
                "--router-id",
                "an IPv4 address other than 0.0.0.0, or generate, is expected",
            );
        }
        if self.aggregate && self.ranges.is_empty() {
            return told(
                "--advertise-cluster-ip-range",
                "--service-cluster-ip-range has to say which networks these are, as the API server's \
                 flag of that name does",
            );
        }
        if self.aggregate && self.ranges.iter().any(|range| range.prefix_len() == 0) {
            return told("--service-cluster-ip-range", "all addresses are no range of Services");
        }
        match &self.passwords_file {
            // Who has it is seen when it is read.
            Some(_) => self.routers(&vec![Secret::new(""); self.ips.len()], "").map(drop),
            None => self.routers(&self.passwords, "--peer-router-passwords").map(drop),
        }
    }

    /// What BGP is told. `read` gives the text of the file with the passwords.
    pub fn told(&self, read: impl FnOnce(&Path) -> std::io::Result<String>) -> Result<local::Bgp> {
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
        let defaults = &self.told;
        Ok(local::Bgp {
            asn: if self.asn == 0 { defaults.asn } else { self.asn },
            id: self.id().unwrap_or(defaults.id),
            port: self.port,
            hold: u16::try_from(self.hold).unwrap_or(u16::MAX),
            restart: u16::try_from(self.restart_time).ok().filter(|_| self.restart),
            routers,
            ranges: if self.aggregate { self.ranges.clone() } else { Vec::new() },
            ..defaults.clone()
        })
    }

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

    fn routers(&self, passwords: &[Secret], of_passwords: &str) -> Result<Vec<Router>> {
        let many = self.ips.len();
        let lists = [
            ("--peer-router-asns", self.asns.len(), false),
            ("--peer-router-ports", self.ports.len(), true),
            (of_passwords, passwords.len(), true),
        ];
        for (name, len, may_lack) in lists {
            if len != many && !(may_lack && len == 0) {
                let or = if may_lack { ", or none" } else { "" };
                return Err(wrong(format!(
                    "{name} has {len} of them and --peer-router-ips {many}: one for each is expected{or}"
                )));
            }
        }
        let mut routers: Vec<Router> = Vec::with_capacity(many);
        for (i, addr) in self.ips.iter().enumerate() {
            let told = Told {
                addr,
                asn: self.asns.get(i).map_or("", |asn| asn),
                port: self.ports.get(i).map_or("", |port| port),
                local: "",
                password: passwords.get(i).map_or("", Secret::reveal),
                bfd: self.bfd.then(|| self.bfd_numbers.each_ref().map(|text| &**text)),
            };
            let wrong = |why: &str| -> Error {
                wrong(format!("router {addr} of --peer-router-ips: {why}"))
            };
            let router = Router::read(told).map_err(|why| wrong(&why))?;
            if routers.iter().any(|other| other.addr == router.addr) {
                return Err(wrong("it is there twice"));
            }
            routers.push(router);
        }
        Ok(routers)
    }
}

/// One for each router; one that is left out between commas is none.
fn passwords(text: &str) -> impl Iterator<Item = Secret> {
    let any = !text.is_empty();
    text.split(',').filter(move |_| any).map(|part| Secret::new(part.trim()))
}

#[cfg(test)]
mod tests;
