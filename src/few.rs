//! A map for few entries, or for many that come in their order: a sorted list, without the 4 to 9 KB
//! that `BTreeMap` brings along for each kind of key and value, and the half of its leaves that are empty
//! then. Its words are `BTreeMap`'s. To put one in moves all behind it, so what may hold many thousands
//! and is not filled in order is better off with the other.

mod sorted;

use std::{borrow::Borrow, fmt, marker::PhantomData, slice, vec};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};

pub use sorted::Sorted;

/// Keys in their order, each with a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Few<K, V>(Vec<(K, V)>);

impl<K, V> Few<K, V> {
    /// Holds nothing yet.
    pub const fn new() -> Few<K, V> {
        Few(Vec::new())
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// All entries in the order of their keys.
    pub fn iter(&self) -> Iter<'_, K, V> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// All keys in their order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// All values in the order of their keys, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// All entries in the order of their keys, the values to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&K, &mut V)> {
        self.0.iter_mut().map(|(key, value)| (&*key, value))
    }

    /// All values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> + Clone {
        self.0.iter().map(|(_, value)| value)
    }

    /// Takes out what is not to be kept.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &V) -> bool) {
        self.0.retain(|(key, value)| keep(key, value));
    }
}

impl<K: Ord, V> Few<K, V> {
    /// Where a key is, or belongs.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(k, _)| k.borrow().cmp(key))
    }

    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &mut self.0[at].1)
    }

    /// Whether a key is there.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// The entries from a key on, itself too where it is there.
    pub fn tail<Q: Ord + ?Sized>(&self, key: &Q) -> impl Iterator<Item = (&K, &V)>
    where
        K: Borrow<Q>,
    {
        let from = self.find(key).unwrap_or_else(|at| at);
        self.0[from..].iter().map(|(key, value)| (key, value))
    }

    /// Puts an entry in, and gives the value that the key had.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, value)),
            Err(at) => {
                self.0.insert(at, (key, value));
                None
            }
        }
    }

    /// Takes an entry out, and gives its value.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }

    /// The value of a key, which is put in where it is not there.
    pub fn or_default(&mut self, key: K) -> &mut V
    where
        V: Default,
    {
        self.or_insert_with(key, V::default)
    }

    /// The value of a key, which is made and put in where it is not there.
    pub fn or_insert_with(&mut self, key: K, make: impl FnOnce() -> V) -> &mut V {
        let at = self.find(&key).unwrap_or_else(|at| {
            self.0.insert(at, (key, make()));
            at
        });
        &mut self.0[at].1
    }
}

impl<K, V> Default for Few<K, V> {
    fn default() -> Few<K, V> {
        Few::new()
    }
}

impl<K: Ord, V> Extend<(K, V)> for Few<K, V> {
    fn extend<I: IntoIterator<Item = (K, V)>>(&mut self, entries: I) {
        entries.into_iter().for_each(|(key, value)| drop(self.insert(key, value)));
    }
}

impl<K: Ord, V, const N: usize> From<[(K, V); N]> for Few<K, V> {
    fn from(entries: [(K, V); N]) -> Few<K, V> {
        entries.into_iter().collect()
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Few<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Few<K, V> {
        let mut few = Few::new();
        few.extend(entries);
        few
    }
}

/// The keys that are in one of two lists in their order and not, or with another value, in the other.
pub fn differing<K: Ord + Copy, V: PartialEq>(
    old: impl Iterator<Item = (K, V)>,
    new: impl Iterator<Item = (K, V)>,
) -> Sorted<K> {
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

/// Entries by reference.
pub type Iter<'a, K, V> = std::iter::Map<slice::Iter<'a, (K, V)>, fn(&'a (K, V)) -> (&'a K, &'a V)>;

impl<'a, K, V> IntoIterator for &'a Few<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Iter<'a, K, V> {
        self.iter()
    }
}

impl<K, V> IntoIterator for Few<K, V> {
    type Item = (K, V);
    type IntoIter = vec::IntoIter<(K, V)>;

    fn into_iter(self) -> vec::IntoIter<(K, V)> {
        self.0.into_iter()
    }
}

impl<K: Serialize, V: Serialize> Serialize for Few<K, V> {
    /// As an object.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self)
    }
}

impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Deserialize<'de> for Few<K, V> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Few<K, V>, D::Error> {
        struct Entries<K, V>(PhantomData<(K, V)>);

        impl<'de, K: Deserialize<'de> + Ord, V: Deserialize<'de>> Visitor<'de> for Entries<K, V> {
            type Value = Few<K, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Few<K, V>, A::Error> {
                let mut few = Few::new();
                while let Some((key, value)) = from.next_entry()? {
                    few.insert(key, value);
                }
                Ok(few)
            }
        }

        from.deserialize_map(Entries(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_holds_what_a_btreemap_holds_whatever_is_done_to_it() {
        let (mut few, mut map) = (Few::new(), BTreeMap::new());
        let mut dice = 0x9e37_79b9_u32;
        for step in 0..20_000 {
            dice ^= dice << 13;
            dice ^= dice >> 17;
            dice ^= dice << 5;
            let key = (dice >> 3) as u8 % 32;
            match dice % 5 {
                0 => assert_eq!(few.remove(&key), map.remove(&key)),
                1 => *few.or_default(key) = *map.entry(key).or_insert(0),
                2 if dice % 50 == 2 => {
                    few.retain(|k, v| (u32::from(*k) + v) % 3 > 0);
                    map.retain(|k, v| (u32::from(*k) + *v) % 3 > 0);
                }
                _ => assert_eq!(few.insert(key, step), map.insert(key, step)),
            }
            assert_eq!(
                (few.get(&key), few.contains_key(&key)),
                (map.get(&key), map.contains_key(&key))
            );
            assert!(few.iter().eq(&map), "{step}: {few:?} {map:?}");
            assert!(few.tail(&key).eq(map.range(key..)), "{step}: {few:?} {map:?}");
        }
        assert!(few.keys().eq(map.keys()) && few.values().eq(map.values()));
        assert_eq!((few.len(), few.is_empty()), (map.len(), false));
        assert!(map.iter().map(|(k, v)| (*k, *v)).rev().collect::<Few<_, _>>() == few);
    }

    #[test]
    fn it_is_an_object_in_json_and_a_later_entry_of_one_key_counts() {
        let few: Few<Box<str>, u8> = serde_json::from_str(r#"{"b":1,"a":2,"b":3}"#).unwrap();
        assert_eq!(serde_json::to_string(&few).unwrap(), r#"{"a":2,"b":3}"#);
        let wrong = serde_json::from_str::<Few<Box<str>, u8>>("[]").unwrap_err().to_string();
        assert!(wrong.starts_with("invalid type: sequence, expected a map"), "{wrong}");
    }
}
