//! The commands `status` and `check`: the built binary without root.

use std::time::{Duration, Instant};

use crate::common::{Folder, Outcome, Server, kinglet, recorded};
use kinglet::report::{Desk, Facts, Status, status::Followed};

/// Returns a desk that serves a status on a socket below a folder, and the handle that changes the
/// status.
fn desk(folder: &Folder, status: Status) -> (Desk, Facts) {
    let facts = Facts::new(status, Duration::from_secs(60));
    let desk = Desk::open(facts.clone()).unwrap();
    desk.status(&folder.join("status")).unwrap();
    (desk, facts)
}

fn status(folder: &Folder, more: &[&str]) -> Outcome {
    let (run_dir, snapshot) = (folder.path().to_str().unwrap(), folder.join("snapshot"));
    let head = ["status", "--run-dir", run_dir, "--snapshot", snapshot.to_str().unwrap()];
    kinglet(&[&head, more].concat(), "")
}

#[test]
fn status_shows_what_the_daemon_says_and_exits_with_whether_the_node_is_right() {
    let folder = Folder::new();
    let (_desk, facts) = desk(&folder, Status { node: "node-1".into(), ..Status::default() });
    let run = status(&folder, &[]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stdout.starts_with("node node-1 is NOT right:\n  - no pass has gone well yet\n"));
    facts.write(|status| status.pass.ended(0, 1_500, Ok(true)));
    let run = status(&folder, &[]);
    assert_eq!(run.code, Some(0), "{run:?}");
    assert!(run.stdout.starts_with("node node-1 is right\n"), "{run:?}");
    let run = status(&folder, &["--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&json["node"], &json["pass"]["count"]), (&"node-1".into(), &1.into()));
    assert!(json["ipvs"].is_array(), "{json}");
}

#[test]
fn status_of_a_node_that_lost_the_api_says_which_kinds_and_why() {
    let folder = Folder::new();
    let mut status_ = Status::default();
    status_.pass.ended(0, 1, Ok(true));
    let lost = Some("connection refused".into());
    status_.api.kinds = vec![Followed { kind: "nodes".into(), lost, ..Followed::default() }];
    let (_desk, _) = desk(&folder, status_);
    let run = status(&folder, &[]);
    let why = "  - the API has not told of nodes in this run: connection refused\n";
    assert!(run.code == Some(1) && run.stdout.contains(why), "{run:?}");
}

#[test]
fn status_without_a_daemon_says_so() {
    let folder = Folder::new();
    let run = status(&folder, &[]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("asking the daemon: none runs"), "{run:?}");
}

#[test]
fn status_watched_ends_with_its_reader() {
    let folder = Folder::new();
    let (_desk, _) = desk(&folder, Status::default());
    let line = format!(
        "{} status --watch --run-dir {} | head -n 1; exit ${{PIPESTATUS[0]}}",
        env!("CARGO_BIN_EXE_kinglet"),
        folder.path().display()
    );
    let began = Instant::now();
    let run = std::process::Command::new("bash").args(["-c", &line]).output().unwrap();
    assert_eq!(run.status.code(), Some(1), "not right");
    assert!(run.stdout.starts_with(b"\x1b[H\x1b[2Jnode "), "{run:?}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

fn check(server: &str, more: &[&str]) -> Outcome {
    let head = ["check", "--health-port", "0", "--master", server];
    kinglet(&[&head, more].concat(), "")
}

#[test]
fn check_asks_the_api_for_each_right_and_names_the_one_that_is_missing() {
    let fault = ["--fault", "/services:status=403"];
    let server = Server::start(&recorded("three-nodes"), &fault);
    let run = check(&server.url(), &[]);
    assert_eq!(run.code, Some(1), "{run:?}");
    for line in [
        "ok       API: may list nodes\n",
        "ok       API: may watch nodes\n",
        "missing  API: list services: 403 Forbidden",
        "ok       API: may watch endpointslices\n",
        "ok       Linux ",
    ] {
        assert!(run.stdout.contains(line), "{line}: {run:?}");
    }
    let requests = server.requests();
    assert!(
        requests.iter().all(|r| r.contains("limit=1 ") || r.contains("watch=1")),
        "{requests:?}"
    );
}

#[test]
fn check_of_a_router_alone_asks_for_nodes_alone() {
    let server = Server::start::<&str>(&recorded("three-nodes"), &[]);
    let run = check(&server.url(), &["--run-service-proxy=false"]);
    assert!(!run.stdout.contains("ip_vs") && !run.stdout.contains("services"), "{run:?}");
    assert!(server.requests().iter().all(|r| r.contains("/nodes")));
}

#[test]
fn check_says_when_no_api_answers_and_goes_on() {
    let run = check("http://127.0.0.1:1", &[]);
    assert_eq!(run.code, Some(1));
    let last = run.stdout.lines().find(|l| l.contains("API:")).unwrap();
    assert!(last.starts_with("missing  API: read the cluster: http://127.0.0.1:1: "), "{run:?}");
    assert_eq!(run.stdout.matches("API:").count(), 1, "told once, in one line: {}", run.stdout);
}
