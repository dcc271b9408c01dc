//! A server for tests: it listens on a real socket, replies to each request with given bytes, and
//! closes the connection. It also has the recorded replies of tests/api, and [`Rng`], the random
//! numbers of the tests that mutate input. The server of the black-box tests is tests/apiserver.

use std::{
    io::{Read, Write},
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustls::{
    RootCertStore, ServerConfig, ServerConnection, Stream,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};

use super::{
    access::{Access, Token},
    client::{Client, Timeouts},
};
pub(crate) use crate::rng::Rng;

/// A server that runs until the test process ends.
pub(super) struct Server {
    /// Its URL, with a free port of 127.0.0.1.
    pub url: String,
    requests: Arc<Mutex<Vec<String>>>,
}

/// Starts a server without TLS. `answer` gets a request's target and its number, from 1, and returns
/// the bytes of the reply.
pub(super) fn serve(answer: impl FnMut(&str, usize) -> Vec<u8> + Send + 'static) -> Server {
    start(None, answer)
}

/// Starts a server with TLS and the certificate `name` of tests/fixtures/tls. If `mutual` is true, the client
/// must present a certificate too.
pub(super) fn serve_tls(
    name: &str,
    mutual: bool,
    answer: impl FnMut(&str, usize) -> Vec<u8> + Send + 'static,
) -> Server {
    let provider = Arc::new(ring::default_provider());
    let cert = CertificateDer::from_pem_file(format!("tests/fixtures/tls/{name}.crt")).unwrap();
    let key = PrivateKeyDer::from_pem_file(format!("tests/fixtures/tls/{name}.key")).unwrap();
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if mutual {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file("tests/fixtures/tls/ca.crt").unwrap()).unwrap();
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    start(Some(Arc::new(builder.with_single_cert(vec![cert], key).unwrap())), answer)
}

fn start(
    tls: Option<Arc<ServerConfig>>,
    mut answer: impl FnMut(&str, usize) -> Vec<u8> + Send + 'static,
) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr().unwrap());
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&requests);
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            let mut exchange = |stream: &mut dyn ReadWrite| {
                let head = head(stream);
                let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
                let nth = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(head);
                    seen.len()
                };
                // The client may close the connection before it has read everything.
                let _ = stream.write_all(&answer(&target, nth)).and_then(|()| stream.flush());
            };
            match &tls {
                None => exchange(&mut socket),
                Some(config) => {
                    let mut connection = ServerConnection::new(Arc::clone(config)).unwrap();
                    exchange(&mut Stream::new(&mut connection, &mut socket));
                    connection.send_close_notify();
                    let _ = connection.complete_io(&mut socket);
                }
            }
        }
    });
    Server { url, requests }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

/// Reads the head of a request, byte by byte.
fn head(stream: &mut dyn ReadWrite) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
        head.push(byte[0]);
        if !head[0].is_ascii_alphabetic() {
            break; // a TLS hello, but this server has no TLS
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

impl Server {
    /// Returns the heads of the requests so far.
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    /// Returns the targets (path and query) of the requests so far.
    pub(super) fn targets(&self) -> Vec<String> {
        let target = |head: &String| head.split(' ').nth(1).unwrap_or_default().to_owned();
        self.requests().iter().map(target).collect()
    }

    /// Returns access to this server without TLS or credentials.
    pub(super) fn access(&self) -> Access {
        let (server, ca, token) = (self.url.clone(), String::new(), Token::None);
        Access { server, tls: None, ca, ca_hash: 0, server_name: None, token, warning: None }
    }

    /// Returns a client of this server, with a timeout of 5 s for an answer.
    pub(super) fn client(&self) -> Client {
        let timeouts = Timeouts { response: Duration::from_secs(5), ..Timeouts::default() };
        Client::with_timeouts(self.access(), timeouts).unwrap()
    }
}

/// Builds a complete HTTP/1.1 reply. Each line of `headers` ends with CRLF.
pub(super) fn reply(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let mut bytes = format!(
        "HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    bytes.extend(body);
    bytes
}

/// Builds a reply with status 200 and a JSON body.
pub(super) fn ok(body: impl AsRef<[u8]>) -> Vec<u8> {
    reply("200 OK", "Content-Type: application/json\r\n", body)
}

/// Reads a file of tests/fixtures/recorded.
pub(super) fn recorded(name: &str) -> Vec<u8> {
    let path = format!("tests/fixtures/recorded/{name}");
    std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))
}

impl Rng {
    /// Returns a copy with one to four random changes: a byte replaced, removed or inserted, or a piece of up
    /// to 39 bytes copied to another place.
    pub(crate) fn mutate(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        for _ in 0..=self.below(4) {
            let (at, to) = (self.below(bytes.len()), self.below(bytes.len()));
            match self.below(5) {
                0 => bytes[at] = self.below(256) as u8,
                1 => bytes[at] = b"{}[]\":,\\-&*!|>%#0n\n \t"[self.below(21)],
                2 => drop(bytes.remove(at)),
                3 => bytes.insert(at, bytes[to]),
                _ => {
                    let end = (to + self.below(40)).min(bytes.len());
                    let piece = bytes[to..end].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
            if bytes.is_empty() {
                bytes.push(b' ');
            }
        }
        bytes
    }
}
