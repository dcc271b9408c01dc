//! The store of the cluster's objects: it applies lists and watch events, and keeps the last good state.
//!
//! An update passes through [`Known::hear`], which calls `apply_list` or `apply_object` and then
//! `update_doubtful`, and returns the [`Changes`] that `desired` must recompute. An object that can't be
//! parsed keeps its last good version. A kind of which not everything is known is *doubtful*: its objects
//! are used, but nothing that derives from the kind is removed from the kernel.

use std::fmt;

use super::{Cluster, EndpointSlice, Kind, Name, Object};
use crate::few::{Few, Sorted};

/// The result of listing one or more kinds.
#[derive(Debug, Default)]
pub struct Reading {
    /// The objects that could be parsed. A kind with an invalid object is doubtful.
    pub cluster: Cluster,
    /// The objects that could not be parsed.
    pub bad: Vec<Bad>,
    /// The resourceVersion of each kind's list, from which a watch continues.
    pub versions: Few<Kind, String>,
}

/// An object that could not be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bad {
    /// The kind in the store: EndpointSlice for core Endpoints too.
    pub kind: Kind,
    /// namespace/name, or the position in the list if it has no name.
    pub name: String,
    /// The path of the invalid field, and the error.
    pub why: String,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} could not be understood: {}", self.kind.name(), self.name, self.why)
    }
}

/// An update of one kind from the API.
#[derive(Debug)]
pub struct News {
    /// The kind.
    pub kind: Kind,
    /// The change.
    pub what: What,
}

/// A change of a kind.
#[derive(Debug)]
pub enum What {
    /// A full list of its objects, with the resourceVersion of the list.
    All(Reading),
    /// The new version of one object. The vector is empty if the object was deleted, and has several
    /// slices if core Endpoints have several subsets. `Err` is the reason why it could not be parsed.
    One {
        /// Namespace (empty for a Node) and name.
        name: Name,
        /// The new version.
        now: Result<Vec<Object>, String>,
        /// The resourceVersion after the change.
        version: String,
    },
    /// The kind is up to date at this resourceVersion.
    Reached(String),
    /// The API can't be followed at the moment, for this reason; it is tried again.
    Lost(String),
}

/// The parts of the desired state that must be recomputed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Everything, because the set of doubtful kinds changed.
    pub all: bool,
    /// The part that derives from Nodes.
    pub nodes: bool,
    /// The parts that derive from these Services and their slices.
    pub services: Sorted<Name>,
}

impl Changes {
    /// Returns true if nothing must be recomputed.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }

    /// Adds other changes.
    pub fn join(&mut self, other: Changes) {
        self.all |= other.all;
        self.nodes |= other.nodes;
        self.services.extend(other.services);
    }
}

/// The store: the objects of the cluster, and how complete they are.
#[derive(Debug)]
pub struct Known {
    /// The last good state. Its `doubtful` kinds are derived from the fields below.
    pub cluster: Cluster,
    /// The resourceVersion that each kind has reached, from which a watch continues.
    pub versions: Few<Kind, String>,
    /// The kinds that can't be followed at the moment, with the reason.
    pub lost: Few<Kind, String>,
    /// Objects that could not be parsed, by kind and name, with the reason. The bool is true if an earlier
    /// version of the object is used instead.
    invalid: Few<(Kind, String), (String, bool)>,
    /// Kinds that are not up to date yet in this run.
    unsynced: Sorted<Kind>,
    /// Kinds whose last list was empty although objects were known.
    suddenly_empty: Sorted<Kind>,
}

impl Known {
    /// Creates the store with the contents of a snapshot, or empty. `kinds` are the kinds that will be
    /// followed; each of them is doubtful until it is up to date.
    pub fn new(cluster: Cluster, versions: Few<Kind, String>, kinds: &[Kind]) -> Known {
        let mut known = Known {
            cluster,
            versions,
            lost: Few::new(),
            invalid: Few::new(),
            unsynced: kinds.iter().copied().collect(),
            suddenly_empty: Sorted::new(),
        };
        known.update_doubtful();
        known
    }

    /// Returns the changes that [`Known::hear`] will make for an update of one object. Nothing for any
    /// other update. It must be called first, while the store still has the old version of the object.
    pub fn touches(&self, news: &News) -> Changes {
        match &news.what {
            What::One { name, now: Ok(now), .. } => {
                Changes::between(&self.cluster.get(news.kind, name), now)
            }
            _ => Changes::default(),
        }
    }

    /// Applies an update, and returns the parts of the desired state that it affects.
    pub fn hear(&mut self, news: News) -> Changes {
        let kind = news.kind;
        let mut changes = match news.what {
            What::Lost(why) => {
                self.lost.insert(kind, why);
                return Changes::default();
            }
            What::Reached(version) => {
                self.unsynced.remove(&kind);
                self.versions.insert(kind, version);
                Changes::default()
            }
            // More changes since the snapshot may follow, so the kind is not up to date yet.
            What::One { name, now, version } => {
                self.versions.insert(kind, version);
                self.apply_object(kind, &name, now)
            }
            What::All(mut reading) => {
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
    pub fn complaints(&self) -> impl Iterator<Item = Bad> {
        let bad = self.invalid.iter().map(|((kind, name), (why, kept))| {
            let kept = if *kept { "; its previous version stays in force" } else { "" };
            Bad { kind: *kind, name: name.clone(), why: format!("{why}{kept}") }
        });
        bad.chain(self.suddenly_empty.iter().map(|kind| {
            let why = format!(
                "the API suddenly lists no {}; the last known ones are kept",
                kind.plural()
            );
            Bad { kind: *kind, name: "list".to_owned(), why }
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
    fn apply_object(
        &mut self,
        kind: Kind,
        name: &Name,
        now: Result<Vec<Object>, String>,
    ) -> Changes {
        match now {
            Ok(objects) => {
                self.invalid.remove(&(kind, name.to_string()));
                let changes = Changes::between(&self.cluster.remove(kind, name), &objects);
                objects.into_iter().for_each(|object| self.cluster.insert(object));
                changes
            }
            Err(why) => {
                let kept = !self.cluster.get(kind, name).is_empty();
                self.invalid.insert((kind, name.to_string()), (why, kept));
                Changes::default()
            }
        }
    }

    /// Replaces all objects of a kind. An empty list is ignored if objects were known; invalid objects keep
    /// their earlier versions.
    fn apply_list(&mut self, kind: Kind, reading: Reading) -> Changes {
        let Reading { mut cluster, bad, .. } = reading;
        // In a working cluster there is always the Service `kubernetes`, and our own Node.
        let emptied = cluster.is_empty_of(kind) && !self.cluster.is_empty_of(kind);
        if emptied && bad.is_empty() {
            self.suddenly_empty.insert(kind);
            return Changes::default();
        }
        self.suddenly_empty.remove(&kind);
        self.invalid.retain(|(of, _), _| *of != kind);
        for Bad { name, why, .. } in bad {
            let (namespace, short) = name.split_once('/').unwrap_or(("", &name));
            let key = Name { namespace: namespace.into(), name: short.into() };
            let earlier = self.cluster.get(kind, &key);
            let kept = !earlier.is_empty();
            earlier.into_iter().for_each(|object| cluster.insert(object));
            self.invalid.insert((kind, name), (why, kept));
        }
        let mut changes = Changes::default();
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
                let of = EndpointSlice::of;
                changes.services =
                    changed_services(self.cluster.slices.named(), cluster.slices.named(), of);
                self.cluster.slices = cluster.slices;
            }
        }
        changes
    }
}

impl Changes {
    /// Returns the changes between two versions of an object; nothing if they are equal.
    fn between(before: &[Object], now: &[Object]) -> Changes {
        let mut changes = Changes::default();
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
    a: &Few<Name, V>,
    b: &Few<Name, V>,
    of: impl Fn(&V) -> Option<Name>,
) -> Sorted<Name> {
    let only = |a: &Few<Name, V>, b: &Few<Name, V>| -> Vec<Name> {
        a.iter().filter(|(k, v)| b.get(k) != Some(v)).filter_map(|(_, v)| of(v)).collect()
    };
    only(a, b).into_iter().chain(only(b, a)).collect()
}

#[cfg(test)]
mod tests;
