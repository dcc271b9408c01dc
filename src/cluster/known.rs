//! The cluster as it is heard of, piece by piece: what the API says is taken in, and the last good
//! state is never lost.
//!
//! An object that can't be understood keeps its last good version. A kind of which something is not
//! known for sure is doubtful: its objects count, and nothing that it feeds is taken away.

use std::fmt;

use super::{Cluster, EndpointSlice, Kind, Name, Object};
use crate::few::{Few, Sorted};

/// The objects of one or more kinds as they were read.
#[derive(Debug, Default)]
pub struct Reading {
    /// What was understood. Kinds with a bad object are doubtful.
    pub cluster: Cluster,
    /// What was not.
    pub bad: Vec<Bad>,
    /// The resourceVersion of each kind's list: where a watch goes on.
    pub versions: Few<Kind, String>,
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
    pub services: Sorted<Name>,
}

impl Changes {
    /// Whether there is nothing to be done.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }

    /// Takes in what else changed.
    pub fn join(&mut self, other: Changes) {
        self.all |= other.all;
        self.nodes |= other.nodes;
        self.services.extend(other.services);
    }
}

/// All that is known of the cluster, and how far it is known.
#[derive(Debug)]
pub struct Known {
    /// The last good state. Its `doubtful` kinds follow from all that is below.
    pub cluster: Cluster,
    /// How far each kind was followed: where a watch goes on.
    pub versions: Few<Kind, String>,
    /// The kinds that can't be followed now, and why.
    pub lost: Few<Kind, String>,
    /// Objects that could not be understood, by kind and name, with the reason, and whether the
    /// version before stands in for them.
    bad: Few<(Kind, String), (String, bool)>,
    /// Kinds of which the API has said nothing yet in this run.
    unheard: Sorted<Kind>,
    /// Kinds of which the API suddenly listed nothing.
    emptied: Sorted<Kind>,
}

impl Known {
    /// What is known at the start: nothing, or what a snapshot told. `kinds` will be heard of.
    pub fn new(cluster: Cluster, versions: Few<Kind, String>, kinds: &[Kind]) -> Known {
        let mut known = Known {
            cluster,
            versions,
            lost: Few::new(),
            bad: Few::new(),
            unheard: kinds.iter().copied().collect(),
            emptied: Sorted::new(),
        };
        known.settle();
        known
    }

    /// What news of one object is about, as it was and as it is: what follows from that may change when
    /// it is heard.
    pub fn touches(&self, news: &News) -> Changes {
        match &news.what {
            What::One { name, now: Ok(now), .. } => {
                Changes::between(&self.cluster.get(news.kind, name), now)
            }
            _ => Changes::default(),
        }
    }

    /// Takes in what the API said.
    pub fn hear(&mut self, news: News) -> Changes {
        let kind = news.kind;
        let mut changes = match news.what {
            What::Lost(why) => {
                self.lost.insert(kind, why);
                return Changes::default();
            }
            What::Reached(version) => {
                self.unheard.remove(&kind);
                self.versions.insert(kind, version);
                Changes::default()
            }
            // It may be the first of many that changed since the snapshot: the kind is not known yet.
            What::One { name, now, version } => {
                self.versions.insert(kind, version);
                self.one(kind, &name, now)
            }
            What::All(mut reading) => {
                self.unheard.remove(&kind);
                self.versions.extend(std::mem::take(&mut reading.versions));
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
                let changes = Changes::between(&self.cluster.remove(kind, name), &objects);
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
                changes.services =
                    different(self.cluster.slices.named(), cluster.slices.named(), of);
                self.cluster.slices = cluster.slices;
            }
        }
        changes
    }
}

impl Changes {
    /// What is to be worked out again where an object is another one than before.
    fn between(before: &[Object], now: &[Object]) -> Changes {
        let mut changes = Changes::default();
        if before != now {
            before.iter().chain(now).for_each(|object| changes.touch(object));
        }
        changes
    }

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
