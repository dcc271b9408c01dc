//! The flags of BGP, as typed, and their conversion to [`local::BgpOptions`].
//!
//! The peers outside of the cluster are given in parallel lists, as in kube-router: one AS for each
//! address, and one port and one password for each address or none at all. A password may be empty
//! between commas.

use std::{
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use super::command::wrong;
use crate::{
    error::{Doing, Error, Result},
    model::{
        bgp::peer::{RawPeer, Router, Secret},
        local::{self, AdvertiseOptions, RouterId, Routes},
    },
};

/// The values of the BGP flags, as typed.
#[derive(Clone, Debug, Default)]
pub(crate) struct BgpArgs {
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
    /// `--bfd-*`, in the order of [`RawPeer::bfd`].
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

impl BgpArgs {
    /// Returns true if flags name peers outside of the cluster.
    pub(crate) fn has_routers(&self) -> bool {
        !self.ips.is_empty()
    }

    /// Returns true if the passwords are in a file.
    pub(crate) fn has_file(&self) -> bool {
        self.passwords_file.is_some()
    }

    /// Checks the values and their combination, without reading the password file. Fails with the name of
    /// the flag.
    pub(crate) fn check(&self) -> Result<()> {
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
    pub(crate) fn config(
        &self,
        read: impl FnOnce(&Path) -> std::io::Result<String>,
    ) -> Result<local::BgpOptions> {
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
        Ok(local::BgpOptions {
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
            advertise: AdvertiseOptions {
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
            let raw = RawPeer {
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

/// Splits a list of passwords. An empty element stands for a peer without a password.
pub(crate) fn passwords(text: &str) -> impl Iterator<Item = Secret> {
    let any = !text.is_empty();
    text.split(',').filter(move |_| any).map(|part| Secret::new(part.trim()))
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::cli::{LowArgs, parse};

    fn args(line: &str) -> Result<LowArgs> {
        parse(line.split_whitespace().map(Into::into))
    }

    fn config(line: &str) -> local::BgpOptions {
        let none = |_: &Path| Err(io::Error::other("no file is expected"));
        args(line).unwrap().bgp.config(none).unwrap()
    }

    fn error(line: &str) -> String {
        let text = args(line).unwrap_err().to_string();
        text.strip_prefix("reading the command line: ").unwrap().to_owned()
    }

    #[test]
    fn flags_for_one_peer_with_clusterips_give_the_expected_config() {
        let line = "--run-router=true --run-firewall=true --run-service-proxy=true \
                --peer-router-ips=192.0.2.1 --peer-router-asns=64512 --advertise-cluster-ip";
        let args = args(line).unwrap();
        assert_eq!(args.warnings, Vec::<String>::new());
        assert!(args.runs_bgp() && args.bgp.has_routers());
        let config = config(line);
        let router = Router {
            addr: [192, 0, 2, 1].into(),
            asn: 64_512,
            port: 179,
            local: None,
            password: None,
            bfd: None,
        };
        assert_eq!(config.routers, [router]);
        assert!(
            config.advertise.cluster_ips && config.advertise.pods && config.mesh && config.inside
        );
        assert!(!config.advertise.external_ips && !config.advertise.balancer_ips);
        assert_eq!((config.asn, config.hold, config.restart, config.port), (64_512, 90, None, 179));
    }

    #[test]
    fn the_defaults_are_those_of_kube_router() {
        let want = local::BgpOptions {
            asn: 64_512,
            mesh: true,
            inside: true,
            id: RouterId::Addr,
            port: 179,
            hold: 90,
            restart: None,
            routers: Vec::new(),
            hops: 0,
            ttl_security: false,
            advertise: AdvertiseOptions {
                pods: true,
                cluster_ips: false,
                external_ips: false,
                balancer_ips: false,
            },
            ranges: Vec::new(),
            next_hop_self: false,
        };
        assert_eq!(config("run"), want);
        assert_eq!(args("run").unwrap().bgp.routes, Routes::Both);
    }

    #[test]
    fn each_flag_sets_its_field() {
        let config = config(
            "run --nodes-full-mesh=false --enable-ibgp=false --cluster-asn=4200000000 \
         --router-id=198.51.100.7 --bgp-port=1790 --bgp-holdtime=1m --bgp-graceful-restart \
         --bgp-graceful-restart-time=2m --peer-router-multihop-ttl=3 --peer-router-ttl-security --override-nexthop \
         --advertise-pod-cidr=false --advertise-external-ip --advertise-loadbalancer-ip",
        );
        let advertise = local::AdvertiseOptions {
            pods: false,
            cluster_ips: false,
            external_ips: true,
            balancer_ips: true,
        };
        let want = local::BgpOptions {
            asn: 4_200_000_000,
            mesh: false,
            inside: false,
            id: RouterId::Given([198, 51, 100, 7].into()),
            port: 1790,
            hold: 60,
            restart: Some(120),
            routers: vec![],
            hops: 3,
            ttl_security: true,
            advertise,
            ranges: vec![],
            next_hop_self: true,
        };
        assert_eq!(config, want);
    }

    #[test]
    fn a_hold_time_of_65536_seconds_is_cut_to_16_bits() {
        assert_eq!(config("run --bgp-holdtime=65536s").hold, 65_535);
        assert_eq!(
            config("run --bgp-graceful-restart-time=4095s").restart,
            None,
            "graceful restart is off"
        );
    }

    #[test]
    fn peer_lists_are_parallel_and_a_password_may_be_empty() {
        let line = "run --peer-router-ips=192.0.2.1,fd00::1 --peer-router-ips=192.0.2.3 \
                --peer-router-asns=64513,64514,64515 --peer-router-ports=179,1790,1791 \
                --peer-router-passwords=YQ==,,Yg==";
        let config = config(line);
        let words: Vec<_> =
            config.routers.iter().map(|r| r.password.as_ref().map(Secret::reveal)).collect();
        assert_eq!(words, [Some("a"), None, Some("b")]);
        assert_eq!(config.routers[1].addr.to_string(), "fd00::1");
        assert_eq!((config.routers[1].asn, config.routers[2].port), (64_514, 1791));
        let shown = format!("{:?} {config:?}", args(line).unwrap());
        assert!(!shown.contains("YQ==") && !shown.contains("\"a\""), "{shown}");
    }

    #[test]
    fn the_password_file_takes_precedence_over_the_flag() {
        let line = "run --peer-router-ips=192.0.2.1,192.0.2.2 --peer-router-asns=64513,64514 \
                --peer-router-passwords=eA==,eA== --peer-router-passwords-file=/etc/words";
        let bgp = args(line).unwrap().bgp;
        let of = |text: &str| {
            bgp.config(|path| {
                assert_eq!(path, Path::new("/etc/words"));
                Ok(text.to_owned())
            })
        };
        let words: Vec<_> =
            of(",czNjcmV0\n").unwrap().routers.iter().map(|r| r.password.clone()).collect();
        assert_eq!(words, [None, Some(Secret::new("s3cret"))]);
        for (text, want) in [
            (
                "YQ==",
                "--peer-router-passwords-file /etc/words has 1 entries and --peer-router-ips has 2",
            ),
            ("YQ==,s3cret!", "router 192.0.2.2 of --peer-router-ips: its password is not base64"),
        ] {
            let got = of(text).unwrap_err().to_string();
            assert!(got.contains(want) && !got.contains("s3cret"), "{got}");
        }
        let gone = bgp.config(|_| Err(io::Error::other("it is not there"))).unwrap_err();
        let want = "reading --peer-router-passwords-file /etc/words: it is not there";
        assert_eq!(gone.to_string(), want);
    }

    #[test]
    fn clusterip_ranges_are_advertised_only_if_both_flags_are_set() {
        let typed = "run --advertise-cluster-ip-range";
        assert!(error(typed).starts_with(
            "--advertise-cluster-ip-range: set --service-cluster-ip-range to the networks"
        ));
        let typed =
            "run --advertise-cluster-ip-range --service-cluster-ip-range=10.96.0.0/16,fd00::/112";
        assert_eq!(config(typed).ranges.len(), 2);
        let typed = "run --service-cluster-ip-range=10.96.0.0/16";
        assert_eq!(config(typed).ranges.len(), 0);
        let typed = "run --advertise-cluster-ip-range --service-cluster-ip-range=0.0.0.0/0";
        assert_eq!(
            error(typed),
            "--service-cluster-ip-range: a range of all addresses is not a range of Services"
        );
    }

    #[test]
    fn invalid_values_are_reported_with_their_flag() {
        for (typed, want) in [
            (
                "--cluster-asn=64511",
                "--cluster-asn: a private AS number is expected: 64512 to 65535, or",
            ),
            ("--cluster-asn=4294967295", "--cluster-asn: a private AS number"),
            ("--cluster-asn=4294967296", "--cluster-asn=4294967296: a number from 0 to 4294967295"),
            ("--bgp-port=0", "--bgp-port: a port from 1 to 65535 is expected"),
            ("--bgp-holdtime=2s", "--bgp-holdtime: a duration from 3s to 65536s is expected"),
            ("--bgp-holdtime=65537s", "--bgp-holdtime: a duration from 3s to 65536s is expected"),
            (
                "--bgp-graceful-restart-time=0s",
                "--bgp-graceful-restart-time: a duration of more than 0s and at most",
            ),
            (
                "--bgp-graceful-restart-time=4096s",
                "--bgp-graceful-restart-time: a duration of more than 0s and",
            ),
            (
                "--bgp-graceful-restart-deferral-time=19h",
                "--bgp-graceful-restart-deferral-time: a duration of more",
            ),
            ("--router-id=fd00::1", "--router-id: an IPv4 address other than 0.0.0.0, or generate"),
            ("--router-id=0.0.0.0", "--router-id: an IPv4 address other than 0.0.0.0, or generate"),
            ("--routes=kernel", "--routes=kernel: nodes, bgp or both is expected"),
            ("--peer-router-ips=x", "--peer-router-ips=x: a list of addresses is expected"),
            (
                "--peer-router-ips=192.0.2.1",
                "--peer-router-asns has 0 entries and --peer-router-ips has 1: one for each is expected",
            ),
            (
                "--peer-router-asns=64512",
                "--peer-router-asns has 1 entries and --peer-router-ips has 0: one for each is expected",
            ),
            (
                "--peer-router-ips=192.0.2.1 --peer-router-asns=1 --peer-router-ports=1,2",
                "--peer-router-ports has 2 entries and --peer-router-ips has 1: one for each is expected, or none",
            ),
            (
                "--peer-router-ips=192.0.2.1 --peer-router-asns=1 --peer-router-passwords=YQ==,YQ==",
                "--peer-router-passwords has 2 entries and --peer-router-ips has 1: one for each is expected, or none",
            ),
            (
                "--peer-router-ips=192.0.2.1 --peer-router-asns=0",
                "router 192.0.2.1 of --peer-router-ips: \"0\" is not a usable AS number",
            ),
            (
                "--peer-router-ips=192.0.2.1,192.0.2.1 --peer-router-asns=1,2",
                "router 192.0.2.1 of --peer-router-ips: the address occurs twice",
            ),
            (
                "--peer-router-ips=192.0.2.1 --peer-router-asns=1 --peer-router-passwords=s3cret",
                "router 192.0.2.1 of --peer-router-ips: its password is not base64",
            ),
        ] {
            let got = error(&format!("run {typed}"));
            assert!(got.starts_with(want) && !got.contains("s3cret"), "{typed}: {got}");
        }
    }

    #[test]
    fn bgp_runs_in_a_routing_daemon_unless_routes_come_from_nodes_only() {
        for (typed, want) in [
            ("run", true),
            ("run --routes=bgp", true),
            ("run --routes=nodes", false),
            ("run --routes=nodes --peer-router-ips=192.0.2.1 --peer-router-asns=1", true),
            ("run --run-router=false", false),
            ("run --run-router=false --peer-router-ips=192.0.2.1 --peer-router-asns=1", false),
            ("sync --peer-router-ips=192.0.2.1 --peer-router-asns=1", false),
            ("check", true),
            ("plan", false),
        ] {
            assert_eq!(args(typed).unwrap().runs_bgp(), want, "{typed}");
        }
    }

    #[test]
    fn bfd_applies_to_all_outside_peers_and_only_if_enabled() {
        let routers = "--peer-router-ips=192.0.2.1,192.0.2.2 --peer-router-asns=1,2";
        let numbers = "--bfd-port=4784 --bfd-desired-min-tx-interval=300 --bfd-required-min-rx-interval=50 \
                   --bfd-detection-multiplier=5";
        let bfd = crate::model::bgp::peer::Bfd {
            port: 4784,
            min_tx: 300_000,
            min_rx: 50_000,
            detect_mult: 5,
        };
        for (typed, want) in [("", None), ("--enable-bfd", Some(bfd))] {
            let config = config(&format!("run {routers} {numbers} {typed}"));
            assert_eq!(config.routers.iter().map(|r| r.bfd).collect::<Vec<_>>(), [want; 2]);
        }
        let usual = config(&format!("run {routers} --enable-bfd")).routers[0].bfd.unwrap();
        assert_eq!(
            (usual.port, usual.min_tx, usual.min_rx, usual.detect_mult),
            (3784, 1_000_000, 1_000_000, 3)
        );
        let wrong = args(&format!("run {routers} --enable-bfd --bfd-detection-multiplier=0"));
        let want =
            "router 192.0.2.1 of --peer-router-ips: BFD: \"0\" is not a number from 1 to 255";
        assert!(wrong.unwrap_err().to_string().contains(want));
    }
}
