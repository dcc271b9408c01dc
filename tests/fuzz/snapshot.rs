//! Parses a snapshot, which a damaged disk may have changed.
#![no_main]

use kinglet::api::snapshot::from_snapshot;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = from_snapshot(bytes);
});
