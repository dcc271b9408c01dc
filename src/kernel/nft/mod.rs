//! nftables messages: our table, its sets and their elements (linux/netfilter/nf_tables.h).
//!
//! This module builds and parses messages only; `observe` and `apply` do the I/O. Every number is
//! big-endian, except values that are compared with a register. All changes are sent between [`begin`]
//! and [`end`] as one transaction. `ruleset` defines the content of the table, `rules` encodes its
//! chains, and `accept` handles our rule in the chains of other programs.

pub mod accept;
mod rules;
mod table;

pub use rules::{
    Found, expected, list_all_chains, list_chains, list_rules, put_chains, read_any_chain,
    read_chain, read_rule,
};
pub use table::{
    ELEMENTS, RawElement, add_elements, add_sets, add_table, begin, end, list_elements, list_sets,
    read_elements, read_set, remove_elements, remove_table, values,
};
pub(crate) use table::{NFGEN, SUBSYSTEM};
