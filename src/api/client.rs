//! One HTTP client for one API server: GET, and an answer or a [`Failure`].
//!
//! Nothing is taken from the environment, redirects are not followed (the token would go with them),
//! and a server that asks to wait is waited for.

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
    failure::{CONNECT, Failure, IDLE, Why},
    page,
    traffic::{Outcomes, Traffic},
};
use crate::{
    error::{Doing, Result},
    log,
};

/// How often a 429 is waited for.
const WAITS: usize = 3;
/// The longest that a server may make us wait, in seconds.
const LONGEST: u64 = 30;
/// Connections that are kept: each kind is followed on its own.
const KINDS: usize = 3;
/// How long, in seconds: the server closes what was idle for 90, and a new one costs a handshake.
const KEPT: u64 = 80;
/// How much of an error's body is read.
const ERROR_BODY: u64 = 64 << 10;
/// And for how long.
const ERROR_TIME: Duration = Duration::from_secs(5);

/// How long what is waited for. A test can't wait as long.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For an answer, and for each further piece of one.
    pub answer: Duration,
    /// For an item of a list, or an event of a watch, from its first byte to its last. A link of 56
    /// kbit/s brings 400 KB in it; one that gives a byte a second is as good as dead.
    pub item: Duration,
    /// For anything at all on an open watch. The first bookmark of a quiet one was seen after 60 to
    /// 120 s, the next ones sooner; after half a minute more the connection is taken for dead.
    pub quiet: Duration,
    /// For the end of a watch, beyond the time for which it was asked.
    pub beyond: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            answer: Duration::from_secs(IDLE),
            item: Duration::from_secs(60),
            quiet: Duration::from_secs(150),
            beyond: Duration::from_secs(30),
        }
    }
}

/// The way to one API server.
pub struct Client {
    agent: Agent,
    /// The server's URL, as the user knows it.
    pub server: String,
    /// Where the CA came from.
    pub ca: String,
    /// What it is, in short; 0 without one.
    pub ca_hash: u64,
    /// What requests start with: the server's URL, with the name for TLS as its host.
    prefix: String,
    /// The Host header, where the prefix would give another one.
    host: Option<String>,
    token: Token,
    /// How long what is waited for.
    pub patience: Patience,
    /// What was asked and what came.
    pub traffic: Traffic,
    /// A connection may be kept from an earlier request, and the server may have closed it since.
    kept: AtomicBool,
}

/// Connects to the server's own address whatever name its certificate has to hold (tls-server-name).
struct Fixed {
    real: Uri,
    resolver: DefaultResolver,
}

impl fmt::Debug for Fixed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "always {}", self.real)
    }
}

impl Resolver for Fixed {
    fn resolve(
        &self,
        _: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> std::result::Result<ResolvedSocketAddrs, ureq::Error> {
        self.resolver.resolve(&self.real, config, timeout)
    }
}

impl Client {
    #[cfg(test)]
    pub fn new(access: Access) -> Result<Client> {
        Client::with(access, Patience::default())
    }

    /// No connection is made yet.
    pub fn with(access: Access, patience: Patience) -> Result<Client> {
        let idle = patience.answer;
        let mut config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None) // the default reads HTTPS_PROXY
            .timeout_connect(Some(Duration::from_secs(CONNECT)))
            .timeout_recv_response(Some(idle)) // all of the head: one byte a second is no answer
            .timeout_per_read(Some(idle))
            .timeout_per_write(Some(idle))
            .input_buffer_size(16 << 10) // the defaults are 128 KiB, per layer
            .output_buffer_size(4 << 10)
            .max_idle_connections(KINDS)
            .max_idle_connections_per_host(KINDS)
            .max_idle_age(Duration::from_secs(KEPT))
            .user_agent(concat!("kinglet/", env!("CARGO_PKG_VERSION")))
            .accept("application/json");
        if let Some(tls) = access.tls {
            config = config.tls_config(tls);
        }
        let config = config.build();
        let Access { server, ca, ca_hash, server_name, token, .. } = access;
        let (agent, prefix, host) = match server_name {
            None => (config.new_agent(), server.clone(), None),
            Some(name) => {
                let doing = || format!("using tls-server-name {name:?}");
                let (real, prefix, host) = renamed(&server, &name).doing(doing)?;
                let resolver = Fixed { real, resolver: DefaultResolver::default() };
                (
                    Agent::with_parts(config, DefaultConnector::default(), resolver),
                    prefix,
                    Some(host),
                )
            }
        };
        let (traffic, kept) = (Traffic::default(), AtomicBool::new(false));
        Ok(Client { agent, server, ca, ca_hash, prefix, host, token, patience, traffic, kept })
    }

    /// Gets a path with its query. The answer is a 200 whose body is still to be read. A server that
    /// asks to wait is waited for, a few times.
    pub fn get(&self, path: &str) -> std::result::Result<Incoming<'_>, Failure> {
        let mut waits = 0;
        loop {
            match self.once(path, &self.traffic.lists, None) {
                Err(failure) if failure.why == Why::Status(429) && waits < WAITS => {
                    waits += 1;
                    let wait = failure.retry_after.unwrap_or(Duration::from_secs(1));
                    log::info(format_args!("{} asks to wait {} s", self.server, wait.as_secs()));
                    thread::sleep(wait);
                }
                done => {
                    return Ok(Incoming::new(done?, &self.traffic.bytes, Some(self.patience.item)));
                }
            }
        }
    }

    /// Opens a watch, which may be silent for `quiet` and must be over after `whole`.
    pub fn watch(
        &self,
        path: &str,
        quiet: Duration,
        whole: Duration,
    ) -> std::result::Result<Incoming<'_>, Failure> {
        let answer = self.once(path, &self.traffic.watches, Some((quiet, whole)))?;
        Ok(Incoming::new(answer, &self.traffic.bytes, None))
    }

    /// Gets something small, and waits for nobody.
    pub fn probe(&self, path: &str) -> std::result::Result<String, Failure> {
        let answer = self.once(path, &self.traffic.probes, None)?;
        let mut body = Vec::new();
        let whole = Incoming::new(answer, &self.traffic.bytes, Some(self.patience.item));
        let read = whole.take(page::ITEM as u64).read_to_end(&mut body);
        read.map_err(|e| Failure::cut(e, "answer", &self.ca))?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    fn once(
        &self,
        path: &str,
        outcomes: &Outcomes,
        watch: Option<(Duration, Duration)>,
    ) -> std::result::Result<Response<Body>, Failure> {
        let answer = match self.ask(path, watch) {
            // The server may have closed a connection that was kept.
            Err(failure) if failure.why == Why::Empty && self.kept.swap(false, Relaxed) => {
                self.ask(path, watch)
            }
            answer => answer,
        };
        outcomes.count(answer.as_ref().ok().map(|answer| answer.status().as_u16()));
        let answer = answer?;
        self.kept.store(true, Relaxed);
        let status = answer.status();
        if status == 200 {
            return Ok(answer);
        }
        let header = |name| answer.headers().get(name).and_then(|v| v.to_str().ok());
        let location = header(LOCATION).map(str::to_owned);
        let wait = header(RETRY_AFTER).and_then(|value| value.trim().parse::<u64>().ok());
        let mut body = Vec::new();
        // What can't be read of an error's text is left out.
        let text = Incoming::new(answer, &self.traffic.bytes, Some(ERROR_TIME));
        let _ = text.take(ERROR_BODY).read_to_end(&mut body);
        let retry_after = wait.map(|seconds| Duration::from_secs(seconds.min(LONGEST)));
        Err(Failure { retry_after, ..Failure::status(status, &body, location.as_deref()) })
    }

    fn ask(
        &self,
        path: &str,
        watch: Option<(Duration, Duration)>,
    ) -> std::result::Result<Response<Body>, Failure> {
        let mut request = self.agent.get(format!("{}{path}", self.prefix));
        if let Some((quiet, whole)) = watch {
            let config = request.config().timeout_per_read(Some(quiet));
            request = config.timeout_recv_body(Some(whole)).build();
        } else {
            // Watches are never compressed: the header would be for nothing.
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

/// The real URL, the URL with `name` as its host, and the real host with its port.
fn renamed(server: &str, name: &str) -> std::result::Result<(Uri, String, String), String> {
    let real: Uri = server.parse().map_err(|e| format!("{e}"))?;
    let authority = real.authority().map(|a| a.as_str().to_owned()).unwrap_or_default();
    let port = real.port_u16().unwrap_or(443);
    let name = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
    let path = real.path().trim_end_matches('/');
    let prefix = format!("https://{name}:{port}{path}");
    match prefix.parse::<Uri>() {
        Ok(uri) if uri.host() == Some(&name) => Ok((real, prefix, authority)),
        _ => Err("it is no host name".to_owned()),
    }
}

#[cfg(test)]
mod tests;
