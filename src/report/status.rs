//! The status of a node as data. The daemon fills in a [`Status`]; `text`, `metrics` and the JSON output
//! are made from it alone. `Status::problems` decides if the node is right.
//!
//! Times are seconds since the daemon's start (`SharedStatus::now`) unless marked as Unix time. Lists
//! are capped, so that the memory does not depend on the size of the cluster. The field names are the
//! JSON names of `kinglet status --format json`.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use super::problem_lines::{ProblemLine, ProblemLines};
use super::{bgp::PeerRow, span::span};
use crate::model::{
    cluster::{Cluster, Kind},
    items::{Item, ItemKind, ItemSet, TABLE_MAIN},
};

/// The complete status of a node.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// The version of kinglet.
    pub version: String,
    /// The name of this node's Node object.
    pub node: String,
    /// The process ID of the daemon; 0 if no daemon runs.
    pub pid: u32,
    /// The start of the daemon (Unix time, from the system clock at the start).
    pub started: u64,
    /// Seconds since the start, on the monotonic clock, at the time of reading.
    pub uptime: u64,
    /// Seconds since the last heartbeat of a stuck loop; `None` if the loop works.
    pub stuck: Option<u64>,
    /// The way the API is read: `watch`, or for example `poll 30s`.
    pub mode: String,
    /// True if kinglet manages routes and the CNI configuration (`--run-router`).
    pub router: bool,
    /// True if kinglet serves Services (`--run-service-proxy`).
    pub services: bool,
    /// True if network policy was requested (`--run-firewall`). This version does not enforce it.
    pub policy: bool,
    /// True if the Node is being deleted.
    pub leaving: bool,
    /// The connection to the API server.
    pub api: ApiReport,
    /// The snapshot: the last good cluster, on disk.
    pub snapshot: SnapshotStatus,
    /// The number of objects in the cluster.
    pub cluster: ClusterCounts,
    /// The passes so far.
    pub pass: PassStatus,
    /// The items of each kind, in the order in which a pass creates them.
    pub items: Vec<Items>,
    /// The steps of the last pass that the kernel refused.
    pub refused: ProblemLines,
    /// The steps that the next pass would take; filled in only if no daemon runs.
    pub todo: ProblemLines,
    /// Requests of the cluster that this node cannot honour. The rest of the node works.
    pub unmet: ProblemLines,
    /// Errors on this node that an operator has to fix.
    pub errors: ProblemLines,
    /// API objects that are invalid.
    pub complaints: ProblemLines,
    /// The routes to the other nodes' pod networks.
    pub routes: Vec<RouteStatus>,
    /// The peers of the BGP speaker; empty if BGP does not run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bgp: Vec<PeerRow>,
    /// The number of times that something other than the API woke the loop.
    pub wakes: Wakes,
}

/// The API server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ApiReport {
    /// The URL of the API server.
    pub server: String,
    /// The kinds of object that kinglet reads.
    pub kinds: Vec<Followed>,
    /// The number of requests, by verb and result.
    pub requests: Vec<Requests>,
    /// Bytes received, after decompression.
    pub bytes: u64,
    /// Watch events received.
    pub events: u64,
    /// The number of times that a resourceVersion was too old (410 Gone), which forces a list.
    pub gone: u64,
}

/// The state of the watch of one kind.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Followed {
    /// `nodes`, `services`, `endpointslices`.
    pub kind: String,
    /// The resourceVersion that the watch has reached.
    pub version: String,
    /// The time of the last data about this kind; `None` if none has arrived since the start.
    pub heard: Option<u64>,
    /// The error if the watch fails now; `None` if the watch works.
    pub lost: Option<String>,
}

/// The number of requests with one verb and one result.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requests {
    /// `list`, `watch` or `probe`.
    pub verb: String,
    /// `ok`, `refused`, `failed` or `unanswered`.
    pub result: String,
    /// The number of requests.
    pub count: u64,
}

impl ApiReport {
    /// Sets the totals of a verb, given as result and count. The order of the results must not change
    /// between calls.
    pub(crate) fn requests(&mut self, verb: &str, results: &[(&str, u64)]) {
        let mut rows = results.iter();
        for row in self.requests.iter_mut().filter(|row| row.verb == verb) {
            row.count = rows.next().map_or(0, |(_, count)| *count);
        }
        self.requests.extend(rows.map(|(result, count)| Requests {
            verb: verb.into(),
            result: (*result).into(),
            count: *count,
        }));
    }
}

/// The state of the snapshot file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotStatus {
    /// The path of the file; empty if snapshots are off.
    pub path: String,
    /// The time of the last write (Unix time); 0 if the file was never written.
    pub written: u64,
    /// True until the API server has sent every kind; until then the node works from the snapshot.
    pub in_use: bool,
}

/// The number of objects in the cluster, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct ClusterCounts {
    pub nodes: usize,
    pub services: usize,
    pub slices: usize,
    pub endpoints: usize,
}

impl ClusterCounts {
    /// Counts the objects of a cluster.
    pub(crate) fn of(cluster: &Cluster) -> ClusterCounts {
        ClusterCounts {
            nodes: cluster.nodes.len(),
            services: cluster.services.len(),
            slices: cluster.slices.len(),
            endpoints: cluster.slices.values().map(|slice| slice.endpoints.len()).sum(),
        }
    }
}

/// Statistics of the passes so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct PassStatus {
    /// The number of passes.
    pub count: u64,
    /// The number of passes that failed or had a step refused.
    pub failures: u64,
    /// The end of the last pass; `None` if no pass has ended.
    pub at: Option<u64>,
    /// The end of the last pass without any error; `None` if there was none.
    pub good: Option<u64>,
    /// The duration of the last pass in microseconds.
    pub micros: u64,
    /// The time from the arrival of the last change until the kernel had it, in microseconds.
    pub lag: u64,
    /// The duration of all passes in microseconds.
    pub micros_sum: u64,
    /// The error that prevented the last pass; `None` if the pass ran.
    pub failed: Option<String>,
}

impl PassStatus {
    /// Records the end of a pass. `outcome` is `Ok(true)` if the pass succeeded, `Ok(false)` if a part of
    /// it failed, and an error if the pass could not run.
    pub fn ended(&mut self, now: u64, micros: u64, outcome: Result<bool, String>) {
        let succeeded = outcome == Ok(true);
        self.count += 1;
        self.failures += u64::from(!succeeded);
        self.at = Some(now);
        if succeeded {
            self.good = Some(now);
        }
        self.micros = micros;
        self.micros_sum += micros;
        self.failed = outcome.err();
    }
}

/// The counters of one kind of item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Items {
    /// The name of the kind, as in the JSON of a plan: for example `route` or `service`.
    pub kind: String,
    /// The number of items that the kernel should have.
    pub wanted: u64,
    /// The number of items created since the start.
    pub added: u64,
    /// The number of items changed in place since the start.
    pub changed: u64,
    /// The number of items removed since the start.
    pub removed: u64,
    /// The number of steps that the kernel refused since the start.
    pub refused: u64,
}

/// The longest time in seconds for which a failing watch is not a problem yet.
const MAX_SILENCE: u64 = 60;

/// The effect of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StepKind {
    Add,
    Change,
    Remove,
    Refused,
}

impl Status {
    /// Returns the counters of an item's kind.
    fn row(&mut self, item: &Item) -> &mut Items {
        if self.items.len() != ItemKind::ALL.len() {
            let row = |kind: &ItemKind| Items { kind: kind.info().name.into(), ..Items::default() };
            self.items = ItemKind::ALL.iter().map(row).collect();
        }
        &mut self.items[item.kind() as usize]
    }

    /// Counts a step of a pass.
    pub(crate) fn step(&mut self, did: StepKind, item: &Item) {
        let row = self.row(item);
        match did {
            StepKind::Add => row.added += 1,
            StepKind::Change => row.changed += 1,
            StepKind::Remove => row.removed += 1,
            StepKind::Refused => row.refused += 1,
        }
    }

    /// Adjusts the number of wanted items after a step that an API event caused. Between two full passes
    /// only such steps change that number.
    pub(crate) fn moved(&mut self, did: StepKind, item: &Item) {
        let row = self.row(item);
        match did {
            StepKind::Add => row.wanted += 1,
            StepKind::Remove => row.wanted = row.wanted.saturating_sub(1),
            StepKind::Change | StepKind::Refused => {}
        }
    }

    /// Recounts the wanted items of every kind.
    pub(crate) fn want(&mut self, want: &ItemSet) {
        self.items.iter_mut().for_each(|row| row.wanted = 0);
        want.iter().for_each(|item| self.row(item).wanted += 1);
    }

    /// Returns the reasons why this node is not right; empty if the node is right as far as kinglet can
    /// see. Requests that cannot be honoured are not a problem, and neither is a watch that has failed for
    /// at most a minute.
    pub(crate) fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if let Some(stuck) = self.stuck {
            problems.push(format!("the daemon's loop has been stuck for {}", span(stuck)));
        }
        let silent = |f: &Followed| f.heard.map(|at| self.uptime.saturating_sub(at));
        let fails = |f: &&Followed| match silent(f) {
            None => true,
            Some(seconds) => f.lost.is_some() && seconds > MAX_SILENCE,
        };
        let failing: Vec<&Followed> = self.api.kinds.iter().filter(fails).collect();
        if let Some(first) = failing.first() {
            let kinds: Vec<&str> = failing.iter().map(|f| &*f.kind).collect();
            let since =
                silent(first).map_or("since the start".into(), |s| format!("for {}", span(s)));
            let why = first.lost.as_ref().map_or(String::new(), |why| format!(": {why}"));
            problems.push(format!("no data from the API about {} {since}{why}", kinds.join(", ")));
        }
        // Without a daemon there are no passes.
        let good = self.pass.good.is_some() || self.pid == 0;
        match &self.pass.failed {
            Some(why) => problems.push(format!("the last pass failed: {why}")),
            None if !good => problems.push("no pass has succeeded yet".into()),
            None => {}
        }
        let counted = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        match self.todo.count() {
            0 => {}
            n => problems.push(format!("the next pass has {} to take", counted(n, "step"))),
        }
        match self.refused.count() {
            0 => {}
            n => problems.push(format!("the kernel refused {}", counted(n, "step"))),
        }
        match self.errors.count() {
            0 => {}
            n => problems.push(format!("{} on this node", counted(n, "error"))),
        }
        problems
    }

    /// Returns the state of a kind's watch, and adds the kind if it is new.
    pub(crate) fn followed(&mut self, kind: Kind) -> &mut Followed {
        let name = kind.plural();
        let kinds = &mut self.api.kinds;
        let at = kinds.iter().position(|f| f.kind == name).unwrap_or_else(|| {
            kinds.push(Followed { kind: name.into(), ..Followed::default() });
            kinds.len() - 1
        });
        &mut kinds[at]
    }
}

/// The route to another node's pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteStatus {
    /// The name of the other node.
    pub node: String,
    /// A pod network of that node, as a CIDR.
    pub to: String,
    /// The gateways, separated by commas; empty if there is no route.
    pub via: String,
}

/// The number of routes that are listed.
const MAX_ROUTES: usize = 100;

/// Returns the routes to the pods of all nodes except `own`, taken from the wanted items: the first
/// hundred. A node without a pod network has no entry.
pub(crate) fn routes(cluster: &Cluster, own: &str, want: &ItemSet) -> Vec<RouteStatus> {
    let others = cluster.nodes.values().filter(|node| &*node.name != own);
    let pods = others.flat_map(|node| node.pod_cidrs.iter().map(|net| (&*node.name, *net)));
    let row = |(node, net): (&str, IpNet)| {
        let first = Item::Route { table: TABLE_MAIN, to: net, via: None, src: None };
        let mut gateways = String::new();
        if let Some(Item::Route { table: TABLE_MAIN, to, via: Some(via), .. }) =
            want.tail(&first).first()
            && *to == net
        {
            let addrs: Vec<String> = via.addrs().iter().map(ToString::to_string).collect();
            gateways = addrs.join(", ");
        }
        RouteStatus { node: node.to_string(), to: net.to_string(), via: gateways }
    };
    pods.take(MAX_ROUTES).map(row).collect()
}

/// The number of wake-ups since the start that the API did not cause.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wakes {
    /// Kernel notifications about links, addresses, routes and our nftables table.
    pub kernel: u64,
    /// Audits: complete comparisons with the kernel, by timer or for another reason.
    pub audits: u64,
}
