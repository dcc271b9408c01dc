//! What went wrong with a request, as a sentence that says what to do about it.

use std::{io, time::Duration};

use serde::Deserialize;
use ureq::{Timeout, http::StatusCode};

use super::{page, tls};
use crate::json;

/// A request that did not give what was asked for.
#[derive(Debug)]
pub struct Failure {
    /// What a caller may react to.
    pub why: Why,
    /// For people.
    pub text: String,
    /// The server asked to wait so long.
    pub retry_after: Option<Duration>,
    /// True if the server has not reached the requested resourceVersion yet.
    pub future_version: bool,
}

/// The causes that are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The server answered, with this status.
    Status(u16),
    /// The server did not answer in time: etcd may be down behind it.
    Silent,
    /// The server hung up without an answer: for the same reason, or because the connection was an
    /// old one.
    Empty,
    /// Anything else.
    Other,
}

/// Seconds that a read may take, for messages.
pub const IDLE: u64 = 30;
/// Seconds that connecting may take, TLS included.
pub const CONNECT: u64 = 10;

impl Failure {
    /// One that came of itself.
    pub fn new(why: Why, text: impl Into<String>) -> Failure {
        Failure { why, text: text.into(), retry_after: None, future_version: false }
    }

    /// One that nobody reacts to.
    pub fn other(text: impl Into<String>) -> Failure {
        Failure::new(Why::Other, text)
    }

    /// An answer with another status than 200. `body` is its start.
    pub fn status(status: StatusCode, body: &[u8], location: Option<&str>) -> Failure {
        let code = status.as_u16();
        let mut text = format!("{code} {}", status.canonical_reason().unwrap_or("(unknown)"));
        let message = message(body);
        if !message.is_empty() && !text.ends_with(&message) {
            text = format!("{text}: {message}");
        }
        if let Some(hint) = hint(code, &message, location) {
            text = format!("{text}; {hint}");
        }
        let future_version = is_future_version(code, &message);
        Failure { future_version, ..Failure::new(Why::Status(code), text) }
    }

    /// Returns the failure for an error event of a watch. `text` contains the message of the Status.
    pub fn event(code: u16, text: String) -> Failure {
        let future_version = is_future_version(code, &text);
        Failure { future_version, ..Failure::new(Why::Status(code), text) }
    }

    /// A request that got no answer. `ca` names where the CA came from.
    pub fn transport(error: ureq::Error, ca: &str) -> Failure {
        use ureq::Error as E;
        let text = match error {
            E::Io(e) => return Failure::io(&e, ca),
            E::Rustls(e) => tls::explain(&e, ca),
            E::Timeout(Timeout::Connect | Timeout::Resolve) => {
                format!("no connection within {CONNECT} s; is the server up, and a firewall open?")
            }
            E::Timeout(_) => {
                let text = format!("no answer within {IDLE} s; is etcd up behind the API server?");
                return Failure::new(Why::Silent, text);
            }
            E::HostNotFound => "its name is not known; does DNS work here?".to_owned(),
            E::Protocol(e) => format!("the answer is not HTTP ({e}); is it https://?"),
            E::LargeResponseHeader(..) => "the head of the answer is too large".to_owned(),
            other => other.to_string(),
        };
        Failure::other(text)
    }

    fn io(error: &io::Error, ca: &str) -> Failure {
        if let Some(e) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            return Failure::other(tls::explain(e, ca));
        }
        match error.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe => Failure::new(
                Why::Empty,
                "an empty reply: the connection was cut before an answer came; is etcd up behind \
                 the API server?",
            ),
            io::ErrorKind::ConnectionRefused => Failure::other(
                "connection refused; is the API server running there, and is the port right?",
            ),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
                Failure::other(format!("{error}; has this node a route to it?"))
            }
            // getaddrinfo's errors have no kind of their own.
            _ if error.to_string().contains("lookup address") => {
                Failure::other(format!("{error}; does DNS work here?"))
            }
            _ => Failure::other(error.to_string()),
        }
    }

    /// A list that began and could not be read to its end.
    pub fn list(fault: page::Fault, ca: &str) -> Failure {
        use page::Fault;
        let text = match fault {
            Fault::Empty => "the reply is empty: it was cut before the list began".to_owned(),
            Fault::Cut => "the connection was cut in the middle of the list".to_owned(),
            Fault::Foreign(line) => format!(
                "the reply is not JSON but starts with {line:?}; is that the API server, or a proxy \
                 before it?"
            ),
            Fault::Wrong(why) => format!("the reply is no list of objects: {why}"),
            Fault::Io(e) => return Failure::cut(e, "list", ca),
        };
        Failure::other(text)
    }

    /// A body, of `what`, whose end did not come.
    pub fn cut(error: io::Error, what: &str, ca: &str) -> Failure {
        // A ureq::Error may be wrapped in it.
        match ureq::Error::from(error) {
            ureq::Error::Io(e) if cut(e.kind()) => {
                Failure::other(format!("the connection was cut in the middle of the {what}"))
            }
            ureq::Error::Timeout(_) => {
                let text = format!("nothing more came for {IDLE} s in the middle of the {what}");
                Failure::new(Why::Silent, text)
            }
            ureq::Error::Io(e) if e.kind() == io::ErrorKind::InvalidData => {
                Failure::other(e.to_string())
            }
            other => Failure { why: Why::Other, ..Failure::transport(other, ca) },
        }
    }
}

fn cut(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

/// What the body of an error says: a Status, or some text.
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Status {
        message: Option<String>,
    }
    match json::from_str::<Status>(&String::from_utf8_lossy(body)) {
        Ok(Status { message }) => page::first_line(message.unwrap_or_default().as_bytes()),
        Err(_) => page::first_line(body),
    }
}

fn hint(code: u16, message: &str, location: Option<&str>) -> Option<String> {
    Some(match code {
        300..=399 => format!(
            "it sends us to {}, which is not followed; give the API server's own URL",
            location.map_or("nowhere".to_owned(), |to| page::first_line(to.as_bytes()))
        ),
        400 if message.contains("HTTPS server") => "use https:// in its URL".to_owned(),
        401 => "the token or the client certificate is missing, wrong or expired".to_owned(),
        403 => "this user needs the rights in boards/kubernetes/rbac.yaml".to_owned(),
        404 => "is that the URL of a Kubernetes API server?".to_owned(),
        429 => "the API server is overloaded; try again later".to_owned(),
        500 | 503 | 504 => "the API server, or etcd behind it, is not well".to_owned(),
        502 => "is the API server up behind that proxy?".to_owned(),
        _ => return None,
    })
}

/// Returns true if a Status means that the server has not reached the requested resourceVersion yet.
/// Servers before Kubernetes 1.17 mark that only by the message; client-go's reflector matches it too.
fn is_future_version(code: u16, message: &str) -> bool {
    code == 504 && message.contains("Too large resource version")
}
