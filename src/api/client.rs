//! An HTTP client for one API server. It only sends GET and returns a body or a [`Failure`].
//!
//! [`Client::get`], [`Client::watch`] and [`Client::probe`] differ in their timeouts. All use `request`,
//! which counts the result and repeats a request whose kept connection was closed, and `send`, which
//! adds the headers. Redirects are not followed, because the token would be sent to their target, and
//! proxy settings of the environment are ignored. Credentials come from `auth`, the text of errors from
//! `failure`; retries other than those for 429 are left to `list` and `watch`.

use std::{
    fmt,
    io::Read,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
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
    auth::{Access, Token},
    body::Incoming,
    failure::{CONNECT_TIMEOUT, Failure, READ_TIMEOUT, Why},
    page,
    traffic::{Outcomes, Traffic},
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
pub struct Patience {
    /// The limit for a response's head, and for each read of its body. Default: 30 s.
    pub answer: Duration,
    /// The limit for an item of a list or an event of a watch, from its first byte to its last.
    /// Default: 60 s, in which a link of 56 kbit/s transfers 400 KB. A connection that transfers one
    /// byte a second is useless.
    pub item: Duration,
    /// The limit for silence on an open watch. Default: 150 s. On a quiet watch the first bookmark was
    /// seen after 60 to 120 s and the next ones sooner; 30 s later the connection is considered dead.
    pub quiet: Duration,
    /// The time that a watch may stay open beyond its `timeoutSeconds`. Default: 30 s.
    pub beyond: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            answer: Duration::from_secs(READ_TIMEOUT),
            item: Duration::from_secs(60),
            quiet: Duration::from_secs(150),
            beyond: Duration::from_secs(30),
        }
    }
}

/// An HTTP client with the address, the credentials and the idle connections of one API server.
pub struct Client {
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
    pub patience: Patience,
    /// The counters of requests and bytes.
    pub traffic: Traffic,
    /// True if an idle connection of an earlier request may exist, which the server may have closed.
    may_reuse: AtomicBool,
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
    pub fn new(access: Access) -> Result<Client> {
        Client::with(access, Patience::default())
    }

    /// Returns a client; it does not connect before the first request. Fails if the server's URL can't
    /// be combined with the `tls-server-name`.
    pub fn with(access: Access, patience: Patience) -> Result<Client> {
        let idle = patience.answer;
        let mut config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None) // the default reads HTTPS_PROXY
            .timeout_connect(Some(Duration::from_secs(CONNECT_TIMEOUT)))
            .timeout_recv_response(Some(idle)) // the whole head, even if it comes byte by byte
            .timeout_per_read(Some(idle))
            .timeout_per_write(Some(idle))
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
        let (traffic, may_reuse) = (Traffic::default(), AtomicBool::new(false));
        Ok(Client {
            agent,
            server,
            ca,
            ca_hash,
            base_url,
            host,
            token,
            patience,
            traffic,
            may_reuse,
        })
    }

    /// Sends GET for a path with its query and returns the body of the response, which is read later.
    /// After status 429 it waits for the time in Retry-After (1 s by default, 30 s at most) and repeats
    /// the request up to 3 times. Fails if there is no response or its status is not 200.
    pub fn get(&self, path: &str) -> std::result::Result<Incoming<'_>, Failure> {
        let mut retries = 0;
        loop {
            match self.request(path, &self.traffic.lists, None) {
                Err(failure) if failure.why == Why::Status(429) && retries < MAX_RETRIES => {
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
                    let limit = Some(self.patience.item);
                    return Ok(Incoming::new(result?, &self.traffic.bytes, limit));
                }
            }
        }
    }

    /// Opens a watch. Reading its body fails after `quiet` without data, or `whole` after the head of
    /// the response. Fails if there is no response or its status is not 200.
    pub fn watch(
        &self,
        path: &str,
        quiet: Duration,
        whole: Duration,
    ) -> std::result::Result<Incoming<'_>, Failure> {
        let response = self.request(path, &self.traffic.watches, Some((quiet, whole)))?;
        Ok(Incoming::new(response, &self.traffic.bytes, None))
    }

    /// Sends GET for a small object and returns up to 4 MiB of its body. Status 429 is an error too.
    pub fn probe(&self, path: &str) -> std::result::Result<String, Failure> {
        let response = self.request(path, &self.traffic.probes, None)?;
        let mut body = Vec::new();
        let incoming = Incoming::new(response, &self.traffic.bytes, Some(self.patience.item));
        let read = incoming.take(page::ITEM as u64).read_to_end(&mut body);
        read.map_err(|e| Failure::cut(e, "answer", &self.ca))?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Sends one request and counts its result. `watch` holds the `quiet` and `whole` timeouts of a
    /// watch; `None` for any other request. Fails if there is no response or its status is not 200.
    fn request(
        &self,
        path: &str,
        outcomes: &Outcomes,
        watch: Option<(Duration, Duration)>,
    ) -> std::result::Result<Response<Body>, Failure> {
        let response = match self.send(path, watch) {
            // The server may have closed an idle connection; a new one may work.
            Err(failure) if failure.why == Why::Empty && self.may_reuse.swap(false, Relaxed) => {
                self.send(path, watch)
            }
            response => response,
        };
        outcomes.count(response.as_ref().ok().map(|response| response.status().as_u16()));
        let response = response?;
        self.may_reuse.store(true, Relaxed);
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

    /// Sends one request with its headers and waits for the head of the response, of any status.
    fn send(
        &self,
        path: &str,
        watch: Option<(Duration, Duration)>,
    ) -> std::result::Result<Response<Body>, Failure> {
        let mut request = self.agent.get(format!("{}{path}", self.base_url));
        if let Some((quiet, whole)) = watch {
            let config = request.config().timeout_per_read(Some(quiet));
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
        request.call().map_err(|e| Failure::transport(e, &self.ca))
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
mod tests;
