//! What the daemon says of itself: lines in the log, and the facts that others read.
//!
//! Something that goes on is told once: when it begins, when its text changes, and when it is over.

use std::{path::Path, sync::Arc, time::Duration};

use super::schedule::Work;
use crate::{
    api::{Api, snapshot},
    collections::FlatSet,
    desired::health::{HealthPorts, ports},
    error::Result,
    kernel::Outcome,
    log,
    model::cluster::{Change, ClusterStore, WatchUpdate},
    plan::Step,
    reconcile::{PassReport, Reconciler},
    report::{
        SharedStatus, StatusServer,
        status::{ClusterCounts, ProblemLines, StepKind, routes},
    },
};

/// A pass of more steps than this is told as a number.
const STEPS: usize = 12;
/// More lines than this about what goes wrong are for `kinglet status`.
const LINES: usize = 5;

/// Tells.
pub struct Reporter {
    desk: StatusServer,
    facts: SharedStatus,
    api: Arc<Api>,
    node: Box<str>,
    /// The steps of this pass, as far as they are told one by one.
    steps: Vec<String>,
    taken: usize,
    refused: ProblemLines,
    /// What was told of what is wrong, and is not over.
    told: FlatSet<String>,
}

impl Reporter {
    /// For one run of the daemon.
    pub fn new(desk: StatusServer, facts: SharedStatus, api: Arc<Api>, node: &str) -> Reporter {
        let (steps, told) = (Vec::new(), FlatSet::new());
        Reporter {
            desk,
            facts,
            api,
            node: node.into(),
            steps,
            taken: 0,
            refused: ProblemLines::default(),
            told,
        }
    }

    /// What is true from the start.
    pub fn start(&self, snapshot: Option<&Path>) {
        self.facts.write(|status| {
            status.api.server = self.api.server().to_owned();
            status.snapshot.in_use = true;
            status.snapshot.path =
                snapshot.map(|path| path.display().to_string()).unwrap_or_default();
        });
    }

    /// Where it writes down what it does.
    pub fn facts(&self) -> &SharedStatus {
        &self.facts
    }

    /// The API that is followed.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The loop lives.
    pub fn beat(&self) {
        self.facts.beat();
    }

    /// The kernel told of a change.
    pub fn kernel_event(&self) {
        self.facts.write(|status| status.wakes.kernel += 1);
    }

    /// The API said something.
    pub fn heard(&self, news: &WatchUpdate) {
        let facts = &self.facts;
        let now = facts.now();
        facts.write(|status| {
            let kind = status.followed(news.kind);
            match &news.what {
                Change::Unavailable(why) => kind.lost = Some(why.clone()),
                Change::Listed(reading) => {
                    if let Some(version) = reading.versions.get(&news.kind) {
                        kind.version.clone_from(version);
                    }
                }
                Change::Object { version, .. } | Change::UpToDate(version) => {
                    kind.version.clone_from(version);
                }
            }
            if !matches!(news.what, Change::Unavailable(_)) {
                kind.lost = None;
                kind.heard = Some(now);
            }
        });
    }

    /// A step was taken, or refused; `moved`: an event of the API asked for it.
    pub fn step(&mut self, step: &Step, outcome: &Outcome, moved: bool) {
        let did = match (outcome, step) {
            (Err(_), _) => StepKind::Refused,
            (_, Step::Add(_)) => StepKind::Add,
            (_, Step::Change(_)) => StepKind::Change,
            (_, Step::Remove(_)) => StepKind::Remove,
        };
        self.facts.write(|status| {
            status.step(did, step.item());
            if moved {
                status.moved(did, step.item());
            }
        });
        match outcome {
            Ok(()) => {
                self.taken += 1;
                if self.taken <= STEPS {
                    self.steps.push(step.to_string());
                }
            }
            Err(why) => self.refused.push(|| (step.to_string(), why.to_string())),
        }
    }

    /// A pass is over.
    pub fn pass(
        &mut self,
        work: Work,
        deed: &Result<PassReport>,
        known: &ClusterStore,
        keeper: &Reconciler,
        (took, lag): (Duration, Option<Duration>),
    ) {
        let steps = std::mem::take(&mut self.steps);
        match std::mem::take(&mut self.taken) {
            0..=STEPS => steps.iter().for_each(|step| log::info(format_args!("{step}"))),
            taken => log::info(format_args!("{taken} steps in {} ms", took.as_millis())),
        }
        let mut errors = ProblemLines::default();
        match deed {
            Ok(deed) => {
                if deed.flows > 0 {
                    let flows = deed.flows;
                    log::info(format_args!(
                        "{flows} flows of UDP Services led astray, and were removed"
                    ));
                }
                deed.errors.iter().for_each(|e| errors.push(|| (String::new(), e.to_string())));
            }
            Err(e) => errors.push(|| (String::new(), e.to_string())),
        }
        let mut unmet = ProblemLines::default();
        // Where Services are only read to be announced, another proxy answers.
        let serves = self.facts.read(|status| status.services);
        let ports = if serves { ports(&known.cluster, &self.node) } else { HealthPorts::new() };
        let shut = self.desk.ports(&ports);
        let all = keeper.unmet().chain(&shut);
        all.for_each(|u| unmet.push(|| (u.what.clone(), u.why.clone())));
        let mut complaints = ProblemLines::default();
        known.complaints().for_each(|bad| complaints.push(|| (String::new(), bad.to_string())));
        let refused = std::mem::take(&mut self.refused);
        self.changes(&errors, &refused, &unmet, &complaints);

        let facts = &self.facts;
        let now = facts.now();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        facts.write(|status| {
            let outcome = match deed {
                Ok(deed) => Ok(deed.is_well()),
                Err(e) => Err(e.to_string()),
            };
            status.pass.ended(now, micros(took), outcome);
            status.pass.lag = lag.map_or(status.pass.lag, micros);
            (status.errors, status.refused, status.unmet) = (errors, refused, unmet);
            status.complaints = complaints;
            status.leaving = known.cluster.nodes.get(&self.node).is_some_and(|node| node.leaving);
            status.snapshot.in_use = !known.is_complete();
            status.wakes.audits += u64::from(work == Work::Audit);
            let want = deed.as_ref().ok().and_then(|deed| deed.want.as_ref());
            let nodes = deed.as_ref().ok().and_then(|deed| deed.nodes.as_ref());
            if let Some(want) = want {
                status.want(want);
            }
            if let Some(want) = want.or(nodes) {
                status.cluster = ClusterCounts::of(&known.cluster);
                status.routes = routes(&known.cluster, &self.node, want);
            }
            self.traffic(status);
        });
    }

    /// What is said of the API's traffic.
    fn traffic(&self, status: &mut crate::report::Status) {
        let traffic = self.api.traffic();
        status.api.bytes = traffic.bytes.get();
        status.api.events = traffic.events.get();
        status.api.gone = traffic.expired.get();
        let verbs =
            [("list", &traffic.lists), ("watch", &traffic.watches), ("probe", &traffic.probes)];
        for (verb, outcomes) in verbs {
            status.api.requests(verb, &outcomes.by_result());
        }
    }

    /// The snapshot was written.
    pub fn saved(&self) {
        self.facts.write(|status| status.snapshot.written = snapshot::now());
    }

    /// Says what is new of what is wrong, and what is over.
    fn changes(
        &mut self,
        errors: &ProblemLines,
        refused: &ProblemLines,
        unmet: &ProblemLines,
        complaints: &ProblemLines,
    ) {
        let mut now = FlatSet::new();
        let mut more = 0;
        let lines = [("", errors), ("refused: ", refused), ("unmet: ", unmet), ("", complaints)];
        for (i, (head, lines)) in lines.into_iter().enumerate() {
            for line in &lines.told {
                let colon = if line.what.is_empty() { "" } else { ": " };
                let text = format!("{head}{}{colon}{}", line.what, line.why);
                if !self.told.contains(&text) {
                    match (more, i) {
                        (LINES.., _) => {}
                        (_, 0 | 1) => log::error(format_args!("{text}")),
                        _ => log::warn(format_args!("{text}")),
                    }
                    more += 1;
                }
                now.insert(text);
            }
        }
        if more > LINES {
            let more = more - LINES;
            log::warn(format_args!("{more} more like these; `kinglet status` tells them all"));
        }
        if !self.told.is_empty() && now.is_empty() {
            log::info(format_args!("all of it is well now"));
        }
        self.told = now;
    }
}
