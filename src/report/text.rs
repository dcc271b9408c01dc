//! A [`Status`] as a person reads it: one screen that says whether this node is right, and if not,
//! why. Pure.

use std::fmt::Write;

use super::status::{Lines, Status};
use crate::state::Busy;

/// More routes than these are counted only.
const ROUTES: usize = 12;
/// More lines of a sort than these are counted only.
const LINES: usize = 8;

/// The screen, as of a Unix time.
pub fn page(status: &Status, unix: u64) -> String {
    let mut out = String::new();
    let wrongs = status.wrongs();
    let Status { version, node, pid, uptime, mode, api, snapshot, cluster, pass, .. } = status;
    let verdict = if wrongs.is_empty() { "is right" } else { "is NOT right:" };
    let _ = writeln!(out, "node {node} {verdict}");
    for wrong in &wrongs {
        let _ = writeln!(out, "  - {wrong}");
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
        let heard = kind.heard.map_or("not heard of yet".into(), |at| format!("heard {}", age(at)));
        let lost = kind.lost.as_ref().map_or(String::new(), |why| format!("; LOST: {why}"));
        let _ = writeln!(out, "           {:<15}{heard}{lost}", kind.kind);
    }
    if !snapshot.path.is_empty() {
        let written = match snapshot.written {
            0 => "not written yet".to_owned(),
            at => format!("written {}", ago(unix.saturating_sub(at))),
        };
        let in_use = if snapshot.in_use { "; IN USE: the API has not told of all" } else { "" };
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
            "last pass  {}, {}.{} ms; {} passes, {} of them not well",
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
        for route in status.routes.iter().take(ROUTES) {
            let via = if route.via.is_empty() { "NO ROUTE" } else { &route.via };
            let _ = writeln!(out, "  {:<24} {:<24} {via}", route.node, route.to);
        }
        more(&mut out, status.routes.len().saturating_sub(ROUTES));
    }
    if !status.bgp.is_empty() {
        let up = status.bgp.iter().filter(|peer| peer.is_up()).count();
        let _ = writeln!(out, "\nBGP: {up} of {} peers are up (kinglet bgp)", status.bgp.len());
        let down: Vec<_> = status.bgp.iter().filter(|peer| !peer.is_up()).collect();
        for peer in down.iter().take(LINES) {
            let (node, why) = (peer.node.as_deref().unwrap_or("outside"), peer.error.as_deref());
            let _ = writeln!(
                out,
                "  {} ({node}): {}, {}; {}",
                peer.addr,
                peer.state,
                span(peer.uptime),
                why.unwrap_or("it did not answer yet")
            );
        }
        more(&mut out, down.len().saturating_sub(LINES));
    }
    lines(&mut out, "to be done by the next pass", &status.todo);
    lines(&mut out, "the kernel refused", &status.refused);
    lines(&mut out, "broken here", &status.errors);
    lines(&mut out, "not understood", &status.complaints);
    lines(&mut out, "cannot be honoured", &status.unmet);
    if status.policy {
        out.push_str("\nNETWORK POLICY IS NOT ENFORCED by this version.\n");
    }
    out
}

/// The IPVS services of this node: the busiest, and those that nobody serves.
pub fn busy(services: &[Busy]) -> String {
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
    let mut busiest: Vec<&Busy> = services.iter().filter(|s| s.connections > 0).collect();
    busiest.sort_by_key(|s| std::cmp::Reverse(s.connections));
    for busy @ Busy { reals, connections, .. } in busiest.iter().take(LINES) {
        let name = named(busy);
        let _ = writeln!(out, "  {name:<48} {reals} real servers, {connections} connections");
    }
    let mut empty = services.iter().filter(|s| s.reals == 0);
    let first: Vec<String> = empty.by_ref().take(LINES).map(named).collect();
    if !first.is_empty() {
        let _ = writeln!(out, "  without endpoints: {}", first.join(", "));
        more(&mut out, empty.count());
    }
    out
}

fn named(busy: &Busy) -> String {
    format!("{} {}", busy.at, busy.service).trim_end().to_owned()
}

fn lines(out: &mut String, title: &str, lines: &Lines) {
    if lines.count() == 0 {
        return;
    }
    let _ = writeln!(out, "\n{title}");
    for line in lines.told.iter().take(LINES) {
        let colon = if line.what.is_empty() { "" } else { ": " };
        let _ = writeln!(out, "  {}{colon}{}", line.what, line.why);
    }
    more(out, lines.count().saturating_sub(LINES));
}

fn more(out: &mut String, count: usize) {
    if count > 0 {
        let _ = writeln!(out, "  and {count} more");
    }
}

fn ago(seconds: u64) -> String {
    if seconds == 0 { "just now".into() } else { format!("{} ago", span(seconds)) }
}

/// Two units of time, the second only where it says something.
pub fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let (first, second) = match (days, hours, minutes) {
        (0, 0, 0) => return format!("{seconds} s"),
        (0, 0, minutes) => ((minutes, "min"), (seconds % 60, "s")),
        (0, hours, minutes) => ((hours, "h"), (minutes, "min")),
        (days, hours, _) => ((days, "d"), (hours, "h")),
    };
    let one = |(n, unit): (u64, &str)| format!("{n} {unit}");
    if second.0 == 0 { one(first) } else { format!("{} {}", one(first), one(second)) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{
        super::status::{Api, Counts, Did, Followed, Line, Pass, Route, Snapshot},
        *,
    };
    use crate::state::{Item, Protocol, TABLE_MAIN, Virtual};

    /// A node as it should be.
    pub fn fine() -> Status {
        let followed = |kind: &str, heard| Followed {
            kind: kind.into(),
            version: "411".into(),
            heard: Some(heard),
            lost: None,
        };
        let route = |node: &str, to: &str, via: &str| Route {
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
            api: Api {
                server: "http://192.0.2.254:8080".into(),
                kinds: vec![followed("nodes", 7_490), followed("services", 7_500)],
                ..Api::default()
            },
            snapshot: Snapshot {
                path: "/var/lib/kinglet/snapshot".into(),
                written: 999_760,
                in_use: false,
            },
            cluster: Counts { nodes: 3, services: 24, slices: 29, endpoints: 40 },
            pass: Pass {
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
        (0..4).for_each(|_| status.step(Did::Add, &item));
        status.items[8].wanted = 35;
        status.items[11].wanted = 2;
        status
    }

    /// A node that started while the API is down, and whose kernel refuses something.
    pub fn broken() -> Status {
        let mut status = fine();
        for kind in &mut status.api.kinds {
            kind.heard = None;
            kind.lost = Some("connection refused".into());
        }
        status.snapshot.in_use = true;
        status.pass.good = None;
        let why = "Operation not permitted".to_owned();
        status.refused.push(|| ("+ link kube-dummy-if dummy".into(), why));
        status.errors.told.push(Line { what: String::new(), why: "reading x: y".into() });
        status.unmet.push(|| ("Services".into(), "this kernel has no IPVS".into()));
        status.routes[1].via = String::new();
        status.policy = true;
        status
    }

    #[test]
    fn a_node_that_is_right_says_so_first() {
        assert_eq!(
            page(&fine(), 1_000_000),
            "\
node node-1 is right

kinglet    0.1.0, process 812, for 2 h 5 min: routes and Services, by watch
API        http://192.0.2.254:8080
           nodes          heard 10 s ago
           services       heard just now
snapshot   /var/lib/kinglet/snapshot, written 4 min ago
cluster    3 nodes, 24 Services, 40 endpoints in 29 slices
last pass  3 s ago, 12.3 ms; 812 passes, 2 of them not well
items      35 service, 2 route

routes to the pods of
  node-2                   10.244.1.0/24            192.0.2.12
  node-3                   10.244.2.0/24            192.0.2.13
"
        );
    }

    #[test]
    fn a_node_that_is_not_right_says_why_before_all_else() {
        assert_eq!(
            page(&broken(), 1_000_000),
            "\
node node-1 is NOT right:
  - the API has not told of nodes, services in this run: connection refused
  - no pass has gone well yet
  - the kernel refused 1 step
  - 1 thing is broken here

kinglet    0.1.0, process 812, for 2 h 5 min: routes and Services, by watch
API        http://192.0.2.254:8080
           nodes          not heard of yet; LOST: connection refused
           services       not heard of yet; LOST: connection refused
snapshot   /var/lib/kinglet/snapshot, written 4 min ago; IN USE: the API has not told of all
cluster    3 nodes, 24 Services, 40 endpoints in 29 slices
last pass  3 s ago, 12.3 ms; 812 passes, 2 of them not well
items      35 service, 2 route

routes to the pods of
  node-2                   10.244.1.0/24            192.0.2.12
  node-3                   10.244.2.0/24            NO ROUTE

the kernel refused
  + link kube-dummy-if dummy: Operation not permitted

broken here
  reading x: y

cannot be honoured
  Services: this kernel has no IPVS

NETWORK POLICY IS NOT ENFORCED by this version.
"
        );
    }

    #[test]
    fn without_a_daemon_it_is_what_the_next_pass_would_do_that_counts() {
        let mut status = fine();
        (status.pid, status.pass, status.api) = (0, Pass::default(), Api::default());
        assert_eq!(status.wrongs(), Vec::<String>::new());
        status.todo.push(|| (String::new(), "+ route 10.244.1.0/24 via 192.0.2.12".into()));
        let text = page(&status, 1_000_000);
        let head = "node node-1 is NOT right:\n  - the next pass has 1 step to take\n\n\
                    kinglet    0.1.0, NO DAEMON RUNS here: routes and Services\nsnapshot ";
        assert!(text.starts_with(head), "{text}");
        let step = "\nto be done by the next pass\n  + route 10.244.1.0/24 via 192.0.2.12\n";
        assert!(text.contains(step), "{text}");
    }

    #[test]
    fn a_short_silence_of_the_api_is_nothing_wrong_and_a_long_one_is() {
        let mut status = fine();
        status.api.kinds[0].lost = Some("connection reset".into());
        assert_eq!(status.wrongs(), Vec::<String>::new());
        status.api.kinds[0].heard = Some(7_300);
        let wrong = "the API has not told of nodes for 3 min 20 s: connection reset";
        assert_eq!(status.wrongs(), [wrong]);
    }

    #[test]
    fn a_pass_that_failed_and_a_loop_that_hangs_are_wrong() {
        let mut status = fine();
        status.pass.ended(7_500, 10, Err("finding node node-1: it is none of 3".into()));
        status.stuck = Some(200);
        assert_eq!(
            status.wrongs(),
            [
                "the daemon's loop has been stuck for 3 min 20 s",
                "the last pass could not be made: finding node node-1: it is none of 3",
            ]
        );
        status.pass.ended(7_500, 10, Ok(true));
        assert_eq!((status.pass.failures, status.pass.count), (3, 814));
    }

    #[test]
    fn very_many_lines_are_counted_and_not_told() {
        let mut status = fine();
        (0..1000).for_each(|i| status.unmet.push(|| (format!("thing {i}"), "no".into())));
        assert_eq!((status.unmet.told.len(), status.unmet.count()), (50, 1000));
        assert!(page(&status, 0).contains("  thing 7: no\n  and 992 more\n"));
    }

    #[test]
    fn the_busiest_services_and_those_without_endpoints_are_told() {
        let service = |last: u8, reals, connections| {
            let addr = [10, 96, 0, last].into();
            let at = Virtual { addr, protocol: Protocol::Tcp, port: 80 };
            Busy { at: at.into(), service: String::new(), reals, connections }
        };
        let mut services = vec![service(1, 3, 2), service(2, 1, 9), service(3, 0, 0)];
        services[1].service = "shop/web".into();
        assert_eq!(
            busy(&services),
            "\
\nIPVS: 3 services, 4 real servers, 11 connections
  tcp 10.96.0.2:80 shop/web                        1 real servers, 9 connections
  tcp 10.96.0.1:80                                 3 real servers, 2 connections
  without endpoints: tcp 10.96.0.3:80
"
        );
        services.extend((10..30).map(|last| service(last, 0, 0)));
        assert!(busy(&services).ends_with("\n  and 13 more\n"));
        assert_eq!(busy(&[]), "");
    }

    #[test]
    fn times_are_told_in_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (3_661, "1 h 1 min"),
            (86_400 * 400 + 7_200, "400 d 2 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
