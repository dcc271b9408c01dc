//! The connections, one thread each: requests in, answers and faults out, one log line for each
//! request.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::api::{Answer, Api, Certificate};
use crate::fault::{Faults, Harm, Kind};
use crate::http::{JSON, Reply, Small, Spoil, Stream, TEXT, Wire};
use crate::request::{self, Asked, Request};
use crate::tls::Tls;

pub struct Server {
    pub api: Api,
    pub faults: Faults,
    pub tls: Option<Tls>,
    pub gzip_from: usize,
    pub log: Mutex<Box<dyn Write + Send>>,
}

impl Server {
    pub fn run(self, listener: &TcpListener) {
        let server = Arc::new(self);
        for tcp in listener.incoming() {
            let (Ok(tcp), server) = (tcp, server.clone()) else {
                thread::sleep(std::time::Duration::from_millis(50)); // out of descriptors
                continue;
            };
            let started = thread::Builder::new().spawn(move || server.connection(tcp));
            if let Err(e) = started {
                eprintln!("apiserver: {e}");
            }
        }
    }

    fn connection(&self, tcp: TcpStream) {
        let _ = tcp.set_nodelay(true);
        let mut stream = match &self.tls {
            None => Stream::Plain(tcp),
            Some(tls) => match tls.accept(tcp) {
                Ok(stream) => stream,
                Err(e) => return eprintln!("apiserver: {e}"),
            },
        };
        let mut rest = Vec::new();
        loop {
            match request::ask(&mut stream, &mut rest) {
                Asked::Closed => return,
                Asked::Bad(status) => {
                    let request = Request::default();
                    let reply = Reply::new(status, TEXT, &format!("{status}: no request\n"))
                        .with("Connection", "close");
                    self.log("-", "-", status, reply.len(), None);
                    let mut wire = Wire::new(&mut stream, &request, &reply, Spoil::default());
                    let _ = reply.write_to(&mut wire).and_then(|()| wire.finish());
                    let _ = wire.send();
                    return;
                }
                Asked::Request(request) => {
                    let alive = self.respond(&mut stream, &request).is_ok();
                    if !alive || request.last() {
                        return;
                    }
                }
            }
        }
    }

    fn respond(&self, stream: &mut Stream, request: &Request) -> io::Result<()> {
        let Harm { spoil, instead } = self.faults.meet(request);
        let rude = match &instead {
            Some(Kind::Empty) => Some(Ok(())),
            Some(Kind::Garbage) => Some(stream.write_all(&garbage()).and_then(|()| stream.flush())),
            Some(Kind::Hang) => Some(hang(stream)),
            _ => None,
        };
        if rude.is_some() {
            self.log(&request.method, &request.target, 0, 0, instead.as_ref());
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        let certificate =
            self.tls.as_ref().map_or(Certificate::None, |tls| tls.certificate(stream));
        match self.api.answer(request, certificate, instead.as_ref()) {
            Answer::Watch(watch) => {
                let head = Reply::new(200, JSON, "");
                let mut wire = Wire::new(stream, request, &head, spoil);
                let end = watch.run(&self.api.store, &mut wire).and_then(|()| wire.finish());
                let harm = spoiled(spoil).or(watch.harm());
                self.log(&request.method, &request.target, 200, wire.sent, harm);
                end.and_then(|()| wire.send())
            }
            Answer::Reply(reply) => {
                let harm = spoiled(spoil).or(instead.as_ref());
                self.reply(stream, request, reply, spoil, harm)
            }
        }
    }

    fn reply(
        &self,
        stream: &mut Stream,
        request: &Request,
        reply: Reply,
        spoil: Spoil,
        harm: Option<&Kind>,
    ) -> io::Result<()> {
        let zip = request.takes_gzip() && reply.status == 200;
        let large = reply.len() >= self.gzip_from;
        let reply = if zip && large {
            reply.with("Content-Encoding", "gzip").with("Vary", "Accept-Encoding")
        } else {
            reply
        };
        let mut wire = Wire::new(stream, request, &reply, spoil);
        let written = if zip && large {
            let mut gzip = GzEncoder::new(Small(&mut wire), Compression::new(1)); // as the real server
            reply.write_to(&mut gzip).and_then(|()| gzip.finish().map(drop))
        } else if zip {
            wire.write_all(&reply.joined()) // gzip was requested, but the body is too small: one write, as recorded
        } else {
            reply.write_to(&mut wire)
        };
        let end = written.and_then(|()| wire.finish());
        // Before the client sees the end, because a test reads the log when its client is done.
        self.log(&request.method, &request.target, reply.status, wire.sent, harm);
        end.and_then(|()| wire.send())
    }

    /// Writes a request into the log, with the fault that changed its answer, if any.
    fn log(&self, method: &str, target: &str, status: u16, bytes: usize, harm: Option<&Kind>) {
        let mut log = self.log.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let harm = harm.map(|kind| format!(" {}", kind.name())).unwrap_or_default();
        let _ = writeln!(log, "{method} {target} {status} {bytes}{harm}");
        let _ = log.flush();
    }
}

/// Returns the fault that a spoiled connection stands for.
fn spoiled(spoil: Spoil) -> Option<&'static Kind> {
    match spoil {
        Spoil { cut: Some(_), .. } => Some(&Kind::Cut(0)),
        Spoil { slow: Some(_), .. } => Some(&Kind::Slow(0)),
        Spoil { cut: None, slow: None } => None,
    }
}

/// Keeps the connection open without an answer until the other side closes it.
fn hang(stream: &mut Stream) -> io::Result<()> {
    let mut buf = [0; 4096];
    while stream.read(&mut buf)? > 0 {}
    Ok(())
}

/// Returns bytes that are not HTTP, the same ones each time.
fn garbage() -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..512).map(next).collect()
}
