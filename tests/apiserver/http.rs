//! A connection and its replies, framed as Go's HTTP/1.1 server frames them.
//!
//! A body of up to 2 KiB has a Content-Length. A larger one is sent in the chunks that Go's
//! `bufio.Writer` of 2 KiB makes of the same writes, so a client sees the real boundaries. The
//! faults that spoil a body (cut, slow) are applied here, because the bytes are counted here.

use std::fmt::Write as _;
use std::io::{self, BufWriter, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crate::request::Request;

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

    /// Returns true if the other side has closed. Data that the other side sends is not read.
    pub fn closed(&self) -> bool {
        let tcp = self.tcp();
        let _ = tcp.set_nonblocking(true);
        let peeked = tcp.peek(&mut [0]);
        let _ = tcp.set_nonblocking(false);
        match peeked {
            Ok(n) => n == 0 || matches!(self, Stream::Tls(_)), // TLS: only the close alert arrives
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

/// A reply whose body is known: one write of the real server for each piece.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub content: &'static str,
    pub headers: Vec<(&'static str, String)>,
    pub pieces: Vec<Arc<str>>,
    /// A body that need not be text, in place of the pieces.
    pub raw: Option<Vec<u8>>,
}

pub const JSON: &str = "application/json";
pub const TEXT: &str = "text/plain; charset=utf-8";

impl Reply {
    pub fn new(status: u16, content: &'static str, body: &str) -> Reply {
        Reply { status, content, headers: Vec::new(), pieces: vec![Arc::from(body)], raw: None }
    }

    pub fn with(mut self, name: &'static str, value: &str) -> Reply {
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
        let _ = self.write_to(&mut all); // a Vec accepts everything
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

/// Faults that are applied while a body is sent.
#[derive(Debug, Default, Clone, Copy)]
pub struct Spoil {
    pub cut: Option<usize>,
    pub slow: Option<u64>,
}

/// The writer of one reply, with the framing of the real server.
pub struct Wire<'a> {
    out: BufWriter<&'a mut Stream>,
    spoil: Spoil,
    head: String,
    begun: bool,
    chunked: bool,
    bodyless: bool, // HEAD
    buffer: Vec<u8>,
    /// The number of body bytes that were sent, without the framing.
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

    /// Sends the head of a reply of unknown length.
    pub fn begin(&mut self) -> io::Result<()> {
        if !self.begun {
            let framing = if self.chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
            write!(self.out, "{}{framing}\r\n", self.head)?;
            self.begun = true;
        }
        Ok(())
    }

    /// Sends the buffered bytes, as Go's `Flush` does.
    pub fn push(&mut self) -> io::Result<()> {
        self.begin()?;
        let data = std::mem::take(&mut self.buffer);
        if !data.is_empty() {
            self.chunk(&data)?;
        }
        self.out.flush()
    }

    /// Ends the reply, but its end may still wait for `send`. The length of a short reply is known
    /// only now.
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
        Ok(())
    }

    /// Sends the rest.
    pub fn send(&mut self) -> io::Result<()> {
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
            None => {
                self.out.write_all(&data[..room])?;
                self.sent += room;
            }
            Some(rate) => {
                let step = usize::try_from(rate / 20).unwrap_or(1).max(1);
                for piece in data[..room].chunks(step) {
                    self.out.write_all(piece)?;
                    self.out.flush()?;
                    self.sent += piece.len();
                    let wait = piece.len() as u64 * 1_000_000 / rate.max(1);
                    std::thread::sleep(Duration::from_micros(wait));
                }
            }
        }
        if self.spoil.cut == Some(self.sent) {
            self.out.flush()?;
            return Err(io::Error::other("cut, as asked"));
        }
        Ok(())
    }
}

/// A writer that makes the writes of Go's gzip, which has a buffer of 240 bytes.
pub struct Small<'a, 'b>(pub &'a mut Wire<'b>);

impl Write for Small<'_, '_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.write(&data[..data.len().min(240)])
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for Wire<'_> {
    /// Like Go's bufio: data that does not fit fills the buffer, and data larger than an empty
    /// buffer is written directly.
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
        Ok(()) // gzip flushes at its end; Go's buffer does not
    }
}
