//! The last good cluster on disk, for a start without the API and for a pass that asks only what
//! changed.
//!
//! Text: a line that names the format, a line of JSON about the whole, one line of JSON for each
//! object, and a last line with their number and a checksum (FNV-1a) of all before it. It is read and
//! written as a stream, and put in place by a rename. What can't be used is put aside and stops
//! nothing.

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
    cluster::{Cluster, EndpointSlice, Kind, Known, Node, Object, Service},
    error::{self, Doing},
    few::{Few, Sorted},
    json, log,
};

/// Which cluster this is, as far as it can be told without asking.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The server's URL.
    pub server: String,
    /// A hash of the CA's certificates; 0 without one.
    pub ca: u64,
    /// The name of this node.
    pub node: String,
}

/// What the server told of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// The uid of this node's Node object: by it the server is known to be the same cluster.
    pub uid: Option<String>,
    /// In which of their shapes it serves endpoints.
    pub endpoints: usize,
}

/// FNV-1a of 64 bits: finds what a disk did to a file, and costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sum(pub u64);

impl Default for Sum {
    fn default() -> Sum {
        Sum(0xcbf2_9ce4_8422_2325)
    }
}

impl Sum {
    /// Takes in what comes next.
    pub fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

/// What a snapshot told.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The cluster. Nothing of it is doubtful: that is for [`Known::new`].
    pub cluster: Cluster,
    /// Where a watch of each kind goes on.
    pub versions: Few<Kind, String>,
    /// What the server told of itself.
    pub contact: Contact,
    /// When the oldest of its full lists was made, in seconds since 1970.
    pub listed: u64,
    /// The name of the node that it was written on.
    pub node: Box<str>,
}

impl Snapshot {
    /// How long ago the oldest full list was made. `None`: the clock is before it, so nobody knows.
    pub fn age(&self) -> Option<Duration> {
        now().checked_sub(self.listed).map(Duration::from_secs)
    }
}

/// The clock, in seconds since 1970.
pub fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// What a file holds, whatever cluster it is of; nothing where there is none. It is only read.
pub fn peek(path: &Path) -> error::Result<Option<Snapshot>> {
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
        Err(Unusable::Io(e)) => Err(e).doing(doing),
        Err(Unusable::Bad(why)) => Err(why).doing(doing),
    }
}

/// The first line; a later form of the file has another number.
const FORMAT: &str = "kinglet snapshot 2";
/// Its objects lack what later ones tell (annotations of BGP, readiness): they are good to start from,
/// and everything is listed.
const BEFORE: &str = "kinglet snapshot 1";
/// What every form of it starts with.
const NAME: &str = "kinglet snapshot ";
/// Where only versions moved on, the file is left alone for so many seconds: flash wears out.
const VERSIONS: u64 = 600;

/// The second line.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    identity: Identity,
    contact: Contact,
    /// When a full list was made last, and when this was written.
    listed: u64,
    written: u64,
    /// The kinds that are held. Without a version: one that has to be listed, since something of it
    /// was not understood.
    kinds: Few<Kind, Option<String>>,
}

/// An object, as it is written; `cluster::Object` is how it is read.
#[derive(Serialize)]
enum Line<'a> {
    Node(&'a Node),
    Service(&'a Service),
    EndpointSlice(&'a EndpointSlice),
}

/// Why a file tells nothing.
enum Unusable {
    /// It can't be read at all.
    Io(io::Error),
    /// It is not what it should be.
    Bad(String),
}

/// The file, and what is known to be in it.
#[derive(Debug)]
pub struct File {
    path: Option<PathBuf>,
    identity: Identity,
    /// What was read or written last, and the sum of its objects' lines.
    last: Option<(Header, Sum)>,
    /// Written beside the file in force, and not in its place yet.
    beside: Option<fs::File>,
    /// It could not be written, and that was told.
    refused: bool,
}

impl File {
    /// Reads and writes nothing yet. Without a path, nothing ever.
    pub fn new(path: Option<PathBuf>, identity: Identity) -> File {
        File { path, identity, last: None, beside: None, refused: false }
    }

    /// What it holds. One that is damaged, of another cluster or of a later version is renamed to
    /// `….bad` with a warning, and counts as none.
    pub fn load(&mut self) -> Option<Snapshot> {
        let path = self.path.as_ref()?;
        let why = match self.read(path) {
            Ok((header, sum, cluster)) => return Some(self.keep(header, sum, cluster)),
            Err(Unusable::Io(e)) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(Unusable::Io(e)) => {
                log::warn(format_args!("reading the snapshot {}: {e}", path.display()));
                return None;
            }
            Err(Unusable::Bad(why)) => why,
        };
        let bad = aside(path);
        let moved = match fs::rename(path, &bad) {
            Ok(()) => format!("it is now {}", bad.display()),
            Err(e) => format!("it stays where it is: {e}"),
        };
        log::warn(format_args!("the snapshot {} is not used: {why}; {moved}", path.display()));
        None
    }

    fn keep(&mut self, mut header: Header, sum: Sum, cluster: Cluster) -> Snapshot {
        if header.identity.node != self.identity.node {
            // Its uid is that of somebody else's Node.
            header.contact.uid = None;
        }
        let versions = header.kinds.iter().filter_map(|(k, v)| Some((*k, v.clone()?))).collect();
        let (contact, listed) = (header.contact.clone(), header.listed);
        self.last = Some((header, sum));
        Snapshot { cluster, versions, contact, listed, node: self.identity.node.as_str().into() }
    }

    fn read(&self, path: &Path) -> Result<(Header, Sum, Cluster), Unusable> {
        let from = fs::File::open(path).map_err(Unusable::Io)?;
        let (header, sum, cluster) = read(BufReader::with_capacity(16 << 10, from))?;
        let Identity { server, ca, .. } = &header.identity;
        if *server != self.identity.server {
            return Err(Unusable::Bad(format!("it is of another cluster, {server}")));
        }
        if *ca != self.identity.ca {
            let why = format!("it is of another cluster: {server} had another CA then");
            return Err(Unusable::Bad(why));
        }
        Ok((header, sum, cluster))
    }

    /// Writes it beside the one in force, where the objects changed since it was read or written, or
    /// `listed` did; says whether [`File::settle`] is to follow. That it can't be written is an error
    /// only once. `listed` and `contact` as in [`Snapshot`].
    pub fn save(&mut self, known: &Known, listed: u64, contact: &Contact) -> error::Result<bool> {
        let Some(path) = &self.path else { return Ok(false) };
        let doubtful: Sorted<Kind> = known.complaints().map(|bad| bad.kind).collect();
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
        if let Some((_, of)) = self.last.as_ref().filter(|(last, _)| is_same(last, &header)) {
            let mut sum = Sum::default();
            let counted = each_line(&known.cluster, |line| {
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
                self.beside = Some(file);
                Ok(true)
            }
            Err(e) => self.refuse(e),
        }
    }

    /// Puts what was written in its place, and says whether there was anything. It waits until the
    /// disk has it, which after half a minute it has: the kernel writes by itself what is older.
    pub fn settle(&mut self) -> error::Result<bool> {
        let (Some(path), Some(file)) = (&self.path, self.beside.take()) else { return Ok(false) };
        // Else the new name may come to the disk before what it names.
        let settled = file.sync_all().and_then(|()| fs::rename(beside(path, ".new"), path));
        match settled.doing(|| format!("writing the snapshot {}", path.display())) {
            Ok(()) => {
                self.refused = false;
                Ok(true)
            }
            Err(e) => self.refuse(e),
        }
    }

    /// Whether something waits for [`File::settle`].
    pub fn is_unsettled(&self) -> bool {
        self.beside.is_some()
    }

    fn refuse(&mut self, e: error::Error) -> error::Result<bool> {
        self.last = None;
        if std::mem::replace(&mut self.refused, true) { Ok(false) } else { Err(e) }
    }
}

/// Whether it is not worth a write, where nothing else differs.
fn is_same(last: &Header, header: &Header) -> bool {
    let held = |header: &Header| -> Vec<(Kind, bool)> {
        header.kinds.iter().map(|(kind, version)| (*kind, version.is_some())).collect()
    };
    let fresh = header.written.checked_sub(last.written).is_some_and(|age| age < VERSIONS);
    last.identity == header.identity
        && last.contact == header.contact
        && last.listed == header.listed
        && held(last) == held(header)
        && (fresh || last.kinds == header.kinds)
}

/// Where a snapshot is put that can't be used.
pub fn aside(path: &Path) -> PathBuf {
    beside(path, ".bad")
}

/// `path` with more at its end.
fn beside(path: &Path, more: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(more);
    name.into()
}

/// The line of each object, one at a time.
fn each_line(
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

/// Given with the file is the sum of all objects.
fn write(path: &Path, header: &Header, cluster: &Cluster) -> io::Result<(fs::File, Sum)> {
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let new = beside(path, ".new");
    let file =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    let (mut to, mut sum) = (BufWriter::with_capacity(16 << 10, &file), Sum::default());
    let mut put = |bytes: &[u8]| {
        sum.add(bytes);
        to.write_all(bytes)
    };
    put(format!("{FORMAT}\n{}\n", serde_json::to_string(header)?).as_bytes())?;
    let mut objects = Sum::default();
    let count = each_line(cluster, |line| {
        objects.add(line);
        put(line)
    })?;
    writeln!(to, "end {count} {:016x}", sum.0)?;
    to.flush()?;
    drop(to);
    Ok((file, objects))
}

/// Reads a snapshot; memory holds the cluster and one line.
fn read(mut from: impl BufRead) -> Result<(Header, Sum, Cluster), Unusable> {
    let bad = |why: String| Unusable::Bad(why);
    let (mut all, mut objects) = (Sum::default(), Sum::default());
    let mut line = String::new();
    let mut next = |line: &mut String| {
        line.clear();
        match from.by_ref().take(page::ITEM as u64).read_line(line) {
            Err(e) if e.kind() == io::ErrorKind::InvalidData => Err(bad("it is no text".into())),
            Err(e) => Err(Unusable::Io(e)),
            Ok(_) if line.ends_with('\n') => Ok(()),
            Ok(_) => Err(bad("it is damaged: it ends too early".into())),
        }
    };
    next(&mut line)?;
    all.add(line.as_bytes());
    let old = line.trim_end() == BEFORE;
    if line.trim_end() != FORMAT && !old {
        return Err(bad(match line.strip_prefix(NAME) {
            Some(_) => "another version of kinglet wrote it".into(),
            None => "it is no snapshot of kinglet's".into(),
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
                false => Err(bad("it is damaged: its checksum is another one".into())),
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

/// Reads what may be a snapshot, from anywhere.
pub fn from_snapshot(from: impl BufRead) -> Result<Cluster, String> {
    match read(from) {
        Ok((.., cluster)) => Ok(cluster),
        Err(Unusable::Bad(why)) => Err(why),
        Err(Unusable::Io(e)) => Err(e.to_string()),
    }
}

#[cfg(test)]
mod tests;
