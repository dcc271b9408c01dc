//! The client of the status socket. `kinglet status` and `kinglet bgp` send one GET request to the
//! daemon of this node and print the response.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// The read and write timeout. A daemon that does not respond within this time is stuck or gone.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The daemon's response.
#[derive(Debug, PartialEq)]
pub(crate) struct StatusReply {
    /// True if the daemon returned 200, and false if it returned 503.
    pub right: bool,
    /// The body of the response.
    pub page: String,
}

/// Requests a page (`/status`, `/status.json`, `/bgp…`) over the socket.
///
/// Returns `None` if no daemon listens on the socket. Fails if the socket cannot be used, if the
/// timeout expires, or if the response does not come from a kinglet of this version.
pub(crate) fn ask(socket: &Path, page: &str) -> io::Result<Option<StatusReply>> {
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(e) => {
            let gone = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
            return if gone.contains(&e.kind()) { Ok(None) } else { Err(e) };
        }
    };
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET {page} HTTP/1.1\r\nHost: kinglet\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let invalid =
        || io::Error::other("the program that listens there is not a kinglet of this version");
    let (head, page) = text.split_once("\r\n\r\n").ok_or_else(invalid)?;
    let right = match head.split(' ').nth(1) {
        Some("200") => true,
        Some("503") => false,
        _ => return Err(invalid()),
    };
    Ok(Some(StatusReply { right, page: page.to_owned() }))
}
