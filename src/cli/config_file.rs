//! The configuration file: one `flag = value` on each line; a line that begins with `#` is a comment. A flag
//! on the command line takes precedence over the file. The caller reads the file.

use std::{io, path::Path};

use super::{
    flags::{FLAGS, Flag, Section},
    low_args::LowArgs,
    suggest::suggestion,
};
use crate::error::{Doing, Error, Result};

/// Returns the flags in the text of the file `path` with their values, in the order of the file. Fails if
/// the file could not be read, or at the first invalid line, with its number.
pub(crate) fn flags(path: &Path, text: io::Result<String>) -> Result<Vec<(&'static Flag, String)>> {
    let path = path.display();
    let text = text.doing(|| format!("reading {path}"))?;
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
        let flag = FLAGS.iter().find(|flag| flag.name() == name).ok_or_else(|| {
            let names = FLAGS.iter().filter(|flag| flag.section != Section::CommandLine);
            let near = suggestion(name, names.map(Flag::name));
            invalid(format!("there is no flag {name}{near}"))
        })?;
        if flag.section == Section::CommandLine {
            return Err(invalid(format!("--{name} is for the command line only")));
        }
        let checked = flag.kind.set(&mut LowArgs::default(), value);
        checked.map_err(|expected| invalid(format!("{expected} is expected")))?;
        found.push((flag, value.to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::parse_with;

    fn args(typed: &str, text: &str) -> Result<LowArgs> {
        let typed = typed.split_whitespace().map(Into::into);
        parse_with(typed, |_| None, |_| Ok(text.to_owned()))
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
        assert!(got.node_ports_all);
        assert_eq!(got.grace, 5);
    }

    #[test]
    fn an_invalid_line_is_reported_with_number_and_text() {
        for (text, why) in [
            (
                "\nmastr = x",
                "reading /etc/kinglet.conf: line 2, \"mastr = x\": there is no flag mastr (did you mean master?)",
            ),
            ("master", "reading /etc/kinglet.conf: line 1, \"master\": flag = value is expected"),
            (
                "run-router = maybe",
                "reading /etc/kinglet.conf: line 1, \"run-router = maybe\": true or false is expected",
            ),
            (
                "peer-router-pasword = s3cret",
                "reading /etc/kinglet.conf: line 1, \"peer-router-pasword\": there is no flag peer-router-pasword (did you mean peer-router-passwords?)",
            ),
            (
                "from = x",
                "reading /etc/kinglet.conf: line 1, \"from = x\": --from is for the command line only",
            ),
        ] {
            assert_eq!(args("sync", text).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn a_file_alone_selects_no_command() {
        let none = args("", "master = x").unwrap_err().to_string();
        assert!(none.contains("no command given"), "{none}");
        assert_eq!(args("--config=y", "").unwrap().command, crate::cli::Command::Run);
    }

    #[test]
    fn an_invalid_file_prevents_neither_help_nor_cleanup() {
        use crate::cli::Command;
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
