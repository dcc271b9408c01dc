//! A full pass: observes the kernel, computes the desired state, and plans the difference.

use super::{
    drain::{Drains, drain},
    stale_flows::{is_stale, serving},
};
use crate::{
    desired::{Desired, desired, desired_of, is_removable},
    error::{Doing, Error, Result},
    kernel::{
        Kernel, OnStep, Scope,
        files::{self, DRAINS},
    },
    model::{
        bgp::Learned,
        cluster::Cluster,
        items::{Item, ItemSet, Observed},
        local::{Local, Options},
    },
    plan::{Step, plan},
};

/// A prepared pass: the observed and the desired state, before anything is applied.
#[derive(Debug)]
pub struct Pass {
    /// The host and the options.
    pub local: Local,
    /// The desired state.
    pub desired: Desired,
    /// The observed state, without the unwanted items that may not be removed.
    pub have: Observed,
    /// The real servers that must go but still have connections, at weight 0.
    pub draining: ItemSet,
    /// The record of the draining real servers. It is written before the steps are applied.
    pub drains: Drains,
    /// True if an unwanted item may not be removed.
    pub stuck: bool,
}

/// Observes the kernel, or the part of it in `scope`, and computes the desired state of the same part.
/// Nothing is changed. Fails if the kernel cannot be read or this node's own Node is not known.
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

/// Writes the record of draining real servers if the file has other content.
pub(super) fn record(drains: &Drains) -> Result<()> {
    let (text, nothing) = (drains.text(), Drains::default().text());
    if files::read(DRAINS).unwrap_or(nothing) == text {
        return Ok(());
    }
    files::write(DRAINS, &text).doing(|| format!("writing {DRAINS}"))
}

/// Deletes the conntrack entries of UDP Services that lead to an endpoint that is not wanted. Returns the
/// number of deleted entries.
pub(super) fn remove_stale(kernel: &mut Kernel, want: &ItemSet) -> Result<usize> {
    match serving(want) {
        nothing if nothing.is_empty() => Ok(0),
        serving => kernel.remove_flows(|flow| is_stale(flow, &serving)),
    }
}

impl Pass {
    /// Returns the steps from the observed to the desired state.
    pub fn steps(&self) -> Vec<Step<'_>> {
        let mut want: Vec<&Item> = self.have.lacking(&self.desired.state).collect();
        want.extend(&self.draining);
        want.sort_unstable();
        plan(&self.have.others, want, |_| true)
    }

    /// Applies the plan: writes the drain record, applies the steps, deletes stale UDP conntrack entries.
    /// `on_step` is called after each step. Returns the number of entries deleted and any errors other
    /// than refused steps; an error does not stop the remaining work.
    pub fn apply(
        &self,
        kernel: &mut Kernel,
        scope: Scope,
        on_step: OnStep<'_>,
    ) -> (usize, Vec<Error>) {
        let services = self.local.options.services && scope == Scope::All;
        let recorded = if services { record(&self.drains) } else { Ok(()) };
        kernel.apply(&self.steps(), on_step);
        let flows = if services { remove_stale(kernel, &self.desired.state) } else { Ok(0) };
        let (flows, failed) = flows.map_or_else(|e| (0, Some(e)), |flows| (flows, None));
        (flows, recorded.err().into_iter().chain(failed).collect())
    }
}

/// Plans for any node of the cluster without its kernel: `have` is its observed state if it is known, for
/// example from a dump, otherwise empty, and `local.host` is `None` then. Routes of BGP are not included.
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
