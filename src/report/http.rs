//! The little of HTTP/1.1 (RFC 9112) that it takes to show a page: GET and HEAD, one request per
//! connection, nothing of the headers heeded. Pure: bytes in, bytes out.

/// A request head may be this long; kubelets, load balancers and Prometheus send a few hundred bytes.
pub const LONGEST: usize = 4096;

/// What a client asked for.
#[derive(Debug, PartialEq)]
pub struct Request<'a> {
    /// Without the query.
    pub path: &'a str,
    /// HEAD: the answer has no body.
    pub head: bool,
}

/// What can be said of the bytes that came so far.
#[derive(Debug, PartialEq)]
pub enum Heard<'a> {
    /// The head has no end yet.
    More,
    /// All of it.
    Request(Request<'a>),
    /// Not to be answered but with this status.
    Wrong(u16),
}

/// Reads the head of a request.
pub fn read(bytes: &[u8]) -> Heard<'_> {
    let Some(end) = end_of_head(bytes) else {
        return if bytes.len() < LONGEST { Heard::More } else { Heard::Wrong(431) };
    };
    let Ok(head) = std::str::from_utf8(&bytes[..end]) else { return Heard::Wrong(400) };
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some(version), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Heard::Wrong(400);
    };
    let fields = |line: &str| line.split_once(':').is_some_and(|(name, _)| !name.is_empty());
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') || !lines.all(fields) {
        return Heard::Wrong(400);
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    match method {
        "GET" | "HEAD" => Heard::Request(Request { path, head: method == "HEAD" }),
        _ => Heard::Wrong(405),
    }
}

/// Where the empty line begins; a bare LF ends a line too (RFC 9112, 2.2).
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let ends = |i: &usize| {
        let rest = &bytes[*i..];
        rest.starts_with(b"\n\r\n") || rest.starts_with(b"\n\n")
    };
    (0..bytes.len()).find(ends)
}

/// What is shown.
#[derive(Debug, PartialEq)]
pub struct Answer {
    /// The status.
    pub code: u16,
    /// The media type.
    pub media: &'static str,
    /// More header lines, each with its CRLF.
    pub fields: String,
    /// The page.
    pub body: String,
}

impl Answer {
    /// A page of plain text.
    pub fn text(code: u16, body: impl Into<String>) -> Answer {
        let (media, fields) = ("text/plain; charset=utf-8", String::new());
        Answer { code, media, fields, body: body.into() }
    }

    /// A page that says what its status means.
    pub fn bare(code: u16) -> Answer {
        let mut answer = Answer::text(code, format!("{}\n", phrase(code)));
        if code == 405 {
            answer.fields = "Allow: GET, HEAD\r\n".into();
        }
        answer
    }

    /// As it goes on the wire.
    pub fn bytes(&self, head: bool) -> Vec<u8> {
        let Answer { code, media, fields, body } = self;
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
    fn a_kubelets_probe_is_understood_once_all_of_it_is_there() {
        let whole = Heard::Request(Request { path: "/healthz", head: false });
        for end in 0..PROBE.len() {
            assert_eq!(read(&PROBE[..end]), Heard::More, "{end}");
        }
        assert_eq!(read(PROBE), whole);
        assert_eq!(read(b"GET /healthz HTTP/1.0\n\n"), whole);
        assert_eq!(read(b"GET /healthz?verbose=1 HTTP/1.1\r\n\r\nmore"), whole);
    }

    #[test]
    fn what_is_no_request_for_a_page_is_told_so() {
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
            assert_eq!(read(text.as_bytes()), Heard::Wrong(code), "{text:?}");
        }
        assert_eq!(read(b"GET /\xff HTTP/1.1\r\n\r\n"), Heard::Wrong(400));
        assert_eq!(read(&[b'a'; LONGEST - 1]), Heard::More);
        assert_eq!(read(&[b'a'; LONGEST]), Heard::Wrong(431));
    }

    #[test]
    fn whatever_comes_it_is_never_a_panic() {
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
            if let Heard::Request(Request { path, .. }) = read(&bytes) {
                assert!(path.starts_with('/'));
            }
        }
    }

    #[test]
    fn an_answer_says_how_long_it_is_with_its_body_and_without() {
        let answer = Answer::text(200, "Grüße\n");
        let whole = String::from_utf8(answer.bytes(false)).unwrap();
        assert_eq!(
            whole,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 8\r\n\
             Connection: close\r\n\r\nGrüße\n"
        );
        let head = String::from_utf8(answer.bytes(true)).unwrap();
        assert_eq!(Some(&*head), whole.strip_suffix("Grüße\n"));
        let refusal = String::from_utf8(Answer::bare(405).bytes(false)).unwrap();
        assert!(refusal.contains("\r\nAllow: GET, HEAD\r\n"), "{refusal}");
    }
}
