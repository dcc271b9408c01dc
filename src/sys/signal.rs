//! Signals as a descriptor for a poll loop (signalfd(2)).

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd},
};

/// SIGHUP, the signal that reloads the configuration.
pub(crate) const RELOAD_SIGNAL: libc::c_int = libc::SIGHUP;
/// The signals that terminate or restart a daemon.
pub(crate) const TERMINATION_SIGNALS: [libc::c_int; 3] =
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Blocks some signals and returns a non-blocking descriptor from which they can be read (signalfd(2)).
/// Without it, process 1 of a container would not receive them. It must be called before another thread
/// starts, because threads inherit the signal mask.
pub(crate) fn signals(numbers: &[libc::c_int]) -> io::Result<Signals> {
    // SAFETY: an all-zero sigset_t is valid. It outlives the calls; only sigemptyset and sigaddset
    // write to it.
    let fd = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for number in numbers {
            libc::sigaddset(&raw mut set, *number);
        }
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call above has just opened this descriptor for us.
    Ok(Signals(File::from(unsafe { OwnedFd::from_raw_fd(fd) })))
}

/// A descriptor with the pending signals.
#[derive(Debug)]
pub struct Signals(File);

impl Signals {
    /// Returns the number of the next pending signal; `None` if there is none.
    pub fn read_next(&mut self) -> Option<libc::c_int> {
        let mut info = [0; 128]; // struct signalfd_siginfo, which starts with the number
        let len = self.0.read(&mut info).unwrap_or(0);
        let number = info.first_chunk::<4>().filter(|_| len == info.len())?;
        Some(libc::c_int::from_ne_bytes(*number))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
