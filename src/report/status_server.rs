//! The HTTP server of the daemon: all listeners and connections, on one thread beside the loop.
//!
//! The daemon sends commands over a channel; the thread runs `accept_loop` for each listener and
//! `handle_connection` for each connection. The responses come from `pages`, the protocol from `http`.
//!
//! A connection is closed after 5 seconds. A listener serves at most 16 connections and drops the oldest
//! one if another client connects, so idle connections cannot block a kubelet's probe.

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
    SharedStatus,
    http::{self, Parse, Response},
    pages::{self, PageKind},
};
use crate::{
    collections::FlatMap,
    desired::{Unmet, health::HealthPorts},
    error::{Doing, Error, Result},
};

/// The lifetime of a connection, from accept to close.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// The number of connections that one listener serves at a time.
const MAX_CONNECTIONS: usize = 16;
/// The pause after accept(2) failed, for example because no file descriptors are left.
const ACCEPT_RETRY: Duration = Duration::from_secs(1);
/// The number of bytes that are read and dropped if a client keeps sending after its response.
const MAX_DRAIN: usize = 64 * 1024;
/// The stack size of the thread in bytes. The thread renders pages and does nothing else.
const STACK: usize = 256 * 1024;

/// The HTTP server. A process starts one; its thread runs until the process ends.
pub struct StatusServer {
    commands: Sender<ServerCommand>,
    /// The state to return at each healthCheckNodePort.
    ports: Arc<Mutex<HealthPorts>>,
    /// The healthCheckNodePorts that have a listener.
    open: Vec<u16>,
}

/// A command for the thread.
enum ServerCommand {
    /// Serves content on a listener.
    Open(HttpListener, Content),
    /// Closes the listeners of a healthCheckNodePort.
    Close(u16),
}

/// The content of a listener.
#[derive(Clone)]
enum Content {
    Page(PageKind),
    /// The health of the Service that has this healthCheckNodePort.
    NodePort(u16),
}

impl StatusServer {
    /// Starts the thread, without a listener. Fails if the thread cannot be started.
    pub fn open(facts: SharedStatus) -> Result<StatusServer> {
        let (commands, received) = smol::channel::unbounded();
        let ports = Arc::new(Mutex::new(HealthPorts::new()));
        let shared_ports = Arc::clone(&ports);
        let serve = move || {
            let executor: &'static _ = Box::leak(Box::new(LocalExecutor::new()));
            let mut open: FlatMap<u16, Vec<Task<()>>> = FlatMap::new();
            smol::block_on(executor.run(async {
                while let Ok(command) = received.recv().await {
                    match command {
                        ServerCommand::Close(port) => drop(open.remove(&port)),
                        ServerCommand::Open(listener, content) => {
                            let port = if let Content::NodePort(port) = content { port } else { 0 };
                            let (facts, ports) = (facts.clone(), Arc::clone(&shared_ports));
                            let respond =
                                move |path: &str| response(&content, path, &facts, &ports);
                            let task = executor.spawn(accept_loop(executor, listener, respond));
                            open.or_default(port).push(task);
                        }
                    }
                }
            }));
        };
        let thread = thread::Builder::new().name("report".into()).stack_size(STACK).spawn(serve);
        thread.doing(|| "starting the thread that serves health probes and status")?;
        Ok(StatusServer { commands, ports, open: Vec::new() })
    }

    /// Serves `/healthz`, `/livez` and `/readyz` on a port; 0 disables the listener. An empty `addr`
    /// listens at all addresses. Fails if the port is in use, because the kubelet's probe would reach
    /// another program.
    pub(crate) fn health(&self, addr: &str, port: u16) -> Result<()> {
        self.listen_tcp(addr, port, &PageKind::Health)
            .doing(|| format!("listening for health probes (--health-port {port})"))
    }

    /// Serves kube-proxy's health check on a port; 0 disables the listener. Fails if the port is in use.
    pub(crate) fn proxy(&self, addr: &str, port: u16) -> Result<()> {
        self.listen_tcp(addr, port, &PageKind::Proxy)
            .doing(|| format!("listening for load balancers (--proxy-health-port {port})"))
    }

    /// Serves the metrics at a path; port 0 disables the listener. Fails if the port is in use.
    pub(crate) fn metrics(&self, addr: &str, port: u16, path: &str) -> Result<()> {
        self.listen_tcp(addr, port, &PageKind::Metrics(path.into()))
            .doing(|| format!("listening for metrics requests (--metrics-port {port})"))
    }

    /// Serves `kinglet status` on a Unix socket. A socket file of an earlier run is replaced, which is
    /// safe because the caller holds the node's lock. Fails if the folder or the socket cannot be made.
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
        self.send(ServerCommand::Open(
            HttpListener::Unix(listener),
            Content::Page(PageKind::Status),
        ));
        Ok(())
    }

    /// Opens and closes listeners so that exactly these healthCheckNodePorts are served. Returns an
    /// [`Unmet`] for each port that cannot be bound.
    pub(crate) fn ports(&mut self, want: &HealthPorts) -> Vec<Unmet> {
        let mut unmet = Vec::new();
        self.ports.lock().unwrap_or_else(PoisonError::into_inner).clone_from(want);
        let mut open = std::mem::take(&mut self.open);
        for port in open.extract_if(.., |port| !want.contains_key(port)) {
            self.send(ServerCommand::Close(port));
        }
        for (port, answering) in want {
            if open.contains(port) {
                continue;
            }
            match bind_async("", *port) {
                Ok(listeners) => {
                    for listener in listeners {
                        let content = Content::NodePort(*port);
                        self.send(ServerCommand::Open(HttpListener::Tcp(listener), content));
                    }
                    open.push(*port);
                }
                Err(e) => unmet.push(Unmet::new(
                    format!("healthCheckNodePort {port} of Service {}", answering.service),
                    format!("listening there: {e}; load balancers will not use this node"),
                )),
            }
        }
        self.open = open;
        unmet
    }

    /// Serves a page on a TCP port; 0 disables it.
    fn listen_tcp(&self, addr: &str, port: u16, page: &PageKind) -> Result<()> {
        if port == 0 {
            return Ok(());
        }
        let advice = |e: io::Error| match e.kind() {
            io::ErrorKind::AddrInUse => {
                Error::new(e.to_string(), "does another kinglet or kube-router run? (ss -ltnp)")
            }
            _ => Error::new(format!("address {addr:?}"), e),
        };
        for listener in bind_async(addr, port).map_err(advice)? {
            let content = Content::Page(page.clone());
            self.send(ServerCommand::Open(HttpListener::Tcp(listener), content));
        }
        Ok(())
    }

    fn send(&self, command: ServerCommand) {
        // This cannot fail: the channel is unbounded, and the thread outlives this value.
        let _ = self.commands.try_send(command);
    }
}

/// Checks that a port is free: binds it and closes it again. Fails with the error of bind(2).
pub(crate) fn try_port(addr: &str, port: u16) -> io::Result<()> {
    bind(addr, port).map(drop)
}

fn bind_async(addr: &str, port: u16) -> io::Result<Vec<Async<TcpListener>>> {
    bind(addr, port)?.into_iter().map(Async::new).collect()
}

/// Binds a port at an address, or at all addresses if `addr` is empty. With IPv6, one socket serves both
/// families unless net.ipv6.bindv6only is set; in that case a second socket is bound for IPv4. Fails if
/// the address is invalid or the port is in use.
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

/// Returns the response to a request for `path` on a listener.
fn response(
    content: &Content,
    path: &str,
    facts: &SharedStatus,
    ports: &Mutex<HealthPorts>,
) -> Response {
    match content {
        Content::Page(page) => pages::response(page, path, facts),
        Content::NodePort(port) => {
            let ports = ports.lock().unwrap_or_else(PoisonError::into_inner);
            let works = facts.stuck().is_none();
            ports.get(port).map_or(Response::status_only(503), |of| pages::node_port(of, works))
        }
    }
}

/// Accepts connections without end, with one task for each connection.
async fn accept_loop(
    executor: &'static LocalExecutor<'static>,
    listener: HttpListener,
    respond: impl Fn(&str) -> Response + 'static,
) {
    let respond: Rc<dyn Fn(&str) -> Response> = Rc::new(respond);
    let mut tasks: VecDeque<Task<()>> = VecDeque::new();
    loop {
        match listener.accept().await {
            Ok(stream) => {
                tasks.retain(|task| !task.is_finished());
                if tasks.len() == MAX_CONNECTIONS {
                    tasks.pop_front();
                }
                let respond = Rc::clone(&respond);
                tasks.push_back(executor.spawn(async move {
                    let timeout = async {
                        let _ = Timer::after(CONNECTION_TIMEOUT).await;
                    };
                    let handled = async { drop(handle_connection(&stream, &*respond).await) };
                    future::or(handled, timeout).await;
                }));
            }
            Err(_) => {
                let _ = Timer::after(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Reads one request, sends the response and waits for the client to close. Fails if the socket fails.
async fn handle_connection(stream: &Stream, respond: &dyn Fn(&str) -> Response) -> io::Result<()> {
    let mut bytes = Vec::new();
    let mut part = [0; 1024];
    let reply = loop {
        match http::parse(&bytes) {
            Parse::Request(request) => break respond(request.path).to_bytes(request.head),
            Parse::Invalid(code) => break Response::status_only(code).to_bytes(false),
            Parse::Incomplete => {}
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
    // If unread bytes remain at close, the kernel resets the connection and the response may be lost.
    stream.finish()?;
    let mut drained = 0;
    while drained < MAX_DRAIN {
        match stream.read(&mut part).await? {
            0 => break,
            n => drained += n,
        }
    }
    Ok(())
}

/// A listening socket of either kind.
enum HttpListener {
    Tcp(Async<TcpListener>),
    Unix(Async<UnixListener>),
}

/// A connection of either kind.
enum Stream {
    Tcp(Async<TcpStream>),
    Unix(Async<UnixStream>),
}

impl HttpListener {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            HttpListener::Tcp(listener) => Ok(Stream::Tcp(listener.accept().await?.0)),
            HttpListener::Unix(listener) => Ok(Stream::Unix(listener.accept().await?.0)),
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

    /// Closes the sending direction (shutdown(2), SHUT_WR).
    fn finish(&self) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.get_ref().shutdown(Shutdown::Write),
            Stream::Unix(stream) => stream.get_ref().shutdown(Shutdown::Write),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        desired::health::Answering,
        model::cluster::Name,
        report::{Status, client::ask},
    };

    fn desk() -> (StatusServer, SharedStatus) {
        let facts = SharedStatus::new(Status::default(), Duration::from_secs(60));
        (StatusServer::open(facts.clone()).unwrap(), facts)
    }

    fn free_port() -> u16 {
        TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port()
    }

    fn get(addr: &str, port: u16, request: &str) -> String {
        let mut stream = TcpStream::connect((addr, port)).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn health_probes_succeed_in_both_families_beside_many_idle_connections() {
        let (desk, _) = desk();
        let port = free_port();
        desk.health("", port).unwrap();
        let idle: Vec<_> =
            (0..40).map(|_| TcpStream::connect(("127.0.0.1", port)).unwrap()).collect();
        let began = Instant::now();
        for addr in ["127.0.0.1", "::1"] {
            let got = get(addr, port, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
            assert!(
                got.starts_with("HTTP/1.1 200 OK\r\n") && got.ends_with("\r\n\r\nOK\n"),
                "{got}"
            );
        }
        assert!(began.elapsed() < Duration::from_secs(2));
        let got = get("127.0.0.1", port, "HEAD /livez HTTP/1.1\r\n\r\n");
        assert!(got.ends_with("\r\nContent-Length: 3\r\nConnection: close\r\n\r\n"), "{got}");
        for (request, code) in [
            ("GET /metrics HTTP/1.1\r\n\r\n", "404"),
            ("PUT /healthz HTTP/1.1\r\n\r\n", "405"),
            ("nonsense\r\n\r\n", "400"),
        ] {
            let got = get("127.0.0.1", port, request);
            assert!(got.starts_with(&format!("HTTP/1.1 {code} ")), "{request:?}: {got}");
        }
        drop(idle);
    }

    #[test]
    fn a_node_being_deleted_fails_the_load_balancer_check_but_stays_live() {
        let (desk, facts) = desk();
        let port = free_port();
        desk.proxy("127.0.0.1", port).unwrap();
        let code = |path: &str| {
            let got = get("127.0.0.1", port, &format!("GET {path} HTTP/1.1\r\n\r\n"));
            got.split(' ').nth(1).unwrap().to_owned()
        };
        assert_eq!([code("/healthz"), code("/livez"), code("/metrics")], ["200", "200", "404"]);
        facts.write(|status| status.leaving = true);
        assert_eq!([code("/healthz"), code("/livez")], ["503", "200"]);
    }

    #[test]
    fn a_slow_connection_is_closed_after_the_timeout() {
        let (desk, _) = desk();
        let port = free_port();
        desk.health("127.0.0.1", port).unwrap();
        let mut slow = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let began = Instant::now();
        let mut end = [0];
        slow.write_all(b"G").unwrap();
        assert_eq!(slow.read(&mut end).unwrap(), 0);
        let took = began.elapsed();
        assert!(took >= CONNECTION_TIMEOUT && took < 2 * CONNECTION_TIMEOUT, "{took:?}");
    }

    #[test]
    fn a_port_in_use_is_an_error_that_names_the_flag() {
        let (desk, _) = desk();
        let held = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = held.local_addr().unwrap().port();
        let text = desk.health("", port).unwrap_err().to_string();
        assert!(text.starts_with(&format!("listening for health probes (--health-port {port}): ")));
        assert!(text.contains("in use") && text.contains("another kinglet"), "{text}");
        assert!(desk.health("", 0).is_ok(), "0 disables the listener");
        assert!(desk.metrics("nonsense", 1, "/metrics").is_err());
    }

    #[test]
    fn metrics_are_served_at_their_path_and_status_on_the_socket() {
        let (desk, facts) = desk();
        facts.write(|status| status.node = "node-1".into());
        let port = free_port();
        desk.metrics("127.0.0.1", port, "/my").unwrap();
        let got = get("127.0.0.1", port, "GET /my HTTP/1.1\r\n\r\n");
        assert!(got.contains("Content-Type: text/plain; version=0.0.4"), "{got}");
        assert!(got.contains("\nkinglet_build_info{version=\"\",node=\"node-1\"} 1\n"), "{got}");

        let folder = std::env::temp_dir().join(format!("kinglet-desk-{}", std::process::id()));
        let socket = folder.join("status");
        assert_eq!(ask(&socket, "/status").unwrap(), None);
        desk.status(&socket).unwrap();
        desk.status(&socket).unwrap(); // replaces the file that a killed process left
        let reply = ask(&socket, "/status").unwrap().unwrap();
        assert!(!reply.right && reply.page.starts_with("node node-1 is NOT right:\n"), "{reply:?}");
        facts.write(|status| status.pass.ended(0, 5, Ok(true)));
        let reply = ask(&socket, "/status.json").unwrap().unwrap();
        let read: Status = serde_json::from_str(&reply.page).unwrap();
        assert_eq!((reply.right, &*read.node, read.pass.count), (true, "node-1", 1));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn health_check_node_ports_open_and_close_as_requested() {
        let (mut desk, _) = desk();
        let (port, held) = (free_port(), TcpListener::bind("[::]:0").unwrap());
        let taken = held.local_addr().unwrap().port();
        let want = |port, local| {
            let service = Name { namespace: "shop".into(), name: "web".into() };
            HealthPorts::from([(port, Answering { service, local })])
        };
        let ask = || get("127.0.0.1", port, "GET /any HTTP/1.1\r\n\r\n");
        assert_eq!(desk.ports(&want(port, 0)), []);
        let got = ask();
        assert!(got.starts_with("HTTP/1.1 503 "), "{got}");
        assert_eq!(desk.ports(&want(port, 2)), []);
        let got = ask();
        assert!(got.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"), "{got}");
        assert!(got.contains("\r\nX-Load-Balancing-Endpoint-Weight: 2\r\n"), "{got}");
        let body: serde_json::Value =
            serde_json::from_str(got.split_once("\r\n\r\n").unwrap().1).unwrap();
        assert_eq!(
            body,
            serde_json::json!({
                "service": { "namespace": "shop", "name": "web" },
                "localEndpoints": 2,
                "serviceProxyHealthy": true,
            })
        );
        let unmet = desk.ports(&want(taken, 1));
        assert_eq!(unmet[0].what, format!("healthCheckNodePort {taken} of Service shop/web"));
        let deadline = Instant::now() + Duration::from_secs(5);
        while TcpStream::connect(("127.0.0.1", port)).is_ok() {
            assert!(Instant::now() < deadline, "the port stays open");
            thread::sleep(Duration::from_millis(10));
        }
    }
}
