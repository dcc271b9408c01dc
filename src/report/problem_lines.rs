//! Problem lines for people: a list that keeps the first 50 lines and counts the rest, so that the
//! memory does not depend on the size of the cluster.

use serde::{Deserialize, Serialize};

/// A capped list of lines.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProblemLines {
    /// The first lines, at most 50.
    pub told: Vec<ProblemLine>,
    /// The number of lines that were dropped because the list was full.
    pub more: usize,
}

/// One problem.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProblemLine {
    /// The subject, for example a Service or a step; empty if `why` already names the subject.
    pub what: String,
    /// The reason: the error text or the kernel's answer.
    pub why: String,
}

/// The number of lines that are kept.
const MAX_LINES: usize = 50;

impl ProblemLines {
    /// Adds a line, given as subject and reason. `line` is called only if the list has room, so the
    /// text of a dropped line is never built.
    pub(crate) fn push(&mut self, line: impl FnOnce() -> (String, String)) {
        if self.told.len() < MAX_LINES {
            let (what, why) = line();
            self.told.push(ProblemLine { what, why });
        } else {
            self.more += 1;
        }
    }

    /// Returns the number of lines that were pushed, the dropped ones included.
    pub(crate) fn count(&self) -> usize {
        self.told.len() + self.more
    }
}
