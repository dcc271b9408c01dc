//! Requests as they arrive on a connection. No input of a client ends more than its own connection;
//! a head has 64 KiB at most.

use std::io::Read;

use crate::http::Stream;

const HEADER_LIMIT: usize = 64 << 10;
const BODY_LIMIT: usize = 16 << 20;

/// A parsed request.
#[derive(Debug, Default)]
pub struct Request {
    pub method: String,
    pub target: String,
    pub path: String,
    pub query: Vec<(String, String)>,
    pub body: Vec<u8>,
    headers: Vec<(String, String)>,
    /// HTTP/1.0: no chunks, no keep-alive.
    pub old: bool,
}

impl Request {
    /// Returns the value of a header, or an empty text. The name is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// Returns the value of a query parameter, or an empty text if there is none.
    pub fn param(&self, name: &str) -> &str {
        self.query.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v.as_str())
    }

    /// Returns true if the connection ends with this request.
    pub fn last(&self) -> bool {
        self.old || self.header("connection").is_some_and(|c| c.eq_ignore_ascii_case("close"))
    }

    pub fn takes_gzip(&self) -> bool {
        self.header("accept-encoding").is_some_and(|a| a.contains("gzip"))
    }

    /// Parses a head. `None` if it is not a request.
    pub fn parse(head: &str) -> Option<Request> {
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

/// The result of waiting for a request.
pub enum Asked {
    Request(Request),
    /// Bytes that are answered with this status, because they are not a valid request.
    Bad(u16),
    Closed,
}

/// Waits for the next request. `rest` keeps the bytes that were read beyond it.
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
    fn invalid_bytes_are_not_a_request() {
        for head in ["", "GET", "GET / FTP/1", "GET x HTTP/1.1", "GET / HTTP/1.1\r\nnocolon"] {
            assert!(Request::parse(head).is_none(), "{head}");
        }
        assert_eq!(unescape("%", false), "%");
        assert_eq!(unescape("%zz%4", true), "%zz%4");
        assert_eq!(unescape("%ff", true), "\u{fffd}");
    }
}
