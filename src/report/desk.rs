//! Where the pages are shown: listeners and their connections, on one thread beside the loop.
//!
//! Each connection has a few seconds, each listener room for a few connections, of which the oldest
//! gives way: whoever keeps connections open and says nothing can't keep a kubelet's probe out.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::net::{UnixListener, UnixStream},
    path::Path,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use smol::{Async, LocalExecutor, Task, Timer, channel::Sender, future};

use super::{
    Facts,
    http::{self, Answer, Heard},
    pages::{self, Page},
};
use crate::{
    desired::{Unmet, health::HealthPorts},
    error::{Doing, Error, Result},
    few::Few,
};

/// How long one connection may take, from its first byte to its last.
const PATIENCE: Duration = Duration::from_secs(5);
/// How many connections one listener serves at a time.
const ROOM: usize = 16;
/// The pause after a connection that could not be taken (no descriptors left).
const PAUSE: Duration = Duration::from_secs(1);
/// What is read of a client that goes on talking after its answer.
const DEAF: usize = 64 * 1024;
/// Rendering a page is all that the thread has to do.
const STACK: usize = 256 * 1024;

/// The thread that shows what the daemon does; a process has one, and it stays to the end.
pub struct Desk {
    orders: Sender<Order>,
    /// What is said at each healthCheckNodePort.
    ports: Arc<Mutex<HealthPorts>>,
    open: Vec<u16>,
}

/// For the thread.
enum Order {
    Open(Listener, Shown),
    Close(u16),
}

/// What a listener shows.
#[derive(Clone)]
enum Shown {
    Page(Page),
    NodePort(u16),
}

impl Desk {
    /// Starts the thread; nothing listens yet.
    pub fn open(facts: Facts) -> Result<Desk> {
        let (orders, heard) = smol::channel::unbounded();
        let ports = Arc::new(Mutex::new(HealthPorts::new()));
        let shown = Arc::clone(&ports);
        let serve = move || {
            let executor: &'static _ = Box::leak(Box::new(LocalExecutor::new()));
            let mut open: Few<u16, Vec<Task<()>>> = Few::new();
            smol::block_on(executor.run(async {
                while let Ok(order) = heard.recv().await {
                    match order {
                        Order::Close(port) => drop(open.remove(&port)),
                        Order::Open(listener, what) => {
                            let port = if let Shown::NodePort(port) = what { port } else { 0 };
                            let (facts, ports) = (facts.clone(), Arc::clone(&shown));
                            let answer = move |path: &str| show(&what, path, &facts, &ports);
                            let task = executor.spawn(listen(executor, listener, answer));
                            open.or_default(port).push(task);
                        }
                    }
                }
            }));
        };
        let thread = thread::Builder::new().name("report".into()).stack_size(STACK).spawn(serve);
        thread.doing(|| "starting the thread that answers for health and status")?;
        Ok(Desk { orders, ports, open: Vec::new() })
    }

    /// Answers `/healthz` and `/livez`; port 0: nowhere. A port that is taken is an error: the
    /// kubelet's probe would ask somebody else.
    pub fn health(&self, addr: &str, port: u16) -> Result<()> {
        self.tcp(addr, port, &Page::Health)
            .doing(|| format!("listening for health probes (--health-port {port})"))
    }

    /// Answers as kube-proxy does at its health port; port 0: nowhere.
    pub fn proxy(&self, addr: &str, port: u16) -> Result<()> {
        self.tcp(addr, port, &Page::Proxy)
            .doing(|| format!("listening for load balancers (--proxy-health-port {port})"))
    }

    /// Answers with the metrics; port 0: nowhere.
    pub fn metrics(&self, addr: &str, port: u16, path: &str) -> Result<()> {
        self.tcp(addr, port, &Page::Metrics(path.into()))
            .doing(|| format!("listening for readers of metrics (--metrics-port {port})"))
    }

    /// Answers `kinglet status` on a Unix socket. What is left of an earlier run is replaced: whoever
    /// calls holds the node's lock.
    pub fn status(&self, path: &Path) -> Result<()> {
        let listen = || {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            match std::fs::remove_file(path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            Async::new(UnixListener::bind(path)?)
        };
        let listener = listen().doing(|| format!("listening on {}", path.display()))?;
        self.order(Order::Open(Listener::Unix(listener), Shown::Page(Page::Status)));
        Ok(())
    }

    /// Answers at these healthCheckNodePorts and at no others; given are those that can't be had.
    pub fn ports(&mut self, want: &HealthPorts) -> Vec<Unmet> {
        let mut unmet = Vec::new();
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).clone_from(want);
        let mut open = std::mem::take(&mut self.open);
        for port in open.extract_if(.., |port| !want.contains_key(port)) {
            self.order(Order::Close(port));
        }
        for (port, answering) in want {
            if open.contains(port) {
                continue;
            }
            match listening("", *port) {
                Ok(listeners) => {
                    for listener in listeners {
                        let shown = Shown::NodePort(*port);
                        self.order(Order::Open(Listener::Tcp(listener), shown));
                    }
                    open.push(*port);
                }
                Err(e) => unmet.push(Unmet::new(
                    format!("healthCheckNodePort {port} of Service {}", answering.service),
                    format!("listening there: {e}; load balancers will leave this node out"),
                )),
            }
        }
        self.open = open;
        unmet
    }

    fn tcp(&self, addr: &str, port: u16, page: &Page) -> Result<()> {
        if port == 0 {
            return Ok(());
        }
        let taken = |e: io::Error| match e.kind() {
            io::ErrorKind::AddrInUse => {
                Error::new(e.to_string(), "does another kinglet or kube-router run? (ss -ltnp)")
            }
            _ => Error::new(format!("address {addr:?}"), e),
        };
        for listener in listening(addr, port).map_err(taken)? {
            self.order(Order::Open(Listener::Tcp(listener), Shown::Page(page.clone())));
        }
        Ok(())
    }

    fn order(&self, order: Order) {
        // There is room for any number, and the thread ends after this value only.
        let _ = self.orders.try_send(order);
    }
}

/// Whether a port can be had: it is taken and given back.
pub fn try_port(addr: &str, port: u16) -> io::Result<()> {
    bind(addr, port).map(drop)
}

fn listening(addr: &str, port: u16) -> io::Result<Vec<Async<TcpListener>>> {
    bind(addr, port)?.into_iter().map(Async::new).collect()
}

/// Listens at an address, or at all of them: in both families where IPv6 is here (one socket takes
/// both, but where net.ipv6.bindv6only says otherwise).
fn bind(addr: &str, port: u16) -> io::Result<Vec<TcpListener>> {
    let listen = |addr: IpAddr| TcpListener::bind(SocketAddr::new(addr, port));
    if !addr.is_empty() {
        let addr = addr.parse::<IpAddr>().map_err(io::Error::other)?;
        return Ok(vec![listen(addr)?]);
    }
    let (six, four) = (Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::UNSPECIFIED.into());
    match listen(six) {
        Ok(both) => Ok([both].into_iter().chain(listen(four)).collect()),
        Err(e) if e.kind() == io::ErrorKind::AddrInUse => Err(e),
        Err(_) => Ok(vec![listen(four)?]),
    }
}

fn show(what: &Shown, path: &str, facts: &Facts, ports: &Mutex<HealthPorts>) -> Answer {
    match what {
        Shown::Page(page) => pages::page(page, path, facts),
        Shown::NodePort(port) => {
            let ports = ports.lock().unwrap_or_else(PoisonError::into_inner);
            let works = facts.stuck().is_none();
            ports.get(port).map_or(Answer::bare(503), |of| pages::node_port(of, works))
        }
    }
}

/// Takes connections for ever.
async fn listen(
    executor: &'static LocalExecutor<'static>,
    listener: Listener,
    answer: impl Fn(&str) -> Answer + 'static,
) {
    let answer: Rc<dyn Fn(&str) -> Answer> = Rc::new(answer);
    let mut tasks: VecDeque<Task<()>> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok(stream) => {
                tasks.retain(|task| !task.is_finished());
                if tasks.len() == ROOM {
                    tasks.pop_front();
                }
                let answer = Rc::clone(&answer);
                tasks.push_back(executor.spawn(async move {
                    let late = async {
                        let _ = Timer::after(PATIENCE).await;
                    };
                    let talk = async { drop(converse(&stream, &*answer).await) };
                    future::or(talk, late).await;
                }));
            }
            Err(_) => {
                let _ = Timer::after(PAUSE).await;
            }
        }
    }
}

/// One request, one answer.
async fn converse(stream: &Stream, answer: &dyn Fn(&str) -> Answer) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut part = [0; 1024];
    let reply = loop {
        match http::read(&bytes) {
            Heard::Request(request) => break answer(request.path).bytes(request.head),
            Heard::Wrong(code) => break Answer::bare(code).bytes(false),
            Heard::More => {}
        }
        match stream.read(&mut part).await? {
            0 => return Ok(()),
            n => bytes.extend_from_slice(&part[..n]),
        }
    };
    let mut rest = &reply[..];
    while !rest.is_empty() {
        let n = stream.write(rest).await?;
        rest = &rest[n..];
    }
    // Closing with bytes unread would reset the connection, and take the answer with it.
    stream.finish()?;
    let mut deaf = 0;
    while deaf < DEAF {
        match stream.read(&mut part).await? {
            0 => break,
            n => deaf += n,
        }
    }
    Ok(())
}

/// One code for both kinds of socket.
enum Listener {
    Tcp(Async<TcpListener>),
    Unix(Async<UnixListener>),
}

enum Stream {
    Tcp(Async<TcpStream>),
    Unix(Async<UnixStream>),
}

impl Listener {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => Ok(Stream::Tcp(listener.accept().await?.0)),
            Listener::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
        }
    }
}

impl Stream {
    async fn read(&self, part: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read_with(|mut s| s.read(part)).await,
            Stream::Unix(stream) => stream.read_with(|mut s| s.read(part)).await,
        }
    }

    async fn write(&self, part: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write_with(|mut s| s.write(part)).await,
            Stream::Unix(stream) => stream.write_with(|mut s| s.write(part)).await,
        }
    }

    fn finish(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.get_ref().shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.get_ref().shutdown(Shutdown::Write),
        }
    }
}

#[cfg(test)]
mod tests;
