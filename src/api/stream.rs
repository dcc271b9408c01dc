//! A watch as it comes off the wire: lines, one event each, of which one at a time is in memory.

use std::{
    io::{self, BufRead, BufReader, Read},
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    body::too_slow,
    client::Patience,
    page,
    wire::{self, Shape},
};
use crate::{
    cluster::{Kind, Name, News, Object, What},
    json,
};

/// Memory for a line that is kept from one to the next.
const KEPT: usize = 64 << 10;

/// Why no further line came, where that is not the regular end.
#[derive(Debug)]
pub enum Fault {
    /// It stopped in the middle of a line.
    Cut,
    /// What comes is no event.
    Wrong(String),
    /// The stream failed.
    Io(io::Error),
}

/// The lines of a stream.
pub struct Lines<R> {
    from: BufReader<R>,
    line: Vec<u8>,
    /// What a line may take from its first byte to its last.
    time: Duration,
}

impl<R: Read> Lines<R> {
    /// Reads nothing yet.
    pub fn new(from: R, time: Duration) -> Lines<R> {
        Lines { from: BufReader::with_capacity(4 << 10, from), line: Vec::new(), time }
    }

    /// The next line that is not blank. `None`: the stream ended, and not in the middle of one.
    pub fn next(&mut self) -> Result<Option<&[u8]>, Fault> {
        self.line.clear();
        self.line.shrink_to(KEPT);
        let mut began = None;
        loop {
            if began.is_some_and(|began: Instant| began.elapsed() > self.time) {
                return Err(Fault::Io(too_slow()));
            }
            let bytes = match self.from.fill_buf() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(Fault::Io)?,
            };
            if bytes.is_empty() {
                return if self.line.is_empty() { Ok(None) } else { Err(Fault::Cut) };
            }
            let end = bytes.iter().position(|&b| b == b'\n');
            let (piece, used) = end.map_or((bytes, bytes.len()), |end| (&bytes[..end], end + 1));
            let piece = if self.line.is_empty() { piece.trim_ascii_start() } else { piece };
            if self.line.len() + piece.len() > page::ITEM {
                let why = format!("an event is larger than {} MiB", page::ITEM >> 20);
                return Err(Fault::Wrong(why));
            }
            self.line.extend_from_slice(piece);
            self.from.consume(used);
            match self.line.first() {
                Some(b'{') if end.is_some() => break,
                Some(b'{') => drop(began.get_or_insert_with(Instant::now)),
                Some(_) => {
                    let line = page::first_line(&self.line);
                    return Err(Fault::Wrong(format!(
                        "what comes is not JSON but starts with {line:?}; is that the API server, \
                         or a proxy before it?"
                    )));
                }
                None => {} // a blank line
            }
        }
        Ok(Some(&self.line))
    }
}

/// What one event says.
#[derive(Debug)]
pub enum Event {
    /// An object is as it is now, as in [`What::One`].
    One {
        /// Which.
        name: Name,
        /// As it is now.
        now: Result<Vec<Object>, String>,
        /// The version that is reached with it.
        version: String,
    },
    /// Nothing changed up to this version.
    Bookmark(String),
    /// The watch is over, as a Status says why.
    Error {
        /// An HTTP status.
        code: u16,
        /// For people.
        text: String,
    },
}

/// The parts of an object that every kind has, and those of a Status.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Head {
    kind: Option<String>,
    metadata: Option<Metadata>,
    code: Option<u16>,
    message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: Option<Box<str>>,
    namespace: Option<Box<str>>,
    resource_version: Option<String>,
}

/// Reads the event of one line. An object that is not understood is one with an error; an error is
/// what is no event at all.
pub fn read(shape: Shape, line: &[u8]) -> Result<Event, String> {
    #[derive(Deserialize)]
    struct Line<'a> {
        r#type: String,
        #[serde(borrow)]
        object: &'a RawValue,
    }
    fn wrong(e: impl std::fmt::Display) -> String {
        format!("what comes is no event of a watch: {e}")
    }
    let text = std::str::from_utf8(line).map_err(wrong)?;
    let Line { r#type, object } = json::from_str(text).map_err(wrong)?;
    let head: Head = json::from_str(object.get()).map_err(wrong)?;
    let kind = head.kind.unwrap_or_default();
    if r#type == "ERROR" {
        let (code, message) = (head.code.unwrap_or(500), head.message.unwrap_or_default());
        let message = page::first_line(message.as_bytes());
        return Ok(Event::Error { code, text: format!("{code} {message}") });
    }
    if kind != shape.name() {
        let kind = page::first_line(kind.as_bytes());
        return Err(format!("what comes is no {} but of kind {kind:?}", shape.name()));
    }
    let Metadata { name, namespace, resource_version } = head.metadata.unwrap_or_default();
    let version = resource_version.filter(|version| !version.is_empty());
    let version = version.ok_or("what comes is an object without metadata.resourceVersion")?;
    let gone = match &*r#type {
        "BOOKMARK" => return Ok(Event::Bookmark(version)),
        "ADDED" | "MODIFIED" => false,
        "DELETED" => true,
        other => {
            let other = page::first_line(other.as_bytes());
            return Err(format!("what comes is an event of the unknown type {other:?}"));
        }
    };
    let name = name.filter(|name| !name.is_empty());
    let name = name.ok_or("what comes is an object without metadata.name")?;
    let name = Name { namespace: namespace.unwrap_or_default(), name };
    let now = match shape {
        _ if gone => Ok(Vec::new()),
        Shape::Endpoints => {
            wire::read(shape, object.get()).map_err(|why| format!("core Endpoints: {why}"))
        }
        _ => wire::read(shape, object.get()),
    };
    Ok(Event::One { name, now, version })
}

/// Reads all events of a watch, from a file or a recording.
pub fn from_watch(kind: Kind, from: impl Read, mut tell: impl FnMut(News)) -> Result<(), String> {
    let shape = match kind {
        Kind::Node => Shape::Node,
        Kind::Service => Shape::Service,
        Kind::EndpointSlice => Shape::EndpointSlice,
    };
    let mut lines = Lines::new(from, Patience::default().item);
    loop {
        let line = match lines.next() {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(Fault::Cut) => return Err("it ends in the middle of an event".to_owned()),
            Err(Fault::Wrong(why)) => return Err(why),
            Err(Fault::Io(e)) => return Err(e.to_string()),
        };
        let what = match read(shape, line)? {
            Event::One { name, now, version } => What::One { name, now, version },
            Event::Bookmark(version) => What::Reached(version),
            Event::Error { text, .. } => What::Lost(text),
        };
        tell(News { kind, what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: Kind, text: &[u8]) -> (Vec<News>, Result<(), String>) {
        let mut news = Vec::new();
        let end = from_watch(kind, text, |piece| news.push(piece));
        (news, end)
    }

    fn recorded(name: &str) -> Vec<u8> {
        super::super::serve::recorded(&format!("watch/{name}.ndjson"))
    }

    #[test]
    fn recorded_watches_read_whole() {
        let (news, end) = told(Kind::Service, &recorded("services.changes"));
        end.unwrap();
        let texts: Vec<String> = news
            .iter()
            .map(|news| match &news.what {
                What::One { name, now, version } => {
                    format!("{name} {} {version}", now.as_ref().unwrap().len())
                }
                other => format!("{other:?}"),
            })
            .collect();
        assert_eq!(
            texts,
            [
                "dev/tmp 1 429",
                "dev/tmp 1 432",
                "dev/tmp 1 435",
                "dev/tmp 0 436",
                "Reached(\"436\")"
            ]
        );
        let (news, end) = told(Kind::EndpointSlice, &recorded("endpointslices.pod-ready-flap"));
        end.unwrap();
        assert_eq!(news.len(), 25);
        let (news, _) = told(Kind::Service, &recorded("services.bookmarks150"));
        assert!(news.iter().all(|n| matches!(&n.what, What::Reached(v) if v == "638")));
        let (news, _) = told(Kind::Service, &recorded("services.410-error-event"));
        assert!(
            matches!(&news[0].what, What::Lost(why) if why == "410 too old resource version: 498 (507)")
        );
    }

    #[test]
    fn an_object_that_is_not_understood_is_told_with_its_name_and_version() {
        let line = r#"{"type":"ADDED","object":{"kind":"Service","metadata":{"name":"web","namespace":"shop",
            "resourceVersion":"7"},"spec":{"clusterIP":"10.0.0.1","ports":[{"port":"80"}]}}}"#;
        let Event::One { name, now, version } =
            read(Shape::Service, line.replace('\n', "").as_bytes()).unwrap()
        else {
            panic!()
        };
        assert_eq!((name.to_string(), &*version), ("shop/web".to_owned(), "7"));
        assert!(now.unwrap_err().starts_with("spec.ports[0].port: invalid type"));
    }

    #[test]
    fn lines_come_whole_wherever_they_are_cut_and_blank_ones_are_none() {
        let bytes = recorded("services.changes");
        for end in (0..bytes.len()).step_by(97) {
            let (news, ended) = told(Kind::Service, &bytes[..end]);
            let lines = bytes[..end].iter().filter(|b| **b == b'\n').count();
            assert_eq!(news.len(), lines, "{end}");
            assert_eq!(ended.is_err(), end > 0 && bytes[end - 1] != b'\n', "{end}");
        }
        let blank = [b"\n \r\n", &bytes[..], b"\n\n"].concat();
        assert_eq!(told(Kind::Service, &blank).0.len(), 5);
    }

    #[test]
    fn what_is_no_event_says_so() {
        let long = format!("{{\"type\":\"{}", "x".repeat(5 << 20));
        for (text, want) in [
            ("<html>\n", "what comes is not JSON but starts with \"<html>\""),
            ("[]\n", "what comes is not JSON"),
            ("{}\n", "what comes is no event of a watch: missing field `type`"),
            ("{\"type\":\"ADDED\"}\n", "what comes is no event of a watch: missing field `object`"),
            ("{\"type\":\"ADDED\",\"object\":{}}\n", "what comes is no Service but of kind \"\""),
            (
                "{\"type\":\"ADDED\",\"object\":{\"kind\":\"Service\"}}\n",
                "what comes is an object without metadata.resourceVersion",
            ),
            (
                "{\"type\":\"ODD\",\"object\":{\"kind\":\"Service\",\"metadata\":{\"resourceVersion\":\"1\"}}}\n",
                "what comes is an event of the unknown type \"ODD\"",
            ),
            (
                "{\"type\":\"DELETED\",\"object\":{\"kind\":\"Service\",\"metadata\":{\"resourceVersion\":\"1\"}}}\n",
                "what comes is an object without metadata.name",
            ),
            (&long, "an event is larger than 4 MiB"),
            ("{\"type\"", "it ends in the middle of an event"),
        ] {
            let (news, end) = told(Kind::Service, text.as_bytes());
            assert!(news.is_empty());
            let end = end.unwrap_err();
            assert!(end.starts_with(want), "{text:.60}: {end}");
        }
    }
}
