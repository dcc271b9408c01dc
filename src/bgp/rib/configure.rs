//! Applies a new configuration to a table that is in use.
//!
//! [`Rib::configure`] reapplies the import policy to the stored paths, adds and removes originated
//! networks, and schedules the advertisements that the new export policy changes. The speaker starts and
//! ends sessions; changes that need a new session, for example of the hold time, are not handled here.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;

use super::{
    Rib,
    peer_table::{PeerEntry, PeerIndex},
    table::SweepAction,
};
use crate::{
    bgp::policy::{self, LocalKind, RouteRejectReason},
    model::bgp::Config,
};

impl Rib {
    /// Applies a new configuration. Returns the peers to which a ROUTE-REFRESH (RFC 2918) must be sent:
    /// refused paths are not stored, and the new import policy may accept some of them.
    pub fn configure(&mut self, config: Arc<Config>) -> Vec<IpAddr> {
        if *self.config == *config {
            return Vec::new();
        }
        let old = std::mem::replace(&mut self.config, config);
        let config = Arc::clone(&self.config);
        let mut client_changed = false;
        let mut changed_role = Vec::new();
        for entry in self.peers.iter_mut() {
            let session = &mut entry.session;
            let Some(peer) = config.peers.get(&session.addr) else { continue };
            let role = (peer.is_outside(), peer.client);
            if role != (session.external, session.client) {
                client_changed |= session.client != peer.client;
                changed_role.push(session.addr);
                (session.external, session.client) = role;
            }
        }
        let own_changed = identity(&old) != identity(&config);
        let import_changed =
            own_changed || old.import != config.import || old.origin.pods != config.origin.pods;
        if import_changed {
            self.reapply_import_policy();
        }
        self.update_originated(&old);

        let (was, is) = (&old.export, &config.export);
        let reflects = config.own.cluster_id.is_some();
        let outside_changed = (was.pods_outside, &was.communities, was.prepend, was.next_hop_self)
            != (is.pods_outside, &is.communities, is.prepend, is.next_hop_self);
        let inside_changed =
            was.pods_inside != is.pods_inside || reflects && was.next_hop_self != is.next_hop_self;
        let all_changed = own_changed || reflects && client_changed;
        for entry in self.peers.iter_mut().filter(|entry| entry.up) {
            let session = &entry.session;
            let export_changed = if session.external { outside_changed } else { inside_changed };
            if all_changed || export_changed || changed_role.contains(&session.addr) {
                session.families.iter().for_each(|family| entry.adj_rib_out.start_walk(*family));
            }
        }
        let up = self.peers.iter().filter(|entry| entry.up && import_changed);
        let refresh = up.filter(|entry| may_accept_more(&config, entry, own_changed));
        refresh.map(|entry| entry.session.addr).collect()
    }

    /// Removes the paths that the import policy no longer accepts, and checks again if next hops are on a
    /// link.
    fn reapply_import_policy(&mut self) {
        let config = Arc::clone(&self.config);
        let mut refused: Vec<(PeerIndex, IpNet, RouteRejectReason)> = Vec::new();
        self.sweep(None, false, &mut |peers, net, path| {
            let Some(from) = peers.session(path.from) else { return SweepAction::Keep };
            path.resolvable = policy::is_on_link(&config, &path.attrs.next_hop);
            match policy::check_import(&config, from, net, &path.attrs) {
                Some(refusal) => {
                    // A stale path is not recorded, because it was not received in this session.
                    refused.extend((!path.stale).then_some((path.from, *net, refusal)));
                    SweepAction::Remove
                }
                None => SweepAction::Keep,
            }
        });
        for (peer, net, refusal) in refused {
            self.record_refusal(peer, net, refusal);
        }
        self.peers.remove_unused();
    }

    /// Adds and removes originated networks so that they match the new configuration. A network whose
    /// kind changed is added to the journal, because other peers may now receive it.
    fn update_originated(&mut self, old: &Config) {
        let config = Arc::clone(&self.config);
        let none = LocalKind::default();
        for net in old.origin.pods.iter().chain(&old.origin.services) {
            if LocalKind::of(&config, net) == none {
                self.remove_path(PeerIndex::LOCAL, net);
            }
        }
        for net in config.origin.pods.iter().chain(&config.origin.services) {
            let was = LocalKind::of(old, net);
            if was == none {
                self.originate(*net);
            } else if was != LocalKind::of(&config, net)
                && let Some(dest) = self.table.get_mut(net)
            {
                dest.add_to_journal(net, &self.peers, &mut self.journal);
            }
        }
    }
}

/// Returns the settings of the local speaker that the import and export policies depend on.
fn identity(config: &Config) -> impl PartialEq {
    let own = &config.own;
    (own.asn, own.id, own.addrs.clone(), own.cluster_id)
}

/// Returns true if the new configuration may accept a network of the peer that was refused before. Also
/// true if the peer has refused networks that are not listed.
fn may_accept_more(config: &Config, entry: &PeerEntry, own_changed: bool) -> bool {
    entry.refused_unlisted > 0
        || entry.refused.iter().any(|(net, refusal)| match refusal {
            RouteRejectReason::OwnNetwork
            | RouteRejectReason::OwnPods
            | RouteRejectReason::Rejected => policy::check_net(config, net).is_none(),
            RouteRejectReason::AsLoop
            | RouteRejectReason::Originator
            | RouteRejectReason::Cluster
            | RouteRejectReason::NextHop => own_changed,
            RouteRejectReason::Family
            | RouteRejectReason::DefaultRoute
            | RouteRejectReason::Martian
            | RouteRejectReason::FirstAs => false,
        })
}
