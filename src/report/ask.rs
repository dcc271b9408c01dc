//! Asks the daemon of this node: `kinglet status` shows what it answers.

use std::{
    io::{self, Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

/// A daemon that does not answer within this time is stuck or gone.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a daemon said.
#[derive(Debug, PartialEq)]
pub struct Said {
    /// Whether the node is right.
    pub right: bool,
    /// The page.
    pub page: String,
}

/// Gets a page (`/status`, `/status.json`) from the socket; `None`: no daemon listens there.
pub fn ask(socket: &Path, page: &str) -> io::Result<Option<Said>> {
    let mut stream = match UnixStream::connect(socket) {
        Ok(stream) => stream,
        Err(e) => {
            let gone = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused];
            return if gone.contains(&e.kind()) { Ok(None) } else { Err(e) };
        }
    };
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    write!(stream, "GET {page} HTTP/1.1\r\nHost: kinglet\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let odd = || io::Error::other("what listens there is no kinglet of this version");
    let (head, page) = text.split_once("\r\n\r\n").ok_or_else(odd)?;
    let right = match head.split(' ').nth(1) {
        Some("200") => true,
        Some("503") => false,
        _ => return Err(odd()),
    };
    Ok(Some(Said { right, page: page.to_owned() }))
}
