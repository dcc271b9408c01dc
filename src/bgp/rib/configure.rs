//! The consequences of a new configuration for a table that is in use. `Rib::configure` applies them.

use super::peer_table::PeerEntry;
use crate::{
    bgp::policy::{self, RouteRejectReason},
    model::bgp::Config,
};

/// The parts of two configurations that differ.
pub(super) struct ConfigChanges {
    /// True if the identity of the local speaker changed: its AS, its BGP Identifier, its addresses or its
    /// cluster.
    pub own: bool,
    /// True if the import policy changed.
    pub import: bool,
    /// True if the export policy for routers outside the cluster changed.
    pub external_export: bool,
    /// True if the export policy for other nodes changed.
    pub internal_export: bool,
}

impl ConfigChanges {
    /// Compares two configurations.
    pub(super) fn between(old: &Config, new: &Config) -> ConfigChanges {
        let own = identity(old) != identity(new);
        let (was, is) = (&old.export, &new.export);
        let reflects = new.own.cluster_id.is_some();
        ConfigChanges {
            own,
            import: own || old.import != new.import || old.origin.pods != new.origin.pods,
            external_export: (was.pods_outside, &was.communities, was.prepend, was.next_hop_self)
                != (is.pods_outside, &is.communities, is.prepend, is.next_hop_self),
            internal_export: was.pods_inside != is.pods_inside
                || reflects && was.next_hop_self != is.next_hop_self,
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
pub(super) fn may_accept_more(config: &Config, entry: &PeerEntry, own_changed: bool) -> bool {
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
