//! A [`Status`] in Prometheus' text format. Pure.
//!
//! What kube-router measures in the same sense has its name (`kube_router_…`), so that its dashboards
//! go on working; all else is `kinglet_…`. Numbers are written as integers or as seconds with six
//! decimals.

use std::fmt::Write;

use super::status::{Items, Status};

/// What Prometheus is told of a page's form.
pub const MEDIA: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page, as of a Unix time.
pub fn page(status: &Status, unix: u64) -> String {
    let mut out = Page(String::with_capacity(8 << 10), "");
    let Status { api, snapshot, cluster, pass, items, wakes, .. } = status;
    let at = |seconds: u64| unix.saturating_sub(status.uptime.saturating_sub(seconds));
    out.family("kinglet_build_info", GAUGE, "The version that runs.");
    out.sample(&[("version", &status.version), ("node", &status.node)], true);
    out.one("process_start_time_seconds", GAUGE, "When it started.", at(0));
    let right = status.wrongs().is_empty();
    out.one("kinglet_node_right", GAUGE, "Whether all is as it should be, as far as known.", right);
    let stuck = status.stuck.unwrap_or(0);
    out.one("kinglet_loop_stuck_seconds", GAUGE, "For how long the loop has hung; 0: not.", stuck);

    out.family("kinglet_api_followed", GAUGE, "Whether the API server is followed, by kind.");
    for kind in &api.kinds {
        let followed = kind.heard.is_some() && kind.lost.is_none();
        out.sample(&[("kind", &kind.kind)], followed);
    }
    out.family(
        "kinglet_api_heard_timestamp_seconds",
        GAUGE,
        "When the API server last said anything.",
    );
    for kind in &api.kinds {
        if let Some(heard) = kind.heard {
            out.sample(&[("kind", &kind.kind)], at(heard));
        }
    }
    out.family(
        "kinglet_api_requests_total",
        COUNTER,
        "Requests to the API server by their outcome.",
    );
    for r in &api.requests {
        out.sample(&[("verb", &r.verb), ("result", &r.result)], r.count);
    }
    for (name, help, value) in [
        ("kinglet_api_bytes_total", "Bytes received from the API server.", api.bytes),
        ("kinglet_api_events_total", "Events of watches.", api.events),
        ("kinglet_api_gone_total", "Lists that were needed since a version was too old.", api.gone),
    ] {
        out.one(name, COUNTER, help, value);
    }
    let name = "kinglet_snapshot_in_use";
    out.one(name, GAUGE, "Whether only the snapshot is known.", snapshot.in_use);
    let name = "kinglet_snapshot_written_timestamp_seconds";
    out.one(name, GAUGE, "When the snapshot was written; 0: never.", snapshot.written);

    out.family("kinglet_cluster_objects", GAUGE, "What is known of the cluster.");
    for (kind, count) in [
        ("nodes", cluster.nodes),
        ("services", cluster.services),
        ("endpointslices", cluster.slices),
        ("endpoints", cluster.endpoints),
    ] {
        out.sample(&[("kind", kind)], count);
    }

    if !status.bgp.is_empty() {
        out.family("kube_router_bgp_peer_info", GAUGE, "The peers of the BGP speaker.");
        for peer in &status.bgp {
            let (addr, asn) = (peer.addr.to_string(), peer.asn.to_string());
            let kind = if peer.node.is_some() { "internal" } else { "external" };
            let labels =
                [("address", &*addr), ("type", kind), ("asn", &*asn), ("state", &*peer.state)];
            out.sample(&labels, 1_u64);
        }
        for (name, help, of) in [
            ("kinglet_bgp_routes_received", "Routes that a peer has told.", 0),
            ("kinglet_bgp_routes_accepted", "Those of them that were let in.", 1),
            ("kinglet_bgp_routes_told", "Routes that a peer was told.", 2),
        ] {
            out.family(name, GAUGE, help);
            for peer in &status.bgp {
                let count = [peer.received, peer.accepted, peer.told][of];
                out.sample(&[("address", &peer.addr.to_string())], count);
            }
        }
    }
    out.one("kinglet_passes_total", COUNTER, "Passes over the kernel.", pass.count);
    let name = "kinglet_pass_failures_total";
    out.one(name, COUNTER, "Passes in which anything went wrong.", pass.failures);
    let name = "kinglet_pass_seconds_total";
    out.one(name, COUNTER, "Time that the passes took.", Number::Micros(pass.micros_sum));
    let name = "kinglet_last_pass_seconds";
    out.one(name, GAUGE, "Time that the last pass took.", Number::Micros(pass.micros));
    let name = "kinglet_last_change_seconds";
    let help = "Time from the API's word of the last change until the kernel held it.";
    out.one(name, GAUGE, help, Number::Micros(pass.lag));
    let name = "kinglet_last_success_timestamp_seconds";
    out.one(name, GAUGE, "When all last went well; 0: never.", pass.good.map_or(0, at));

    out.family("kinglet_items_wanted", GAUGE, "What the kernel should hold, by kind.");
    for row in items {
        out.sample(&[("kind", &row.kind)], row.wanted);
    }
    out.family(
        "kinglet_steps_total",
        COUNTER,
        "Changes made, and changes that the kernel refused.",
    );
    for row in items {
        for (step, count) in [
            ("add", row.added),
            ("change", row.changed),
            ("remove", row.removed),
            ("refused", row.refused),
        ] {
            out.sample(&[("kind", &row.kind), ("step", step)], count);
        }
    }
    out.family("kinglet_problems", GAUGE, "What kinglet status tells, by sort.");
    for (sort, lines) in [
        ("refused", &status.refused),
        ("error", &status.errors),
        ("unmet", &status.unmet),
        ("not_understood", &status.complaints),
    ] {
        out.sample(&[("sort", sort)], lines.count());
    }
    out.family("kinglet_wakes_total", COUNTER, "What woke the loop beside the API server.");
    for (by, count) in [("kernel", wakes.kernel), ("audit", wakes.audits)] {
        out.sample(&[("by", by)], count);
    }
    as_kube_router(&mut out, items);
    out.0
}

/// Under the names that kube-router's dashboards know.
fn as_kube_router(out: &mut Page, items: &[Items]) {
    let of = |kind: &str| items.iter().find(|row| row.kind == kind);
    if let Some(services) = of("service") {
        let name = "kube_router_controller_ipvs_services";
        out.one(name, GAUGE, "IPVS services.", services.wanted);
    }
    if let Some(routes) = of("route") {
        let synced = "kube_router_host_routes_synced";
        out.one(synced, GAUGE, "Routes that should be there.", routes.wanted);
        out.one("kube_router_host_routes_added", COUNTER, "Routes made.", routes.added);
        out.one("kube_router_host_routes_removed", COUNTER, "Routes removed.", routes.removed);
    }
}

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// The page so far, and the name of the family that is being written.
struct Page(String, &'static str);

impl Page {
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.1 = name;
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn one(&mut self, name: &'static str, kind: &str, help: &str, value: impl Into<Number>) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Number>) {
        self.put(labels, value.into());
    }

    fn put(&mut self, labels: &[(&str, &str)], value: Number) {
        let Page(text, name) = self;
        text.push_str(name);
        for (i, (label, value)) in labels.iter().enumerate() {
            let _ = write!(text, "{}{label}=\"", if i == 0 { '{' } else { ',' });
            for c in value.chars() {
                match c {
                    '\\' | '"' => text.extend(['\\', c]),
                    '\n' => text.push_str("\\n"),
                    c => text.push(c),
                }
            }
            text.push('"');
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = match value {
            Number::Whole(n) => writeln!(text, "{end} {n}"),
            Number::Micros(n) => writeln!(text, "{end} {}.{:06}", n / 1_000_000, n % 1_000_000),
        };
    }
}

/// A value.
#[derive(Clone, Copy)]
enum Number {
    Whole(u64),
    /// Written as seconds.
    Micros(u64),
}

impl From<u64> for Number {
    fn from(n: u64) -> Number {
        Number::Whole(n)
    }
}

impl From<usize> for Number {
    fn from(n: usize) -> Number {
        Number::Whole(n as u64)
    }
}

impl From<bool> for Number {
    fn from(yes: bool) -> Number {
        Number::Whole(yes.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{
        super::text::tests::{broken, fine},
        *,
    };

    /// Reads the format strictly: every sample belongs to the family before it, no family and no
    /// sample comes twice, every value is a number. Gives the samples by name and labels.
    fn parse(page: &str) -> BTreeMap<String, f64> {
        let (mut families, mut samples) = (BTreeSet::new(), BTreeMap::new());
        let mut family = String::new();
        assert!(page.ends_with('\n'));
        let mut lines = page.lines();
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(!help.is_empty() && families.insert(name.to_owned()), "{line}");
                let typed = lines.next().unwrap();
                let kind = typed.strip_prefix(&format!("# TYPE {name} ")).unwrap();
                assert!(kind == "gauge" || kind == "counter", "{typed}");
                assert_eq!(
                    name.ends_with("_total"),
                    kind == "counter" && name.starts_with("kinglet")
                );
                family = name.to_owned();
                continue;
            }
            let (key, value) = line.rsplit_once(' ').unwrap();
            let name = key.split('{').next().unwrap();
            assert_eq!(name, family, "{line}");
            assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{line}");
            if let Some(labels) = key.strip_prefix(name).filter(|l| !l.is_empty()) {
                labels_are_well_formed(labels);
            }
            let value: f64 = value.parse().unwrap();
            assert!(samples.insert(key.to_owned(), value).is_none(), "{line}");
        }
        samples
    }

    fn labels_are_well_formed(labels: &str) {
        let inner = labels.strip_prefix('{').and_then(|l| l.strip_suffix('}')).unwrap();
        let mut rest = inner;
        loop {
            let (label, value) = rest.split_once("=\"").unwrap();
            assert!(!label.is_empty() && label.chars().all(|c| c.is_ascii_lowercase()), "{labels}");
            let mut chars = value.char_indices();
            let end = loop {
                match chars.next().unwrap() {
                    (_, '\\') => assert!("\\\"n".contains(chars.next().unwrap().1), "{labels}"),
                    (at, '"') => break at,
                    _ => {}
                }
            };
            match value[end + 1..].strip_prefix(',') {
                Some(more) => rest = more,
                None => break assert_eq!(&value[end + 1..], ""),
            }
        }
    }

    #[test]
    fn a_page_is_what_prometheus_reads() {
        let samples = parse(&page(&fine(), 1_000_000));
        for (key, value) in [
            ("kinglet_build_info{version=\"0.1.0\",node=\"node-1\"}", 1.0),
            ("process_start_time_seconds", 1_000_000.0 - 7_500.0),
            ("kinglet_node_right", 1.0),
            ("kinglet_api_followed{kind=\"nodes\"}", 1.0),
            ("kinglet_last_success_timestamp_seconds", 1_000_000.0 - 3.0),
            ("kinglet_last_pass_seconds", 0.0123),
            ("kinglet_last_change_seconds", 0.014),
            ("kinglet_items_wanted{kind=\"service\"}", 35.0),
            ("kinglet_steps_total{kind=\"route\",step=\"add\"}", 4.0),
            ("kube_router_controller_ipvs_services", 35.0),
            ("kinglet_api_requests_total{verb=\"list\",result=\"ok\"}", 1.0),
        ] {
            assert_eq!(samples.get(key), Some(&value), "{key} of {samples:#?}");
        }
    }

    #[test]
    fn what_is_wrong_shows_in_numbers() {
        let samples = parse(&page(&broken(), 1_000_000));
        assert_eq!(samples["kinglet_node_right"], 0.0);
        assert_eq!(samples["kinglet_api_followed{kind=\"nodes\"}"], 0.0);
        assert_eq!(samples["kinglet_problems{sort=\"refused\"}"], 1.0);
        assert_eq!(samples["kinglet_last_success_timestamp_seconds"], 0.0);
        assert_eq!(samples["kinglet_snapshot_in_use"], 1.0);
    }

    #[test]
    fn an_empty_status_is_a_page_too_and_labels_are_escaped() {
        parse(&page(&Status::default(), 0));
        let node = "a\"b\\c\nd}{".to_owned();
        let samples = parse(&page(&Status { node, ..Status::default() }, 0));
        assert!(samples.keys().any(|key| key.contains(r#"node="a\"b\\c\nd}{""#)), "{samples:?}");
    }
}
