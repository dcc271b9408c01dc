//! Formats: JSON on top of serde_json, gzip on top of flate2, YAML on top of saphyr-parser. The head of
//! each module names what it adds to the crate, and the reason.

pub mod gzip;
pub mod json;
pub(crate) mod yaml;
