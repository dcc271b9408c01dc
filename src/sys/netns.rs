//! Runs a function in another network namespace (setns(2), network_namespaces(7)).

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    thread,
};

/// Runs `make` in the network namespace of a descriptor and returns its result. A socket that `make`
/// opens stays in that namespace. Fails if the thread can't be started, or if the process may not
/// enter the namespace (CAP_SYS_ADMIN).
///
/// `make` runs on a thread of its own, because setns(2) changes only the calling thread. The thread
/// ends afterwards. Thus no return to the old namespace is needed, which could fail and leave the caller
/// in the wrong one.
pub(crate) fn in_netns<T: Send>(
    netns: BorrowedFd<'_>,
    make: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let enter_and_make = move || {
        // SAFETY: the call takes numbers only, and affects only this thread.
        if unsafe { libc::setns(netns.as_raw_fd(), libc::CLONE_NEWNET) } != 0 {
            return Err(io::Error::last_os_error());
        }
        make()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, enter_and_make)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
