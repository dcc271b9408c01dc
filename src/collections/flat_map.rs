//! A map stored as a sorted vector.

use super::flat_set::FlatSet;
use std::{borrow::Borrow, fmt, marker::PhantomData, slice, vec};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

/// A map from keys to values, in the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatMap<K, V>(Vec<(K, V)>);

impl<K, V> FlatMap<K, V> {
    /// Creates an empty map.
    pub const fn new() -> FlatMap<K, V> {
        FlatMap(Vec::new())
    }

    /// Returns the number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if there are no entries.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Removes all entries.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Returns the entries in the order of their keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Returns the keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// Returns mutable references to the values, in the order of their keys.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// Returns the entries in the order of their keys, with mutable values.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// Returns the values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.0.iter().map(|(_, value)| value)
    }

    /// Removes the entries for which `keep` returns false.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.0.retain(|(key, value)| keep(key, value));
    }
}

impl<K: Ord, V> FlatMap<K, V> {
    /// Returns the index of a key, or as `Err` the index at which it must be inserted.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(k, _)| k.borrow().cmp(key))
    }

    /// Returns the value of a key. `None` if the key is absent.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// Returns a mutable reference to the value of a key. `None` if the key is absent.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &mut self.0[at].1)
    }

    /// Returns true if the key is present.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// Returns the entries whose key is `key` or greater, in order.
    pub fn tail<Q: Ord + ?Sized>(&self, key: &Q) -> impl Iterator<Item = (&K, &V)>
    where
        K: Borrow<Q>,
    {
        let from = self.find(key).unwrap_or_else(|at| at);
        self.0[from..].iter().map(|(key, value)| (key, value))
    }

    /// Inserts an entry. Returns the earlier value of the key, `None` if the key was absent.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// Removes an entry and returns its value. `None` if the key is absent.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }

    /// Returns the value of a key. If the key is absent, the default value is inserted first.
    pub fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.or_insert_with(key, V::default)
    }

    /// Returns the value of a key. If the key is absent, the value that `make` returns is inserted first.
    pub fn or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let at = self.find(&key).unwrap_or_else(|at| {
            self.0.insert(at, (key, make()));
            at
        });
        &mut self.0[at].1
    }
}

impl<K, V> Default for FlatMap<K, V> {
    fn default() -> FlatMap<K, V> {
        FlatMap::new()
    }
}

impl<K: Ord, V> Extend<(K, V)> for FlatMap<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        entries.into_iter().for_each(|(key, value)| drop(self.insert(key, value)));
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for FlatMap<K, V> {
    fn from(entries: [(K, V); N]) -> FlatMap<K, V> {
        entries.into_iter().collect()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for FlatMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> FlatMap<K, V> {
        let mut flat = FlatMap::new();
        flat.extend(entries);
        flat
    }
}

/// Returns the keys that are in only one of two sequences, or have different values in them. Both
/// sequences must be sorted by key.
pub fn changed_keys<K: Ord + Copy, V: PartialEq>(
    old: impl Iterator<Item = (K, V)>,
    new: impl Iterator<Item = (K, V)>,
) -> FlatSet<K> {
    let (mut old, mut new) = (old.peekable(), new.peekable());
    let mut found = Vec::new();
    while let Some(key) = old.peek().into_iter().chain(new.peek()).map(|(key, _)| *key).min() {
        let of = |entry: &(K, V)| entry.0 == key;
        if old.next_if(of) != new.next_if(of) {
            found.push(key);
        }
    }
    found.into()
}

/// An iterator over the entries of a [`FlatMap`] by reference.
pub type Iter<'a, K, V> = std::iter::Map<slice::Iter<'a, (K, V)>, fn(&'a (K, V)) -> (&'a K, &'a V)>;

impl<'a, K, V> IntoIterator for &'a FlatMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<K, V> IntoIterator for FlatMap<K, V> {
    type Item = (K, V);
    type IntoIter = vec::IntoIter<(K, V)>;

    fn into_iter(self) -> vec::IntoIter<(K, V)> {
        self.0.into_iter()
    }
}

impl<K: Serialize, V: Serialize> Serialize for FlatMap<K, V> {
    /// Serializes as a map (a JSON object).
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self)
    }
}

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for FlatMap<K, V> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<FlatMap<K, V>, D::Error> {
        struct Entries<K, V>(PhantomData<(K, V)>);

        impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Entries<K, V> {
            type Value = FlatMap<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<FlatMap<K, V>, A::Error> {
                let mut flat = FlatMap::new();
                while let Some((key, value)) = from.next_entry()? {
                    flat.insert(key, value);
                }
                Ok(flat)
            }
        }

        from.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::rng::Rng;

    #[test]
    fn it_equals_a_btreemap_after_any_operations() {
        let (mut flat, mut map) = (FlatMap::new(), BTreeMap::new());
        let mut rng = Rng(0x9e37_79b9);
        for step in 0..20_000 {
            let dice = rng.below(1 << 31);
            let key = (dice >> 3) as u8 % 32;
            match dice % 5 {
                0 => assert_eq!(flat.remove(&key), map.remove(&key)),
                1 => *flat.or_default(key) = *map.entry(key).or_insert(0),
                2 if dice % 50 == 2 => {
                    flat.retain(|k, v| (u32::from(*k) + v) % 3 > 0);
                    map.retain(|k, v| (u32::from(*k) + *v) % 3 > 0);
                }
                _ => assert_eq!(flat.insert(key, step), map.insert(key, step)),
            }
            assert_eq!(
                (flat.get(&key), flat.contains_key(&key)),
                (map.get(&key), map.contains_key(&key))
            );
            assert!(flat.iter().eq(&map), "{step}: {flat:?} {map:?}");
            assert!(flat.tail(&key).eq(map.range(key..)), "{step}: {flat:?} {map:?}");
        }
        assert!(flat.keys().eq(map.keys()) && flat.values().eq(map.values()));
        assert_eq!((flat.len(), flat.is_empty()), (map.len(), false));
        assert!(map.iter().map(|(k, v)| (*k, *v)).rev().collect::<FlatMap<_, _>>() == flat);
    }

    #[test]
    fn it_is_an_object_in_json_and_the_last_of_duplicate_keys_wins() {
        let flat: FlatMap<Box<str>, u8> = serde_json::from_str(r#"{"b":1,"a":2,"b":3}"#).unwrap();
        assert_eq!(serde_json::to_string(&flat).unwrap(), r#"{"a":2,"b":3}"#);
        let wrong = serde_json::from_str::<FlatMap<Box<str>, u8>>("[]").unwrap_err().to_string();
        assert!(wrong.starts_with("invalid type: sequence, expected a map"), "{wrong}");
    }
}
