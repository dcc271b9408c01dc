//! Formats: JSON on top of serde_json, gzip on top of flate2, YAML on top of saphyr-parser. Each module
//! says in its head what it adds to the crate, and why.

pub mod gzip;
pub mod json;
pub(crate) mod yaml;
