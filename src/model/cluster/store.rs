//! The store of the cluster's objects: it applies lists and watch events, and keeps the last good state.
//!
//! An update passes through [`ClusterStore::apply`], which calls `apply_list` or `apply_object` and then
//! `update_doubtful`, and returns the [`Delta`] that `desired` must recompute. An object that can't be
//! parsed keeps its last good version. A kind of which not everything is known is *doubtful*: its objects
//! are used, but nothing that derives from the kind is removed from the kernel.

use std::fmt;

use super::{Cluster, EndpointSlice, Kind, Name, Object};
use crate::collections::{FlatMap, FlatSet};

/// The result of listing one or more kinds.
#[derive(Debug, Default)]
pub struct ListResult {
    /// The objects that could be parsed. A kind with an invalid object is doubtful.
    pub cluster: Cluster,
    /// The objects that could not be parsed.
    pub bad: Vec<InvalidObject>,
    /// The resourceVersion of each kind's list, from which a watch continues.
    pub versions: FlatMap<Kind, String>,
}

impl ListResult {
    /// Adds the objects of another result, which is of other kinds.
    pub(crate) fn merge(&mut self, other: ListResult) {
        self.cluster.nodes.extend(other.cluster.nodes);
        self.cluster.services.extend(other.cluster.services);
        self.cluster.slices.extend(other.cluster.slices);
        self.cluster.doubtful.extend(other.cluster.doubtful);
        self.bad.extend(other.bad);
        self.versions.extend(other.versions);
    }
}

/// An object that could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidObject {
    /// The kind in the store: EndpointSlice for core Endpoints too.
    pub kind: Kind,
    /// Its name, or its position if it has no name.
    pub name: InvalidName,
    /// The path of the invalid field, and the error.
    pub why: String,
}

/// The name of an object that could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InvalidName {
    /// Its namespace (empty for a Node) and name.
    Object(Name),
    /// It has no name that can be read; this is its position in the list, from 1.
    Nth(usize),
    /// No single object: the list as a whole.
    List,
}

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InvalidName::Object(name) => name.fmt(f),
            InvalidName::Nth(nth) => write!(f, "no. {nth} of the list"),
            InvalidName::List => f.write_str("list"),
        }
    }
}

impl fmt::Display for InvalidObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} could not be understood: {}", self.kind.name(), self.name, self.why)
    }
}

/// An update of one kind from the API.
#[derive(Debug)]
pub struct WatchUpdate {
    /// The kind.
    pub kind: Kind,
    /// The change.
    pub change: Change,
}

/// A change of a kind.
#[derive(Debug)]
pub enum Change {
    /// A full list of its objects, with the resourceVersion of the list.
    Listed(ListResult),
    /// The new version of one object. The vector is empty if the object was deleted, and has several
    /// slices if core Endpoints have several subsets. `Err` is the reason why it could not be parsed.
    Object {
        /// Namespace (empty for a Node) and name.
        name: Name,
        /// The new version.
        now: Result<Vec<Object>, String>,
        /// The resourceVersion after the change.
        version: String,
    },
    /// The kind is up to date at this resourceVersion.
    UpToDate(String),
    /// The API can't be followed at the moment, for this reason; it is tried again.
    Unavailable(String),
}

/// The parts of the desired state that must be recomputed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Everything, because the set of doubtful kinds changed.
    pub all: bool,
    /// The part that derives from Nodes.
    pub nodes: bool,
    /// The parts that derive from these Services and their slices.
    pub services: FlatSet<Name>,
}

impl Delta {
    /// Returns true if nothing must be recomputed.
    pub fn is_empty(&self) -> bool {
        *self == Delta::default()
    }

    /// Adds other changes.
    pub fn join(&mut self, other: Delta) {
        self.all |= other.all;
        self.nodes |= other.nodes;
        self.services.extend(other.services);
    }
}

/// The store: the objects of the cluster, and how complete they are.
#[derive(Debug)]
pub struct ClusterStore {
    /// The last good state. Its `doubtful` kinds are derived from the fields below.
    pub cluster: Cluster,
    /// The resourceVersion that each kind has reached, from which a watch continues.
    pub versions: FlatMap<Kind, String>,
    /// The kinds that can't be followed at the moment, with the reason.
    pub lost: FlatMap<Kind, String>,
    /// Objects that could not be parsed, by kind and name, with the reason. The bool is true if an earlier
    /// version of the object is used instead.
    invalid: FlatMap<(Kind, InvalidName), (String, bool)>,
    /// Kinds that are not up to date yet in this run.
    unsynced: FlatSet<Kind>,
    /// Kinds whose last list was empty although objects were known.
    suddenly_empty: FlatSet<Kind>,
}

impl ClusterStore {
    /// Creates the store with the contents of a snapshot, or empty. `kinds` are the kinds that will be
    /// followed; each of them is doubtful until it is up to date.
    pub fn new(cluster: Cluster, versions: FlatMap<Kind, String>, kinds: &[Kind]) -> ClusterStore {
        let mut known = ClusterStore {
            cluster,
            versions,
            lost: FlatMap::new(),
            invalid: FlatMap::new(),
            unsynced: kinds.iter().copied().collect(),
            suddenly_empty: FlatSet::new(),
        };
        known.update_doubtful();
        known
    }

    /// Applies an update and returns the parts of the desired state that it affects. If it changes one
    /// object, `remember` first gets the cluster as it is before that, and the same parts.
    pub fn apply(&mut self, news: WatchUpdate, remember: impl FnOnce(&Cluster, &Delta)) -> Delta {
        if let Change::Object { name, now: Ok(now), .. } = &news.change {
            let delta = Delta::between(&self.cluster.get(news.kind, name), now);
            if !delta.is_empty() {
                remember(&self.cluster, &delta);
            }
        }
        let kind = news.kind;
        let mut changes = match news.change {
            Change::Unavailable(why) => {
                self.lost.insert(kind, why);
                return Delta::default();
            }
            Change::UpToDate(version) => {
                self.unsynced.remove(&kind);
                self.versions.insert(kind, version);
                Delta::default()
            }
            // More changes since the snapshot may follow, so the kind is not up to date yet.
            Change::Object { name, now, version } => {
                self.versions.insert(kind, version);
                self.apply_object(kind, &name, now)
            }
            Change::Listed(mut reading) => {
                self.unsynced.remove(&kind);
                self.versions.extend(std::mem::take(&mut reading.versions));
                self.apply_list(kind, reading)
            }
        };
        self.lost.remove(&kind);
        changes.all |= self.update_doubtful();
        changes
    }

    /// Returns true if Nodes are known or up to date. The desired state can't be computed before that.
    pub fn has_nodes(&self) -> bool {
        !self.cluster.nodes.is_empty() || !self.unsynced.contains(&Kind::Node)
    }

    /// Returns true if every kind was up to date at least once in this run.
    pub fn is_complete(&self) -> bool {
        self.unsynced.is_empty()
    }

    /// Returns the problems to report: objects that could not be parsed, and empty lists that were ignored.
    pub fn complaints(&self) -> impl Iterator<Item = InvalidObject> {
        let bad = self.invalid.iter().map(|((kind, name), (why, kept))| {
            let kept = if *kept { "; its previous version stays in force" } else { "" };
            InvalidObject { kind: *kind, name: name.clone(), why: format!("{why}{kept}") }
        });
        bad.chain(self.suddenly_empty.iter().map(|kind| {
            let why = format!(
                "the API suddenly lists no {}; the last known ones are kept",
                kind.plural()
            );
            InvalidObject { kind: *kind, name: InvalidName::List, why }
        }))
    }

    /// Recomputes the doubtful kinds. Returns true if they changed.
    fn update_doubtful(&mut self) -> bool {
        let missing = self.invalid.iter().filter(|(_, (_, kept))| !kept).map(|((kind, _), _)| kind);
        let doubtful = missing.chain(&self.unsynced).chain(&self.suddenly_empty).copied().collect();
        let changed = self.cluster.doubtful != doubtful;
        self.cluster.doubtful = doubtful;
        changed
    }

    /// Replaces or deletes one object. An invalid one is recorded and keeps its earlier version.
    fn apply_object(&mut self, kind: Kind, name: &Name, now: Result<Vec<Object>, String>) -> Delta {
        match now {
            Ok(objects) => {
                self.invalid.remove(&(kind, InvalidName::Object(name.clone())));
                let changes = Delta::between(&self.cluster.remove(kind, name), &objects);
                objects.into_iter().for_each(|object| self.cluster.insert(object));
                changes
            }
            Err(why) => {
                let kept = !self.cluster.get(kind, name).is_empty();
                self.invalid.insert((kind, InvalidName::Object(name.clone())), (why, kept));
                Delta::default()
            }
        }
    }

    /// Replaces all objects of a kind. An empty list is ignored if objects were known; invalid objects keep
    /// their earlier versions.
    fn apply_list(&mut self, kind: Kind, reading: ListResult) -> Delta {
        let ListResult { mut cluster, bad, .. } = reading;
        // In a working cluster there is always the Service `kubernetes`, and our own Node.
        let emptied = cluster.is_empty_of(kind) && !self.cluster.is_empty_of(kind);
        if emptied && bad.is_empty() {
            self.suddenly_empty.insert(kind);
            return Delta::default();
        }
        self.suddenly_empty.remove(&kind);
        self.invalid.retain(|(of, _), _| *of != kind);
        for InvalidObject { name, why, .. } in bad {
            let earlier = match &name {
                InvalidName::Object(name) => self.cluster.get(kind, name),
                InvalidName::Nth(_) | InvalidName::List => Vec::new(),
            };
            let kept = !earlier.is_empty();
            earlier.into_iter().for_each(|object| cluster.insert(object));
            self.invalid.insert((kind, name), (why, kept));
        }
        let mut changes = Delta::default();
        match kind {
            Kind::Node => {
                changes.nodes = self.cluster.nodes != cluster.nodes;
                self.cluster.nodes = cluster.nodes;
            }
            Kind::Service => {
                changes.services =
                    changed_services(&self.cluster.services, &cluster.services, |s| {
                        Some(s.name.clone())
                    });
                self.cluster.services = cluster.services;
            }
            Kind::EndpointSlice => {
                let (before, now) = (self.cluster.slices.by_name(), cluster.slices.by_name());
                changes.services = changed_services(before, now, EndpointSlice::of);
                self.cluster.slices = cluster.slices;
            }
        }
        changes
    }
}

impl Delta {
    /// Returns the changes between two versions of an object; nothing if they are equal.
    fn between(before: &[Object], now: &[Object]) -> Delta {
        let mut changes = Delta::default();
        if before != now {
            before.iter().chain(now).for_each(|object| changes.add_object(object));
        }
        changes
    }

    /// Adds the parts that derive from an object.
    fn add_object(&mut self, object: &Object) {
        match object {
            Object::Node(_) => self.nodes = true,
            Object::Service(service) => drop(self.services.insert(service.name.clone())),
            Object::EndpointSlice(slice) => self.services.extend(slice.of()),
        }
    }
}

/// Returns the Services of all values that differ between two maps or are in only one of them. `of` gives
/// the Service of a value.
fn changed_services<V: PartialEq>(
    a: &FlatMap<Name, V>,
    b: &FlatMap<Name, V>,
    of: impl Fn(&V) -> Option<Name>,
) -> FlatSet<Name> {
    let only = |a: &FlatMap<Name, V>, b: &FlatMap<Name, V>| -> Vec<Name> {
        a.iter().filter(|(k, v)| b.get(k) != Some(v)).filter_map(|(_, v)| of(v)).collect()
    };
    only(a, b).into_iter().chain(only(b, a)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::{Node, Service};

    const ALL: [Kind; 3] = [Kind::Node, Kind::Service, Kind::EndpointSlice];

    fn name(name: &str) -> Name {
        Name { namespace: "shop".into(), name: name.into() }
    }

    fn service(short: &str, affinity: u32) -> Object {
        Object::Service(Service { name: name(short), affinity, ..Service::default() })
    }

    fn slice(short: &str, of: &str, ends: &[u8]) -> Object {
        let endpoint = |last: &u8| crate::model::cluster::Endpoint {
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

    fn listed(kind: Kind, objects: Vec<Object>, bad: &[InvalidName]) -> WatchUpdate {
        let mut reading = ListResult::default();
        objects.into_iter().for_each(|object| reading.cluster.insert(object));
        reading.bad = bad
            .iter()
            .map(|name| InvalidObject { kind, name: name.clone(), why: "it is odd".into() })
            .collect();
        reading.versions.insert(kind, "7".into());
        WatchUpdate { kind, change: Change::Listed(reading) }
    }

    fn updated(kind: Kind, short: &str, now: Result<Vec<Object>, String>) -> WatchUpdate {
        let name = if kind == Kind::Node {
            Name { namespace: "".into(), ..name(short) }
        } else {
            name(short)
        };
        WatchUpdate { kind, change: Change::Object { name, now, version: "8".into() } }
    }

    /// Returns a store in which every kind is up to date.
    fn known() -> ClusterStore {
        let mut known = ClusterStore::new(Cluster::default(), FlatMap::new(), &ALL);
        known.apply(listed(Kind::Node, vec![node("a"), node("b")], &[]), |_, _| {});
        known.apply(
            listed(Kind::Service, vec![service("web", 0), service("db", 0)], &[]),
            |_, _| {},
        );
        known.apply(
            listed(Kind::EndpointSlice, vec![slice("web-1", "web", &[1, 2])], &[]),
            |_, _| {},
        );
        assert!(known.is_complete() && known.cluster.doubtful.is_empty());
        known
    }

    fn services(names: &[&str]) -> Delta {
        let services = names.iter().map(|short| name(short)).collect();
        Delta { services, ..Delta::default() }
    }

    #[test]
    fn a_kind_is_doubtful_until_it_is_up_to_date_in_this_run() {
        let mut known = ClusterStore::new(known().cluster, FlatMap::new(), &ALL);
        assert_eq!(known.cluster.doubtful, FlatSet::from(ALL));
        let reached = |kind| WatchUpdate { kind, change: Change::UpToDate("9".into()) };
        assert!(known.apply(reached(Kind::Node), |_, _| {}).all);
        assert_eq!(known.cluster.doubtful, FlatSet::from([Kind::Service, Kind::EndpointSlice]));
        known.apply(updated(Kind::Service, "web", Ok(vec![])), |_, _| {});
        assert!(known.cluster.doubtful.contains(&Kind::Service), "more changes may follow");
        known.apply(reached(Kind::Service), |_, _| {});
        assert!(!known.is_complete());
        assert!(known.apply(reached(Kind::EndpointSlice), |_, _| {}).all);
        assert!(known.is_complete() && known.cluster.doubtful.is_empty());
        assert_eq!(known.versions.get(&Kind::Node), Some(&"9".to_owned()));
    }

    #[test]
    fn an_update_returns_the_services_that_it_affects() {
        let mut known = known();
        let same = updated(Kind::Service, "web", Ok(vec![service("web", 0)]));
        assert!(known.apply(same, |_, _| {}).is_empty(), "the object is equal");
        let put = |object| Ok(vec![object]);
        let got = known.apply(updated(Kind::Service, "web", put(service("web", 60))), |_, _| {});
        assert_eq!(got, services(&["web"]));
        let got = known.apply(
            updated(Kind::EndpointSlice, "web-1", put(slice("web-1", "db", &[1]))),
            |_, _| {},
        );
        assert_eq!(got, services(&["db", "web"]), "a slice that moved to another Service");
        let got = known.apply(updated(Kind::EndpointSlice, "web-1", Ok(vec![])), |_, _| {});
        assert_eq!(got, services(&["db"]));
        assert!(known.cluster.slices.is_empty());
        assert!(known.apply(updated(Kind::Node, "b", Ok(vec![])), |_, _| {}).nodes);
        assert_eq!(known.cluster.nodes.len(), 1);
        assert!(
            known.apply(updated(Kind::Node, "b", Ok(vec![])), |_, _| {}).is_empty(),
            "a repeated deletion"
        );
    }

    #[test]
    fn a_list_returns_only_the_services_that_differ() {
        let mut known = known();
        let list = vec![service("web", 0), service("db", 9), service("new", 0)];
        assert_eq!(
            known.apply(listed(Kind::Service, list, &[]), |_, _| {}),
            services(&["db", "new"])
        );
        let list = vec![service("web", 0), service("new", 0)];
        assert_eq!(known.apply(listed(Kind::Service, list, &[]), |_, _| {}), services(&["db"]));
        assert_eq!(known.cluster.services.len(), 2);
        assert!(!known.apply(listed(Kind::Node, vec![node("b"), node("a")], &[]), |_, _| {}).nodes);
    }

    #[test]
    fn the_slices_of_core_endpoints_are_deleted_with_their_object() {
        let mut known = known();
        let two = vec![slice("web/0", "web", &[1]), slice("web/1", "web", &[2])];
        known.apply(updated(Kind::EndpointSlice, "web", Ok(two)), |_, _| {});
        assert_eq!(known.cluster.slices.len(), 3);
        let got = known.apply(updated(Kind::EndpointSlice, "web", Ok(vec![])), |_, _| {});
        assert_eq!((got, known.cluster.slices.len()), (services(&["web"]), 1));
    }

    #[test]
    fn nodes_are_there_once_a_list_or_a_snapshot_has_them() {
        let mut empty = ClusterStore::new(Cluster::default(), FlatMap::new(), &ALL);
        assert!(!empty.has_nodes());
        empty.apply(listed(Kind::Service, vec![service("web", 0)], &[]), |_, _| {});
        assert!(!empty.has_nodes(), "Services alone are not enough");
        empty.apply(listed(Kind::Node, vec![], &[]), |_, _| {});
        assert!(empty.has_nodes(), "an empty list is an answer");
        let snapshot = known().cluster;
        assert!(ClusterStore::new(snapshot, FlatMap::new(), &ALL).has_nodes());
    }

    #[test]
    fn an_invalid_object_keeps_its_last_good_version() {
        let mut known = known();
        let got = known.apply(updated(Kind::Service, "web", Err("it is odd".into())), |_, _| {});
        assert!(got.is_empty() && known.cluster.doubtful.is_empty());
        let web = InvalidName::Object(name("web"));
        let got = known.apply(listed(Kind::Service, vec![service("db", 0)], &[web]), |_, _| {});
        assert!(got.is_empty() && known.cluster.services.len() == 2);
        let texts: Vec<_> = known.complaints().map(|bad| bad.to_string()).collect();
        let text = "Service shop/web could not be understood: it is odd; its previous version stays in force";
        assert_eq!(texts, [text]);
        known.apply(updated(Kind::Service, "web", Ok(vec![])), |_, _| {});
        assert_eq!((known.complaints().count(), known.cluster.services.len()), (0, 1));
    }

    #[test]
    fn an_invalid_object_never_keeps_the_last_version_of_an_object_with_another_name() {
        // The text of this name is equal to that of the Service shop/web.
        let odd = InvalidName::Object(Name { namespace: "".into(), name: "shop/web".into() });
        let mut known = known();
        let got = known.apply(listed(Kind::Service, vec![service("db", 0)], &[odd]), |_, _| {});
        assert_eq!(got.services, FlatSet::from([name("web")]));
        assert!(got.all && known.cluster.services.len() == 1);
        let texts: Vec<_> = known.complaints().map(|bad| bad.to_string()).collect();
        assert_eq!(texts, ["Service shop/web could not be understood: it is odd"]);
    }

    #[test]
    fn an_invalid_object_without_an_earlier_version_makes_its_kind_doubtful() {
        let mut known = known();
        assert!(known.apply(updated(Kind::Service, "new", Err("it is odd".into())), |_, _| {}).all);
        assert_eq!(known.cluster.doubtful, FlatSet::from([Kind::Service]));
        let got =
            known.apply(updated(Kind::Service, "new", Ok(vec![service("new", 0)])), |_, _| {});
        assert!(got.all && got.services.contains(&name("new")));
        assert!(known.cluster.doubtful.is_empty());
        assert!(
            known
                .apply(
                    listed(Kind::Node, vec![node("a"), node("b")], &[InvalidName::Nth(3)]),
                    |_, _| {}
                )
                .all
        );
        assert!(known.apply(listed(Kind::Node, vec![node("a"), node("b")], &[]), |_, _| {}).all);
    }

    #[test]
    fn a_list_that_is_suddenly_empty_is_ignored_and_makes_its_kind_doubtful() {
        let mut known = known();
        assert!(known.apply(listed(Kind::Node, vec![], &[]), |_, _| {}).all);
        assert_eq!((known.cluster.nodes.len(), known.complaints().count()), (2, 1));
        assert!(known.cluster.doubtful.contains(&Kind::Node));
        let got = known.apply(listed(Kind::Node, vec![node("a")], &[]), |_, _| {});
        assert!(got.all && got.nodes && known.cluster.doubtful.is_empty());
        let got = known.apply(updated(Kind::Node, "a", Ok(vec![])), |_, _| {});
        assert!(
            got.nodes && known.cluster.nodes.is_empty(),
            "an explicit deletion of the last one is applied"
        );
    }

    #[test]
    fn a_kind_that_can_t_be_followed_keeps_its_objects_and_recovers() {
        let mut known = known();
        let lost = WatchUpdate {
            kind: Kind::Service,
            change: Change::Unavailable("403 Forbidden".into()),
        };
        assert!(known.apply(lost, |_, _| {}).is_empty());
        assert_eq!((known.lost.len(), known.cluster.services.len()), (1, 2));
        known.apply(
            WatchUpdate { kind: Kind::Service, change: Change::UpToDate("9".into()) },
            |_, _| {},
        );
        assert!(known.lost.is_empty());
    }
}
