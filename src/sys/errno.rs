//! Error numbers of system calls and netlink answers (errno(3)).

pub use libc::{
    EADDRNOTAVAIL, EAFNOSUPPORT, EEXIST, EINVAL, ENODEV, ENOENT, ENOTCONN, EOPNOTSUPP, EPERM,
    EPROTONOSUPPORT, ESRCH,
};
