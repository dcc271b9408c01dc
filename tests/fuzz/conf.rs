//! Parses the configuration file.
#![no_main]

use kinglet::cli::parse_with;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = parse_with(["sync".into()], |_| None, |_| Ok(text.to_owned()));
});
