//! The API server of the tests: the list and watch semantics of a real server over recorded
//! objects.
//!
//! It serves a folder of lists (`tests/fixtures/objects/`) as a real API server prints them, byte
//! for byte and chunk for chunk. A test changes the cluster by replacing a file, and adds faults by
//! a line in `DIR/faults`. The behaviour is taken from recorded traffic of Kubernetes 1.36. Code
//! that has no recording (v1beta1) has a comment that it is made by hand.
//!
//! item, store: the objects and their versions; list, watch: the answers; api: paths and callers;
//! fault: faults; request, http, tls, serve: the connection; generate: clusters of any size.

mod api;
mod beta;
mod fault;
mod generate;
mod http;
mod item;
mod list;
mod request;
mod resource;
mod serve;
mod status;
mod store;
mod tls;
mod watch;

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Duration;

use api::{Api, Slices};

const USAGE: &str = "\
apiserver --listen ADDR:PORT --objects DIR [OPTION]...
apiserver generate --nodes N --services S --endpoints E DIR

  --listen ADDR:PORT    port 0 takes a free one; the first line on stdout is `listening on ADDR:PORT`
  --objects DIR         nodes.json, services.json, endpointslices.json, endpoints.json (and pods,
                        namespaces, networkpolicies): read again when they change; a missing file is an empty list
  --cert FILE --key FILE  TLS; --client-ca FILE asks for client certificates (a foreign one: 401)
  --token TOKEN         the accepted bearer token; DIR/token, if there, has the tokens instead
                        (one a line). No token: 403 as system:anonymous; a wrong one: 401
  --only-v1beta1        slices as Kubernetes 1.18 has them; --only-endpoints: none at all
  --gzip-from BYTES     the smallest body that is compressed when asked (131072)
  --bookmarks SECONDS   how often a watch gets a bookmark (60)
  --tick MS             how often a watch looks at the files (5)
  --revision N          start at this resourceVersion or later, as after a restart
  --log FILE            one line for each request: METHOD PATH STATUS BODY-BYTES [FAULT] (else on stderr);
                        FAULT is the kind of fault that changed the answer
  --fault SPEC          may be repeated; also in DIR/faults, one a line, read again when it changes

PUT and DELETE of one object change it in memory (kubectl-like paths), without touching its file.

SPEC is PATH:[first=N:][after=N:][consistent:]KIND, for requests whose path and query contain PATH
(which may be empty). first=N: only the first N that meet it; after=N: not those N; consistent: only
those that need etcd (no resourceVersion=0, no watch). The log has status 0 where no reply went out.
  status=CODE   401, 403, 404, 410, 429, 503, 504 as recorded, any other as InternalError
  gone[=N]      410 for what names an old version: continue, Exact, a watch (the first N of them)
  cut=BYTES     close after that many bytes of the body (compressed ones, if it is)
  slow=RATE     that many bytes of the body each second
  body=FILE     200 with the bytes of DIR/FILE, whatever they are
  html          200 with a login page     empty    close without a reply
  garbage       bytes that are no HTTP    hang     keep the connection, answer nothing
  and of a watch alone:
  mute          it opens, and sends no event        twice   each event is sent twice
  shuffle       events of one moment are sent in reverse order
If the text of DIR/cut changes, open watches are cut.
";

#[derive(Default)]
struct Args {
    listen: String,
    objects: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
    token: Option<String>,
    slices: Option<Slices>,
    gzip_from: Option<usize>,
    bookmarks: Option<u64>,
    tick: Option<u64>,
    revision: u64,
    log: Option<PathBuf>,
    faults: Vec<String>,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1).peekable();
    let result = match args.peek().map(String::as_str) {
        None | Some("help" | "--help" | "-h") => {
            let _ = io::stdout().write_all(USAGE.as_bytes());
            return ExitCode::SUCCESS;
        }
        Some("generate") => generate(args.skip(1)),
        Some(_) => Args::parse(args).and_then(serve),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("apiserver: {e}");
            ExitCode::FAILURE
        }
    }
}

fn number<T: std::str::FromStr>(flag: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{flag} {value}: not a number that fits"))
}

fn generate(mut args: impl Iterator<Item = String>) -> Result<(), String> {
    let (mut size, mut dir) = (generate::Size::default(), None);
    while let Some(arg) = args.next() {
        let place = match arg.as_str() {
            "--nodes" => &mut size.nodes,
            "--services" => &mut size.services,
            "--endpoints" => &mut size.endpoints,
            _ if arg.starts_with('-') => return Err(format!("{arg}: no such option")),
            _ => {
                dir = Some(PathBuf::from(arg));
                continue;
            }
        };
        *place = number(&arg, &args.next().unwrap_or_default())?;
    }
    generate::generate(size, &dir.ok_or("generate: which folder?")?)
}

impl Args {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Args, String> {
        let mut parsed = Args::default();
        while let Some(arg) = args.next() {
            let (flag, joined) = match arg.split_once('=') {
                Some((flag, value)) => (flag.to_string(), Some(value.to_string())),
                None => (arg, None),
            };
            match flag.as_str() {
                "--only-v1beta1" => {
                    parsed.slices = Some(Slices::V1Beta1);
                    continue;
                }
                "--only-endpoints" => {
                    parsed.slices = Some(Slices::None);
                    continue;
                }
                _ => {}
            }
            let value =
                joined.or_else(|| args.next()).ok_or_else(|| format!("{flag}: no value"))?;
            match flag.as_str() {
                "--listen" => parsed.listen = value,
                "--objects" => parsed.objects = Some(value.into()),
                "--cert" => parsed.cert = Some(value.into()),
                "--key" => parsed.key = Some(value.into()),
                "--client-ca" => parsed.client_ca = Some(value.into()),
                "--token" => parsed.token = Some(value),
                "--gzip-from" => parsed.gzip_from = Some(number(&flag, &value)?),
                "--tick" => parsed.tick = Some(number(&flag, &value)?),
                "--bookmarks" => parsed.bookmarks = Some(number(&flag, &value)?),
                "--revision" => parsed.revision = number(&flag, &value)?,
                "--log" => parsed.log = Some(value.into()),
                "--fault" => parsed.faults.push(value),
                _ => return Err(format!("{flag}: no such option")),
            }
        }
        Ok(parsed)
    }
}

fn serve(args: Args) -> Result<(), String> {
    let dir = args.objects.ok_or("--objects DIR is needed")?;
    if !dir.is_dir() {
        return Err(format!("{}: not a folder", dir.display()));
    }
    let tls = match (&args.cert, &args.key) {
        (Some(cert), Some(key)) => Some(tls::Tls::new(cert, key, args.client_ca.as_deref())?),
        (None, None) if args.client_ca.is_none() => None,
        _ => return Err("--cert and --key belong together".to_string()),
    };
    let log: Box<dyn Write + Send> = match &args.log {
        Some(path) => Box::new(
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .map_err(|e| format!("{}: {e}", path.display()))?,
        ),
        None => Box::new(io::stderr()),
    };
    let server = serve::Server {
        api: Api {
            store: store::Store::open(&dir, args.revision),
            dir: dir.clone(),
            slices: args.slices.unwrap_or(Slices::V1),
            token: args.token,
            certificates: args.client_ca.is_some(),
            bookmarks: Duration::from_secs(args.bookmarks.unwrap_or(60)),
            tick: Duration::from_millis(args.tick.unwrap_or(5)),
        },
        faults: fault::Faults::new(&dir, &args.faults)?,
        tls,
        gzip_from: args.gzip_from.unwrap_or(128 << 10),
        log: Mutex::new(log),
    };
    let listener =
        TcpListener::bind(&args.listen).map_err(|e| format!("--listen {}: {e}", args.listen))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    let mut out = io::stdout();
    let _ = writeln!(out, "listening on {address}");
    let _ = out.flush();
    server.run(&listener);
    Ok(())
}
