//! The commands: one file each. A command reads its inputs, calls the modules that do the work, prints the
//! result and returns the exit code.

pub mod check;
pub mod dump_file;
pub mod remove_ours;
