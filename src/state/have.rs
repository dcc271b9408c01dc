//! What a kernel holds, as seen from what is wanted of it.

use super::{Item, State};

/// Most of what is there is there exactly as it is wanted: that is a mark here, and no second copy.
#[derive(Debug, Default)]
pub struct Have {
    /// Of each wanted item in its place, whether it is there. Where the list ends, none is known to be.
    met: Vec<bool>,
    /// All else that is there; what is wanted otherwise too.
    pub others: State,
}

impl Have {
    /// What is wanted and not there exactly so.
    pub fn lacking<'a>(&self, want: &'a State) -> impl Iterator<Item = &'a Item> {
        debug_assert!(self.met.is_empty() || self.met.len() == want.len(), "another state");
        let is_met = |at| self.met.get(at).is_some_and(|met| *met);
        want.iter().enumerate().filter(move |(at, _)| !is_met(*at)).map(|(_, item)| item)
    }

    /// All that is there. `want` is what it was seen from.
    pub fn all(self, want: &State) -> State {
        let met = want.iter().zip(&self.met).filter(|(_, met)| **met).map(|(item, _)| item);
        met.cloned().chain(self.others).collect()
    }
}

impl From<State> for Have {
    /// As seen from nothing.
    fn from(others: State) -> Have {
        Have { met: Vec::new(), others }
    }
}

/// Gathers what is there, in any order.
pub struct Seen<'a> {
    /// What it is seen from.
    pub want: &'a State,
    met: Vec<bool>,
    others: Vec<Item>,
}

impl<'a> Seen<'a> {
    /// Nothing was seen yet.
    pub fn new(want: &'a State) -> Seen<'a> {
        Seen { want, met: vec![false; want.len()], others: Vec::new() }
    }

    /// This is there; whether it is wanted exactly so.
    pub fn push(&mut self, item: Item) -> bool {
        let wanted = self.want.place(&item);
        match wanted {
            Some(at) => self.met[at] = true,
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
    fn from(Seen { met, others, .. }: Seen<'_>) -> Have {
        Have { met, others: others.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(name: &str) -> Item {
        Item::Module { name: name.into() }
    }

    #[test]
    fn what_is_there_as_it_is_wanted_is_a_mark_and_the_rest_is_kept() {
        let want = State::from(["a", "b", "c"].map(module));
        let mut seen = Seen::new(&want);
        assert!(seen.push(module("b")) && !seen.push(module("x")));
        seen.extend([module("x"), module("c")]);
        let have = Have::from(seen);
        assert_eq!(have.others, State::from([module("x")]));
        assert!(have.lacking(&want).eq(&[module("a")]));
        assert_eq!(have.all(&want), ["b", "c", "x"].map(module).into());
        let blind = Have::from(State::from([module("b")]));
        assert!(blind.lacking(&want).eq(want.iter()), "it is for the plan to compare");
        assert_eq!(blind.all(&want), [module("b")].into());
    }
}
