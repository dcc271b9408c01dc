//! The table of cases: at least those of kube-proxy's `TestCategorizeEndpoints`, each a sentence.
//!
//! An endpoint is a number, which is the last of its address 10.0.0.n, and words: `ready`, `serving`,
//! `terminating`, `here` (on this node), `zones=a+b`, `nodes=here+there`. `,` stands between
//! endpoints, `|` between slices; a slice that listens on another port than 80 begins with `81:`. An
//! expected endpoint is `1`, or `1:81`.

use std::net::IpAddr;

use super::{Choice, choose};
use crate::{
    cluster::{Endpoint, EndpointSlice, Name, Node, ServicePort, SlicePort},
    few::Sorted,
    state::Protocol,
};

/// A sentence, the zone of this node, the slices; what is chosen for Cluster and for Local, and
/// whether there is any.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str, bool);

#[rustfmt::skip]
const CASES: &[Case] = &[
    // Zone hints.
    ("zone hints are followed where every endpoint has them and one is for our zone",
        "a", "1 ready zones=a, 2 ready zones=b, 3 ready zones=c, 4 ready zones=a", "1 4", "", true),
    ("an endpoint may be meant for several zones",
        "c", "1 ready zones=a+b+c, 2 ready zones=b+c, 3 ready zones=b+d, 4 ready zones=c", "1 2 4", "", true),
    ("one ready endpoint without hints makes all hints void",
        "a", "1 ready zones=a, 2 ready zones=b, 3 ready", "1 2 3", "", true),
    ("empty hints are no hints",
        "a", "1 ready zones=a, 2 ready zones=", "1 2", "", true),
    ("hints for other zones only are void",
        "b", "1 ready zones=a, 2 ready zones=c", "1 2", "", true),
    ("a node without a zone ignores zone hints",
        "", "1 ready zones=a, 2 ready zones=b", "1 2", "", true),
    ("without any hints a node's zone does not matter",
        "a", "1 ready, 2 ready here", "1 2", "2", true),
    ("an endpoint that is not ready does not serve its zone",
        "a", "1 ready zones=a, 2 ready zones=b, 3 zones=a", "1", "", true),
    ("hints are void where only endpoints that are not ready are for our zone",
        "a", "1 zones=a, 2 ready zones=b, 3 ready zones=c, 4 zones=a", "2 3", "", true),
    ("an endpoint that is not ready needs no hints for those of others to count",
        "a", "1 ready zones=a, 2 ready zones=b, 3", "1", "", true),
    ("a terminating endpoint needs no hints for those of others to count",
        "a", "1 ready zones=a, 2 ready zones=b, 3 serving terminating", "1", "", true),
    ("zone names are compared whole, and as they are written",
        "a", "1 ready zones=A, 2 ready zones=aa", "1 2", "", true),
    ("a terminating endpoint of our zone does not keep us from ready ones elsewhere",
        "a", "1 serving terminating zones=a, 2 ready zones=b", "2", "", true),
    // Node hints.
    ("node hints are followed where every endpoint has them and one is for us",
        "", "1 ready nodes=here, 2 ready nodes=there, 3 ready nodes=here", "1 3", "", true),
    ("an endpoint may be meant for several nodes",
        "", "1 ready nodes=there+here, 2 ready nodes=there", "1", "", true),
    ("one ready endpoint without node hints makes them void",
        "", "1 ready nodes=here, 2 ready nodes=there, 3 ready", "1 2 3", "", true),
    ("node hints for other nodes only are void",
        "", "1 ready nodes=there, 2 ready nodes=yonder", "1 2", "", true),
    ("node hints go before zone hints",
        "a", "1 ready nodes=here zones=b, 2 ready nodes=there zones=a", "1", "", true),
    ("zone hints count where no node hint is for us",
        "a", "1 ready nodes=there zones=a, 2 ready nodes=yonder zones=b", "1", "", true),
    ("zone hints count where a node hint is missing",
        "a", "1 ready nodes=here zones=a, 2 ready zones=a, 3 ready zones=b", "1 2", "", true),
    ("no hints count where neither kind is complete",
        "a", "1 ready nodes=here, 2 ready zones=a", "1 2", "", true),
    ("no hints count where neither kind is for us",
        "a", "1 ready nodes=there zones=b, 2 ready nodes=yonder zones=c", "1 2", "", true),
    ("a node hint says where to be used, and not where the endpoint is",
        "", "1 ready here nodes=there, 2 ready nodes=here", "2", "1", true),
    ("node hints need no zone of the node",
        "", "1 ready nodes=here zones=a, 2 ready nodes=there zones=b", "1", "", true),
    ("node hints for us on an endpoint that is not ready are void",
        "a", "1 nodes=here zones=a, 2 ready nodes=there zones=a, 3 ready nodes=there zones=b", "2", "", true),
    // Local.
    ("without endpoints there is none to drop for",
        "", "", "", "", false),
    ("a slice without endpoints is no endpoint",
        "", "|", "", "", false),
    ("Local ignores zone hints",
        "a", "1 ready here zones=a, 2 ready here zones=b, 3 ready zones=c, 4 ready zones=a", "1 4", "1 2", true),
    ("Local ignores node hints",
        "", "1 ready here nodes=here, 2 ready here nodes=there, 3 ready nodes=there", "1", "1 2", true),
    ("remote endpoints only: Local has none, and there are some",
        "", "1 ready, 2 ready", "1 2", "", true),
    ("local endpoints only serve both policies",
        "", "1 ready here, 2 ready here", "1 2", "1 2", true),
    ("some local ones: Local takes those, Cluster takes all",
        "", "1 ready here, 2 ready", "1 2", "1", true),
    ("a local endpoint that is not ready does not serve",
        "", "1 here, 2 ready", "2", "", true),
    // Terminating.
    ("nothing ready or terminating: there is none",
        "", "1, 2 here", "", "", false),
    ("serving alone is not ready",
        "", "1 serving here, 2 serving", "", "", false),
    ("terminating without serving is gone",
        "", "1 terminating here, 2 terminating", "", "", false),
    ("all are terminating: those that serve still do",
        "", "1 serving terminating here, 2 serving terminating, 3 terminating, 4 terminating here", "1 2", "1", true),
    ("a ready endpoint anywhere keeps Cluster from the terminating ones",
        "", "1 ready, 2 serving terminating, 3 serving terminating", "1", "", true),
    ("a ready local endpoint keeps Local from the terminating ones",
        "", "1 ready here, 2 serving terminating here", "1", "1", true),
    ("Local falls back to local terminating ones while Cluster has ready ones",
        "", "1 serving terminating here, 2 ready", "2", "1", true),
    ("Cluster falls back without hints of where",
        "a", "1 serving terminating zones=a nodes=here, 2 serving terminating zones=b nodes=there", "1 2", "", true),
    ("remote terminating ones only: Local has none, and there are some",
        "", "1 serving terminating, 2 terminating here", "1", "", true),
    ("ready goes before terminating where the Service publishes what is not ready",
        "", "1 ready serving terminating here, 2 serving terminating here", "1", "1", true),
    ("Local falls back independently of hints that Cluster follows",
        "a", "1 serving terminating here zones=a, 2 ready zones=a, 3 ready zones=b", "2", "1", true),
    // Several slices.
    ("slices are merged",
        "", "1 ready here | 2 ready", "1 2", "1", true),
    ("each slice has its own port number",
        "", "1 ready | 81: 1 ready here, 2 ready", "1 1:81 2:81", "1:81", true),
    ("duplicates count once, and ready wins",
        "", "1 serving terminating here | 1 ready here, 2 serving terminating", "1", "1", true),
    ("ready wins if it comes first, too",
        "", "1 ready here | 1 here", "1", "1", true),
    ("a duplicate is local if any slice says so",
        "", "1 ready | 1 here", "1", "1", true),
    ("a duplicate that is not ready brings no hints, and takes none",
        "a", "1 ready zones=a, 2 ready zones=b | 1, 2 zones=a", "1", "", true),
    ("hints count over all slices",
        "a", "1 ready zones=a | 2 ready", "1 2", "", true),
    ("hints of ready duplicates add up",
        "a", "1 ready zones=b, 2 ready zones=b | 1 ready zones=a", "1", "", true),
    ("port number 0 is no endpoint",
        "", "0: 1 ready here, 2 ready", "", "", false),
    ("port number 0 takes nothing from other slices",
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
                // The API server never lets a ready endpoint be without serving.
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

fn expected(list: &str) -> Sorted<(IpAddr, u16)> {
    let one = |text: &str| {
        let (n, port) = text.split_once(':').unwrap_or((text, "80"));
        (addr(n), port.parse().unwrap())
    };
    list.split_whitespace().map(one).collect()
}

/// What this node, in a zone or in none, chooses.
fn chosen(slices: &[EndpointSlice], port: &ServicePort, ipv4: bool, zone: &str) -> Choice {
    let zone = Some(zone).filter(|zone| !zone.is_empty()).map(Into::into);
    let node = Node { name: "here".into(), zone, ..Node::default() };
    choose(slices, port, ipv4, &node)
}

#[test]
fn each_sentence_of_the_table_holds() {
    for &(sentence, zone, slices, cluster, local, any) in CASES {
        let mut slices: Vec<EndpointSlice> = slices.split('|').map(slice).collect();
        let want = Choice { cluster: expected(cluster), local: expected(local), any };
        assert_eq!(chosen(&slices, &http(), true, zone), want, "{sentence}");
        slices.reverse();
        assert_eq!(chosen(&slices, &http(), true, zone), want, "{sentence}, in whatever order");
    }
}

#[test]
fn only_endpoints_of_the_family_are_chosen() {
    let mut slice = slice("1 ready here, 2 ready here");
    slice.endpoints[1].addr = "fd00::2".parse().unwrap();
    let got = chosen(std::slice::from_ref(&slice), &http(), true, "");
    assert_eq!(got, Choice { cluster: expected("1"), local: expected("1"), any: true });
    let got = chosen(&[slice], &http(), false, "");
    assert_eq!(got.cluster, Sorted::from([("fd00::2".parse().unwrap(), 80)]));
}

#[test]
fn a_family_without_hints_does_not_make_those_of_the_other_void() {
    let mut slice = slice("1 ready zones=a, 2 ready zones=b, 3 ready");
    slice.endpoints[2].addr = "fd00::3".parse().unwrap();
    assert_eq!(chosen(&[slice], &http(), true, "a").cluster, expected("1"));
}

#[test]
fn a_port_of_another_name_or_protocol_has_no_endpoint() {
    let slices = [slice("1 ready here")];
    let udp = ServicePort { protocol: Protocol::Udp, ..http() };
    let other = ServicePort { name: "".into(), ..http() };
    assert_eq!(chosen(&slices, &udp, true, ""), Choice::default());
    assert_eq!(chosen(&slices, &other, true, ""), Choice::default());
}

#[test]
fn an_endpoint_without_a_node_is_not_local() {
    let mut slice = slice("1 ready here");
    slice.endpoints[0].node = None;
    assert_eq!(chosen(&[slice], &http(), true, "").local, Sorted::new());
}
