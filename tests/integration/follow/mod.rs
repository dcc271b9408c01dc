//! Following the API through everything that can go wrong with it: the library's own followers, against
//! the test API server.

#[path = "../common/mod.rs"]
mod common;
mod cost;
mod faults;
mod lab;
mod start;
