//! A [`Status`] in Prometheus' text exposition format (version 0.0.4). Pure.
//!
//! A metric that means the same as one of kube-router's has kube-router's name (`kube_router_…`), so
//! that existing dashboards keep working; all others are called `kinglet_…`. Values are integers, or
//! seconds with six decimals.

use std::fmt::Write;

use super::status::{Items, Status};

/// The media type of the page.
pub(crate) const MEDIA: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns the page. `unix` is the current Unix time.
pub(crate) fn page(status: &Status, unix: u64) -> String {
    let mut out = MetricsPage(String::with_capacity(8 << 10), "");
    let Status { api, snapshot, cluster, pass, items, wakes, .. } = status;
    let at = |seconds: u64| unix.saturating_sub(status.uptime.saturating_sub(seconds));
    out.family("kinglet_build_info", GAUGE, "The version of kinglet that runs.");
    out.sample(&[("version", &status.version), ("node", &status.node)], true);
    out.one("process_start_time_seconds", GAUGE, "Start time of the process (Unix time).", at(0));
    let right = status.problems().is_empty();
    out.one("kinglet_node_right", GAUGE, "1 if kinglet status reports no problem.", right);
    let stuck = status.stuck.unwrap_or(0);
    out.one(
        "kinglet_loop_stuck_seconds",
        GAUGE,
        "Time since the last heartbeat of a stuck loop; 0 if it works.",
        stuck,
    );

    out.family("kinglet_api_followed", GAUGE, "1 if the watch of a kind works.");
    for kind in &api.kinds {
        let followed = kind.heard.is_some() && kind.lost.is_none();
        out.sample(&[("kind", &kind.kind)], followed);
    }
    out.family(
        "kinglet_api_heard_timestamp_seconds",
        GAUGE,
        "Time of the last data from the API server, by kind (Unix time).",
    );
    for kind in &api.kinds {
        if let Some(heard) = kind.heard {
            out.sample(&[("kind", &kind.kind)], at(heard));
        }
    }
    out.family(
        "kinglet_api_requests_total",
        COUNTER,
        "Requests to the API server, by verb and result.",
    );
    for r in &api.requests {
        out.sample(&[("verb", &r.verb), ("result", &r.result)], r.count);
    }
    for (name, help, value) in [
        ("kinglet_api_bytes_total", "Bytes received from the API server.", api.bytes),
        ("kinglet_api_events_total", "Watch events received from the API server.", api.events),
        ("kinglet_api_gone_total", "Lists forced by a resourceVersion that was too old.", api.gone),
    ] {
        out.one(name, COUNTER, help, value);
    }
    let name = "kinglet_snapshot_in_use";
    out.one(name, GAUGE, "1 until the API server has sent every kind.", snapshot.in_use);
    let name = "kinglet_snapshot_written_timestamp_seconds";
    out.one(name, GAUGE, "Time of the last write (Unix time); 0 if never.", snapshot.written);

    out.family("kinglet_cluster_objects", GAUGE, "Objects in the cluster, by kind.");
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
        for (name, help, column) in [
            ("kinglet_bgp_routes_received", "Routes received from a peer.", 0),
            ("kinglet_bgp_routes_accepted", "Routes received from a peer and accepted.", 1),
            ("kinglet_bgp_routes_told", "Routes advertised to a peer.", 2),
        ] {
            out.family(name, GAUGE, help);
            for peer in &status.bgp {
                let count = [peer.received, peer.accepted, peer.advertised][column];
                out.sample(&[("address", &peer.addr.to_string())], count);
            }
        }
    }
    out.one("kinglet_passes_total", COUNTER, "Passes (comparisons with the kernel).", pass.count);
    let name = "kinglet_pass_failures_total";
    out.one(name, COUNTER, "Passes that failed or had a step refused.", pass.failures);
    let name = "kinglet_pass_seconds_total";
    out.one(name, COUNTER, "Total duration of the passes.", Number::Micros(pass.micros_sum));
    let name = "kinglet_last_pass_seconds";
    out.one(name, GAUGE, "Duration of the last pass.", Number::Micros(pass.micros));
    let name = "kinglet_last_change_seconds";
    let help = "Time from the arrival of the last change until the kernel had it.";
    out.one(name, GAUGE, help, Number::Micros(pass.lag));
    let name = "kinglet_last_success_timestamp_seconds";
    out.one(
        name,
        GAUGE,
        "End of the last pass without errors (Unix time); 0 if none.",
        pass.good.map_or(0, at),
    );

    out.family("kinglet_items_wanted", GAUGE, "Items that the kernel should have, by kind.");
    for row in items {
        out.sample(&[("kind", &row.kind)], row.wanted);
    }
    out.family(
        "kinglet_steps_total",
        COUNTER,
        "Steps taken, and steps that the kernel refused, by kind of item.",
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
    out.family("kinglet_problems", GAUGE, "Lines that kinglet status shows, by sort.");
    for (sort, lines) in [
        ("refused", &status.refused),
        ("error", &status.errors),
        ("unmet", &status.unmet),
        ("not_understood", &status.complaints),
    ] {
        out.sample(&[("sort", sort)], lines.count());
    }
    out.family(
        "kinglet_wakes_total",
        COUNTER,
        "Wake-ups of the loop that the API server did not cause.",
    );
    for (by, count) in [("kernel", wakes.kernel), ("audit", wakes.audits)] {
        out.sample(&[("by", by)], count);
    }
    write_kube_router_names(&mut out, items);
    out.0
}

/// Writes the metrics that have kube-router's names.
fn write_kube_router_names(out: &mut MetricsPage, items: &[Items]) {
    let of = |kind: &str| items.iter().find(|row| row.kind == kind);
    if let Some(services) = of("service") {
        let name = "kube_router_controller_ipvs_services";
        out.one(name, GAUGE, "IPVS services.", services.wanted);
    }
    if let Some(routes) = of("route") {
        let synced = "kube_router_host_routes_synced";
        out.one(synced, GAUGE, "Routes that the kernel should have.", routes.wanted);
        out.one("kube_router_host_routes_added", COUNTER, "Routes added.", routes.added);
        out.one("kube_router_host_routes_removed", COUNTER, "Routes removed.", routes.removed);
    }
}

const GAUGE: &str = "gauge";
const COUNTER: &str = "counter";

/// The page so far, and the name of the metric family that is being written.
struct MetricsPage(String, &'static str);

impl MetricsPage {
    /// Begins a metric family.
    fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.1 = name;
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Writes a family with one sample and no labels.
    fn one(&mut self, name: &'static str, kind: &str, help: &str, value: impl Into<Number>) {
        self.family(name, kind, help);
        self.sample(&[], value);
    }

    /// Writes a sample of the current family.
    fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Number>) {
        self.put(labels, value.into());
    }

    fn put(&mut self, labels: &[(&str, &str)], value: Number) {
        let MetricsPage(text, name) = self;
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

/// The value of a sample.
#[derive(Clone, Copy)]
enum Number {
    Whole(u64),
    /// Microseconds, written as seconds.
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

    use super::*;
    use crate::report::text::tests::{failing_status, right_status};

    /// Parses the format strictly: every sample belongs to the family before it, no family and no sample
    /// occurs twice, every value is a number. Returns the samples by name and labels.
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
                assert_well_formed(labels);
            }
            let value: f64 = value.parse().unwrap();
            assert!(samples.insert(key.to_owned(), value).is_none(), "{line}");
        }
        samples
    }

    fn assert_well_formed(labels: &str) {
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
    fn a_page_follows_the_prometheus_text_format() {
        let samples = parse(&page(&right_status(), 1_000_000));
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
    fn problems_show_in_the_metrics() {
        let samples = parse(&page(&failing_status(), 1_000_000));
        assert_eq!(samples["kinglet_node_right"], 0.0);
        assert_eq!(samples["kinglet_api_followed{kind=\"nodes\"}"], 0.0);
        assert_eq!(samples["kinglet_problems{sort=\"refused\"}"], 1.0);
        assert_eq!(samples["kinglet_last_success_timestamp_seconds"], 0.0);
        assert_eq!(samples["kinglet_snapshot_in_use"], 1.0);
    }

    #[test]
    fn an_empty_status_renders_and_labels_are_escaped() {
        parse(&page(&Status::default(), 0));
        let node = "a\"b\\c\nd}{".to_owned();
        let samples = parse(&page(&Status { node, ..Status::default() }, 0));
        assert!(samples.keys().any(|key| key.contains(r#"node="a\"b\\c\nd}{""#)), "{samples:?}");
    }
}
