//! The decision process (RFC 4271 section 9.1.2.2): paths, and the order of preference among the paths
//! of one destination. Pure.
//!
//! [`sort_by_preference`] sorts the paths of a destination, so that the first is the best path, and
//! [`multipath`] takes the next hops of the route from the front of that order. Rules, in order:
//!
//! 1. a path that this node originates;
//! 2. a resolvable next hop, which is on one of this node's links (other paths never become kernel
//!    routes, but a route reflector passes them on);
//! 3. the higher LOCAL_PREF, 100 if the path has none;
//! 4. the shorter AS_PATH;
//! 5. the lower ORIGIN;
//! 6. the lower MULTI_EXIT_DISC (MED; 0 if the path has none) among paths that are equal by rules 1 to 5
//!    and come through the same neighbouring AS;
//! 7. a path received over eBGP;
//! 8. the lower ORIGINATOR_ID or, if the path has none, BGP Identifier of the peer (RFC 4456 section 9);
//! 9. the shorter CLUSTER_LIST;
//! 10. the lower address of the peer.
//!
//! Paths that are equal by rules 1 to 7 form one multipath route. A stale path is not ranked lower
//! (RFC 4724 section 4.2). Rule 6 alone gives no total order, because it does not compare paths through
//! two different ASes. Therefore [`sort_by_preference`] first marks each path that loses to another one
//! by rule 6, and then ranks marked paths after unmarked ones: the result does not depend on the order
//! in which the paths arrived.

use std::{
    cmp::{Ordering, Reverse},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use super::{
    attribute::{Attributes, Origin},
    policy::LOCAL_PREF,
    slot::{PeerIndex, PeerTable},
};
use crate::state::Via;

/// The most next hops of a multipath route.
pub const MAX_NEXT_HOPS: usize = 16;

/// The next hop and path attributes of a received route. All routes of an UPDATE share one value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteAttrs {
    /// The next hop.
    pub next_hop: IpAddr,
    /// The other path attributes.
    pub attributes: Attributes,
}

impl RouteAttrs {
    /// Returns the attributes of the networks that this node originates. They are empty, because
    /// [`policy::export`](super::policy::export) sets the next hop and the attributes for each peer.
    pub fn local() -> RouteAttrs {
        RouteAttrs { next_hop: Ipv4Addr::UNSPECIFIED.into(), attributes: Attributes::default() }
    }
}

/// A path to a destination.
#[derive(Clone, Debug)]
pub struct Path {
    /// The next hop and path attributes.
    pub attrs: Arc<RouteAttrs>,
    /// The peer that advertised the path, or `PeerIndex::LOCAL` if this node originates it.
    pub from: PeerIndex,
    /// True if the peer restarts and has not advertised the path again yet (RFC 4724).
    pub stale: bool,
    /// True if the next hop is on one of this node's links (RFC 4271 section 9.1.2.1).
    pub resolvable: bool,
    /// True if a path through the same neighbouring AS has a lower MED (rule 6).
    pub loses_on_med: bool,
}

/// The sort key of rules 1 to 5; the lower key is preferred.
type Preference = (bool, bool, Reverse<u32>, usize, Origin);

impl Path {
    fn preference(&self) -> Preference {
        let attributes = &self.attrs.attributes;
        (
            self.from != PeerIndex::LOCAL,
            !self.resolvable,
            Reverse(attributes.local_pref.unwrap_or(LOCAL_PREF)),
            attributes.path_len(),
            attributes.origin,
        )
    }

    /// Returns true if both paths are equal by rules 1 to 5 and `other` is preferred by rule 6.
    fn loses_on_med_to(&self, other: &Path) -> bool {
        let med = |path: &Path| path.attrs.attributes.med.unwrap_or(0);
        med(other) < med(self)
            && other.attrs.attributes.neighbor_as() == self.attrs.attributes.neighbor_as()
            && other.preference() == self.preference()
    }
}

/// Compares two paths by rules 1 to 7; equal paths may form a multipath route.
fn compare_for_multipath(a: &Path, b: &Path, peers: &PeerTable) -> Ordering {
    let internal = |path: &Path| peers.session(path.from).is_some_and(|from| from.internal);
    a.preference()
        .cmp(&b.preference())
        .then(a.loses_on_med.cmp(&b.loses_on_med))
        .then_with(|| internal(a).cmp(&internal(b)))
}

/// Compares two paths by all rules.
fn compare(a: &Path, b: &Path, peers: &PeerTable) -> Ordering {
    let tie_breakers = |path: &Path| {
        let from = peers.session(path.from);
        let attributes = &path.attrs.attributes;
        let id = attributes.originator.or(from.map(|from| from.id));
        (id, attributes.clusters.len(), from.map(|from| from.addr))
    };
    compare_for_multipath(a, b, peers).then_with(|| tie_breakers(a).cmp(&tie_breakers(b)))
}

/// Sorts the paths of a destination, the best first, and updates [`Path::loses_on_med`] of each.
///
/// It is an insertion sort: a destination has few paths, and all but one are sorted already.
pub fn sort_by_preference(paths: &mut [Path], peers: &PeerTable) {
    let any_med = paths.iter().any(|path| path.attrs.attributes.med.is_some_and(|med| med > 0));
    for at in 0..paths.len() {
        paths[at].loses_on_med =
            any_med && paths.iter().any(|other| paths[at].loses_on_med_to(other));
    }
    for mut at in 1..paths.len() {
        while at > 0 && compare(&paths[at], &paths[at - 1], peers).is_lt() {
            paths.swap(at, at - 1);
            at -= 1;
        }
    }
}

/// Returns the next hops of the route that sorted paths give: sorted, without duplicates, and at most
/// [`MAX_NEXT_HOPS`]. `None` if there is no path, if this node originates the best one, or if its next
/// hop is not resolvable.
pub fn multipath(paths: &[Path], peers: &PeerTable) -> Option<Via> {
    let best = paths.first().filter(|best| best.from != PeerIndex::LOCAL && best.resolvable)?;
    let equal = paths.iter().take_while(|path| compare_for_multipath(best, path, peers).is_eq());
    match Via::new(equal.map(|path| path.attrs.next_hop))? {
        Via::Many(all) => Via::new(all.into_iter().take(MAX_NEXT_HOPS)),
        one => Some(one),
    }
}

#[cfg(test)]
mod tests;
