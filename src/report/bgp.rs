//! The BGP pages of the status socket, behind `kinglet bgp`: the peers, and the routes received from or
//! advertised to a peer, as a table or as JSON. The data comes from the speaker ([`Speaker::view`],
//! [`rows`]); this module only renders it.

use std::{fmt::Write, net::IpAddr, time::Duration};

use serde::{Deserialize, Serialize};

use super::span::span;
use crate::bgp::{
    attribute::OriginCode,
    policy::RouteRejectReason,
    show::{RouteRow, RouteSelector, rows},
    speaker::{PeerView, Speaker},
};

/// A BGP peer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerRow {
    /// The address of the peer.
    pub addr: IpAddr,
    /// The configured AS of the peer.
    pub asn: u32,
    /// The name of the peer's Node; `None` if the peer is a router outside of the cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The state of the session (RFC 4271 section 8.2.2), for example `Established`.
    pub state: String,
    /// The state of the BFD session (RFC 5880 section 6.2); `None` if BFD is off for this peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<String>,
    /// Seconds since the session last went up or down.
    pub uptime: u64,
    /// The number of routes received from the peer.
    pub received: usize,
    /// The number of received routes that the import policy accepted.
    pub accepted: usize,
    /// The number of routes advertised to the peer.
    #[serde(rename = "told")]
    pub advertised: usize,
    /// The last error of the session; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl PeerRow {
    /// Returns true if the session is established.
    pub fn is_up(&self) -> bool {
        self.state == "Established"
    }
}

/// Returns all peers. `now` is the speaker's clock.
pub(super) fn peers(speaker: &Speaker, now: Duration) -> Vec<PeerRow> {
    speaker.view(now).into_iter().map(peer).collect()
}

fn peer(view: PeerView) -> PeerRow {
    PeerRow {
        addr: view.addr,
        asn: view.peer.asn,
        node: view.peer.node.map(Into::into),
        state: view.state.name().to_owned(),
        bfd: view.bfd.map(|state| state.name().to_owned()),
        uptime: view.age.as_secs(),
        received: view.counts.received,
        accepted: view.counts.accepted,
        advertised: view.counts.advertised,
        error: view.error,
    }
}

/// Returns the page at a path: `/bgp` lists the peers, `/bgp/routes` all routes, `/bgp/in/ADDR` the routes
/// received from a peer, `/bgp/out/ADDR` the routes advertised to it. With the suffix `.json` the page is
/// JSON. Returns `None` if there is no such path; fails if no peer has the address.
pub(super) fn page(speaker: &Speaker, now: Duration, path: &str) -> Option<Result<String, String>> {
    let (path, json) = path.strip_suffix(".json").map_or((path, false), |path| (path, true));
    let addr = |text: &str| text.parse::<IpAddr>().ok();
    let selected = match path {
        "/bgp" => {
            let peers = peers(speaker, now);
            return Some(Ok(if json { json_object("peers", &peers) } else { peer_table(&peers) }));
        }
        "/bgp/routes" => RouteSelector::All,
        _ => match path.strip_prefix("/bgp/in/").and_then(addr) {
            Some(peer) => RouteSelector::From(peer),
            None => RouteSelector::To(path.strip_prefix("/bgp/out/").and_then(addr)?),
        },
    };
    if let RouteSelector::From(peer) | RouteSelector::To(peer) = selected
        && !speaker.config().peers.contains_key(&peer)
    {
        return Some(Err(format!("there is no peer {peer}; `kinglet bgp` lists them\n")));
    }
    let routes: Vec<ReportedRoute> = rows(speaker.rib(), selected).into_iter().map(route).collect();
    Some(Ok(if json { json_object("routes", &routes) } else { route_table(&routes) }))
}

fn json_object(name: &str, list: &impl Serialize) -> String {
    format!("{{\"{name}\":{}}}\n", serde_json::to_string(list).unwrap_or_default())
}

/// Returns the table of peers, one line for each.
fn peer_table(peers: &[PeerRow]) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{:<24} {:<16} {:>10} {:<12} {:<5} {:>10} {:>8} {:>8} {:>10}  LAST ERROR",
        "PEER", "NODE", "AS", "STATE", "BFD", "FOR", "RECEIVED", "ACCEPTED", "ADVERTISED"
    );
    for p in peers {
        let (addr, node) = (p.addr.to_string(), p.node.as_deref().unwrap_or("-"));
        let _ = writeln!(
            out,
            "{addr:<24} {node:<16} {:>10} {:<12} {:<5} {:>10} {:>8} {:>8} {:>10}  {}",
            p.asn,
            p.state,
            p.bfd.as_deref().unwrap_or("-"),
            span(p.uptime),
            p.received,
            p.accepted,
            p.advertised,
            p.error.as_deref().unwrap_or("")
        );
    }
    out
}

/// A route, as received or as advertised. The field names are the JSON names.
#[derive(Serialize)]
struct ReportedRoute {
    net: String,
    /// `None` if the next hop is this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_hop: Option<IpAddr>,
    /// The peer that advertised the route; `None` if this node originates it.
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
    /// True if the route is from before the peer's restart and was not advertised again yet (RFC 4724).
    stale: bool,
    best: bool,
    /// True if a route in the kernel uses this next hop.
    used: bool,
    /// The reason if the import policy refused the route.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'static str>,
}

fn route(shown: RouteRow) -> ReportedRoute {
    ReportedRoute {
        net: shown.net.to_string(),
        next_hop: shown.next_hop,
        from: shown.from,
        path: shown.path,
        origin: match shown.origin {
            OriginCode::Igp => "IGP",
            OriginCode::Egp => "EGP",
            OriginCode::Incomplete => "incomplete",
        },
        local_pref: shown.local_pref,
        med: shown.med,
        communities: shown.communities,
        stale: shown.stale,
        best: shown.best,
        used: shown.used,
        refused: shown.refused.map(RouteRejectReason::as_str),
    }
}

/// Returns the table of routes, one line for each, with a legend of the marks.
fn route_table(routes: &[ReportedRoute]) -> String {
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
        out.push_str("* in the kernel, > best, s stale (from before the peer's restart)\n");
    }
    out
}
