//! The difference between two sets of items, as steps.

use std::cmp::Ordering;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::model::items::{Item, ItemSet, Removal};

/// A change to the kernel or to a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step<'a> {
    /// Create an item that does not exist.
    Add(&'a Item),
    /// Change an existing item so that it equals this one.
    Change(&'a Item),
    /// Remove an existing item.
    Remove(&'a Item),
}

impl<'a> Step<'a> {
    /// Returns the item that the step adds, changes or removes.
    pub fn item(&self) -> &'a Item {
        match self {
            Step::Add(item) | Step::Change(item) | Step::Remove(item) => item,
        }
    }
}

impl Serialize for Step<'_> {
    /// Serializes as `{"step":"add|change|remove","item":{…}}`.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let word = match self {
            Step::Add(_) => "add",
            Step::Change(_) => "change",
            Step::Remove(_) => "remove",
        };
        let mut step = to.serialize_struct("Step", 2)?;
        step.serialize_field("step", word)?;
        step.serialize_field("item", self.item())?;
        step.end()
    }
}

/// Returns the steps that turn `have` into `want`, without the removals for which `may_go` returns
/// false. `want` must be sorted as a state is.
///
/// An item that is in `have` only is removed if its [`Item::removal`] includes a pass.
pub fn plan<'a>(
    have: &'a ItemSet,
    want: impl IntoIterator<Item = &'a Item>,
    may_go: impl Fn(&Item) -> bool,
) -> Vec<Step<'a>> {
    let (mut have, mut want) = (have.iter().peekable(), want.into_iter().peekable());
    let (mut steps, mut removals) = (Vec::new(), Vec::new());
    loop {
        let order = match (have.peek(), want.peek()) {
            (None, None) => break,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(h), Some(w)) => h.key().cmp(&w.key()),
        };
        let (old, new) = match order {
            Ordering::Less => (have.next(), None),
            Ordering::Greater => (None, want.next()),
            Ordering::Equal => (have.next(), want.next()),
        };
        match (old, new) {
            (Some(old), Some(new)) if !old.meets(new) => steps.push(Step::Change(new)),
            (None, Some(new)) => steps.push(Step::Add(new)),
            (Some(old), None) if is_removed_by_pass(old) && may_go(old) => {
                removals.push(Step::Remove(old));
            }
            (Some(_), _) | (None, None) => {}
        }
    }
    steps.extend(removals.into_iter().rev());
    steps
}

/// Returns the steps that remove a whole state, with its links and the table. Items whose removal is
/// [`Removal::Never`] stay. Items that disappear together with another item ([`Removal::Pass`]) get
/// no step.
pub fn clear(have: &ItemSet) -> Vec<Step<'_>> {
    let is_removed = |item: &&Item| match item.removal() {
        Removal::Cleanup | Removal::Always => true,
        Removal::Never | Removal::Pass => false,
    };
    have.iter().rev().filter(is_removed).map(Step::Remove).collect()
}

fn is_removed_by_pass(item: &Item) -> bool {
    match item.removal() {
        Removal::Pass | Removal::Always => true,
        Removal::Never | Removal::Cleanup => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::items::{DUMMY, IpipTunnel, LinkKind, NextHops, TABLE_MAIN};

    fn route(to: &str, via: &str) -> Item {
        Item::Route {
            table: TABLE_MAIN,
            to: to.parse().unwrap(),
            via: Some(NextHops::One(via.parse().unwrap())),
            src: None,
        }
    }

    fn addr(addr: &str) -> Item {
        Item::Addr { link: DUMMY.into(), addr: addr.parse().unwrap() }
    }

    #[test]
    fn equal_states_yield_no_steps() {
        let state = ItemSet::from([route("10.1.0.0/24", "192.0.2.1"), addr("10.96.0.1/32")]);
        assert_eq!(plan(&state, &state, |_| true), []);
    }

    #[test]
    fn a_route_with_another_gateway_is_changed_in_place() {
        let have = ItemSet::from([route("10.1.0.0/24", "192.0.2.1")]);
        let new = route("10.1.0.0/24", "192.0.2.9");
        let want = ItemSet::from([new.clone()]);
        assert_eq!(plan(&have, &want, |_| true), [Step::Change(&new)]);
    }

    #[test]
    fn additions_come_first_and_removals_follow_in_reverse_order() {
        let have = ItemSet::from([route("10.1.0.0/24", "192.0.2.1"), addr("10.96.0.1/32")]);
        let want = ItemSet::from([addr("10.96.0.2/32")]);
        assert_eq!(
            plan(&have, &want, |_| true),
            [
                Step::Add(&addr("10.96.0.2/32")),
                Step::Remove(&route("10.1.0.0/24", "192.0.2.1")),
                Step::Remove(&addr("10.96.0.1/32")),
            ]
        );
    }

    #[test]
    fn clear_removes_links_last_and_leaves_sysctls() {
        let link = Item::Link { name: DUMMY.into(), kind: LinkKind::Dummy, mtu: None };
        let sysctl = Item::Sysctl { name: "net/ipv4/ip_forward".into(), value: "1".into() };
        let (vip, pods) = (addr("10.96.0.1/32"), route("10.1.0.0/24", "192.0.2.1"));
        let have = ItemSet::from([link.clone(), sysctl, pods.clone(), vip.clone()]);
        assert_eq!(clear(&have), [Step::Remove(&pods), Step::Remove(&vip), Step::Remove(&link)]);
    }

    #[test]
    fn a_pass_removes_a_tunnel_that_nobody_wants_and_no_other_link() {
        let link = |name: &str, kind| Item::Link { name: name.into(), kind, mtu: None };
        let ends = IpipTunnel { local: [192, 0, 2, 11].into(), remote: None };
        let tunnel = link("kube-ipip", LinkKind::Ipip(Box::new(ends)));
        let bridge = link("kube-bridge", LinkKind::Bridge);
        let other = link("tun0", LinkKind::Other("ipip".into()));
        let have = ItemSet::from([tunnel.clone(), bridge, other]);
        assert_eq!(plan(&have, &ItemSet::new(), |_| true), [Step::Remove(&tunnel)]);
        assert_eq!(clear(&have).len(), 3);
    }

    #[test]
    fn links_and_items_that_may_not_be_removed_stay() {
        let link = Item::Link { name: DUMMY.into(), kind: LinkKind::Dummy, mtu: None };
        let have = ItemSet::from([link, route("10.1.0.0/24", "192.0.2.1"), addr("10.96.0.1/32")]);
        let nothing = ItemSet::new();
        let steps = plan(&have, &nothing, |i| !matches!(i, Item::Route { .. }));
        assert_eq!(steps, [Step::Remove(&addr("10.96.0.1/32"))]);
    }
}
