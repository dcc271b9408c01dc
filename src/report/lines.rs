//! What goes wrong, in lines for people: capped, so that a cluster of any size costs the same.

use serde::{Deserialize, Serialize};

/// Lines for people; there are more than these where there are very many.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Lines {
    /// The first of them.
    pub told: Vec<Line>,
    /// How many more there are.
    pub more: usize,
}

/// One of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What it is about; empty where `why` tells it.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

/// More lines than these are counted only.
const LINES: usize = 50;

impl Lines {
    /// One more; its text is only made where it is kept.
    pub fn push(&mut self, line: impl FnOnce() -> (String, String)) {
        if self.told.len() < LINES {
            let (what, why) = line();
            self.told.push(Line { what, why });
        } else {
            self.more += 1;
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.told.len() + self.more
    }
}
