//! `kinglet check`: tests if a board can run kinglet with the given flags.
//!
//! `probe::probe` collects [`BoardFacts`] about the kernel, the capabilities, the files, the ports and the
//! API. [`lines`] compares these facts with the requirements of the flags (`features`) and lists what
//! another network left behind (`leftovers`). Each line that is not ok ends with the remedy. Pure; only `probe`
//! touches the machine.

mod command;
pub mod features;
mod leftovers;
mod lines;
mod probe;

pub use command::check;
pub use features::{FEATURES, Feature, FeaturePart};
pub use leftovers::Leftovers;
pub use lines::{BoardFacts, CheckLine, CheckVerdict, FileState, lines};
pub use probe::{ProbeOptions, probe};
