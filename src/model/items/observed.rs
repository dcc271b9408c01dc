//! The observed state, stored relative to the desired state. [`Seen`] collects the observed items;
//! [`Have`] is the result, from which `plan` gets the missing items and the others.

use super::{Item, State};

/// The observed state. Most observed items equal a desired item; such an item is stored as one
/// `bool` instead of a second copy.
#[derive(Debug, Default)]
pub struct Have {
    /// True at the index of each desired item that was observed. Items beyond the end of the list
    /// count as not observed.
    matched: Vec<bool>,
    /// All other observed items; also those that are desired with other fields.
    pub others: State,
}

impl Have {
    /// Returns the desired items for which no equal item was observed. `want` must be the state
    /// that the items were compared with.
    pub fn lacking<'a>(&self, want: &'a State) -> impl Iterator<Item = &'a Item> {
        debug_assert!(
            self.matched.is_empty() || self.matched.len() == want.len(),
            "compared with another state"
        );
        let is_matched = |at| self.matched.get(at).is_some_and(|matched| *matched);
        want.iter().enumerate().filter(move |(at, _)| !is_matched(*at)).map(|(_, item)| item)
    }

    /// Returns all observed items. `want` must be the state that the items were compared with.
    pub fn all(self, want: &State) -> State {
        let matched =
            want.iter().zip(&self.matched).filter(|(_, matched)| **matched).map(|(item, _)| item);
        matched.cloned().chain(self.others).collect()
    }
}

impl From<State> for Have {
    /// Converts observed items that were compared with no desired state.
    fn from(others: State) -> Have {
        Have { matched: Vec::new(), others }
    }
}

/// Collects observed items, in any order, and compares each with the desired state.
pub struct Seen<'a> {
    /// The desired state.
    pub want: &'a State,
    matched: Vec<bool>,
    others: Vec<Item>,
}

impl<'a> Seen<'a> {
    /// Starts with no observed item.
    pub fn new(want: &'a State) -> Seen<'a> {
        Seen { want, matched: vec![false; want.len()], others: Vec::new() }
    }

    /// Adds an observed item. Returns true if it equals a desired item.
    pub fn push(&mut self, item: Item) -> bool {
        let wanted = self.want.place(&item);
        match wanted {
            Some(at) => self.matched[at] = true,
            None => self.others.push(item),
        }
        wanted.is_some()
    }
}

impl Extend<Item> for Seen<'_> {
    fn extend<I: IntoIterator<Item = Item>>(&mut self, items: I) {
        for item in items {
            self.push(item);
        }
    }
}

impl From<Seen<'_>> for Have {
    fn from(Seen { matched, others, .. }: Seen<'_>) -> Have {
        Have { matched, others: others.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str) -> Item {
        Item::Module { name: name.into() }
    }

    #[test]
    fn an_observed_item_that_equals_a_desired_one_is_a_flag_and_others_are_kept() {
        let want = State::from(["a", "b", "c"].map(module));
        let mut seen = Seen::new(&want);
        assert!(seen.push(module("b")) && !seen.push(module("x")));
        seen.extend([module("x"), module("c")]);
        let have = Have::from(seen);
        assert_eq!(have.others, State::from([module("x")]));
        assert!(have.lacking(&want).eq(&[module("a")]));
        assert_eq!(have.all(&want), ["b", "c", "x"].map(module).into());
        let uncompared = Have::from(State::from([module("b")]));
        assert!(uncompared.lacking(&want).eq(want.iter()), "items were compared with no state");
        assert_eq!(uncompared.all(&want), [module("b")].into());
    }
}
