//! `kinglet sync` from one run to the next: what it asks the API, and what it does without it. In a
//! network namespace of the test's own, with routes alone: the services need a kernel with IPVS.

use std::fs;

use crate::common::{Folder, Outcome, Server, kinglet, namespace::in_namespace, sh};

/// One pass on node-1.
fn sync(address: &str, folder: &Folder, more: &[&str]) -> Outcome {
    let (master, snapshot) = (format!("http://{address}"), folder.join("state/snapshot"));
    let snapshot = format!("--snapshot={}", snapshot.display());
    let args = ["sync", "--master", &master, "--hostname-override=node-1", &snapshot];
    let off = ["run-firewall", "run-service-proxy", "enable-cni", "enable-pod-egress"];
    let off = off.map(|flag| format!("--{flag}=false"));
    let parts: Vec<&str> = off.iter().map(String::as_str).collect();
    kinglet(&[&args[..], &parts, more].concat(), "")
}

/// The requests since the last time, without what is different each time.
fn asked(server: &Server, seen: &mut usize) -> Vec<String> {
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
fn from_pass_to_pass_only_what_changed_is_asked_for_and_without_the_api_the_snapshot_serves() {
    in_namespace(|| {
        let (objects, folder) = (Folder::objects("three-nodes"), Folder::new());
        let server = Server::start::<&str>(objects.path(), &[]);
        let (address, mut seen) = (server.address.clone(), 0);
        let snapshot = folder.join("state/snapshot");

        let run = sync(&address, &folder, &[]);
        assert_eq!((run.code, &*run.stderr), (Some(0), ""), "{run:?}");
        assert!(run.stdout.contains("+ route 10.244.1.0/24"), "{run:?}");
        assert_eq!(asked(&server, &mut seen), ["limit=500", PROBE]);
        let first = fs::read(&snapshot).unwrap();

        let run = sync(&address, &folder, &[]);
        assert_eq!((run.code, &*run.stdout, &*run.stderr), (Some(0), "", ""));
        assert_eq!(asked(&server, &mut seen), [PROBE, WATCH]);
        assert!(fs::read(&snapshot).unwrap() == first, "nothing changed, nothing is written");

        objects.edit("nodes.json", "10.244.2.0/24", "10.244.7.0/24");
        let run = sync(&address, &folder, &[]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.stdout.contains("+ route 10.244.7.0/24"), "{run:?}");
        assert!(run.stdout.contains("- route 10.244.2.0/24"), "{run:?}");
        assert_eq!(asked(&server, &mut seen), [PROBE, WATCH]);
        assert!(fs::read(&snapshot).unwrap() != first);

        let run = sync(&address, &folder, &["--resync-period=0s"]);
        assert_eq!((run.code, &*run.stdout), (Some(0), ""));
        assert_eq!(asked(&server, &mut seen), ["limit=500", PROBE]);

        // A boot without the API: nothing is there, and nobody answers.
        drop(server);
        let before = routes();
        sh("ip route flush proto 17");
        let run = sync(&address, &folder, &[]);
        assert_eq!(run.code, Some(1), "{run:?}");
        assert_eq!(routes(), before);
        let said = &run.stderr;
        assert!(said.contains("THE API SERVER CAN'T BE READ; this pass works from"), "{said}");
        assert!(said.contains("error: watching nodes from http://"), "{said}");
        // Somebody's route that this node does not know: it stays.
        sh("ip route add 10.244.9.0/24 via 192.0.2.19 proto 17");
        assert_eq!(sync(&address, &folder, &[]).code, Some(1));
        assert!(routes().contains("10.244.9.0/24"));

        // It is back, and has forgotten what was: all is listed.
        let listen = ["--listen", &address, "--revision", "5000"];
        let server = Server::start(objects.path(), &listen);
        let run = sync(&address, &folder, &[]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(routes(), before);
        let mut asked_now = asked(&server, &mut 0);
        asked_now.sort(); // the watch and the list that follows it are logged by two threads
        let watch = WATCH.replace("411", "412");
        assert_eq!(asked_now, [PROBE, "limit=500", &watch]);
        drop(server);

        // It is an older state of the cluster, as after a restored backup: all is listed.
        let server = Server::start(objects.path(), &["--listen", &address]);
        assert_eq!(sync(&address, &folder, &[]).code, Some(0));
        assert_eq!(asked(&server, &mut 0), [PROBE, "limit=500"]);

        // It is another cluster at the same address.
        drop(server);
        let nodes = objects.read("nodes.json");
        let uid = nodes.split("\"uid\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        objects.edit("nodes.json", &uid, "00000000-0000-0000-0000-000000000000");
        objects.edit("nodes.json", "10.244.7.0/24", "10.244.8.0/24");
        let server = Server::start(objects.path(), &["--listen", &address, "--revision", "9000"]);
        let run = sync(&address, &folder, &[]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert_eq!(asked(&server, &mut 0), [PROBE, "limit=500"]);
        assert!(routes().contains("10.244.8.0/24") && !routes().contains("10.244.7.0/24"));
    });
}

#[test]
fn a_snapshot_that_is_no_good_is_put_aside_and_stops_nothing() {
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
        // Another server's.
        let other = Server::start::<&str>(objects.path(), &[]);
        let run = sync(&other.address, &folder, &[]);
        assert_eq!(run.code, Some(0), "{run:?}");
        assert!(run.stderr.contains("is not used: it is of another cluster, http://"), "{run:?}");
        // A place where nothing can be written.
        let run = sync(&other.address, &folder, &["--snapshot=/proc/kinglet/snapshot"]);
        assert_eq!((run.code, run.stderr.lines().count()), (Some(0), 1), "{run:?}");
        assert!(run.stderr.contains("warning: writing the snapshot /proc/kinglet/"), "{run:?}");
        // None at all, and no API.
        let address = other.address.clone();
        drop(other);
        let run = sync(&address, &folder, &["--snapshot="]);
        assert_eq!((run.code, &*run.stdout), (Some(1), ""), "{run:?}");
        assert!(run.stderr.starts_with("kinglet: error: listing nodes from http://"), "{run:?}");
    });
}

#[test]
fn an_account_that_may_list_and_not_watch_is_enough() {
    in_namespace(|| {
        let (objects, folder) = (Folder::objects("three-nodes"), Folder::new());
        let server = Server::start(objects.path(), &["--fault", "watch=1:status=403"]);
        let mut seen = 0;
        for want in [&["limit=500", PROBE][..], &[PROBE, WATCH, "limit=500"]] {
            let run = sync(&server.address, &folder, &[]);
            assert_eq!((run.code, &*run.stderr), (Some(0), ""), "{run:?}");
            assert_eq!(asked(&server, &mut seen), want);
        }
    });
}
