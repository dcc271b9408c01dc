//! One connection and one listening socket, as tasks: messages come in whole, bytes go out in order.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    rc::Rc,
    time::Duration,
};

use smol::{
    Async, Timer,
    channel::Receiver,
    future,
    io::{AsyncReadExt, AsyncWriteExt},
};

use super::{
    fsm::Conn,
    message::frame,
    speaker::{Dial, Event},
};
use crate::{kernel::sys, log};

/// A connection.
pub type Stream = Async<TcpStream>;

/// A peer that does not answer for so long is not there.
const DIAL: Duration = Duration::from_secs(20);
/// An address that could not be listened at is tried again.
const LISTEN: Duration = Duration::from_secs(30);
/// A peer that takes nothing for so long is gone: its own hold time is over by then.
const STALLED: Duration = Duration::from_secs(180);
/// Read at once.
const READ: usize = 8192;

/// Connects; what the peer has to know of the connection is set before the first packet.
pub async fn connect(dial: &Dial) -> io::Result<Stream> {
    let ipv4 = dial.to.is_ipv4();
    let socket = sys::tcp(ipv4)?;
    if let Some(ttl) = dial.ttl {
        sys::ttl(&socket, ipv4, ttl)?;
    }
    if let Some(key) = &dial.password {
        sys::tcp_md5(&socket, dial.to.ip(), key.as_bytes())?;
    }
    if let Some(local) = dial.local {
        sys::bind(&socket, SocketAddr::new(local, 0))?;
    }
    sys::connect(&socket, dial.to)?;
    let stream = Async::new_nonblocking(TcpStream::from(socket))?;
    let late = async {
        Timer::after(DIAL).await;
        let text = format!("no answer within {} s", DIAL.as_secs());
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    };
    future::or(stream.writable(), late).await?;
    match stream.get_ref().take_error()? {
        Some(e) => Err(e),
        None => Ok(stream),
    }
}

/// Reads messages until the connection ends. `say` is given what happened, but for whom; false: nobody
/// listens any more.
pub async fn read<F: Future<Output = bool>>(
    stream: Rc<Stream>,
    say: impl Fn(Box<dyn FnOnce(Conn) -> Event>) -> F,
) {
    let mut stream = &*stream;
    let (mut bytes, mut filled) = (Vec::new(), 0);
    let why = loop {
        let mut begin = 0;
        loop {
            match frame(&bytes[begin..filled]) {
                Ok(Some(len)) => {
                    let message = bytes[begin..begin + len].to_vec();
                    begin += len;
                    if !say(Box::new(move |conn| Event::Message(conn, message))).await {
                        return;
                    }
                }
                Ok(None) => break,
                Err(word) => {
                    say(Box::new(move |conn| Event::Broken(conn, word))).await;
                    return;
                }
            }
        }
        bytes.copy_within(begin..filled, 0);
        filled -= begin;
        bytes.resize(filled.max(READ / 2) + READ / 2, 0);
        match stream.read(&mut bytes[filled..]).await {
            Ok(0) => break "the peer ended the connection".to_owned(),
            Ok(n) => filled += n,
            Err(e) => break format!("the connection broke: {e}"),
        }
    };
    say(Box::new(move |conn| Event::Closed(conn, why))).await;
}

/// Writes what comes until nothing more will. `sent` is called whenever all is written.
pub async fn write(stream: Rc<Stream>, bytes: Receiver<Vec<u8>>, sent: impl AsyncFn()) {
    let mut stream = &*stream;
    while let Ok(more) = bytes.recv().await {
        let late = async {
            Timer::after(STALLED).await;
            Err(io::ErrorKind::TimedOut.into())
        };
        if future::or(stream.write_all(&more), late).await.is_err() {
            break; // whoever reads is told the same
        }
        if bytes.is_empty() {
            sent().await;
        }
    }
    let _ = stream.get_ref().shutdown(std::net::Shutdown::Write);
}

/// Listens at an address, and tries again where that can't be.
pub async fn listen(at: SocketAddr, keys: Vec<(IpAddr, Box<str>)>, accepted: impl AsyncFn(Stream)) {
    let mut told = false;
    loop {
        match listener(at, &keys) {
            Ok(listener) => loop {
                match listener.accept().await {
                    Ok((stream, _)) => accepted(stream).await,
                    // Too many files, or a connection that is gone already: others will come.
                    Err(_) => drop(Timer::after(Duration::from_millis(100)).await),
                }
            },
            Err(e) => {
                if !std::mem::replace(&mut told, true) {
                    log::warn(format_args!(
                        "bgp: listening at {at}: {e}; only connecting to peers until that works"
                    ));
                }
            }
        }
        Timer::after(LISTEN).await;
    }
}

fn listener(at: SocketAddr, keys: &[(IpAddr, Box<str>)]) -> io::Result<Async<TcpListener>> {
    let listener = TcpListener::bind(at)?;
    for (peer, key) in keys.iter().filter(|(peer, _)| peer.is_ipv4() == at.is_ipv4()) {
        sys::tcp_md5(&listener, *peer, key.as_bytes())?;
    }
    Async::new(listener)
}
