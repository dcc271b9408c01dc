//! An HTTP client for one API server. It only sends GET and returns a body or a [`Failure`].
//!
//! [`Client::get`], [`Client::watch`] and [`Client::probe`] differ in their timeouts. All use `request`,
//! which counts the result and repeats a request whose kept connection was closed, and `send`, which
//! adds the headers. Redirects are not followed, because the token would be sent to their target, and
//! proxy settings of the environment are ignored. Credentials come from [`Access`], the text of errors from
//! `failure`; retries other than those for 429 are left to `list` and `watcher`.

use std::{
    fmt,
    io::Read,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
    time::Duration,
};

use ureq::{
    Agent, Body,
    config::Config,
    http::{
        Response, Uri,
        header::{ACCEPT_ENCODING, AUTHORIZATION, HOST, LOCATION, RETRY_AFTER},
    },
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

use super::{
    access::{Access, Token},
    body::Incoming,
    failure::{CONNECT_TIMEOUT, Cause, Failure},
    page,
    request_stats::{Outcomes, RequestStats},
};
use crate::{
    error::{Doing, Result},
    log,
};

/// The number of times that a request is repeated after status 429.
const MAX_RETRIES: usize = 3;
/// The longest Retry-After that is respected, in seconds; a longer one is cut to this.
const MAX_RETRY_AFTER: u64 = 30;
/// The number of idle connections that are kept: one for each kind, because each has its own thread.
const MAX_IDLE_CONNECTIONS: usize = 3;
/// The time for which an idle connection is kept, in seconds. The server closes one after 90 s; a new
/// connection costs a TLS handshake.
const MAX_IDLE_AGE: u64 = 80;
/// The number of bytes that are read of an error's body.
const MAX_ERROR_BODY: u64 = 64 << 10;
/// The time limit for reading an error's body.
const ERROR_BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// The timeouts of requests. Tests use shorter ones than the default.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// The limit for a response's head, and for each read of its body. Default: 30 s.
    pub response: Duration,
    /// The limit for an item of a list or an event of a watch, from its first byte to its last.
    /// Default: 60 s, in which a link of 56 kbit/s transfers 400 KB. A connection that transfers one
    /// byte a second is useless.
    pub item: Duration,
    /// The limit for silence on an open watch. Default: 150 s. On a quiet watch the first bookmark was
    /// seen after 60 to 120 s and the next ones sooner; 30 s later the connection is considered dead.
    pub idle: Duration,
    /// The time that a watch may stay open after its `timeoutSeconds`. Default: 30 s.
    pub grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Timeouts {
        Timeouts {
            response: Duration::from_secs(30),
            item: Duration::from_secs(60),
            idle: Duration::from_secs(150),
            grace: Duration::from_secs(30),
        }
    }
}

/// An HTTP client with the address, the credentials and the idle connections of one API server.
pub(super) struct Client {
    agent: Agent,
    /// The server's URL, as the user gave it.
    pub server: String,
    /// The file or field that the CA came from, for messages.
    pub ca: String,
    /// The hash of the CA; 0 if there is none.
    pub ca_hash: u64,
    /// The URL to which a request's path is appended: the server's URL, but with the host name that TLS
    /// verifies.
    base_url: String,
    /// The Host header; `None` if the host of `base_url` is right.
    host: Option<String>,
    token: Token,
    /// The timeouts.
    pub timeouts: Timeouts,
    /// The counters of requests and bytes.
    pub traffic: RequestStats,
    /// The largest possible number of idle connections of earlier requests. The server may have closed
    /// any of them.
    max_stale: AtomicUsize,
}

/// A resolver that always resolves the server's own address, because with `tls-server-name` the host of
/// the request's URL is only the name that the certificate must be valid for.
struct FixedResolver {
    server: Uri,
    resolver: DefaultResolver,
}

impl fmt::Debug for FixedResolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "always {}", self.server)
    }
}

impl Resolver for FixedResolver {
    fn resolve(
        &self,
        _: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> std::result::Result<ResolvedSocketAddrs, ureq::Error> {
        self.resolver.resolve(&self.server, config, timeout)
    }
}

impl Client {
    #[cfg(test)]
    pub(super) fn new(access: Access) -> Result<Client> {
        Client::with_timeouts(access, Timeouts::default())
    }

    /// Returns a client; it does not connect before the first request. Fails if the server's URL can't
    /// be combined with the `tls-server-name`.
    pub(super) fn with_timeouts(access: Access, timeouts: Timeouts) -> Result<Client> {
        let limit = timeouts.response;
        let mut config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None) // the default reads HTTPS_PROXY
            .timeout_connect(Some(Duration::from_secs(CONNECT_TIMEOUT)))
            .timeout_recv_response(Some(limit)) // the whole head, even if it comes byte by byte
            .timeout_per_read(Some(limit))
            .timeout_per_write(Some(limit))
            .input_buffer_size(16 << 10) // the defaults are 128 KiB, per layer
            .output_buffer_size(4 << 10)
            .max_idle_connections(MAX_IDLE_CONNECTIONS)
            .max_idle_connections_per_host(MAX_IDLE_CONNECTIONS)
            .max_idle_age(Duration::from_secs(MAX_IDLE_AGE))
            .user_agent(concat!("kinglet/", env!("CARGO_PKG_VERSION")))
            .accept("application/json");
        if let Some(tls) = access.tls {
            config = config.tls_config(tls);
        }
        let config = config.build();
        let Access { server, ca, ca_hash, server_name, token, .. } = access;
        let (agent, base_url, host) = match server_name {
            None => (config.new_agent(), server.clone(), None),
            Some(name) => {
                let doing = || format!("using tls-server-name {name:?}");
                let (real, base_url, host) = with_host(&server, &name).doing(doing)?;
                let resolver = FixedResolver { server: real, resolver: DefaultResolver::default() };
                (
                    Agent::with_parts(config, DefaultConnector::default(), resolver),
                    base_url,
                    Some(host),
                )
            }
        };
        let (traffic, max_stale) = (RequestStats::default(), AtomicUsize::new(0));
        Ok(Client {
            agent,
            server,
            ca,
            ca_hash,
            base_url,
            host,
            token,
            timeouts,
            traffic,
            max_stale,
        })
    }

    /// Sends GET for a path with its query and returns the body of the response, which is read later.
    /// After status 429 it waits for the time in Retry-After (1 s by default, 30 s at most) and repeats
    /// the request up to 3 times. Fails if there is no response or its status is not 200.
    pub(super) fn get(&self, path: &str) -> std::result::Result<Incoming<'_>, Failure> {
        let mut retries = 0;
        loop {
            match self.request(path, &self.traffic.lists, None) {
                Err(failure) if failure.cause == Cause::Status(429) && retries < MAX_RETRIES => {
                    retries += 1;
                    let wait = failure.retry_after.unwrap_or(Duration::from_secs(1));
                    log::info(format_args!(
                        "{} answered 429 Too Many Requests; trying again in {} s",
                        self.server,
                        wait.as_secs()
                    ));
                    thread::sleep(wait);
                }
                result => {
                    let limit = Some(self.timeouts.item);
                    return Ok(Incoming::new(result?, &self.traffic.bytes, limit));
                }
            }
        }
    }

    /// Opens a watch. Reading its body fails after `idle` without data, or `whole` after the head of
    /// the response. Fails if there is no response or its status is not 200.
    pub(super) fn watch(
        &self,
        path: &str,
        idle: Duration,
        whole: Duration,
    ) -> std::result::Result<Incoming<'_>, Failure> {
        let response = self.request(path, &self.traffic.watches, Some((idle, whole)))?;
        Ok(Incoming::new(response, &self.traffic.bytes, None))
    }

    /// Sends GET for a small object and returns up to 4 MiB of its body. Status 429 is an error too.
    pub(super) fn probe(&self, path: &str) -> std::result::Result<String, Failure> {
        let response = self.request(path, &self.traffic.probes, None)?;
        let mut body = Vec::new();
        let incoming = Incoming::new(response, &self.traffic.bytes, Some(self.timeouts.item));
        let read = incoming.take(page::MAX_ITEM as u64).read_to_end(&mut body);
        read.map_err(|e| Failure::from_body_error(e, "answer", &self.ca, self.timeouts.response))?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Sends one request and counts its result. `watch` holds the `idle` and `whole` timeouts of a
    /// watch; `None` for any other request. Fails if there is no response or its status is not 200.
    fn request(
        &self,
        path: &str,
        outcomes: &Outcomes,
        watch: Option<(Duration, Duration)>,
    ) -> std::result::Result<Response<Body>, Failure> {
        let response = loop {
            match self.send(path, watch) {
                // The server may have closed an idle connection, and all others as well. Each failure
                // removes one from the pool, so that the last attempt uses a new connection.
                Err(failure) if failure.cause == Cause::NoResponse && self.take_stale() => {}
                response => break response,
            }
        };
        outcomes.count(response.as_ref().ok().map(|response| response.status().as_u16()));
        let response = response?;
        self.max_stale.store(MAX_IDLE_CONNECTIONS, Relaxed);
        let status = response.status();
        if status == 200 {
            return Ok(response);
        }
        let header = |name| response.headers().get(name).and_then(|v| v.to_str().ok());
        let location = header(LOCATION).map(str::to_owned);
        let wait = header(RETRY_AFTER).and_then(|value| value.trim().parse::<u64>().ok());
        let mut body = Vec::new();
        // If the body can't be read to its end, the message is made from the part that was read.
        let text = Incoming::new(response, &self.traffic.bytes, Some(ERROR_BODY_TIMEOUT));
        let _ = text.take(MAX_ERROR_BODY).read_to_end(&mut body);
        let retry_after = wait.map(|seconds| Duration::from_secs(seconds.min(MAX_RETRY_AFTER)));
        Err(Failure { retry_after, ..Failure::status(status, &body, location.as_deref()) })
    }

    /// Counts down the idle connections that may be stale. Returns false if there is none left.
    fn take_stale(&self) -> bool {
        self.max_stale.fetch_update(Relaxed, Relaxed, |count| count.checked_sub(1)).is_ok()
    }

    /// Sends one request with its headers and waits for the head of the response, of any status.
    fn send(
        &self,
        path: &str,
        watch: Option<(Duration, Duration)>,
    ) -> std::result::Result<Response<Body>, Failure> {
        let mut request = self.agent.get(format!("{}{path}", self.base_url));
        if let Some((idle, whole)) = watch {
            let config = request.config().timeout_per_read(Some(idle));
            request = config.timeout_recv_body(Some(whole)).build();
        } else {
            // Not sent for a watch, because the API server never compresses watches.
            request = request.header(ACCEPT_ENCODING, "gzip");
        }
        if let Some(host) = &self.host {
            request = request.header(HOST, host);
        }
        if let Some(bearer) = self.token.header().map_err(|e| Failure::other(e.to_string()))? {
            request = request.header(AUTHORIZATION, bearer);
        }
        request.call().map_err(|e| Failure::transport(e, &self.ca, self.timeouts.response))
    }
}

/// Returns the server's URL, its URL with `name` as the host, and its host and port. Fails if `name` is
/// not a host name.
fn with_host(server: &str, name: &str) -> std::result::Result<(Uri, String, String), String> {
    let real: Uri = server.parse().map_err(|e| format!("{e}"))?;
    let authority = real.authority().map(|a| a.as_str().to_owned()).unwrap_or_default();
    let port = real.port_u16().unwrap_or(443);
    let name = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
    let path = real.path().trim_end_matches('/');
    let base_url = format!("https://{name}:{port}{path}");
    match base_url.parse::<Uri>() {
        Ok(uri) if uri.host() == Some(&name) => Ok((real, base_url, authority)),
        _ => Err("it is not a host name".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        net::{TcpListener, TcpStream},
        sync::{Arc, Barrier, mpsc},
    };

    use super::*;
    use crate::api::test_server::{ok, recorded, reply, serve};

    #[test]
    fn recorded_error_responses_give_a_message_with_advice() {
        let rights = "this user needs the rights in boards/kubernetes/rbac.yaml";
        let status = "is that the URL of a Kubernetes API server?";
        for (name, want) in [
            (
                "400-body",
                "400 Bad Request: the object provided is unrecognized (must be of type Service): couldn't get version/kind",
            ),
            ("400-continue", "400 Bad Request: invalid continue token: continue key is not valid"),
            (
                "400-continue-with-rv",
                "400 Bad Request: invalid continue token: continue key is not valid",
            ),
            ("400-fieldsel", "400 Bad Request: field label not supported: spec.foo"),
            (
                "400-labelsel",
                "400 Bad Request: unable to parse requirement: found '', expected: ',' or ')'",
            ),
            (
                "400-rv",
                "400 Bad Request: invalid resource version: resourceVersion: Invalid value: \"abc\"",
            ),
            (
                "401-badtoken",
                "401 Unauthorized; the token or the client certificate is missing, wrong or expired",
            ),
            (
                "403-agent-create",
                &format!(
                    "403 Forbidden: services is forbidden: User \"agent\" cannot create resource \"services\" in API group \"\" in the namespace \"shop\"; {rights}"
                ),
            ),
            (
                "403-anonymous",
                &format!(
                    "403 Forbidden: nodes is forbidden: User \"system:anonymous\" cannot list resource \"nodes\" in API group \"\" at the cluster scope; {rights}"
                ),
            ),
            (
                "403-nobody",
                &format!(
                    "403 Forbidden: nodes is forbidden: User \"nobody\" cannot list resource \"nodes\" in API group \"\" at the cluster scope; {rights}"
                ),
            ),
            ("404-anp", &format!("404 Not Found: 404 page not found; {status}")),
            ("404-object", "404 Not Found: nodes \"absent\" not found; "),
            ("404-path", &format!("404 Not Found: 404 page not found; {status}")),
            ("404-resource", "404 Not Found: the server could not find the requested resource; "),
            (
                "405-method",
                "405 Method Not Allowed: the server does not allow this method on the requested resource",
            ),
            ("406-accept", "406 Not Acceptable: 406: Not Acceptable"),
            ("409-exists", "409 Conflict: namespaces \"shop\" already exists"),
            (
                "410-continue",
                "410 Gone: The provided continue parameter is too old to display a consistent list result.",
            ),
            ("410-exact", "410 Gone: The resourceVersion for the provided list is too old."),
            (
                "410-list-limit-oldrv",
                "410 Gone: The resourceVersion for the provided list is too old.",
            ),
            (
                "415-type",
                "415 Unsupported Media Type: the body of the request was in an unknown format",
            ),
            (
                "422-initial-events-nomatch",
                "422 Unprocessable Entity: ListOptions.meta.k8s.io \"\" is invalid",
            ),
            ("422-invalid", "422 Unprocessable Entity: Service \"BAD_NAME\" is invalid"),
            (
                "504-future-rv-list",
                "504 Gateway Timeout: Timeout: Too large resource version: 99999999, current: 412; the API server, or etcd behind it, is not healthy",
            ),
            (
                "etcd-down-create",
                "504 Gateway Timeout: Timeout: request did not complete within requested timeout - context deadline exceeded; the API",
            ),
            (
                "etcd-hung-livez",
                "500 Internal Server Error: [+]ping ok; the API server, or etcd behind it, is not healthy",
            ),
        ] {
            let file = format!("err/{name}.http");
            let server = serve(move |_, _| recorded(&file));
            let got = server.client().get("/x").unwrap_err();
            assert!(got.text.starts_with(want), "{name}: {}", got.text);
            if let Ok(code) = name[..3].parse() {
                assert_eq!(got.cause, Cause::Status(code), "{name}");
            }
        }
    }

    #[test]
    fn error_bodies_of_any_kind_give_a_one_line_message() {
        let long = format!("{}\nsecond", "y".repeat(1_000_000));
        for (status, headers, body, want) in [
        ("403 Forbidden", "", "", "403 Forbidden; this user needs".to_owned()),
        ("502 Bad Gateway", "", "<html>\r\n<body>nginx", "502 Bad Gateway: <html>; is the API server up behind that proxy?".to_owned()),
        ("500 Internal Server Error", "", &long, format!("500 Internal Server Error: {}…; ", "y".repeat(200))),
        ("400 Bad Request", "", "Client sent an HTTP request to an HTTPS server.\n", "400 Bad Request: Client sent an HTTP request to an HTTPS server.; use https:// in its URL".to_owned()),
        ("302 Found", "Location: https://login.example/\r\n", "", "302 Found; the server redirects to https://login.example/, and redirects are not followed; give the API server's own URL".to_owned()),
        ("404 Not Found", "", "{\"message\":5}", "404 Not Found: {\"message\":5}; ".to_owned()),
        ("418 I'm a teapot", "", "a\u{7}b", "418 I'm a teapot: ab".to_owned()),
        ("299 Odd", "", "", "299 (unknown)".to_owned()),
    ] {
        let bytes = reply(status, headers, body);
        let server = serve(move |_, _| bytes.clone());
        let got = server.client().get("/x").unwrap_err().text;
        assert!(got.starts_with(&want), "{got}");
        assert_eq!(server.requests().len(), 1, "{status}: not followed, not repeated");
    }
    }

    #[test]
    fn status_429_is_retried_three_times_after_retry_after() {
        let server = serve(|_, nth| match nth {
            1..=2 => reply("429 Too Many Requests", "Retry-After: 0\r\n", "later"),
            _ => ok("{}"),
        });
        assert!(server.client().get("/x").is_ok());
        let server = serve(|_, _| reply("429 Too Many Requests", "Retry-After: 0\r\n", "later"));
        let got = server.client().get("/x").unwrap_err();
        assert_eq!(
            got.text,
            "429 Too Many Requests: later; the API server is overloaded; try again later"
        );
        assert_eq!(server.requests().len(), 4);
        let server = serve(|_, nth| if nth == 1 { recorded("err/429-apf.http") } else { ok("{}") });
        let began = std::time::Instant::now();
        assert!(server.client().get("/x").is_ok());
        assert!(began.elapsed() >= Duration::from_secs(1), "its Retry-After is 1");
    }

    #[test]
    fn a_request_has_the_expected_headers() {
        let server = serve(|_, _| ok("{}"));
        let token = Token::Fixed("secret".to_owned());
        Client::new(Access { token, ..server.access() }).unwrap().get("/a?b=c").unwrap();
        let head = server.requests()[0].to_lowercase();
        let host = server.url.strip_prefix("http://").unwrap();
        for line in [
            "get /a?b=c http/1.1\r\n",
            &format!("\r\nhost: {host}\r\n"),
            concat!("\r\nuser-agent: kinglet/", env!("CARGO_PKG_VERSION"), "\r\n"),
            "\r\naccept: application/json\r\n",
            "\r\naccept-encoding: gzip\r\n",
            "\r\nauthorization: bearer secret\r\n",
        ] {
            assert!(head.contains(line), "{line:?} in {head}");
        }
    }

    #[test]
    fn connection_refused_empty_reply_and_timeout_are_distinct_errors() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let server = serve(|_, _| Vec::new());
        let gone =
            Client::new(Access { server: format!("http://{free}"), ..server.access() }).unwrap();
        let got = gone.get("/x").unwrap_err();
        assert_eq!(
            got.text,
            "connection refused; is the API server running there, and is the port right?"
        );
        assert_eq!(got.cause, Cause::Other);
        let got = server.client().get("/x").unwrap_err();
        assert!(got.text.starts_with("an empty reply: the connection was cut"), "{}", got.text);
        assert_eq!(got.cause, Cause::NoResponse);
        let slow = serve(|_, _| {
            thread::sleep(Duration::from_millis(500));
            Vec::new()
        });
        let got = Client::with_timeouts(
            slow.access(),
            Timeouts { response: Duration::from_millis(50), ..Timeouts::default() },
        )
        .unwrap();
        let got = got.get("/x").unwrap_err();
        assert_eq!(got.cause, Cause::Timeout);
        assert_eq!(got.text, "no answer within 50 ms; is etcd up behind the API server?");
        let ssh = serve(|_, _| b"SSH-2.0-OpenSSH_9.2\r\n".to_vec());
        let got = ssh.client().get("/x").unwrap_err().text;
        assert!(got.starts_with("the answer is not HTTP"), "{got}");
        let odd = Client::new(Access {
            server: "http://no.such.host.invalid:1".to_owned(),
            ..server.access()
        });
        let got = odd.unwrap().get("/x").unwrap_err().text;
        assert!(got.contains("does DNS work here?"), "{got}");
    }

    #[test]
    fn a_body_without_data_fails_with_the_timeout_of_its_request() {
        let half = || b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{".to_vec();
        let stalled = stalling_server(half());
        let limits = Timeouts { response: Duration::from_millis(150), ..Timeouts::default() };
        let client = Client::with_timeouts(stalled, limits).unwrap();
        let error = client.get("/x").unwrap().read_to_string(&mut String::new()).unwrap_err();
        let got = Failure::from_body_error(error, "list", "", client.timeouts.response);
        assert_eq!(got.cause, Cause::Timeout);
        assert_eq!(got.text, "no data for 150 ms in the middle of the list");
        let got = client.probe("/x").unwrap_err().text;
        assert_eq!(got, "no data for 150 ms in the middle of the answer");

        let (idle, whole) = (Duration::from_secs(1), Duration::from_secs(60));
        let mut body = client.watch("/x", idle, whole).unwrap();
        let began = std::time::Instant::now();
        let error = body.read_to_string(&mut String::new()).unwrap_err();
        assert!(began.elapsed() >= Duration::from_millis(900), "not the timeout of a list");
        let got = Failure::from_body_error(error, "watch", "", idle).text;
        assert_eq!(got, "no data for 1 s in the middle of the watch");
    }

    /// Returns the access to a server that sends `reply` on each connection and then nothing more, with
    /// the connection open.
    fn stalling_server(reply: Vec<u8>) -> Access {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let access = access(&listener);
        thread::spawn(move || {
            let mut open = Vec::new();
            for socket in listener.incoming() {
                let mut socket = socket.unwrap();
                read_head(&mut socket);
                socket.write_all(&reply).unwrap();
                open.push(socket);
            }
        });
        access
    }

    fn access(listener: &TcpListener) -> Access {
        let server = format!("http://{}", listener.local_addr().unwrap());
        Access {
            server,
            tls: None,
            ca: String::new(),
            ca_hash: 0,
            server_name: None,
            token: Token::None,
            warning: None,
        }
    }

    /// Reads the head of a request. Returns false if the client closed the connection instead.
    fn read_head(socket: &mut TcpStream) -> bool {
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            if socket.read(&mut byte).is_ok_and(|read| read == 1) {
                head.push(byte[0]);
            } else {
                return false;
            }
        }
        true
    }

    #[test]
    fn requests_succeed_although_all_idle_connections_are_stale_at_once() {
        const KEEP: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
        let read = |client: &Client| {
            let mut body = String::new();
            client.get("/x").map(|mut reply| reply.read_to_string(&mut body).unwrap())
        };
        for parallel in [1, MAX_IDLE_CONNECTIONS] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = Client::new(access(&listener)).unwrap();
            let together = Arc::new(Barrier::new(MAX_IDLE_CONNECTIONS));
            let (seen, all) = mpsc::channel();
            thread::spawn(move || {
                for (nth, socket) in listener.incoming().enumerate() {
                    let (mut socket, together) = (socket.unwrap(), Arc::clone(&together));
                    seen.send(nth).unwrap();
                    thread::spawn(move || {
                        while read_head(&mut socket) {
                            if nth < MAX_IDLE_CONNECTIONS {
                                together.wait(); // so that each request has its own connection
                                socket.write_all(KEEP).unwrap();
                                // The next request on it gets no reply.
                                let _ = read_head(&mut socket);
                                return;
                            }
                            socket.write_all(KEEP).unwrap();
                        }
                    });
                }
            });
            thread::scope(|scope| {
                for _ in 0..MAX_IDLE_CONNECTIONS {
                    scope.spawn(|| read(&client).unwrap());
                }
            });
            thread::scope(|scope| {
                for _ in 0..parallel {
                    scope.spawn(|| read(&client).unwrap());
                }
            });
            let connections = all.try_iter().count();
            assert!(connections > MAX_IDLE_CONNECTIONS, "{connections}: none was stale");
        }
    }

    #[test]
    fn an_idle_connection_closed_by_the_server_is_replaced() {
        let server = serve(|_, _| b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec());
        let client = server.client();
        for _ in 0..20 {
            let mut body = String::new();
            client.get("/x").unwrap().read_to_string(&mut body).unwrap();
            assert_eq!(body, "{}");
        }
    }
}
