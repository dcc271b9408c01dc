//! The cases of endpoint selection as a table, with at least the cases of kube-proxy's
//! `TestCategorizeEndpoints`.
//!
//! An endpoint is a number, which is the last one of its address 10.0.0.n, followed by words:
//! `ready`, `serving`, `terminating`, `here` (on this node), `zones=a+b`, `nodes=here+there`. `,`
//! separates endpoints, `|` separates slices. A slice with another port than 80 begins with its
//! number, for example `81:`. An expected endpoint is `1`, or `1:81` for another port.

use std::net::IpAddr;

use super::endpoints::{Choice, choose};
use crate::{
    collections::FlatSet,
    family::Family,
    model::{
        cluster::{Endpoint, EndpointSlice, Name, Node, ServicePort, SlicePort},
        items::Protocol,
    },
};

/// A sentence, the zone of this node, the slices; then the expected endpoints for Cluster and for
/// Local, and the expected value of `any`.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str, bool);

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Zone hints.
    ("zone hints are followed if every endpoint has them and one is for our zone",
        "a", "1 ready zones=a, 2 ready zones=b, 3 ready zones=c, 4 ready zones=a", "1 4", "", true),
    ("an endpoint may have hints for several zones",
        "c", "1 ready zones=a+b+c, 2 ready zones=b+c, 3 ready zones=b+d, 4 ready zones=c", "1 2 4", "", true),
    ("one ready endpoint without hints disables all hints",
        "a", "1 ready zones=a, 2 ready zones=b, 3 ready", "1 2 3", "", true),
    ("empty hints count as missing",
        "a", "1 ready zones=a, 2 ready zones=", "1 2", "", true),
    ("hints are ignored if they are for other zones only",
        "b", "1 ready zones=a, 2 ready zones=c", "1 2", "", true),
    ("a node without a zone ignores zone hints",
        "", "1 ready zones=a, 2 ready zones=b", "1 2", "", true),
    ("without any hints a node's zone does not matter",
        "a", "1 ready, 2 ready here", "1 2", "2", true),
    ("an endpoint that is not ready is not selected for its zone",
        "a", "1 ready zones=a, 2 ready zones=b, 3 zones=a", "1", "", true),
    ("hints are ignored if only endpoints that are not ready are for our zone",
        "a", "1 zones=a, 2 ready zones=b, 3 ready zones=c, 4 zones=a", "2 3", "", true),
    ("an endpoint that is not ready and has no hints does not disable the others'",
        "a", "1 ready zones=a, 2 ready zones=b, 3", "1", "", true),
    ("a terminating endpoint without hints does not disable the others'",
        "a", "1 ready zones=a, 2 ready zones=b, 3 serving terminating", "1", "", true),
    ("zone names are compared whole and with their case",
        "a", "1 ready zones=A, 2 ready zones=aa", "1 2", "", true),
    ("a ready endpoint elsewhere is preferred to a terminating one of our zone",
        "a", "1 serving terminating zones=a, 2 ready zones=b", "2", "", true),
    // Node hints.
    ("node hints are followed if every endpoint has them and one is for this node",
        "", "1 ready nodes=here, 2 ready nodes=there, 3 ready nodes=here", "1 3", "", true),
    ("an endpoint may have hints for several nodes",
        "", "1 ready nodes=there+here, 2 ready nodes=there", "1", "", true),
    ("one ready endpoint without node hints disables them",
        "", "1 ready nodes=here, 2 ready nodes=there, 3 ready", "1 2 3", "", true),
    ("node hints are ignored if they are for other nodes only",
        "", "1 ready nodes=there, 2 ready nodes=yonder", "1 2", "", true),
    ("node hints take precedence over zone hints",
        "a", "1 ready nodes=here zones=b, 2 ready nodes=there zones=a", "1", "", true),
    ("zone hints are followed if no node hint is for this node",
        "a", "1 ready nodes=there zones=a, 2 ready nodes=yonder zones=b", "1", "", true),
    ("zone hints are followed if a node hint is missing",
        "a", "1 ready nodes=here zones=a, 2 ready zones=a, 3 ready zones=b", "1 2", "", true),
    ("all hints are ignored if neither kind is complete",
        "a", "1 ready nodes=here, 2 ready zones=a", "1 2", "", true),
    ("all hints are ignored if neither kind is for this node",
        "a", "1 ready nodes=there zones=b, 2 ready nodes=yonder zones=c", "1 2", "", true),
    ("a node hint names the node that uses the endpoint, not the node that has it",
        "", "1 ready here nodes=there, 2 ready nodes=here", "2", "1", true),
    ("node hints are followed on a node without a zone",
        "", "1 ready nodes=here zones=a, 2 ready nodes=there zones=b", "1", "", true),
    ("node hints for this node are ignored on an endpoint that is not ready",
        "a", "1 nodes=here zones=a, 2 ready nodes=there zones=a, 3 ready nodes=there zones=b", "2", "", true),
    // Local.
    ("without endpoints any is false",
        "", "", "", "", false),
    ("without endpoints in its slices any is false",
        "", "|", "", "", false),
    ("Local ignores zone hints",
        "a", "1 ready here zones=a, 2 ready here zones=b, 3 ready zones=c, 4 ready zones=a", "1 4", "1 2", true),
    ("Local ignores node hints",
        "", "1 ready here nodes=here, 2 ready here nodes=there, 3 ready nodes=there", "1", "1 2", true),
    ("remote endpoints only: Local has none and any is true",
        "", "1 ready, 2 ready", "1 2", "", true),
    ("local endpoints only: both policies select them",
        "", "1 ready here, 2 ready here", "1 2", "1 2", true),
    ("some local endpoints: Local selects those, Cluster selects all",
        "", "1 ready here, 2 ready", "1 2", "1", true),
    ("a local endpoint that is not ready is not selected",
        "", "1 here, 2 ready", "2", "", true),
    // Terminating.
    ("nothing ready or terminating: any is false",
        "", "1, 2 here", "", "", false),
    ("serving without ready or terminating is not selected",
        "", "1 serving here, 2 serving", "", "", false),
    ("terminating without serving is not selected",
        "", "1 terminating here, 2 terminating", "", "", false),
    ("all are terminating: those that still serve are selected",
        "", "1 serving terminating here, 2 serving terminating, 3 terminating, 4 terminating here", "1 2", "1", true),
    ("Cluster selects no terminating endpoint while any endpoint is ready",
        "", "1 ready, 2 serving terminating, 3 serving terminating", "1", "", true),
    ("Local selects no terminating endpoint while a local one is ready",
        "", "1 ready here, 2 serving terminating here", "1", "1", true),
    ("Local falls back to local terminating ones while Cluster has ready ones",
        "", "1 serving terminating here, 2 ready", "2", "1", true),
    ("Cluster ignores hints when it falls back to terminating endpoints",
        "a", "1 serving terminating zones=a nodes=here, 2 serving terminating zones=b nodes=there", "1 2", "", true),
    ("remote terminating endpoints only: Local has none and any is true",
        "", "1 serving terminating, 2 terminating here", "1", "", true),
    ("a terminating endpoint that is published as ready is preferred to one that is not",
        "", "1 ready serving terminating here, 2 serving terminating here", "1", "1", true),
    ("Local falls back to terminating endpoints while Cluster follows hints",
        "a", "1 serving terminating here zones=a, 2 ready zones=a, 3 ready zones=b", "2", "1", true),
    // Several slices.
    ("slices are merged",
        "", "1 ready here | 2 ready", "1 2", "1", true),
    ("each slice has its own port number",
        "", "1 ready | 81: 1 ready here, 2 ready", "1 1:81 2:81", "1:81", true),
    ("duplicates count once, and the ready one wins",
        "", "1 serving terminating here | 1 ready here, 2 serving terminating", "1", "1", true),
    ("the ready duplicate wins if it comes first, too",
        "", "1 ready here | 1 here", "1", "1", true),
    ("a duplicate is local if it is local in any slice",
        "", "1 ready | 1 here", "1", "1", true),
    ("a duplicate that is not ready neither adds nor removes hints",
        "a", "1 ready zones=a, 2 ready zones=b | 1, 2 zones=a", "1", "", true),
    ("hints must be complete over all slices",
        "a", "1 ready zones=a | 2 ready", "1 2", "", true),
    ("hints of ready duplicates are merged",
        "a", "1 ready zones=b, 2 ready zones=b | 1 ready zones=a", "1", "", true),
    ("a slice with port number 0 has no endpoints",
        "", "0: 1 ready here, 2 ready", "", "", false),
    ("a slice with port number 0 does not affect other slices",
        "", "0: 1 ready | 2 ready", "2", "", true),
];

fn names(list: &str) -> Vec<Box<str>> {
    list.split('+').filter(|name| !name.is_empty()).map(Into::into).collect()
}

fn addr(n: &str) -> IpAddr {
    format!("10.0.0.{n}").parse().unwrap()
}

fn endpoint(text: &str) -> Endpoint {
    let mut words = text.split_whitespace();
    let mut endpoint = Endpoint {
        addr: addr(words.next().unwrap()),
        ready: false,
        serving: false,
        terminating: false,
        node: Some("there".into()),
        hints: None,
    };
    for word in words {
        match word.split_once('=') {
            Some(("zones", list)) => endpoint.hints.get_or_insert_default().zones = names(list),
            Some(("nodes", list)) => endpoint.hints.get_or_insert_default().nodes = names(list),
            _ => match word {
                // In the API, `ready` implies `serving`.
                "ready" => (endpoint.ready, endpoint.serving) = (true, true),
                "serving" => endpoint.serving = true,
                "terminating" => endpoint.terminating = true,
                "here" => endpoint.node = Some("here".into()),
                _ => panic!("{word:?} in {text:?}"),
            },
        }
    }
    endpoint
}

fn slice(text: &str) -> EndpointSlice {
    let (port, endpoints) = text.split_once(':').unwrap_or(("80", text));
    let endpoints = endpoints.split(',').filter(|text| !text.trim().is_empty());
    EndpointSlice {
        name: Name { namespace: "shop".into(), name: "web-1".into() },
        service: Some("web".into()),
        endpoints: endpoints.map(endpoint).collect(),
        ports: vec![SlicePort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: port.trim().parse().unwrap(),
        }],
    }
}

fn http() -> ServicePort {
    ServicePort { name: "http".into(), protocol: Protocol::Tcp, port: 8080, node_port: None }
}

fn expected(list: &str) -> FlatSet<(IpAddr, u16)> {
    let one = |text: &str| {
        let (n, port) = text.split_once(':').unwrap_or((text, "80"));
        (addr(n), port.parse().unwrap())
    };
    list.split_whitespace().map(one).collect()
}

/// Returns the choice of this node, which is in a zone or (if empty) in none.
fn choice(slices: &[EndpointSlice], port: &ServicePort, family: Family, zone: &str) -> Choice {
    let zone = Some(zone).filter(|zone| !zone.is_empty()).map(Into::into);
    let node = Node { name: "here".into(), zone, ..Node::default() };
    choose(slices, port, family, &node)
}

#[test]
fn each_case_of_the_table_holds_in_any_order_of_the_slices() {
    for &(sentence, zone, slices, cluster, local, any) in CASES {
        let mut slices: Vec<EndpointSlice> = slices.split('|').map(slice).collect();
        let want = Choice { cluster: expected(cluster), local: expected(local), any };
        assert_eq!(choice(&slices, &http(), Family::Ipv4, zone), want, "{sentence}");
        slices.reverse();
        assert_eq!(
            choice(&slices, &http(), Family::Ipv4, zone),
            want,
            "{sentence}, with the slices reversed"
        );
    }
}

#[test]
fn only_endpoints_of_the_family_are_chosen() {
    let mut slice = slice("1 ready here, 2 ready here");
    slice.endpoints[1].addr = "fd00::2".parse().unwrap();
    let got = choice(std::slice::from_ref(&slice), &http(), Family::Ipv4, "");
    assert_eq!(got, Choice { cluster: expected("1"), local: expected("1"), any: true });
    let got = choice(&[slice], &http(), Family::Ipv6, "");
    assert_eq!(got.cluster, FlatSet::from([("fd00::2".parse().unwrap(), 80)]));
}

#[test]
fn endpoints_without_hints_do_not_disable_the_hints_of_the_other_family() {
    let mut slice = slice("1 ready zones=a, 2 ready zones=b, 3 ready");
    slice.endpoints[2].addr = "fd00::3".parse().unwrap();
    assert_eq!(choice(&[slice], &http(), Family::Ipv4, "a").cluster, expected("1"));
}

#[test]
fn a_port_that_matches_no_slice_by_name_and_protocol_has_no_endpoints() {
    let slices = [slice("1 ready here")];
    let udp = ServicePort { protocol: Protocol::Udp, ..http() };
    let other = ServicePort { name: "".into(), ..http() };
    assert_eq!(choice(&slices, &udp, Family::Ipv4, ""), Choice::default());
    assert_eq!(choice(&slices, &other, Family::Ipv4, ""), Choice::default());
}

#[test]
fn an_endpoint_without_a_node_is_not_local() {
    let mut slice = slice("1 ready here");
    slice.endpoints[0].node = None;
    assert_eq!(choice(&[slice], &http(), Family::Ipv4, "").local, FlatSet::new());
}
