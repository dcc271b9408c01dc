//! Parses lists of objects from a stream, item by item, without a tree of the whole list.
//!
//! [`Lists::next`] reads the fields of one list; `read_items` passes the text of each item to a callback.
//! `read_value` finds the end of an item from its brackets and quotes ([`Scan`]) while the data arrives,
//! and only one item is in memory at a time. The callback parses the item with `wire`, so that an
//! item that is not valid does not affect the others. The list's metadata may come before or after its
//! items, because the members of a JSON object have no order (RFC 8259 section 1).

use std::io::{self, BufRead, BufReader, Read};

use serde::{Deserialize, de::DeserializeOwned};

use super::json_scan::Scan;
use crate::codec::json;

/// The largest item that is accepted, in bytes. etcd does not store objects of even 2 MiB.
pub(super) const MAX_ITEM: usize = 4 << 20;
/// The largest number of bytes without the end of an item. It limits the memory that a list can use.
const MAX_BETWEEN_ITEMS: usize = 16 << 20;
/// The size of the read buffer, in bytes.
const BUFFER: usize = 16 << 10;

/// The fields of a list other than its items.
#[derive(Default)]
pub(super) struct PageHead {
    /// kind, for example `List` or `ServiceList`.
    pub kind: Option<String>,
    /// apiVersion
    pub api_version: Option<String>,
    /// metadata.resourceVersion
    pub version: Option<String>,
    /// metadata.continue; `None` if this is the last page.
    pub next: Option<String>,
    /// True if the list has the key `items`.
    pub items: bool,
}

/// The reason why a list could not be read.
pub(super) enum PageFault {
    /// The stream is empty.
    Empty,
    /// The stream ended within the list.
    Cut,
    /// The stream is not a JSON object; this is its first line.
    NotJson(String),
    /// The stream is a JSON object but not a valid list; this is the error.
    Invalid(String),
    /// Reading failed, or an item is too large.
    Io(io::Error),
}

/// A callback that receives the text of each item, and the fields of the list that came before it.
pub(super) type Sink<'a> = dyn FnMut(&PageHead, &str) + 'a;

/// A stream of one or more lists.
pub(super) struct Lists<R> {
    from: BufReader<R>,
    /// The number of bytes that may follow before the end of the current item.
    budget: usize,
    /// The text of the last value read.
    text: Vec<u8>,
}

impl<R: Read> Lists<R> {
    /// Returns the lists of a stream. Fails if the stream is empty or does not start with a brace; a login
    /// page, for example, is best described by its own first line.
    pub(super) fn open(from: R) -> Result<Lists<R>, PageFault> {
        let from = BufReader::with_capacity(BUFFER, from);
        let mut lists = Lists { from, budget: MAX_BETWEEN_ITEMS, text: Vec::new() };
        match lists.peek()? {
            Some(b'{') => Ok(lists),
            Some(_) => Err(PageFault::NotJson(first_line(lists.from.buffer()))),
            None => Err(PageFault::Empty),
        }
    }

    /// Reads the next list, passes its items to `sink` and returns its other fields.
    pub(super) fn next(&mut self, sink: &mut Sink<'_>) -> Result<PageHead, PageFault> {
        #[derive(Default, Deserialize)]
        #[serde(expecting = "struct Metadata", rename_all = "camelCase", default)]
        struct PageMetadata {
            resource_version: Option<String>,
            r#continue: Option<String>,
        }
        let mut head = PageHead::default();
        self.expect(b"{", "a list of objects")?;
        let mut more = !self.consume_if(b'}')?;
        while more {
            let key: String = self.parse_value()?;
            self.expect(b":", "a colon")?;
            match key.as_str() {
                "kind" => head.kind = self.parse_value()?,
                "apiVersion" => head.api_version = self.parse_value()?,
                "metadata" => {
                    let found = self.parse_value::<Option<PageMetadata>>()?.unwrap_or_default();
                    head.version = found.resource_version;
                    head.next = found.r#continue.filter(|token| !token.is_empty());
                }
                "items" => self.read_items(&mut head, sink)?,
                _ => drop(self.read_value()?),
            }
            more = self.expect(b",}", "a comma or the list's end")? == b',';
        }
        Ok(head)
    }

    /// Returns true if only whitespace is left in the stream.
    pub(super) fn at_end(&mut self) -> Result<bool, PageFault> {
        Ok(self.peek()?.is_none())
    }

    /// Reads the array of items.
    fn read_items(&mut self, head: &mut PageHead, sink: &mut Sink<'_>) -> Result<(), PageFault> {
        head.items = true;
        if self.peek()? != Some(b'[') {
            return match self.read_value()? {
                "null" => Ok(()), // the JSON of a nil slice in Go
                other => {
                    let other = first_line(other.as_bytes());
                    Err(PageFault::Invalid(format!("its items are not an array but {other}")))
                }
            };
        }
        self.consume(1)?;
        let mut more = !self.consume_if(b']')?;
        while more {
            sink(head, self.read_value()?);
            self.budget = MAX_BETWEEN_ITEMS;
            more = self.expect(b",]", "a comma or the end of the items")? == b',';
        }
        Ok(())
    }

    /// Skips whitespace and returns the next byte without consuming it; `None` at the end of the stream.
    fn peek(&mut self) -> Result<Option<u8>, PageFault> {
        loop {
            let bytes = fill(&mut self.from)?;
            let blank = bytes.iter().take_while(|b| b.is_ascii_whitespace()).count();
            let (found, over) = (bytes.get(blank).copied(), bytes.is_empty());
            self.consume(blank)?;
            if found.is_some() || over {
                return Ok(found);
            }
        }
    }

    /// Consumes bytes of the buffer. Fails if the budget is used up.
    fn consume(&mut self, count: usize) -> Result<(), PageFault> {
        self.from.consume(count);
        self.budget = self.budget.checked_sub(count).ok_or_else(|| {
            let why = format!("an item of the list is larger than {} MiB", MAX_BETWEEN_ITEMS >> 20);
            PageFault::Io(io::Error::new(io::ErrorKind::InvalidData, why))
        })?;
        Ok(())
    }

    /// Consumes the next byte if it is `bracket`. Returns true if it is.
    fn consume_if(&mut self, bracket: u8) -> Result<bool, PageFault> {
        let found = self.peek()? == Some(bracket);
        self.consume(usize::from(found))?;
        Ok(found)
    }

    /// Consumes and returns the next byte. Fails if it is not in `any`, which `noun` describes.
    fn expect(&mut self, any: &[u8], noun: &str) -> Result<u8, PageFault> {
        let found = self.peek()?.ok_or(PageFault::Cut)?;
        if !any.contains(&found) {
            let found = char::from(found);
            return Err(PageFault::Invalid(format!("expected {noun}, found {found:?}")));
        }
        self.consume(1)?;
        Ok(found)
    }

    /// Reads a value of any type and returns its text.
    fn read_value(&mut self) -> Result<&str, PageFault> {
        self.peek()?;
        self.text.clear();
        let (mut scan, mut ended) = (Scan::default(), false);
        while !ended {
            let bytes = fill(&mut self.from)?;
            if bytes.is_empty() {
                return Err(PageFault::Cut);
            }
            let len;
            (len, ended) = scan.feed(bytes).map_err(|why| PageFault::Invalid(why.to_owned()))?;
            self.text.extend_from_slice(&bytes[..len]);
            self.consume(len)?;
        }
        std::str::from_utf8(&self.text).map_err(|e| PageFault::Invalid(e.to_string()))
    }

    /// Reads and parses a value.
    fn parse_value<T: DeserializeOwned>(&mut self) -> Result<T, PageFault> {
        json::from_str(self.read_value()?).map_err(|e| PageFault::Invalid(e.to_string()))
    }
}

/// Returns the bytes that were received and not consumed yet; empty only at the end of the stream.
fn fill<R: Read>(from: &mut BufReader<R>) -> Result<&[u8], PageFault> {
    while let Err(e) = from.fill_buf() {
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(PageFault::Io(e));
        }
    }
    Ok(from.buffer())
}

/// Returns the first line that is not blank, without control characters and cut to 200 characters, for
/// error messages about data that is not JSON.
pub(super) fn first_line(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]);
    let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).collect();
    match line.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(PageHead, Vec<String>), PageFault> {
        let mut items = Vec::new();
        let head =
            Lists::open(text.as_bytes())?.next(&mut |_, item| items.push(item.to_owned()))?;
        Ok((head, items))
    }

    #[test]
    fn items_are_passed_on_in_order_whatever_fields_surround_them() {
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
    fn input_that_is_not_a_list_gives_a_specific_fault() {
        assert!(matches!(read(""), Err(PageFault::Empty)));
        assert!(matches!(read(" \n "), Err(PageFault::Empty)));
        assert!(matches!(read(r#"{"items":[{"a":"#), Err(PageFault::Cut)));
        assert!(matches!(read("[]"), Err(PageFault::NotJson(line)) if line == "[]"));
        assert!(
            matches!(read("\n <html>\n<p>"), Err(PageFault::NotJson(line)) if line == "<html>")
        );
        for (text, want) in [
            (r#"{"items":5}"#, "its items are not an array but 5"),
            (r#"{"items":[{]}"#, "a closing bracket of the wrong kind"),
            (r#"{"items":[1 2]}"#, "expected a comma or the end of the items, found '2'"),
            (r#"{"items":[],}"#, "a value is missing"),
            (r#"{7:[]}"#, "invalid type: integer `7`, expected a string"),
            (r#"{"metadata":7}"#, "invalid type: integer `7`, expected struct Metadata"),
        ] {
            assert!(
                matches!(read(text), Err(PageFault::Invalid(got)) if got.starts_with(want)),
                "{text}"
            );
        }
        let endless = format!("{{\"items\":[\"{}", "x".repeat(20 << 20));
        assert!(
            matches!(read(&endless), Err(PageFault::Io(e)) if e.to_string().contains("16 MiB"))
        );
    }
}
