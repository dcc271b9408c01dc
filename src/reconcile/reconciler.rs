//! The reconciler. It runs a full pass when it must; between full passes it recomputes only the units
//! that an event dirtied.
//!
//! An event is recorded before the store applies it ([`Reconciler::remember`]); the next
//! [`Reconciler::incremental`] applies the difference that it made. BGP's routes come as one value, of
//! which [`Reconciler::learn`] applies the changed prefixes. [`Reconciler::audit`] rotates through all
//! units and compares them with the kernel, for changes that no notification reported.

use super::{
    Pass,
    drain::{Drains, drain, has_real},
    knowledge::{Difference, Knowledge, Synced, service_key},
    pass::{prepare_pass, record, remove_stale},
};
use crate::{
    collections::FlatSet,
    desired::{
        ClusterView, Unmet, is_removable, is_removable_service_item, routed_prefixes, unit::Unit,
    },
    error::{Error, Result},
    kernel::{Kernel, OnStep, Outcome, Scope, files},
    model::{
        bgp::Learned,
        cluster::{Cluster, Delta, Name},
        items::{Item, ItemSet, Protocol, ServiceKey},
        local::{Local, Options},
    },
    plan::{Step, plan},
};

/// An audit compares this many Services at a time; up to this many are audited with all else at once.
const AUDIT_PART: usize = 128;

/// Keeps the kernel of one node in the desired state.
pub struct Reconciler {
    kernel: Kernel,
    node: Box<str>,
    options: Options,
    learned: Learned,
    knowledge: Knowledge,
    drains: Drains,
    /// The last Service that the audit in progress compared; `None` if the next part is the first.
    audited: Option<Name>,
    unmet: Vec<Unmet>,
    /// The requests beside the kernel that cannot be honoured (see [`Reconciler::set_other_unmet`]).
    other_unmet: Vec<Unmet>,
    /// The host as the last full pass found it.
    local: Option<Local>,
    host_changed: bool,
}

/// The result of a pass.
#[derive(Debug, Default)]
pub struct PassReport {
    /// The number of refused steps.
    pub refused: usize,
    /// The number of stale UDP conntrack entries that were removed.
    pub flows: usize,
    /// The errors other than refused steps. None of them stopped the pass.
    pub errors: Vec<Error>,
    /// The desired state after a full pass; `None` after any other pass.
    pub want: Option<ItemSet>,
    /// The desired items of the Nodes, if an incremental pass computed them.
    pub nodes: Option<ItemSet>,
}

impl PassReport {
    /// Returns true if every step was applied and nothing else failed.
    pub fn is_ok(&self) -> bool {
        self.refused == 0 && self.errors.is_empty()
    }

    /// Adds the report of a pass that ran directly before.
    fn after(mut self, first: PassReport) -> PassReport {
        self.refused += first.refused;
        self.flows += first.flows;
        self.errors.extend(first.errors);
        self.want = self.want.or(first.want);
        self.nodes = self.nodes.or(first.nodes);
        self
    }

    /// Returns a callback that counts refused steps and passes every step on to `on_step`.
    fn counting<'d>(
        &'d mut self,
        on_step: OnStep<'d>,
    ) -> impl FnMut(&Step<'_>, &Outcome) + use<'d> {
        |step, outcome| {
            self.refused += usize::from(outcome.is_err());
            on_step(step, outcome);
        }
    }
}

impl Reconciler {
    /// Returns a reconciler that knows nothing about the kernel yet. `node` is the name of this node's
    /// Node object.
    pub fn new(kernel: Kernel, node: &str, options: Options) -> Reconciler {
        Reconciler {
            kernel,
            node: node.into(),
            options,
            learned: Learned::default(),
            knowledge: Knowledge::Unknown,
            drains: Drains::default(),
            audited: None,
            unmet: Vec::new(),
            other_unmet: Vec::new(),
            local: None,
            host_changed: false,
        }
    }

    /// Returns true if a full pass found this host changed since the last call.
    pub fn take_host_changed(&mut self) -> bool {
        std::mem::take(&mut self.host_changed)
    }

    /// Returns the host as the last full pass found it, even if that pass failed later.
    pub fn local(&self) -> Option<&Local> {
        self.local.as_ref()
    }

    /// Sets the requests beside the kernel (for example of BGP) that cannot be honoured.
    pub fn set_other_unmet(&mut self, unmet: &[Unmet]) {
        self.other_unmet = unmet.to_vec();
    }

    /// Returns the requests that cannot be honoured, as of the last pass.
    pub fn unmet(&self) -> impl Iterator<Item = &Unmet> + Clone {
        self.unmet.iter().chain(&self.other_unmet)
    }

    /// Returns true if the next pass must be a full one.
    pub fn needs_full_pass(&self) -> bool {
        matches!(self.knowledge, Knowledge::Unknown)
    }

    /// Returns true if real servers are draining.
    pub fn is_draining(&self) -> bool {
        !self.drains.is_empty()
    }

    /// Records what follows from `cluster` in the units that `delta` dirties. To be called by the store,
    /// before it applies the delta. After that either [`Reconciler::incremental`] applies the difference
    /// or a full pass is needed.
    pub fn remember(&mut self, cluster: &Cluster, delta: &Delta) {
        self.knowledge.remember(cluster, &self.learned, delta);
    }

    /// Dirties the Services whose real servers drain. Returns false if a full pass is needed instead.
    pub fn remember_drains(&mut self, cluster: &Cluster) -> bool {
        let Some(synced) = self.knowledge.synced() else { return false };
        let owners = self.drains.services().filter_map(|key| synced.claims.owner(&key).cloned());
        let delta = Delta { services: owners.collect(), ..Delta::default() };
        self.remember(cluster, &delta);
        !self.needs_full_pass()
    }

    /// Compares the kernel, or the part of it in `scope`, with the desired state and applies the
    /// difference. Fails if the kernel cannot be read or this node's own Node is not known; nothing is
    /// changed then.
    pub fn full(
        &mut self,
        cluster: &Cluster,
        scope: Scope,
        on_step: OnStep<'_>,
    ) -> Result<PassReport> {
        let mut first = PassReport::default();
        if scope == Scope::All {
            self.knowledge = Knowledge::Unknown; // until the pass has ended without an error
            self.audited = None;
        } else if !self.needs_full_pass() {
            // A dirty unit would be taken for a change that somebody else made.
            first = self.incremental(cluster, on_step)?;
            if first.want.is_some() {
                return Ok(first); // that was a full pass
            }
        }
        let pass = self.prepare(cluster, scope)?;
        Ok(self.apply(pass, scope, on_step).after(first))
    }

    fn prepare(&mut self, cluster: &Cluster, scope: Scope) -> Result<Pass> {
        prepare_pass(&mut self.kernel, cluster, &self.learned, &self.node, &self.options, scope)
    }

    fn apply(&mut self, mut pass: Pass, scope: Scope, on_step: OnStep<'_>) -> PassReport {
        let mut report = PassReport::default();
        let (flows, errors) = pass.apply(&mut self.kernel, scope, &mut report.counting(on_step));
        (report.flows, report.errors) = (flows, errors);
        report.errors.append(&mut pass.desired.errors);
        self.record_routed(&pass.desired.state);
        if scope != Scope::Table {
            self.unmet = pass.desired.unmet;
        }
        if matches!(scope, Scope::All | Scope::WithoutRealServers) {
            self.host_changed |= self.local.as_ref() != Some(&pass.local);
            self.local = Some(pass.local.clone());
            self.knowledge = Knowledge::Synced(Synced {
                local: pass.local,
                claims: pass.desired.claims,
                routes_exact: !pass.stuck,
            });
        } else if scope == Scope::Network
            && let Some(synced) = self.knowledge.synced_mut()
        {
            synced.routes_exact = !pass.stuck;
        }
        if scope == Scope::All {
            self.drains = pass.drains;
            pass.desired.state.extend(pass.draining);
            report.want = Some(pass.desired.state);
        }
        if !report.is_ok() {
            self.knowledge = Knowledge::Unknown;
        }
        report
    }

    /// Returns the number of parts in which everything is audited; 1 if an audit is one full pass.
    pub fn audit_parts(&self, cluster: &Cluster) -> u32 {
        let can_split = self.knowledge.synced().is_some_and(|s| !s.claims.is_contested());
        match cluster.services.len() {
            many if many > AUDIT_PART && can_split => 1 + many.div_ceil(AUDIT_PART) as u32,
            _ => 1,
        }
    }

    /// Audits the next part: compares it with the kernel and applies the difference. The first part is
    /// everything but the real servers, each further part is some Services. Errors as in
    /// [`Reconciler::full`].
    pub fn audit(&mut self, cluster: &Cluster, on_step: OnStep<'_>) -> Result<PassReport> {
        let first = self.incremental(cluster, on_step)?; // see `full`
        if self.audit_parts(cluster) == 1 {
            return self.full(cluster, Scope::All, on_step);
        }
        let Some(last) = self.audited.take() else {
            self.audited = Some(Name::default());
            let scope = Scope::WithoutRealServers;
            let pass = self.prepare(cluster, scope)?;
            // If a whole service is missing, more may be; a service that must go may have to drain.
            if pass.steps().iter().any(|step| matches!(step.item(), Item::Service { .. })) {
                return self.full(cluster, Scope::All, on_step);
            }
            return Ok(self.apply(pass, scope, on_step).after(first));
        };
        let rest = cluster.services.tail(&last).map(|(name, _)| name).filter(|name| **name != last);
        let names: Vec<&Name> = rest.take(AUDIT_PART).collect();
        self.audited =
            names.last().filter(|_| names.len() == AUDIT_PART).map(|name| (*name).clone());
        // An error from here on leaves nothing certain.
        let Knowledge::Synced(mut synced) = std::mem::take(&mut self.knowledge) else {
            return Ok(first);
        };
        let view = ClusterView::new(cluster, &self.learned, &synced.local)?;
        let mut items =
            |name: &Name| view.items_of(&Unit::Service(name.clone()), &mut synced.claims).items;
        let want: ItemSet = names.into_iter().flat_map(&mut items).collect();
        let mut have = self.kernel.served(&want)?;
        have.extend(want.iter().filter(|item| service_key(item).is_none()).cloned());
        let difference = Difference { have, want, ..Difference::default() };
        Ok(self.apply_services(cluster, synced, difference, on_step)?.after(first))
    }

    /// Applies the difference that the remembered events made, or runs a full pass if more may follow
    /// from them. Errors as in [`Reconciler::full`].
    pub fn incremental(&mut self, cluster: &Cluster, on_step: OnStep<'_>) -> Result<PassReport> {
        // An error from here on leaves nothing certain.
        let (mut synced, before) = match std::mem::take(&mut self.knowledge) {
            Knowledge::Unknown => return Ok(PassReport::default()),
            Knowledge::Synced(synced) => {
                self.knowledge = Knowledge::Synced(synced);
                return Ok(PassReport::default());
            }
            Knowledge::Dirty(synced, before) => (synced, before),
        };
        let Some(mut difference) = synced.difference(before, cluster, &self.learned)? else {
            return self.full(cluster, Scope::All, on_step);
        };
        let mut first = PassReport::default();
        if let Some((have, want)) = difference.nodes.take() {
            let is_wanted = |item: &Item| difference.want.contains(item);
            let applied = self.apply_exact(cluster, &synced, (&have, &want), is_wanted, on_step);
            let Some(report) = applied else {
                return self.full(cluster, Scope::All, on_step);
            };
            first = PassReport { nodes: Some(want), ..report };
        }
        self.unmet.retain(|unmet| difference.units.binary_search(&unmet.unit).is_err());
        self.unmet.append(&mut difference.unmet);
        if !difference.has_services {
            if first.is_ok() {
                self.knowledge = Knowledge::Synced(synced);
            }
            return Ok(first);
        }
        let keys = difference.service_keys();
        for real in
            self.drains.reals().filter(|r| service_key(r).is_some_and(|k| keys.contains(&k)))
        {
            difference.have.retain(|item| item.key() != real.key());
            difference.have.insert(real);
        }
        let report = self.apply_services(cluster, synced, difference, on_step)?.after(first);
        if !report.is_ok() {
            self.knowledge = Knowledge::Unknown;
        }
        Ok(report)
    }

    /// Takes over the routes that BGP learned and applies their difference. Errors as in
    /// [`Reconciler::full`].
    pub fn learn(
        &mut self,
        cluster: &Cluster,
        mut learned: Learned,
        on_step: OnStep<'_>,
    ) -> Result<PassReport> {
        let first = self.incremental(cluster, on_step)?; // while the remembered routes are still true
        let old = std::mem::take(&mut self.learned);
        let new_gone = learned.gone.iter().any(|net| !old.gone.contains(net));
        if !learned.complete {
            learned.gone.extend(old.gone.iter().copied());
        }
        self.learned = learned;
        let new = &self.learned;
        let only_routes = (&old.lost, old.complete) == (&new.lost, new.complete);
        if only_routes && !new_gone && old.routes == new.routes {
            return Ok(first);
        }
        if only_routes && let Some(report) = self.apply_routes(cluster, &old, on_step) {
            return Ok(report.after(first));
        }
        drop(old);
        Ok(self.full(cluster, Scope::Network, on_step)?.after(first))
    }

    /// Applies the routes that differ between `old` and what BGP learned since. `None` if more than these
    /// routes may differ; then nothing was changed.
    fn apply_routes(
        &mut self,
        cluster: &Cluster,
        old: &Learned,
        on_step: OnStep<'_>,
    ) -> Option<PassReport> {
        let Knowledge::Synced(synced) = std::mem::take(&mut self.knowledge) else { return None };
        let routes = synced.learned_difference(cluster, (old, &self.learned));
        let report = routes.and_then(|(have, want)| {
            self.apply_exact(cluster, &synced, (&have, &want), |_| false, on_step)
        });
        if report.as_ref().is_none_or(PassReport::is_ok) {
            self.knowledge = Knowledge::Synced(synced);
        }
        report
    }

    /// Applies the difference between items of the network that the kernel has and that are wanted. An
    /// item that `is_wanted` by others stays. Returns `None`, and changes nothing, if an item must stay
    /// because somebody may still claim it, or was kept before for that reason.
    fn apply_exact(
        &mut self,
        cluster: &Cluster,
        synced: &Synced,
        (have, want): (&ItemSet, &ItemSet),
        is_wanted: impl Fn(&Item) -> bool,
        on_step: OnStep<'_>,
    ) -> Option<PassReport> {
        let steps = plan(have, want, |item| !is_wanted(item));
        let keeps =
            |item: &Item| !is_removable(item, &cluster.doubtful, &self.learned, &synced.local);
        let keeps_any = steps.iter().any(|step| matches!(step, Step::Remove(item) if keeps(item)));
        if keeps_any || !synced.routes_exact {
            return None;
        }
        let mut report = PassReport::default();
        self.kernel.apply(&steps, &mut report.counting(on_step));
        self.record_routed(want);
        Some(report)
    }

    /// Records the prefixes that are routed in this run. If nobody claims one of them later, it is removed
    /// at once instead of after BGP's restart time.
    fn record_routed(&mut self, items: &ItemSet) {
        if self.options.peers && !self.learned.complete {
            self.learned.gone.extend(routed_prefixes(items));
        }
    }

    /// Applies the difference that Services made. After that the knowledge is `Synced` if all went well.
    fn apply_services(
        &mut self,
        cluster: &Cluster,
        synced: Synced,
        Difference { have, mut want, .. }: Difference,
        on_step: OnStep<'_>,
    ) -> Result<PassReport> {
        let removable =
            |item: &Item| is_removable_service_item(item, cluster, &synced.local, &synced.claims);
        self.drain(&have, &mut want, removable)?;
        let steps = plan(&have, &want, removable);
        let mut report = PassReport::default();
        report.errors.extend(record(&self.drains).err());
        let mut gone = Vec::new();
        let mut forget = |step: &Step, outcome: &Outcome| {
            on_step(step, outcome);
            if let (Step::Remove(Item::Real { of, addr, port, .. }), Ok(())) = (step, outcome) {
                gone.push((*of, *addr, *port));
            }
        };
        self.kernel.apply(&steps, &mut report.counting(&mut forget));
        self.drains.forget(&gone.into());
        if changes_udp_reals(&steps) {
            match remove_stale(&mut self.kernel, &want) {
                Ok(flows) => report.flows = flows,
                Err(e) => report.errors.push(e),
            }
        }
        // An address that one Service released may be what another Service asked for in vain.
        if report.is_ok() && !synced.claims.is_contested() {
            self.knowledge = Knowledge::Synced(synced);
        }
        Ok(report)
    }

    /// Adds to `want` the real servers that must go but still have connections, at weight 0.
    fn drain(
        &mut self,
        have: &ItemSet,
        want: &mut ItemSet,
        removable: impl Fn(&Item) -> bool,
    ) -> Result<()> {
        let keys: FlatSet<ServiceKey> = have.iter().chain(&*want).filter_map(service_key).collect();
        let (mine, others) = std::mem::take(&mut self.drains).split(&keys);
        let gone = |item: &&Item| {
            let Item::Real { of, addr, port, .. } = **item else { return false };
            !has_real(want, (of, addr, port))
        };
        let leaving: FlatSet<ServiceKey> =
            have.iter().filter(gone).filter_map(service_key).collect();
        let busy = self.kernel.connected(&leaving)?;
        let (now, grace) = (files::uptime(), self.options.grace);
        let have = have.iter().filter(|item| removable(item));
        let (draining, mine) = drain(have, want, &busy, &mine, now, grace);
        want.extend(draining);
        self.drains = others.with(mine);
        Ok(())
    }
}

/// Returns true if a step changes a UDP real server: conntrack entries of UDP may then lead to an endpoint
/// that is gone, or past IPVS.
fn changes_udp_reals(steps: &[Step]) -> bool {
    steps.iter().any(|step| {
        let Item::Real { of: ServiceKey::Address(of), .. } = step.item() else { return false };
        of.protocol == Protocol::Udp
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::items::{Forward, ServiceAddr};

    #[test]
    fn conntrack_is_searched_after_a_step_of_a_udp_real_server_alone() {
        let at = |protocol| ServiceAddr { addr: [10, 96, 0, 1].into(), protocol, port: 53 };
        let real = |of| {
            let (addr, forward) = ([10, 244, 0, 2].into(), Forward::Masq);
            Item::Real { of, addr, port: 53, weight: 1, forward }
        };
        let [tcp, udp, sctp] = Protocol::ALL.map(|protocol| real(at(protocol).into()));
        let marked = real(ServiceKey::FwMark { mark: 1 << 16, ipv4: true });
        let at = at(Protocol::Udp).into();
        let service = Item::Service { at, scheduler: "rr".into(), flags: 0, persistence: 0 };
        for step in [Step::Add, Step::Change, Step::Remove] {
            assert!(changes_udp_reals(&[step(&udp)]), "{}", step(&udp));
            assert!(changes_udp_reals(&[step(&tcp), step(&service), step(&udp)]));
            for other in [&tcp, &sctp, &marked, &service] {
                assert!(!changes_udp_reals(&[step(other)]), "{}", step(other));
            }
        }
        assert!(!changes_udp_reals(&[]));
    }

    #[test]
    fn the_report_of_two_passes_adds_up_their_counts_and_errors() {
        let pass = |refused, flows, error: Option<&str>| PassReport {
            refused,
            flows,
            errors: error.into_iter().map(|cause| Error::new("doing", cause)).collect(),
            ..PassReport::default()
        };
        let item = |name: &str| Some(ItemSet::from([Item::Module { name: name.into() }]));
        assert!(pass(0, 7, None).after(pass(0, 1, None)).is_ok());
        assert!(!pass(0, 0, None).after(pass(1, 0, None)).is_ok());
        assert!(!pass(0, 0, None).after(pass(0, 0, Some("first"))).is_ok());
        let first = PassReport { want: item("a"), nodes: item("b"), ..pass(1, 2, Some("first")) };
        let both = pass(3, 4, Some("second")).after(first);
        assert_eq!((both.refused, both.flows, both.errors.len()), (4, 6, 2));
        assert_eq!((both.want, both.nodes), (item("a"), item("b")));
        let first = PassReport { want: item("a"), nodes: item("b"), ..PassReport::default() };
        let second = PassReport { want: item("c"), nodes: item("d"), ..PassReport::default() };
        let both = second.after(first);
        assert_eq!((both.want, both.nodes), (item("c"), item("d")), "the later one");
    }
}
