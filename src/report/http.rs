//! A minimal HTTP/1.1 server codec (RFC 9112): GET and HEAD, one request per connection, header fields
//! ignored. [`parse`] reads a request head, and [`Response::to_bytes`] writes a response. Pure;
//! `status_server` owns the sockets and the timeouts.

/// The maximum length of a request head in bytes. Kubelets, load balancers and Prometheus send a few
/// hundred bytes.
pub(crate) const MAX_HEAD: usize = 4096;

/// A request.
#[derive(Debug, PartialEq)]
pub(crate) struct HttpRequest<'a> {
    /// The path, without query and fragment.
    pub path: &'a str,
    /// True for HEAD, whose response has no body.
    pub head: bool,
}

/// The result of parsing the bytes received so far.
#[derive(Debug, PartialEq)]
pub(crate) enum Parse<'a> {
    /// The end of the head has not arrived yet.
    Incomplete,
    /// A complete request.
    Request(HttpRequest<'a>),
    /// An invalid request, and the status code of the error response.
    Invalid(u16),
}

/// Parses the head of a request.
///
/// Returns [`Parse::Invalid`] with 431 if the head exceeds [`MAX_HEAD`], with 405 if the method is
/// neither GET nor HEAD, and with 400 if the head is malformed.
pub(crate) fn parse(bytes: &[u8]) -> Parse<'_> {
    let Some(end) = end_of_head(bytes) else {
        return if bytes.len() < MAX_HEAD { Parse::Incomplete } else { Parse::Invalid(431) };
    };
    let Ok(head) = std::str::from_utf8(&bytes[..end]) else { return Parse::Invalid(400) };
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Parse::Invalid(400);
    };
    let fields = |line: &str| line.split_once(':').is_some_and(|(name, _)| !name.is_empty());
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') || !lines.all(fields) {
        return Parse::Invalid(400);
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    match method {
        "GET" | "HEAD" => Parse::Request(HttpRequest { path, head: method == "HEAD" }),
        _ => Parse::Invalid(405),
    }
}

/// Returns the offset of the empty line that ends the head, or `None` if there is none. A bare LF also
/// ends a line (RFC 9112 section 2.2).
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let ends = |i: &usize| {
        let rest = &bytes[*i..];
        rest.starts_with(b"\n\r\n") || rest.starts_with(b"\n\n")
    };
    (0..bytes.len()).find(ends)
}

/// A response.
#[derive(Debug, PartialEq)]
pub(crate) struct Response {
    /// The status code.
    pub code: u16,
    /// The media type, for the field Content-Type.
    pub media: &'static str,
    /// Further header fields, each followed by CRLF.
    pub fields: String,
    /// The body.
    pub body: String,
}

impl Response {
    /// Returns a response with a plain text body.
    pub(crate) fn text(code: u16, body: impl Into<String>) -> Response {
        let (media, fields) = ("text/plain; charset=utf-8", String::new());
        Response { code, media, fields, body: body.into() }
    }

    /// Returns a response whose body is the reason phrase of its status code.
    pub(crate) fn status_only(code: u16) -> Response {
        let mut response = Response::text(code, format!("{}\n", phrase(code)));
        if code == 405 {
            response.fields = "Allow: GET, HEAD\r\n".into();
        }
        response
    }

    /// Returns the bytes to send. If `head` is true, the body is left out and Content-Length still gives
    /// its length.
    pub(crate) fn to_bytes(&self, head: bool) -> Vec<u8> {
        let Response { code, media, fields, body } = self;
        let mut text = format!(
            "HTTP/1.1 {code} {}\r\nContent-Type: {media}\r\nContent-Length: {}\r\n{fields}\
             Connection: close\r\n\r\n",
            phrase(*code),
            body.len()
        );
        if !head {
            text.push_str(body);
        }
        text.into_bytes()
    }
}

fn phrase(code: u16) -> &'static str {
    match code {
        200 => "OK",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "Bad Request",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROBE: &[u8] =
        b"GET /healthz HTTP/1.1\r\nHost: 192.0.2.11:20244\r\nUser-Agent: kube-probe/1.18\r\n\
          Accept-Encoding: gzip\r\nConnection: close\r\n\r\n";

    #[test]
    fn a_kubelet_probe_parses_once_the_whole_head_has_arrived() {
        let whole = Parse::Request(HttpRequest { path: "/healthz", head: false });
        for end in 0..PROBE.len() {
            assert_eq!(parse(&PROBE[..end]), Parse::Incomplete, "{end}");
        }
        assert_eq!(parse(PROBE), whole);
        assert_eq!(parse(b"GET /healthz HTTP/1.0\n\n"), whole);
        assert_eq!(parse(b"GET /healthz?verbose=1 HTTP/1.1\r\n\r\nmore"), whole);
    }

    #[test]
    fn an_invalid_request_gets_the_matching_status_code() {
        for (text, code) in [
            ("\r\n\r\n", 400),
            ("GET\r\n\r\n", 400),
            ("GET / HTTP/2.0\r\n\r\n", 400),
            ("GET  / HTTP/1.1\r\n\r\n", 400),
            ("GET http://x/ HTTP/1.1\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\nno field\r\n\r\n", 400),
            ("GET / HTTP/1.1\r\n: x\r\n\r\n", 400),
            ("POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 405),
            ("get / HTTP/1.1\r\n\r\n", 405),
        ] {
            assert_eq!(parse(text.as_bytes()), Parse::Invalid(code), "{text:?}");
        }
        assert_eq!(parse(b"GET /\xff HTTP/1.1\r\n\r\n"), Parse::Invalid(400));
        assert_eq!(parse(&[b'a'; MAX_HEAD - 1]), Parse::Incomplete);
        assert_eq!(parse(&[b'a'; MAX_HEAD]), Parse::Invalid(431));
    }

    #[test]
    fn parsing_never_panics_on_mutated_requests() {
        let mut seed = 11u64;
        let mut next = |below: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % below
        };
        for _ in 0..50_000 {
            let mut bytes = PROBE.to_vec();
            for _ in 0..=next(6) {
                if bytes.is_empty() {
                    break;
                }
                let at = next(bytes.len());
                match next(4) {
                    0 => bytes[at] = next(256) as u8,
                    1 => drop(bytes.remove(at)),
                    2 => bytes.insert(at, b" \r\n:/?\xff\0"[next(8)]),
                    _ => bytes.truncate(at.max(1)),
                }
            }
            if let Parse::Request(HttpRequest { path, .. }) = parse(&bytes) {
                assert!(path.starts_with('/'));
            }
        }
    }

    #[test]
    fn content_length_is_the_same_for_get_and_head() {
        let response = Response::text(200, "Grüße\n");
        let whole = String::from_utf8(response.to_bytes(false)).unwrap();
        assert_eq!(
            whole,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 8\r\n\
             Connection: close\r\n\r\nGrüße\n"
        );
        let head = String::from_utf8(response.to_bytes(true)).unwrap();
        assert_eq!(Some(&*head), whole.strip_suffix("Grüße\n"));
        let refusal = String::from_utf8(Response::status_only(405).to_bytes(false)).unwrap();
        assert!(refusal.contains("\r\nAllow: GET, HEAD\r\n"), "{refusal}");
    }

    #[test]
    fn the_reason_phrases_are_those_of_the_standards() {
        // RFC 9110 section 15; 431 is from RFC 6585 section 5.
        for (code, phrase) in [
            (200, "OK"),
            (400, "Bad Request"),
            (404, "Not Found"),
            (405, "Method Not Allowed"),
            (431, "Request Header Fields Too Large"),
            (500, "Internal Server Error"),
            (503, "Service Unavailable"),
        ] {
            let response = String::from_utf8(Response::status_only(code).to_bytes(false)).unwrap();
            let head = format!("HTTP/1.1 {code} {phrase}\r\n");
            assert!(response.starts_with(&head), "{response}");
            assert!(response.ends_with(&format!("\r\n\r\n{phrase}\n")), "{response}");
        }
    }
}
