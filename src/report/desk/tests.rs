//! Tests of the listeners, through real sockets.

use std::time::Instant;

use super::{
    super::{Status, ask::ask},
    *,
};
use crate::{cluster::Name, desired::health::Answering};

fn desk() -> (Desk, Facts) {
    let facts = Facts::new(Status::default(), Duration::from_secs(60));
    (Desk::open(facts.clone()).unwrap(), facts)
}

fn free_port() -> u16 {
    TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
}

fn get(addr: &str, port: u16, request: &str) -> String {
    let mut stream = TcpStream::connect((addr, port)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn health_probes_succeed_in_both_families_beside_many_idle_connections() {
    let (desk, _) = desk();
    let port = free_port();
    desk.health("", port).unwrap();
    let idle: Vec<_> = (0..40).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
    let began = Instant::now();
    for addr in ["127.0.0.1", "::1"] {
        let got = get(addr, port, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(got.starts_with("HTTP/1.1 200 OK\r\n") && got.ends_with("\r\n\r\nOK\n"), "{got}");
    }
    assert!(began.elapsed() < Duration::from_secs(2));
    let got = get("127.0.0.1", port, "HEAD /livez HTTP/1.1\r\n\r\n");
    assert!(got.ends_with("\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"), "{got}");
    for (request, code) in [
        ("GET /metrics HTTP/1.1\r\n\r\n", "404"),
        ("PUT /healthz HTTP/1.1\r\n\r\n", "405"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let got = get("127.0.0.1", port, request);
        assert!(got.starts_with(&format!("HTTP/1.1 {code} ")), "{request:?}: {got}");
    }
    drop(idle);
}

#[test]
fn a_node_being_deleted_fails_the_load_balancer_check_but_stays_live() {
    let (desk, facts) = desk();
    let port = free_port();
    desk.proxy("127.0.0.1", port).unwrap();
    let code = |path: &str| {
        let got = get("127.0.0.1", port, &format!("GET {path} HTTP/1.1\r\n\r\n"));
        got.split(' ').nth(1).unwrap().to_owned()
    };
    assert_eq!([code("/healthz"), code("/livez"), code("/metrics")], ["200", "200", "404"]);
    facts.write(|status| status.leaving = true);
    assert_eq!([code("/healthz"), code("/livez")], ["503", "200"]);
}

#[test]
fn a_slow_connection_is_closed_after_the_timeout() {
    let (desk, _) = desk();
    let port = free_port();
    desk.health("127.0.0.1", port).unwrap();
    let mut slow = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let began = Instant::now();
    let mut end = [0];
    slow.write_all(b"G").unwrap();
    assert_eq!(slow.read(&mut end).unwrap(), 0);
    let took = began.elapsed();
    assert!(took >= CONNECTION_TIMEOUT && took < 2 * CONNECTION_TIMEOUT, "{took:?}");
}

#[test]
fn a_port_in_use_is_an_error_that_names_the_flag() {
    let (desk, _) = desk();
    let held = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let text = desk.health("", port).unwrap_err().to_string();
    assert!(text.starts_with(&format!("listening for health probes (--health-port {port}): ")));
    assert!(text.contains("in use") && text.contains("another kinglet"), "{text}");
    assert!(desk.health("", 0).is_ok(), "0 disables the listener");
    assert!(desk.metrics("nonsense", 1, "/metrics").is_err());
}

#[test]
fn metrics_are_served_at_their_path_and_status_on_the_socket() {
    let (desk, facts) = desk();
    facts.write(|status| status.node = "node-1".into());
    let port = free_port();
    desk.metrics("127.0.0.1", port, "/my").unwrap();
    let got = get("127.0.0.1", port, "GET /my HTTP/1.1\r\n\r\n");
    assert!(got.contains("Content-Type: text/plain; version=0.0.4"), "{got}");
    assert!(got.contains("\nkinglet_build_info{version=\"\",node=\"node-1\"} 1\n"), "{got}");

    let folder = std::env::temp_dir().join(format!("kinglet-desk-{}", std::process::id()));
    let socket = folder.join("status");
    assert_eq!(ask(&socket, "/status").unwrap(), None);
    desk.status(&socket).unwrap();
    desk.status(&socket).unwrap(); // replaces the file that a killed process left
    let reply = ask(&socket, "/status").unwrap().unwrap();
    assert!(!reply.right && reply.page.starts_with("node node-1 is NOT right:\n"), "{reply:?}");
    facts.write(|status| status.pass.ended(0, 5, Ok(true)));
    let reply = ask(&socket, "/status.json").unwrap().unwrap();
    let read: Status = serde_json::from_str(&reply.page).unwrap();
    assert_eq!((reply.right, &*read.node, read.pass.count), (true, "node-1", 1));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn health_check_node_ports_open_and_close_as_requested() {
    let (mut desk, _) = desk();
    let (port, held) = (free_port(), TcpListener::bind("[::]:0").unwrap());
    let taken = held.local_addr().unwrap().port();
    let want = |port, local| {
        let service = Name { namespace: "shop".into(), name: "web".into() };
        HealthPorts::from([(port, Answering { service, local })])
    };
    let ask = || get("127.0.0.1", port, "GET /any HTTP/1.1\r\n\r\n");
    assert_eq!(desk.ports(&want(port, 0)), []);
    let got = ask();
    assert!(got.starts_with("HTTP/1.1 503 "), "{got}");
    assert_eq!(desk.ports(&want(port, 2)), []);
    let got = ask();
    assert!(got.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"), "{got}");
    assert!(got.contains("\r\nX-Load-Balancing-Endpoint-Weight: 2\r\n"), "{got}");
    let body: serde_json::Value =
        serde_json::from_str(got.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(
        body,
        serde_json::json!({
            "service": { "namespace": "shop", "name": "web" },
            "localEndpoints": 2,
            "serviceProxyHealthy": true,
        })
    );
    let unmet = desk.ports(&want(taken, 1));
    assert_eq!(unmet[0].what, format!("healthCheckNodePort {taken} of Service shop/web"));
    let deadline = Instant::now() + Duration::from_secs(5);
    while TcpStream::connect(("127.0.0.1", port)).is_ok() {
        assert!(Instant::now() < deadline, "the port stays open");
        thread::sleep(Duration::from_millis(10));
    }
}
