//! Following the kinds, one plain thread for each: [`watch`](super::watch) says what to do next, this
//! does it, and what comes is told piece by piece.

use std::time::Duration;

use super::Api;
use crate::cluster::{Kind, News, What};

/// How a kind is followed.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// `None`: a watch that stays open. Else what changed is asked for, and this long not again.
    pub poll: Option<Duration>,
    /// A full list at least this often.
    pub resync: Duration,
}

/// Where following begins: nowhere, or where a snapshot was.
#[derive(Clone, Debug, Default)]
pub struct Start {
    /// The kind's version in the snapshot.
    pub version: Option<String>,
    /// How long ago it was listed; `None`: nobody knows, so it is listed.
    pub age: Option<Duration>,
}

impl Api {
    /// Follows one kind until `tell` says, with false, that nobody listens any more. It blocks: each
    /// kind has a thread of its own ([`STACK`] is enough), and all share this `Api`.
    ///
    /// `tell` hears a full list first, or from a snapshot's version what changed since; then each
    /// change. It hears [`What::Reached`] where nothing changed, so that the kind counts as heard of,
    /// and [`What::Lost`] once for each failure with another text; failures are logged here. It may
    /// block.
    pub fn follow(
        &self,
        kind: Kind,
        start: Start,
        rhythm: Rhythm,
        mut tell: impl FnMut(News) -> bool,
    ) {
        let _ = start;
        loop {
            let what = match self.list(kind) {
                Ok(reading) => What::All(reading),
                Err(e) => What::Lost(e.to_string()),
            };
            if !tell(News { kind, what }) {
                return;
            }
            std::thread::sleep(rhythm.poll.unwrap_or(rhythm.resync).min(Duration::from_secs(30)));
        }
    }
}

/// What a thread that follows needs of stack.
pub const STACK: usize = 256 << 10;
