//! What keeps a node right from one event to the next: whole looks, and between them what follows from
//! the objects that an event touches, and nothing else.
//!
//! After a look that left nothing undone the kernel holds what was wanted. Then a Service is worked
//! out as it was and as it is, and the difference is made; no state of the kernel is kept for it.

use std::net::IpAddr;

use super::{
    Pass,
    drain::{Drains, drain, has_real},
    pass::{record, remove_stale},
    prepare_pass,
};
use crate::{
    bgp::rib::Learned,
    collections::{FlatMap, FlatSet},
    desired::{
        Unmet,
        services::Claims,
        unit::{ClusterView, NodeItems, is_removable_service_item, release_claims},
    },
    error::{Error, Result},
    kernel::{Kernel, OnStep, Outcome, Scope, files},
    model::{
        cluster::{Cluster, Name, store::Delta},
        items::{Item, ItemSet, Protocol, ServiceKey},
        local::{Local, Options},
    },
    plan::{Step, plan},
};

/// More Services than this are cheaper worked out together.
const MANY: usize = 200;
/// So many Services are audited in one go; where there are no more of them, all is looked at.
const PART: usize = 128;

/// Keeps one node.
pub struct Reconciler {
    pub(super) kernel: Kernel,
    node: Box<str>,
    pub(super) options: Options,
    /// What BGP learned up to now.
    pub(super) learned: Learned,
    /// Whether the routes that are there are those that were wanted last, and no others of ours.
    pub(super) routed: bool,
    /// What the last look found; `None`: nothing is sure, and the next one is at everything.
    pub(super) sure: Option<Synced>,
    drains: Drains,
    /// The last Service that the audit under way has come to; `None`: the next one begins anew.
    audited: Option<Name>,
    /// Services that changed since, as they were.
    touched: FlatMap<Name, ItemSet>,
    /// The Nodes as they were before one of them changed.
    pub(super) nodes: Option<NodeItems>,
    unmet: Vec<Unmet>,
    /// What can't be honoured beside the kernel.
    also: Vec<Unmet>,
    /// This node as the last whole look found it.
    local: Option<Local>,
    /// Whether that changed.
    moved: bool,
}

pub(super) struct Synced {
    pub(super) local: Local,
    pub(super) claims: Claims,
}

/// What a look or a change came to.
#[derive(Debug, Default)]
pub struct PassReport {
    /// Steps that were refused.
    pub refused: usize,
    /// UDP flows that led astray and were removed.
    pub flows: usize,
    /// What went wrong beside the steps.
    pub errors: Vec<Error>,
    /// What is wanted in all, where everything was looked at.
    pub want: Option<ItemSet>,
    /// What is wanted of the Nodes, where they are what changed.
    pub nodes: Option<ItemSet>,
}

impl PassReport {
    /// Whether the kernel holds now what was wanted.
    pub fn is_well(&self) -> bool {
        self.refused == 0 && self.errors.is_empty()
    }
}

impl Reconciler {
    /// Nothing is looked at yet.
    pub fn new(kernel: Kernel, node: &str, options: Options) -> Reconciler {
        Reconciler {
            kernel,
            node: node.into(),
            options,
            learned: Learned::default(),
            routed: false,
            sure: None,
            drains: Drains::default(),
            audited: None,
            touched: FlatMap::new(),
            nodes: None,
            unmet: Vec::new(),
            also: Vec::new(),
            local: None,
            moved: false,
        }
    }

    /// The IPv6 addresses that were given and taken since this was asked last.
    pub fn addrs(&mut self) -> FlatSet<IpAddr> {
        self.kernel.addrs()
    }

    /// Whether this node was found to be another than before, since this was asked last.
    pub fn has_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// This node as the last whole look found it, whether that went well or not.
    pub fn local(&self) -> Option<&Local> {
        self.local.as_ref()
    }

    /// What can't be honoured beside the kernel is to be told with the rest.
    pub fn also(&mut self, unmet: &[Unmet]) {
        self.also = unmet.to_vec();
    }

    /// What can't be honoured, as of the last look and what changed since.
    pub fn unmet(&self) -> impl Iterator<Item = &Unmet> + Clone {
        self.unmet.iter().chain(&self.also)
    }

    /// Whether a whole look is due before anything else can be done.
    pub fn is_lost(&self) -> bool {
        self.sure.is_none()
    }

    /// Whether a real server is draining.
    pub fn is_draining(&self) -> bool {
        !self.drains.is_empty()
    }

    /// The cluster is about to change in this way. False: so much follows from it that a whole look is due
    /// instead.
    pub fn touch(&mut self, cluster: &Cluster, changes: &Delta) -> bool {
        (!changes.nodes || self.touch_nodes(cluster))
            && self.touch_services(cluster, &changes.services)
    }

    fn touch_services(&mut self, cluster: &Cluster, names: &FlatSet<Name>) -> bool {
        let Some(sure) = &mut self.sure else { return false };
        let fresh: Vec<&Name> = names.iter().filter(|n| !self.touched.contains_key(n)).collect();
        if self.touched.len() + fresh.len() > MANY || sure.claims.is_contested() {
            self.sure = None;
            return false;
        }
        if fresh.is_empty() {
            return true;
        }
        let Ok(moment) = ClusterView::of(cluster, &sure.local) else {
            self.sure = None;
            return false;
        };
        for name in fresh {
            let part = moment.part(name, &mut sure.claims);
            self.touched.insert(name.clone(), part.state);
        }
        true
    }

    /// The Services whose real servers drain are looked at again.
    pub fn touch_drains(&mut self, cluster: &Cluster) -> bool {
        let Some(sure) = &self.sure else { return false };
        let owners = self.drains.services().filter_map(|at| sure.claims.owner(&at).cloned());
        let owners: FlatSet<Name> = owners.collect();
        self.touch_services(cluster, &owners)
    }

    /// Looks at the kernel, or at a part of it, and makes it right. `done` hears of each step.
    pub fn look(
        &mut self,
        cluster: &Cluster,
        scope: Scope,
        done: OnStep<'_>,
    ) -> Result<PassReport> {
        let mut first = PassReport::default();
        if scope == Scope::All {
            // Not sure of anything until it has gone well.
            self.sure = None;
            self.touched.clear();
            self.nodes = None;
            self.audited = None;
        } else {
            first = self.nodes(cluster, done)?;
        }
        let pass = self.see(cluster, scope)?;
        Ok(self.take(pass, scope, done).after(first))
    }

    fn see(&mut self, cluster: &Cluster, scope: Scope) -> Result<Pass> {
        prepare_pass(&mut self.kernel, cluster, &self.learned, &self.node, &self.options, scope)
    }

    fn take(&mut self, mut pass: Pass, scope: Scope, done: OnStep<'_>) -> PassReport {
        let mut deed = PassReport::default();
        let (flows, errors) = pass.take(&mut self.kernel, scope, &mut deed.counting(done));
        deed.flows = flows;
        deed.errors = errors;
        deed.errors.append(&mut pass.desired.errors);
        self.claim(&pass.desired.state);
        if scope != Scope::Table {
            self.unmet = pass.desired.unmet;
            self.routed = !pass.stuck;
        }
        if matches!(scope, Scope::All | Scope::WithoutRealServers) {
            self.moved |= self.local.as_ref() != Some(&pass.local);
            self.local = Some(pass.local.clone());
            self.sure = Some(Synced { local: pass.local, claims: pass.desired.claims });
        }
        if scope == Scope::All {
            self.drains = pass.drains;
            pass.desired.state.extend(pass.draining);
            deed.want = Some(pass.desired.state);
        }
        if !deed.is_well() {
            self.sure = None;
        }
        deed
    }

    /// In how many parts everything is audited; in one where a whole look is due anyway.
    pub fn parts(&self, cluster: &Cluster) -> u32 {
        let alone = self.sure.as_ref().is_some_and(|sure| !sure.claims.is_contested());
        match cluster.services.len() {
            many if many > PART && alone => 1 + many.div_ceil(PART) as u32,
            _ => 1,
        }
    }

    /// Looks at the next part of everything and makes it right: where there are many Services, first
    /// at all but the real servers, then at some Services after another.
    pub fn audit(&mut self, cluster: &Cluster, done: OnStep<'_>) -> Result<PassReport> {
        let changed = self.changes(cluster, done)?; // or they would be taken for wrong
        if self.parts(cluster) == 1 {
            return self.look(cluster, Scope::All, done);
        }
        let Some(last) = self.audited.take() else {
            self.audited = Some(Name::default());
            let scope = Scope::WithoutRealServers;
            let pass = self.see(cluster, scope)?;
            // Who took a whole service away may have done more, and one that goes may have to drain.
            if pass.steps().iter().any(|step| matches!(step.item(), Item::Service { .. })) {
                return self.look(cluster, Scope::All, done);
            }
            return Ok(self.take(pass, scope, done).after(changed));
        };
        let rest = cluster.services.tail(&last).map(|(name, _)| name).filter(|name| **name != last);
        let names: Vec<&Name> = rest.take(PART).collect();
        self.audited = names.last().filter(|_| names.len() == PART).map(|name| (*name).clone());
        let Some(Synced { local, mut claims }) = self.sure.take() else { return Ok(changed) };
        let moment = ClusterView::of(cluster, &local)?;
        let want = names.into_iter().flat_map(|name| moment.part(name, &mut claims).state);
        let want: ItemSet = want.collect();
        let mut have = self.kernel.served(&want)?;
        have.extend(want.iter().filter(|item| service(item).is_none()).cloned());
        self.make(cluster, Synced { local, claims }, &have, want, done)
            .map(|deed| deed.after(changed))
    }

    /// Makes right what follows from all that was touched.
    pub fn changes(&mut self, cluster: &Cluster, done: OnStep<'_>) -> Result<PassReport> {
        let first = self.nodes(cluster, done)?;
        Ok(self.services(cluster, done)?.after(first))
    }

    fn services(&mut self, cluster: &Cluster, done: OnStep<'_>) -> Result<PassReport> {
        let touched = std::mem::take(&mut self.touched);
        if touched.is_empty() {
            return Ok(PassReport::default());
        }
        // What goes wrong from here on leaves nothing sure.
        let Some(Synced { local, mut claims }) = self.sure.take() else {
            return Ok(PassReport::default());
        };
        let (mut have, mut want, mut unmet) = (Vec::new(), Vec::new(), Vec::new());
        {
            let moment = ClusterView::of(cluster, &local)?;
            let mut parts = Vec::with_capacity(touched.len());
            for (name, before) in touched {
                let part = moment.part(&name, &mut claims);
                release_claims(&before, &part.state, &mut claims);
                parts.push(name);
                have.extend(before);
                want.extend(part.state);
                unmet.extend(part.unmet);
            }
            self.unmet.retain(|u| u.of.as_ref().is_none_or(|of| parts.binary_search(of).is_err()));
            self.unmet.append(&mut unmet);
        }
        let want = ItemSet::from(want);
        let known = |module: &&Item| match module {
            Item::Module { name } => {
                local.host.as_ref().is_some_and(|h| h.modules.contains_key(name))
            }
            _ => false,
        };
        have.extend(want.iter().filter(known).cloned());
        let services: FlatSet<ServiceKey> = have.iter().chain(&want).filter_map(service).collect();
        for real in
            self.drains.reals().filter(|r| service(r).is_some_and(|at| services.contains(&at)))
        {
            have.retain(|item| item.key() != real.key());
            have.push(real);
        }
        self.make(cluster, Synced { local, claims }, &have.into(), want, done)
    }

    /// Makes the difference between what some IPVS services have and what is wanted of them.
    fn make(
        &mut self,
        cluster: &Cluster,
        Synced { local, claims }: Synced,
        have: &ItemSet,
        mut want: ItemSet,
        done: OnStep<'_>,
    ) -> Result<PassReport> {
        let may_go = |item: &Item| is_removable_service_item(item, cluster, &local, &claims);
        self.drain(have, &mut want, may_go)?;
        let steps = plan(have, &want, may_go);
        let mut deed = PassReport::default();
        deed.errors.extend(record(&self.drains).err());
        let mut gone = Vec::new();
        let mut heard = |step: &Step, outcome: &Outcome| {
            done(step, outcome);
            if let (Step::Remove(Item::Real { of, addr, port, .. }), Ok(())) = (step, outcome) {
                gone.push((*of, *addr, *port));
            }
        };
        self.kernel.apply(&steps, &mut deed.counting(&mut heard));
        self.drains.forget(&gone.into());
        if leads_astray(&steps) {
            match remove_stale(&mut self.kernel, &want) {
                Ok(flows) => deed.flows = flows,
                Err(e) => deed.errors.push(e),
            }
        }
        // What one of them gave up, another one may have asked for in vain.
        if deed.is_well() && !claims.is_contested() {
            self.sure = Some(Synced { local, claims });
        }
        Ok(deed)
    }

    /// Lets the real servers that should go keep their connections.
    fn drain(
        &mut self,
        have: &ItemSet,
        want: &mut ItemSet,
        may_go: impl Fn(&Item) -> bool,
    ) -> Result<()> {
        let services: FlatSet<ServiceKey> = have.iter().chain(&*want).filter_map(service).collect();
        let (mine, others) = std::mem::take(&mut self.drains).split(&services);
        let gone = |item: &&Item| match **item {
            Item::Real { of, addr, port, .. } => !has_real(want, (of, addr, port)),
            _ => false,
        };
        let leaving: FlatSet<ServiceKey> = have.iter().filter(gone).filter_map(service).collect();
        let busy = self.kernel.connected(&leaving)?;
        let (now, grace) = (files::uptime(), self.options.grace);
        let have = have.iter().filter(|item| may_go(item));
        let (draining, mine) = drain(have, want, &busy, &mine, now, grace);
        want.extend(draining);
        self.drains = others.with(mine);
        Ok(())
    }
}

impl PassReport {
    /// Both of them.
    pub(super) fn after(mut self, first: PassReport) -> PassReport {
        self.refused += first.refused;
        self.flows += first.flows;
        self.errors.extend(first.errors);
        self.want = self.want.or(first.want);
        self.nodes = self.nodes.or(first.nodes);
        self
    }

    /// Counts what is refused, before who listens hears of it.
    pub(super) fn counting<'d>(
        &'d mut self,
        done: OnStep<'d>,
    ) -> impl FnMut(&Step<'_>, &Outcome) + 'd {
        |step, outcome| {
            self.refused += usize::from(outcome.is_err());
            done(step, outcome);
        }
    }
}

/// The IPVS service that an item is, or stands behind.
fn service(item: &Item) -> Option<ServiceKey> {
    match item {
        Item::Service { at, .. } | Item::Real { of: at, .. } => Some(*at),
        _ => None,
    }
}

/// Whether flows of UDP may go where nobody answers any more, or were never translated.
fn leads_astray(steps: &[Step]) -> bool {
    steps.iter().any(|step| match step.item() {
        Item::Real { of: ServiceKey::Address(of), .. } => of.protocol == Protocol::Udp,
        _ => false,
    })
}
