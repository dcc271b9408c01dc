//! A TCP connection with a peer, and a listening socket. Neither of them blocks.
//!
//! A connection splits the received bytes into messages with [`message_len`] and reports them as [`SpeakerEvent`]s;
//! bytes that the socket does not accept are queued. `session` polls the sockets; `speaker` decides
//! about connections and decodes messages.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    time::Duration,
};

use super::{
    fsm::ConnId,
    message::message_len,
    speaker::{Dial, SpeakerEvent},
    wire::MAX_MESSAGE_LEN,
};
use crate::{
    family::Family,
    log,
    model::bgp::{TtlPolicy, peer::Secret},
    sys,
};

/// The time after which an attempt to connect is given up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// The shortest time after which a connection is closed if the peer accepts no data.
const MIN_WRITE_TIMEOUT: Duration = Duration::from_secs(180);
/// The delay before the next attempt to listen at an address that failed.
const LISTEN_RETRY: Duration = Duration::from_secs(30);
/// The delay before the next accept(2) after an error, for example too many open files.
const ACCEPT_DELAY: Duration = Duration::from_millis(100);
/// The maximum number of bytes to read at a time, in addition to an incomplete message.
const READ_SIZE: usize = 16 << 10;

/// A buffer for received bytes, shared by all connections.
pub(super) type ReadBuffer = [u8; MAX_MESSAGE_LEN + READ_SIZE];

/// Returns an empty buffer.
pub(super) fn read_buffer() -> Box<ReadBuffer> {
    Box::new([0; MAX_MESSAGE_LEN + READ_SIZE])
}

/// The progress of a connection.
enum Stage {
    /// The TCP handshake with this address is under way.
    Dialing(SocketAddr),
    /// The connection is open.
    Open,
    /// The connection is closed after the queued bytes are sent.
    Closing,
}

/// The result of an operation on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum TcpStatus {
    /// The connection is still in use.
    Alive,
    /// The connection is over and must be dropped.
    Over,
}

/// A TCP connection with a peer.
pub(super) struct TcpConnection {
    /// The number of the connection.
    pub id: ConnId,
    socket: TcpStream,
    stage: Stage,
    /// The received part of an incomplete message.
    partial: Vec<u8>,
    /// Bytes that the socket has not accepted yet.
    queue: Vec<u8>,
    /// The time after which the connection is closed if the peer accepts no data.
    write_timeout: Duration,
    /// The time at which the connect timeout or the write timeout expires; `None` if neither runs.
    deadline: Option<Duration>,
}

impl TcpConnection {
    /// Starts to connect. The TTL and the MD5 key are set before the first packet is sent. Fails if the
    /// socket cannot be set up or the kernel refuses to connect.
    pub(super) fn dial(id: ConnId, dial: &Dial, now: Duration) -> io::Result<TcpConnection> {
        let family = Family::of_addr(&dial.to.ip());
        let socket = sys::tcp_socket(family)?;
        apply_ttl_policy(&socket, family, dial.distance)?;
        if let Some(key) = &dial.password {
            sys::set_tcp_md5(&socket, dial.to.ip(), key.reveal().as_bytes())?;
        }
        if let Some(local) = dial.local {
            sys::bind(&socket, SocketAddr::new(local, 0))?;
        }
        sys::connect(&socket, dial.to)?;
        let mut connection = TcpConnection::open(id, TcpStream::from(socket), dial.hold_time);
        connection.stage = Stage::Dialing(dial.to);
        connection.deadline = Some(now + CONNECT_TIMEOUT);
        Ok(connection)
    }

    /// Returns a connection over an open socket. `hold_time` is the hold time that this node offers, in
    /// seconds.
    pub(super) fn open(id: ConnId, socket: TcpStream, hold_time: u16) -> TcpConnection {
        TcpConnection {
            id,
            socket,
            stage: Stage::Open,
            partial: Vec::new(),
            queue: Vec::new(),
            write_timeout: write_timeout(hold_time),
            deadline: None,
        }
    }

    /// Adds the socket to the poll set, for the events that the stage requires.
    pub(super) fn register(&self, poll: &mut sys::Poll) {
        let dialing = matches!(self.stage, Stage::Dialing(_));
        let open = matches!(self.stage, Stage::Open);
        poll.add(&self.socket, open, dialing || !self.queue.is_empty());
    }

    /// Returns the time at which [`TcpConnection::handle_ready`] must be called even if the socket is not
    /// ready; `None` if no timeout runs.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.deadline
    }

    /// Returns true if the connection only waits until its queued bytes are sent.
    pub(super) fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing)
    }

    /// Queues bytes and writes as many as the socket accepts.
    pub(super) fn send(
        &mut self,
        bytes: &[u8],
        now: Duration,
        events: &mut Vec<SpeakerEvent>,
    ) -> TcpStatus {
        if self.queue.is_empty() {
            self.deadline = Some(now + self.write_timeout);
        }
        self.queue.extend(bytes);
        self.write(now, events)
    }

    /// Closes the connection after its queued bytes are sent: at once if there are none, or if the
    /// connection is not open.
    pub(super) fn close(&mut self) -> TcpStatus {
        let pending = matches!(self.stage, Stage::Open) && !self.queue.is_empty();
        self.stage = Stage::Closing;
        if pending { TcpStatus::Alive } else { TcpStatus::Over }
    }

    /// Finishes the handshake, reads, writes and checks the timeouts, according to the readiness of the
    /// socket. Appends events for the results.
    pub(super) fn handle_ready(
        &mut self,
        (readable, writable): (bool, bool),
        now: Duration,
        buffer: &mut ReadBuffer,
        events: &mut Vec<SpeakerEvent>,
    ) -> TcpStatus {
        if let (Stage::Dialing(to), true) = (&self.stage, writable) {
            match self.finish_connect() {
                Ok(local) => {
                    (self.stage, self.deadline) = (Stage::Open, None);
                    events.push(SpeakerEvent::Connected(self.id, local));
                }
                Err(e) => {
                    let why = format!("connecting to {to}: {e}");
                    events.push(SpeakerEvent::ConnectFailed(self.id, why));
                    return TcpStatus::Over;
                }
            }
            return TcpStatus::Alive;
        }
        if readable && self.read(buffer, events) == TcpStatus::Over
            || writable && self.write(now, events) == TcpStatus::Over
        {
            return TcpStatus::Over;
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            events.push(match self.stage {
                Stage::Dialing(to) => {
                    let timeout = CONNECT_TIMEOUT.as_secs();
                    let why = format!("connecting to {to}: no answer within {timeout} s");
                    SpeakerEvent::ConnectFailed(self.id, why)
                }
                _ => {
                    let timeout = self.write_timeout.as_secs();
                    SpeakerEvent::Closed(
                        self.id,
                        format!("the peer accepted no data for {timeout} s"),
                    )
                }
            });
            return TcpStatus::Over;
        }
        TcpStatus::Alive
    }

    /// Returns the local address if the handshake succeeded. Fails with the error of the handshake.
    fn finish_connect(&self) -> io::Result<IpAddr> {
        match self.socket.take_error()? {
            Some(e) => Err(e),
            None => Ok(self.socket.local_addr()?.ip()),
        }
    }

    /// Reads once and appends an event for each whole message.
    fn read(&mut self, buffer: &mut ReadBuffer, events: &mut Vec<SpeakerEvent>) -> TcpStatus {
        let had = self.partial.len();
        buffer[..had].copy_from_slice(&self.partial);
        let why = match self.socket.read(&mut buffer[had..had + READ_SIZE]) {
            Ok(0) => "the peer closed the connection".to_owned(),
            Ok(n) => {
                let mut bytes = &buffer[..had + n];
                loop {
                    match message_len(bytes) {
                        Ok(Some(len)) => {
                            let (message, rest) = bytes.split_at(len);
                            events.push(SpeakerEvent::Received(self.id, message.to_vec()));
                            bytes = rest;
                        }
                        Ok(None) => break,
                        Err(notification) => {
                            events.push(SpeakerEvent::Malformed(self.id, notification));
                            bytes = &[]; // the state machine closes the connection
                            break;
                        }
                    }
                }
                self.partial.clear();
                self.partial.extend(bytes);
                return TcpStatus::Alive;
            }
            Err(e) if is_temporary(&e) => return TcpStatus::Alive,
            Err(e) => format!("the connection failed: {e}"),
        };
        events.push(SpeakerEvent::Closed(self.id, why));
        TcpStatus::Over
    }

    /// Writes queued bytes until the socket accepts no more.
    fn write(&mut self, now: Duration, events: &mut Vec<SpeakerEvent>) -> TcpStatus {
        while !self.queue.is_empty() {
            match self.socket.write(&self.queue) {
                Ok(n) => {
                    self.queue.drain(..n);
                    self.deadline = Some(now + self.write_timeout);
                }
                Err(e) if is_temporary(&e) => return TcpStatus::Alive,
                Err(e) => {
                    let why = format!("the connection failed: {e}");
                    events.push(SpeakerEvent::Closed(self.id, why));
                    return TcpStatus::Over;
                }
            }
        }
        self.deadline = None;
        events.push(SpeakerEvent::Flushed(self.id));
        if self.is_closing() { TcpStatus::Over } else { TcpStatus::Alive }
    }
}

/// Returns the time after which a connection is closed if the peer accepts no data. It is at least the
/// offered hold time, so the hold time of the session has expired by then.
fn write_timeout(hold_time: u16) -> Duration {
    MIN_WRITE_TIMEOUT.max(Duration::from_secs(hold_time.into()))
}

/// Applies a hop limit to a socket: the TTL of sent packets and the minimum TTL of received packets.
pub(super) fn apply_ttl_policy(
    socket: &impl AsRawFd,
    family: Family,
    distance: TtlPolicy,
) -> io::Result<()> {
    let ttl = distance.ttl().map(|ttl| sys::set_ttl(socket, family, ttl));
    let min_ttl = distance.min_ttl().map(|ttl| sys::set_min_ttl(socket, family, ttl));
    ttl.into_iter().chain(min_ttl).collect()
}

impl Drop for TcpConnection {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

/// Returns true if the operation can be repeated when the socket is ready again.
fn is_temporary(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// A listening socket. It is opened, and after an error opened again, by [`Listener::accept`].
pub(super) struct Listener {
    at: SocketAddr,
    socket: Option<TcpListener>,
    /// The time of the next attempt to listen or to accept after an error; `None` if there was no error.
    retry: Option<Duration>,
    /// True after the first error was logged.
    logged: bool,
}

impl Listener {
    /// Returns a listener that opens its socket on the first call of [`Listener::accept`].
    pub(super) fn new(at: SocketAddr) -> Listener {
        Listener { at, socket: None, retry: Some(Duration::ZERO), logged: false }
    }

    /// Adds the socket to the poll set, or an empty entry if it is not open.
    pub(super) fn register(&self, poll: &mut sys::Poll) {
        match &self.socket {
            Some(socket) => poll.add(socket, self.retry.is_none(), false),
            None => poll.add_empty(),
        }
    }

    /// Returns the time of the next attempt after an error; `None` if there was no error.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.retry
    }

    /// Opens the socket if it is due, and accepts one connection if the socket is `ready`. `keys` are the
    /// MD5 keys of the peers. Returns `None` if there is no connection; errors are logged and retried.
    pub(super) fn accept(
        &mut self,
        ready: bool,
        now: Duration,
        keys: &[(IpAddr, Secret)],
    ) -> Option<TcpStream> {
        let due = self.retry.is_some_and(|at| at <= now);
        self.retry.take_if(|_| due);
        match &self.socket {
            None if due => match listen(self.at, keys) {
                Ok(socket) => self.socket = Some(socket),
                Err(e) => {
                    self.retry = Some(now + LISTEN_RETRY);
                    if !std::mem::replace(&mut self.logged, true) {
                        log::warn(format_args!(
                            "bgp: listening at {}: {e}; retrying every {} s, until then only outgoing \
                             connections are possible",
                            self.at,
                            LISTEN_RETRY.as_secs()
                        ));
                    }
                }
            },
            Some(socket) if ready => match socket.accept().map(|(stream, _)| stream) {
                Ok(stream) => return stream.set_nonblocking(true).ok().map(|()| stream),
                Err(e) if is_temporary(&e) => {}
                Err(_) => self.retry = Some(now + ACCEPT_DELAY),
            },
            _ => {}
        }
        None
    }
}

/// Opens a listening socket with the MD5 keys of the peers of its address family.
fn listen(at: SocketAddr, keys: &[(IpAddr, Secret)]) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(at)?;
    for (peer, key) in keys.iter().filter(|(peer, _)| peer.is_ipv4() == at.is_ipv4()) {
        sys::set_tcp_md5(&listener, *peer, key.reveal().as_bytes())?;
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_write_timeout_is_never_shorter_than_the_hold_time() {
        let seconds = |hold_time| write_timeout(hold_time).as_secs();
        assert_eq!([0, 90, 181, u16::MAX].map(seconds), [180, 180, 181, 65_535]);
    }

    #[test]
    fn a_listening_socket_has_the_md5_keys_of_its_own_family() {
        let keys = ["127.0.0.1", "::1"].map(|peer| (peer.parse().unwrap(), Secret::new("secret")));
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let listener = listen(at.parse().unwrap(), &keys).unwrap();
            let (at, timeout) = (listener.local_addr().unwrap(), Duration::from_millis(300));
            let unsigned = TcpStream::connect_timeout(&at, timeout);
            assert_eq!(
                unsigned.unwrap_err().kind(),
                ErrorKind::TimedOut,
                "{at} drops its segments"
            );
        }
    }
}
