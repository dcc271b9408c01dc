//! The objects as etcd would hold them: versions of each kind under one global revision.
//!
//! The files are read again for every request if they changed. Each object that differs gets a
//! revision of its own, as if a client had written it, and makes an event for the watches. Old
//! versions of a list stay for clients that are reading its pages. Nothing is written to disk: a
//! restart is a compaction.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};
use std::{fs, mem};

use serde_json::Value;
use serde_json::value::RawValue;

use crate::item::{Item, revision_in};
use crate::resource::{RESOURCES, Resource};

const VERSIONS: usize = 64; // versions of each list, for clients that read its pages
const EVENTS: usize = 50_000;
/// A younger file may be written again within the same tick of its clock.
const YOUNG: Duration = Duration::from_millis(50);

/// A list as it was from a revision on.
#[derive(Debug)]
pub struct Version {
    pub since: u64,
    pub items: Vec<Arc<Item>>,
}

/// One write: the object before and after it.
#[derive(Debug, Clone)]
pub struct Event {
    pub revision: u64,
    pub old: Option<Arc<Item>>,
    pub new: Option<Arc<Item>>,
    table: usize,
}

/// The error for a revision that is no longer held.
#[derive(Debug, PartialEq)]
pub struct Expired {
    /// The oldest revision that is held.
    pub oldest: u64,
}

pub struct Store {
    dir: PathBuf,
    world: Mutex<World>,
    changed: Condvar,
}

struct World {
    revision: u64,
    tables: Vec<Table>,
    events: VecDeque<Event>,
    compacted: u64,
    looked: Instant,
}

#[derive(Default)]
struct Table {
    versions: VecDeque<Arc<Version>>,
    file: Option<Signature>,
    content: u64,
}

#[derive(PartialEq, Clone, Copy)]
struct Signature {
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Store {
    /// Reads the files of a folder. The first revision is that of the files, or `revision` if it is
    /// later.
    pub fn open(dir: &Path, revision: u64) -> Store {
        let mut world = World {
            revision: revision.max(1),
            tables: Vec::new(),
            events: VecDeque::new(),
            compacted: 0,
            looked: Instant::now(),
        };
        for resource in RESOURCES {
            let mut table = Table::default();
            let list = table.read(&dir.join(resource.file())).unwrap_or_default();
            let newest = list.items.iter().filter_map(|i| revision_in(&i.source)).max();
            world.revision = world.revision.max(list.revision).max(newest.unwrap_or(0));
            let items = list.items.into_iter().map(|item| Arc::new(item.stamped(None))).collect();
            table.versions.push_back(Arc::new(Version { since: 0, items }));
            world.tables.push(table);
        }
        world.compacted = world.revision;
        Store { dir: dir.to_path_buf(), world: Mutex::new(world), changed: Condvar::new() }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Reads the files that changed and takes over their changes.
    pub fn refresh(&self) {
        self.look(&mut self.world());
    }

    fn look(&self, world: &mut World) {
        let before = world.revision;
        for (index, resource) in RESOURCES.iter().enumerate() {
            if let Some(list) = world.tables[index].read(&self.dir.join(resource.file())) {
                world.replace(index, list);
            }
        }
        world.looked = Instant::now();
        if world.revision != before {
            self.changed.notify_all();
        }
    }

    /// Waits until an object is written, or until a time has passed.
    pub fn wait(&self, moment: Duration) {
        let world = self.world();
        let (mut world, _) = self
            .changed
            .wait_timeout(world, moment)
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if world.looked.elapsed() >= moment {
            self.look(&mut world);
        }
    }

    /// Returns the global revision.
    pub fn revision(&self) -> u64 {
        self.world().revision
    }

    /// Returns the newest list of a kind, and the global revision.
    pub fn now(&self, resource: &Resource) -> (u64, Arc<Version>) {
        let world = self.world();
        let table = &world.tables[resource.index()];
        (world.revision, table.versions.back().expect("a table has a version").clone())
    }

    /// Returns the list as it was at a revision.
    pub fn at(&self, resource: &Resource, revision: u64) -> Result<Arc<Version>, Expired> {
        let world = self.world();
        let expired = Expired { oldest: world.compacted };
        if revision < world.compacted {
            return Err(expired);
        }
        let versions = &world.tables[resource.index()].versions;
        versions.iter().rev().find(|v| v.since <= revision).cloned().ok_or(expired)
    }

    /// Returns the events of a kind after a revision, and the revision up to which they are
    /// complete. Fails if the revision is no longer held.
    pub fn after(&self, kind: &Resource, revision: u64) -> Result<(u64, Vec<Event>), Expired> {
        let world = self.world();
        if revision < world.compacted {
            return Err(Expired { oldest: world.compacted });
        }
        let first = world.events.partition_point(|e| e.revision <= revision);
        let events = world.events.range(first..).filter(|e| e.table == kind.index());
        Ok((world.revision.max(revision), events.cloned().collect()))
    }

    /// Writes or removes one object, in memory only, until its file changes.
    pub fn write(&self, resource: &Resource, key: &str, text: Option<&str>) -> Option<Arc<Item>> {
        let mut world = self.world();
        let mut items = world.tables[resource.index()].current();
        let found = items.iter().position(|i| i.key == key);
        let old = found.map(|at| items.remove(at));
        let new = text.map(|t| Arc::new(world.fresh(Item::new(t))));
        if new.is_none() && old.is_some() {
            world.revision += 1;
        }
        items.extend(new.clone());
        items.sort_by(|a, b| a.key.cmp(&b.key));
        let event = Event { revision: world.revision, old, new, table: resource.index() };
        let result = event.new.clone().or(event.old.clone());
        if result.is_some() {
            world.remember(event);
            world.install(resource.index(), items);
            self.changed.notify_all();
        }
        result
    }
}

impl World {
    /// Gives a changed object its resourceVersion. A later one that it already has is kept.
    fn fresh(&mut self, item: Item) -> Item {
        let own = revision_in(&item.source).filter(|&own| own > self.revision);
        self.revision = own.unwrap_or(self.revision + 1);
        item.stamped(Some(self.revision))
    }

    fn replace(&mut self, index: usize, list: List) {
        let before = self.revision;
        let mut old: BTreeMap<String, Arc<Item>> =
            self.tables[index].current().into_iter().map(|i| (i.key.clone(), i)).collect();
        let mut items = Vec::with_capacity(list.items.len());
        for item in list.items {
            let known = old.remove(&item.key);
            if let Some(same) = known.as_ref().filter(|k| k.source == item.source) {
                items.push(same.clone());
                continue;
            }
            let new = Arc::new(self.fresh(item));
            items.push(new.clone());
            let revision = self.revision;
            self.remember(Event { revision, old: known, new: Some(new), table: index });
        }
        for gone in old.into_values() {
            self.revision += 1;
            let revision = self.revision;
            self.remember(Event { revision, old: Some(gone), new: None, table: index });
        }
        self.revision = self.revision.max(list.revision);
        if self.revision != before {
            self.install(index, items);
        }
    }

    fn remember(&mut self, event: Event) {
        self.events.push_back(event);
        if self.events.len() > EVENTS {
            self.compacted = self.events.pop_front().map_or(0, |e| e.revision);
        }
    }

    fn install(&mut self, index: usize, items: Vec<Arc<Item>>) {
        let versions = &mut self.tables[index].versions;
        versions.push_back(Arc::new(Version { since: self.revision, items }));
        if versions.len() > VERSIONS {
            versions.pop_front();
        }
    }
}

#[derive(Default)]
struct List {
    revision: u64,
    items: Vec<Item>,
}

impl Table {
    fn current(&self) -> Vec<Arc<Item>> {
        self.versions.back().map(|v| v.items.clone()).unwrap_or_default()
    }

    /// Returns the list of a file if it changed since the last time. A missing file is an empty
    /// list. A file that cannot be parsed (for example a half-written one) changes nothing.
    fn read(&mut self, path: &Path) -> Option<List> {
        let signature = Signature::of(path);
        if signature == self.file && !signature.is_some_and(Signature::young) {
            return None;
        }
        let text = match fs::read_to_string(path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                eprintln!("apiserver: {}: {e}", path.display());
                return None;
            }
            text => text.unwrap_or_default(),
        };
        self.file = signature;
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let content = hasher.finish();
        if mem::replace(&mut self.content, content) == content {
            return None;
        }
        if signature.is_none() {
            return Some(List::default());
        }
        List::parse(&text)
            .map_err(|e| eprintln!("apiserver: {}: {e}; what was there stays", path.display()))
            .ok()
    }
}

impl Signature {
    fn of(path: &Path) -> Option<Signature> {
        let meta = fs::metadata(path).ok()?;
        Some(Signature {
            inode: meta.ino(),
            size: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }

    fn young(self) -> bool {
        let seconds = u64::try_from(self.changed.0).unwrap_or(0);
        let nanos = u32::try_from(self.changed.1).unwrap_or(0);
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanos);
        SystemTime::now().duration_since(changed).is_ok_and(|age| age < YOUNG)
    }
}

impl List {
    fn parse(text: &str) -> serde_json::Result<List> {
        let fields: BTreeMap<&str, &RawValue> = serde_json::from_str(text)?;
        let items: Option<Vec<&RawValue>> =
            fields.get("items").map_or(Ok(None), |raw| serde_json::from_str(raw.get()))?;
        let metadata: Value = fields
            .get("metadata")
            .map_or(Ok(Value::Null), |raw| serde_json::from_str(raw.get()))?;
        let revision = metadata["resourceVersion"].as_str().and_then(|rv| rv.parse().ok());
        let mut items: Vec<Item> =
            items.unwrap_or_default().into_iter().map(|raw| Item::new(raw.get())).collect();
        items.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(List { revision: revision.unwrap_or(0), items })
    }
}

#[cfg(test)]
mod tests;
