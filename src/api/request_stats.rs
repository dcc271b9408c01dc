//! Counters of the requests to the API server and of the data received.
//!
//! They are atomic: the threads that send requests count, while the status page reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter that starts at 0 and only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// Adds 1.
    pub(crate) fn increment(&self) {
        self.add(1);
    }

    /// Adds `more`.
    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Returns the current value.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one client, since the process started.
#[derive(Debug, Default)]
pub(crate) struct RequestStats {
    /// Requests for a list or a page of a list, by result.
    pub lists: Outcomes,
    /// Requests for a watch, by the result with which the watch was opened.
    pub watches: Outcomes,
    /// Requests that only check if the server is still of the same cluster, by result.
    pub probes: Outcomes,
    /// Bytes of response bodies, after decompression.
    pub bytes: Count,
    /// Events received by watches, including bookmarks.
    pub events: Count,
    /// Watches that could not continue from their resourceVersion, because the version had expired (410
    /// Gone) or was newer than the server's.
    pub expired: Count,
}

/// The results of the requests of one kind.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// Status 200.
    pub ok: Count,
    /// Status 4xx: the server refused the request.
    pub refused: Count,
    /// Status 5xx, or any other status than 200 and 4xx.
    pub failed: Count,
    /// No response, because of a network error or a timeout.
    pub unanswered: Count,
}

impl Outcomes {
    /// Returns each result's label, as used in the metrics, with its count.
    pub(crate) fn by_result(&self) -> [(&'static str, u64); 4] {
        [
            ("ok", self.ok.get()),
            ("refused", self.refused.get()),
            ("failed", self.failed.get()),
            ("unanswered", self.unanswered.get()),
        ]
    }

    /// Counts a response by its status; `None` if there was no response.
    pub(super) fn count(&self, status: Option<u16>) {
        match status {
            Some(200) => self.ok.increment(),
            Some(400..=499) => self.refused.increment(),
            Some(_) => self.failed.increment(),
            None => self.unanswered.increment(),
        }
    }
}
