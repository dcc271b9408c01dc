//! A path to a network, and the choice among several (RFC 4271 section 9.1.2.2). Pure.
//!
//! The paths of a network stand in the order of preference, so that all else looks at the first:
//!
//! 1. what begins here;
//! 2. a next hop on one of the own links (the others are never routes, but a reflector passes them on);
//! 3. the higher LOCAL_PREF, 100 where there is none;
//! 4. the shorter AS_PATH;
//! 5. the lower ORIGIN;
//! 6. the lower MED (0 where there is none) among those equal so far of the same neighbouring AS;
//! 7. what came from another AS;
//! 8. the lower ORIGINATOR_ID, or else BGP Identifier of the peer (RFC 4456 section 9);
//! 9. the shorter CLUSTER_LIST;
//! 10. the lower address of the peer.
//!
//! Paths equal up to 7 are equally good for the node: their next hops make one route. That a path is
//! stale counts for nothing (RFC 4724 section 4.2). By rule 6 alone paths can't be put in a row (it says
//! nothing of two neighbouring ASes), so a path that another one beats by it is marked before, and loses
//! to all that are not: the outcome does not hang on the order in which they came.

use std::{
    cmp::{Ordering, Reverse},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use super::{
    attribute::{Attributes, Origin},
    policy::LOCAL_PREF,
    slot::Slots,
};
use crate::state::Via;

/// Stands for this node where a peer is named by its place.
pub const LOCAL: u16 = u16::MAX;
/// The most next hops of one route.
pub const HOPS: usize = 16;

/// What a peer said of a path: the same value for all routes of an UPDATE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The next hop.
    pub next_hop: IpAddr,
    /// The rest.
    pub attributes: Attributes,
}

impl Said {
    /// What is said of the own networks: nothing, a peer is told its own address as the next hop.
    pub fn nothing() -> Said {
        Said { next_hop: Ipv4Addr::UNSPECIFIED.into(), attributes: Attributes::default() }
    }
}

/// A way to a network.
#[derive(Clone, Debug)]
pub struct Path {
    /// What was said of it.
    pub said: Arc<Said>,
    /// The place of the peer that it came from, or [`LOCAL`].
    pub from: u16,
    /// Its peer restarts and has not said it again yet (RFC 4724).
    pub stale: bool,
    /// Its next hop is on one of the own links.
    pub usable: bool,
    /// Another one by way of the same AS has a lower MED (rule 6).
    pub beaten: bool,
}

/// Rules 1 to 5: the lower is the better.
type Merit = (bool, bool, Reverse<u32>, usize, Origin);

impl Path {
    fn merit(&self) -> Merit {
        let said = &self.said.attributes;
        (
            self.from != LOCAL,
            !self.usable,
            Reverse(said.local_pref.unwrap_or(LOCAL_PREF)),
            said.length(),
            said.origin,
        )
    }

    /// Whether it is the lesser by rule 6 of two that are equal before it.
    fn is_beaten_by(&self, other: &Path) -> bool {
        let med = |path: &Path| path.said.attributes.med.unwrap_or(0);
        med(other) < med(self)
            && other.said.attributes.first() == self.said.attributes.first()
            && other.merit() == self.merit()
    }
}

/// By rules 1 to 7.
fn compare_roughly(a: &Path, b: &Path, slots: &Slots) -> Ordering {
    let internal = |path: &Path| slots.session(path.from).is_some_and(|from| from.internal);
    a.merit()
        .cmp(&b.merit())
        .then(a.beaten.cmp(&b.beaten))
        .then_with(|| internal(a).cmp(&internal(b)))
}

/// By all rules.
fn compare(a: &Path, b: &Path, slots: &Slots) -> Ordering {
    let last = |path: &Path| {
        let from = slots.session(path.from);
        let said = &path.said.attributes;
        let id = said.originator.or(from.map(|from| from.id));
        (id, said.clusters.len(), from.map(|from| from.addr))
    };
    compare_roughly(a, b, slots).then_with(|| last(a).cmp(&last(b)))
}

/// Brings paths in their order. They are few, and all but one are in order already.
pub fn arrange(paths: &mut [Path], slots: &Slots) {
    let weighed = paths.iter().any(|path| path.said.attributes.med.is_some_and(|med| med > 0));
    for at in 0..paths.len() {
        paths[at].beaten = weighed && paths.iter().any(|other| paths[at].is_beaten_by(other));
    }
    for mut at in 1..paths.len() {
        while at > 0 && compare(&paths[at], &paths[at - 1], slots).is_lt() {
            paths.swap(at, at - 1);
            at -= 1;
        }
    }
}

/// The next hops of a route by paths in their order: sorted, each once. None, where it begins here or
/// no next hop is on a link.
pub fn hops(paths: &[Path], slots: &Slots) -> Option<Via> {
    let first = paths.first().filter(|best| best.from != LOCAL && best.usable)?;
    let equal = paths.iter().take_while(|path| compare_roughly(first, path, slots).is_eq());
    match Via::new(equal.map(|path| path.said.next_hop))? {
        Via::Many(all) => Via::new(all.into_iter().take(HOPS)),
        one => Some(one),
    }
}

#[cfg(test)]
mod tests;
