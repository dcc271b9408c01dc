//! The body of an answer as it comes: counted, and not for ever.
//!
//! The HTTP client ends a read that brings nothing. What brings a byte now and then is ended here.

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

use super::traffic::Count;
use crate::gzip::Gunzip;

/// A body that is being read.
pub struct Incoming<'a> {
    from: From,
    bytes: &'a Count,
    /// None: as slow as it likes.
    time: Option<Duration>,
    since: Pace,
}

enum From {
    Plain(BodyReader<'static>),
    Packed(Box<Gunzip<BodyReader<'static>>>),
}

/// Since when something whole is waited for.
#[derive(Clone)]
pub struct Pace(Rc<Cell<Instant>>);

impl Pace {
    /// It came; the next one has all its time again.
    pub fn start(&self) {
        self.0.set(Instant::now());
    }
}

impl<'a> Incoming<'a> {
    /// `time` is what each item may take.
    pub fn new(answer: Response<Body>, bytes: &'a Count, time: Option<Duration>) -> Incoming<'a> {
        let since = Pace(Rc::new(Cell::new(Instant::now())));
        let encoding = answer.headers().get(CONTENT_ENCODING);
        let packed = encoding.is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"gzip"));
        let body = answer.into_body().into_reader();
        let from =
            if packed { From::Packed(Box::new(Gunzip::new(body))) } else { From::Plain(body) };
        Incoming { from, bytes, time, since }
    }

    /// For whoever knows when an item is whole.
    pub fn pace(&self) -> Pace {
        self.since.clone()
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.time.is_some_and(|time| self.since.0.get().elapsed() > time) {
            return Err(too_slow());
        }
        let read = match &mut self.from {
            From::Plain(body) => body.read(into),
            From::Packed(body) => body.read(into),
        }?;
        self.bytes.add(read as u64);
        Ok(read)
    }
}

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a body")
    }
}

/// The error of what comes byte by byte.
pub fn too_slow() -> io::Error {
    let why = "it comes too slowly: a few bytes now and then";
    io::Error::new(io::ErrorKind::InvalidData, why)
}
