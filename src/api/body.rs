//! The body of an HTTP response as a reader: decompresses, counts bytes and limits the time per item.
//!
//! The HTTP client's timeouts end a single read that returns no data, but a server that sends one byte
//! now and then would never trip them. [`Incoming`] therefore fails if an item of a list takes longer
//! than its timeout; the reader of the list (`page`) restarts the [`ItemDeadline`] at each item.
//! gzip is left to [`Gunzip`]. Watches have no such deadline here: `stream::WatchLines` has its own.

use std::{
    cell::Cell,
    fmt,
    io::{self, Read},
    rc::Rc,
    time::{Duration, Instant},
};

use ureq::{
    Body, BodyReader,
    http::{Response, header::CONTENT_ENCODING},
};

use super::request_stats::Count;
use crate::codec::gzip::Gunzip;

/// A reader of a response body.
pub(super) struct Incoming<'a> {
    decoder: Decoder,
    received: &'a Count,
    /// The longest time that an item may take; `None` if there is no limit.
    item_timeout: Option<Duration>,
    deadline: ItemDeadline,
}

/// A body by its Content-Encoding.
enum Decoder {
    Identity(BodyReader<'static>),
    Gzip(Box<Gunzip<BodyReader<'static>>>),
}

/// The time at which the current item of a body began, shared by the body and its parser.
#[derive(Clone)]
pub(super) struct ItemDeadline(Rc<Cell<Instant>>);

impl ItemDeadline {
    /// Restarts the time limit, because an item is complete.
    pub(super) fn start(&self) {
        self.0.set(Instant::now());
    }
}

impl<'a> Incoming<'a> {
    /// Returns the reader of a response's body. It adds the bytes read, after decompression, to
    /// `received`. Reading fails if an item takes longer than `item_timeout`; `None` means no limit.
    pub(super) fn new(
        response: Response<Body>,
        received: &'a Count,
        item_timeout: Option<Duration>,
    ) -> Incoming<'a> {
        let deadline = ItemDeadline(Rc::new(Cell::new(Instant::now())));
        let encoding = response.headers().get(CONTENT_ENCODING);
        let is_gzip = encoding.is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"gzip"));
        let body = response.into_body().into_reader();
        let decoder = if is_gzip {
            Decoder::Gzip(Box::new(Gunzip::new(body)))
        } else {
            Decoder::Identity(body)
        };
        Incoming { decoder, received, item_timeout, deadline }
    }

    /// Returns the deadline of this body, for a parser that restarts it at the end of each item.
    pub(super) fn pace(&self) -> ItemDeadline {
        self.deadline.clone()
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.item_timeout.is_some_and(|limit| self.deadline.0.get().elapsed() > limit) {
            return Err(too_slow());
        }
        let read = match &mut self.decoder {
            Decoder::Identity(body) => body.read(into),
            Decoder::Gzip(body) => body.read(into),
        }?;
        self.received.add(read as u64);
        Ok(read)
    }
}

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a body")
    }
}

/// Returns the error for an item or event that arrives too slowly. Its kind is `InvalidData`, so that
/// `Failure::from_body_error` shows its text.
pub(super) fn too_slow() -> io::Error {
    let why = "the server sends too slowly: only a few bytes now and then";
    io::Error::new(io::ErrorKind::InvalidData, why)
}
