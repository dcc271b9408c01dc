//! Lists of objects, as the API gives them and as kubectl prints them.
#![no_main]

use kinglet::api::from_list;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = from_list(bytes);
});
