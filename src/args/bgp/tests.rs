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
        bfd: None,
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
         --bgp-graceful-restart-time=2m --peer-router-multihop-ttl=3 --peer-router-ttl-security --override-nexthop \
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
        ttl_security: true,
        advertise,
        ranges: vec![],
        next_hop_self: true,
    };
    assert_eq!(told, want);
}

#[test]
fn a_hold_time_of_65536s_is_taken_as_the_most_that_fits() {
    assert_eq!(told("run --bgp-holdtime=65536s").hold, 65_535);
    assert_eq!(told("run --bgp-graceful-restart-time=4095s").restart, None, "it is not asked for");
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
        ("YQ==", "--peer-router-passwords-file /etc/words has 1 of them and --peer-router-ips 2"),
        ("YQ==,s3cret!", "router 192.0.2.2 of --peer-router-ips: its password is not base64"),
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
    assert_eq!(error(typed), "--service-cluster-ip-range: all addresses are no range of Services");
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
        ("--bgp-graceful-restart-time=0s", "--bgp-graceful-restart-time: more than 0s and at most"),
        ("--bgp-graceful-restart-time=4096s", "--bgp-graceful-restart-time: more than 0s and"),
        ("--bgp-graceful-restart-deferral-time=19h", "--bgp-graceful-restart-deferral-time: more"),
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
            "router 192.0.2.1 of --peer-router-ips: \"0\" is not a usable AS number",
        ),
        (
            "--peer-router-ips=192.0.2.1,192.0.2.1 --peer-router-asns=1,2",
            "router 192.0.2.1 of --peer-router-ips: it is there twice",
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
fn bgp_is_spoken_by_the_daemon_that_routes_unless_nodes_alone_tell_of_routes() {
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
        assert_eq!(args(typed).unwrap().speaks_bgp(), want, "{typed}");
    }
}

#[test]
fn bfd_is_of_all_routers_outside_and_only_where_it_is_asked_for() {
    let routers = "--peer-router-ips=192.0.2.1,192.0.2.2 --peer-router-asns=1,2";
    let numbers = "--bfd-port=4784 --bfd-desired-min-tx-interval=300 --bfd-required-min-rx-interval=50 \
                   --bfd-detection-multiplier=5";
    let bfd = crate::router::Bfd { port: 4784, tx: 300_000, rx: 50_000, times: 5 };
    for (typed, want) in [("", None), ("--enable-bfd", Some(bfd))] {
        let told = told(&format!("run {routers} {numbers} {typed}"));
        assert_eq!(told.routers.iter().map(|r| r.bfd).collect::<Vec<_>>(), [want; 2]);
    }
    let usual = told(&format!("run {routers} --enable-bfd")).routers[0].bfd.unwrap();
    assert_eq!((usual.port, usual.tx, usual.rx, usual.times), (3784, 1_000_000, 1_000_000, 3));
    let wrong = args(&format!("run {routers} --enable-bfd --bfd-detection-multiplier=0"));
    let want = "router 192.0.2.1 of --peer-router-ips: BFD: \"0\" is not a number from 1 to 255";
    assert!(wrong.unwrap_err().to_string().contains(want));
}
