//! A full pass: observes the kernel, computes the desired state, and plans the difference.

use super::{
    drain::{Drains, drain},
    stale_flows::{is_stale, serving},
};
use crate::{
    bgp::rib::Learned,
    desired::{Desired, desired, desired_of, is_removable},
    error::{Doing, Error, Result},
    kernel::{
        Kernel, OnStep, Scope,
        files::{self, DRAINS},
    },
    model::{
        cluster::Cluster,
        items::{Item, ItemSet, Observed},
        local::{Local, Options},
    },
    plan::{Step, plan},
};

/// What one look found, and what is to be done about it.
#[derive(Debug)]
pub struct Pass {
    /// What this node is and was told.
    pub local: Local,
    /// What its kernel should hold.
    pub desired: Desired,
    /// What it does hold of ours, without what is unwanted and may not be taken away.
    pub have: Observed,
    /// Real servers that keep their connections for a while, as they are wanted meanwhile.
    pub draining: ItemSet,
    /// The record of those: to be written down before the steps are taken.
    pub drains: Drains,
    /// Whether something unwanted may not be taken away.
    pub stuck: bool,
}

/// Looks at the kernel of this node, or at a part of it, and plans for that, with what BGP learned.
/// Nothing is changed.
pub fn prepare_pass(
    kernel: &mut Kernel,
    cluster: &Cluster,
    learned: &Learned,
    node: &str,
    options: &Options,
    scope: Scope,
) -> Result<Pass> {
    let host = Some(kernel.host(options)?);
    let local = Local { node: node.into(), options: options.clone(), host };
    let desired = desired_of(cluster, learned, &local, &|item| scope.holds(item))?;
    let (have, busy) = kernel.observe(options, &desired.state, scope)?;
    let mut pass = pass(cluster, learned, local, desired, have);
    if options.services && scope == Scope::All {
        let known = files::read(DRAINS).map(|text| Drains::read(&text)).unwrap_or_default();
        let (now, grace) = (files::uptime(), options.grace);
        let (have, want) = (&pass.have.others, &pass.desired.state);
        (pass.draining, pass.drains) = drain(have, want, &busy, &known, now, grace);
    }
    Ok(pass)
}

/// Writes down what drains, where something else stands there.
pub(super) fn record(drains: &Drains) -> Result<()> {
    let (text, nothing) = (drains.text(), Drains::default().text());
    if files::read(DRAINS).unwrap_or(nothing) == text {
        return Ok(());
    }
    files::write(DRAINS, &text).doing(|| format!("writing {DRAINS}"))
}

/// Removes the flows of UDP Services that lead elsewhere than is wanted, and says how many went.
pub(super) fn remove_stale(kernel: &mut Kernel, want: &ItemSet) -> Result<usize> {
    match serving(want) {
        nothing if nothing.is_empty() => Ok(0),
        serving => kernel.remove_flows(|flow| is_stale(flow, &serving)),
    }
}

impl Pass {
    /// How to get from what is to what should be.
    pub fn steps(&self) -> Vec<Step<'_>> {
        let mut want: Vec<&Item> = self.have.lacking(&self.desired.state).collect();
        want.extend(&self.draining);
        want.sort_unstable();
        plan(&self.have.others, want, |_| true)
    }

    /// Makes it happen: the record of what drains first, then the steps, and at last the flows of UDP
    /// Services that lead to where nobody answers any more. `done` hears of each step. Given are the
    /// number of those flows, and what went wrong beside the steps, which nothing of it stops.
    pub fn take(&self, kernel: &mut Kernel, scope: Scope, done: OnStep<'_>) -> (usize, Vec<Error>) {
        let services = self.local.options.services && scope == Scope::All;
        let recorded = if services { record(&self.drains) } else { Ok(()) };
        kernel.apply(&self.steps(), done);
        let flows = if services { remove_stale(kernel, &self.desired.state) } else { Ok(0) };
        let (flows, failed) = flows.map_or_else(|e| (0, Some(e)), |flows| (flows, None));
        (flows, recorded.err().into_iter().chain(failed).collect())
    }
}

/// Plans for any node of the cluster from what was once seen of it: `have` is empty and `local.host`
/// `None` where nothing was. What BGP would bring, nobody knows.
pub fn prepare_offline(cluster: &Cluster, local: Local, have: ItemSet) -> Result<Pass> {
    let learned = &Learned::default();
    let desired = desired(cluster, learned, &local)?;
    Ok(pass(cluster, learned, local, desired, have.into()))
}

fn pass(
    cluster: &Cluster,
    learned: &Learned,
    local: Local,
    desired: Desired,
    mut have: Observed,
) -> Pass {
    let stays = |item: &Item| !is_removable(item, &cluster.doubtful, learned, &local);
    let steps = plan(&have.others, have.lacking(&desired.state), stays);
    let stuck = steps.iter().filter(|step| matches!(step, Step::Remove(_)));
    let stuck: ItemSet = stuck.map(|step| step.item().clone()).collect();
    have.others.retain(|item| !stuck.contains(item));
    let (draining, drains) = (ItemSet::new(), Drains::default());
    Pass { local, desired, have, draining, drains, stuck: !stuck.is_empty() }
}
