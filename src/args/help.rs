//! The help text, written from the same tables that parse.

use super::{
    Command,
    flags::{FLAGS, Flag},
};

/// Columns before a flag's description.
const INDENT: usize = 38;
/// Columns in all.
const WIDTH: usize = 100;

/// All of it.
pub fn help() -> String {
    let mut text = String::from(
        "kinglet: makes this box a member of a Kubernetes pod network\n\n\
         usage: kinglet COMMAND [FLAGS]\n       kinglet FLAGS              as kube-router is started\n\n\
         commands:\n",
    );
    for (_, name, does) in Command::ALL {
        text += &format!("  {name:<9} {does}\n");
    }
    let honoured = |f: &&Flag| f.honoured;
    text += "\nflags (a switch is turned off with --flag=false):\n";
    FLAGS.iter().filter(honoured).for_each(|flag| row(&mut text, flag));
    text += "\nkube-router's flags without effect in this version (known, one warning each):\n";
    let names: Vec<String> =
        FLAGS.iter().filter(|f| !f.honoured).map(|f| format!("--{}", f.name)).collect();
    wrap(&mut text, names.iter().map(String::as_str), 2, 2);
    text
}

fn row(text: &mut String, flag: &Flag) {
    let letter = flag.letter.map_or(String::new(), |letter| format!("-{letter}, "));
    let value = flag.value.placeholder();
    let head = format!("  {letter}--{}{value}", flag.name);
    let default = match flag.default {
        "" | "false" => String::new(),
        default => format!(" ({default})"),
    };
    let does = format!("{}{default}", flag.does);
    if head.len() >= INDENT {
        *text += &format!("{head}\n");
        wrap(text, does.split(' '), INDENT, INDENT);
    } else {
        *text += &format!("{head:<INDENT$}");
        wrap(text, does.split(' '), 0, INDENT);
    }
}

/// Words in lines of at most [`WIDTH`] columns, the first indented by `first`, the others by `rest`.
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
