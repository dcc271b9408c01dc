//! Lines on stderr for the person who reads the log: a level, then one sentence.
//!
//! Where stderr goes to the journal or to syslog, a line starts with its priority (`<4>`,
//! sd-daemon(3)); at a terminal it starts with a word.

use std::{fmt, io::Write, sync::OnceLock};

/// Where the lines go decides how they start.
static JOURNAL: OnceLock<bool> = OnceLock::new();

fn line(priority: u8, word: &str, text: fmt::Arguments<'_>) {
    // systemd sets JOURNAL_STREAM for what it starts.
    let journal = *JOURNAL.get_or_init(|| std::env::var_os("JOURNAL_STREAM").is_some());
    let mut err = std::io::stderr().lock();
    // A log that can't be written is no reason to stop.
    let _ = if journal {
        writeln!(err, "<{priority}>{text}")
    } else {
        writeln!(err, "kinglet: {word}{text}")
    };
}

/// Something failed; the reader has to do something.
pub fn error(text: fmt::Arguments<'_>) {
    line(3, "error: ", text);
}

/// Something is not as the reader would expect.
pub fn warn(text: fmt::Arguments<'_>) {
    line(4, "warning: ", text);
}

/// What happens, for the reader who follows.
pub fn info(text: fmt::Arguments<'_>) {
    line(6, "", text);
}
