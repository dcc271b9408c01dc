//! The commands `status` and `check`: the built binary without root.

use std::time::{Duration, Instant};

use crate::common::{Folder, Outcome, Server, kinglet, recorded};
use kinglet::report::{SharedStatus, Status, StatusServer, status::Followed};

/// Returns a desk that serves a status on a socket below a folder, and the handle that changes the
/// status.
fn desk(folder: &Folder, status: Status) -> (StatusServer, SharedStatus) {
    let facts = SharedStatus::new(status, Duration::from_secs(60));
    let desk = StatusServer::open(facts.clone()).unwrap();
    desk.status(&folder.join("status")).unwrap();
    (desk, facts)
}

fn status(folder: &Folder, more: &[&str]) -> Outcome {
    let (run_dir, snapshot) = (folder.path().to_str().unwrap(), folder.join("snapshot"));
    let head = ["status", "--run-dir", run_dir, "--snapshot", snapshot.to_str().unwrap()];
    kinglet(&[&head, more].concat(), "")
}

#[test]
fn status_prints_the_daemons_report_and_its_exit_code_is_the_verdict() {
    let folder = Folder::new();
    let (_desk, facts) = desk(&folder, Status { node: "node-1".into(), ..Status::default() });
    let run = status(&folder, &[]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.stdout.starts_with("node node-1 is NOT right:\n  - no pass has succeeded yet\n"));
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
fn status_names_the_kinds_that_cannot_be_read_and_the_reason() {
    let folder = Folder::new();
    let mut status_ = Status::default();
    status_.pass.ended(0, 1, Ok(true));
    let lost = Some("connection refused".into());
    status_.api.kinds = vec![Followed { kind: "nodes".into(), lost, ..Followed::default() }];
    let (_desk, _) = desk(&folder, status_);
    let run = status(&folder, &[]);
    let why = "  - no data from the API about nodes since the start: connection refused\n";
    assert!(run.code == Some(1) && run.stdout.contains(why), "{run:?}");
}

#[test]
fn status_without_a_daemon_is_an_error_that_names_it() {
    let folder = Folder::new();
    let run = status(&folder, &[]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("asking the daemon: none runs"), "{run:?}");
}

#[test]
fn status_watch_ends_if_its_reader_closes_the_pipe() {
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
fn check_tests_each_right_and_names_a_missing_one() {
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
fn check_without_the_service_proxy_requests_nodes_only() {
    let server = Server::start::<&str>(&recorded("three-nodes"), &[]);
    let run = check(&server.url(), &["--run-service-proxy=false"]);
    assert!(!run.stdout.contains("ip_vs") && !run.stdout.contains("services"), "{run:?}");
    assert!(server.requests().iter().all(|r| r.contains("/nodes")));
}

#[test]
fn check_reports_a_missing_api_and_continues() {
    let run = check("http://127.0.0.1:1", &[]);
    assert_eq!(run.code, Some(1));
    let last = run.stdout.lines().find(|l| l.contains("API:")).unwrap();
    assert!(last.starts_with("missing  API: read the cluster: http://127.0.0.1:1: "), "{run:?}");
    assert_eq!(run.stdout.matches("API:").count(), 1, "reported once, in one line: {}", run.stdout);
}
