//! The status that the daemon's loop writes and other threads read.

use super::{bgp, status::Status};
use crate::bgp::session::SpeakerReader;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// The file name of the status socket, in the folder that `--run-dir` names.
pub(crate) const SOCKET: &str = "status";

/// The daemon's [`Status`], shared between its loop and the server thread. Clones share one value.
#[derive(Clone)]
pub struct SharedStatus(Arc<SharedInner>);

struct SharedInner {
    status: Mutex<Status>,
    /// Read access to the BGP speaker; empty until [`SharedStatus::show_bgp`].
    bgp: OnceLock<SpeakerReader>,
    start: Instant,
    /// The time of the loop's last heartbeat, in milliseconds since `start`.
    beat: AtomicU64,
    /// The longest time between two heartbeats of a working loop, in milliseconds.
    limit: u64,
}

impl SharedStatus {
    /// Creates the shared status; sets the start time and the process ID. The loop counts as stuck if
    /// its last heartbeat is older than `limit`, so `limit` must exceed the longest sleep and the longest
    /// pass.
    pub fn new(mut status: Status, limit: Duration) -> SharedStatus {
        (status.started, status.pid) = (unix(), std::process::id());
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let (status, start) = (Mutex::new(status), Instant::now());
        let (bgp, beat) = (OnceLock::new(), AtomicU64::new(0));
        SharedStatus(Arc::new(SharedInner { status, bgp, start, beat, limit }))
    }

    /// Returns the seconds since the start on the monotonic clock. Times in a [`Status`] use this zero.
    pub(crate) fn now(&self) -> u64 {
        self.0.start.elapsed().as_secs()
    }

    /// Records a heartbeat of the loop.
    pub(crate) fn beat(&self) {
        self.0.beat.store(self.millis(), Ordering::Relaxed);
    }

    /// Changes the status. `change` must be short because readers wait for the lock.
    pub fn write(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock());
    }

    /// Connects the BGP speaker, so that its peers and routes can be shown.
    pub(crate) fn show_bgp(&self, reader: SpeakerReader) {
        let _ = self.0.bgp.set(reader);
    }

    /// Renders a BGP page. Returns `None` if BGP does not run or the path does not exist, and an error if
    /// the path names an unknown peer.
    pub(crate) fn bgp_page(&self, path: &str) -> Option<Result<String, String>> {
        self.0.bgp.get()?.look(|speaker, now| bgp::page(speaker, now, path))
    }

    /// Reads the status, with uptime, heartbeat and BGP peers brought up to date.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Status) -> T) -> T {
        let peers = self.0.bgp.get().map(|reader| reader.look(bgp::peers));
        let mut status = self.lock();
        status.uptime = self.now();
        status.stuck = self.stuck();
        if let Some(peers) = peers {
            status.bgp = peers;
        }
        look(&status)
    }

    /// Returns the seconds since the last heartbeat if the loop is stuck; `None` if the loop works.
    pub(crate) fn stuck(&self) -> Option<u64> {
        let silent = self.millis().saturating_sub(self.0.beat.load(Ordering::Relaxed));
        (silent > self.0.limit).then_some(silent / 1000)
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, Status> {
        self.0.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the seconds since 1970 on the system clock, which may jump; 0 if the clock is before 1970.
pub(crate) fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_without_a_heartbeat_within_the_limit_is_stuck() {
        let facts = SharedStatus::new(Status::default(), Duration::from_millis(20));
        assert_eq!(facts.stuck(), None, "creation counts as a heartbeat");
        std::thread::sleep(Duration::from_millis(40));
        assert_eq!(facts.stuck(), Some(0));
        assert!(facts.read(|status| status.stuck.is_some()));
        facts.beat();
        assert_eq!(facts.stuck(), None);
    }

    #[test]
    fn the_time_is_that_of_the_system_clock() {
        let file = std::env::temp_dir().join(format!("kinglet-clock-{}", std::process::id()));
        std::fs::write(&file, "").unwrap();
        let written = std::fs::metadata(&file).unwrap().modified().unwrap();
        std::fs::remove_file(&file).unwrap();
        let written = written.duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!((written..written + 60).contains(&unix()));
    }
}
