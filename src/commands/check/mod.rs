//! `kinglet check`: tests if a board can run kinglet with the given flags.
//!
//! [`check`] calls `probe::probe`, which collects the `BoardFacts` about the kernel, the capabilities, the
//! files, the ports and the API. `requirements::lines` compares these facts with the requirements of the
//! flags (the kernel options are the table in `features`), and adds the traces of other networks from
//! `leftovers`. Only `probe` touches the machine.

mod command;
mod facts;
mod features;
mod leftovers;
mod probe;
mod requirements;

pub(super) use command::check;
