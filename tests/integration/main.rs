//! The integration tests: one binary, one module for each subject.
//!
//! Most modules run the built `kinglet` as a user does; `kernel`, `multipath`, `conntrack`, `follow` and `decoders` call the
//! library. A test that changes the kernel runs in a network namespace of its own ([`common::namespace`]). IPVS and dummy links
//! need a kernel that has them, so their tests are the scenarios of `tests/lab/vm`.

mod cli;
mod common;
mod conntrack;
mod daemon;
mod decoders;
mod follow;
mod kernel;
mod layers;
mod multipath;
mod names;
mod netlink;
mod report;
mod server;
mod sync;
