//! Parses the stream of a watch: lines of JSON with one event each (Kubernetes API Concepts, "Efficient
//! detection of changes").
//!
//! [`WatchLines::next`] returns one line at a time, so that only one event is in memory. [`read`] parses a line
//! as a [`StreamEvent`], and leaves the fields of its object to `wire`. The reaction to events is left to
//! `watcher`; [`from_watch`] reads a recorded stream without a server.

use std::{
    io::{self, BufRead, BufReader, Read},
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    body::too_slow,
    client::Timeouts,
    page,
    wire::{self, ApiResource},
};
use crate::{
    codec::json,
    model::cluster::{Change, Kind, Name, Object, WatchUpdate},
};

/// The capacity of the line buffer that is kept from one line to the next, in bytes.
const MAX_KEPT_CAPACITY: usize = 64 << 10;

/// The reason why a stream of lines ended early.
#[derive(Debug)]
pub(super) enum StreamFault {
    /// The stream ended within a line.
    Cut,
    /// The stream contains something other than events; this is the error.
    Invalid(String),
    /// Reading failed, or a line arrived too slowly.
    Io(io::Error),
}

/// The lines of a stream.
pub(super) struct WatchLines<R> {
    from: BufReader<R>,
    line: Vec<u8>,
    /// The longest time between the first and the last byte of a line.
    timeout: Duration,
}

impl<R: Read> WatchLines<R> {
    /// Returns the lines of a stream; reading a line fails if it takes longer than `timeout`. Nothing is
    /// read before the first call of [`WatchLines::next`].
    pub(super) fn new(from: R, timeout: Duration) -> WatchLines<R> {
        WatchLines { from: BufReader::with_capacity(4 << 10, from), line: Vec::new(), timeout }
    }

    /// Returns the next line that is not blank, without its line feed; `None` if the stream ended after
    /// a complete line.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, StreamFault> {
        self.line.clear();
        self.line.shrink_to(MAX_KEPT_CAPACITY);
        let mut began = None;
        loop {
            if began.is_some_and(|began: Instant| began.elapsed() > self.timeout) {
                return Err(StreamFault::Io(too_slow()));
            }
            let bytes = match self.from.fill_buf() {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                read => read.map_err(StreamFault::Io)?,
            };
            if bytes.is_empty() {
                return if self.line.is_empty() { Ok(None) } else { Err(StreamFault::Cut) };
            }
            let end = bytes.iter().position(|&b| b == b'\n');
            let (piece, used) = end.map_or((bytes, bytes.len()), |end| (&bytes[..end], end + 1));
            let piece = if self.line.is_empty() { piece.trim_ascii_start() } else { piece };
            if self.line.len() + piece.len() > page::MAX_ITEM {
                let why = format!("an event is larger than {} MiB", page::MAX_ITEM >> 20);
                return Err(StreamFault::Invalid(why));
            }
            self.line.extend_from_slice(piece);
            self.from.consume(used);
            match self.line.first() {
                Some(b'{') if end.is_some() => break,
                Some(b'{') => drop(began.get_or_insert_with(Instant::now)),
                Some(_) => {
                    let line = page::first_line(&self.line);
                    return Err(StreamFault::Invalid(format!(
                        "the stream is not JSON but starts with {line:?}; is that the API server, \
                         or a proxy before it?"
                    )));
                }
                None => {} // a blank line
            }
        }
        Ok(Some(&self.line))
    }
}

/// One event of a watch.
#[derive(Debug)]
pub(super) enum StreamEvent {
    /// ADDED, MODIFIED or DELETED, with the content of [`Change::Object`].
    Changed {
        /// The namespace (empty for a Node) and the name of the object.
        name: Name,
        /// The object after the event: empty if it was deleted, several if core Endpoints have several
        /// subsets; the error if the object is not valid.
        now: Result<Vec<Object>, String>,
        /// The resourceVersion after the event.
        version: String,
    },
    /// BOOKMARK: there was no other change up to this resourceVersion.
    Bookmark(String),
    /// ERROR: the server ended the watch with a Status.
    Error {
        /// The HTTP status code of the Status; 500 if it has none.
        code: u16,
        /// The code and the message of the Status, for people.
        text: String,
    },
}

/// The common fields of objects of all kinds, and the fields of a Status.
#[derive(Default, Deserialize)]
#[serde(default)]
struct StreamHead {
    kind: Option<String>,
    metadata: Option<StreamMetadata>,
    code: Option<u16>,
    message: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct StreamMetadata {
    name: Option<Box<str>>,
    namespace: Option<Box<str>>,
    resource_version: Option<String>,
}

/// Parses the event of one line. Fails if the line is not an event about an object of this shape. If
/// only the object is not valid, the event itself contains the error.
pub(super) fn read(shape: ApiResource, line: &[u8]) -> Result<StreamEvent, String> {
    #[derive(Deserialize)]
    struct WatchLine<'a> {
        r#type: String,
        #[serde(borrow)]
        object: &'a RawValue,
    }
    fn invalid(e: impl std::fmt::Display) -> String {
        format!("a line is not an event of a watch: {e}")
    }
    let text = std::str::from_utf8(line).map_err(invalid)?;
    let WatchLine { r#type, object } = json::from_str(text).map_err(invalid)?;
    let head: StreamHead = json::from_str(object.get()).map_err(invalid)?;
    let kind = head.kind.unwrap_or_default();
    if r#type == "ERROR" {
        let (code, message) = (head.code.unwrap_or(500), head.message.unwrap_or_default());
        let message = page::first_line(message.as_bytes());
        return Ok(StreamEvent::Error { code, text: format!("{code} {message}") });
    }
    if kind != shape.name() {
        let kind = page::first_line(kind.as_bytes());
        return Err(format!("an event is of kind {kind:?}, not {}", shape.name()));
    }
    let StreamMetadata { name, namespace, resource_version } = head.metadata.unwrap_or_default();
    let version = resource_version.filter(|version| !version.is_empty());
    let version = version.ok_or("an event has an object without metadata.resourceVersion")?;
    let deleted = match &*r#type {
        "BOOKMARK" => return Ok(StreamEvent::Bookmark(version)),
        "ADDED" | "MODIFIED" => false,
        "DELETED" => true,
        other => {
            let other = page::first_line(other.as_bytes());
            return Err(format!("an event has the unknown type {other:?}"));
        }
    };
    let name = name.filter(|name| !name.is_empty());
    let name = name.ok_or("an event has an object without metadata.name")?;
    let name = Name { namespace: namespace.unwrap_or_default(), name };
    let now = match shape {
        _ if deleted => Ok(Vec::new()),
        ApiResource::Endpoints => {
            wire::read(shape, object.get()).map_err(|why| format!("core Endpoints: {why}"))
        }
        _ => wire::read(shape, object.get()),
    };
    Ok(StreamEvent::Changed { name, now, version })
}

/// Reads all events of a recorded watch of one kind and passes each to `on_update`. Fails if the
/// recording is not a watch of this kind or ends within an event.
pub fn from_watch(
    kind: Kind,
    from: impl Read,
    mut on_update: impl FnMut(WatchUpdate),
) -> Result<(), String> {
    let shape = match kind {
        Kind::Node => ApiResource::Node,
        Kind::Service => ApiResource::Service,
        Kind::EndpointSlice => ApiResource::EndpointSlice,
    };
    let mut lines = WatchLines::new(from, Timeouts::default().item);
    loop {
        let line = match lines.next() {
            Ok(Some(line)) => line,
            Ok(None) => return Ok(()),
            Err(StreamFault::Cut) => return Err("it ends in the middle of an event".to_owned()),
            Err(StreamFault::Invalid(why)) => return Err(why),
            Err(StreamFault::Io(e)) => return Err(e.to_string()),
        };
        let what = match read(shape, line)? {
            StreamEvent::Changed { name, now, version } => Change::Object { name, now, version },
            StreamEvent::Bookmark(version) => Change::UpToDate(version),
            StreamEvent::Error { text, .. } => Change::Unavailable(text),
        };
        on_update(WatchUpdate { kind, change: what });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn updates(kind: Kind, text: &[u8]) -> (Vec<WatchUpdate>, Result<(), String>) {
        let mut news = Vec::new();
        let end = from_watch(kind, text, |update| news.push(update));
        (news, end)
    }

    fn recorded(name: &str) -> Vec<u8> {
        crate::api::test_server::recorded(&format!("watch/{name}.ndjson"))
    }

    #[test]
    fn recorded_watches_are_read_completely() {
        let (news, end) = updates(Kind::Service, &recorded("services.changes"));
        end.unwrap();
        let texts: Vec<String> = news
            .iter()
            .map(|news| match &news.change {
                Change::Object { name, now, version } => {
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
                "UpToDate(\"436\")"
            ]
        );
        let (news, end) = updates(Kind::EndpointSlice, &recorded("endpointslices.pod-ready-flap"));
        end.unwrap();
        assert_eq!(news.len(), 25);
        let (news, _) = updates(Kind::Service, &recorded("services.bookmarks150"));
        assert!(news.iter().all(|n| matches!(&n.change, Change::UpToDate(v) if v == "638")));
        let (news, _) = updates(Kind::Service, &recorded("services.410-error-event"));
        assert!(
            matches!(&news[0].change, Change::Unavailable(why) if why == "410 too old resource version: 498 (507)")
        );
    }

    #[test]
    fn the_event_of_an_invalid_object_has_its_name_and_version() {
        let line = r#"{"type":"ADDED","object":{"kind":"Service","metadata":{"name":"web","namespace":"shop",
            "resourceVersion":"7"},"spec":{"clusterIP":"10.0.0.1","ports":[{"port":"80"}]}}}"#;
        let StreamEvent::Changed { name, now, version } =
            read(ApiResource::Service, line.replace('\n', "").as_bytes()).unwrap()
        else {
            panic!()
        };
        assert_eq!((name.to_string(), &*version), ("shop/web".to_owned(), "7"));
        assert!(now.unwrap_err().starts_with("spec.ports[0].port: invalid type"));
    }

    #[test]
    fn only_complete_lines_are_events_and_blank_lines_are_ignored() {
        let bytes = recorded("services.changes");
        for end in (0..bytes.len()).step_by(97) {
            let (news, ended) = updates(Kind::Service, &bytes[..end]);
            let lines = bytes[..end].iter().filter(|b| **b == b'\n').count();
            assert_eq!(news.len(), lines, "{end}");
            assert_eq!(ended.is_err(), end > 0 && bytes[end - 1] != b'\n', "{end}");
        }
        let blank = [b"\n \r\n", &bytes[..], b"\n\n"].concat();
        assert_eq!(updates(Kind::Service, &blank).0.len(), 5);
    }

    #[test]
    fn a_line_that_is_not_an_event_gives_a_specific_error() {
        let long = format!("{{\"type\":\"{}", "x".repeat(5 << 20));
        for (text, want) in [
            ("<html>\n", "the stream is not JSON but starts with \"<html>\""),
            ("[]\n", "the stream is not JSON"),
            ("{}\n", "a line is not an event of a watch: missing field `type`"),
            ("{\"type\":\"ADDED\"}\n", "a line is not an event of a watch: missing field `object`"),
            ("{\"type\":\"ADDED\",\"object\":{}}\n", "an event is of kind \"\", not Service"),
            (
                "{\"type\":\"ADDED\",\"object\":{\"kind\":\"Service\"}}\n",
                "an event has an object without metadata.resourceVersion",
            ),
            (
                "{\"type\":\"ODD\",\"object\":{\"kind\":\"Service\",\"metadata\":{\"resourceVersion\":\"1\"}}}\n",
                "an event has the unknown type \"ODD\"",
            ),
            (
                "{\"type\":\"DELETED\",\"object\":{\"kind\":\"Service\",\"metadata\":{\"resourceVersion\":\"1\"}}}\n",
                "an event has an object without metadata.name",
            ),
            (&long, "an event is larger than 4 MiB"),
            ("{\"type\"", "it ends in the middle of an event"),
        ] {
            let (news, end) = updates(Kind::Service, text.as_bytes());
            assert!(news.is_empty());
            let end = end.unwrap_err();
            assert!(end.starts_with(want), "{text:.60}: {end}");
        }
    }
}
