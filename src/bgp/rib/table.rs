//! The table of all paths, and its operations for peers, the node and the display.

use super::{
    adj_rib_out::{AdjRibOut, Journal},
    decision::{Path, RouteAttrs, multipath},
    destination::{Before, Destination, RouteChanges},
    peer_table::{MAX_REFUSED, PeerIndex, PeerSession, PeerTable, PrefixCounts},
};
use crate::family::Family;
use crate::{
    bgp::{
        policy::{self, RouteRejectReason},
        update::Update,
    },
    collections::{FlatMap, FlatSet},
    model::{bgp::Config, items::NextHops},
};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;

/// The routes that BGP contributes to this node. The `desired` module turns them into kernel routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Learned {
    /// The next hops of each route, sorted: one, or several if the best paths form a multipath route.
    pub routes: FlatMap<IpNet, NextHops>,
    /// Networks that had a route in this run and have none now. Their kernel routes may be removed at
    /// once, before `complete` is true. Empty once `complete` is true.
    pub gone: FlatSet<IpNet>,
    /// Peers whose session was up in this run and is down now, except those that restart gracefully.
    pub lost: FlatSet<IpAddr>,
    /// True once every peer has sent all of its routes, or has had the time to do so. From then on, a
    /// network without a path is no route.
    pub complete: bool,
}

/// The table of destinations, and the state of advertisements to each peer.
#[derive(Debug)]
pub struct Rib {
    pub(crate) config: Arc<Config>,
    pub(crate) peers: PeerTable,
    pub(crate) table: BTreeMap<IpNet, Destination>,
    pub(crate) journal: Journal,
    /// The attributes of the networks that this node originates.
    local_attrs: Arc<RouteAttrs>,
    /// Changes of the routes since the caller last asked.
    changes: RouteChanges,
}

/// The result of a [`SweepFn`] for a path.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum SweepAction {
    Keep,
    Remove,
}

/// Decides if a path to a network is kept in a sweep. It may modify the path.
type SweepFn<'a> = dyn FnMut(&PeerTable, &IpNet, &mut Path) -> SweepAction + 'a;

impl Rib {
    /// Returns a table that has the networks that this node originates, and no peers.
    pub fn new(config: Arc<Config>) -> Rib {
        let originated = config.origin.pods.iter().chain(&config.origin.services);
        let originated: Vec<IpNet> = originated.copied().collect();
        let mut rib = Rib {
            config,
            peers: PeerTable::default(),
            table: BTreeMap::new(),
            journal: Journal::default(),
            local_attrs: Arc::new(RouteAttrs::local()),
            changes: RouteChanges { any: false, gone: Some(FlatSet::new()) },
        };
        originated.into_iter().for_each(|net| rib.originate(net));
        rib
    }

    /// Records that the session with a peer is established. Schedules the advertisement of the whole
    /// table and End-of-RIB for each family. Of the paths from an earlier session, those of the families
    /// in `kept`, for which the peer preserved its forwarding state (RFC 4724), stay as stale paths until
    /// the peer sends End-of-RIB; all others are removed.
    pub fn session_up(&mut self, session: PeerSession, kept: &[Family]) {
        let addr = session.addr;
        let known = self.peers.index_of(addr);
        if known.and_then(|peer| self.peers.get(peer)).is_some_and(|entry| entry.up) {
            self.session_down(addr, kept); // the end of the earlier session was not reported
        }
        let mut same = true;
        let peer = match self.peers.index_of(addr) {
            Some(peer) => peer,
            None => match self.peers.insert(session.clone()) {
                Some(peer) => peer,
                None => return, // 65,535 peers
            },
        };
        let end = self.journal.end();
        if let Some(entry) = self.peers.get_mut(peer) {
            let old = &entry.session;
            same = (old.internal, old.id, old.client)
                == (session.internal, session.id, session.client);
            entry.up = true;
            entry.awaiting_end.clone_from(&session.families);
            entry.refused = FlatMap::new();
            entry.refused_unlisted = 0;
            entry.adj_rib_out = AdjRibOut::new(&session.families, end);
            entry.session = session;
        }
        self.journal.mark_read(end);
        // If the session parameters changed, the stale paths may rank or be advertised differently.
        self.sweep(Some(peer), !same, &mut |_, net, _| {
            if kept.contains(&Family::of(net)) { SweepAction::Keep } else { SweepAction::Remove }
        });
    }

    /// Records that the session with a peer is down. Its paths of the families in `keep` stay as stale
    /// paths, except those that were stale before this session ended (RFC 4724 section 4.2). If the
    /// session was down already, only the paths of other families are removed.
    pub fn session_down(&mut self, addr: IpAddr, keep: &[Family]) {
        let Some(peer) = self.peers.index_of(addr) else { return };
        let Some(entry) = self.peers.get_mut(peer) else { return };
        let was_up = entry.up;
        entry.up = false;
        entry.awaiting_end.clear();
        entry.last_attrs = None;
        entry.refused = FlatMap::new();
        entry.refused_unlisted = 0;
        entry.adj_rib_out = AdjRibOut::default();
        if was_up {
            self.clear_advertised(peer);
        }
        self.sweep(Some(peer), false, &mut |_, net, path| {
            let keep = keep.contains(&Family::of(net)) && !(was_up && path.stale);
            path.stale = true;
            if keep { SweepAction::Keep } else { SweepAction::Remove }
        });
        self.peers.remove_unused();
        self.trim_journal();
    }

    /// Removes the stale paths of a peer when its restart time has expired.
    pub fn remove_stale(&mut self, addr: IpAddr) {
        let Some(peer) = self.peers.index_of(addr) else { return };
        self.sweep(Some(peer), false, &mut |_, _, path| {
            if path.stale { SweepAction::Remove } else { SweepAction::Keep }
        });
        self.peers.remove_unused();
    }

    /// Applies an UPDATE that a peer sent: first the withdrawals, then the advertised routes, then
    /// End-of-RIB. Ignored if the session with the peer is not up.
    pub fn handle_update(&mut self, addr: IpAddr, update: Update) {
        let Some(peer) = self.peers.index_of(addr) else { return };
        let Some(entry) = self.peers.get(peer).filter(|entry| entry.up) else { return };
        let mut last = entry.last_attrs.clone();
        let attributes = policy::strip_for_ebgp(&entry.session, update.attributes);
        for net in update.withdrawn {
            self.withdraw(peer, net.trunc());
        }
        for reach in update.reach {
            let same = |attrs: &Arc<RouteAttrs>| {
                attrs.next_hop == reach.next_hop && attrs.attributes == attributes
            };
            let attrs = last.take().filter(same).unwrap_or_else(|| {
                Arc::new(RouteAttrs { next_hop: reach.next_hop, attributes: attributes.clone() })
            });
            for net in reach.nets {
                self.import(peer, net.trunc(), &attrs);
            }
            last = Some(attrs);
        }
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.last_attrs = last;
        }
        if let Some(family) = update.end_of_rib {
            self.end_of_rib(peer, family);
        }
    }

    /// Handles End-of-RIB of a family: removes the paths that are still stale, because the peer has sent
    /// all of its routes without them.
    fn end_of_rib(&mut self, peer: PeerIndex, family: Family) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.awaiting_end.retain(|awaited| *awaited != family);
        }
        self.sweep(Some(peer), false, &mut |_, net, path| {
            let remove = path.stale && Family::of(net) == family;
            if remove { SweepAction::Remove } else { SweepAction::Keep }
        });
    }

    /// Stores the path that a peer advertised if the import policy accepts it. A refused path implicitly
    /// withdraws an earlier one.
    fn import(&mut self, peer: PeerIndex, net: IpNet, attrs: &Arc<RouteAttrs>) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        if let Some(refusal) = policy::check_import(&self.config, &entry.session, &net, attrs) {
            self.record_refusal(peer, net, refusal);
            self.remove_path(peer, &net);
            return;
        }
        entry.refused.remove(&net);
        let path = Path {
            attrs: Arc::clone(attrs),
            from: peer,
            stale: false,
            resolvable: policy::is_on_link(&self.config, &attrs.next_hop),
            loses_on_med: false,
        };
        if self.insert_path(net, path)
            && let Some(entry) = self.peers.get_mut(peer)
        {
            entry.accepted += 1;
        }
    }

    /// Records that a network of a peer was refused, and why.
    pub(super) fn record_refusal(
        &mut self,
        peer: PeerIndex,
        net: IpNet,
        refusal: RouteRejectReason,
    ) {
        let Some(entry) = self.peers.get_mut(peer) else { return };
        if entry.refused.len() < MAX_REFUSED || entry.refused.contains_key(&net) {
            entry.refused.insert(net, refusal);
        } else {
            entry.refused_unlisted += 1;
        }
    }

    /// Removes the path, or the refusal, of a network that a peer withdrew.
    fn withdraw(&mut self, peer: PeerIndex, net: IpNet) {
        if let Some(entry) = self.peers.get_mut(peer) {
            entry.refused.remove(&net);
        }
        self.remove_path(peer, &net);
    }

    /// Adds a network that this node originates.
    pub(super) fn originate(&mut self, net: IpNet) {
        let path = Path {
            attrs: Arc::clone(&self.local_attrs),
            from: PeerIndex::LOCAL,
            stale: false,
            resolvable: true,
            loses_on_med: false,
        };
        self.insert_path(net, path);
    }

    /// Adds a path, or replaces the one from the same peer, and runs the decision process. Returns true
    /// if there was no path from this peer.
    fn insert_path(&mut self, net: IpNet, path: Path) -> bool {
        let reflects = self.config.own.cluster_id.is_some();
        let dest = self.table.entry(net).or_default();
        let before = Before::of(dest, &self.peers);
        let old = dest.paths.iter_mut().find(|old| old.from == path.from);
        let is_new = old.is_none();
        match old {
            Some(old) => *old = path,
            None => dest.paths.push(path),
        }
        let (peers, journal, changes) = (&self.peers, &mut self.journal, &mut self.changes);
        dest.run_decision(&net, &before, reflects, peers, journal, changes);
        is_new
    }

    /// Removes the path from a peer to a network, if there is one, and runs the decision process.
    pub(super) fn remove_path(&mut self, from: PeerIndex, net: &IpNet) {
        let reflects = self.config.own.cluster_id.is_some();
        let Some(dest) = self.table.get_mut(net) else { return };
        if dest.paths.iter().all(|path| path.from != from) {
            return;
        }
        let before = Before::of(dest, &self.peers);
        dest.paths.retain_mut(|path| path.from != from);
        if let Some(entry) = self.peers.get_mut(from) {
            entry.accepted -= 1;
        }
        let (peers, journal, changes) = (&self.peers, &mut self.journal, &mut self.changes);
        dest.run_decision(net, &before, reflects, peers, journal, changes);
        if dest.is_removable() {
            self.table.remove(net);
        }
    }

    /// Calls `action` for each path from a peer, or from all peers if `from` is `None`, removes the paths
    /// for which it returns [`SweepAction::Remove`], and runs the decision process. If `force` is true,
    /// the visited destinations count as changed in any case (see [`Before::force`]).
    pub(super) fn sweep(&mut self, from: Option<PeerIndex>, force: bool, action: &mut SweepFn) {
        let reflects = self.config.own.cluster_id.is_some();
        let is_visited = |path: &Path| from.is_none_or(|from| path.from == from);
        let mut removable = Vec::new();
        for (net, dest) in &mut self.table {
            if !dest.paths.iter().any(is_visited) {
                continue;
            }
            let before = Before { force, ..Before::of(dest, &self.peers) };
            dest.paths.retain_mut(|path| {
                let keep = !is_visited(path) || action(&self.peers, net, path) == SweepAction::Keep;
                if let (false, Some(entry)) = (keep, self.peers.get_mut(path.from)) {
                    entry.accepted -= 1;
                }
                keep
            });
            let (peers, journal, changes) = (&self.peers, &mut self.journal, &mut self.changes);
            dest.run_decision(net, &before, reflects, peers, journal, changes);
            if dest.is_removable() {
                removable.push(*net);
            }
        }
        for net in removable {
            self.table.remove(&net);
        }
    }

    /// Returns true if routes changed since the last call of [`Rib::take_routes_changed`].
    pub fn routes_changed(&self) -> bool {
        self.changes.any
    }

    /// Returns true if routes changed since the last call of this method.
    pub fn take_routes_changed(&mut self) -> bool {
        std::mem::take(&mut self.changes.any)
    }

    /// Returns the networks that lost their route in this run. Some may have a route again. Empty after
    /// [`Rib::clear_removed_routes`].
    pub fn removed_routes(&self) -> impl Iterator<Item = &IpNet> {
        self.changes.gone.iter().flatten()
    }

    /// Records that the initial routes of all peers are received, after which [`Rib::removed_routes`] is not
    /// needed.
    pub fn clear_removed_routes(&mut self) {
        self.changes.gone = None;
    }

    /// Returns the routes for the kernel: every network that peers advertise and this node does not
    /// originate, if its best path is resolvable, with the next hops of that route.
    pub fn routes(&self) -> FlatMap<IpNet, NextHops> {
        let route = |(net, dest): (&IpNet, &Destination)| {
            Some((*net, multipath(&dest.paths, &self.peers)?))
        };
        self.table.iter().filter_map(route).collect()
    }

    /// Returns true if the session with a peer is up and the peer has sent End-of-RIB for all families.
    pub fn is_complete(&self, addr: IpAddr) -> bool {
        let entry = self.peers.index_of(addr).and_then(|peer| self.peers.get(peer));
        entry.is_some_and(|entry| entry.up && entry.awaiting_end.is_empty())
    }

    /// Returns the number of networks exchanged with a peer; all zero if the peer has no entry.
    pub fn counts(&self, addr: IpAddr) -> PrefixCounts {
        let entry = self.peers.index_of(addr).and_then(|peer| self.peers.get(peer));
        entry.map_or_else(PrefixCounts::default, |entry| PrefixCounts {
            received: entry.accepted + entry.refused.len() + entry.refused_unlisted,
            accepted: entry.accepted,
            advertised: entry.adj_rib_out.advertised,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        bgp::{attribute::Attributes, policy::NO_ADVERTISE, rib::fixtures::*, show::RouteSelector},
        model::bgp::Originated,
    };

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// Returns the networks of the kernel routes.
    fn routes(rib: &Rib) -> Vec<String> {
        rib.routes().keys().map(IpNet::to_string).collect()
    }

    fn two_clients() -> (PeerSession, PeerSession) {
        let client = |last| PeerSession { client: true, ..session(last, ASN) };
        (client(2), client(3))
    }

    #[test]
    fn a_new_peer_receives_all_networks_and_then_end_of_rib_of_each_family() {
        let node = session(2, ASN);
        let mut rib = Rib::new(Arc::new(config()));
        assert!(!rib.has_pending_updates(node.addr));
        rib.session_up(node.clone(), &[]);
        assert!(rib.has_pending_updates(node.addr));
        let updates = read_updates(&mut rib, &node);
        let nets: Vec<_> =
            updates.iter().flat_map(|update| &update.reach).flat_map(|reach| &reach.nets).collect();
        assert_eq!(nets, [&net("10.42.1.0/24"), &net("fd42:1::/64")]);
        let ends: Vec<_> = updates.iter().filter_map(|update| update.end_of_rib).collect();
        assert_eq!(ends, Family::ALL);
        assert_eq!(updates.last().unwrap().end_of_rib, Some(Family::Ipv6));
        assert_eq!(rib.counts(node.addr).advertised, 2);
        assert_eq!(read_updates(&mut rib, &node), []);
    }

    #[test]
    fn a_withdrawal_goes_only_to_peers_that_were_sent_the_network() {
        let (node, router) = (session(2, ASN), session(3, 65001));
        let mut config = config();
        let mut rib = rib_with(config.clone(), &[node.clone(), router.clone()]);
        config.origin.services.clear();
        rib.configure(Arc::new(config.clone()));
        assert_eq!(read_nets(&mut rib, &node), (vec![], vec![]));
        assert_eq!(read_nets(&mut rib, &router), (vec![], texts(&["10.43.0.1/32"])));
        // A network that is added and removed before any peer reads the journal is never advertised.
        let before = config.clone();
        config.origin.services.insert(net("10.43.0.9/32"));
        rib.configure(Arc::new(config));
        rib.configure(Arc::new(before));
        assert_eq!(read_nets(&mut rib, &router), (vec![], vec![]));
        assert!(
            !rib.table.contains_key(&net("10.43.0.9/32"))
                && !rib.table.contains_key(&net("10.43.0.1/32"))
        );
    }

    #[test]
    fn a_new_export_policy_sends_updates_only_to_the_peers_that_it_concerns() {
        let (node, router) = (session(2, ASN), session(3, 65001));
        let mut config = config();
        let mut rib = rib_with(config.clone(), &[node.clone(), router.clone()]);
        config.export.pods_inside = false;
        assert!(rib.configure(Arc::new(config.clone())).is_empty());
        assert!(!rib.has_pending_updates(router.addr));
        assert_eq!(read_nets(&mut rib, &node), (vec![], texts(&["10.42.1.0/24", "fd42:1::/64"])));
        config.export.communities = vec![7];
        rib.configure(Arc::new(config.clone()));
        assert!(!rib.has_pending_updates(node.addr));
        let updates = read_updates(&mut rib, &router);
        assert!(updates.iter().all(|update| update.attributes.communities == [7]));
        assert_eq!(updates.len(), 2, "{updates:?}");
        config.own.port = 1790;
        rib.configure(Arc::new(config));
        assert!(!rib.has_pending_updates(node.addr) && !rib.has_pending_updates(router.addr));
    }

    #[test]
    fn networks_with_equal_attributes_share_one_update() {
        let (one, two) = two_clients();
        let mut rib = rib_with(reflector(), &[one.clone(), two.clone()]);
        let many: Vec<String> = (0..100).map(|at| format!("10.9.{at}.0/24")).collect();
        for text in &many {
            rib.handle_update(one.addr, reach(&[text], "10.0.0.2", as_path(&[])));
        }
        assert_eq!(update_count(&mut rib, &two), 1);
        assert_eq!(rib.counts(two.addr).advertised, 102);
        assert_eq!(rib.counts(one.addr).accepted, 100);
        let first = rib.table[&net("10.9.0.0/24")].paths[0].clone();
        assert!(
            Arc::ptr_eq(&first.attrs, &rib.table[&net("10.9.99.0/24")].paths[0].attrs),
            "and share one value of attributes"
        );
    }

    /// Returns the number of pending UPDATEs for a peer, without a limit on their size.
    fn update_count(rib: &mut Rib, to: &PeerSession) -> usize {
        rib.updates(to.addr, 1 << 16).len()
    }

    #[test]
    fn a_path_that_is_received_again_unchanged_is_not_advertised_again() {
        let (one, two) = two_clients();
        let mut rib = rib_with(reflector(), &[one.clone(), two.clone()]);
        let update = reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[65001]));
        rib.handle_update(one.addr, update.clone());
        assert!(rib.take_routes_changed() && !rib.take_routes_changed());
        assert_eq!(read_nets(&mut rib, &two).0, ["10.9.0.0/16"]);
        rib.handle_update(one.addr, update);
        assert!(!rib.has_pending_updates(two.addr) && !rib.take_routes_changed());
    }

    #[test]
    fn route_refresh_sends_all_networks_of_the_family_without_end_of_rib() {
        let node = session(2, ASN);
        let mut rib = rib_with(config(), std::slice::from_ref(&node));
        rib.handle_refresh(node.addr, Family::Ipv6);
        let updates = read_updates(&mut rib, &node);
        assert_eq!(updates.len(), 1);
        assert_eq!(updates[0].reach[0].nets, [net("fd42:1::/64")]);
        let mut four = node.clone();
        four.families = vec![Family::Ipv4];
        rib.session_up(four.clone(), &[]);
        read_updates(&mut rib, &four);
        rib.handle_refresh(four.addr, Family::Ipv6);
        assert!(!rib.has_pending_updates(four.addr));
    }

    #[test]
    fn end_of_rib_removes_the_stale_paths_of_a_restarted_peer() {
        let node = session(2, ASN);
        let mut rib = rib_with(config(), std::slice::from_ref(&node));
        let four = || reach(&["10.8.0.0/16", "10.9.0.0/16"], "10.0.0.2", as_path(&[]));
        rib.handle_update(node.addr, four());
        rib.handle_update(node.addr, reach(&["fd08::/64"], "fd00::2", as_path(&[])));
        rib.session_down(node.addr, &[Family::Ipv4]);
        assert_eq!(routes(&rib), ["10.8.0.0/16", "10.9.0.0/16"]);
        rib.session_down(node.addr, &[Family::Ipv4]); // a connection attempt that failed
        rib.session_up(node.clone(), &[Family::Ipv4]);
        assert!(!rib.is_complete(node.addr));
        rib.handle_update(node.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
        let stale: Vec<_> =
            rib.shown(RouteSelector::From(node.addr)).iter().map(|row| row.stale).collect();
        assert_eq!(stale, [true, false]);
        rib.handle_update(node.addr, end_of_rib(Family::Ipv6));
        assert_eq!(routes(&rib), ["10.8.0.0/16", "10.9.0.0/16"]);
        assert!(!rib.is_complete(node.addr));
        rib.handle_update(node.addr, end_of_rib(Family::Ipv4));
        assert_eq!(routes(&rib), ["10.9.0.0/16"]);
        assert!(rib.is_complete(node.addr));
    }

    #[test]
    fn stale_paths_are_removed_at_a_second_restart_and_when_the_restart_time_expires() {
        let node = session(2, ASN);
        let mut rib = rib_with(config(), std::slice::from_ref(&node));
        rib.handle_update(node.addr, reach(&["10.8.0.0/16"], "10.0.0.2", as_path(&[])));
        rib.session_down(node.addr, &Family::ALL);
        rib.session_up(node.clone(), &Family::ALL);
        rib.handle_update(node.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
        rib.session_down(node.addr, &Family::ALL);
        assert_eq!(routes(&rib), ["10.9.0.0/16"]);
        rib.remove_stale(node.addr);
        assert_eq!(routes(&rib), [""; 0]);
        assert!(rib.peers.index_of(node.addr).is_none(), "its index is free");
    }

    #[test]
    fn stale_paths_of_a_family_that_was_not_preserved_are_removed_when_the_session_is_up() {
        let node = session(2, ASN);
        let mut rib = rib_with(config(), std::slice::from_ref(&node));
        rib.handle_update(node.addr, reach(&["10.8.0.0/16"], "10.0.0.2", as_path(&[])));
        rib.session_down(node.addr, &Family::ALL);
        rib.take_routes_changed();
        rib.session_up(node, &[Family::Ipv6]);
        assert_eq!(routes(&rib), [""; 0]);
        assert!(rib.take_routes_changed());
    }

    #[test]
    fn a_refused_path_replaces_an_accepted_one() {
        let node = session(2, ASN);
        let mut rib = rib_with(config(), std::slice::from_ref(&node));
        rib.handle_update(node.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
        rib.handle_update(
            node.addr,
            reach(&["10.9.0.0/16", "0.0.0.0/0"], "10.0.0.2", as_path(&[ASN])),
        );
        assert_eq!(routes(&rib), [""; 0]);
        assert_eq!(rib.counts(node.addr), PrefixCounts { received: 2, accepted: 0, advertised: 2 });
        let refused: Vec<_> =
            rib.shown(RouteSelector::From(node.addr)).iter().map(|row| row.refused).collect();
        assert_eq!(
            refused,
            [Some(RouteRejectReason::DefaultRoute), Some(RouteRejectReason::AsLoop)]
        );
        rib.handle_update(node.addr, withdraw(&["0.0.0.0/0"]));
        assert_eq!(rib.counts(node.addr).received, 1);
    }

    #[test]
    fn refused_networks_above_the_limit_are_only_counted() {
        let node = session(2, ASN);
        let mut rib = rib_with(config(), std::slice::from_ref(&node));
        let many: Vec<String> =
            (0..1500).map(|at| format!("127.{}.{}.0/24", at / 256, at % 256)).collect();
        for text in &many {
            rib.handle_update(node.addr, reach(&[text], "10.0.0.2", as_path(&[])));
        }
        assert_eq!(rib.counts(node.addr).received, 1500);
        assert_eq!(rib.shown(RouteSelector::From(node.addr)).len(), 1000);
    }

    #[test]
    fn a_new_import_policy_requests_a_refresh_from_peers_with_networks_that_may_now_be_accepted() {
        let (one, two) = (session(2, ASN), session(3, ASN));
        let mut config = config();
        config.import.reject = vec![net("10.9.0.0/16")];
        let mut rib = rib_with(config.clone(), &[one.clone(), two.clone()]);
        rib.handle_update(one.addr, reach(&["10.9.1.0/24"], "10.0.0.2", as_path(&[])));
        rib.handle_update(two.addr, reach(&["10.8.0.0/16", "0.0.0.0/0"], "10.0.0.3", as_path(&[])));
        config.import.reject = vec![net("10.8.0.0/16"), net("10.9.0.0/17")];
        assert!(rib.configure(Arc::new(config.clone())).is_empty());
        assert_eq!(routes(&rib), [""; 0], "a path that is no longer accepted is removed");
        config.import.reject = vec![net("10.8.0.0/16")];
        assert_eq!(rib.configure(Arc::new(config)), [one.addr]);
    }

    #[test]
    fn next_hops_are_resolved_again_when_the_links_change() {
        let node = session(2, ASN);
        let mut config = config();
        let mut rib = rib_with(config.clone(), std::slice::from_ref(&node));
        rib.handle_update(node.addr, reach(&["10.9.0.0/16"], "10.77.0.2", as_path(&[])));
        for (link, count) in [("10.0.0.0/24", 0), ("10.77.0.0/24", 1)] {
            config.import.on_link = vec![net(link)];
            rib.configure(Arc::new(config.clone()));
            assert!(rib.take_routes_changed());
            assert_eq!(rib.routes().len(), count);
        }
    }

    #[test]
    fn a_node_that_stops_being_a_reflector_withdraws_the_learned_networks() {
        let (one, two) = two_clients();
        let mut rib = rib_with(reflector(), &[one.clone(), two.clone()]);
        rib.handle_update(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
        assert_eq!(read_nets(&mut rib, &two).0, ["10.9.0.0/16"]);
        rib.configure(Arc::new(config()));
        assert_eq!(read_nets(&mut rib, &two).1, ["10.9.0.0/16"]);
        assert_eq!(routes(&rib), ["10.9.0.0/16"]);
    }

    #[test]
    fn a_network_that_may_no_longer_be_advertised_is_withdrawn() {
        let (one, two) = two_clients();
        let mut rib = rib_with(reflector(), &[one.clone(), two.clone()]);
        rib.handle_update(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
        assert_eq!(read_nets(&mut rib, &two).0, ["10.9.0.0/16"]);
        let no_advertise = Attributes { communities: vec![NO_ADVERTISE], ..as_path(&[]) };
        rib.handle_update(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", no_advertise));
        assert_eq!(read_nets(&mut rib, &two), (vec![], texts(&["10.9.0.0/16"])));
    }

    #[test]
    fn the_journal_stays_bounded_if_a_peer_does_not_read() {
        let (one, two) = two_clients();
        let three = PeerSession { client: true, ..session(4, ASN) };
        let mut rib = rib_with(reflector(), &[one.clone(), two.clone(), three.clone()]);
        for turn in 0..10_000_u32 {
            let med = Attributes { med: Some(turn), ..as_path(&[]) };
            rib.handle_update(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", med));
            read_updates(&mut rib, &two);
            assert!(rib.journal.end() - rib.journal.start() < 5000);
        }
        let updates = read_updates(&mut rib, &three);
        let reach: Vec<_> =
            updates.iter().filter(|update| update.attributes.med == Some(9999)).collect();
        assert_eq!(reach.len(), 1);
        assert_eq!(updates.iter().filter(|update| update.end_of_rib.is_some()).count(), 0);
    }

    #[test]
    fn learned_networks_are_not_journalled_unless_the_node_is_a_reflector() {
        let (one, two) = (session(2, ASN), session(3, ASN));
        let mut rib = rib_with(config(), &[one.clone(), two.clone()]);
        rib.handle_update(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
        rib.handle_update(one.addr, withdraw(&["10.9.0.0/16"]));
        assert!(!rib.has_pending_updates(two.addr));
        assert_eq!(rib.table.len(), 3);
    }

    #[test]
    fn events_of_a_peer_without_a_session_are_ignored() {
        let mut rib = Rib::new(Arc::new(Config { origin: Originated::default(), ..config() }));
        let node = session(2, ASN);
        rib.handle_update(node.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[])));
        rib.handle_refresh(node.addr, Family::Ipv4);
        rib.session_down(node.addr, &Family::ALL);
        rib.remove_stale(node.addr);
        assert!(!rib.write_updates(node.addr, 1000, &mut Vec::new()));
        assert!(!rib.is_complete(node.addr));
        assert_eq!(rib.counts(node.addr), PrefixCounts::default());
        assert!(rib.table.is_empty() && !rib.take_routes_changed());
    }

    #[test]
    fn rows_for_users_show_the_best_and_used_paths_and_the_advertised_attributes() {
        let (one, two) = two_clients();
        let mut rib = rib_with(reflector(), &[one.clone(), two.clone()]);
        rib.handle_update(one.addr, reach(&["10.9.0.0/16"], "10.0.0.2", as_path(&[65001])));
        rib.handle_update(two.addr, reach(&["10.9.0.0/16"], "10.0.0.3", as_path(&[65001, 65002])));
        read_updates(&mut rib, &two);
        let all = rib.shown(RouteSelector::All);
        let of: Vec<_> = all.iter().filter(|row| row.net == net("10.9.0.0/16")).collect();
        assert_eq!(
            of.iter().map(|row| (row.best, row.used)).collect::<Vec<_>>(),
            [(true, true), (false, false)]
        );
        assert_eq!(of[1].path, "65001 65002");
        assert_eq!(
            all.iter().filter(|row| row.from.is_none() && row.next_hop.is_none()).count(),
            3
        );
        let to = rib.shown(RouteSelector::To(two.addr));
        let of: Vec<_> = to.iter().filter(|row| row.net == net("10.9.0.0/16")).collect();
        assert_eq!(
            (of[0].next_hop, of[0].from, of[0].local_pref),
            (Some(ip("10.0.0.2")), Some(one.addr), Some(100))
        );
        assert_eq!(to.len(), 3);
        assert_eq!(rib.shown(RouteSelector::From(ip("10.0.0.99"))), []);
    }
}
