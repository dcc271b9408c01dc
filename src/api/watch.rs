//! How one kind is followed: what to do next, given what was heard. Pure: time and chance are passed
//! in, and what does the work is [`follow`](super::follow).
//!
//! A list gives a version, a watch goes on from it. Whatever breaks a watch leaves the version where
//! it is, and the next watch begins there: a list is made only where there is no version, where the
//! server has forgotten it, where what came makes no sense, and once per resync period. In front of a
//! watch that may be one of another server (after a snapshot, after a lost connection) stands a small
//! question, the probe: a watch from a version of the future would wait for ever.

use std::time::Duration;

/// The first wait after a failure; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(1);
/// The longest, and the most that a server may ask for.
pub const LONGEST: Duration = Duration::from_secs(30);
/// Seconds that a watch stays open: five to ten minutes, as client-go's, so that not all nodes come
/// back at once.
const OPEN: (u64, u64) = (300, 600);
/// Seconds of a watch that only asks what changed: the least that the API can be asked for.
pub const SHORT: u64 = 1;

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

/// What is to be done next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// List all.
    List,
    /// Ask whether it is still the same cluster, and not an older state of it.
    Probe,
    /// Watch from a version on.
    Watch {
        /// The version.
        version: String,
        /// For how long the server is asked to keep it open.
        seconds: u64,
    },
    /// Do nothing for a while.
    Wait(Duration),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// A full list, and its version.
    Listed(String),
    /// A list with nothing in it, and its version. No kind is ever empty in a cluster that lives, so it
    /// is listed again soon.
    Empty(String),
    /// It is the same cluster, and this is its version now.
    Probed(String),
    /// It is another cluster, or that can't be told.
    Foreign,
    /// The watch was accepted.
    Opened,
    /// An object changed, and the version that is reached with it.
    Event(String),
    /// Nothing changed up to this version.
    Bookmark(String),
    /// The watch came to its regular end.
    Ended,
    /// The server has forgotten the version, or has not come to it yet.
    Gone,
    /// The connection broke in the middle of a watch.
    Cut,
    /// A watch brought nothing for longer than it may.
    Silent,
    /// What came is no watch, or makes no sense.
    Garbage,
    /// A request was not answered, or not with what was asked for.
    Failed {
        /// The server answered.
        answered: bool,
        /// And asked to wait.
        retry_after: Option<Duration>,
    },
}

/// One kind that is followed.
#[derive(Debug)]
pub struct Following {
    rhythm: Rhythm,
    version: Option<String>,
    /// A list is due from here on, whatever was heard.
    due: Duration,
    /// What was heard last can't be gone on from.
    list: bool,
    /// The server may be another one than that of the version.
    doubt: bool,
    /// All that happened before this run has been heard.
    current: bool,
    /// Nothing is done before.
    until: Duration,
    /// Since when a watch is open, for how many seconds it was asked for, whether it brought anything.
    open: (Duration, u64, bool),
    /// In a row, without anything good between them.
    failures: u32,
    /// Versions that were forgotten, without a watch between them that lived.
    gones: u32,
    /// Lists with nothing in them, in a row.
    empties: u32,
    dice: u64,
}

impl Following {
    /// `seed`: any number that is another one on each node and for each kind.
    pub fn new(start: Start, rhythm: Rhythm, seed: u64) -> Following {
        let due = start.age.map_or(Duration::ZERO, |age| rhythm.resync.saturating_sub(age));
        Following {
            rhythm,
            due,
            list: false,
            doubt: start.version.is_some(),
            version: start.version,
            current: false,
            until: Duration::ZERO,
            open: (Duration::ZERO, 0, false),
            failures: 0,
            gones: 0,
            empties: 0,
            dice: seed | 1,
        }
    }

    /// Whether all that happened before this run has been heard.
    pub fn is_current(&self) -> bool {
        self.current
    }

    /// Whether watches work, as far as is known.
    pub fn is_well(&self) -> bool {
        self.gones == 0
    }

    /// The version that is reached.
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// What to do now. `now` is the time since any fixed moment.
    pub fn next(&mut self, now: Duration) -> Action {
        if now < self.until {
            return Action::Wait(self.until - now);
        }
        let Some(version) = self.version.clone().filter(|_| !self.list && now < self.due) else {
            return Action::List;
        };
        if self.doubt {
            return Action::Probe;
        }
        // From a snapshot's version a short one first: its end says that all has been heard.
        let seconds = if self.rhythm.poll.is_some() || !self.current {
            SHORT
        } else {
            let left = (self.due - now).as_secs().max(SHORT);
            left.min(OPEN.0 + self.chance(OPEN.1 - OPEN.0))
        };
        self.open = (now, seconds, false);
        Action::Watch { version, seconds }
    }

    /// Takes in what came. False: a watch that is open is of no use any more.
    pub fn hear(&mut self, now: Duration, heard: Heard) -> bool {
        match heard {
            Heard::Listed(version) => {
                self.empties = 0;
                self.listed(now, version, self.rhythm.resync);
            }
            Heard::Empty(version) => {
                self.empties = self.empties.saturating_add(1);
                let pause = self.pause(self.empties);
                self.listed(now, version, pause.min(self.rhythm.resync));
            }
            Heard::Probed(version) if !self.is_behind(&version) => self.doubt = false,
            Heard::Probed(_) | Heard::Foreign => self.list = true,
            Heard::Opened => {
                self.open.0 = now;
                return true;
            }
            // Versions only grow: either events are out of order, or the server went back in time.
            Heard::Event(version) if self.is_behind(&version) => self.list_anew(now),
            Heard::Event(version) => {
                self.version = Some(version);
                self.good(now);
                return true;
            }
            Heard::Bookmark(version) => {
                // Bookmarks may be old.
                if !self.is_behind(&version) {
                    self.version = Some(version);
                }
                self.good(now);
                return true;
            }
            Heard::Ended => self.ended(now),
            Heard::Gone | Heard::Garbage => self.list_anew(now),
            Heard::Silent if self.open.1 <= SHORT => self.list_anew(now),
            Heard::Silent => {
                self.doubt = true;
                if self.failures > 0 {
                    self.back_off(now, None);
                }
            }
            Heard::Cut => {
                self.good_if_it_lived(now);
                self.doubt = true;
                self.back_off(now, None);
            }
            Heard::Failed { answered, retry_after } => {
                self.doubt |= !answered;
                self.back_off(now, retry_after);
            }
        }
        false
    }

    fn listed(&mut self, now: Duration, version: String, again: Duration) {
        if !self.list {
            self.failures = 0;
        }
        self.version = Some(version);
        (self.list, self.doubt, self.current) = (false, false, true);
        self.due = now + again;
        self.until = now + self.rhythm.poll.unwrap_or_default();
    }

    fn ended(&mut self, now: Duration) {
        let (since, seconds, brought) = self.open;
        // Some proxy ended it at once: that says nothing.
        if !brought && (now - since).as_millis() * 2 < u128::from(seconds) * 1000 {
            self.good_if_it_lived(now);
            self.back_off(now, None);
            return;
        }
        (self.failures, self.gones, self.current) = (0, 0, true);
        self.until = now + self.rhythm.poll.unwrap_or_default();
    }

    /// Whether a version is older than what is known; versions that are no numbers can't be compared.
    fn is_behind(&self, version: &str) -> bool {
        let number = |text: &str| text.parse::<u64>().ok();
        match (number(version), self.version.as_deref().and_then(number)) {
            (Some(new), Some(known)) => new < known,
            _ => false,
        }
    }

    fn good(&mut self, now: Duration) {
        self.open.2 = true;
        self.failures = 0;
        self.good_if_it_lived(now);
    }

    fn good_if_it_lived(&mut self, now: Duration) {
        if now - self.open.0 >= LONGEST {
            (self.failures, self.gones) = (0, 0);
        }
    }

    /// A list, at once the first time; one that does not help is no reason for the next one at once.
    fn list_anew(&mut self, now: Duration) {
        self.good_if_it_lived(now);
        self.list = true;
        self.gones = self.gones.saturating_add(1);
        if self.gones > 1 {
            self.until = now + self.pause(self.gones - 1);
        }
    }

    fn back_off(&mut self, now: Duration, retry_after: Option<Duration>) {
        self.failures = self.failures.saturating_add(1);
        let pause = self.pause(self.failures);
        self.until = now + pause.max(retry_after.unwrap_or_default()).min(LONGEST);
    }

    /// Twice as long each time, of which one half is left to chance.
    fn pause(&mut self, nth: u32) -> Duration {
        let whole = FIRST * (1 << (nth - 1).min(5));
        let half = whole.min(LONGEST) / 2;
        half + Duration::from_millis(self.chance(half.as_millis() as u64))
    }

    /// From 0 to `most`, as if by chance (xorshift64*).
    fn chance(&mut self, most: u64) -> u64 {
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        (self.dice.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % (most + 1)
    }
}

#[cfg(test)]
mod tests;
