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

use super::{kind::passwords, wrong};
use crate::{
    error::{Doing, Error, Result},
    local::{self, Advertise, RouterId, Routes},
    router::{Router, Secret, Told},
};

/// The values of the BGP flags, as typed.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)] // each is a flag; see `flags`
pub struct Bgp {
    pub routes: Routes,
    pub mesh: bool,
    pub inside: bool,
    /// 0 if not given.
    pub asn: u32,
    pub id: String,
    pub port: u16,
    /// In seconds.
    pub hold: u64,
    pub restart: bool,
    /// In seconds.
    pub restart_time: u64,
    /// In seconds.
    pub deferral: u64,
    pub ips: Vec<String>,
    pub asns: Vec<String>,
    pub ports: Vec<String>,
    /// Each in base64; empty if a peer has none.
    pub passwords: Vec<Secret>,
    pub passwords_file: Option<PathBuf>,
    pub hops: u8,
    pub ttl_security: bool,
    pub bfd: bool,
    /// `--bfd-*`, in the order of [`Told::bfd`].
    pub bfd_numbers: [u32; 4],
    pub pods: bool,
    pub cluster_ips: bool,
    pub external_ips: bool,
    pub balancer_ips: bool,
    /// True if `ranges` is advertised in place of single ClusterIPs.
    pub aggregate: bool,
    pub ranges: Vec<IpNet>,
    pub next_hop_self: bool,
}

/// The AS of a full mesh if `--cluster-asn` is not given; kube-router's default.
const DEFAULT_ASN: u32 = 64_512;
/// kube-router's limit of the deferral time in seconds: 18 hours.
const MAX_DEFERRAL: u64 = 18 * 3600;

impl Bgp {
    /// Returns true if flags name peers outside of the cluster.
    pub fn has_routers(&self) -> bool {
        !self.ips.is_empty()
    }

    /// Returns true if the passwords are in a file.
    pub fn has_file(&self) -> bool {
        self.passwords_file.is_some()
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
        Ok(local::Bgp {
            asn: if self.asn == 0 { DEFAULT_ASN } else { self.asn },
            mesh: self.mesh,
            inside: self.inside,
            id: self.id().unwrap_or(RouterId::Addr),
            port: self.port,
            hold: u16::try_from(self.hold).unwrap_or(u16::MAX),
            restart: u16::try_from(self.restart_time).ok().filter(|_| self.restart),
            routers,
            hops: self.hops,
            ttl_security: self.ttl_security,
            advertise: Advertise {
                pods: self.pods,
                cluster_ips: self.cluster_ips,
                external_ips: self.external_ips,
                balancer_ips: self.balancer_ips,
            },
            ranges: if self.aggregate { self.ranges.clone() } else { Vec::new() },
            next_hop_self: self.next_hop_self,
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
        let bfd = self.bfd_numbers.map(|number| number.to_string());
        let bfd = self.bfd.then(|| bfd.each_ref().map(|text| &**text));
        let mut routers: Vec<Router> = Vec::with_capacity(many);
        for (i, addr) in self.ips.iter().enumerate() {
            let raw = Told {
                addr,
                asn: self.asns.get(i).map_or("", |asn| asn),
                port: self.ports.get(i).map_or("", |port| port),
                local: "",
                password: passwords.get(i).map_or("", Secret::reveal),
                bfd,
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

#[cfg(test)]
impl Default for local::Bgp {
    /// Returns the configuration of a command line without flags.
    fn default() -> local::Bgp {
        let config = super::LowArgs::new().bgp.config(|_| unreachable!());
        config.unwrap()
    }
}

#[cfg(test)]
mod tests;
