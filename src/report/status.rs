//! What there is to say of a running kinglet. The daemon fills it in; everything that is shown is
//! made from it.
//!
//! Times are seconds since the daemon's start ([`super::Facts::now`]), except where they are said to
//! be Unix times. Lists are capped, so that a cluster of any size costs the same.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use super::lines::{Line, Lines};
use super::{bgp::Peer, text::span};
use crate::{
    cluster::{Cluster, Kind},
    state::{Item, State, TABLE_MAIN},
};

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    /// kinglet's own.
    pub version: String,
    /// The name of this node's Node object.
    pub node: String,
    /// The daemon's process.
    pub pid: u32,
    /// When the daemon started, by the clock of that time (Unix time).
    pub started: u64,
    /// Seconds since then, at the time of reading.
    pub uptime: u64,
    /// The loop has given no sign of life for so many seconds; `None`: it works.
    pub stuck: Option<u64>,
    /// How the API is followed: `watch`, or `poll 30s`.
    pub mode: String,
    /// Whether routes and the CNI configuration are kept.
    pub router: bool,
    /// Whether Services are served.
    pub services: bool,
    /// Whether network policy was asked for, which this version does not enforce.
    pub policy: bool,
    /// Whether the Node is being deleted.
    pub leaving: bool,
    /// What the API says.
    pub api: Api,
    /// The last good cluster on disk.
    pub snapshot: Snapshot,
    /// What is known of the cluster.
    pub cluster: Counts,
    /// The passes.
    pub pass: Pass,
    /// Items by kind, in the order of making.
    pub items: Vec<Items>,
    /// Steps of the last pass that the kernel refused.
    pub refused: Lines,
    /// Where no daemon runs: what the next pass would do.
    pub todo: Lines,
    /// What can't be honoured; nobody has to act for the rest to be right.
    pub unmet: Lines,
    /// What is broken on this node and needs someone to mend it.
    pub errors: Lines,
    /// Objects of the API that were not understood.
    pub complaints: Lines,
    /// The other nodes' pod networks.
    pub routes: Vec<Route>,
    /// The peers of the BGP speaker, where there is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub bgp: Vec<Peer>,
    /// What woke the loop.
    pub wakes: Wakes,
}

/// The API server.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Api {
    /// Its URL.
    pub server: String,
    /// Each kind that is read.
    pub kinds: Vec<Followed>,
    /// What was asked of it.
    pub requests: Vec<Requests>,
    /// Bytes that came, after gzip was undone.
    pub bytes: u64,
    /// Events of watches.
    pub events: u64,
    /// How often a resourceVersion was too old (410), so that a list was needed.
    pub gone: u64,
}

/// How far one kind is followed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Followed {
    /// `nodes`, `services`, `endpointslices`.
    pub kind: String,
    /// The resourceVersion that was reached.
    pub version: String,
    /// When the API last said anything of it; `None`: not in this run.
    pub heard: Option<u64>,
    /// Why it can't be followed now.
    pub lost: Option<String>,
}

/// Requests that ended alike.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Requests {
    /// `list`, `watch` or `probe`.
    pub verb: String,
    /// `ok`, `refused`, `failed` or `unanswered`.
    pub result: String,
    /// How many.
    pub count: u64,
}

impl Api {
    /// How many requests of a verb ended how, so far.
    pub fn requests(&mut self, verb: &str, results: &[(&str, u64)]) {
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

/// The last good cluster on disk.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshot {
    /// Its file; empty: there is none.
    pub path: String,
    /// When it was written (Unix time); 0: never.
    pub written: u64,
    /// Whether this node lives from it alone: true until the API has told of every kind.
    pub in_use: bool,
}

/// How much there is in the cluster.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[allow(missing_docs)]
pub struct Counts {
    pub nodes: usize,
    pub services: usize,
    pub slices: usize,
    pub endpoints: usize,
}

impl Counts {
    /// Counts.
    pub fn of(cluster: &Cluster) -> Counts {
        Counts {
            nodes: cluster.nodes.len(),
            services: cluster.services.len(),
            slices: cluster.slices.len(),
            endpoints: cluster.slices.values().map(|slice| slice.endpoints.len()).sum(),
        }
    }
}

/// The passes so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pass {
    /// How many.
    pub count: u64,
    /// How many of them failed, or had a step refused.
    pub failures: u64,
    /// When the last one ended.
    pub at: Option<u64>,
    /// When the last one ended in which all went well.
    pub good: Option<u64>,
    /// How long the last one took, in microseconds.
    pub micros: u64,
    /// How long after the API told of the last change the kernel held it, in microseconds.
    pub lag: u64,
    /// How long all of them took.
    pub micros_sum: u64,
    /// Why the last one could not be made at all.
    pub failed: Option<String>,
}

impl Pass {
    /// One more has ended. `Err`: it could not be made; `Ok(false)`: something of it went wrong.
    pub fn ended(&mut self, now: u64, micros: u64, outcome: Result<bool, String>) {
        let well = outcome == Ok(true);
        self.count += 1;
        self.failures += u64::from(!well);
        self.at = Some(now);
        if well {
            self.good = Some(now);
        }
        self.micros = micros;
        self.micros_sum += micros;
        self.failed = outcome.err();
    }
}

/// What is known of one kind of item.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Items {
    /// As in the JSON of a plan: `route`, `service`…
    pub kind: String,
    /// How many should be there.
    pub wanted: u64,
    /// How many were made since the start.
    pub added: u64,
    /// How many were changed in place.
    pub changed: u64,
    /// How many were taken away.
    pub removed: u64,
    /// How many steps the kernel refused.
    pub refused: u64,
}

/// The kinds of item in their order.
const KINDS: [&str; 13] = [
    "module", "link", "hairpin", "sysctl", "table", "element", "accept", "timeout", "service",
    "real", "addr", "route", "file",
];

fn kind(item: &Item) -> usize {
    match item {
        Item::Module { .. } => 0,
        Item::Link { .. } => 1,
        Item::Hairpin { .. } => 2,
        Item::Sysctl { .. } => 3,
        Item::Table { .. } => 4,
        Item::Element { .. } => 5,
        Item::Accept { .. } => 6,
        Item::Timeout { .. } => 7,
        Item::Service { .. } => 8,
        Item::Real { .. } => 9,
        Item::Addr { .. } => 10,
        Item::Route { .. } => 11,
        Item::File { .. } => 12,
    }
}

/// A silence of the API that is no longer than this many seconds is nothing wrong.
const SILENCE: u64 = 60;

/// What a step did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Did {
    Add,
    Change,
    Remove,
    Refused,
}

impl Status {
    /// The row of an item's kind.
    fn row(&mut self, item: &Item) -> &mut Items {
        if self.items.len() != KINDS.len() {
            let row = |kind: &str| Items { kind: kind.into(), ..Items::default() };
            self.items = KINDS.into_iter().map(row).collect();
        }
        &mut self.items[kind(item)]
    }

    /// Counts a step.
    pub fn step(&mut self, did: Did, item: &Item) {
        let row = self.row(item);
        match did {
            Did::Add => row.added += 1,
            Did::Change => row.changed += 1,
            Did::Remove => row.removed += 1,
            Did::Refused => row.refused += 1,
        }
    }

    /// Counts what is wanted since an event, which alone can make it another number between two looks
    /// at everything.
    pub fn moved(&mut self, did: Did, item: &Item) {
        let row = self.row(item);
        match did {
            Did::Add => row.wanted += 1,
            Did::Remove => row.wanted = row.wanted.saturating_sub(1),
            Did::Change | Did::Refused => {}
        }
    }

    /// Counts what is wanted.
    pub fn want(&mut self, want: &State) {
        self.items.iter_mut().for_each(|row| row.wanted = 0);
        want.iter().for_each(|item| self.row(item).wanted += 1);
    }

    /// Why this node is not right; nothing: it is, as far as can be known. What can't be honoured is
    /// not counted, and neither is a short silence of the API.
    pub fn wrongs(&self) -> Vec<String> {
        let mut wrongs = Vec::new();
        if let Some(stuck) = self.stuck {
            wrongs.push(format!("the daemon's loop has been stuck for {}", span(stuck)));
        }
        let silent = |f: &Followed| f.heard.map(|at| self.uptime.saturating_sub(at));
        let lost = |f: &&Followed| match silent(f) {
            None => true,
            Some(seconds) => f.lost.is_some() && seconds > SILENCE,
        };
        let lost: Vec<&Followed> = self.api.kinds.iter().filter(lost).collect();
        if let Some(first) = lost.first() {
            let kinds: Vec<&str> = lost.iter().map(|f| &*f.kind).collect();
            let since = silent(first).map_or("in this run".into(), |s| format!("for {}", span(s)));
            let why = first.lost.as_ref().map_or(String::new(), |why| format!(": {why}"));
            wrongs.push(format!("the API has not told of {} {since}{why}", kinds.join(", ")));
        }
        // Where no daemon runs there are no passes.
        let good = self.pass.good.is_some() || self.pid == 0;
        match &self.pass.failed {
            Some(why) => wrongs.push(format!("the last pass could not be made: {why}")),
            None if !good => wrongs.push("no pass has gone well yet".into()),
            None => {}
        }
        let many = |n: usize, word: &str| format!("{n} {word}{}", if n == 1 { "" } else { "s" });
        match self.todo.count() {
            0 => {}
            n => wrongs.push(format!("the next pass has {} to take", many(n, "step"))),
        }
        match self.refused.count() {
            0 => {}
            n => wrongs.push(format!("the kernel refused {}", many(n, "step"))),
        }
        match self.errors.count() {
            0 => {}
            1 => wrongs.push("1 thing is broken here".into()),
            n => wrongs.push(format!("{n} things are broken here")),
        }
        wrongs
    }

    /// What is known of a kind that is followed.
    pub fn followed(&mut self, kind: Kind) -> &mut Followed {
        let name = kind.plural();
        let kinds = &mut self.api.kinds;
        let at = kinds.iter().position(|f| f.kind == name).unwrap_or_else(|| {
            kinds.push(Followed { kind: name.into(), ..Followed::default() });
            kinds.len() - 1
        });
        &mut kinds[at]
    }
}

/// The way to another node's pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Route {
    /// The node.
    pub node: String,
    /// Its pod network.
    pub to: String,
    /// The gateway, or several of them with commas between; empty: there is no route.
    pub via: String,
}

/// More routes than these are not listed.
const ROUTES: usize = 100;

/// The ways to the pods of all nodes but one, from what is wanted: the first hundred of them. Nodes
/// without a pod network are not there.
pub fn routes(cluster: &Cluster, own: &str, want: &State) -> Vec<Route> {
    let others = cluster.nodes.values().filter(|node| &*node.name != own);
    let pods = others.flat_map(|node| node.pod_cidrs.iter().map(|net| (&*node.name, *net)));
    let row = |(node, net): (&str, IpNet)| {
        let first = Item::Route { table: TABLE_MAIN, to: net, via: None, src: None };
        let via = match want.tail(&first).first() {
            Some(Item::Route { table: TABLE_MAIN, to, via: Some(via), .. }) if *to == net => {
                let addrs: Vec<String> = via.addrs().iter().map(ToString::to_string).collect();
                addrs.join(", ")
            }
            _ => String::new(),
        };
        Route { node: node.to_string(), to: net.to_string(), via }
    };
    pods.take(ROUTES).map(row).collect()
}

/// What woke the loop since its start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Wakes {
    /// Events of the kernel about links, addresses, routes and our table.
    pub kernel: u64,
    /// Whole looks at the kernel, because it was time or for another reason.
    pub audits: u64,
}
