//! What was asked of the API and what came: counters that a monitor reads while others count.

use std::sync::atomic::{AtomicU64, Ordering};

/// One counter.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All that is counted, from the start of the process.
#[derive(Debug, Default)]
pub struct Traffic {
    /// Requests for a whole list, or a page of one, by how they ended.
    pub lists: Outcomes,
    /// Requests for a watch, by how they began.
    pub watches: Outcomes,
    /// Requests that only ask whether it is still the same cluster, by how they ended.
    pub probes: Outcomes,
    /// Bytes of bodies, after gzip was undone.
    pub bytes: Count,
    /// Events of watches, bookmarks among them.
    pub events: Count,
    /// How often a resourceVersion was too old to go on from.
    pub gone: Count,
}

/// How requests of one sort ended.
#[derive(Debug, Default)]
pub struct Outcomes {
    /// 200.
    pub ok: Count,
    /// 4xx: the server does not want to.
    pub refused: Count,
    /// 5xx, and whatever else it answers.
    pub failed: Count,
    /// No answer at all.
    pub unanswered: Count,
}

impl Outcomes {
    /// Each with the word for it.
    pub fn each(&self) -> [(&'static str, u64); 4] {
        [
            ("ok", self.ok.get()),
            ("refused", self.refused.get()),
            ("failed", self.failed.get()),
            ("unanswered", self.unanswered.get()),
        ]
    }

    /// Counts an answer's status; none where no answer came.
    pub(super) fn count(&self, status: Option<u16>) {
        match status {
            Some(200) => self.ok.one(),
            Some(400..=499) => self.refused.one(),
            Some(_) => self.failed.one(),
            None => self.unanswered.one(),
        }
    }
}
