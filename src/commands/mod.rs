//! The commands, one file each. A command reads its inputs (`inputs`), calls the modules that do the work,
//! prints the result (`output`) and returns the exit code. It fails only if it cannot give a result; a
//! step that the kernel refuses is logged and returns 1.
//!
//! `plan` and `sync` prepare the same pass; `sync` also applies it. `run` opens what the daemon needs and
//! leaves the rest to [`daemon`](crate::daemon). `status` and `bgp` ask a running daemon over its socket.

mod bgp;
mod check;
mod cleanup;
mod dump;
mod help;
mod inputs;
mod output;
mod plan;
mod run;
mod status;
mod sync;

pub use bgp::bgp;
pub use check::check;
pub use cleanup::cleanup;
pub use dump::{Dump, dump};
pub use help::{help, version};
pub use inputs::arguments;
pub use plan::plan;
pub use run::run;
pub use status::status;
pub use sync::sync;
