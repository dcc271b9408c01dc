//! Durations as text for people.

/// Returns a duration in its two largest units, for example `2 h 5 min`; the second unit is left out if
/// it is zero.
pub(crate) fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let (first, second) = match (days, hours, minutes) {
        (0, 0, 0) => return format!("{seconds} s"),
        (0, 0, minutes) => ((minutes, "min"), (seconds % 60, "s")),
        (0, hours, minutes) => ((hours, "h"), (minutes, "min")),
        (days, hours, _) => ((days, "d"), (hours, "h")),
    };
    let one = |(n, unit): (u64, &str)| format!("{n} {unit}");
    if second.0 == 0 { one(first) } else { format!("{} {}", one(first), one(second)) }
}

/// Returns the age of an event that was this many seconds ago: `just now`, or for example `4 min ago`.
pub(crate) fn ago(seconds: u64) -> String {
    if seconds == 0 { "just now".into() } else { format!("{} ago", span(seconds)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (61, "1 min 1 s"),
            (3_661, "1 h 1 min"),
            (86_400 * 400 + 7_200, "400 d 2 h"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
