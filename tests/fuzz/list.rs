//! Parses lists of objects, in the formats of the API and of kubectl.
#![no_main]

use kinglet::api::from_list;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = from_list(bytes);
});
