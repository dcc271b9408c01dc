//! Compares the observed state with the desired state ([`plan`]): two sorted sets, walked once.
//!
//! Additions and changes come first, in the order of creation (that of the variants of
//! [`Item`](crate::model::items::Item)); then removals, in the reverse order. Equal items yield no step,
//! and an item that differs is changed in place, never removed first. `kernel` applies the steps, `shell` prints them as a shell script.

mod diff;
pub mod shell;
mod text;

pub use diff::{Step, clear, plan};
