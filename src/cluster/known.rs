//! The cluster as it is heard of, piece by piece: what the API says is taken in, and the last good
//! state is never lost.
//!
//! An object that can't be understood keeps its last good version. A kind of which something is not
//! known for sure is doubtful: its objects count, and nothing that it feeds is taken away.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use super::{Cluster, EndpointSlice, Kind, Name, Object};

/// The objects of one or more kinds as they were read.
#[derive(Debug, Default)]
pub struct Reading {
    /// What was understood. Kinds with a bad object are doubtful.
    pub cluster: Cluster,
    /// What was not.
    pub bad: Vec<Bad>,
    /// The resourceVersion of each kind's list: where a watch goes on.
    pub versions: BTreeMap<Kind, String>,
}

/// An object that could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// What it feeds.
    pub kind: Kind,
    /// namespace/name, or its number in the list where it has none.
    pub name: String,
    /// The path of the field, and what is wrong with it.
    pub why: String,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} could not be understood: {}", self.kind.name(), self.name, self.why)
    }
}

/// What the API said of one kind.
#[derive(Debug)]
pub struct News {
    /// Of which kind.
    pub kind: Kind,
    /// What.
    pub what: What,
}

/// What there is to say of a kind.
#[derive(Debug)]
pub enum What {
    /// All its objects; the resourceVersion of the list is with them.
    All(Reading),
    /// One object as it is now: none where it is gone, several where core Endpoints have several
    /// subsets. `Err`: why it could not be understood.
    One {
        /// Namespace (none for a Node) and name.
        name: Name,
        /// As it is now.
        now: Result<Vec<Object>, String>,
        /// The resourceVersion that is reached with it.
        version: String,
    },
    /// Nothing changed up to this resourceVersion.
    Reached(String),
    /// The API can't be followed now, and why; it is tried again.
    Lost(String),
}

/// What is to be worked out again.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// All of it: what is doubtful is something else than before.
    pub all: bool,
    /// What comes from Nodes.
    pub nodes: bool,
    /// What comes from these Services and their slices.
    pub services: BTreeSet<Name>,
}

impl Changes {
    /// Whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }

    /// Takes in what else changed.
    pub fn join(&mut self, mut other: Changes) {
        self.all |= other.all;
        self.nodes |= other.nodes;
        self.services.append(&mut other.services);
    }
}

/// All that is known of the cluster, and how far it is known.
#[derive(Debug)]
pub struct Known {
    /// The last good state. Its `doubtful` kinds follow from all that is below.
    pub cluster: Cluster,
    /// How far each kind was followed: where a watch goes on.
    pub versions: BTreeMap<Kind, String>,
    /// The kinds that can't be followed now, and why.
    pub lost: BTreeMap<Kind, String>,
    /// Objects that could not be understood, by kind and name, with the reason, and whether the
    /// version before stands in for them.
    bad: BTreeMap<(Kind, String), (String, bool)>,
    /// Kinds of which the API has said nothing yet in this run.
    unheard: BTreeSet<Kind>,
    /// Kinds of which the API suddenly listed nothing.
    emptied: BTreeSet<Kind>,
}

impl Known {
    /// What is known at the start: nothing, or what a snapshot told. `kinds` will be heard of.
    pub fn new(cluster: Cluster, versions: BTreeMap<Kind, String>, kinds: &[Kind]) -> Known {
        let mut known = Known {
            cluster,
            versions,
            lost: BTreeMap::new(),
            bad: BTreeMap::new(),
            unheard: kinds.iter().copied().collect(),
            emptied: BTreeSet::new(),
        };
        known.settle();
        known
    }

    /// The Services that news of one object is about, as it was and as it is: what follows from them
    /// may change when it is heard.
    pub fn touches(&self, news: &News) -> BTreeSet<Name> {
        let mut changes = Changes::default();
        if let What::One { name, now: Ok(now), .. } = &news.what {
            let before = self.cluster.get(news.kind, name);
            if before != *now {
                before.iter().chain(now).for_each(|object| changes.touch(object));
            }
        }
        changes.services
    }

    /// Takes in what the API said.
    pub fn hear(&mut self, news: News) -> Changes {
        let kind = news.kind;
        // A single object may be the first of many that changed since the snapshot.
        if !matches!(news.what, What::Lost(_) | What::One { .. }) {
            self.unheard.remove(&kind);
        }
        let mut changes = match news.what {
            What::Lost(why) => {
                self.lost.insert(kind, why);
                return Changes::default();
            }
            What::Reached(version) => {
                self.versions.insert(kind, version);
                Changes::default()
            }
            What::One { name, now, version } => {
                self.versions.insert(kind, version);
                self.one(kind, &name, now)
            }
            What::All(mut reading) => {
                self.versions.append(&mut reading.versions);
                self.all(kind, reading)
            }
        };
        self.lost.remove(&kind);
        changes.all |= self.settle();
        changes
    }

    /// Whether anything is known of Nodes, without which nothing can be said.
    pub fn has_nodes(&self) -> bool {
        !self.cluster.nodes.is_empty() || !self.unheard.contains(&Kind::Node)
    }

    /// Whether the API has told of every kind in this run.
    pub fn is_complete(&self) -> bool {
        self.unheard.is_empty()
    }

    /// What is not as it should be: objects that were not understood, and lists that are not believed.
    pub fn complaints(&self) -> impl Iterator<Item = Bad> {
        let bad = self.bad.iter().map(|((kind, name), (why, kept))| {
            let kept = if *kept { "; the version before it stays in force" } else { "" };
            Bad { kind: *kind, name: name.clone(), why: format!("{why}{kept}") }
        });
        bad.chain(self.emptied.iter().map(|kind| {
            let why =
                format!("the API lists no {} any more; the last good ones stay", kind.plural());
            Bad { kind: *kind, name: "list".to_owned(), why }
        }))
    }

    /// Works out which kinds are doubtful, and says whether that changed.
    fn settle(&mut self) -> bool {
        let lacking = self.bad.iter().filter(|(_, (_, kept))| !kept).map(|((kind, _), _)| kind);
        let doubtful = lacking.chain(&self.unheard).chain(&self.emptied).copied().collect();
        let changed = self.cluster.doubtful != doubtful;
        self.cluster.doubtful = doubtful;
        changed
    }

    fn one(&mut self, kind: Kind, name: &Name, now: Result<Vec<Object>, String>) -> Changes {
        match now {
            Ok(objects) => {
                self.bad.remove(&(kind, name.to_string()));
                let before = self.cluster.remove(kind, name);
                let mut changes = Changes::default();
                if before != objects {
                    before.iter().chain(&objects).for_each(|object| changes.touch(object));
                }
                objects.into_iter().for_each(|object| self.cluster.insert(object));
                changes
            }
            Err(why) => {
                let kept = !self.cluster.get(kind, name).is_empty();
                self.bad.insert((kind, name.to_string()), (why, kept));
                Changes::default()
            }
        }
    }

    fn all(&mut self, kind: Kind, reading: Reading) -> Changes {
        let Reading { mut cluster, bad, .. } = reading;
        // There is always a Service named kubernetes, and our own Node.
        let emptied = cluster.is_empty_of(kind) && !self.cluster.is_empty_of(kind);
        if emptied && bad.is_empty() {
            self.emptied.insert(kind);
            return Changes::default();
        }
        self.emptied.remove(&kind);
        self.bad.retain(|(of, _), _| *of != kind);
        for Bad { name, why, .. } in bad {
            let (namespace, short) = name.split_once('/').unwrap_or(("", &name));
            let key = Name { namespace: namespace.into(), name: short.into() };
            let last = self.cluster.get(kind, &key);
            let kept = !last.is_empty();
            last.into_iter().for_each(|object| cluster.insert(object));
            self.bad.insert((kind, name), (why, kept));
        }
        let mut changes = Changes::default();
        match kind {
            Kind::Node => {
                changes.nodes = self.cluster.nodes != cluster.nodes;
                self.cluster.nodes = cluster.nodes;
            }
            Kind::Service => {
                changes.services =
                    different(&self.cluster.services, &cluster.services, |s| Some(s.name.clone()));
                self.cluster.services = cluster.services;
            }
            Kind::EndpointSlice => {
                let of = EndpointSlice::of;
                changes.services = different(&self.cluster.slices, &cluster.slices, of);
                self.cluster.slices = cluster.slices;
            }
        }
        changes
    }
}

impl Changes {
    fn touch(&mut self, object: &Object) {
        match object {
            Object::Node(_) => self.nodes = true,
            Object::Service(service) => drop(self.services.insert(service.name.clone())),
            Object::EndpointSlice(slice) => self.services.extend(slice.of()),
        }
    }
}

/// The Services of all values that are in one map and not, or not the same, in the other.
fn different<V: PartialEq>(
    a: &BTreeMap<Name, V>,
    b: &BTreeMap<Name, V>,
    of: impl Fn(&V) -> Option<Name>,
) -> BTreeSet<Name> {
    let only = |a: &BTreeMap<Name, V>, b: &BTreeMap<Name, V>| -> Vec<Name> {
        a.iter().filter(|(k, v)| b.get(k) != Some(v)).filter_map(|(_, v)| of(v)).collect()
    };
    only(a, b).into_iter().chain(only(b, a)).collect()
}

#[cfg(test)]
mod tests {
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

    fn all(kind: Kind, objects: Vec<Object>, bad: &[&str]) -> News {
        let mut reading = Reading::default();
        objects.into_iter().for_each(|object| reading.cluster.insert(object));
        reading.bad = bad
            .iter()
            .map(|name| Bad { kind, name: (*name).into(), why: "it is odd".into() })
            .collect();
        reading.versions.insert(kind, "7".into());
        News { kind, what: What::All(reading) }
    }

    fn one(kind: Kind, short: &str, now: Result<Vec<Object>, String>) -> News {
        let name = if kind == Kind::Node {
            Name { namespace: "".into(), ..name(short) }
        } else {
            name(short)
        };
        News { kind, what: What::One { name, now, version: "8".into() } }
    }

    /// A cluster of which everything is known.
    fn known() -> Known {
        let mut known = Known::new(Cluster::default(), BTreeMap::new(), &ALL);
        known.hear(all(Kind::Node, vec![node("a"), node("b")], &[]));
        known.hear(all(Kind::Service, vec![service("web", 0), service("db", 0)], &[]));
        known.hear(all(Kind::EndpointSlice, vec![slice("web-1", "web", &[1, 2])], &[]));
        assert!(known.is_complete() && known.cluster.doubtful.is_empty());
        known
    }

    fn services(names: &[&str]) -> Changes {
        let services = names.iter().map(|short| name(short)).collect();
        Changes { services, ..Changes::default() }
    }

    #[test]
    fn what_has_not_been_heard_of_in_this_run_is_doubtful() {
        let mut known = Known::new(known().cluster, BTreeMap::new(), &ALL);
        assert_eq!(known.cluster.doubtful, BTreeSet::from(ALL));
        let reached = |kind| News { kind, what: What::Reached("9".into()) };
        assert!(known.hear(reached(Kind::Node)).all);
        assert_eq!(known.cluster.doubtful, BTreeSet::from([Kind::Service, Kind::EndpointSlice]));
        known.hear(one(Kind::Service, "web", Ok(vec![])));
        assert!(known.cluster.doubtful.contains(&Kind::Service), "more may have changed");
        known.hear(reached(Kind::Service));
        assert!(!known.is_complete());
        assert!(known.hear(reached(Kind::EndpointSlice)).all);
        assert!(known.is_complete() && known.cluster.doubtful.is_empty());
        assert_eq!(known.versions[&Kind::Node], "9");
    }

    #[test]
    fn a_change_names_the_services_that_it_touches() {
        let mut known = known();
        let same = one(Kind::Service, "web", Ok(vec![service("web", 0)]));
        assert!(known.hear(same).is_empty(), "nothing that counts has changed");
        let put = |object| Ok(vec![object]);
        let got = known.hear(one(Kind::Service, "web", put(service("web", 60))));
        assert_eq!(got, services(&["web"]));
        let got = known.hear(one(Kind::EndpointSlice, "web-1", put(slice("web-1", "db", &[1]))));
        assert_eq!(got, services(&["db", "web"]), "a slice that changes its Service");
        let got = known.hear(one(Kind::EndpointSlice, "web-1", Ok(vec![])));
        assert_eq!(got, services(&["db"]));
        assert!(known.cluster.slices.is_empty());
        assert!(known.hear(one(Kind::Node, "b", Ok(vec![]))).nodes);
        assert_eq!(known.cluster.nodes.len(), 1);
        assert!(known.hear(one(Kind::Node, "b", Ok(vec![]))).is_empty(), "heard twice");
    }

    #[test]
    fn a_list_changes_what_differs() {
        let mut known = known();
        let list = vec![service("web", 0), service("db", 9), service("new", 0)];
        assert_eq!(known.hear(all(Kind::Service, list, &[])), services(&["db", "new"]));
        let list = vec![service("web", 0), service("new", 0)];
        assert_eq!(known.hear(all(Kind::Service, list, &[])), services(&["db"]));
        assert_eq!(known.cluster.services.len(), 2);
        assert!(!known.hear(all(Kind::Node, vec![node("b"), node("a")], &[])).nodes);
    }

    #[test]
    fn subsets_of_endpoints_go_with_their_object() {
        let mut known = known();
        let two = vec![slice("web/0", "web", &[1]), slice("web/1", "web", &[2])];
        known.hear(one(Kind::EndpointSlice, "web", Ok(two)));
        assert_eq!(known.cluster.slices.len(), 3);
        let got = known.hear(one(Kind::EndpointSlice, "web", Ok(vec![])));
        assert_eq!((got, known.cluster.slices.len()), (services(&["web"]), 1));
    }

    #[test]
    fn an_object_that_is_not_understood_keeps_its_last_good_version() {
        let mut known = known();
        let got = known.hear(one(Kind::Service, "web", Err("it is odd".into())));
        assert!(got.is_empty() && known.cluster.doubtful.is_empty());
        let got = known.hear(all(Kind::Service, vec![service("db", 0)], &["shop/web"]));
        assert!(got.is_empty() && known.cluster.services.len() == 2);
        let texts: Vec<_> = known.complaints().map(|bad| bad.to_string()).collect();
        let text = "Service shop/web could not be understood: it is odd; the version before it stays in force";
        assert_eq!(texts, [text]);
        known.hear(one(Kind::Service, "web", Ok(vec![])));
        assert_eq!((known.complaints().count(), known.cluster.services.len()), (0, 1));
    }

    #[test]
    fn one_that_was_never_understood_makes_its_kind_doubtful_until_it_is() {
        let mut known = known();
        assert!(known.hear(one(Kind::Service, "new", Err("it is odd".into()))).all);
        assert_eq!(known.cluster.doubtful, BTreeSet::from([Kind::Service]));
        let got = known.hear(one(Kind::Service, "new", Ok(vec![service("new", 0)])));
        assert!(got.all && got.services.contains(&name("new")));
        assert!(known.cluster.doubtful.is_empty());
        assert!(
            known.hear(all(Kind::Node, vec![node("a"), node("b")], &["no. 3 of the list"])).all
        );
        assert!(known.hear(all(Kind::Node, vec![node("a"), node("b")], &[])).all);
    }

    #[test]
    fn a_list_that_is_suddenly_empty_is_not_believed() {
        let mut known = known();
        assert!(known.hear(all(Kind::Node, vec![], &[])).all);
        assert_eq!((known.cluster.nodes.len(), known.complaints().count()), (2, 1));
        assert!(known.cluster.doubtful.contains(&Kind::Node));
        let got = known.hear(all(Kind::Node, vec![node("a")], &[]));
        assert!(got.all && got.nodes && known.cluster.doubtful.is_empty());
        let got = known.hear(one(Kind::Node, "a", Ok(vec![])));
        assert!(got.nodes && known.cluster.nodes.is_empty(), "a deletion that is told is believed");
    }

    #[test]
    fn a_kind_that_is_lost_keeps_what_is_known_until_it_is_heard_of_again() {
        let mut known = known();
        let lost = News { kind: Kind::Service, what: What::Lost("403 Forbidden".into()) };
        assert!(known.hear(lost).is_empty());
        assert_eq!((known.lost.len(), known.cluster.services.len()), (1, 2));
        known.hear(News { kind: Kind::Service, what: What::Reached("9".into()) });
        assert!(known.lost.is_empty());
    }
}
