//! A flag that wakes a poll loop (eventfd(2)).

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// A flag that any thread can set and a poll loop can wait for (eventfd(2)).
pub struct EventFd(File);

impl EventFd {
    /// Creates a flag that is not set.
    pub fn new() -> io::Result<EventFd> {
        // SAFETY: the call takes numbers only.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above has just opened this descriptor for us.
        Ok(EventFd(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Sets the flag; its descriptor stays readable until the flag is cleared.
    pub fn signal(&self) {
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Clears the flag.
    pub fn clear(&self) {
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
