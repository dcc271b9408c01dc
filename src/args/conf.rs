//! The configuration file: one `flag = value` on each line; a line that begins with `#` is a comment. A flag
//! on the command line takes precedence over the file. [`flags`] parses the text; `main` reads the file.

use super::{
    flags::{FLAGS, Flag},
    near::suggestion,
};
use crate::error::{Error, Result};

/// The path of the file if `--config` is not given.
pub const PATH: &str = "/etc/kinglet.conf";

/// The flags that are for the command line only, because they ask for a single action.
const COMMAND_LINE_ONLY: [&str; 10] =
    ["help", "version", "cleanup-config", "config", "from", "format", "watch", "peer", "in", "out"];

/// Returns the flags of a file's text with their values, in the order of the file. Fails at the first
/// invalid line, with its number.
pub fn flags(path: &str, text: &str) -> Result<Vec<(&'static Flag, String)>> {
    let mut found = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // A line that could hold a password is not printed, even if its flag is misspelt.
        let shown = if line.contains("pas") { line.split('=').next() } else { Some(line) };
        let invalid = |why: String| {
            let shown = shown.unwrap_or_default().trim();
            Error::new(format!("reading {path}"), format!("line {}, {shown:?}: {why}", i + 1))
        };
        let (name, value) =
            line.split_once('=').ok_or_else(|| invalid("flag = value is expected".to_owned()))?;
        let (name, value) = (name.trim().trim_start_matches("--"), value.trim());
        let known = FLAGS.iter().find(|f| f.name == name && !COMMAND_LINE_ONLY.contains(&name));
        let flag = known.ok_or_else(|| {
            let names =
                FLAGS.iter().map(|f| f.name).filter(|name| !COMMAND_LINE_ONLY.contains(name));
            invalid(match COMMAND_LINE_ONLY.contains(&name) {
                true => format!("--{name} is for the command line alone"),
                false => format!("there is no flag {name}{}", suggestion(name, names)),
            })
        })?;
        flag.value.check(value).map_err(|expected| invalid(format!("{expected} is expected")))?;
        found.push((flag, value.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::super::{Args, parse_with};
    use super::*;

    fn args(typed: &str, text: &str) -> Result<Args> {
        parse_with(typed.split_whitespace().map(Into::into), |path| {
            Ok(Some((path.unwrap_or("x.conf").into(), text.into())))
        })
    }

    #[test]
    fn each_line_sets_a_flag() {
        let text = "# the API\n\n master = http://192.0.2.254:8080\n--run-firewall=false\nexcluded-cidrs = 10.0.0.0/8, 192.0.2.0/24\n";
        let args = args("sync", text).unwrap();
        assert_eq!(args.master.as_deref(), Some("http://192.0.2.254:8080"));
        assert!(!args.firewall && args.router);
        assert_eq!(args.excluded_cidrs.len(), 2);
    }

    #[test]
    fn the_command_line_takes_precedence_over_the_file() {
        let text = "master = http://a\nexcluded-cidrs = 10.0.0.0/8\nnodeport-addresses = 10.0.0.0/8\nipvs-graceful-period = 5s";
        let got = args(
            "sync --master=http://b --excluded-cidrs=192.0.2.0/24 --nodeport-bindon-all-ip",
            text,
        )
        .unwrap();
        assert_eq!(got.master.as_deref(), Some("http://b"));
        assert_eq!(got.excluded_cidrs, ["192.0.2.0/24".parse().unwrap()]);
        assert_eq!(got.node_ports, crate::local::NodePorts::All);
        assert_eq!(got.grace, 5);
    }

    #[test]
    fn an_invalid_line_is_reported_with_number_and_text() {
        for (text, why) in [
            (
                "\nmastr = x",
                "reading x.conf: line 2, \"mastr = x\": there is no flag mastr (did you mean master?)",
            ),
            ("master", "reading x.conf: line 1, \"master\": flag = value is expected"),
            (
                "run-router = maybe",
                "reading x.conf: line 1, \"run-router = maybe\": true or false is expected",
            ),
            (
                "peer-router-pasword = s3cret",
                "reading x.conf: line 1, \"peer-router-pasword\": there is no flag peer-router-pasword (did you mean peer-router-passwords?)",
            ),
            (
                "from = x",
                "reading x.conf: line 1, \"from = x\": --from is for the command line alone",
            ),
        ] {
            assert_eq!(args("sync", text).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn a_file_alone_selects_no_command() {
        let none = args("", "master = x").unwrap_err().to_string();
        assert!(none.contains("no command given"), "{none}");
        assert_eq!(args("--config=y", "").unwrap().command, super::super::Command::Run);
    }

    #[test]
    fn an_invalid_file_prevents_neither_help_nor_cleanup() {
        use super::super::Command;
        for (typed, command) in [
            ("help", Command::Help),
            ("-h", Command::Help),
            ("run --version", Command::Version),
            ("cleanup", Command::Cleanup),
            ("--cleanup-config", Command::Cleanup),
        ] {
            let args = args(typed, "mastr = x").unwrap();
            let warned = args.warnings.iter().any(|warning| warning.contains("line 1"));
            assert_eq!((args.command, warned), (command, command == Command::Cleanup), "{typed}");
        }
        assert!(
            args("cleanup --config=y", "mastr = x").is_err(),
            "a file named with --config must be valid"
        );
        assert!(args("run", "mastr = x").is_err());
    }
}
