//! The routing table of the HTTP listeners: it maps a listener's [`PageKind`] and a request path to a
//! [`Response`]. The text comes from `text`, `metrics` and `bgp`. Pure, except that it reads [`SharedStatus`].

use super::{SharedStatus, Status, http::Response, metrics, text, unix};
use crate::desired::health::Answering;

/// The set of paths that a listener serves.
#[derive(Clone, Debug)]
pub(crate) enum PageKind {
    /// The liveness of the daemon: `/healthz`, `/livez` and `/readyz`.
    Health,
    /// kube-proxy's health check: as [`PageKind::Health`], and `/healthz` also fails if the Node is being
    /// deleted.
    Proxy,
    /// The metrics in Prometheus' text format, at this path.
    Metrics(String),
    /// The status socket: `/status` as text, `/status.json` as JSON, and the BGP pages below `/bgp`.
    Status,
}

/// Returns the response to a request for `path`; 404 if the listener does not serve the path.
pub(crate) fn response(page: &PageKind, path: &str, facts: &SharedStatus) -> Response {
    match page {
        PageKind::Health if matches!(path, "/healthz" | "/livez" | "/readyz") => {
            health(facts.stuck())
        }
        PageKind::Proxy if path == "/livez" => proxy(facts, false),
        PageKind::Proxy if path == "/healthz" => proxy(facts, facts.read(|status| status.leaving)),
        PageKind::Metrics(at) if path == at => {
            let body = facts.read(|status| metrics::page(status, unix()));
            Response { media: metrics::MEDIA, ..Response::text(200, body) }
        }
        PageKind::Status if path == "/status" => {
            facts.read(|status| Response::text(status_code(status), text::page(status, unix())))
        }
        PageKind::Status if path == "/status.json" => facts.read(|status| {
            let body = serde_json::to_string(status).unwrap_or_default();
            Response { media: "application/json", ..Response::text(status_code(status), body) }
        }),
        PageKind::Status if path.starts_with("/bgp") => match facts.bgp_page(path) {
            Some(Ok(body)) => Response::text(200, body),
            Some(Err(why)) => Response::text(503, why),
            None => Response::text(503, NO_BGP),
        },
        _ => Response::status_only(404),
    }
}

/// The body if the daemon has no BGP speaker.
const NO_BGP: &str = "this daemon does not run BGP: either its last pass failed (see kinglet status), or its \
                      flags disable BGP (--run-router, --routes, --peer-router-ips)\n";

/// Returns 200 if the node is right and 503 if the node has problems. `kinglet status` turns this code
/// into its exit code.
fn status_code(status: &Status) -> u16 {
    if status.problems().is_empty() { 200 } else { 503 }
}

/// Returns kube-router's health response. Neither an unreachable API server nor a step that the kernel
/// refused makes this check fail, because a restart would not help.
fn health(stuck: Option<u64>) -> Response {
    match stuck {
        None => Response::text(200, "OK\n"),
        Some(seconds) => Response::text(500, format!("the loop has been stuck for {seconds} s\n")),
    }
}

/// Returns the status code of kube-proxy's health check (`pkg/proxy/healthcheck/proxy_health.go`).
/// Load balancers read the code only, so the body differs from kube-proxy's.
fn proxy(facts: &SharedStatus, leaving: bool) -> Response {
    match facts.stuck() {
        stuck @ Some(_) => Response { code: 503, ..health(stuck) },
        None if leaving => Response::text(503, "the Node is being deleted\n"),
        None => health(None),
    }
}

/// Returns kube-proxy's response at a Service's healthCheckNodePort, which is the same for every path
/// (`pkg/proxy/healthcheck/service_health.go`). `works` is false if the daemon's loop is stuck.
pub(crate) fn node_port(answering: &Answering, works: bool) -> Response {
    let Answering { service, local } = answering;
    // Names of API objects contain no character that JSON would escape.
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\
         \"localEndpoints\": {local},\n\t\"serviceProxyHealthy\": {works}\n}}",
        service.namespace, service.name
    );
    let fields =
        format!("X-Content-Type-Options: nosniff\r\nX-Load-Balancing-Endpoint-Weight: {local}\r\n");
    let code = if *local > 0 && works { 200 } else { 503 };
    Response { code, media: "application/json", fields, body }
}
