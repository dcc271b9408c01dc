//! Log lines on stderr: a level, then one sentence for the operator.
//!
//! If JOURNAL_STREAM is set, stderr goes to the journal or to syslog and a line starts with its
//! priority (`<4>`, sd-daemon(3)). Otherwise a line starts with `kinglet:` and the level as a word.

use std::{fmt, io::Write, sync::OnceLock};

/// True if stderr goes to the journal; looked up in the environment once.
static JOURNAL: OnceLock<bool> = OnceLock::new();

/// Writes one line. `priority` is a syslog(3) level from 0 to 7.
fn write_line(priority: u8, word: &str, text: fmt::Arguments<'_>) {
    // systemd sets JOURNAL_STREAM for the services that it starts.
    let journal = *JOURNAL.get_or_init(|| std::env::var_os("JOURNAL_STREAM").is_some());
    let mut err = std::io::stderr().lock();
    // An error is ignored: kinglet goes on if the log can't be written.
    let _ = if journal {
        writeln!(err, "<{priority}>{text}")
    } else {
        writeln!(err, "kinglet: {word}{text}")
    };
}

/// Logs a failure that the operator has to act on.
pub fn error(text: fmt::Arguments<'_>) {
    write_line(3, "error: ", text);
}

/// Logs a condition that the operator would not expect.
pub fn warn(text: fmt::Arguments<'_>) {
    write_line(4, "warning: ", text);
}

/// Logs a normal event.
pub(crate) fn info(text: fmt::Arguments<'_>) {
    write_line(6, "", text);
}
