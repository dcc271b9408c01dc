//! `kinglet run` against the test API server, on a real kernel, in a network namespace of its own.
//! Services need IPVS, so the daemon with Services is tested in the virtual machine
//! (`tests/lab/vm/scenarios/daemon.sh`).

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::common::{Folder, Server, kinglet, namespace::in_namespace, sh};

/// The limit of every wait; no step takes as long.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running daemon; it is killed when this value is dropped.
struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon that only makes routes, with its files in a folder.
    fn start(folder: &Folder, master: &str, more: &[&str]) -> Daemon {
        let log = folder.join("log");
        let err = File::options().create(true).append(true).open(&log).unwrap();
        let path = |name: &str| folder.join(name).display().to_string();
        let child = Command::new(env!("CARGO_BIN_EXE_kinglet"))
            .args(["run", "--hostname-override=node-1", "--run-service-proxy=false"])
            .args(["--run-firewall=false", "--master", master])
            .args(["--cni-conf-file", &path("10-kuberouter.conflist")])
            .args(["--snapshot", &path("snapshot"), "--run-dir", &path("run")])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(err)
            .spawn()
            .unwrap();
        Daemon { child, log }
    }

    fn signal(&self, name: &str) {
        sh(&format!("kill -{name} {}", self.child.id()));
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for the end of the daemon and returns its exit code, or `None` if a signal ended it.
    fn end(mut self) -> Option<i32> {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            thread::sleep(Duration::from_millis(5));
        }
        panic!("it did not end: {}", self.log())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a condition holds and returns how long that took. Fails after [`PATIENCE`].
fn until(what: &str, is: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if is() {
            return begun.elapsed();
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("{what}: not within {PATIENCE:?}")
}

fn routes() -> String {
    sh("ip route show proto 17 | sed 's/ dev.*//' | sort")
}

const BOTH: &str = "10.244.1.0/24 via 192.0.2.12\n10.244.2.0/24 via 192.0.2.13\n";

fn curl(port: u16, path: &str) -> String {
    let line =
        format!("curl -s -m 2 -o /dev/null -w '%{{http_code}}' http://127.0.0.1:{port}{path}");
    let out = Command::new("sh").args(["-c", &line]).output().unwrap();
    String::from_utf8(out.stdout).unwrap()
}

#[test]
fn workshop_arguments_work_and_health_answers_within_a_second_without_the_api() {
    in_namespace(|| {
        let folder = Folder::new();
        let conf = folder.join("10-kuberouter.conflist");
        let start = format!(
            "mount -t tmpfs none /run; mount -t tmpfs none /var/lib; exec {} --run-router=true \
             --run-firewall=true --run-service-proxy=true --master=http://127.0.0.1:1",
            env!("CARGO_BIN_EXE_kinglet")
        );
        let child = Command::new("unshare")
            .args(["-m", "sh", "-c", &start])
            .envs([("NODE_NAME", "node-1"), ("KUBE_ROUTER_CNI_CONF_FILE", conf.to_str().unwrap())])
            .stderr(File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let daemon = Daemon { child, log: folder.join("log") };
        let took = until("health", || curl(20244, "/healthz") == "200");
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!((curl(20244, "/livez"), curl(20244, "/other")), ("200".into(), "404".into()));
        until("the log", || daemon.log().contains("connection refused"));
        assert!(daemon.log().contains("NETWORK POLICY IS NOT ENFORCED"), "{}", daemon.log());
        daemon.signal("TERM");
        assert_eq!(daemon.end(), Some(0));
    });
}

#[test]
fn daemon_follows_node_changes_and_keeps_routes_if_the_api_fails() {
    in_namespace(|| {
        for more in [&[][..], &["--poll-interval=1s"]] {
            let (folder, objects) = (Folder::new(), Folder::objects("three-nodes"));
            let server = Server::start(objects.path(), &[] as &[&str]);
            let daemon = Daemon::start(&folder, &server.url(), more);
            until("the routes", || routes() == BOTH);
            let conf = folder.join("10-kuberouter.conflist");
            let has = |net| fs::read_to_string(&conf).unwrap_or_default().contains(net);
            until("the CNI configuration", || has("10.244.0.0/24"));
            objects.edit("nodes.json", "10.244.2.0/24", "10.244.7.0/24");
            let moved = BOTH.replace("10.244.2.", "10.244.7.");
            until("the change", || routes() == moved);
            // A failing API server removes no route.
            objects.write("faults", "/nodes:status=500\n");
            objects.write("cut", "the watch that is open must not outlive the fault");
            until("the log has the fault", || daemon.log().contains("500 Internal Server Error"));
            thread::sleep(Duration::from_millis(1000)); // time for a wrong reaction
            assert_eq!(routes(), moved);
            drop(server);
            until("the log has the lost server", || daemon.log().contains("connection refused"));
            thread::sleep(Duration::from_millis(500));
            assert_eq!(routes(), moved);
            daemon.signal("TERM");
            assert_eq!(daemon.end(), Some(0));
            assert_eq!(routes(), moved, "it leaves a working kernel behind");
            sh("ip route flush proto 17");
        }
    });
}

#[test]
fn removed_state_is_restored_within_a_second() {
    in_namespace(|| {
        let (folder, objects) = (Folder::new(), Folder::objects("three-nodes"));
        let server = Server::start(objects.path(), &[] as &[&str]);
        let daemon = Daemon::start(&folder, &server.url(), &[]);
        let table = || sh("nft list table inet kinglet");
        until("the routes", || routes() == BOTH);
        until("the table", || {
            sh("nft list tables").contains("kinglet") && table().contains("masq")
        });
        let before = table();
        let is_well = || routes() == BOTH && sh("nft list tables").contains("kinglet");
        for (what, act) in [
            ("a route", "ip route del 10.244.1.0/24"),
            ("all routes", "ip route flush proto 17"),
            ("a route led elsewhere", "ip route replace 10.244.2.0/24 via 192.0.2.99 proto 17"),
            ("a link that bounces", "ip link set eth0 down; ip link set eth0 up"),
            (
                "an address that is lost",
                "ip addr del 192.0.2.11/24 dev eth0; ip addr add 192.0.2.11/24 dev eth0",
            ),
            ("the bridge", "ip link del kube-bridge"),
            ("the table", "nft delete table inet kinglet"),
            (
                "an element",
                "nft delete element inet kinglet pod-nets4 '{ 10.244.1.0/24 }' || nft flush set inet kinglet pod-nets4",
            ),
            ("every rule", "nft flush ruleset"),
        ] {
            // The best of three, because another program may use the processor.
            let mut took = PATIENCE;
            for _ in 0..3 {
                sh(act);
                took = took.min(until(what, || {
                    is_well() && sh("ip link").contains("kube-bridge") && table() == before
                }));
                if took < Duration::from_secs(1) {
                    break;
                }
            }
            assert!(took < Duration::from_secs(1), "{what}: {took:?}");
        }
        // A pod's link causes no step.
        let steps = |log: &str| log.lines().filter(|line| line.contains("+ ")).count();
        let before = steps(&daemon.log());
        sh("ip link add pod0 type veth peer name pod1; ip link set pod0 master kube-bridge up");
        thread::sleep(Duration::from_millis(700));
        // The kernel reports the link and the route on one socket, so a daemon that repairs the
        // route has seen the link.
        sh("ip route del 10.244.1.0/24");
        until("the route", || routes() == BOTH);
        until("the step in the log", || steps(&daemon.log()) > before);
        let log = daemon.log();
        let hairpin = log.lines().filter(|line| line.contains("hairpin")).count();
        assert_eq!(steps(&log) - before, hairpin + 1, "{log}");
    });
}

#[test]
fn daemon_starts_from_the_snapshot_if_the_api_is_gone() {
    in_namespace(|| {
        let (folder, objects) = (Folder::new(), Folder::objects("three-nodes"));
        let server = Server::start(objects.path(), &[] as &[&str]);
        let url = server.url();
        let daemon = Daemon::start(&folder, &url, &[]);
        until("the routes", || routes() == BOTH);
        daemon.signal("TERM");
        assert_eq!(daemon.end(), Some(0));
        drop(server);
        sh("ip route flush proto 17; nft flush ruleset; ip link del kube-bridge"); // as after a reboot
        let daemon = Daemon::start(&folder, &url, &[]);
        let took = until("the routes", || routes() == BOTH);
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert!(daemon.log().contains("working from the snapshot"), "{}", daemon.log());
        let run_dir = folder.join("run").display().to_string();
        let status = kinglet(&["status", "--run-dir", &run_dir], "");
        assert_eq!(status.code, Some(1), "{status:?}");
        assert!(
            status.stdout.contains("IN USE") && status.stdout.contains("refused"),
            "{status:?}"
        );
        daemon.signal("KILL");
        drop(daemon);
        // A damaged snapshot is put aside and does not prevent the start.
        let text = folder.read("snapshot");
        folder.write("snapshot", &text[..text.len() / 2]);
        let daemon = Daemon::start(&folder, &url, &[]);
        until("it is put aside", || folder.join("snapshot.bad").exists());
        until("health", || curl(20244, "/healthz") == "200");
        assert_eq!(routes(), BOTH, "and takes nothing away");
        daemon.signal("TERM");
        assert_eq!(daemon.end(), Some(0));
    });
}

#[test]
fn status_reports_a_correct_node_and_sighup_keeps_the_process() {
    in_namespace(|| {
        let (folder, objects) = (Folder::new(), Folder::objects("three-nodes"));
        let server = Server::start(objects.path(), &[] as &[&str]);
        let conf = Folder::new();
        conf.write("kinglet.conf", "# for a test\nmetrics-port = 9099\n");
        let path = conf.join("kinglet.conf").display().to_string();
        let daemon = Daemon::start(&folder, &server.url(), &["--config", &path]);
        until("the routes", || routes() == BOTH);
        let run_dir = folder.join("run").display().to_string();
        let status = || kinglet(&["status", "--run-dir", &run_dir], "");
        until("it is right", || status().code == Some(0));
        let text = status().stdout;
        assert!(text.starts_with("node node-1 is right\n"), "{text}");
        assert!(text.contains("10.244.1.0/24") && text.contains("192.0.2.12"), "{text}");
        objects.edit("nodes.json", "10.244.2.0/24", "10.244.7.0/24");
        let prints = |to: &str| status().stdout.contains(to);
        until("another podCIDR is lines", || prints("10.244.7.0/24") && !prints("10.244.2.0/24"));
        assert_eq!(curl(9099, "/metrics"), "200");
        // The daemon keeps CAP_NET_ADMIN and CAP_NET_BIND_SERVICE only.
        let rights = sh(&format!("grep CapEff /proc/{}/status", daemon.child.id()));
        assert_eq!(rights.split_whitespace().last(), Some("0000000000001400"));
        let pid = daemon.child.id();
        conf.write("kinglet.conf", "metrics-port = many\n");
        daemon.signal("HUP");
        until("a wrong line is lines", || daemon.log().contains("kinglet.conf: line 1"));
        conf.write("kinglet.conf", "metrics-port = 9098\n");
        daemon.signal("HUP");
        until("a new start", || curl(9098, "/metrics") == "200");
        until("it is right again", || status().code == Some(0));
        assert_eq!(daemon.child.id(), pid);
        // A second kinglet changes nothing and reports why.
        let sync = kinglet(&["sync", "--run-firewall=false", "--master", &server.url()], "");
        assert_eq!(sync.code, Some(0));
        assert!(sync.stderr.contains("another kinglet is at work"), "{sync:?}");
        daemon.signal("INT");
        assert_eq!(daemon.end(), Some(0));
    });
}

#[test]
fn daemon_killed_at_any_moment_never_loses_an_unchanged_route() {
    in_namespace(|| {
        let rounds: u64 = match std::env::var("KINGLET_ROUNDS") {
            Ok(factor) => 20 * factor.parse().unwrap_or(1),
            Err(_) => 20,
        };
        // The factor by which an emulated processor is slower.
        let slow: u64 = std::env::var("KINGLET_SLOW").map_or(1, |times| times.parse().unwrap());
        let (folder, objects) = (Folder::new(), Folder::objects("three-nodes"));
        let server = Server::start(objects.path(), &[] as &[&str]);
        let watched = folder.join("monitor");
        let mut monitor = Command::new("ip")
            .args(["monitor", "route"])
            .stdout(File::create(&watched).unwrap())
            .spawn()
            .unwrap();
        let mut dice = 0x9e37_79b9_u64;
        for round in 0..rounds {
            let (from, to) =
                if round % 2 == 0 { ("2.0/24", "7.0/24") } else { ("7.0/24", "2.0/24") };
            let daemon = Daemon::start(&folder, &server.url(), &["--routes=nodes"]);
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            thread::sleep(Duration::from_millis((dice >> 33) % 150 * slow));
            objects.edit("nodes.json", &format!("10.244.{from}"), &format!("10.244.{to}"));
            thread::sleep(Duration::from_millis((dice >> 50) % 150 * slow));
            daemon.signal("KILL");
        }
        let daemon = Daemon::start(&folder, &server.url(), &["--routes=nodes"]);
        until("the routes", || routes() == BOTH);
        drop(daemon);
        let _ = monitor.kill();
        let _ = monitor.wait();
        let lines = fs::read_to_string(&watched).unwrap();
        let lost = |net: &str| {
            lines.lines().filter(|l| l.starts_with("Deleted") && l.contains(net)).count()
        };
        assert_eq!(lost("10.244.1.0/24"), 0, "{lines}");
        assert!(lost("10.244.7.0/24") > 0, "the other one came and went: {lines}");
    });
}
