//! One HTTP client for one API server: GET, and an answer or a [`Failure`].
//!
//! Nothing is taken from the environment, redirects are not followed (the token would go with them),
//! and a server that asks to wait is waited for.

use std::{fmt, io::Read, thread, time::Duration};

use ureq::{
    Agent, Body,
    config::Config,
    http::{
        Response, Uri,
        header::{AUTHORIZATION, HOST, LOCATION, RETRY_AFTER},
    },
    unversioned::{
        resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver},
        transport::{DefaultConnector, NextTimeout},
    },
};

use super::{
    auth::{Access, Token},
    failure::{CONNECT, Failure, IDLE},
};
use crate::{
    error::{Doing, Result},
    log,
};

/// How often a 429 is waited for.
const WAITS: usize = 3;
/// The longest that a server may make us wait, in seconds.
const LONGEST: u64 = 30;
/// How much of an error's body is read.
const ERROR_BODY: u64 = 64 << 10;

/// The way to one API server.
pub struct Client {
    agent: Agent,
    /// The server's URL, as the user knows it.
    pub server: String,
    /// Where the CA came from.
    pub ca: String,
    /// What requests start with: the server's URL, with the name for TLS as its host.
    prefix: String,
    /// The Host header, where the prefix would give another one.
    host: Option<String>,
    token: Token,
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
    /// No connection is made yet.
    pub fn new(access: Access) -> Result<Client> {
        Client::with_idle(access, Duration::from_secs(IDLE))
    }

    /// `idle`: how long the server may be silent.
    fn with_idle(access: Access, idle: Duration) -> Result<Client> {
        let mut config = Config::builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None) // the default reads HTTPS_PROXY
            .timeout_connect(Some(Duration::from_secs(CONNECT)))
            .timeout_per_read(Some(idle))
            .timeout_per_write(Some(idle))
            .input_buffer_size(16 << 10) // the defaults are 128 KiB, per layer
            .output_buffer_size(4 << 10)
            .max_idle_connections(1)
            .user_agent(concat!("kinglet/", env!("CARGO_PKG_VERSION")))
            .accept("application/json");
        if let Some(tls) = access.tls {
            config = config.tls_config(tls);
        }
        let config = config.build();
        let Access { server, ca, server_name, token, .. } = access;
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
        Ok(Client { agent, server, ca, prefix, host, token })
    }

    /// Gets a path with its query. The answer is a 200 whose body is still to be read.
    pub fn get(&self, path: &str) -> std::result::Result<Response<Body>, Failure> {
        let mut waits = 0;
        loop {
            let answer = self.ask(path)?;
            let status = answer.status();
            if status == 200 {
                return Ok(answer);
            }
            if status == 429 && waits < WAITS {
                waits += 1;
                let seconds = retry_after(&answer);
                log::info(format_args!("{} asks to wait {seconds} s", self.server));
                thread::sleep(Duration::from_secs(seconds));
                continue;
            }
            let location = answer.headers().get(LOCATION).and_then(|v| v.to_str().ok());
            let location = location.map(str::to_owned);
            let mut body = Vec::new();
            // What can't be read of an error's text is left out.
            let _ = answer.into_body().into_reader().take(ERROR_BODY).read_to_end(&mut body);
            return Err(Failure::status(status, &body, location.as_deref()));
        }
    }

    fn ask(&self, path: &str) -> std::result::Result<Response<Body>, Failure> {
        let mut request = self.agent.get(format!("{}{path}", self.prefix));
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

fn retry_after(answer: &Response<Body>) -> u64 {
    let header = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
    header.and_then(|value| value.trim().parse().ok()).unwrap_or(1).min(LONGEST)
}
