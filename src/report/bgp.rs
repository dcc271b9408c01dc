//! The BGP speaker as a person or a program reads it: its peers, and the routes that it heard or told.

use std::{fmt::Write, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::text::span;
use crate::bgp::{
    attribute::Origin,
    policy::Refusal,
    shown::{Shown, Which},
    speaker::{Speaker, View},
};

/// One peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Its address.
    pub addr: IpAddr,
    /// The AS that it should be in.
    pub asn: u32,
    /// Which node of the cluster it is; `None`: a router outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// How far it has come, as RFC 4271 names it.
    pub state: String,
    /// How the way to it is, as RFC 5880 names it, where BFD watches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<String>,
    /// Seconds for which its session is up or down.
    pub uptime: u64,
    /// Routes that it has told.
    pub received: usize,
    /// Those of them that were let in.
    pub accepted: usize,
    /// Routes that it was told.
    pub told: usize,
    /// What went wrong last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Peer {
    /// Whether its session is up.
    pub fn is_up(&self) -> bool {
        self.state == "Established"
    }
}

/// All peers.
pub fn peers(speaker: &Speaker, now: Duration) -> Vec<Peer> {
    speaker.view(now).into_iter().map(peer).collect()
}

fn peer(view: View) -> Peer {
    Peer {
        addr: view.addr,
        asn: view.peer.asn,
        node: view.peer.node.map(Into::into),
        state: view.state.name().to_owned(),
        bfd: view.way.map(|state| state.name().to_owned()),
        uptime: view.age.as_secs(),
        received: view.counts.received,
        accepted: view.counts.accepted,
        told: view.counts.told,
        error: view.error,
    }
}

/// What is behind a path below `/bgp`; `None`: nothing; `Err`: why that can't be shown. With `.json` it
/// is for programs. `/bgp` are the peers, `/bgp/routes` all routes, `/bgp/in/ADDR` and `/bgp/out/ADDR`
/// those of one peer.
pub fn page(speaker: &Speaker, now: Duration, path: &str) -> Option<Result<String, String>> {
    let (path, json) = path.strip_suffix(".json").map_or((path, false), |path| (path, true));
    let addr = |text: &str| text.parse::<IpAddr>().ok();
    let which = match path {
        "/bgp" => {
            let peers = peers(speaker, now);
            return Some(Ok(if json { object("peers", &peers) } else { table(&peers) }));
        }
        "/bgp/routes" => Which::All,
        _ => match path.strip_prefix("/bgp/in/").and_then(addr) {
            Some(peer) => Which::From(peer),
            None => Which::To(path.strip_prefix("/bgp/out/").and_then(addr)?),
        },
    };
    if let Which::From(peer) | Which::To(peer) = which
        && !speaker.config().peers.contains_key(&peer)
    {
        return Some(Err(format!("there is no peer {peer}; `kinglet bgp` lists them\n")));
    }
    let routes: Vec<Route> = speaker.rib().shown(which).into_iter().map(route).collect();
    Some(Ok(if json { object("routes", &routes) } else { list(&routes) }))
}

fn object(name: &str, list: &impl Serialize) -> String {
    format!("{{\"{name}\":{}}}\n", serde_json::to_string(list).unwrap_or_default())
}

/// The peers, one on each line.
pub fn table(peers: &[Peer]) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<24} {:<16} {:>10} {:<12} {:<5} {:>10} {:>6} {:>6} {:>6}  LAST ERROR",
        "PEER", "NODE", "AS", "STATE", "BFD", "FOR", "HEARD", "TAKEN", "TOLD"
    );
    for p in peers {
        let (addr, node) = (p.addr.to_string(), p.node.as_deref().unwrap_or("-"));
        let _ = writeln!(
            out,
            "{addr:<24} {node:<16} {:>10} {:<12} {:<5} {:>10} {:>6} {:>6} {:>6}  {}",
            p.asn,
            p.state,
            p.bfd.as_deref().unwrap_or("-"),
            span(p.uptime),
            p.received,
            p.accepted,
            p.told,
            p.error.as_deref().unwrap_or("")
        );
    }
    out
}

/// One route, as it came or as it is told.
#[derive(Serialize)]
struct Route {
    net: String,
    /// `None`: this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_hop: Option<IpAddr>,
    /// The peer that told it; `None`: it begins here.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<IpAddr>,
    path: String,
    origin: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_pref: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    med: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    communities: Vec<String>,
    /// The peer restarts, and has not said it again yet.
    stale: bool,
    best: bool,
    /// A route of the kernel has its next hop.
    used: bool,
    /// Why it was not let in.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
}

fn route(shown: Shown) -> Route {
    Route {
        net: shown.net.to_string(),
        next_hop: shown.next_hop,
        from: shown.from,
        path: shown.path,
        origin: match shown.origin {
            Origin::Igp => "IGP",
            Origin::Egp => "EGP",
            Origin::Incomplete => "incomplete",
        },
        local_pref: shown.local_pref,
        med: shown.med,
        communities: shown.communities,
        stale: shown.stale,
        best: shown.best,
        used: shown.used,
        refused: shown.refused.map(Refusal::text),
    }
}

fn list(routes: &[Route]) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "   {:<24} {:<24} {:<24} {:>6} {:>6}  PATH AND COMMUNITIES",
        "ROUTE", "NEXT HOP", "FROM", "PREF", "MED"
    );
    for route in routes {
        let or =
            |addr: Option<IpAddr>| addr.map_or("this node".to_owned(), |addr| addr.to_string());
        let number = |n: Option<u32>| n.map_or("-".to_owned(), |n| n.to_string());
        let mut marks = String::new();
        for (is, mark) in [(route.used, '*'), (route.best, '>'), (route.stale, 's')] {
            marks.push(if is { mark } else { ' ' });
        }
        let _ = write!(
            out,
            "{marks}{:<24} {:<24} {:<24} {:>6} {:>6}  {} {}",
            route.net,
            or(route.next_hop),
            or(route.from),
            number(route.local_pref),
            number(route.med),
            route.path,
            route.communities.join(" ")
        );
        let _ = match route.refused {
            Some(why) => writeln!(out, " REFUSED: {why}"),
            None => writeln!(out),
        };
    }
    if !routes.is_empty() {
        out.push_str("* in the kernel, > best, s of before the peer's restart\n");
    }
    out
}
