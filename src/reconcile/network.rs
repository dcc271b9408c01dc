//! Routes that BGP learned, and Nodes: where they are all that changed, nothing else is looked at.

use super::reconciler::{PassReport, Reconciler, Synced};
use crate::{
    bgp::rib::Learned,
    collections::changed_keys,
    desired::{
        is_removable,
        unit::{ClusterView, NodeItems},
    },
    error::Result,
    kernel::{OnStep, Scope},
    model::{
        cluster::Cluster,
        items::{Item, ItemSet, TABLE_MAIN},
    },
    plan::{Step, plan},
};

impl Reconciler {
    /// Holds from now on what BGP learned, and makes the node right: where some routes are all that
    /// changed, without a look at the others.
    pub fn learn(
        &mut self,
        cluster: &Cluster,
        mut learned: Learned,
        done: OnStep<'_>,
    ) -> Result<PassReport> {
        let first = self.nodes(cluster, done)?;
        let old = std::mem::take(&mut self.learned);
        let new_gone = learned.gone.iter().any(|net| !old.gone.contains(net));
        if !learned.complete {
            learned.gone.extend(old.gone.iter().copied());
        }
        self.learned = learned;
        let new = &self.learned;
        let alone = (&old.lost, old.complete) == (&new.lost, new.complete);
        if alone && !new_gone && old.routes == new.routes {
            return Ok(first);
        }
        let rerouted = if alone { self.rerouted(cluster, &old) } else { None };
        drop(old);
        let deed = rerouted.and_then(|(have, want)| self.step(cluster, &have, &want, done));
        if let Some(deed) = deed {
            return Ok(deed.after(first));
        }
        self.routed = false;
        Ok(self.look(cluster, Scope::Network, done)?.after(first))
    }

    /// The routes that are other than they were with the `old`, as they are there and as they are wanted.
    fn rerouted(&self, cluster: &Cluster, old: &Learned) -> Option<(ItemSet, ItemSet)> {
        let Synced { local, claims } = self.sure.as_ref()?;
        let [old_routes, routes] =
            [old, &self.learned].map(|learned| learned.routes.iter().map(|(net, via)| (*net, via)));
        let nets = changed_keys(old_routes, routes);
        ClusterView::of(cluster, local).ok()?.reroute((old, &self.learned), &nets, claims)
    }

    /// One of the Nodes is about to change. False: a whole look is due instead.
    pub(super) fn touch_nodes(&mut self, cluster: &Cluster) -> bool {
        let Some(sure) = &self.sure else { return false };
        if self.nodes.is_none() {
            let moment = ClusterView::of(cluster, &sure.local);
            self.nodes = moment.ok().map(|moment| moment.nodes(&self.learned));
        }
        self.nodes.is_some()
    }

    /// Makes right what follows from the Nodes, where one of them changed: before anything else that would
    /// find them as they are now.
    pub(super) fn nodes(&mut self, cluster: &Cluster, done: OnStep<'_>) -> Result<PassReport> {
        let Some(before) = self.nodes.take() else { return Ok(PassReport::default()) };
        let deed = self.renode(cluster, &before, done);
        deed.map_or_else(|| self.look(cluster, Scope::All, done), Ok)
    }

    /// As they were before, and are now; `None` where only a whole look can make it right.
    fn renode(
        &mut self,
        cluster: &Cluster,
        before: &NodeItems,
        done: OnStep<'_>,
    ) -> Option<PassReport> {
        let Synced { local, claims } = self.sure.as_mut()?;
        let want = ClusterView::of(cluster, local).ok()?.renode(before, &self.learned, claims)?;
        let deed = self.step(cluster, &before.state, &want, done)?;
        Some(PassReport { nodes: Some(want), ..deed })
    }

    /// Makes the difference between what is there of the network and what is wanted of it; `None` where
    /// what should go may not, or may have been kept before.
    fn step(
        &mut self,
        cluster: &Cluster,
        have: &ItemSet,
        want: &ItemSet,
        done: OnStep<'_>,
    ) -> Option<PassReport> {
        let routed = std::mem::take(&mut self.routed);
        let Synced { local, .. } = self.sure.as_ref().filter(|_| routed)?;
        let steps = plan(have, want, |_| true);
        let may = |item: &Item| is_removable(item, &cluster.doubtful, &self.learned, local);
        if steps.iter().any(|step| matches!(step, Step::Remove(item) if !may(item))) {
            return None;
        }
        let mut deed = PassReport::default();
        self.kernel.apply(&steps, &mut deed.counting(done));
        self.claim(want);
        self.routed = deed.is_well();
        if !self.routed {
            self.sure = None;
        }
        Some(deed)
    }

    /// Of what is claimed in this run nobody needs to wait whether somebody will claim it, once it is
    /// not any more.
    pub(super) fn claim(&mut self, state: &ItemSet) {
        if self.options.peers && !self.learned.complete {
            self.learned.gone.extend(state.iter().filter_map(|item| match item {
                Item::Route { table: TABLE_MAIN, to, .. } => Some(*to),
                _ => None,
            }));
        }
    }
}
