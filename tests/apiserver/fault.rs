//! Faults on demand: which requests they change, and in which way.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::http::Spoil;
use crate::list;
use crate::request::Request;

#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    Status(u16),
    Gone,
    Cut(usize),
    Slow(u64),
    Empty,
    Html,
    Garbage,
    Hang,
    Mute,
    Twice,
    Shuffle,
    Body(String),
}

impl Kind {
    /// Returns the name that a fault has in a SPEC and in the log.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Status(_) => "status",
            Kind::Gone => "gone",
            Kind::Cut(_) => "cut",
            Kind::Slow(_) => "slow",
            Kind::Empty => "empty",
            Kind::Html => "html",
            Kind::Garbage => "garbage",
            Kind::Hang => "hang",
            Kind::Mute => "mute",
            Kind::Twice => "twice",
            Kind::Shuffle => "shuffle",
            Kind::Body(_) => "body",
        }
    }
}

#[derive(Debug, Clone)]
struct Fault {
    path: String,
    consistent: bool,
    after: u64,
    first: u64,
    kind: Kind,
    seen: u64,
}

/// The faults for one request.
#[derive(Debug, Default)]
pub struct Harm {
    pub spoil: Spoil,
    pub instead: Option<Kind>,
}

/// The faults of the command line, and those of `DIR/faults`, which is read again for every
/// request.
pub struct Faults {
    file: PathBuf,
    all: Mutex<All>,
}

struct All {
    given: Vec<Fault>,
    text: String,
    filed: Vec<Fault>,
}

impl Faults {
    pub fn new(dir: &Path, given: &[String]) -> Result<Faults, String> {
        let given = given.iter().map(|g| Fault::parse(g)).collect::<Result<_, _>>()?;
        let all = All { given, text: String::new(), filed: Vec::new() };
        Ok(Faults { file: dir.join("faults"), all: Mutex::new(all) })
    }

    /// Returns the faults for this request, and counts the request for each of them.
    pub fn meet(&self, request: &Request) -> Harm {
        let mut all = self.all.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let text = fs::read_to_string(&self.file).unwrap_or_default();
        if text != all.text {
            all.filed.clear();
            for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with('#'))
            {
                match Fault::parse(line) {
                    Ok(fault) => all.filed.push(fault),
                    Err(e) => eprintln!("apiserver: {}: {e}", self.file.display()),
                }
            }
            all.text = text;
        }
        let mut harm = Harm::default();
        let All { given, filed, .. } = &mut *all;
        for fault in given.iter_mut().chain(filed) {
            if !fault.meets(request) {
                continue;
            }
            match &fault.kind {
                Kind::Cut(bytes) => harm.spoil.cut = Some(*bytes),
                Kind::Slow(rate) => harm.spoil.slow = Some(*rate),
                kind => harm.instead = harm.instead.or_else(|| Some(kind.clone())),
            }
        }
        harm
    }
}

impl Fault {
    fn parse(spec: &str) -> Result<Fault, String> {
        let wrong = || format!("{spec}: not PATH:[first=N:][after=N:][consistent:]KIND");
        let (path, mut rest) = spec.split_once(':').ok_or_else(wrong)?;
        let number = |text: &str| text.parse::<u64>().map_err(|_| wrong());
        let mut fault = Fault {
            path: path.to_string(),
            consistent: false,
            after: 0,
            first: u64::MAX,
            kind: Kind::Gone,
            seen: 0,
        };
        while let Some((prefix, after)) = rest.split_once(':') {
            match prefix.split_once('=') {
                Some(("first", n)) => fault.first = number(n)?,
                Some(("after", n)) => fault.after = number(n)?,
                None if prefix == "consistent" => fault.consistent = true,
                _ => return Err(wrong()),
            }
            rest = after;
        }
        let (name, value) = rest.split_once('=').unwrap_or((rest, ""));
        fault.kind = match (name, value) {
            ("gone", "") => Kind::Gone,
            ("gone", n) => {
                fault.first = number(n)?;
                Kind::Gone
            }
            ("status", code) => Kind::Status(code.parse().map_err(|_| wrong())?),
            ("cut", bytes) => Kind::Cut(bytes.parse().map_err(|_| wrong())?),
            ("slow", rate) => Kind::Slow(number(rate)?),
            ("body", file) if !file.is_empty() => Kind::Body(file.to_string()),
            ("empty", "") => Kind::Empty,
            ("html", "") => Kind::Html,
            ("garbage", "") => Kind::Garbage,
            ("hang", "") => Kind::Hang,
            ("mute", "") => Kind::Mute,
            ("twice", "") => Kind::Twice,
            ("shuffle", "") => Kind::Shuffle,
            _ => return Err(wrong()),
        };
        Ok(fault)
    }

    fn meets(&mut self, request: &Request) -> bool {
        let old = ["continue", "watch"].iter().any(|p| !request.param(p).is_empty())
            || request.param("resourceVersionMatch") == "Exact";
        let watches = matches!(self.kind, Kind::Mute | Kind::Twice | Kind::Shuffle);
        if !request.target.contains(&self.path)
            || watches && request.param("watch").is_empty()
            || self.consistent && !list::is_consistent(request)
            || self.kind == Kind::Gone && !old
        {
            return false;
        }
        self.seen += 1;
        self.seen > self.after && self.seen - self.after <= self.first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str) -> Request {
        Request::parse(&format!("GET {target} HTTP/1.1\r\n")).unwrap()
    }

    #[test]
    fn a_fault_counts_only_the_requests_that_it_matches() {
        let mut fault = Fault::parse("services:after=1:first=2:status=503").unwrap();
        let met: Vec<bool> =
            ["/nodes", "/services", "/services", "/nodes", "/services", "/services"]
                .iter()
                .map(|t| fault.meets(&request(t)))
                .collect();
        assert_eq!(met, [false, false, true, false, true, false]);
    }

    #[test]
    fn gone_applies_only_to_a_request_with_continue() {
        let mut fault = Fault::parse(":gone=1").unwrap();
        assert!(!fault.meets(&request("/a?limit=2")));
        assert!(fault.meets(&request("/a?continue=x")));
        assert!(!fault.meets(&request("/a?continue=x")));
    }

    #[test]
    fn a_wrong_fault_spec_is_an_error() {
        for wrong in ["", "x", "x:", "x:cut", "x:first=a:hang", "x:hang=1", "x:nothing", "x:body="]
        {
            assert!(Fault::parse(wrong).is_err(), "{wrong}");
        }
    }
}
