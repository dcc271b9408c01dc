//! One list of objects as it comes off the wire: item by item, never a tree of the whole.
//!
//! Where an item ends is seen from its brackets and quotes ([`Scan`]) as it comes, and its text is kept
//! just long enough to be understood, so that one that is not costs only itself. metadata may come before
//! or after the items, since JSON has no order.

mod scan;

use std::io::{self, BufRead, BufReader, Read};

use serde::{Deserialize, de::DeserializeOwned};

use crate::json;
use scan::Scan;

/// An item must be smaller; etcd does not hold objects of even 2 MiB.
pub const ITEM: usize = 4 << 20;
/// Text that must not be passed without an item's end: what memory must bear.
const STRETCH: usize = 16 << 20;
/// So much is asked of the stream at a time.
const CHUNK: usize = 16 << 10;

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

/// Takes the text of each item; of the head it sees what came before them.
pub type Sink<'a> = dyn FnMut(&Head, &str) + 'a;

/// A stream of one list or more.
pub struct Lists<R> {
    from: BufReader<R>,
    /// How much may come before an item's end.
    left: usize,
    /// The value that was read last.
    text: Vec<u8>,
}

impl<R: Read> Lists<R> {
    /// Looks at the first bytes: a login page is not JSON, and says so best itself.
    pub fn open(from: R) -> Result<Lists<R>, Fault> {
        let from = BufReader::with_capacity(CHUNK, from);
        let mut lists = Lists { from, left: STRETCH, text: Vec::new() };
        match lists.peek()? {
            Some(b'{') => Ok(lists),
            Some(_) => Err(Fault::Foreign(first_line(lists.from.buffer()))),
            None => Err(Fault::Empty),
        }
    }

    /// The next list.
    pub fn next(&mut self, sink: &mut Sink<'_>) -> Result<Head, Fault> {
        #[derive(Default, Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        struct Metadata {
            resource_version: Option<String>,
            r#continue: Option<String>,
        }
        let mut head = Head::default();
        self.expect(b"{", "a list of objects")?;
        let mut more = !self.closes(b'}')?;
        while more {
            let key: String = self.parsed()?;
            self.expect(b":", "a colon")?;
            match key.as_str() {
                "kind" => head.kind = self.parsed()?,
                "apiVersion" => head.api_version = self.parsed()?,
                "metadata" => {
                    let found = self.parsed::<Option<Metadata>>()?.unwrap_or_default();
                    head.version = found.resource_version;
                    head.next = found.r#continue.filter(|token| !token.is_empty());
                }
                "items" => self.items(&mut head, sink)?,
                _ => drop(self.value()?),
            }
            more = self.expect(b",}", "a comma or the list's end")? == b',';
        }
        Ok(head)
    }

    /// Whether all has been read.
    pub fn at_end(&mut self) -> Result<bool, Fault> {
        Ok(self.peek()?.is_none())
    }

    fn items(&mut self, head: &mut Head, sink: &mut Sink<'_>) -> Result<(), Fault> {
        head.items = true;
        if self.peek()? != Some(b'[') {
            return match self.value()? {
                "null" => Ok(()), // Go's nil slice
                other => {
                    let other = first_line(other.as_bytes());
                    Err(Fault::Wrong(format!("its items are no array, but {other}")))
                }
            };
        }
        self.pass(1)?;
        let mut more = !self.closes(b']')?;
        while more {
            sink(head, self.value()?);
            self.left = STRETCH;
            more = self.expect(b",]", "a comma or the end of the items")? == b',';
        }
        Ok(())
    }

    /// The next byte that is not blank, which stays where it is; `None` at the end.
    fn peek(&mut self) -> Result<Option<u8>, Fault> {
        loop {
            let bytes = fill(&mut self.from)?;
            let blank = bytes.iter().take_while(|b| b.is_ascii_whitespace()).count();
            let (found, over) = (bytes.get(blank).copied(), bytes.is_empty());
            self.pass(blank)?;
            if found.is_some() || over {
                return Ok(found);
            }
        }
    }

    fn pass(&mut self, count: usize) -> Result<(), Fault> {
        self.from.consume(count);
        self.left = self.left.checked_sub(count).ok_or_else(|| {
            let why = format!("an item of the list is larger than {} MiB", STRETCH >> 20);
            Fault::Io(io::Error::new(io::ErrorKind::InvalidData, why))
        })?;
        Ok(())
    }

    /// Passes a bracket, where it is what comes next; whether it is.
    fn closes(&mut self, bracket: u8) -> Result<bool, Fault> {
        let closes = self.peek()? == Some(bracket);
        self.pass(usize::from(closes))?;
        Ok(closes)
    }

    /// Passes one of these bytes.
    fn expect(&mut self, any: &[u8], what: &str) -> Result<u8, Fault> {
        let found = self.peek()?.ok_or(Fault::Cut)?;
        if !any.contains(&found) {
            let found = char::from(found);
            return Err(Fault::Wrong(format!("{what} should stand where {found:?} stands")));
        }
        self.pass(1)?;
        Ok(found)
    }

    /// Reads a value, whatever it is.
    fn value(&mut self) -> Result<&str, Fault> {
        self.peek()?;
        self.text.clear();
        let (mut scan, mut over) = (Scan::default(), false);
        while !over {
            let bytes = fill(&mut self.from)?;
            if bytes.is_empty() {
                return Err(Fault::Cut);
            }
            let len;
            (len, over) = scan.pass(bytes).map_err(|why| Fault::Wrong(why.to_owned()))?;
            self.text.extend_from_slice(&bytes[..len]);
            self.pass(len)?;
        }
        std::str::from_utf8(&self.text).map_err(|e| Fault::Wrong(e.to_string()))
    }

    /// Reads a value that is understood at once.
    fn parsed<T: DeserializeOwned>(&mut self) -> Result<T, Fault> {
        json::from_str(self.value()?).map_err(|e| Fault::Wrong(e.to_string()))
    }
}

/// What has come and was not passed; nothing at the end.
fn fill<R: Read>(from: &mut BufReader<R>) -> Result<&[u8], Fault> {
    while let Err(e) = from.fill_buf() {
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(Fault::Io(e));
        }
    }
    Ok(from.buffer())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(Head, Vec<String>), Fault> {
        let mut items = Vec::new();
        let head =
            Lists::open(text.as_bytes())?.next(&mut |_, item| items.push(item.to_owned()))?;
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
            (r#"{"items":5}"#, "its items are no array, but 5"),
            (r#"{"items":[{]}"#, "a bracket that does not fit"),
            (r#"{"items":[1 2]}"#, "a comma or the end of the items should stand where '2' stands"),
            (r#"{"items":[],}"#, "a value is missing"),
            (r#"{7:[]}"#, "invalid type: integer `7`, expected a string"),
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
