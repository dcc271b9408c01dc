//! A front end of serde_json that exists to save code size: it is a build trick, not a format rule.
//!
//! serde derives code that reads a struct from a list of its fields as well as from a map, and
//! serde_json calls that code if it finds a `[`. The code for lists is a quarter of all code that reads
//! JSON. [`from_str`] wraps the deserializer in `Objects`, which asks for a map in place of each
//! struct, at every depth. The list code is then never called, and the linker drops it. The side
//! effect is that a list in place of a struct is an error; JSON written for people has no such lists.

use std::fmt;

use serde::{
    Deserialize,
    de::{
        DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess,
        Visitor,
    },
};

/// Parses `text` as one JSON value. Fails if the text is not valid JSON, does not fit `T`, or goes on
/// after the value.
pub(crate) fn from_str<'de, T: Deserialize<'de>>(text: &'de str) -> serde_json::Result<T> {
    let mut from = serde_json::Deserializer::from_str(text);
    let value = T::deserialize(Objects(&mut from))?;
    from.end()?;
    Ok(value)
}

/// A wrapper around a part of serde (deserializer, visitor, seed or access) that makes structs maps in
/// everything reached through it.
struct Objects<T>(T);

/// Forwards the methods that reach no nested value.
macro_rules! plain {
    ($($name:ident)*) => {
        $(fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$name(visitor)
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Objects<D> {
    type Error = D::Error;

    plain! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32
        deserialize_i64 deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32
        deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64 deserialize_char
        deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_unit
        deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_option(Objects(visitor))
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit_struct(name, visitor)
    }

    /// Not wrapped, because serde_json reads a `RawValue` as a newtype struct with a special name.
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_seq(Objects(visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(
        self,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(len, Objects(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple_struct(name, len, Objects(visitor))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Objects(visitor))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Objects(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_enum(name, variants, Objects(visitor))
    }
}

/// The methods for scalars are missing: [`Objects`] wraps a visitor only in methods that reach nested
/// values, and serde's default for the others is an error.
impl<'de, V: Visitor<'de>> Visitor<'de> for Objects<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Objects(from))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, from: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Objects(from))
    }

    fn visit_map<A: MapAccess<'de>>(self, from: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Objects(from))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, from: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(Objects(from))
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Objects<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Objects(from))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, A::Error> {
        self.0.next_element_seed(Objects(seed))
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        self.0.next_key_seed(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.0.next_value_seed(Objects(seed))
    }
}

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Objects<A> {
    type Error = A::Error;
    type Variant = Objects<A::Variant>;

    fn variant_seed<T: DeserializeSeed<'de>>(
        self,
        seed: T,
    ) -> Result<(T::Value, Objects<A::Variant>), A::Error> {
        let (value, variant) = self.0.variant_seed(seed)?;
        Ok((value, Objects(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Objects<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.0.unit_variant()
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, A::Error> {
        self.0.newtype_variant_seed(Objects(seed))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, Objects(visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, Objects(visitor))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::collections::FlatMap;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        n: i64,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    enum Kind {
        Bare,
        With(Inner),
    }

    #[derive(Debug, Deserialize)]
    struct Outer<'a> {
        list: Vec<Option<Inner>>,
        pair: (u8, Inner),
        map: FlatMap<Box<str>, Inner>,
        kinds: [Kind; 2],
        #[serde(borrow)]
        raw: &'a RawValue,
    }

    #[test]
    fn derived_types_are_read_at_every_depth() {
        let text = r#"{"list":[{"n":1},null],"pair":[2,{"n":3}],"map":{"a":{"n":4}},
            "kinds":["Bare",{"With":{"n":5}}],"raw":[ 6 ],"more":[[]]}"#;
        let Outer { list, pair, map, kinds, raw } = from_str(text).unwrap();
        assert_eq!(list, [Some(Inner { n: 1 }), None]);
        assert_eq!((pair, map.get("a")), ((2, Inner { n: 3 }), Some(&Inner { n: 4 })));
        assert_eq!(kinds, [Kind::Bare, Kind::With(Inner { n: 5 })]);
        assert_eq!(raw.get(), "[ 6 ]");
    }

    #[test]
    fn a_list_in_place_of_a_struct_is_an_error_at_any_depth() {
        let wrong = |e: serde_json::Error| e.to_string();
        let got = from_str::<Inner>("[1]").map_err(wrong);
        let want = "invalid type: sequence, expected struct Inner at line 1 column 0";
        assert_eq!(got, Err(want.to_owned()));
        for text in ["[[1]]", "[null,[1]]"] {
            let got = from_str::<Vec<Option<Inner>>>(text).map_err(wrong).unwrap_err();
            assert!(got.starts_with("invalid type: sequence, expected struct Inner"), "{got}");
        }
        assert!(from_str::<FlatMap<Box<str>, Inner>>(r#"{"a":[1]}"#).is_err());
        assert!(from_str::<(u8, Inner)>("[1,[2]]").is_err());
        assert!(from_str::<Kind>(r#"{"With":[1]}"#).is_err());
    }

    #[test]
    fn text_after_the_value_is_an_error() {
        assert!(from_str::<Inner>(r#"{"n":1} "#).is_ok());
        let got = from_str::<Inner>(r#"{"n":1}{"#).unwrap_err().to_string();
        assert_eq!(got, "trailing characters at line 1 column 8");
    }
}
