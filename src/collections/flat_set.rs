//! A set stored as a sorted vector, the counterpart of the map [`FlatMap`](super::FlatMap).
//!
//! Building it costs one sort, and a lookup is a binary search. A later insertion moves every value
//! behind it. The method names follow `BTreeSet`; everything else comes from the slice that it derefs to.

use std::{borrow::Borrow, ops::Deref, slice, vec};

use serde::{Deserialize, Serialize};

/// A set of values, in order. It derefs to a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<T>", bound(deserialize = "T: Deserialize<'de> + Ord"))]
pub struct FlatSet<T>(Vec<T>);

impl<T> FlatSet<T> {
    /// Creates an empty set.
    pub const fn new() -> FlatSet<T> {
        FlatSet(Vec::new())
    }

    /// Removes all values.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Removes the values for which `keep` returns false.
    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.0.retain(keep);
    }
}

impl<T: Ord> FlatSet<T> {
    /// Returns the index of a value, or as `Err` the index at which it must be inserted.
    fn find<Q: Ord + ?Sized>(&self, value: &Q) -> Result<usize, usize>
    where
        T: Borrow<Q>,
    {
        self.0.binary_search_by(|own| own.borrow().cmp(value))
    }

    /// Returns the index of a value. `None` if it is absent.
    pub fn place(&self, value: &T) -> Option<usize> {
        self.find(value).ok()
    }

    /// Returns true if the value is present.
    pub fn contains<Q: Ord + ?Sized>(&self, value: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.find(value).is_ok()
    }

    /// Returns the values that are equal to `value` or greater.
    pub fn tail(&self, value: &T) -> &[T] {
        &self.0[self.find(value).unwrap_or_else(|at| at)..]
    }

    /// Inserts a value. Returns true if it was absent.
    pub fn insert(&mut self, value: T) -> bool {
        let place = self.find(&value);
        place.inspect_err(|at| self.0.insert(*at, value)).is_err()
    }

    /// Removes a value. Returns true if it was present.
    pub fn remove<Q: Ord + ?Sized>(&mut self, value: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        let place = self.find(value);
        place.inspect(|at| drop(self.0.remove(*at))).is_ok()
    }
}

impl<T> Deref for FlatSet<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T> Default for FlatSet<T> {
    fn default() -> FlatSet<T> {
        FlatSet::new()
    }
}

impl<T: Ord> From<Vec<T>> for FlatSet<T> {
    fn from(mut values: Vec<T>) -> FlatSet<T> {
        if !values.is_sorted() {
            // In a std built for size this is a heap sort, which does not profit from sorted input.
            values.sort_unstable();
        }
        values.dedup();
        FlatSet(values)
    }
}

impl<T: Ord, const N: usize> From<[T; N]> for FlatSet<T> {
    fn from(values: [T; N]) -> FlatSet<T> {
        FlatSet::from_iter(values)
    }
}

impl<T: Ord> FromIterator<T> for FlatSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> FlatSet<T> {
        Vec::from_iter(values).into()
    }
}

impl<T: Ord> Extend<T> for FlatSet<T> {
    fn extend<I: IntoIterator<Item = T>>(&mut self, values: I) {
        let mut all = std::mem::take(&mut self.0);
        all.extend(values);
        *self = all.into();
    }
}

impl<T> IntoIterator for FlatSet<T> {
    type Item = T;
    type IntoIter = vec::IntoIter<T>;

    fn into_iter(self) -> vec::IntoIter<T> {
        self.0.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a FlatSet<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> slice::Iter<'a, T> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_equals_a_btreeset_after_any_operations() {
        let (mut set, mut tree) = (FlatSet::new(), BTreeSet::new());
        let mut dice = 0x9e37_79b9_u32;
        for step in 0..20_000 {
            dice ^= dice << 13;
            dice ^= dice >> 17;
            dice ^= dice << 5;
            let value = (dice >> 3) as u8 % 32;
            match dice % 5 {
                0 => assert_eq!(set.remove(&value), tree.remove(&value)),
                1 if dice % 50 == 1 => {
                    set.retain(|v| v % 3 > 0);
                    tree.retain(|v| v % 3 > 0);
                }
                2 if dice % 50 == 2 => {
                    set.extend([value, 3, 1]);
                    tree.extend([value, 3, 1]);
                }
                _ => assert_eq!(set.insert(value), tree.insert(value)),
            }
            assert_eq!(set.contains(&value), tree.contains(&value));
            assert_eq!(set.place(&value).map(|at| set[at]), tree.get(&value).copied());
            assert!(set.tail(&value).iter().eq(tree.range(value..)), "{step}: {set:?}");
            assert!(set.iter().eq(&tree), "{step}: {set:?} {tree:?}");
        }
        assert_eq!((set.len(), set.is_empty()), (tree.len(), false));
        assert_eq!(tree.iter().rev().copied().collect::<FlatSet<_>>(), set);
    }

    #[test]
    fn it_is_a_sorted_array_in_json_and_reads_back_from_any_order() {
        let set: FlatSet<u8> = serde_json::from_str("[3,1,2,3]").unwrap();
        assert_eq!(serde_json::to_string(&set).unwrap(), "[1,2,3]");
    }
}
