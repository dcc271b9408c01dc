//! nftables messages: our table, its sets and their elements (linux/netfilter/nf_tables.h).
//!
//! This module builds and parses messages only; `observe` and `apply` do the I/O. Every number is
//! big-endian, except values that are compared with a register. All changes are sent between [`begin`]
//! and [`end`] as one transaction. `model::nftables` describes the content of the table; `table`
//! encodes its sets, `element` their elements, `rules` its chains, and `accept` handles our rule in the
//! chains of other programs. The functions for sets, elements and chains take any description, so they
//! serve the skeleton and what is made at run time alike.

pub mod accept;
mod element;
mod header;
mod rules;
mod table;

pub use element::{
    ElementData, ElementVerdict, RawElement, add_raw_elements, list_elements, read_elements,
    remove_raw_elements,
};
pub(crate) use header::{NFGEN, SUBSYSTEM};
pub use rules::{
    Found, add_chain, add_rule, expected, list_all_chains, list_chains, list_rules, put_chains,
    read_any_chain, read_chain, read_rule, remove_chain,
};
pub use table::{
    ELEMENTS, FoundSet, add_elements, add_set, add_sets, add_table, begin, end, list_sets,
    read_set, remove_elements, remove_set, remove_table, values,
};
