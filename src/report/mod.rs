//! What people and monitors read: health, metrics, `kinglet status`, and whether a load balancer
//! should send traffic here.
//!
//! The daemon writes down what it does ([`Facts`]); a thread of its own shows it ([`Desk`]). So a long
//! pass never looks like a dead node (a kubelet that gets no answer for nine seconds kills the pod,
//! and a first fill on a small board may take longer), and a loop that is stuck can still be told:
//! `/healthz` says 500 once the loop has not beaten for longer than it ever sleeps.

pub mod ask;
pub mod bgp;
pub mod desk;
pub mod http;
mod lines;
pub mod metrics;
mod pages;
pub mod status;
pub mod text;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::bgp::session::Looker;
pub use desk::Desk;
pub use status::Status;

/// The folder of the status socket, which dies with the boot.
pub const RUN_DIR: &str = "/run/kinglet";
/// The status socket in it.
pub const SOCKET: &str = "status";

/// What the daemon does, for others to read. Clones share it.
#[derive(Clone)]
pub struct Facts(Arc<Shared>);

struct Shared {
    status: Mutex<Status>,
    /// Who asks the BGP speaker, where there is one.
    bgp: OnceLock<Looker>,
    start: Instant,
    /// Milliseconds after `start` of the loop's last sign of life.
    beat: AtomicU64,
    /// Milliseconds that may lie between two.
    limit: u64,
}

impl Facts {
    /// Starts with what is known at the start. A loop that gives no sign of life for longer than
    /// `limit` is stuck: that has to be more than the longest sleep and the longest pass.
    pub fn new(mut status: Status, limit: Duration) -> Facts {
        (status.started, status.pid) = (unix(), std::process::id());
        let limit = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let (status, start) = (Mutex::new(status), Instant::now());
        let (bgp, beat) = (OnceLock::new(), AtomicU64::new(0));
        Facts(Arc::new(Shared { status, bgp, start, beat, limit }))
    }

    /// Seconds since the start, by a clock that nobody can set. Times in a [`Status`] are these.
    pub fn now(&self) -> u64 {
        self.0.start.elapsed().as_secs()
    }

    /// The loop lives.
    pub fn beat(&self) {
        self.0.beat.store(self.millis(), Ordering::Relaxed);
    }

    /// Writes something down; short, for the readers wait.
    pub fn write(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.lock());
    }

    /// There is a BGP speaker to be asked.
    pub fn show_bgp(&self, looker: Looker) {
        let _ = self.0.bgp.set(looker);
    }

    /// What the BGP speaker has to show under a path; `None`: there is none, or no such page.
    pub fn bgp(&self, path: &str) -> Option<Result<String, String>> {
        self.0.bgp.get()?.look(|speaker, now| bgp::page(speaker, now, path))
    }

    /// Reads what is written.
    pub fn read<T>(&self, look: impl FnOnce(&Status) -> T) -> T {
        let peers = self.0.bgp.get().map(|looker| looker.look(bgp::peers));
        let mut status = self.lock();
        status.uptime = self.now();
        status.stuck = self.stuck();
        if let Some(peers) = peers {
            status.bgp = peers;
        }
        look(&status)
    }

    /// For how many seconds the loop has been stuck; `None`: it works.
    pub fn stuck(&self) -> Option<u64> {
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

/// Seconds since 1970, by the clock that somebody may set.
pub fn unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_stuck_when_it_is_silent_for_longer_than_its_limit() {
        let facts = Facts::new(Status::default(), Duration::from_millis(20));
        assert_eq!(facts.stuck(), None, "from the first moment");
        std::thread::sleep(Duration::from_millis(40));
        assert_eq!(facts.stuck(), Some(0));
        assert!(facts.read(|status| status.stuck.is_some()));
        facts.beat();
        assert_eq!(facts.stuck(), None);
    }
}
