//! Which page is behind which path of which listener.

use super::{Facts, Status, http::Answer, metrics, text, unix};
use crate::desired::health::Answering;

/// What a listener shows.
#[derive(Clone, Debug)]
pub enum Page {
    /// Whether the daemon works: `/healthz`, `/livez`.
    Health,
    /// As kube-proxy's: `/healthz` fails too where the Node is being deleted.
    Proxy,
    /// Prometheus' text format, at this path.
    Metrics(String),
    /// `/status` for people, `/status.json` for programs.
    Status,
}

/// The page at a path.
pub fn page(page: &Page, path: &str, facts: &Facts) -> Answer {
    match page {
        Page::Health if matches!(path, "/healthz" | "/livez" | "/readyz") => health(facts.stuck()),
        Page::Proxy if path == "/livez" => proxy(facts, false),
        Page::Proxy if path == "/healthz" => proxy(facts, facts.read(|status| status.leaving)),
        Page::Metrics(at) if path == at => {
            let body = facts.read(|status| metrics::page(status, unix()));
            Answer { media: metrics::MEDIA, ..Answer::text(200, body) }
        }
        Page::Status if path == "/status" => {
            facts.read(|status| Answer::text(verdict(status), text::page(status, unix())))
        }
        Page::Status if path == "/status.json" => facts.read(|status| {
            let body = serde_json::to_string(status).unwrap_or_default();
            Answer { media: "application/json", ..Answer::text(verdict(status), body) }
        }),
        Page::Status if path.starts_with("/bgp") => match facts.bgp(path) {
            Some(Ok(body)) => Answer::text(200, body),
            Some(Err(why)) => Answer::text(503, why),
            None => Answer::text(503, NO_BGP),
        },
        _ => Answer::bare(404),
    }
}

/// Where there is no speaker.
const NO_BGP: &str = "BGP is not spoken here: either this node's pass failed (kinglet status), or the \
                      flags ask for none (--run-router, --routes, --peer-router-ips)\n";

/// 200: the node is right; 503: it is not. The exit code of `kinglet status` comes from it.
fn verdict(status: &Status) -> u16 {
    if status.wrongs().is_empty() { 200 } else { 503 }
}

/// As kube-router says it: the API does not count, nor what the kernel refuses, since a restart would
/// mend neither.
fn health(stuck: Option<u64>) -> Answer {
    match stuck {
        None => Answer::text(200, "OK\n"),
        Some(seconds) => Answer::text(500, format!("the loop has been stuck for {seconds} s\n")),
    }
}

/// What kube-proxy says of itself (`pkg/proxy/healthcheck/proxy_health.go`), as far as load balancers
/// look: at the code.
fn proxy(facts: &Facts, leaving: bool) -> Answer {
    match facts.stuck() {
        stuck @ Some(_) => Answer { code: 503, ..health(stuck) },
        None if leaving => Answer::text(503, "the Node is being deleted\n"),
        None => health(None),
    }
}

/// What kube-proxy says at a Service's healthCheckNodePort, whatever the path
/// (`pkg/proxy/healthcheck/service_health.go`).
pub fn node_port(answering: &Answering, works: bool) -> Answer {
    let Answering { service, local } = answering;
    // Names in the API hold nothing that JSON would escape.
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{}\",\n\t\t\"name\": \"{}\"\n\t}},\n\t\
         \"localEndpoints\": {local},\n\t\"serviceProxyHealthy\": {works}\n}}",
        service.namespace, service.name
    );
    let fields =
        format!("X-Content-Type-Options: nosniff\r\nX-Load-Balancing-Endpoint-Weight: {local}\r\n");
    let code = if *local > 0 && works { 200 } else { 503 };
    Answer { code, media: "application/json", fields, body }
}
