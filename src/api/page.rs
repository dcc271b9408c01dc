//! One list of objects as it comes off the wire: item by item, never a tree of the whole.
//!
//! An item is kept as raw text just long enough to be understood, so that one that is not costs only
//! itself. metadata may come before or after the items, since JSON has no order.

use std::{
    cell::Cell,
    fmt,
    io::{self, BufRead, BufReader, Read},
    rc::Rc,
};

use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

/// An item must be smaller; etcd does not hold objects of even 2 MiB.
pub const ITEM: usize = 4 << 20;
/// Text that must not be passed without an item's end: what memory must bear.
const STRETCH: u64 = 16 << 20;

/// What a list says about itself.
#[derive(Default)]
pub struct Head {
    /// `List`, `ServiceList`, …
    pub kind: Option<String>,
    /// The version of the list's own kind.
    pub api_version: Option<String>,
    /// metadata.resourceVersion
    pub version: Option<String>,
    /// metadata.continue, where there are more pages.
    pub next: Option<String>,
    /// The key `items` was there.
    pub items: bool,
}

/// Why a list could not be read.
pub enum Fault {
    /// Nothing came.
    Empty,
    /// It stopped in the middle.
    Cut,
    /// It is not JSON: its first line.
    Foreign(String),
    /// It is JSON, but not a list.
    Wrong(String),
    /// The stream failed.
    Io(io::Error),
}

/// Takes the items; of the head it sees what came before them.
pub type Sink<'a> = dyn FnMut(&Head, Box<RawValue>) + 'a;

/// A stream of one list or more.
pub struct Lists<R: Read> {
    json: serde_json::Deserializer<serde_json::de::IoRead<BufReader<Metered<R>>>>,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Lists<R> {
    /// Looks at the first bytes: a login page is not JSON, and says so best itself.
    pub fn open(from: R) -> Result<Lists<R>, Fault> {
        let left = Rc::new(Cell::new(STRETCH));
        let mut from = BufReader::with_capacity(16 << 10, Metered { from, left: Rc::clone(&left) });
        loop {
            let bytes = from.fill_buf().map_err(Fault::Io)?;
            let blank = bytes.iter().take_while(|b| b.is_ascii_whitespace()).count();
            match bytes.get(blank) {
                Some(b'{') => break,
                Some(_) => return Err(Fault::Foreign(first_line(&bytes[blank..]))),
                None if bytes.is_empty() => return Err(Fault::Empty),
                None => from.consume(blank),
            }
        }
        Ok(Lists { json: serde_json::Deserializer::from_reader(from), left })
    }

    /// The next list.
    pub fn next(&mut self, sink: &mut Sink) -> Result<Head, Fault> {
        let seed = List { left: &self.left, sink };
        seed.deserialize(&mut self.json).map_err(fault)
    }

    /// Whether all has been read.
    pub fn at_end(&mut self) -> Result<bool, Fault> {
        match self.json.end() {
            Ok(()) => Ok(true),
            Err(e) if e.is_syntax() => Ok(false),
            Err(e) => Err(fault(e)),
        }
    }
}

/// The start of what is not JSON, for people.
pub fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    match line.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

fn fault(error: serde_json::Error) -> Fault {
    if error.is_eof() {
        Fault::Cut
    } else if error.is_io() {
        Fault::Io(error.into())
    } else {
        Fault::Wrong(error.to_string())
    }
}

/// Counts what is read between two items.
struct Metered<R> {
    from: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        match self.left.get().checked_sub(read as u64) {
            Some(left) => self.left.set(left),
            None => {
                let why = format!("an item of the list is larger than {} MiB", STRETCH >> 20);
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
        }
        Ok(read)
    }
}

struct List<'s, 'f> {
    left: &'s Cell<u64>,
    sink: &'s mut Sink<'f>,
}

impl<'de> DeserializeSeed<'de> for List<'_, '_> {
    type Value = Head;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Head, D::Error> {
        from.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for List<'_, '_> {
    type Value = Head;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Head, A::Error> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Metadata {
            resource_version: Option<String>,
            r#continue: Option<String>,
        }
        let mut head = Head::default();
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "kind" => head.kind = map.next_value()?,
                "apiVersion" => head.api_version = map.next_value()?,
                "metadata" => {
                    let found = map.next_value::<Option<Metadata>>()?.unwrap_or_default();
                    head.version = found.resource_version;
                    head.next = found.r#continue.filter(|token| !token.is_empty());
                }
                "items" => {
                    head.items = true;
                    map.next_value_seed(Items { left: self.left, head: &head, sink: self.sink })?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(head)
    }
}

struct Items<'s, 'f> {
    left: &'s Cell<u64>,
    head: &'s Head,
    sink: &'s mut Sink<'f>,
}

impl<'de> DeserializeSeed<'de> for Items<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Items<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an array of items")
    }

    /// Go's nil slice.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(item) = seq.next_element::<Box<RawValue>>()? {
            self.left.set(STRETCH);
            (self.sink)(self.head, item);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Head, Vec<String>), Fault> {
        let mut items = Vec::new();
        let head =
            Lists::open(text.as_bytes())?.next(&mut |_, item| items.push(item.get().to_owned()))?;
        Ok((head, items))
    }

    #[test]
    fn items_come_one_by_one_whatever_stands_around_them() {
        for text in [
            r#"{"kind":"NodeList","metadata":{"resourceVersion":"7","continue":"x"},"items":[{"a": 1},2,null]}"#,
            r#" {"items":[{"a": 1},2,null],"odd":[[{}]],"metadata":{"continue":"x","resourceVersion":"7"},"kind":"NodeList"}"#,
        ] {
            let (head, items) = read(text).ok().unwrap();
            assert_eq!(items, [r#"{"a": 1}"#, "2", "null"]);
            assert_eq!((head.version.as_deref(), head.next.as_deref()), (Some("7"), Some("x")));
        }
        let (head, items) = read(r#"{"items":null,"metadata":null}"#).ok().unwrap();
        assert!(head.items && items.is_empty());
    }

    #[test]
    fn what_is_no_list_says_how() {
        assert!(matches!(read(""), Err(Fault::Empty)));
        assert!(matches!(read(" \n "), Err(Fault::Empty)));
        assert!(matches!(read(r#"{"items":[{"a":"#), Err(Fault::Cut)));
        assert!(matches!(read("[]"), Err(Fault::Foreign(line)) if line == "[]"));
        assert!(matches!(read("\n <html>\n<p>"), Err(Fault::Foreign(line)) if line == "<html>"));
        for (text, want) in [
            (r#"{"items":5}"#, "invalid type: integer `5`, expected an array of items"),
            (r#"{"items":[{]}"#, "key must be a string"),
            (r#"{"metadata":7}"#, "invalid type: integer `7`, expected struct Metadata"),
        ] {
            assert!(
                matches!(read(text), Err(Fault::Wrong(got)) if got.starts_with(want)),
                "{text}"
            );
        }
        let endless = format!("{{\"items\":[\"{}", "x".repeat(20 << 20));
        assert!(matches!(read(&endless), Err(Fault::Io(e)) if e.to_string().contains("16 MiB")));
    }
}
