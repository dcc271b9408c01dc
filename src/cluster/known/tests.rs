use super::*;
use crate::cluster::{Node, Service};

const ALL: [Kind; 3] = [Kind::Node, Kind::Service, Kind::EndpointSlice];

fn name(name: &str) -> Name {
    Name { namespace: "shop".into(), name: name.into() }
}

fn service(short: &str, affinity: u32) -> Object {
    Object::Service(Service { name: name(short), affinity, ..Service::default() })
}

fn slice(short: &str, of: &str, ends: &[u8]) -> Object {
    let endpoint = |last: &u8| crate::cluster::Endpoint {
        addr: [10, 244, 1, *last].into(),
        ready: true,
        serving: true,
        terminating: false,
        node: None,
        hints: None,
    };
    let endpoints = ends.iter().map(endpoint).collect();
    let (service, ports) = (Some(of.into()), Vec::new());
    Object::EndpointSlice(EndpointSlice { name: name(short), service, endpoints, ports })
}

fn node(short: &str) -> Object {
    Object::Node(Node { name: short.into(), ..Node::default() })
}

fn listed(kind: Kind, objects: Vec<Object>, bad: &[&str]) -> News {
    let mut reading = Reading::default();
    objects.into_iter().for_each(|object| reading.cluster.insert(object));
    reading.bad = bad
        .iter()
        .map(|name| Bad { kind, name: (*name).into(), why: "it is odd".into() })
        .collect();
    reading.versions.insert(kind, "7".into());
    News { kind, what: What::All(reading) }
}

fn updated(kind: Kind, short: &str, now: Result<Vec<Object>, String>) -> News {
    let name =
        if kind == Kind::Node { Name { namespace: "".into(), ..name(short) } } else { name(short) };
    News { kind, what: What::One { name, now, version: "8".into() } }
}

/// Returns a store in which every kind is up to date.
fn known() -> Known {
    let mut known = Known::new(Cluster::default(), Few::new(), &ALL);
    known.hear(listed(Kind::Node, vec![node("a"), node("b")], &[]));
    known.hear(listed(Kind::Service, vec![service("web", 0), service("db", 0)], &[]));
    known.hear(listed(Kind::EndpointSlice, vec![slice("web-1", "web", &[1, 2])], &[]));
    assert!(known.is_complete() && known.cluster.doubtful.is_empty());
    known
}

fn services(names: &[&str]) -> Changes {
    let services = names.iter().map(|short| name(short)).collect();
    Changes { services, ..Changes::default() }
}

#[test]
fn a_kind_is_doubtful_until_it_is_up_to_date_in_this_run() {
    let mut known = Known::new(known().cluster, Few::new(), &ALL);
    assert_eq!(known.cluster.doubtful, Sorted::from(ALL));
    let reached = |kind| News { kind, what: What::Reached("9".into()) };
    assert!(known.hear(reached(Kind::Node)).all);
    assert_eq!(known.cluster.doubtful, Sorted::from([Kind::Service, Kind::EndpointSlice]));
    known.hear(updated(Kind::Service, "web", Ok(vec![])));
    assert!(known.cluster.doubtful.contains(&Kind::Service), "more changes may follow");
    known.hear(reached(Kind::Service));
    assert!(!known.is_complete());
    assert!(known.hear(reached(Kind::EndpointSlice)).all);
    assert!(known.is_complete() && known.cluster.doubtful.is_empty());
    assert_eq!(known.versions.get(&Kind::Node), Some(&"9".to_owned()));
}

#[test]
fn an_update_returns_the_services_that_it_affects() {
    let mut known = known();
    let same = updated(Kind::Service, "web", Ok(vec![service("web", 0)]));
    assert!(known.hear(same).is_empty(), "the object is equal");
    let put = |object| Ok(vec![object]);
    let got = known.hear(updated(Kind::Service, "web", put(service("web", 60))));
    assert_eq!(got, services(&["web"]));
    let got = known.hear(updated(Kind::EndpointSlice, "web-1", put(slice("web-1", "db", &[1]))));
    assert_eq!(got, services(&["db", "web"]), "a slice that moved to another Service");
    let got = known.hear(updated(Kind::EndpointSlice, "web-1", Ok(vec![])));
    assert_eq!(got, services(&["db"]));
    assert!(known.cluster.slices.is_empty());
    assert!(known.hear(updated(Kind::Node, "b", Ok(vec![]))).nodes);
    assert_eq!(known.cluster.nodes.len(), 1);
    assert!(known.hear(updated(Kind::Node, "b", Ok(vec![]))).is_empty(), "a repeated deletion");
}

#[test]
fn a_list_returns_only_the_services_that_differ() {
    let mut known = known();
    let list = vec![service("web", 0), service("db", 9), service("new", 0)];
    assert_eq!(known.hear(listed(Kind::Service, list, &[])), services(&["db", "new"]));
    let list = vec![service("web", 0), service("new", 0)];
    assert_eq!(known.hear(listed(Kind::Service, list, &[])), services(&["db"]));
    assert_eq!(known.cluster.services.len(), 2);
    assert!(!known.hear(listed(Kind::Node, vec![node("b"), node("a")], &[])).nodes);
}

#[test]
fn the_slices_of_core_endpoints_are_deleted_with_their_object() {
    let mut known = known();
    let two = vec![slice("web/0", "web", &[1]), slice("web/1", "web", &[2])];
    known.hear(updated(Kind::EndpointSlice, "web", Ok(two)));
    assert_eq!(known.cluster.slices.len(), 3);
    let got = known.hear(updated(Kind::EndpointSlice, "web", Ok(vec![])));
    assert_eq!((got, known.cluster.slices.len()), (services(&["web"]), 1));
}

#[test]
fn an_invalid_object_keeps_its_last_good_version() {
    let mut known = known();
    let got = known.hear(updated(Kind::Service, "web", Err("it is odd".into())));
    assert!(got.is_empty() && known.cluster.doubtful.is_empty());
    let got = known.hear(listed(Kind::Service, vec![service("db", 0)], &["shop/web"]));
    assert!(got.is_empty() && known.cluster.services.len() == 2);
    let texts: Vec<_> = known.complaints().map(|bad| bad.to_string()).collect();
    let text =
        "Service shop/web could not be understood: it is odd; its previous version stays in force";
    assert_eq!(texts, [text]);
    known.hear(updated(Kind::Service, "web", Ok(vec![])));
    assert_eq!((known.complaints().count(), known.cluster.services.len()), (0, 1));
}

#[test]
fn an_invalid_object_without_an_earlier_version_makes_its_kind_doubtful() {
    let mut known = known();
    assert!(known.hear(updated(Kind::Service, "new", Err("it is odd".into()))).all);
    assert_eq!(known.cluster.doubtful, Sorted::from([Kind::Service]));
    let got = known.hear(updated(Kind::Service, "new", Ok(vec![service("new", 0)])));
    assert!(got.all && got.services.contains(&name("new")));
    assert!(known.cluster.doubtful.is_empty());
    assert!(known.hear(listed(Kind::Node, vec![node("a"), node("b")], &["no. 3 of the list"])).all);
    assert!(known.hear(listed(Kind::Node, vec![node("a"), node("b")], &[])).all);
}

#[test]
fn a_list_that_is_suddenly_empty_is_ignored_and_makes_its_kind_doubtful() {
    let mut known = known();
    assert!(known.hear(listed(Kind::Node, vec![], &[])).all);
    assert_eq!((known.cluster.nodes.len(), known.complaints().count()), (2, 1));
    assert!(known.cluster.doubtful.contains(&Kind::Node));
    let got = known.hear(listed(Kind::Node, vec![node("a")], &[]));
    assert!(got.all && got.nodes && known.cluster.doubtful.is_empty());
    let got = known.hear(updated(Kind::Node, "a", Ok(vec![])));
    assert!(
        got.nodes && known.cluster.nodes.is_empty(),
        "an explicit deletion of the last one is applied"
    );
}

#[test]
fn a_kind_that_can_t_be_followed_keeps_its_objects_and_recovers() {
    let mut known = known();
    let lost = News { kind: Kind::Service, what: What::Lost("403 Forbidden".into()) };
    assert!(known.hear(lost).is_empty());
    assert_eq!((known.lost.len(), known.cluster.services.len()), (1, 2));
    known.hear(News { kind: Kind::Service, what: What::Reached("9".into()) });
    assert!(known.lost.is_empty());
}
