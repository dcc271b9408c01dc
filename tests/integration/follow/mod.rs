//! Following the API server (list and watch) through every fault: the library's followers against the test API server.

mod cost;
mod faults;
mod lab;
mod start;
