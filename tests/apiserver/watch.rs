//! A watch: the events of one kind after a revision, one chunk each.
//!
//! Without a revision, or from 0, it starts with an ADDED event for each object. A revision that is
//! no longer held gives an ERROR event in a stream that began with 200 and then ends. A future
//! revision waits without an event. With a selector, a change of labels becomes ADDED or DELETED.

use std::cell::Cell;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::fault::Kind;
use crate::http::{Reply, Wire};
use crate::item::stamp;
use crate::list::{self, Selector};
use crate::request::Request;
use crate::resource::View;
use crate::status;
use crate::store::{Event, Expired, Store};

#[derive(Debug)]
pub struct Watch {
    view: View,
    selector: Selector,
    from: Option<u64>, // `None`: starts with all objects
    initial_end: bool,
    bookmarks: Option<Duration>,
    tick: Duration,
    timeout: Duration,
    fault: Option<Kind>,
    harmed: Cell<bool>,
    cut: PathBuf,
}

/// Returns true if a request asks for a watch and not for a list.
pub fn wanted(request: &Request) -> bool {
    matches!(request.param("watch"), "1" | "true")
}

impl Watch {
    pub fn new(
        view: View,
        namespace: &str,
        request: &Request,
        (bookmarks, tick): (Duration, Duration),
        fault: Option<&Kind>,
        dir: &Path,
    ) -> Result<Watch, Reply> {
        let yes = |name: &str| matches!(request.param(name), "1" | "true");
        let initial = yes("sendInitialEvents");
        if initial && !list::not_older(request) {
            return Err(status::initial_events_without_match());
        }
        let from = list::revision(request)?.filter(|&rv| rv != 0 && !initial);
        let marked = yes("allowWatchBookmarks");
        let seconds = request.param("timeoutSeconds").parse().ok().filter(|&s| s > 0);
        Ok(Watch {
            view,
            selector: Selector::of(request, namespace)?,
            from,
            initial_end: marked && from.is_none(), // as recorded: from 0, and without a revision
            bookmarks: marked.then_some(bookmarks),
            tick,
            timeout: Duration::from_secs(seconds.unwrap_or(1800)),
            fault: fault.cloned(),
            harmed: Cell::new(false),
            cut: dir.join("cut"),
        })
    }

    /// Returns the fault of this watch if it changed the stream that was sent.
    pub fn harm(&self) -> Option<&Kind> {
        self.fault.as_ref().filter(|_| self.harmed.get())
    }

    pub fn run(&self, store: &Store, wire: &mut Wire) -> io::Result<()> {
        let (begun, cut) = (Instant::now(), fs::read(&self.cut).ok());
        wire.push()?;
        let mut at = match self.from {
            Some(_) if self.fault == Some(Kind::Gone) => {
                self.harmed.set(true);
                return self.expired(store.revision(), wire);
            }
            Some(from) => from,
            None => self.everything(store, wire)?,
        };
        let (mut marked, mut looked) = (begun, begun);
        while begun.elapsed() < self.timeout {
            match store.after(self.view.resource, at) {
                Err(Expired { oldest }) => return self.expired(oldest, wire),
                Ok((now, mut events)) => {
                    let harm = match self.fault {
                        Some(Kind::Mute) => !std::mem::take(&mut events).is_empty(),
                        Some(Kind::Twice) => {
                            events.extend_from_within(..);
                            !events.is_empty()
                        }
                        Some(Kind::Shuffle) => {
                            events.reverse();
                            events.len() > 1
                        }
                        _ => false,
                    };
                    self.harmed.set(self.harmed.get() || harm);
                    for event in &events {
                        self.send_change(event, wire)?;
                    }
                    at = now;
                }
            }
            let silent = self.fault == Some(Kind::Mute);
            if !silent && self.bookmarks.is_some_and(|period| marked.elapsed() >= period) {
                marked = Instant::now();
                self.bookmark(at.min(store.revision()), "", wire)?;
            }
            if looked.elapsed() > Duration::from_millis(100) {
                looked = Instant::now();
                if wire.stream().closed() || fs::read(&self.cut).ok() != cut {
                    return Err(io::ErrorKind::ConnectionReset.into());
                }
            }
            store.wait(self.tick.min(self.timeout.saturating_sub(begun.elapsed())));
        }
        Ok(())
    }

    fn everything(&self, store: &Store, wire: &mut Wire) -> io::Result<u64> {
        let (revision, version) = store.now(self.view.resource);
        for item in version.items.iter().filter(|i| self.selector.takes(i)) {
            self.event("ADDED", &item.text, wire)?;
        }
        if self.initial_end {
            let end = r#","annotations":{"k8s.io/initial-events-end":"true"}"#;
            self.bookmark(revision, end, wire)?;
        }
        Ok(revision)
    }

    fn send_change(&self, event: &Event, wire: &mut Wire) -> io::Result<()> {
        let old = event.old.as_ref().filter(|i| self.selector.takes(i));
        let new = event.new.as_ref().filter(|i| self.selector.takes(i));
        match (old, new) {
            (None, None) => Ok(()),
            (None, Some(new)) => self.event("ADDED", &new.text, wire),
            (Some(_), Some(new)) => self.event("MODIFIED", &new.text, wire),
            (Some(old), None) => self.event("DELETED", &stamp(&old.text, event.revision), wire),
        }
    }

    fn event(&self, word: &str, text: &str, wire: &mut Wire) -> io::Result<()> {
        let object = self.view.object(text);
        wire.write_all(format!("{{\"type\":\"{word}\",\"object\":{object}}}\n").as_bytes())?;
        wire.push()
    }

    fn bookmark(&self, revision: u64, more: &str, wire: &mut Wire) -> io::Result<()> {
        let (head, blank) = (self.view.head(), self.view.resource.blank);
        let metadata = format!("{{\"resourceVersion\":\"{revision}\"{more}}}");
        let object = format!("{head},\"metadata\":{metadata}{blank}}}");
        wire.write_all(format!("{{\"type\":\"BOOKMARK\",\"object\":{object}}}\n").as_bytes())?;
        wire.push()
    }

    fn expired(&self, oldest: u64, wire: &mut Wire) -> io::Result<()> {
        let text = status::expired_watch(self.from.unwrap_or(0), oldest);
        wire.write_all(text.as_bytes())?;
        wire.push()
    }
}
