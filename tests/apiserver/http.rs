//! HTTP/1.1 on one connection, as Go's server speaks it: requests in, replies out.
//!
//! The framing is that of the real API server: what fits in 2 KiB goes with a Content-Length,
//! everything else in the chunks that Go's `bufio.Writer` of 2 KiB makes of the same writes. A
//! client sees the borders that it would see in life. The two faults that spoil a body (cut, slow)
//! are done here, where bytes are counted.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

const HEADER_LIMIT: usize = 64 << 10;
const BODY_LIMIT: usize = 16 << 20;
const BUFFER: usize = 2048; // Go's net/http bufferBeforeChunkingSize

/// A connection, with or without TLS.
pub enum Stream {
    Plain(TcpStream),
    Tls(Box<rustls::StreamOwned<rustls::ServerConnection, TcpStream>>),
}

impl Stream {
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Stream::Plain(tcp) => tcp,
            Stream::Tls(tls) => &tls.sock,
        }
    }

    /// Whether the other side has closed; anything it sends meanwhile is left unread.
    pub fn closed(&self) -> bool {
        let tcp = self.tcp();
        let _ = tcp.set_nonblocking(true);
        let peeked = tcp.peek(&mut [0]);
        let _ = tcp.set_nonblocking(false);
        match peeked {
            Ok(n) => n == 0 || matches!(self, Stream::Tls(_)), // TLS: only its close alert comes
            Err(e) => e.kind() != io::ErrorKind::WouldBlock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(s) => s.read(buf),
            Stream::Tls(s) => s.read(buf),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(s) => s.write(buf),
            Stream::Tls(s) => s.write(buf),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(s) => s.flush(),
            Stream::Tls(s) => s.flush(),
        }
    }
}

/// What a client asked.
#[derive(Debug, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub body: Vec<u8>,
    headers: Vec<(String, String)>,
    old: bool, // HTTP/1.0: no chunks, no keep-alive
}

impl Request {
    /// The value of a header, its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// The value of a query parameter; empty when it is not there.
    pub fn param(&self, name: &str) -> &str {
        self.query.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str())
    }

    /// Whether the connection ends with this request.
    pub fn last(&self) -> bool {
        self.old || self.header("connection").is_some_and(|c| c.eq_ignore_ascii_case("close"))
    }

    pub fn takes_gzip(&self) -> bool {
        self.header("accept-encoding").is_some_and(|a| a.contains("gzip"))
    }

    fn parse(head: &str) -> Option<Request> {
        let mut lines = head.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target, version) = (first.next()?, first.next()?, first.next()?);
        if first.next().is_some() || !target.starts_with('/') || !version.starts_with("HTTP/1.") {
            return None;
        }
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let query = query
            .split('&')
            .filter(|p| !p.is_empty())
            .map(|p| p.split_once('=').unwrap_or((p, "")))
            .map(|(n, v)| (unescape(n, true), unescape(v, true)))
            .collect();
        let headers = lines
            .filter(|l| !l.is_empty())
            .map(|l| Some((l.split_once(':')?.0.to_ascii_lowercase(), l.split_once(':')?.1.trim())))
            .map(|h| h.map(|(n, v)| (n, v.to_string())))
            .collect::<Option<_>>()?;
        Some(Request {
            method: method.to_string(),
            target: target.to_string(),
            path: unescape(path, false),
            query,
            headers,
            old: version == "HTTP/1.0",
            ..Request::default()
        })
    }
}

fn unescape(text: &str, form: bool) -> String {
    let bytes = text.as_bytes();
    let (mut out, mut i) = (Vec::with_capacity(bytes.len()), 0);
    while i < bytes.len() {
        let hex = bytes.get(i + 1..i + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (bytes[i], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 2;
            }
            (b'+', _) if form => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// What came of waiting for a request.
pub enum Asked {
    Request(Request),
    /// Not HTTP that can be answered in any other way than with this status.
    Bad(u16),
    Closed,
}

/// Waits for the next request; `rest` keeps what was read beyond it.
pub fn ask(stream: &mut Stream, rest: &mut Vec<u8>) -> Asked {
    let head = loop {
        if let Some(end) = rest.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = rest.drain(..end + 4).collect::<Vec<_>>();
            break head;
        }
        if rest.len() > HEADER_LIMIT {
            return Asked::Bad(431);
        }
        if !fill(stream, rest) {
            return Asked::Closed;
        }
    };
    let parsed = std::str::from_utf8(&head).ok().and_then(Request::parse);
    let Some(mut request) = parsed else { return Asked::Bad(400) };
    if request.header("transfer-encoding").is_some() {
        return Asked::Bad(411);
    }
    let length = request.header("content-length").map_or(Ok(0), str::parse::<usize>);
    let Ok(length) = length else { return Asked::Bad(400) };
    if length > BODY_LIMIT {
        return Asked::Bad(413);
    }
    while rest.len() < length {
        if !fill(stream, rest) {
            return Asked::Closed;
        }
    }
    request.body = rest.drain(..length).collect();
    Asked::Request(request)
}

fn fill(stream: &mut Stream, rest: &mut Vec<u8>) -> bool {
    let mut buf = [0; 4096];
    match stream.read(&mut buf) {
        Ok(n) if n > 0 => rest.extend_from_slice(&buf[..n]),
        _ => return false,
    }
    true
}

/// An answer whose body is known: one write of the real server for each piece.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub content: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub pieces: Vec<Arc<str>>,
    /// A body that may be no text at all, instead of the pieces.
    pub raw: Option<Vec<u8>>,
}

pub const JSON: &str = "application/json";
pub const TEXT: &str = "text/plain; charset=utf-8";

impl Reply {
    pub fn new(status: u16, content: &'static str, body: &str) -> Reply {
        Reply { status, content, headers: Vec::new(), pieces: vec![Arc::from(body)], raw: None }
    }

    pub fn with(mut self, name: &'static str, value: impl ToString) -> Reply {
        self.headers.push((name, value.to_string()));
        self
    }

    pub fn len(&self) -> usize {
        let pieces = || self.pieces.iter().map(|p| p.len()).sum();
        self.raw.as_ref().map_or_else(pieces, Vec::len)
    }

    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        if let Some(raw) = &self.raw {
            return out.write_all(raw);
        }
        self.pieces.iter().try_for_each(|piece| out.write_all(piece.as_bytes()))
    }

    pub fn joined(&self) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.len());
        let _ = self.write_to(&mut all); // a Vec takes everything
        all
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        410 => "Gone",
        411 => "Length Required",
        413 => "Content Too Large",
        422 => "Unprocessable Entity",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Unknown",
    }
}

/// What may go wrong with a body on its way.
#[derive(Debug, Default, Clone, Copy)]
pub struct Spoil {
    pub cut: Option<usize>,
    pub slow: Option<u64>,
}

/// The way out: one reply, framed as the real server frames it.
pub struct Wire<'a> {
    out: BufWriter<&'a mut Stream>,
    spoil: Spoil,
    head: String,
    begun: bool,
    chunked: bool,
    bodyless: bool, // HEAD
    buffer: Vec<u8>,
    /// Body bytes that went out, without the framing.
    pub sent: usize,
}

impl<'a> Wire<'a> {
    pub fn new(stream: &'a mut Stream, request: &Request, reply: &Reply, spoil: Spoil) -> Self {
        let mut head = format!(
            "HTTP/1.1 {} {}\r\nCache-Control: no-cache, private\r\nContent-Type: {}\r\n",
            reply.status,
            reason(reply.status),
            reply.content
        );
        for (name, value) in &reply.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if request.last() {
            head.push_str("Connection: close\r\n");
        }
        Wire {
            out: BufWriter::with_capacity(16 << 10, stream),
            spoil,
            head,
            begun: false,
            chunked: !request.old,
            bodyless: request.method == "HEAD",
            buffer: Vec::with_capacity(BUFFER),
            sent: 0,
        }
    }

    pub fn stream(&self) -> &Stream {
        self.out.get_ref()
    }

    /// Sends the head of a reply whose length nobody knows.
    pub fn begin(&mut self) -> io::Result<()> {
        if !self.begun {
            let framing = if self.chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
            write!(self.out, "{}{framing}\r\n", self.head)?;
            self.begun = true;
        }
        Ok(())
    }

    /// Sends what is there now, as Go's `Flush` does.
    pub fn push(&mut self) -> io::Result<()> {
        self.begin()?;
        let data = std::mem::take(&mut self.buffer);
        if !data.is_empty() {
            self.chunk(&data)?;
        }
        self.out.flush()
    }

    /// Ends the reply; a short one has its length known only now.
    pub fn finish(&mut self) -> io::Result<()> {
        let data = std::mem::take(&mut self.buffer);
        if self.begun {
            if !data.is_empty() {
                self.chunk(&data)?;
            }
            if self.chunked && !self.bodyless {
                self.out.write_all(b"0\r\n\r\n")?;
            }
        } else {
            write!(self.out, "{}Content-Length: {}\r\n\r\n", self.head, data.len())?;
            if !self.bodyless {
                self.payload(&data)?;
            }
        }
        self.out.flush()
    }

    fn chunk(&mut self, data: &[u8]) -> io::Result<()> {
        self.begin()?;
        if self.bodyless {
            return Ok(());
        }
        if !self.chunked {
            return self.payload(data);
        }
        write!(self.out, "{:x}\r\n", data.len())?;
        self.payload(data)?;
        self.out.write_all(b"\r\n")
    }

    fn payload(&mut self, data: &[u8]) -> io::Result<()> {
        let room = self.spoil.cut.map_or(data.len(), |cut| data.len().min(cut - self.sent));
        match self.spoil.slow {
            None => self.out.write_all(&data[..room])?,
            Some(rate) => {
                let step = usize::try_from(rate / 20).unwrap_or(1).max(1);
                for piece in data[..room].chunks(step) {
                    self.out.write_all(piece)?;
                    self.out.flush()?;
                    let wait = piece.len() as u64 * 1_000_000 / rate.max(1);
                    std::thread::sleep(Duration::from_micros(wait));
                }
            }
        }
        self.sent += room;
        if self.spoil.cut == Some(self.sent) {
            self.out.flush()?;
            return Err(io::Error::other("cut, as asked"));
        }
        Ok(())
    }
}

impl Write for Wire<'_> {
    /// As Go's bufio: what does not fit fills the buffer; what is larger than an empty one goes
    /// straight through.
    fn write(&mut self, mut data: &[u8]) -> io::Result<usize> {
        let whole = data.len();
        while data.len() > BUFFER - self.buffer.len() {
            if self.buffer.is_empty() {
                self.chunk(data)?;
                return Ok(whole);
            }
            let (now, later) = data.split_at(BUFFER - self.buffer.len());
            self.buffer.extend_from_slice(now);
            let full = std::mem::replace(&mut self.buffer, Vec::with_capacity(BUFFER));
            self.chunk(&full)?;
            data = later;
        }
        self.buffer.extend_from_slice(data);
        Ok(whole)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // gzip flushes at its end; Go's buffer does not follow it
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_with_its_query_decoded() {
        let head = "GET /api/v1/services?limit=2&labelSelector=%21a%2Fb+c HTTP/1.1\r\nHost: x\r\n";
        let request = Request::parse(head).unwrap();
        assert_eq!(request.path, "/api/v1/services");
        assert_eq!(request.param("limit"), "2");
        assert_eq!(request.param("labelSelector"), "!a/b c");
        assert_eq!(request.header("host"), Some("x"));
    }

    #[test]
    fn garbage_is_no_request() {
        for head in ["", "GET", "GET / FTP/1", "GET x HTTP/1.1", "GET / HTTP/1.1\r\nnocolon"] {
            assert!(Request::parse(head).is_none(), "{head}");
        }
        assert_eq!(unescape("%", false), "%");
        assert_eq!(unescape("%zz%4", true), "%zz%4");
        assert_eq!(unescape("%ff", true), "\u{fffd}");
    }
}
