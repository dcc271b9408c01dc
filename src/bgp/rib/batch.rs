//! The UPDATEs for one peer: networks whose route is equal after the export policy share an UPDATE. Pure.
//!
//! `Rib::updates` adds networks to a [`Batch`] and takes the UPDATEs with [`Batch::finish`]. The
//! attributes come from [`policy::export`].

use std::sync::Arc;

use ipnet::IpNet;

use super::{
    destination::Destination,
    path::{Path, PeerIndex, RouteAttrs},
    peer_session::PeerSession,
    peer_table::PeerTable,
};
use crate::{
    bgp::{
        policy::{self, ExportedRoute, LocalKind, RouteSource},
        update::{Reach, Update},
    },
    family::Family,
    model::bgp::Config,
};

/// The networks of one UPDATE: they have the same attributes after the export policy. The fields `attrs`
/// to `family` are of the first path in the group, and serve to find the group without the export policy.
struct Group {
    attrs: Arc<RouteAttrs>,
    from: PeerIndex,
    kind: LocalKind,
    family: Family,
    /// The route as it is advertised; `None` if the export policy does not advertise it.
    export: Option<ExportedRoute>,
    nets: Vec<IpNet>,
}

/// The UPDATEs that are collected for a peer in one call of `Rib::updates`.
pub(super) struct Batch<'a> {
    config: &'a Config,
    peers: &'a PeerTable,
    to: &'a PeerSession,
    peer: PeerIndex,
    /// The networks to withdraw, by family.
    withdrawn: [Vec<IpNet>; 2],
    groups: Vec<Group>,
    /// The networks whose destination can be removed from the table.
    removable: Vec<IpNet>,
    /// An estimate of the encoded size in bytes.
    size: usize,
}

impl<'a> Batch<'a> {
    /// Returns an empty batch for a peer; `None` if the peer table has no such peer.
    pub(super) fn new(
        config: &'a Config,
        peers: &'a PeerTable,
        peer: PeerIndex,
    ) -> Option<Batch<'a>> {
        Some(Batch {
            config,
            peers,
            to: peers.session(peer)?,
            peer,
            withdrawn: Default::default(),
            groups: Vec::new(),
            removable: Vec::new(),
            size: 0,
        })
    }

    /// Returns an estimate of the encoded size in bytes.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Adds the advertisement or withdrawal of a network, if one is due, and updates the number of
    /// networks that are advertised to the peer.
    pub(super) fn add(&mut self, net: IpNet, dest: &mut Destination, advertised: &mut usize) {
        let group = dest.paths.first().map(|best| self.group(&net, best));
        let group = group.and_then(|group| self.groups.get_mut(group));
        match group.filter(|group| group.export.is_some()) {
            Some(group) => {
                group.nets.push(net);
                *advertised += usize::from(dest.mark_advertised(self.peer));
            }
            None if dest.mark_withdrawn(self.peer) => {
                self.withdrawn[Family::of(&net) as usize].push(net);
                *advertised -= 1;
                if dest.is_removable() {
                    self.removable.push(net);
                }
            }
            None => return,
        }
        self.size += 1 + usize::from(net.prefix_len().div_ceil(8));
    }

    /// Returns the index of the group for the best path of a network, and creates the group if it is new.
    /// Paths of one received UPDATE share their attributes, so most are found by pointer comparison.
    fn group(&mut self, net: &IpNet, best: &Path) -> usize {
        let family = Family::of(net);
        let kind = if best.from == PeerIndex::LOCAL {
            LocalKind::of(self.config, net)
        } else {
            LocalKind::default()
        };
        let has_same_path = |group: &Group| {
            Arc::ptr_eq(&group.attrs, &best.attrs)
                && (group.from, group.kind, group.family) == (best.from, kind, family)
        };
        if let Some(found) = self.groups.iter().rposition(has_same_path) {
            return found;
        }
        let export = exported_route(self.config, self.peers, self.to, net, best);
        let has_same_export = |group: &Group| group.family == family && group.export == export;
        if let Some(found) = self.groups.iter().rposition(has_same_export) {
            return found;
        }
        self.size += export.as_ref().map_or(0, |it| policy::max_encoded_len(&it.attributes));
        let (attrs, from) = (Arc::clone(&best.attrs), best.from);
        self.groups.push(Group { attrs, from, kind, family, export, nets: Vec::new() });
        self.groups.len() - 1
    }

    /// Returns the networks that can be removed from the table, and the UPDATEs, withdrawals first.
    pub(super) fn finish(self) -> (Vec<IpNet>, Vec<Update>) {
        let withdrawn = self.withdrawn.into_iter().filter(|nets| !nets.is_empty());
        let mut updates: Vec<Update> =
            withdrawn.map(|withdrawn| Update { withdrawn, ..Update::default() }).collect();
        for Group { export, nets, .. } in self.groups {
            let Some(ExportedRoute { next_hop, attributes }) = export else { continue };
            let reach = vec![Reach { next_hop, nets }];
            updates.push(Update { reach, attributes, ..Update::default() });
        }
        (self.removable, updates)
    }
}

/// Returns the route that the export policy makes of the best path of a network; `None` if it is not
/// advertised to the peer.
pub(crate) fn exported_route(
    config: &Config,
    peers: &PeerTable,
    to: &PeerSession,
    net: &IpNet,
    best: &Path,
) -> Option<ExportedRoute> {
    let source = if best.from == PeerIndex::LOCAL {
        RouteSource::Local(LocalKind::of(config, net))
    } else {
        let from = peers.session(best.from)?;
        RouteSource::Learned { from, attrs: &best.attrs, resolvable: best.resolvable }
    };
    policy::export(config, to, Family::of(net), source)
}
