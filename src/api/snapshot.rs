//! The snapshot: the last good cluster on disk. A start without the API server works from it, and a
//! pass continues from its resourceVersions and fetches only the changes.
//!
//! The file is text: a line with the name of the format, the header as a line of JSON, one line of JSON
//! per object, and a last line with the number of objects and a checksum (FNV-1a) of everything before
//! it. [`SnapshotFile::save`] writes it as a stream to a second file, and [`SnapshotFile::settle`] renames that into
//! place. [`SnapshotFile::load`] renames a damaged or foreign file to `….bad` and continues without it.

use std::{
    fs,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use super::page;
use crate::{
    codec::json,
    collections::{FlatMap, FlatSet},
    error::{self, Doing},
    hash::Sum,
    log,
    model::cluster::{Cluster, ClusterStore, EndpointSlice, Kind, Node, Object, Service},
};

/// The identity of a cluster as far as it is known without a request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The server's URL.
    pub server: String,
    /// A hash of the CA's certificates; 0 if there is no CA.
    pub ca: u64,
    /// The name of this node.
    pub node: String,
}

/// Facts that the server gave about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// The uid of this node's Node object. A server that has a Node with this uid is of the same cluster.
    /// `None` if it is not known.
    pub uid: Option<String>,
    /// The resource in which the server has endpoints, as an index into `api::server::resources`.
    pub endpoints: usize,
}

/// The contents of a snapshot.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The cluster. Its `doubtful` is empty; [`ClusterStore::new`] fills it.
    pub cluster: Cluster,
    /// The resourceVersion of each kind from which a watch continues. A kind without one must be listed.
    pub versions: FlatMap<Kind, String>,
    /// The facts that the server gave about itself.
    pub contact: Contact,
    /// Time of the oldest of the full lists, in seconds since 1970.
    pub listed: u64,
    /// The name of the node that wrote the file.
    pub node: Box<str>,
}

impl Snapshot {
    /// Returns the time since the oldest full list. `None` if the clock is before that list, because the
    /// age is unknown then.
    pub fn age(&self) -> Option<Duration> {
        now().checked_sub(self.listed).map(Duration::from_secs)
    }
}

/// Returns the time of the system clock in seconds since 1970; 0 if it is earlier than that.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// Reads a snapshot file without a check of its cluster, and leaves it in place even if it is damaged.
/// Returns `None` if there is no file. Fails if it can't be read or is damaged.
pub fn read_any(path: &Path) -> error::Result<Option<Snapshot>> {
    let doing = || format!("reading the snapshot {}", path.display());
    let from = match fs::File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        from => from.doing(doing)?,
    };
    match read(BufReader::with_capacity(16 << 10, from)) {
        Ok((Header { identity, listed, contact, .. }, _, cluster)) => {
            let node = identity.node.into();
            Ok(Some(Snapshot { cluster, contact, listed, node, ..Snapshot::default() }))
        }
        Err(ReadError::Io(e)) => Err(e).doing(doing),
        Err(ReadError::Bad(why)) => Err(why).doing(doing),
    }
}

/// The first line. Each later format has a new number.
const FORMAT: &str = "kinglet snapshot 2";
/// The first line of the previous format. Its Nodes lack fields (BGP annotations, readiness), so they are
/// used for a start, but every kind is listed.
const OLD_FORMAT: &str = "kinglet snapshot 1";
/// The start of the first line in every format.
const FORMAT_PREFIX: &str = "kinglet snapshot ";
/// Seconds for which the file is not rewritten if only resourceVersions changed, because each write
/// wears out flash memory.
const VERSIONS_ONLY_INTERVAL: u64 = 600;

/// The second line of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    identity: Identity,
    contact: Contact,
    /// Time of the last full list, in seconds since 1970.
    listed: u64,
    /// Time at which the file was written, in seconds since 1970.
    written: u64,
    /// The kinds in the file, with their resourceVersions. `None` for a kind that must be listed because
    /// one of its objects could not be parsed.
    kinds: FlatMap<Kind, Option<String>>,
}

/// An object by reference, for writing. [`Object`] has the same variants, for reading.
#[derive(Serialize)]
enum Line<'a> {
    Node(&'a Node),
    Service(&'a Service),
    EndpointSlice(&'a EndpointSlice),
}

/// The reason why a file can't be used.
enum ReadError {
    /// Reading failed.
    Io(io::Error),
    /// The file is damaged, or not for this cluster or this version of kinglet.
    Bad(String),
}

/// The snapshot file, and a summary of its current contents.
#[derive(Debug)]
pub struct SnapshotFile {
    path: Option<PathBuf>,
    identity: Identity,
    /// The header of the last read or write, and the hash of the lines of the objects. `None` if the
    /// contents are unknown.
    last: Option<(Header, Sum)>,
    /// A file that was written but not yet renamed into place.
    pending: Option<fs::File>,
    /// True if the last write failed. The next failures are not reported then.
    failed: bool,
}

impl SnapshotFile {
    /// Creates the handle; the disk is not accessed yet. If `path` is `None`, there is no snapshot: nothing
    /// is read or written.
    pub fn new(path: Option<PathBuf>, identity: Identity) -> SnapshotFile {
        SnapshotFile { path, identity, last: None, pending: None, failed: false }
    }

    /// Reads the file. Returns `None` if there is none. A file that is damaged, of another cluster or of
    /// another version of kinglet is renamed to `….bad` with a warning, and `None` is returned.
    pub fn load(&mut self) -> Option<Snapshot> {
        let path = self.path.as_ref()?;
        let why = match self.read(path) {
            Ok((header, sum, cluster)) => return Some(self.accept(header, sum, cluster)),
            Err(ReadError::Io(e)) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(ReadError::Io(e)) => {
                log::warn(format_args!("reading the snapshot {}: {e}", path.display()));
                return None;
            }
            Err(ReadError::Bad(why)) => why,
        };
        let bad = rejected_path(path);
        let moved = match fs::rename(path, &bad) {
            Ok(()) => format!("it was renamed to {}", bad.display()),
            Err(e) => format!("it could not be renamed to {}: {e}", bad.display()),
        };
        log::warn(format_args!("the snapshot {} is not used: {why}; {moved}", path.display()));
        None
    }

    /// Remembers the header, and returns the snapshot without the values that are not valid here.
    fn accept(&mut self, mut header: Header, sum: Sum, cluster: Cluster) -> Snapshot {
        if header.identity.node != self.identity.node {
            // The uid is that of another node's Node object.
            header.contact.uid = None;
        }
        let versions = header.kinds.iter().filter_map(|(k, v)| Some((*k, v.clone()?))).collect();
        let (contact, listed) = (header.contact.clone(), header.listed);
        self.last = Some((header, sum));
        Snapshot { cluster, versions, contact, listed, node: self.identity.node.as_str().into() }
    }

    /// Reads the file, and fails if it is of another cluster.
    fn read(&self, path: &Path) -> Result<(Header, Sum, Cluster), ReadError> {
        let from = fs::File::open(path).map_err(ReadError::Io)?;
        let (header, sum, cluster) = read(BufReader::with_capacity(16 << 10, from))?;
        let Identity { server, ca, .. } = &header.identity;
        if *server != self.identity.server {
            return Err(ReadError::Bad(format!("it is of another cluster, {server}")));
        }
        if *ca != self.identity.ca {
            let why = format!("it is of another cluster: the CA of {server} was another one");
            return Err(ReadError::Bad(why));
        }
        Ok((header, sum, cluster))
    }

    /// Writes the snapshot to a second file, unless neither the objects nor `listed` changed since the
    /// last read or write. Returns true if it was written; [`SnapshotFile::settle`] must follow. Fails if it can't
    /// be written, but only the first time; the next failures return false. `listed` and `contact` are as
    /// in [`Snapshot`].
    pub fn save(
        &mut self,
        known: &ClusterStore,
        listed: u64,
        contact: &Contact,
    ) -> error::Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        let doubtful: FlatSet<Kind> = known.complaints().map(|bad| bad.kind).collect();
        let kinds = known.versions.iter().map(|(kind, version)| {
            (*kind, Some(version.clone()).filter(|_| !doubtful.contains(kind)))
        });
        let header = Header {
            identity: self.identity.clone(),
            contact: contact.clone(),
            listed,
            written: now(),
            kinds: kinds.collect(),
        };
        let doing = || format!("writing the snapshot {}", path.display());
        if let Some((_, of)) = self.last.as_ref().filter(|(last, _)| is_unchanged(last, &header)) {
            let mut sum = Sum::default();
            let counted = for_each_line(&known.cluster, |line| {
                sum.add(line);
                Ok(())
            });
            counted.doing(doing)?;
            if *of == sum {
                return Ok(false);
            }
        }
        match write(path, &header, &known.cluster).doing(doing) {
            Ok((file, sum)) => {
                self.last = Some((header, sum));
                self.pending = Some(file);
                Ok(true)
            }
            Err(e) => self.write_failed(e),
        }
    }

    /// Renames the written file into place. Returns false if nothing was pending. It waits for fsync(2),
    /// which is quick half a minute after [`SnapshotFile::save`], because the kernel has written the pages by
    /// itself then. Fails as [`SnapshotFile::save`] does.
    pub fn settle(&mut self) -> error::Result<bool> {
        let (Some(path), Some(file)) = (&self.path, self.pending.take()) else { return Ok(false) };
        // Without fsync the rename may reach the disk before the contents.
        let settled = file.sync_all().and_then(|()| fs::rename(with_suffix(path, ".new"), path));
        match settled.doing(|| format!("writing the snapshot {}", path.display())) {
            Ok(()) => {
                self.failed = false;
                Ok(true)
            }
            Err(e) => self.write_failed(e),
        }
    }

    /// Returns true if [`SnapshotFile::settle`] is due.
    pub fn is_unsettled(&self) -> bool {
        self.pending.is_some()
    }

    /// Forgets the contents of the file. Returns the error if it is the first since the last success.
    fn write_failed(&mut self, e: error::Error) -> error::Result<bool> {
        self.last = None;
        if std::mem::replace(&mut self.failed, true) { Ok(false) } else { Err(e) }
    }
}

/// Returns true if the new header alone is no reason to write: nothing differs, or only the versions and
/// the last write is recent.
fn is_unchanged(last: &Header, header: &Header) -> bool {
    let held = |header: &Header| -> Vec<(Kind, bool)> {
        header.kinds.iter().map(|(kind, version)| (*kind, version.is_some())).collect()
    };
    let fresh =
        header.written.checked_sub(last.written).is_some_and(|age| age < VERSIONS_ONLY_INTERVAL);
    last.identity == header.identity
        && last.contact == header.contact
        && last.listed == header.listed
        && held(last) == held(header)
        && (fresh || last.kinds == header.kinds)
}

/// Returns the path to which an unusable snapshot is renamed.
pub fn rejected_path(path: &Path) -> PathBuf {
    with_suffix(path, ".bad")
}

/// Appends `suffix` to a path.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Passes the line of each object to `take`, and returns their number. One line is in memory at a time.
fn for_each_line(
    cluster: &Cluster,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<usize> {
    let nodes = cluster.nodes.values().map(Line::Node);
    let services = cluster.services.values().map(Line::Service);
    let slices = cluster.slices.values().map(Line::EndpointSlice);
    let (mut text, mut count) = (Vec::new(), 0);
    for line in nodes.chain(services).chain(slices) {
        text.clear();
        serde_json::to_writer(&mut text, &line)?;
        text.push(b'\n');
        take(&text)?;
        count += 1;
    }
    Ok(count)
}

/// Writes a snapshot to `path` with `.new` appended. Returns the open file and the hash of the lines of
/// the objects.
fn write(path: &Path, header: &Header, cluster: &Cluster) -> io::Result<(fs::File, Sum)> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let new = with_suffix(path, ".new");
    let file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let (mut to, mut sum) = (BufWriter::with_capacity(16 << 10, &file), Sum::default());
    let mut put = |bytes: &[u8]| {
        sum.add(bytes);
        to.write_all(bytes)
    };
    put(format!("{FORMAT}\n{}\n", serde_json::to_string(header)?).as_bytes())?;
    let mut objects = Sum::default();
    let count = for_each_line(cluster, |line| {
        objects.add(line);
        put(line)
    })?;
    writeln!(to, "end {count} {:016x}", sum.0)?;
    to.flush()?;
    drop(to);
    Ok((file, objects))
}

/// Reads a snapshot. Memory holds the cluster and one line. Returns the header, the hash of the lines of
/// the objects, and the cluster.
fn read(mut from: impl BufRead) -> Result<(Header, Sum, Cluster), ReadError> {
    let bad = |why: String| ReadError::Bad(why);
    let (mut all, mut objects) = (Sum::default(), Sum::default());
    let mut line = String::new();
    let mut next = |line: &mut String| {
        line.clear();
        match from.by_ref().take(page::MAX_ITEM as u64).read_line(line) {
            Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(bad("it is not text".into())),
            Err(e) => Err(ReadError::Io(e)),
            Ok(_) if line.ends_with('\n') => Ok(()),
            Ok(_) => Err(bad("it is damaged: it ends before its last line".into())),
        }
    };
    next(&mut line)?;
    all.add(line.as_bytes());
    let old = line.trim_end() == OLD_FORMAT;
    if line.trim_end() != FORMAT && !old {
        return Err(bad(match line.strip_prefix(FORMAT_PREFIX) {
            Some(_) => "another version of kinglet wrote it".into(),
            None => "it is not a kinglet snapshot".into(),
        }));
    }
    next(&mut line)?;
    all.add(line.as_bytes());
    let mut header: Header =
        json::from_str(&line).map_err(|e| bad(format!("it is damaged: {e}")))?;
    if old {
        header.kinds = header.kinds.keys().map(|kind| (*kind, None)).collect();
    }
    let (mut cluster, mut count) = (Cluster::default(), 0usize);
    loop {
        next(&mut line)?;
        if let Some(end) = line.strip_prefix("end ") {
            return match end.trim_end() == format!("{count} {:016x}", all.0) {
                true => Ok((header, objects, cluster)),
                false => Err(bad("it is damaged: its checksum does not match".into())),
            };
        }
        let object: Object = json::from_str(&line)
            .map_err(|e| bad(format!("it is damaged: line {}: {e}", count + 3)))?;
        cluster.insert(object);
        all.add(line.as_bytes());
        objects.add(line.as_bytes());
        count += 1;
    }
}

/// Reads a snapshot from any source. Fails with the reason if it is damaged or not a snapshot.
pub fn from_snapshot(from: impl BufRead) -> Result<Cluster, String> {
    match read(from) {
        Ok((.., cluster)) => Ok(cluster),
        Err(ReadError::Bad(why)) => Err(why),
        Err(ReadError::Io(e)) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::{
        api::{from_list, test_server},
        model::cluster::{Change, WatchUpdate},
    };

    const ALL: [Kind; 3] = [Kind::Node, Kind::Service, Kind::EndpointSlice];

    /// A folder that is removed at the end of the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Folder {
            let folder = std::env::temp_dir()
                .join(format!("kinglet-snapshot-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            Folder(folder)
        }

        fn file(&self) -> SnapshotFile {
            SnapshotFile::new(Some(self.path()), identity())
        }

        fn path(&self) -> PathBuf {
            self.0.join("deep/snapshot")
        }

        fn is_renamed_to_bad(&self) -> bool {
            !self.path().exists() && self.0.join("deep/snapshot.bad").exists()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn identity() -> Identity {
        Identity { server: "https://192.0.2.1:6443".into(), ca: 7, node: "node-1".into() }
    }

    fn contact() -> Contact {
        Contact { uid: Some("u-1".into()), endpoints: 0 }
    }

    /// Returns a store with the recorded objects of all three kinds, each listed in this run.
    fn known() -> ClusterStore {
        let mut known = ClusterStore::new(Cluster::default(), FlatMap::new(), &ALL);
        for (kind, name) in ALL.iter().zip(["nodes", "services", "endpointslices"]) {
            let mut reading = from_list_of(*kind, name);
            reading.versions.insert(*kind, "411".into());
            known.apply(WatchUpdate { kind: *kind, change: Change::Listed(reading) }, |_, _| {});
        }
        known
    }

    fn from_list_of(kind: Kind, name: &str) -> crate::model::cluster::ListResult {
        let reading = from_list(&test_server::recorded(&format!("list/{name}.json"))[..]).unwrap();
        assert!(!reading.cluster.is_empty_of(kind));
        reading
    }

    /// Saves and settles.
    fn write_now(
        file: &mut SnapshotFile,
        known: &ClusterStore,
        listed: u64,
    ) -> error::Result<bool> {
        file.save(known, listed, &contact()).and_then(|_| file.settle())
    }

    #[test]
    fn a_snapshot_reads_back_and_is_rewritten_only_after_a_change() {
        let folder = Folder::new("back");
        let (mut file, mut known) = (folder.file(), known());
        assert!(file.load().is_none());
        assert!(write_now(&mut file, &known, 1000).unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder.path()), 0o600);
        assert_eq!(mode(folder.path().parent().unwrap()), 0o700);
        assert!(!write_now(&mut file, &known, 1000).unwrap(), "nothing changed");

        let mut again = folder.file();
        let got = again.load().unwrap();
        assert_eq!(got.cluster, known.cluster);
        assert_eq!(
            (got.versions, got.listed, got.contact),
            (known.versions.clone(), 1000, contact())
        );
        assert!(!write_now(&mut again, &known, 1000).unwrap(), "nothing changed since it was read");
        known.versions.insert(Kind::Node, "500".into());
        assert!(
            !write_now(&mut again, &known, 1000).unwrap(),
            "a version alone is not written at once"
        );
        again.last.as_mut().unwrap().0.written -= VERSIONS_ONLY_INTERVAL;
        assert!(write_now(&mut again, &known, 1000).unwrap(), "it is written after the interval");
        assert!(write_now(&mut again, &known, 1001).unwrap(), "a full list was made");
        let first = known.cluster.nodes.keys().next().unwrap().clone();
        known.cluster.nodes.remove(&first);
        assert!(write_now(&mut again, &known, 1001).unwrap());
        let got = folder.file().load().unwrap();
        assert_eq!(
            (got.cluster.nodes.len(), got.versions.get(&Kind::Node)),
            (2, Some(&"500".to_owned()))
        );
        assert!(!folder.0.join("deep/snapshot.new").exists());
    }

    #[test]
    fn a_kind_with_an_invalid_object_has_no_version_in_the_snapshot() {
        let (folder, mut known) = (Folder::new("kind"), known());
        let name = known.cluster.services.keys().next().unwrap().clone();
        let what = Change::Object { name, now: Err("it is odd".into()), version: "412".into() };
        known.apply(WatchUpdate { kind: Kind::Service, change: what }, |_, _| {});
        write_now(&mut folder.file(), &known, 1000).unwrap();
        let got = folder.file().load().unwrap();
        assert_eq!(
            got.versions.keys().copied().collect::<Vec<_>>(),
            [Kind::Node, Kind::EndpointSlice]
        );
        assert_eq!(got.cluster.services.len(), 24);
    }

    #[test]
    fn a_snapshot_of_another_cluster_is_renamed_to_bad() {
        for (name, other) in [
            ("server", Identity { server: "https://192.0.2.2:6443".into(), ..identity() }),
            ("ca", Identity { ca: 8, ..identity() }),
        ] {
            let folder = Folder::new(name);
            write_now(&mut folder.file(), &known(), 1000).unwrap();
            let mut file = SnapshotFile::new(Some(folder.path()), other);
            assert!(file.load().is_none() && folder.is_renamed_to_bad());
            assert!(write_now(&mut file, &known(), 1000).unwrap(), "a new one is written");
            assert!(file.load().is_some());
        }
        let folder = Folder::new("node");
        write_now(&mut folder.file(), &known(), 1000).unwrap();
        let node = Identity { node: "node-2".into(), ..identity() };
        let got = SnapshotFile::new(Some(folder.path()), node).load().unwrap();
        assert_eq!(got.contact.uid, None, "the uid is of another Node");
    }

    #[test]
    fn a_damaged_cut_or_newer_snapshot_is_renamed_to_bad() {
        let folder = Folder::new("bad");
        write_now(&mut folder.file(), &known(), 1000).unwrap();
        let good = fs::read(folder.path()).unwrap();
        let mut cases: Vec<Vec<u8>> = vec![
            b"".into(),
            b"\n".into(),
            b"nothing".into(),
            b"\xff\xfe\n".into(),
            b"kinglet snapshot 3\nwhatever".into(),
            b"kinglet snapshot 1\n{}\nend 0 0\n".into(),
            b"kinglet snapshot 2\n{}\nend 0 0\n".into(),
        ];
        cases.extend((0..good.len()).step_by(good.len() / 40).map(|end| good[..end].to_vec()));
        cases.extend((0..good.len()).step_by(good.len() / 40).map(|at| {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            bytes
        }));
        // One missing line; all others are intact.
        let lines: Vec<&[u8]> = good.split_inclusive(|b| *b == b'\n').collect();
        cases.push([&lines[..5], &lines[6..]].concat().concat());
        for case in cases {
            let _ = fs::remove_file(folder.0.join("deep/snapshot.bad"));
            fs::write(folder.path(), &case).unwrap();
            let got = folder.file().load();
            assert!(
                got.is_none() && folder.is_renamed_to_bad(),
                "{}",
                String::from_utf8_lossy(&case)
            );
        }
    }

    #[test]
    fn a_snapshot_of_the_old_format_loads_without_versions() {
        let folder = Folder::new("before");
        write_now(&mut folder.file(), &known(), 1000).unwrap();
        let text = fs::read_to_string(folder.path()).unwrap();
        let (body, end) = text.rsplit_once("end ").unwrap();
        let body = body.replacen(FORMAT, OLD_FORMAT, 1);
        let mut sum = Sum::default();
        sum.add(body.as_bytes());
        let count = end.split(' ').next().unwrap();
        fs::write(folder.path(), format!("{body}end {count} {:016x}\n", sum.0)).unwrap();

        let mut file = folder.file();
        let got = file.load().unwrap();
        assert_eq!((got.cluster, got.versions.len()), (known().cluster, 0));
        assert!(write_now(&mut file, &known(), 1000).unwrap(), "it is rewritten in the new format");
        let again = fs::read_to_string(folder.path()).unwrap();
        assert!(again.starts_with(FORMAT));
    }

    #[test]
    fn without_a_path_nothing_is_written_and_a_failed_write_is_reported_once() {
        let mut none = SnapshotFile::new(None, identity());
        assert!(none.load().is_none() && !write_now(&mut none, &known(), 1).unwrap());
        let folder = Folder::new("place");
        fs::create_dir_all(&folder.0).unwrap();
        fs::write(folder.0.join("deep"), "a file").unwrap();
        let mut file = folder.file();
        let why = write_now(&mut file, &known(), 1).unwrap_err().to_string();
        assert!(why.starts_with("writing the snapshot /"), "{why}");
        assert!(!write_now(&mut file, &known(), 2).unwrap());
    }

    #[test]
    fn the_age_is_unknown_if_the_clock_is_before_the_snapshot() {
        let past = Snapshot { listed: now() - 50, ..Snapshot::default() };
        assert!(past.age().unwrap().as_secs() >= 50);
        let future = Snapshot { listed: now() + 50, ..Snapshot::default() };
        assert_eq!(future.age(), None);
    }
}
