//! `kinglet sync` from one run to the next: its requests to the API server, and its work without an
//! API server. It runs in a network namespace of its own and makes routes only, because Services
//! need a kernel with IPVS.

use std::fs;

use crate::common::{Folder, Outcome, Server, kinglet, namespace::in_namespace, sh};

/// Runs one pass on node-1.
fn sync(address: &str, folder: &Folder, more: &[&str]) -> Outcome {
    let (master, snapshot) = (format!("http://{address}"), folder.join("state/snapshot"));
    let snapshot = format!("--snapshot={}", snapshot.display());
    let args = ["sync", "--master", &master, "--hostname-override=node-1", &snapshot];
    let off = ["run-firewall", "run-service-proxy", "enable-cni", "enable-pod-egress"];
    let off = off.map(|flag| format!("--{flag}=false"));
    let parts: Vec<&str> = off.iter().map(String::as_str).collect();
    kinglet(&[&args[..], &parts, more].concat(), "")
}

/// Returns the requests since the last call, without the parts that differ each time.
fn requests_since(server: &Server, seen: &mut usize) -> Vec<String> {
    let all = server.requests();
    let new = all[*seen..].iter().map(|line| {
        let line = line.strip_prefix("GET /api/v1/nodes?").unwrap_or(line);
        line.split(' ').next().unwrap_or_default().to_owned()
    });
    let new = new.collect();
    *seen = all.len();
    new
}

fn routes() -> String {
    sh("ip route show proto 17")
}

const WATCH: &str = "watch=1&resourceVersion=411&timeoutSeconds=1";
const PROBE: &str = "fieldSelector=metadata.name%3Dnode-1&limit=1";

#[test]
fn second_pass_requests_only_changes_and_the_snapshot_replaces_a_missing_api() {
    in_namespace(|| {
        let (objects, folder) = (Folder::objects("three-nodes"), Folder::new());
        let server = Server::start::<&str>(objects.path(), &[]);
        let (address, mut seen) = (server.address.clone(), 0);
        let snapshot = folder.join("state/snapshot");

        let run = sync(&address, &folder, &[]);
        assert_eq!((run.code, &*run.stderr), (Some(0), ""), "{run:?}");
        assert!(run.stdout.contains("+ route 10.244.1.0/24"), "{run:?}");
        assert_eq!(requests_since(&server, &mut seen), ["limit=500", PROBE]);
        let first = fs::read(&snapshot).unwrap();

        let run = sync(&address, &folder, &[]);
        assert_eq!((run.code, &*run.stdout, &*run.stderr), (Some(0), "", ""));
        assert_eq!(requests_since(&server, &mut seen), [PROBE, WATCH]);
        assert!(fs::read(&snapshot).unwrap() == first, "nothing changed, nothing is written");

        objects.edit("nodes.json", "10.244.2.0/24", "10.244.7.0/24");
        let run = sync(&address, &folder, &[]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.stdout.contains("+ route 10.244.7.0/24"), "{run:?}");
        assert!(run.stdout.contains("- route 10.244.2.0/24"), "{run:?}");
        assert_eq!(requests_since(&server, &mut seen), [PROBE, WATCH]);
        assert!(fs::read(&snapshot).unwrap() != first);

        let run = sync(&address, &folder, &["--resync-period=0s"]);
        assert_eq!((run.code, &*run.stdout), (Some(0), ""));
        assert_eq!(requests_since(&server, &mut seen), ["limit=500", PROBE]);

        // A boot without the API server: the kernel is empty, and no server answers.
        drop(server);
        let before = routes();
        sh("ip route flush proto 17");
        let run = sync(&address, &folder, &[]);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert_eq!(routes(), before);
        let log = &run.stderr;
        assert!(log.contains("THE API SERVER CAN'T BE READ; this pass works from"), "{log}");
        assert!(log.contains("error: watching nodes from http://"), "{log}");
        // A route of another node that the snapshot does not have stays.
        sh("ip route add 10.244.9.0/24 via 192.0.2.19 proto 17");
        assert_eq!(sync(&address, &folder, &[]).code, Some(1));
        assert!(routes().contains("10.244.9.0/24"));

        // The API server is back and has lost its history, so everything is listed.
        let listen = ["--listen", &address, "--revision", "5000"];
        let server = Server::start(objects.path(), &listen);
        let run = sync(&address, &folder, &[]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(routes(), before);
        let mut requests = requests_since(&server, &mut 0);
        requests.sort(); // the watch and the list that follows are logged by two threads
        let watch = WATCH.replace("411", "412");
        assert_eq!(requests, [PROBE, "limit=500", &watch]);
        drop(server);

        // The API server has an older state of the cluster, as after a restored backup: everything
        // is listed.
        let server = Server::start(objects.path(), &["--listen", &address]);
        assert_eq!(sync(&address, &folder, &[]).code, Some(0));
        assert_eq!(requests_since(&server, &mut 0), [PROBE, "limit=500"]);

        // Another cluster has the same address.
        drop(server);
        let nodes = objects.read("nodes.json");
        let uid = nodes.split("\"uid\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        objects.edit("nodes.json", &uid, "00000000-0000-0000-0000-000000000000");
        objects.edit("nodes.json", "10.244.7.0/24", "10.244.8.0/24");
        let server = Server::start(objects.path(), &["--listen", &address, "--revision", "9000"]);
        let run = sync(&address, &folder, &[]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(requests_since(&server, &mut 0), [PROBE, "limit=500"]);
        assert!(routes().contains("10.244.8.0/24") && !routes().contains("10.244.7.0/24"));
    });
}

#[test]
fn a_damaged_snapshot_is_put_aside_and_does_not_stop_the_pass() {
    in_namespace(|| {
        let (objects, folder) = (Folder::objects("three-nodes"), Folder::new());
        let server = Server::start::<&str>(objects.path(), &[]);
        assert_eq!(sync(&server.address, &folder, &[]).code, Some(0));
        let snapshot = folder.join("state/snapshot");
        let good = fs::read(&snapshot).unwrap();
        fs::write(&snapshot, &good[..good.len() / 2]).unwrap();
        let run = sync(&server.address, &folder, &[]);
        assert_eq!((run.code, &*run.stdout), (Some(0), ""), "{run:?}");
        assert_eq!(run.stderr.lines().count(), 1, "{run:?}");
        assert!(run.stderr.contains("is not used: it is damaged"), "{run:?}");
        assert!(folder.join("state/snapshot.bad").exists() && snapshot.exists());
        // The snapshot of another server.
        let other = Server::start::<&str>(objects.path(), &[]);
        let run = sync(&other.address, &folder, &[]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.stderr.contains("is not used: it is of another cluster, http://"), "{run:?}");
        // A path that cannot be written.
        let run = sync(&other.address, &folder, &["--snapshot=/proc/kinglet/snapshot"]);
        assert_eq!((run.code, run.stderr.lines().count()), (Some(0), 1), "{run:?}");
        assert!(run.stderr.contains("warning: writing the snapshot /proc/kinglet/"), "{run:?}");
        // No snapshot and no API server.
        let address = other.address.clone();
        drop(other);
        let run = sync(&address, &folder, &["--snapshot="]);
        assert_eq!((run.code, &*run.stdout), (Some(1), ""), "{run:?}");
        assert!(run.stderr.starts_with("kinglet: error: listing nodes from http://"), "{run:?}");
    });
}

#[test]
fn an_account_that_may_list_but_not_watch_is_enough() {
    in_namespace(|| {
        let (objects, folder) = (Folder::objects("three-nodes"), Folder::new());
        let server = Server::start(objects.path(), &["--fault", "watch=1:status=403"]);
        let mut seen = 0;
        for want in [&["limit=500", PROBE][..], &[PROBE, WATCH, "limit=500"]] {
            let run = sync(&server.address, &folder, &[]);
            assert_eq!((run.code, &*run.stderr), (Some(0), ""), "{run:?}");
            assert_eq!(requests_since(&server, &mut seen), want);
        }
    });
}

#[test]
fn a_sync_with_a_refused_step_exits_1() {
    in_namespace(|| {
        let (objects, folder) = (Folder::objects("three-nodes"), Folder::new());
        let server = Server::start::<&str>(objects.path(), &[]);
        let conf = format!("--cni-conf-file={}", folder.join("kinglet.conflist").display());
        sh("ip link add kube-bridge type veth peer name other");
        let run = sync(&server.address, &folder, &["--enable-cni=true", &conf]);
        assert!(run.stderr.contains("refused: a link with this name already exists"), "{run:?}");
        assert_eq!(run.code, Some(1), "{run:?}");
    });
}
