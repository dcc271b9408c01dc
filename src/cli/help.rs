//! The help text, generated from the tables that the parser uses.

use super::{
    command::Command,
    flags::{FLAGS, Flag, Section},
};

/// The column at which a flag's description begins.
const INDENT: usize = 38;
/// The width of the text in columns.
const WIDTH: usize = 100;

/// Returns the help text.
pub(crate) fn help() -> String {
    let mut text = String::from(
        "kinglet: makes this machine a member of a Kubernetes pod network\n\n\
         usage: kinglet COMMAND [FLAGS]\n       kinglet FLAGS              the same as kinglet run FLAGS\n\n\
         commands:\n",
    );
    for (_, name, help) in Command::ALL {
        text += &format!("  {name:<9} {help}\n");
    }
    text += "\nAdd =false to turn a switch off: --run-firewall=false.\n";
    let mut ignored = Vec::new();
    for flags in FLAGS.chunk_by(|a, b| a.section == b.section) {
        text += &format!("\nflags {}:\n", flags[0].section.title());
        for flag in flags {
            match flag.section {
                Section::Ignored => ignored.push(format!("--{}", flag.name())),
                _ => row(&mut text, flag),
            }
        }
    }
    wrap(&mut text, ignored.iter().map(String::as_str), 2, 2);
    text
}

/// Adds a flag: its syntax, its description and its default in parentheses.
fn row(text: &mut String, flag: &Flag) {
    let letter = flag.letter.map_or(String::new(), |letter| format!("-{letter}, "));
    let value = flag.kind.placeholder();
    let head = format!("  {letter}--{} {value}", flag.name());
    let head = head.trim_end();
    let default = match flag.default() {
        "" | "false" => String::new(),
        default => format!(" ({default})"),
    };
    let help = format!("{}{default}", flag.help);
    if head.len() >= INDENT {
        *text += &format!("{head}\n");
        wrap(text, help.split(' '), INDENT, INDENT);
    } else {
        *text += &format!("{head:<INDENT$}");
        wrap(text, help.split(' '), 0, INDENT);
    }
}

/// Adds words, broken into lines of at most [`WIDTH`] columns. The first line is indented by `first`
/// columns, the others by `rest`.
fn wrap<'a>(text: &mut String, words: impl Iterator<Item = &'a str>, first: usize, rest: usize) {
    let mut column = first.max(if first == 0 { rest } else { first });
    *text += &" ".repeat(first);
    let mut fresh = true;
    for word in words {
        if !fresh && column + 1 + word.chars().count() > WIDTH {
            *text += "\n";
            *text += &" ".repeat(rest);
            column = rest;
            fresh = true;
        }
        if !fresh {
            text.push(' ');
            column += 1;
        }
        *text += word;
        column += word.chars().count();
        fresh = false;
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_flag_and_command_within_100_columns() {
        let help = help();
        assert!(FLAGS.iter().all(|f| help.contains(&format!("--{}", f.name()))));
        assert!(Command::ALL.iter().all(|(_, name, _)| help.contains(name)));
        assert_eq!(help.lines().find(|l| l.chars().count() > 100), None);
    }

    #[test]
    fn the_help_contains_each_description_word_by_word() {
        let help = help();
        let words: Vec<&str> = help.split_whitespace().collect();
        let words = words.join(" ");
        for flag in FLAGS.iter().filter(|flag| flag.section != Section::Ignored) {
            assert!(words.contains(flag.help), "--{}", flag.name());
        }
    }

    #[test]
    fn help_shows_file_for_flags_that_take_a_file() {
        let help = help();
        for flag in ["config", "kubeconfig", "snapshot", "cni-conf-file", "from"] {
            assert!(help.contains(&format!("  --{flag} FILE")), "{flag}");
        }
        assert!(help.contains("  --peer-router-passwords-file FILE"), "{help}");
    }
}
