//! The one error type: what was being done, and why it did not work.
//!
//! It reads `doing: cause`. An outer layer adds its own `doing` in front with [`Doing::doing`].

use std::fmt;

/// Something that could not be done: `doing: cause`.
#[derive(Debug)]
pub struct Error {
    doing: String,
    cause: String,
}

/// What every fallible function of kinglet returns.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// `doing` names the action and its object, `cause` says why it failed and what to do about it.
    pub fn new(doing: impl Into<String>, cause: impl fmt::Display) -> Error {
        Error { doing: doing.into(), cause: cause.to_string() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.doing, self.cause)
    }
}

impl std::error::Error for Error {}

/// Puts what was being done in front of any error.
pub trait Doing<T> {
    /// Turns `Err(cause)` into `doing: cause`; `doing` is only made when it is needed.
    fn doing<D: Into<String>>(self, doing: impl FnOnce() -> D) -> Result<T>;
}

impl<T, E: fmt::Display> Doing<T> for std::result::Result<T, E> {
    fn doing<D: Into<String>>(self, doing: impl FnOnce() -> D) -> Result<T> {
        self.map_err(|cause| Error::new(doing(), cause))
    }
}
