//! The error of a request to the API server: a cause for code to react to and a sentence for people.
//!
//! [`Failure::status`] describes a response with an error status, [`Failure::transport`] a request
//! without a response, [`Failure::from_list_fault`] and [`Failure::from_body_error`] a body that broke
//! off. The sentence gives the cause and, if one is likely, the remedy. TLS errors are described by
//! [`tls::explain`].

use std::{io, time::Duration};

use serde::Deserialize;
use ureq::{Timeout, http::StatusCode};

use super::{page, tls};
use crate::codec::json;

/// The error of a request that failed.
#[derive(Debug)]
pub(super) struct Failure {
    /// The cause, for callers that react to it.
    pub cause: Cause,
    /// The cause and the remedy, for people.
    pub text: String,
    /// The time to wait before the next attempt (Retry-After, 30 s at most); `None` if the server gave
    /// none.
    pub retry_after: Option<Duration>,
    /// True if the server has not reached the requested resourceVersion yet.
    pub future_version: bool,
}

/// The causes that callers distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The server responded with this HTTP status.
    Status(u16),
    /// The server did not respond in time, for example because etcd is down.
    Timeout,
    /// The server closed the connection without a response. Either etcd is down, or the connection was
    /// an idle one that had timed out.
    NoResponse,
    /// Any other cause.
    Other,
}

/// The timeout of connecting, including the TLS handshake, in seconds.
pub(super) const CONNECT_TIMEOUT: u64 = 10;

impl Failure {
    /// Returns a failure without a Retry-After.
    pub(super) fn new(cause: Cause, text: impl Into<String>) -> Failure {
        Failure { cause, text: text.into(), retry_after: None, future_version: false }
    }

    /// Returns a failure of the cause [`Cause::Other`].
    pub(super) fn other(text: impl Into<String>) -> Failure {
        Failure::new(Cause::Other, text)
    }

    /// Returns the failure for a response whose status is not 200. `body` is the start of its body,
    /// `location` the value of its Location header.
    pub(super) fn status(status: StatusCode, body: &[u8], location: Option<&str>) -> Failure {
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
        Failure { future_version, ..Failure::new(Cause::Status(code), text) }
    }

    /// Returns the failure for an error event of a watch. `text` contains the message of the Status.
    pub(super) fn event(code: u16, text: String) -> Failure {
        let future_version = is_future_version(code, &text);
        Failure { future_version, ..Failure::new(Cause::Status(code), text) }
    }

    /// Returns the failure for a request without a response. `ca` is the file or field that the CA came
    /// from, `timeout` the limit for the head of the response.
    pub(super) fn transport(error: ureq::Error, ca: &str, timeout: Duration) -> Failure {
        use ureq::Error as E;
        let text = match error {
            E::Io(e) => return Failure::io(&e, ca),
            E::Rustls(e) => tls::explain(&e, ca),
            E::Timeout(Timeout::Connect | Timeout::Resolve) => {
                format!(
                    "no connection within {CONNECT_TIMEOUT} s; is the server up, and does a \
                     firewall block the port?"
                )
            }
            E::Timeout(_) => {
                let limit = seconds(timeout);
                let text = format!("no answer within {limit}; is etcd up behind the API server?");
                return Failure::new(Cause::Timeout, text);
            }
            E::HostNotFound => {
                "the host name of the server is unknown; does DNS work here?".to_owned()
            }
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
                Cause::NoResponse,
                "an empty reply: the connection was cut before an answer came; is etcd up behind \
                 the API server?",
            ),
            io::ErrorKind::ConnectionRefused => Failure::other(
                "connection refused; is the API server running there, and is the port right?",
            ),
            io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
                Failure::other(format!("{error}; does this node have a route to the server?"))
            }
            // getaddrinfo(3) errors have no ErrorKind of their own.
            _ if error.to_string().contains("lookup address") => {
                Failure::other(format!("{error}; does DNS work here?"))
            }
            _ => Failure::other(error.to_string()),
        }
    }

    /// Returns the failure for a list that could not be read to its end. `ca` and `timeout` are as in
    /// [`Failure::from_body_error`].
    pub(super) fn from_list_fault(fault: page::PageFault, ca: &str, timeout: Duration) -> Failure {
        use page::PageFault;
        let text = match fault {
            PageFault::Empty => "the reply is empty: it was cut before the list began".to_owned(),
            PageFault::Cut => "the connection was cut in the middle of the list".to_owned(),
            PageFault::NotJson(line) => format!(
                "the reply is not JSON but starts with {line:?}; is that the API server, or a proxy \
                 before it?"
            ),
            PageFault::Invalid(why) => format!("the reply is not a list of objects: {why}"),
            PageFault::Io(e) => return Failure::from_body_error(e, "list", ca, timeout),
        };
        Failure::other(text)
    }

    /// Returns the failure for a body that could not be read to its end. `what` is the noun for its
    /// content, for example "list"; `ca` is the file or field that the CA came from, `timeout` the limit
    /// for one read.
    pub(super) fn from_body_error(
        error: io::Error,
        what: &str,
        ca: &str,
        timeout: Duration,
    ) -> Failure {
        // The io::Error may wrap a ureq::Error.
        match ureq::Error::from(error) {
            ureq::Error::Io(e) if is_disconnect(e.kind()) => {
                Failure::other(format!("the connection was cut in the middle of the {what}"))
            }
            ureq::Error::Timeout(_) => {
                let text = format!("no data for {} in the middle of the {what}", seconds(timeout));
                Failure::new(Cause::Timeout, text)
            }
            ureq::Error::Io(e) if e.kind() == io::ErrorKind::InvalidData => {
                Failure::other(e.to_string())
            }
            other => Failure { cause: Cause::Other, ..Failure::transport(other, ca, timeout) },
        }
    }
}

/// Returns a timeout as text: in seconds, or in milliseconds if it is not a whole number of seconds.
fn seconds(timeout: Duration) -> String {
    match timeout.subsec_millis() {
        0 => format!("{} s", timeout.as_secs()),
        _ => format!("{} ms", timeout.as_millis()),
    }
}

/// Returns true if the error means that the other side closed the connection.
fn is_disconnect(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

/// Returns the message in the body of an error: that of a Kubernetes Status, or else the first line.
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct ApiStatus {
        message: Option<String>,
    }
    match json::from_str::<ApiStatus>(&String::from_utf8_lossy(body)) {
        Ok(ApiStatus { message }) => page::first_line(message.unwrap_or_default().as_bytes()),
        Err(_) => page::first_line(body),
    }
}

/// Returns advice for an HTTP status; `None` if there is none for it.
fn hint(code: u16, message: &str, location: Option<&str>) -> Option<String> {
    Some(match code {
        300..=399 => format!(
            "the server redirects to {}, and redirects are not followed; give the API server's own URL",
            location.map_or("nowhere".to_owned(), |to| page::first_line(to.as_bytes()))
        ),
        400 if message.contains("HTTPS server") => "use https:// in its URL".to_owned(),
        401 => "the token or the client certificate is missing, wrong or expired".to_owned(),
        403 => "this user needs the rights in boards/kubernetes/rbac.yaml".to_owned(),
        404 => "is that the URL of a Kubernetes API server?".to_owned(),
        429 => "the API server is overloaded; try again later".to_owned(),
        500 | 503 | 504 => "the API server, or etcd behind it, is not healthy".to_owned(),
        502 => "is the API server up behind that proxy?".to_owned(),
        _ => return None,
    })
}

/// Returns true if a Status means that the server has not reached the requested resourceVersion yet.
/// Servers before Kubernetes 1.17 mark that only by the message; client-go's reflector matches it too.
fn is_future_version(code: u16, message: &str) -> bool {
    code == 504 && message.contains("Too large resource version")
}
