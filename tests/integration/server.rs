//! The test API server itself, which the other integration tests rely on: its answers are compared
//! with the recordings by a small client.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::common::{Folder, Server, recorded};

const SLICES: &str = "/apis/discovery.k8s.io/v1/endpointslices";

/// Returns the status and the body of a GET, with the chunks joined. If the connection broke, it
/// returns the part that arrived.
fn get(server: &Server, target: &str) -> (String, Vec<u8>) {
    send(server, &format!("GET {target} HTTP/1.1\r\nConnection: close\r\n\r\n"))
}

fn send(server: &Server, request: &str) -> (String, Vec<u8>) {
    let mut tcp = TcpStream::connect(&server.address).unwrap();
    tcp.write_all(request.as_bytes()).unwrap();
    let mut all = Vec::new();
    let _ = tcp.read_to_end(&mut all); // a reset is an end too
    let end = all.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(all.len());
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let mut rest = all.get(end + 4..).unwrap_or_default();
    let status = head.split(' ').nth(1).unwrap_or_default().to_string();
    if !head.contains("chunked") {
        return (status, rest.to_vec());
    }
    let mut body = Vec::new();
    while let Some(line) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = std::str::from_utf8(&rest[..line]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        let data = &rest[line + 2..];
        body.extend_from_slice(&data[..size.min(data.len())]);
        rest = data.get(size + 2..).unwrap_or_default();
    }
    (status, body)
}

fn text(server: &Server, target: &str) -> String {
    String::from_utf8(get(server, target).1).unwrap()
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

const NONE: [&str; 0] = [];

#[test]
fn recorded_lists_are_served_byte_for_byte() {
    for folder in ["three-nodes", "dualstack"] {
        let server = Server::start(&recorded(folder), &NONE);
        for (path, file) in [
            ("/api/v1/nodes", "nodes"),
            ("/api/v1/services", "services"),
            (SLICES, "endpointslices"),
        ] {
            let want = std::fs::read(recorded(folder).join(format!("{file}.json"))).unwrap();
            assert!(get(&server, path) == ("200".to_string(), want), "{folder} {path}");
        }
    }
}

#[test]
fn pages_are_of_one_version_even_when_the_file_changes_between_them() {
    let objects = Folder::objects("three-nodes");
    let server = Server::start(objects.path(), &NONE);
    let first = json(&text(&server, "/api/v1/nodes?limit=2"));
    objects.edit("nodes.json", "10.244.2.0/24", "10.244.7.0/24");
    let more = first["metadata"]["continue"].as_str().unwrap();
    let second = text(&server, &format!("/api/v1/nodes?limit=2&continue={more}"));
    assert_eq!(json(&second)["metadata"]["resourceVersion"], "411");
    assert!(second.contains("10.244.2.0/24"));
    let now = text(&server, "/api/v1/nodes?limit=1&resourceVersion=0");
    assert_eq!(json(&now)["metadata"]["resourceVersion"], "412");
    assert!(now.contains("10.244.7.0/24"), "a limit is ignored with resourceVersion=0");
}

#[test]
fn a_watch_replays_what_changed_and_ends() {
    let objects = Folder::objects("three-nodes");
    let server = Server::start(objects.path(), &NONE);
    get(&server, "/livez");
    objects.edit("nodes.json", "10.244.2.0/24", "10.244.7.0/24");
    let events = text(&server, "/api/v1/nodes?watch=1&resourceVersion=411&timeoutSeconds=1");
    let lines: Vec<_> = events.lines().map(json).collect();
    assert_eq!(lines.len(), 1);
    assert_eq!(
        (&lines[0]["type"], &lines[0]["object"]["kind"]),
        (&"MODIFIED".into(), &"Node".into())
    );
    assert_eq!(lines[0]["object"]["metadata"]["resourceVersion"], "412");
    let old = text(&server, "/api/v1/nodes?watch=1&resourceVersion=5&timeoutSeconds=1");
    assert_eq!(
        (&json(&old)["type"], &json(&old)["object"]["code"]),
        (&"ERROR".into(), &410.into())
    );
}

#[test]
fn faults_in_the_folder_come_and_go_while_it_runs() {
    let objects = Folder::objects("three-nodes");
    let server = Server::start(objects.path(), &NONE);
    let services = "/api/v1/services";
    objects.write("faults", "services:cut=1000\n");
    assert_eq!(get(&server, services).1.len(), 1000);
    objects.write("faults", "services:first=1:status=503\nnodes:empty\n");
    assert_eq!((get(&server, services).0, get(&server, services).0), ("503".into(), "200".into()));
    assert_eq!(get(&server, "/api/v1/nodes").0, "");
    objects.write("faults", "services:consistent:status=504\n");
    assert_eq!(get(&server, services).0, "504");
    assert_eq!(get(&server, "/api/v1/services?resourceVersion=0").0, "200");
    let log = server.requests();
    assert_eq!(log[0], "GET /api/v1/services 200 1000 cut");
    assert_eq!(log.len(), 6);
}

#[test]
fn an_old_server_has_v1beta1_slices_or_none() {
    let old = Server::start(&recorded("three-nodes"), &["--only-v1beta1"]);
    assert_eq!(get(&old, SLICES).1, b"404 page not found\n");
    let slices = text(&old, "/apis/discovery.k8s.io/v1beta1/endpointslices");
    assert!(slices.contains("\"topology\":{\"kubernetes.io/hostname\":\"node-1\""));
    assert!(!slices.contains("\"nodeName\""));
    let oldest = Server::start(&recorded("three-nodes"), &["--only-endpoints"]);
    assert_eq!(get(&oldest, "/apis/discovery.k8s.io/v1beta1/endpointslices").0, "404");
    assert_eq!(get(&oldest, "/api/v1/endpoints").0, "200");
}

#[test]
fn without_the_token_only_the_version_is_served() {
    let server = Server::start(&recorded("three-nodes"), &["--token", "right"]);
    let ask = |path: &str, token: &str| {
        let token = if token.is_empty() {
            String::new()
        } else {
            format!("Authorization: Bearer {token}\r\n")
        };
        send(&server, &format!("GET {path} HTTP/1.1\r\n{token}Connection: close\r\n\r\n")).0
    };
    assert_eq!(ask("/api/v1/nodes", ""), "403");
    assert_eq!(ask("/api/v1/nodes", "wrong"), "401");
    assert_eq!(ask("/api/v1/nodes", "right"), "200");
    assert_eq!(ask("/version", ""), "200");
}

#[test]
fn invalid_requests_are_answered_and_do_not_end_the_server() {
    let server = Server::start(&recorded("three-nodes"), &NONE);
    assert_eq!(send(&server, "\u{1}\u{2}nothing\r\n\r\n").0, "400");
    assert_eq!(send(&server, "GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n").0, "400");
    let long = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    assert!(["", "431"].contains(&&*send(&server, &long).0));
    assert_eq!(get(&server, "/livez").1, b"ok");
}
