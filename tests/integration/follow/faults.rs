//! A table of faults: no fault loses an object, and after each fault the followers soon have the
//! right state again.

use std::{thread, time::Duration};

use kinglet::{api::SyncPolicy, model::cluster::Kind};

use super::lab::{FAULT, Lab, POLL, SOON, WATCH, wait_for};
use crate::common::{Folder, Server};

/// Name, faults of the server, and a part of an error that the followers must report (empty if they
/// need not report any).
const TABLE: [(&str, &str, &str); 18] = [
    ("500 for everything", ":status=500", "500 Internal Server Error"),
    ("503 for everything", ":status=503", "503 Service Unavailable"),
    ("429 for everything", ":status=429", "429 Too Many Requests"),
    ("401 for everything", ":status=401", "401 Unauthorized"),
    ("403 for one kind", "services:status=403", "403 Forbidden"),
    ("410 for every watch", "watch:gone", ""),
    ("expired versions, and lists that break", "watch:gone\nlimit=500:cut=3000", "cut"),
    ("garbage", ":garbage", "not HTTP"),
    ("a login page", ":html", "a proxy before it?"),
    ("empty replies", ":empty", "an empty reply"),
    ("no answer", ":hang", "no answer within"),
    ("watches cut in the middle of a line", "watch:cut=300", "cut in the middle"),
    ("watches cut at once", "watch:cut=0", "cut"),
    ("a byte a second", ":slow=1", "too slowly"),
    ("watches without events", "watch:mute", ""),
    ("each event twice", "watch:twice", ""),
    ("events in reverse", "watch:shuffle", ""),
    ("expired versions, and an empty list", "watch:gone\nnodes?limit:body=none.json", ""),
];

fn row(rhythm: SyncPolicy, (name, faults, expected): (&str, &str, &str)) {
    let mut lab = Lab::new(rhythm, &[], None);
    lab.objects.write(
        "none.json",
        r#"{"kind":"NodeList","apiVersion":"v1","metadata":{"resourceVersion":"411"},"items":[]}"#,
    );
    lab.faults(faults);
    thread::sleep(Duration::from_millis(300)); // until the watches are cut
    lab.change();
    thread::sleep(FAULT / 2);
    lab.change();
    thread::sleep(FAULT / 2);
    let lost = lab.observed().lost.clone();
    assert!(
        expected.is_empty() || lost.iter().any(|why| why.contains(expected)),
        "{name}: {lost:?}"
    );
    if name.contains("one kind") {
        let observed = lab.observed();
        let known = observed.known.as_ref().unwrap();
        assert_eq!(known.lost.keys().collect::<Vec<_>>(), [&Kind::Service]);
        assert_eq!(known.cluster.nodes, lab.truth().nodes, "the others go on");
    }
    lab.faults("");
    let took = lab.settle(SOON, name);
    for fault in faults.lines() {
        let kind = fault.rsplit(':').next().unwrap().split('=').next().unwrap();
        wait_for(SOON, &format!("{name}: an answer that {kind} changed"), || lab.met(kind));
    }
    let missing = lab.observed().missing.clone();
    assert!(missing.is_empty(), "{name}: {missing:?} were lost");
    println!("{name}: right again after {:.1} s; reported: {lost:?}", took.as_secs_f32());
}

fn table(rhythm: SyncPolicy) {
    let rows = TABLE.map(|line| (line.0, thread::spawn(move || row(rhythm, line))));
    let failed: Vec<&str> =
        rows.into_iter().filter_map(|(name, row)| row.join().err().map(|_| name)).collect();
    assert!(failed.is_empty(), "{failed:?}");
}

#[test]
fn no_fault_loses_an_object_and_watching_recovers_after_each() {
    table(WATCH);
}

#[test]
fn no_fault_loses_an_object_and_polling_recovers_after_each() {
    table(POLL);
}

/// Stops the server for a while and starts it again with `revision`.
fn gone_for_a_while(rhythm: SyncPolicy, revision: &str) {
    let mut lab = Lab::new(rhythm, &[], None);
    lab.change();
    lab.settle(SOON, "a change");
    lab.server = None;
    lab.change();
    thread::sleep(FAULT);
    assert!(lab.observed().lost.iter().any(|why| why.contains("connection refused")));
    let options = ["--listen", &lab.address, "--revision", revision, "--bookmarks", "1"];
    lab.server = Some(Server::start(lab.objects.path(), &options));
    lab.settle(SOON, "the server is back");
    assert_eq!(lab.observed().missing, Vec::<String>::new());
    lab.change();
    lab.settle(Duration::from_secs(5), "it is followed as before");
}

#[test]
fn a_server_that_restarts_without_its_history_is_watched_again() {
    gone_for_a_while(WATCH, "100000");
}

#[test]
fn a_server_that_restarts_without_its_history_is_polled_again() {
    gone_for_a_while(POLL, "100000");
}

#[test]
fn a_server_that_restarts_with_an_older_state_is_followed_from_that_state() {
    gone_for_a_while(WATCH, "0");
}

#[test]
fn a_rotated_token_is_read_again() {
    let folder = Folder::new();
    folder.write("token", "old");
    let mut lab = Lab::new(WATCH, &[], Some(&folder.join("token")));
    lab.objects.write("token", "new");
    lab.faults("# the watches are cut");
    lab.change();
    thread::sleep(FAULT);
    assert!(lab.observed().lost.iter().any(|why| why.contains("401 Unauthorized")));
    folder.write("token", "new");
    lab.settle(SOON, "the new token");
    assert_eq!(lab.observed().missing, Vec::<String>::new());
}

#[test]
fn failures_are_reported_once_and_not_at_each_attempt() {
    let lab = Lab::new(WATCH, &[], None);
    lab.faults(":status=500");
    thread::sleep(Duration::from_secs(8));
    let lost = lab.observed().lost.clone();
    for kind in ["nodes", "services", "endpointslices"] {
        let start = format!("watching {kind} from http://");
        let reported = lost.iter().filter(|why| why.starts_with(&start)).count();
        assert!(reported <= 2, "{lost:?}");
    }
    assert!(lost.len() <= 6, "{lost:?}");
}
