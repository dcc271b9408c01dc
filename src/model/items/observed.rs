//! The observed state, stored relative to the desired state. [`Observer`] collects the observed items;
//! [`Observed`] is the result, from which `plan` gets the missing items and the others.

use super::{Item, ItemSet};

/// The observed state. Most observed items equal a desired item; such an item is stored as one
/// `bool` instead of a second copy.
#[derive(Debug, Default)]
pub struct Observed {
    /// True at the index of each desired item that was observed. Items beyond the end of the list
    /// count as not observed.
    matched: Vec<bool>,
    /// All other observed items; also those that are desired with other fields.
    pub others: ItemSet,
}

impl Observed {
    /// Returns the desired items for which no equal item was observed. `want` must be the state
    /// that the items were compared with.
    pub fn lacking<'a>(&self, want: &'a ItemSet) -> impl Iterator<Item = &'a Item> {
        debug_assert!(
            self.matched.is_empty() || self.matched.len() == want.len(),
            "compared with another state"
        );
        let is_matched = |at| self.matched.get(at).is_some_and(|matched| *matched);
        want.iter().enumerate().filter(move |(at, _)| !is_matched(*at)).map(|(_, item)| item)
    }

    /// Returns all observed items. `want` must be the state that the items were compared with.
    pub fn all(self, want: &ItemSet) -> ItemSet {
        let matched =
            want.iter().zip(&self.matched).filter(|(_, matched)| **matched).map(|(item, _)| item);
        matched.cloned().chain(self.others).collect()
    }
}

impl From<ItemSet> for Observed {
    /// Converts observed items that were compared with no desired state.
    fn from(others: ItemSet) -> Observed {
        Observed { matched: Vec::new(), others }
    }
}

/// Collects observed items, in any order, and compares each with the desired state.
pub struct Observer<'a> {
    /// The desired state.
    pub want: &'a ItemSet,
    matched: Vec<bool>,
    others: Vec<Item>,
}

impl<'a> Observer<'a> {
    /// Starts with no observed item.
    pub fn new(want: &'a ItemSet) -> Observer<'a> {
        Observer { want, matched: vec![false; want.len()], others: Vec::new() }
    }

    /// Adds an observed item. Returns true if it equals a desired item.
    pub fn push(&mut self, item: Item) -> bool {
        let wanted = self.want.position(&item);
        match wanted {
            Some(at) => self.matched[at] = true,
            None => self.others.push(item),
        }
        wanted.is_some()
    }
}

impl Extend<Item> for Observer<'_> {
    fn extend<I: IntoIterator<Item = Item>>(&mut self, items: I) {
        for item in items {
            self.push(item);
        }
    }
}

impl From<Observer<'_>> for Observed {
    fn from(Observer { matched, others, .. }: Observer<'_>) -> Observed {
        Observed { matched, others: others.into() }
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
        let want = ItemSet::from(["a", "b", "c"].map(module));
        let mut seen = Observer::new(&want);
        assert!(seen.push(module("b")) && !seen.push(module("x")));
        seen.extend([module("x"), module("c")]);
        let have = Observed::from(seen);
        assert_eq!(have.others, ItemSet::from([module("x")]));
        assert!(have.lacking(&want).eq(&[module("a")]));
        assert_eq!(have.all(&want), ["b", "c", "x"].map(module).into());
        let uncompared = Observed::from(ItemSet::from([module("b")]));
        assert!(uncompared.lacking(&want).eq(want.iter()), "items were compared with no state");
        assert_eq!(uncompared.all(&want), [module("b")].into());
    }
}
