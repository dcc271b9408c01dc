//! Reports what the daemon does: lines in the log, and the status that other threads read.
//!
//! A lasting problem is logged when it begins, when its text changes, and when it is over.

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

/// The most steps of a pass that are logged one by one; more steps are logged as a number.
const MAX_STEPS: usize = 12;
/// The most new problems that are logged after a pass; `kinglet status` shows all.
const MAX_PROBLEMS: usize = 5;

/// Writes the log and the status.
pub(super) struct Reporter {
    server: StatusServer,
    status: SharedStatus,
    api: Arc<Api>,
    node: Box<str>,
    /// The first steps of the pass in progress, as text.
    steps: Vec<String>,
    applied: usize,
    refused: ProblemLines,
    /// The problems that were logged and are not over.
    logged: FlatSet<String>,
}

impl Reporter {
    /// Returns a reporter for one run of the daemon.
    pub(super) fn new(
        server: StatusServer,
        status: SharedStatus,
        api: Arc<Api>,
        node: &str,
    ) -> Reporter {
        Reporter {
            server,
            status,
            api,
            node: node.into(),
            steps: Vec::new(),
            applied: 0,
            refused: ProblemLines::default(),
            logged: FlatSet::new(),
        }
    }

    /// Writes the facts that do not change in this run.
    pub(super) fn start(&self, snapshot: Option<&Path>) {
        self.status.write(|status| {
            status.api.server = self.api.server().to_owned();
            status.snapshot.in_use = true;
            status.snapshot.path =
                snapshot.map(|path| path.display().to_string()).unwrap_or_default();
        });
    }

    /// Returns the status that other threads read.
    pub(super) fn status(&self) -> &SharedStatus {
        &self.status
    }

    /// Returns the API whose traffic is reported.
    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// Records that the loop runs.
    pub(super) fn heartbeat(&self) {
        self.status.beat();
    }

    /// Counts a notification of the kernel that requires a pass.
    pub(super) fn kernel_event(&self) {
        self.status.write(|status| status.wakes.kernel += 1);
    }

    /// Records the progress of a watch.
    pub(super) fn watch_update(&self, update: &WatchUpdate) {
        let now = self.status.now();
        self.status.write(|status| {
            let kind = status.followed(update.kind);
            match &update.change {
                Change::Unavailable(why) => kind.lost = Some(why.clone()),
                Change::Listed(list) => {
                    if let Some(version) = list.versions.get(&update.kind) {
                        kind.version.clone_from(version);
                    }
                }
                Change::Object { version, .. } | Change::UpToDate(version) => {
                    kind.version.clone_from(version);
                }
            }
            if !matches!(update.change, Change::Unavailable(_)) {
                kind.lost = None;
                kind.heard = Some(now);
            }
        });
    }

    /// Counts a step. `from_api` is true if an event of the API asked for it.
    pub(super) fn step(&mut self, step: &Step, outcome: &Outcome, from_api: bool) {
        let kind = match (outcome, step) {
            (Err(_), _) => StepKind::Refused,
            (_, Step::Add(_)) => StepKind::Add,
            (_, Step::Change(_)) => StepKind::Change,
            (_, Step::Remove(_)) => StepKind::Remove,
        };
        self.status.write(|status| {
            status.step(kind, step.item());
            if from_api {
                status.moved(kind, step.item());
            }
        });
        match outcome {
            Ok(()) => {
                self.applied += 1;
                if self.applied <= MAX_STEPS {
                    self.steps.push(step.to_string());
                }
            }
            Err(refusal) => self.refused.push(|| (step.to_string(), refusal.to_string())),
        }
    }

    /// Reports a pass that has ended: its steps and problems in the log, all else in the status. `took` is
    /// the duration of the pass, `lag` the time since the first API update that it includes.
    pub(super) fn pass(
        &mut self,
        work: Work,
        report: &Result<PassReport>,
        store: &ClusterStore,
        reconciler: &Reconciler,
        (took, lag): (Duration, Option<Duration>),
    ) {
        let steps = std::mem::take(&mut self.steps);
        match std::mem::take(&mut self.applied) {
            0..=MAX_STEPS => steps.iter().for_each(|step| log::info(format_args!("{step}"))),
            applied => log::info(format_args!("{applied} steps in {} ms", took.as_millis())),
        }
        let mut errors = ProblemLines::default();
        match report {
            Ok(report) => {
                if report.flows > 0 {
                    let flows = report.flows;
                    log::info(format_args!("removed {flows} stale UDP conntrack entries"));
                }
                report.errors.iter().for_each(|e| errors.push(|| (String::new(), e.to_string())));
            }
            Err(e) => errors.push(|| (String::new(), e.to_string())),
        }
        let mut unmet = ProblemLines::default();
        // If Services are only read to be announced, another proxy answers health checks.
        let serves = self.status.read(|status| status.services);
        let ports = if serves { ports(&store.cluster, &self.node) } else { HealthPorts::new() };
        let not_open = self.server.ports(&ports);
        let all = reconciler.unmet().chain(&not_open);
        all.for_each(|u| unmet.push(|| (u.what.clone(), u.why.clone())));
        let mut complaints = ProblemLines::default();
        store.complaints().for_each(|bad| complaints.push(|| (String::new(), bad.to_string())));
        let refused = std::mem::take(&mut self.refused);
        self.log_changes(&errors, &refused, &unmet, &complaints);

        let now = self.status.now();
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.status.write(|status| {
            let outcome = match report {
                Ok(report) => Ok(report.is_ok()),
                Err(e) => Err(e.to_string()),
            };
            status.pass.ended(now, micros(took), outcome);
            status.pass.lag = lag.map_or(status.pass.lag, micros);
            (status.errors, status.refused, status.unmet) = (errors, refused, unmet);
            status.complaints = complaints;
            status.leaving = store.cluster.nodes.get(&self.node).is_some_and(|node| node.leaving);
            status.snapshot.in_use = !store.is_complete();
            status.wakes.audits += u64::from(work == Work::Audit);
            let want = report.as_ref().ok().and_then(|report| report.want.as_ref());
            let nodes = report.as_ref().ok().and_then(|report| report.nodes.as_ref());
            if let Some(want) = want {
                status.want(want);
            }
            if let Some(want) = want.or(nodes) {
                status.cluster = ClusterCounts::of(&store.cluster);
                status.routes = routes(&store.cluster, &self.node, want);
            }
            self.traffic(status);
        });
    }

    /// Writes the counters of the API's traffic.
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

    /// Records that the snapshot was made durable.
    pub(super) fn saved(&self) {
        self.status.write(|status| status.snapshot.written = snapshot::now());
    }

    /// Logs the problems that are new, and one line when all problems are over.
    fn log_changes(
        &mut self,
        errors: &ProblemLines,
        refused: &ProblemLines,
        unmet: &ProblemLines,
        complaints: &ProblemLines,
    ) {
        let mut now = FlatSet::new();
        let mut count = 0;
        let lines = [("", errors), ("refused: ", refused), ("unmet: ", unmet), ("", complaints)];
        for (i, (head, lines)) in lines.into_iter().enumerate() {
            for line in &lines.told {
                let colon = if line.what.is_empty() { "" } else { ": " };
                let text = format!("{head}{}{colon}{}", line.what, line.why);
                if !self.logged.contains(&text) {
                    match (count, i) {
                        (MAX_PROBLEMS.., _) => {}
                        (_, 0 | 1) => log::error(format_args!("{text}")),
                        _ => log::warn(format_args!("{text}")),
                    }
                    count += 1;
                }
                now.insert(text);
            }
        }
        if count > MAX_PROBLEMS {
            let more = count - MAX_PROBLEMS;
            log::warn(format_args!("{more} more problems like these; `kinglet status` shows all"));
        }
        if !self.logged.is_empty() && now.is_empty() {
            log::info(format_args!("all problems are over"));
        }
        self.logged = now;
    }
}
