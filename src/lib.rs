//! kinglet as a library: what the binary, the black-box tests and the fuzz tests share.
