//! One connection and one listening socket. Nothing here waits: what a connection has for us comes
//! in whole messages, what it does not take at once is kept for it.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd,
    time::Duration,
};

use super::{
    Distance,
    fsm::Conn,
    message::{MAX, frame},
    speaker::{Dial, Event},
};
use crate::{kernel::sys, log, router::Secret};

/// A peer that does not answer for so long is not there.
const DIAL: Duration = Duration::from_secs(20);
/// A peer that takes nothing for so long is gone: its own hold time is over by then.
const STALLED: Duration = Duration::from_secs(180);
/// An address that could not be listened at is tried again.
const LISTEN: Duration = Duration::from_secs(30);
/// Too many files, or a connection that is gone already: others will come.
const PAUSE: Duration = Duration::from_millis(100);
/// Read at once, behind what is there of a message already.
const READ: usize = 16 << 10;

/// Where bytes are read to; one for all connections.
pub type Buffer = [u8; MAX + READ];

/// An empty one.
pub fn buffer() -> Box<Buffer> {
    Box::new([0; MAX + READ])
}

/// How far a connection is.
enum Stage {
    /// It was asked for.
    Dialing(SocketAddr),
    /// It is there.
    Open,
    /// It ends once all is written.
    Closing,
}

/// A connection.
pub struct Link {
    /// Its number.
    pub conn: Conn,
    socket: TcpStream,
    stage: Stage,
    /// The beginning of a message.
    part: Vec<u8>,
    /// What the socket did not take yet.
    rest: Vec<u8>,
    /// When it is given up.
    until: Option<Duration>,
}

impl Link {
    /// Begins to connect; what the peer has to know of the connection is set before the first packet.
    pub fn dial(conn: Conn, dial: &Dial, now: Duration) -> io::Result<Link> {
        let ipv4 = dial.to.is_ipv4();
        let socket = sys::tcp(ipv4)?;
        distance(&socket, ipv4, dial.distance)?;
        if let Some(key) = &dial.password {
            sys::tcp_md5(&socket, dial.to.ip(), key.reveal().as_bytes())?;
        }
        if let Some(local) = dial.local {
            sys::bind(&socket, SocketAddr::new(local, 0))?;
        }
        sys::connect(&socket, dial.to)?;
        let mut link = Link::open(conn, TcpStream::from(socket));
        (link.stage, link.until) = (Stage::Dialing(dial.to), Some(now + DIAL));
        Ok(link)
    }

    /// One that is there.
    pub fn open(conn: Conn, socket: TcpStream) -> Link {
        let (part, rest) = (Vec::new(), Vec::new());
        Link { conn, socket, stage: Stage::Open, part, rest, until: None }
    }

    /// Says what it waits for.
    pub fn wait(&self, poll: &mut sys::Poll) {
        let dialing = matches!(self.stage, Stage::Dialing(_));
        let open = matches!(self.stage, Stage::Open);
        poll.add(&self.socket, open, dialing || !self.rest.is_empty());
    }

    /// When it is given up, whatever comes.
    pub fn deadline(&self) -> Option<Duration> {
        self.until
    }

    /// Whether nothing more is to be done with it than to write what is left.
    pub fn is_closing(&self) -> bool {
        matches!(self.stage, Stage::Closing)
    }

    /// Takes bytes, and writes what can be written at once.
    pub fn send(&mut self, bytes: &[u8], now: Duration, say: &mut Vec<Event>) -> bool {
        if self.rest.is_empty() {
            self.until = Some(now + STALLED);
        }
        self.rest.extend(bytes);
        self.write(now, say)
    }

    /// Ends it once all is written; whether it is over.
    pub fn close(&mut self) -> bool {
        let open = matches!(self.stage, Stage::Open) && !self.rest.is_empty();
        self.stage = Stage::Closing;
        !open
    }

    /// Does what it is ready for, and says what came of it; whether it is still there.
    pub fn serve(
        &mut self,
        (read, room): (bool, bool),
        now: Duration,
        buffer: &mut Buffer,
        say: &mut Vec<Event>,
    ) -> bool {
        if let (Stage::Dialing(to), true) = (&self.stage, room) {
            match self.is_there() {
                Ok(local) => {
                    (self.stage, self.until) = (Stage::Open, None);
                    say.push(Event::Connected(self.conn, local));
                }
                Err(e) => {
                    say.push(Event::Failed(self.conn, format!("connecting to {to}: {e}")));
                    return false;
                }
            }
            return true;
        }
        let alive = (!read || self.read(buffer, say)) && (!room || self.write(now, say));
        if alive && self.until.is_some_and(|until| until <= now) {
            say.push(match self.stage {
                Stage::Dialing(to) => {
                    let why = format!("connecting to {to}: no answer within {} s", DIAL.as_secs());
                    Event::Failed(self.conn, why)
                }
                _ => {
                    Event::Closed(self.conn, format!("it took nothing for {} s", STALLED.as_secs()))
                }
            });
            return false;
        }
        alive
    }

    /// The address of ours, where there is a connection by now.
    fn is_there(&self) -> io::Result<IpAddr> {
        match self.socket.take_error()? {
            Some(e) => Err(e),
            None => Ok(self.socket.local_addr()?.ip()),
        }
    }

    fn read(&mut self, buffer: &mut Buffer, say: &mut Vec<Event>) -> bool {
        let had = self.part.len();
        buffer[..had].copy_from_slice(&self.part);
        let why = match self.socket.read(&mut buffer[had..had + READ]) {
            Ok(0) => "the peer ended the connection".to_owned(),
            Ok(n) => {
                let mut bytes = &buffer[..had + n];
                loop {
                    match frame(bytes) {
                        Ok(Some(len)) => {
                            let (message, more) = bytes.split_at(len);
                            say.push(Event::Message(self.conn, message.to_vec()));
                            bytes = more;
                        }
                        Ok(None) => break,
                        Err(word) => {
                            say.push(Event::Broken(self.conn, word));
                            bytes = &[]; // whoever hears of it ends the connection
                            break;
                        }
                    }
                }
                self.part.clear();
                self.part.extend(bytes);
                return true;
            }
            Err(e) if is_idle(&e) => return true,
            Err(e) => format!("the connection broke: {e}"),
        };
        say.push(Event::Closed(self.conn, why));
        false
    }

    /// Writes what is left; whether it is still there.
    fn write(&mut self, now: Duration, say: &mut Vec<Event>) -> bool {
        while !self.rest.is_empty() {
            match self.socket.write(&self.rest) {
                Ok(n) => {
                    self.rest.drain(..n);
                    self.until = Some(now + STALLED);
                }
                Err(e) if is_idle(&e) => return true,
                Err(e) => {
                    say.push(Event::Closed(self.conn, format!("the connection broke: {e}")));
                    return false;
                }
            }
        }
        self.until = None;
        say.push(Event::Sent(self.conn));
        !self.is_closing()
    }
}

/// Sets how far away the other end may be.
pub fn distance(socket: &impl AsRawFd, ipv4: bool, distance: Distance) -> io::Result<()> {
    let ttl = distance.ttl().map(|ttl| sys::ttl(socket, ipv4, ttl));
    let least = distance.least().map(|ttl| sys::least_ttl(socket, ipv4, ttl));
    ttl.into_iter().chain(least).collect()
}

impl Drop for Link {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Write);
    }
}

fn is_idle(e: &io::Error) -> bool {
    matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// An address that is listened at, or will be when that can be.
pub struct Listener {
    at: SocketAddr,
    socket: Option<TcpListener>,
    /// When it is tried again.
    until: Option<Duration>,
    told: bool,
}

impl Listener {
    /// One that is still to be opened.
    pub fn new(at: SocketAddr) -> Listener {
        Listener { at, socket: None, until: Some(Duration::ZERO), told: false }
    }

    /// Says what it waits for.
    pub fn wait(&self, poll: &mut sys::Poll) {
        match &self.socket {
            Some(socket) => poll.add(socket, self.until.is_none(), false),
            None => poll.skip(),
        }
    }

    /// When it is to be tried again.
    pub fn deadline(&self) -> Option<Duration> {
        self.until
    }

    /// Who connected, if somebody did. `keys` are of the peers that sign what they send.
    pub fn serve(
        &mut self,
        ready: bool,
        now: Duration,
        keys: &[(IpAddr, Secret)],
    ) -> Option<TcpStream> {
        let due = self.until.is_some_and(|until| until <= now);
        self.until.take_if(|_| due);
        match &self.socket {
            None if due => match listen(self.at, keys) {
                Ok(socket) => self.socket = Some(socket),
                Err(e) => {
                    self.until = Some(now + LISTEN);
                    if !std::mem::replace(&mut self.told, true) {
                        log::warn(format_args!(
                            "bgp: listening at {}: {e}; only connecting to peers until that works",
                            self.at
                        ));
                    }
                }
            },
            Some(socket) if ready => match socket.accept().map(|(stream, _)| stream) {
                Ok(stream) => return stream.set_nonblocking(true).ok().map(|()| stream),
                Err(e) if is_idle(&e) => {}
                Err(_) => self.until = Some(now + PAUSE),
            },
            _ => {}
        }
        None
    }
}

fn listen(at: SocketAddr, keys: &[(IpAddr, Secret)]) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(at)?;
    for (peer, key) in keys.iter().filter(|(peer, _)| peer.is_ipv4() == at.is_ipv4()) {
        sys::tcp_md5(&listener, *peer, key.reveal().as_bytes())?;
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}
