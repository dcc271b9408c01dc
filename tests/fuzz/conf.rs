//! The configuration file.
#![no_main]

use kinglet::args::parse_with;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let conf = |_: Option<&str>| Ok(Some(("x".to_owned(), text.to_owned())));
    let _ = parse_with(["sync".into()], conf);
});
