//! The API server of the tests.

fn main() {}
