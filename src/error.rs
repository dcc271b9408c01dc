//! The error type of this crate: an action and the cause of its failure, as text for people.
//!
//! An [`Error`] is displayed as `doing: cause`. A caller adds its own action in front of an error
//! with `Doing::doing`. Code that must react to a cause uses another type, for example
//! `api::failure::Failure` or an errno; it never matches on this text.

use std::fmt;

/// An error for people, displayed as `doing: cause`.
#[derive(Debug)]
pub struct Error {
    doing: String,
    cause: String,
}

/// The result of functions whose errors are only displayed.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Returns an error. `doing` names the action and its object; `cause` is the reason of the failure
    /// and, if there is one, the remedy.
    pub(crate) fn new(doing: impl Into<String>, cause: impl fmt::Display) -> Error {
        Error { doing: doing.into(), cause: cause.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.cause)
    }
}

impl std::error::Error for Error {}

/// Adds the action that failed in front of any error.
pub(crate) trait Doing<T> {
    /// Turns `Err(cause)` into an [`Error`] that reads `doing: cause`. `doing` is called only if the
    /// result is an error.
    fn doing<D: Into<String>>(self, doing: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing<D: Into<String>>(self, doing: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|cause| Error::new(doing(), cause))
    }
}
