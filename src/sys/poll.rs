//! Waits for descriptors (poll(2)).

use std::{
    os::fd::{AsFd, AsRawFd},
    time::Duration,
};

/// Descriptors to wait for (poll(2)). Each has an index: the number of entries that were added before
/// it.
#[derive(Default)]
pub struct Poll(Vec<libc::pollfd>);

impl Poll {
    /// Removes all descriptors.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a descriptor. `read` waits until it is readable, `room` until it is writable.
    pub fn add(&mut self, fd: &impl AsFd, read: bool, room: bool) {
        let events = if read { libc::POLLIN } else { 0 } | if room { libc::POLLOUT } else { 0 };
        self.0.push(libc::pollfd { fd: fd.as_fd().as_raw_fd(), events, revents: 0 });
    }

    /// Adds an empty entry, which is never ready, to keep the indices of the entries after it.
    pub fn add_empty(&mut self) {
        self.0.push(libc::pollfd { fd: -1, events: 0, revents: 0 });
    }

    /// Waits until a descriptor is ready or `rest` has passed; `None` waits without limit. A signal
    /// ends the wait too.
    pub fn wait(&mut self, rest: Option<Duration>) {
        // Rounded up to milliseconds, because after an early wake-up the caller would have to wait
        // again.
        let millis = rest.map_or(-1, |rest| {
            rest.as_nanos().div_ceil(1_000_000).try_into().unwrap_or(libc::c_int::MAX)
        });
        // SAFETY: the list outlives the call, which writes to its entries only. Each descriptor was
        // open when it was added; for a closed one the call only sets POLLNVAL.
        unsafe { libc::poll(self.0.as_mut_ptr(), self.0.len() as libc::nfds_t, millis) };
    }

    /// Returns two flags for the entry at index `at`: readable and writable. After an error or a
    /// hang-up both are true, so that the next read or write returns it. Both are false if there is no
    /// such entry.
    pub fn ready(&self, at: usize) -> (bool, bool) {
        let events = self.0.get(at).map_or(0, |entry| entry.revents);
        let over = events & (libc::POLLERR | libc::POLLHUP | libc::POLLNVAL) != 0;
        (over || events & libc::POLLIN != 0, over || events & libc::POLLOUT != 0)
    }
}
