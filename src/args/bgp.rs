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
    /// Whether the ranges of ClusterIPs stand for them.
    aggregate: bool,
    ranges: Vec<IpNet>,
}

/// Hours of a day, which RFC 4724 leaves to wait for all End-of-RIBs.
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
            "peer-router-ips" => self.ips.extend(all()),
            "peer-router-asns" => self.asns.extend(all()),
            "peer-router-ports" => self.ports.extend(all()),
            "peer-router-passwords" => self.passwords.extend(passwords(text)),
            "peer-router-passwords-file" => {
                self.passwords_file = Some(text.into()).filter(|_| !text.is_empty());
            }
            _ => {}
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
mod tests {
    use std::io;

    use super::super::{Args, parse};
    use super::*;

    fn args(line: &str) -> Result<Args> {
        parse(line.split_whitespace().map(Into::into))
    }

    fn told(line: &str) -> local::Bgp {
        let none = |_: &Path| Err(io::Error::other("no file is asked for"));
        args(line).unwrap().bgp.told(none).unwrap()
    }

    fn error(line: &str) -> String {
        let text = args(line).unwrap_err().to_string();
        text.strip_prefix("reading the command line: ").unwrap().to_owned()
    }

    #[test]
    fn the_workshops_router_is_one_outside_of_the_same_as_which_is_told_clusterips() {
        let line = "--run-router=true --run-firewall=true --run-service-proxy=true \
                    --peer-router-ips=192.0.2.1 --peer-router-asns=64512 --advertise-cluster-ip";
        let args = args(line).unwrap();
        assert_eq!(args.warnings, Vec::<String>::new());
        assert!(args.speaks_bgp() && args.bgp.has_routers());
        let told = told(line);
        let router = Router {
            addr: [192, 0, 2, 1].into(),
            asn: 64_512,
            port: 179,
            local: None,
            password: None,
        };
        assert_eq!(told.routers, [router]);
        assert!(told.advertise.cluster_ips && told.advertise.pods && told.mesh && told.inside);
        assert!(!told.advertise.external_ips && !told.advertise.balancer_ips);
        assert_eq!((told.asn, told.hold, told.restart, told.port), (64_512, 90, None, 179));
    }

    #[test]
    fn without_flags_it_is_kube_routers_defaults() {
        assert_eq!(told("run"), local::Bgp::default());
        assert_eq!(args("run").unwrap().bgp.routes, Routes::Both);
    }

    #[test]
    fn each_flag_says_what_kube_router_s_does() {
        let told = told(
            "run --nodes-full-mesh=false --enable-ibgp=false --cluster-asn=4200000000 \
             --router-id=198.51.100.7 --bgp-port=1790 --bgp-holdtime=1m --bgp-graceful-restart \
             --bgp-graceful-restart-time=2m --peer-router-multihop-ttl=3 --override-nexthop \
             --advertise-pod-cidr=false --advertise-external-ip --advertise-loadbalancer-ip",
        );
        let advertise = local::Advertise {
            pods: false,
            cluster_ips: false,
            external_ips: true,
            balancer_ips: true,
        };
        let want = local::Bgp {
            asn: 4_200_000_000,
            mesh: false,
            inside: false,
            id: RouterId::Given([198, 51, 100, 7].into()),
            port: 1790,
            hold: 60,
            restart: Some(120),
            routers: vec![],
            hops: 3,
            advertise,
            ranges: vec![],
            next_hop_self: true,
        };
        assert_eq!(told, want);
    }

    #[test]
    fn a_hold_time_of_65536s_is_taken_as_the_most_that_fits() {
        assert_eq!(told("run --bgp-holdtime=65536s").hold, 65_535);
        assert_eq!(
            told("run --bgp-graceful-restart-time=4095s").restart,
            None,
            "it is not asked for"
        );
    }

    #[test]
    fn lists_belong_together_by_place_and_a_password_may_be_left_out() {
        let line = "run --peer-router-ips=192.0.2.1,fd00::1 --peer-router-ips=192.0.2.3 \
                    --peer-router-asns=64513,64514,64515 --peer-router-ports=179,1790,1791 \
                    --peer-router-passwords=YQ==,,Yg==";
        let told = told(line);
        let words: Vec<_> =
            told.routers.iter().map(|r| r.password.as_ref().map(Secret::reveal)).collect();
        assert_eq!(words, [Some("a"), None, Some("b")]);
        assert_eq!(told.routers[1].addr.to_string(), "fd00::1");
        assert_eq!((told.routers[1].asn, told.routers[2].port), (64_514, 1791));
        let shown = format!("{:?} {told:?}", args(line).unwrap());
        assert!(!shown.contains("YQ==") && !shown.contains("\"a\""), "{shown}");
    }

    #[test]
    fn a_file_of_passwords_is_a_list_with_commas_and_wins() {
        let line = "run --peer-router-ips=192.0.2.1,192.0.2.2 --peer-router-asns=64513,64514 \
                    --peer-router-passwords=eA==,eA== --peer-router-passwords-file=/etc/words";
        let bgp = args(line).unwrap().bgp;
        let of = |text: &str| {
            bgp.told(|path| {
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
                "--peer-router-passwords-file /etc/words has 1 of them and --peer-router-ips 2",
            ),
            ("YQ==,s3cret!", "router 192.0.2.2 of --peer-router-ips: its password is no base64"),
        ] {
            let got = of(text).unwrap_err().to_string();
            assert!(got.contains(want) && !got.contains("s3cret"), "{got}");
        }
        let gone = bgp.told(|_| Err(io::Error::other("it is not there"))).unwrap_err();
        let want = "reading --peer-router-passwords-file /etc/words: it is not there";
        assert_eq!(gone.to_string(), want);
    }

    #[test]
    fn ranges_are_announced_only_where_they_are_given() {
        let typed = "run --advertise-cluster-ip-range";
        assert!(error(typed).starts_with(
            "--advertise-cluster-ip-range: --service-cluster-ip-range has to say which networks"
        ));
        let typed =
            "run --advertise-cluster-ip-range --service-cluster-ip-range=10.96.0.0/16,fd00::/112";
        assert_eq!(told(typed).ranges.len(), 2);
        let typed = "run --service-cluster-ip-range=10.96.0.0/16";
        assert_eq!(told(typed).ranges.len(), 0);
        let typed = "run --advertise-cluster-ip-range --service-cluster-ip-range=0.0.0.0/0";
        assert_eq!(
            error(typed),
            "--service-cluster-ip-range: all addresses are no range of Services"
        );
    }

    #[test]
    fn what_can_not_be_is_told_with_its_flag() {
        for (typed, want) in [
            (
                "--cluster-asn=64511",
                "--cluster-asn: an AS of private use is expected, 64512 to 65535 or",
            ),
            ("--cluster-asn=4294967295", "--cluster-asn: an AS of private use"),
            ("--cluster-asn=4294967296", "--cluster-asn=4294967296: a number from 0 to 4294967295"),
            ("--bgp-port=0", "--bgp-port: a port from 1 to 65535 is expected"),
            ("--bgp-holdtime=2s", "--bgp-holdtime: 3s to 65536s are expected"),
            ("--bgp-holdtime=65537s", "--bgp-holdtime: 3s to 65536s are expected"),
            (
                "--bgp-graceful-restart-time=0s",
                "--bgp-graceful-restart-time: more than 0s and at most",
            ),
            ("--bgp-graceful-restart-time=4096s", "--bgp-graceful-restart-time: more than 0s and"),
            (
                "--bgp-graceful-restart-deferral-time=19h",
                "--bgp-graceful-restart-deferral-time: more",
            ),
            ("--router-id=fd00::1", "--router-id: an IPv4 address other than 0.0.0.0, or generate"),
            ("--router-id=0.0.0.0", "--router-id: an IPv4 address other than 0.0.0.0, or generate"),
            ("--routes=kernel", "--routes=kernel: nodes, bgp or both is expected"),
            ("--peer-router-ips=x", "--peer-router-ips=x: a list of addresses is expected"),
            (
                "--peer-router-ips=192.0.2.1",
                "--peer-router-asns has 0 of them and --peer-router-ips 1: one for each is expected",
            ),
            (
                "--peer-router-asns=64512",
                "--peer-router-asns has 1 of them and --peer-router-ips 0: one for each is expected",
            ),
            (
                "--peer-router-ips=192.0.2.1 --peer-router-asns=1 --peer-router-ports=1,2",
                "--peer-router-ports has 2 of them and --peer-router-ips 1: one for each is expected, or none",
            ),
            (
                "--peer-router-ips=192.0.2.1 --peer-router-asns=1 --peer-router-passwords=YQ==,YQ==",
                "--peer-router-passwords has 2 of them and --peer-router-ips 1: one for each is expected, or none",
            ),
            (
                "--peer-router-ips=192.0.2.1 --peer-router-asns=0",
                "router 192.0.2.1 of --peer-router-ips: \"0\" is no AS number",
            ),
            (
                "--peer-router-ips=192.0.2.1,192.0.2.1 --peer-router-asns=1,2",
                "router 192.0.2.1 of --peer-router-ips: it is there twice",
            ),
            (
                "--peer-router-ips=192.0.2.1 --peer-router-asns=1 --peer-router-passwords=s3cret",
                "router 192.0.2.1 of --peer-router-ips: its password is no base64",
            ),
        ] {
            let got = error(&format!("run {typed}"));
            assert!(got.starts_with(want) && !got.contains("s3cret"), "{typed}: {got}");
        }
    }

    #[test]
    fn bgp_is_spoken_by_the_daemon_that_routes_unless_nodes_alone_tell_of_routes() {
        for (typed, want) in [
            ("run", true),
            ("run --routes=bgp", true),
            ("run --routes=nodes", false),
            ("run --routes=nodes --peer-router-ips=192.0.2.1 --peer-router-asns=1", true),
            ("run --run-router=false", false),
            ("run --run-router=false --peer-router-ips=192.0.2.1 --peer-router-asns=1", false),
            ("sync --peer-router-ips=192.0.2.1 --peer-router-asns=1", false),
            ("plan", false),
        ] {
            assert_eq!(args(typed).unwrap().speaks_bgp(), want, "{typed}");
        }
    }
}
