//! This process: its rights to files, and its replacement by another program.

use std::{
    ffi::{CStr, CString, OsString},
    io,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
};

/// Returns true if this process may write to a file or into a folder. This covers file modes and
/// read-only file systems (access(2)).
pub(crate) fn is_writable(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return false };
    // SAFETY: the string outlives the call, which only reads it.
    unsafe { libc::access(path.as_ptr(), libc::W_OK) == 0 }
}

/// Replaces this process by another program with the same environment (execv(2)). Returns only if that
/// fails, with the error. std's Command can do the same, but its maps of variables add 14 KB of code.
pub fn exec(program: &CStr, args: impl Iterator<Item = OsString>) -> io::Error {
    // The arguments come from the system, so they contain no NUL.
    let args: Vec<_> = args.filter_map(|arg| CString::new(arg.into_vec()).ok()).collect();
    let list: Vec<_> = args.iter().map(|arg| arg.as_ptr()).chain([std::ptr::null()]).collect();
    // SAFETY: the strings and the null-terminated list outlive the call, which only reads them.
    unsafe { libc::execv(program.as_ptr(), list.as_ptr()) };
    io::Error::last_os_error()
}
