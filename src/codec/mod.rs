//! Formats: JSON on top of serde_json, gzip on top of flate2, YAML on top of saphyr-parser. The head of
//! each module gives the reason for the code that is added to the crate of that format.

pub(crate) mod gzip;
pub(crate) mod json;
pub(crate) mod yaml;
