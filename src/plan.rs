//! What has to be done: two sorted sets, walked once.
//!
//! Makes come first, in the order of making, then what is taken away, in the reverse of it.
//! What is equal is not touched, and what differs is changed in place, never removed first.

pub mod sh;
mod text;

use std::cmp::Ordering;

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::state::{Item, State};

/// One change to the kernel or to a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step<'a> {
    /// Make what is not there.
    Add(&'a Item),
    /// Make what is there equal to this.
    Change(&'a Item),
    /// Take this away.
    Remove(&'a Item),
}

impl<'a> Step<'a> {
    /// What it is about.
    pub fn item(&self) -> &'a Item {
        match self {
            Step::Add(item) | Step::Change(item) | Step::Remove(item) => item,
        }
    }
}

impl Serialize for Step<'_> {
    /// `{"step":"add|change|remove","item":{…}}`
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

/// The steps that turn `have` into `want`, which is sorted as a state is, without those removals that
/// `may_go` forbids.
///
/// Links, modules, settings and files are never removed by a cycle.
pub fn plan<'a>(
    have: &'a State,
    want: impl IntoIterator<Item = &'a Item>,
    may_go: impl Fn(&Item) -> bool,
) -> Vec<Step<'a>> {
    let (mut have, mut want) = (have.iter().peekable(), want.into_iter().peekable());
    let (mut steps, mut gone) = (Vec::new(), Vec::new());
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
            (Some(old), None) if !stays(old) && may_go(old) => gone.push(Step::Remove(old)),
            _ => {}
        }
    }
    steps.extend(gone.into_iter().rev());
    steps
}

/// The steps that take all of a state away: links and the table too, but no modules, settings and
/// files. What goes with something else is not named: elements with their table, real servers with
/// their service.
pub fn clear(have: &State) -> Vec<Step<'_>> {
    let goes = |item: &&Item| {
        !matches!(
            item,
            Item::Module { .. }
                | Item::Hairpin { .. }
                | Item::Sysctl { .. }
                | Item::Timeout { .. }
                | Item::Element { .. }
                | Item::Real { .. }
                | Item::File { .. }
        )
    };
    have.iter().rev().filter(goes).map(Step::Remove).collect()
}

/// What a cycle leaves where it is, wanted or not.
fn stays(item: &Item) -> bool {
    matches!(
        item,
        Item::Module { .. }
            | Item::Link { .. }
            | Item::Hairpin { .. }
            | Item::Sysctl { .. }
            | Item::Table { .. }
            | Item::Timeout { .. }
            | Item::File { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::{DUMMY, LinkKind, TABLE_MAIN, Via};

    fn route(to: &str, via: &str) -> Item {
        Item::Route {
            table: TABLE_MAIN,
            to: to.parse().unwrap(),
            via: Some(Via::One(via.parse().unwrap())),
            src: None,
        }
    }

    fn addr(addr: &str) -> Item {
        Item::Addr { link: DUMMY.into(), addr: addr.parse().unwrap() }
    }

    #[test]
    fn equal_states_need_no_step() {
        let state = State::from([route("10.1.0.0/24", "192.0.2.1"), addr("10.96.0.1/32")]);
        assert_eq!(plan(&state, &state, |_| true), []);
    }

    #[test]
    fn a_route_with_another_gateway_is_changed_and_not_removed_first() {
        let have = State::from([route("10.1.0.0/24", "192.0.2.1")]);
        let new = route("10.1.0.0/24", "192.0.2.9");
        let want = State::from([new.clone()]);
        assert_eq!(plan(&have, &want, |_| true), [Step::Change(&new)]);
    }

    #[test]
    fn everything_is_made_before_anything_is_taken_away_and_that_in_reverse() {
        let have = State::from([route("10.1.0.0/24", "192.0.2.1"), addr("10.96.0.1/32")]);
        let want = State::from([addr("10.96.0.2/32")]);
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
    fn a_clean_up_takes_links_last_and_names_no_element_and_no_setting() {
        let link = Item::Link { name: DUMMY.into(), kind: LinkKind::Dummy, mtu: None };
        let knob = Item::Sysctl { name: "net/ipv4/ip_forward".into(), value: "1".into() };
        let (vip, pods) = (addr("10.96.0.1/32"), route("10.1.0.0/24", "192.0.2.1"));
        let have = State::from([link.clone(), knob, pods.clone(), vip.clone()]);
        assert_eq!(clear(&have), [Step::Remove(&pods), Step::Remove(&vip), Step::Remove(&link)]);
    }

    #[test]
    fn links_stay_and_so_does_what_a_doubtful_kind_feeds() {
        let link = Item::Link { name: DUMMY.into(), kind: LinkKind::Dummy, mtu: None };
        let have = State::from([link, route("10.1.0.0/24", "192.0.2.1"), addr("10.96.0.1/32")]);
        let nothing = State::new();
        let steps = plan(&have, &nothing, |i| !matches!(i, Item::Route { .. }));
        assert_eq!(steps, [Step::Remove(&addr("10.96.0.1/32"))]);
    }
}
