//! The text of `kinglet status`: one screen, made from a [`Status`]. The first line gives the verdict,
//! the next lines give the reasons if the node is not right. [`ipvs`] adds the IPVS counters. Pure.

use std::fmt::Write;

use super::{
    span::{ago, span},
    status::{ProblemLines, Status},
};
use crate::model::items::ServiceStats;

/// The number of routes that are printed; the rest are counted.
const MAX_ROUTES: usize = 12;
/// The number of lines that are printed for each section; the rest are counted.
const MAX_LINES: usize = 8;

/// Returns the screen. `unix` is the current Unix time.
pub(crate) fn page(status: &Status, unix: u64) -> String {
    let mut out = String::new();
    let problems = status.problems();
    let Status { version, node, pid, uptime, mode, api, snapshot, cluster, pass, .. } = status;
    let verdict = if problems.is_empty() { "is right" } else { "is NOT right:" };
    let _ = writeln!(out, "node {node} {verdict}");
    for problem in &problems {
        let _ = writeln!(out, "  - {problem}");
    }
    let age = |at: u64| ago(uptime.saturating_sub(at));
    let parts = match (status.router, status.services) {
        (true, true) => "routes and Services",
        (true, false) => "routes",
        _ => "Services",
    };
    let _ = match pid {
        0 => writeln!(out, "\nkinglet    {version}, NO DAEMON RUNS here: {parts}"),
        pid => writeln!(
            out,
            "\nkinglet    {version}, process {pid}, for {}: {parts}, by {mode}\nAPI        {}",
            span(*uptime),
            api.server
        ),
    };
    for kind in &api.kinds {
        let last = kind.heard.map_or("no data yet".into(), |at| format!("last data {}", age(at)));
        let lost = kind.lost.as_ref().map_or(String::new(), |why| format!("; LOST: {why}"));
        let _ = writeln!(out, "           {:<15}{last}{lost}", kind.kind);
    }
    if !snapshot.path.is_empty() {
        let written = match snapshot.written {
            0 => "not written yet".to_owned(),
            at => format!("written {}", ago(unix.saturating_sub(at))),
        };
        let in_use = if snapshot.in_use {
            "; IN USE: some kinds have not come from the API yet"
        } else {
            ""
        };
        let _ = writeln!(out, "snapshot   {}, {written}{in_use}", snapshot.path);
    }
    let _ = writeln!(
        out,
        "cluster    {} nodes, {} Services, {} endpoints in {} slices",
        cluster.nodes, cluster.services, cluster.endpoints, cluster.slices
    );
    if let Some(at) = pass.at {
        let _ = writeln!(
            out,
            "last pass  {}, {}.{} ms; {} passes, {} with errors",
            age(at),
            pass.micros / 1000,
            pass.micros % 1000 / 100,
            pass.count,
            pass.failures
        );
    }
    let wanted = status.items.iter().filter(|row| row.wanted > 0);
    let wanted: Vec<_> = wanted.map(|row| format!("{} {}", row.wanted, row.kind)).collect();
    if !wanted.is_empty() {
        let _ = writeln!(out, "items      {}", wanted.join(", "));
    }
    if !status.routes.is_empty() {
        out.push_str("\nroutes to the pods of\n");
        for route in status.routes.iter().take(MAX_ROUTES) {
            let via = if route.via.is_empty() { "NO ROUTE" } else { &route.via };
            let _ = writeln!(out, "  {:<24} {:<24} {via}", route.node, route.to);
        }
        more(&mut out, status.routes.len().saturating_sub(MAX_ROUTES));
    }
    if !status.bgp.is_empty() {
        let up = status.bgp.iter().filter(|peer| peer.is_up()).count();
        let _ = writeln!(out, "\nBGP: {up} of {} peers are up (see kinglet bgp)", status.bgp.len());
        let down: Vec<_> = status.bgp.iter().filter(|peer| !peer.is_up()).collect();
        for peer in down.iter().take(MAX_LINES) {
            let (node, why) = (peer.node.as_deref().unwrap_or("outside"), peer.error.as_deref());
            let _ = writeln!(
                out,
                "  {} ({node}): {}, {}; {}",
                peer.addr,
                peer.state,
                span(peer.uptime),
                why.unwrap_or("no answer yet")
            );
        }
        more(&mut out, down.len().saturating_sub(MAX_LINES));
    }
    section(&mut out, "steps of the next pass", &status.todo);
    section(&mut out, "refused by the kernel", &status.refused);
    section(&mut out, "errors", &status.errors);
    section(&mut out, "invalid API objects", &status.complaints);
    section(&mut out, "cannot be honoured", &status.unmet);
    if status.policy {
        out.push_str("\nNETWORK POLICY IS NOT ENFORCED by this version.\n");
    }
    out
}

/// Returns the section about IPVS: the totals, the busiest services, and the services without a real
/// server. Empty if there are no IPVS services.
pub(crate) fn ipvs(services: &[ServiceStats]) -> String {
    let mut out = String::new();
    if services.is_empty() {
        return out;
    }
    let _ = writeln!(
        out,
        "\nIPVS: {} services, {} real servers, {} connections",
        services.len(),
        services.iter().map(|s| s.reals).sum::<usize>(),
        services.iter().map(|s| s.connections).sum::<u64>()
    );
    let mut busiest: Vec<&ServiceStats> = services.iter().filter(|s| s.connections > 0).collect();
    busiest.sort_by_key(|s| std::cmp::Reverse(s.connections));
    for busy @ ServiceStats { reals, connections, .. } in busiest.iter().take(MAX_LINES) {
        let name = label(busy);
        let _ = writeln!(out, "  {name:<48} {reals} real servers, {connections} connections");
    }
    let mut empty = services.iter().filter(|s| s.reals == 0);
    let first: Vec<String> = empty.by_ref().take(MAX_LINES).map(label).collect();
    if !first.is_empty() {
        let _ = writeln!(out, "  without endpoints: {}", first.join(", "));
        more(&mut out, empty.count());
    }
    out
}

/// Returns an IPVS service's address and the name of its Service if that is known.
fn label(busy: &ServiceStats) -> String {
    format!("{} {}", busy.at, busy.service).trim_end().to_owned()
}

/// Writes a titled section; nothing if it has no lines.
fn section(out: &mut String, title: &str, lines: &ProblemLines) {
    if lines.count() == 0 {
        return;
    }
    let _ = writeln!(out, "\n{title}");
    for line in lines.told.iter().take(MAX_LINES) {
        let colon = if line.what.is_empty() { "" } else { ": " };
        let _ = writeln!(out, "  {}{colon}{}", line.what, line.why);
    }
    more(out, lines.count().saturating_sub(MAX_LINES));
}

/// Writes the number of lines that were left out, if any were.
fn more(out: &mut String, count: usize) {
    if count > 0 {
        let _ = writeln!(out, "  and {count} more");
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::{
        model::items::{Item, Protocol, ServiceAddr, TABLE_MAIN},
        report::{
            bgp::PeerRow,
            status::{
                ApiReport, ClusterCounts, Followed, PassStatus, ProblemLine, RouteStatus,
                SnapshotStatus, StepKind,
            },
        },
    };

    /// Returns the status of a node that is right.
    pub(crate) fn right_status() -> Status {
        let followed = |kind: &str, heard| Followed {
            kind: kind.into(),
            version: "411".into(),
            heard: Some(heard),
            lost: None,
        };
        let route = |node: &str, to: &str, via: &str| RouteStatus {
            node: node.into(),
            to: to.into(),
            via: via.into(),
        };
        let mut status = Status {
            version: "0.1.0".into(),
            node: "node-1".into(),
            pid: 812,
            uptime: 7_500,
            mode: "watch".into(),
            router: true,
            services: true,
            api: ApiReport {
                server: "http://192.0.2.254:8080".into(),
                kinds: vec![followed("nodes", 7_490), followed("services", 7_500)],
                ..ApiReport::default()
            },
            snapshot: SnapshotStatus {
                path: "/var/lib/kinglet/snapshot".into(),
                written: 999_760,
                in_use: false,
            },
            cluster: ClusterCounts { nodes: 3, services: 24, slices: 29, endpoints: 40 },
            pass: PassStatus {
                count: 812,
                failures: 2,
                at: Some(7_497),
                good: Some(7_497),
                micros: 12_300,
                lag: 14_000,
                micros_sum: 1_200_000,
                failed: None,
            },
            routes: vec![
                route("node-2", "10.244.1.0/24", "192.0.2.12"),
                route("node-3", "10.244.2.0/24", "192.0.2.13"),
            ],
            ..Status::default()
        };
        status.api.requests("list", &[("ok", 0), ("failed", 0)]);
        status.api.requests("list", &[("ok", 1), ("failed", 0)]);
        let (table, to) = (TABLE_MAIN, "10.244.1.0/24".parse().unwrap());
        let item = Item::Route { table, to, via: None, src: None };
        (0..4).for_each(|_| status.step(StepKind::Add, &item));
        status.items[8].wanted = 35;
        status.items[11].wanted = 2;
        status
    }

    /// Returns the status of a node that started while the API is down and whose kernel refuses a step.
    pub(crate) fn failing_status() -> Status {
        let mut status = right_status();
        for kind in &mut status.api.kinds {
            kind.heard = None;
            kind.lost = Some("connection refused".into());
        }
        status.snapshot.in_use = true;
        status.pass.good = None;
        let why = "Operation not permitted".to_owned();
        status.refused.push(|| ("+ link kube-dummy-if dummy".into(), why));
        status.errors.told.push(ProblemLine { what: String::new(), why: "reading x: y".into() });
        status.unmet.push(|| ("Services".into(), "this kernel has no IPVS".into()));
        status.routes[1].via = String::new();
        status.policy = true;
        status
    }

    #[test]
    fn the_first_line_states_that_a_node_is_right() {
        assert_eq!(
            page(&right_status(), 1_000_000),
            "\
node node-1 is right

kinglet    0.1.0, process 812, for 2 h 5 min: routes and Services, by watch
API        http://192.0.2.254:8080
           nodes          last data 10 s ago
           services       last data just now
snapshot   /var/lib/kinglet/snapshot, written 4 min ago
cluster    3 nodes, 24 Services, 40 endpoints in 29 slices
last pass  3 s ago, 12.3 ms; 812 passes, 2 with errors
items      35 service, 2 route

routes to the pods of
  node-2                   10.244.1.0/24            192.0.2.12
  node-3                   10.244.2.0/24            192.0.2.13
"
        );
    }

    #[test]
    fn the_reasons_why_a_node_is_not_right_come_first() {
        assert_eq!(
            page(&failing_status(), 1_000_000),
            "\
node node-1 is NOT right:
  - no data from the API about nodes, services since the start: connection refused
  - no pass has succeeded yet
  - the kernel refused 1 step
  - 1 error on this node

kinglet    0.1.0, process 812, for 2 h 5 min: routes and Services, by watch
API        http://192.0.2.254:8080
           nodes          no data yet; LOST: connection refused
           services       no data yet; LOST: connection refused
snapshot   /var/lib/kinglet/snapshot, written 4 min ago; IN USE: some kinds have not come from the API yet
cluster    3 nodes, 24 Services, 40 endpoints in 29 slices
last pass  3 s ago, 12.3 ms; 812 passes, 2 with errors
items      35 service, 2 route

routes to the pods of
  node-2                   10.244.1.0/24            192.0.2.12
  node-3                   10.244.2.0/24            NO ROUTE

refused by the kernel
  + link kube-dummy-if dummy: Operation not permitted

errors
  reading x: y

cannot be honoured
  Services: this kernel has no IPVS

NETWORK POLICY IS NOT ENFORCED by this version.
"
        );
    }

    #[test]
    fn without_a_daemon_the_steps_of_the_next_pass_are_the_problems() {
        let mut status = right_status();
        (status.pid, status.pass, status.api) = (0, PassStatus::default(), ApiReport::default());
        assert_eq!(status.problems(), Vec::<String>::new());
        status.todo.push(|| (String::new(), "+ route 10.244.1.0/24 via 192.0.2.12".into()));
        let text = page(&status, 1_000_000);
        let head = "node node-1 is NOT right:\n  - the next pass has 1 step to take\n\n\
                    kinglet    0.1.0, NO DAEMON RUNS here: routes and Services\nsnapshot ";
        assert!(text.starts_with(head), "{text}");
        let step = "\nsteps of the next pass\n  + route 10.244.1.0/24 via 192.0.2.12\n";
        assert!(text.contains(step), "{text}");
    }

    #[test]
    fn a_failing_watch_is_a_problem_after_a_minute_without_data() {
        let mut status = right_status();
        status.api.kinds[0].lost = Some("connection reset".into());
        assert_eq!(status.problems(), Vec::<String>::new());
        status.api.kinds[0].heard = Some(7_300);
        let problem = "no data from the API about nodes for 3 min 20 s: connection reset";
        assert_eq!(status.problems(), [problem]);
    }

    #[test]
    fn a_failed_pass_and_a_stuck_loop_are_problems() {
        let mut status = right_status();
        status.pass.ended(7_500, 10, Err("finding node node-1: it is none of 3".into()));
        status.stuck = Some(200);
        assert_eq!(
            status.problems(),
            [
                "the daemon's loop has been stuck for 3 min 20 s",
                "the last pass failed: finding node node-1: it is none of 3",
            ]
        );
        status.pass.ended(7_500, 10, Ok(true));
        assert_eq!((status.pass.failures, status.pass.count), (3, 814));
    }

    #[test]
    fn bgp_peers_that_are_down_are_listed_and_the_others_are_counted() {
        let peer = |last: u8, state: &str| PeerRow {
            addr: [192, 0, 2, last].into(),
            asn: 64512,
            node: (last == 12).then(|| "node-2".to_owned()),
            state: state.to_owned(),
            bfd: None,
            uptime: 61,
            received: 0,
            accepted: 0,
            advertised: 0,
            error: (last == 250).then(|| "connection refused".to_owned()),
        };
        let mut status = right_status();
        status.bgp = vec![peer(12, "Connect"), peer(13, "Established"), peer(250, "Active")];
        let text = page(&status, 1_000_000);
        let expected = "\nBGP: 1 of 3 peers are up (see kinglet bgp)\n  \
                        192.0.2.12 (node-2): Connect, 1 min 1 s; no answer yet\n  \
                        192.0.2.250 (outside): Active, 1 min 1 s; connection refused\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn lines_beyond_the_limit_are_counted_only() {
        let mut status = right_status();
        (0..1000).for_each(|i| status.unmet.push(|| (format!("thing {i}"), "no".into())));
        assert_eq!((status.unmet.told.len(), status.unmet.count()), (50, 1000));
        assert!(page(&status, 0).contains("  thing 7: no\n  and 992 more\n"));
    }

    #[test]
    fn the_busiest_services_and_those_without_real_servers_are_listed() {
        let service = |last: u8, reals, connections| {
            let addr = [10, 96, 0, last].into();
            let at = ServiceAddr { addr, protocol: Protocol::Tcp, port: 80 };
            ServiceStats { at: at.into(), service: String::new(), reals, connections }
        };
        let mut services = vec![service(1, 3, 2), service(2, 1, 9), service(3, 0, 0)];
        services[1].service = "shop/web".into();
        assert_eq!(
            ipvs(&services),
            "\
\nIPVS: 3 services, 4 real servers, 11 connections
  tcp 10.96.0.2:80 shop/web                        1 real servers, 9 connections
  tcp 10.96.0.1:80                                 3 real servers, 2 connections
  without endpoints: tcp 10.96.0.3:80
"
        );
        services.extend((10..30).map(|last| service(last, 0, 0)));
        assert!(ipvs(&services).ends_with("\n  and 13 more\n"));
        assert_eq!(ipvs(&[]), "");
    }
}
