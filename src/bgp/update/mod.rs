//! Decoding of UPDATE (RFC 4271 section 4.3, RFC 4760) with the error handling of RFC 7606.
//!
//! `read` splits the body into its three fields, `Reader::read_attributes` reads the path attributes
//! one by one (the values with `value`, the networks with `nlri`), and `Reader::finish` checks that the
//! mandatory ones are present. `encode` encodes UPDATEs.
//!
//! An error has the mildest consequence that RFC 7606 allows: the attribute is discarded, or the routes
//! of the message are treated as withdrawn, or, if these routes cannot be determined, the session is
//! reset.

mod codes;
mod decode;
mod encode;
mod types;
mod value;

pub(super) use codes::LARGE_COMMUNITY;
pub(crate) use decode::read;
pub(super) use encode::write;
pub use types::{Reach, Update};
