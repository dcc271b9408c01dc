//! The kinds of values that flags take. A [`ValueKind`] parses the text of a value and stores it through the
//! setter of the flag's row ([`ValueKind::set`]). The parsers follow Go's, because the flags are kube-router's.

use std::{net::IpAddr, path::PathBuf, str::FromStr};

use ipnet::IpNet;

use super::{bgp::passwords, low_args::LowArgs};
use crate::model::bgp::peer::Secret;

/// The kind of a flag's value, with the function that stores a parsed value.
#[derive(Debug)]
pub(crate) enum ValueKind {
    /// `true` or `false`.
    Switch(fn(&mut LowArgs, bool)),
    /// Any text.
    Text(ValueHint, fn(&mut LowArgs, String)),
    /// A path that is not empty.
    Path(ValueHint, fn(&mut LowArgs, PathBuf)),
    /// A duration in Go's syntax, for example `1m30s`; stored in seconds.
    Duration(fn(&mut LowArgs, u64)),
    /// A number from 0 to this one.
    Number(u32, fn(&mut LowArgs, u32)),
    /// A port number; 0 is allowed.
    Port(fn(&mut LowArgs, u16)),
    /// One of several words.
    Choice(&'static FlagChoice),
    /// An IP address, or nothing.
    Addr(fn(&mut LowArgs, String)),
    /// A list of IP addresses.
    Addrs(fn(&mut LowArgs) -> &mut Vec<String>),
    /// A list of numbers of 32 bits.
    Numbers(fn(&mut LowArgs) -> &mut Vec<String>),
    /// A list of passwords, in which an element may be empty.
    Passwords(fn(&mut LowArgs) -> &mut Vec<Secret>),
    /// A list of CIDRs.
    Cidrs(fn(&mut LowArgs, Vec<IpNet>)),
    /// `primary` (stored as an empty list), or a list of CIDRs.
    PrimaryOrCidrs(fn(&mut LowArgs, Vec<IpNet>)),
}

/// The words of a flag, with the function that stores the index of the one that was given.
#[derive(Debug)]
pub(crate) struct FlagChoice {
    pub words: &'static [&'static str],
    pub set: fn(&mut LowArgs, usize),
}

/// The placeholder of a text or path in the help text.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ValueHint {
    Text,
    Url,
    Name,
    File,
    Folder,
    Path,
    RouterId,
}

impl ValueKind {
    /// Parses a value and stores it in `args`. A list flag that is repeated appends to its
    /// list. Fails with a description of the expected value.
    pub(crate) fn set(&self, args: &mut LowArgs, text: &str) -> Result<(), String> {
        let (stored, expected) = match self {
            ValueKind::Switch(set) => (switch(text).map(|on| set(args, on)), "true or false"),
            ValueKind::Text(_, set) => (Some(text.to_owned()).map(|text| set(args, text)), ""),
            ValueKind::Path(_, set) => {
                let path = Some(text).filter(|path| !path.is_empty());
                (path.map(|path| set(args, path.into())), "a path")
            }
            ValueKind::Duration(set) => {
                let time = seconds(text).map(|seconds| set(args, seconds));
                (time, "a duration such as 5s, 1m30s or 2h")
            }
            ValueKind::Number(most, set) => {
                let number = text.parse().ok().filter(|number| number <= most);
                let stored = number.map(|number| set(args, number));
                return stored.ok_or_else(|| format!("a number from 0 to {most}"));
            }
            ValueKind::Port(set) => {
                (text.parse().ok().map(|port| set(args, port)), "a number from 0 to 65535")
            }
            ValueKind::Choice(FlagChoice { words, set }) => {
                let at = words.iter().position(|word| *word == text);
                return at.map(|at| set(args, at)).ok_or_else(|| one_of(words));
            }
            ValueKind::Addr(set) => {
                let addr = Some(text).filter(|text| text.is_empty() || is::<IpAddr>(text));
                (addr.map(|addr| set(args, addr.to_owned())), "an address")
            }
            ValueKind::Addrs(list) => {
                (all::<IpAddr>(text).map(|all| list(args).extend(all)), "a list of addresses")
            }
            ValueKind::Numbers(list) => {
                (all::<u32>(text).map(|all| list(args).extend(all)), "a list of numbers")
            }
            ValueKind::Passwords(list) => {
                (Some(passwords(text)).map(|all| list(args).extend(all)), "")
            }
            ValueKind::Cidrs(set) => (cidrs(text).map(|nets| set(args, nets)), "a list of CIDRs"),
            ValueKind::PrimaryOrCidrs(set) => {
                let nets = if text == "primary" { Some(Vec::new()) } else { cidrs(text) };
                (nets.map(|nets| set(args, nets)), "primary, or a list of CIDRs")
            }
        };
        stored.ok_or_else(|| expected.to_owned())
    }

    /// Returns the placeholder for the help text; empty for a switch.
    pub(crate) fn placeholder(&self) -> String {
        let fixed = match self {
            ValueKind::Switch(_) => "",
            ValueKind::Text(hint, _) | ValueKind::Path(hint, _) => hint.text(),
            ValueKind::Duration(_) => "DURATION",
            ValueKind::Number(..) | ValueKind::Port(_) => "N",
            ValueKind::Choice(choice) => return choice.words.join("|"),
            ValueKind::Addr(_) => "IP",
            ValueKind::Addrs(_) => "IP,…",
            ValueKind::Numbers(_) => "N,…",
            ValueKind::Passwords(_) => "TEXT,…",
            ValueKind::Cidrs(_) => "CIDR,…",
            ValueKind::PrimaryOrCidrs(_) => "primary|CIDR,…",
        };
        fixed.to_owned()
    }
}

impl ValueHint {
    fn text(self) -> &'static str {
        match self {
            ValueHint::Text => "TEXT",
            ValueHint::Url => "URL",
            ValueHint::Name => "NAME",
            ValueHint::File => "FILE",
            ValueHint::Folder => "FOLDER",
            ValueHint::Path => "PATH",
            ValueHint::RouterId => "IP|generate",
        }
    }
}

/// Returns the elements of a comma-separated list, trimmed, without empty ones.
fn elements(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

/// Parses a boolean as Go's strconv.ParseBool does. `None` if the text is not a boolean.
fn switch(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "True" | "TRUE" => Some(true),
        "0" | "f" | "F" | "false" | "False" | "FALSE" => Some(false),
        _ => None,
    }
}

/// Parses a duration as Go's time.ParseDuration does. Returns whole seconds, rounded up; `None` if the
/// text is not a duration or is negative.
fn seconds(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut sum: u128 = 0; // in nanoseconds
    while !rest.is_empty() {
        let unit = rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
        let number = &rest[..rest.len() - unit.len()];
        // `ms` comes before `m`, which is a prefix of it.
        let units = [
            ("ns", 1),
            ("us", 1_000),
            ("µs", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("m", 60_000_000_000),
            ("h", 3_600_000_000_000_u64),
        ];
        let (name, factor) = units.iter().find(|(name, _)| unit.starts_with(name))?;
        sum += parts(number, u128::from(*factor))?;
        rest = &unit[name.len()..];
    }
    u64::try_from(sum.div_ceil(1_000_000_000)).ok()
}

/// Multiplies a decimal number (`1.5`, `1.`, `.5`) by a factor. `None` if it is not a number.
fn parts(number: &str, factor: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits = |text: &str| {
        let value = |text: &str| text.parse::<u64>().ok().map(u128::from);
        if text.is_empty() { Some(0) } else { value(text) }
    };
    let fraction = fraction.get(..fraction.len().min(15))?;
    let part = digits(fraction)? * factor / 10_u128.pow(fraction.len() as u32);
    Some(digits(whole)? * factor + part)
}

/// Returns true if a text is a `T`.
fn is<T: FromStr>(text: &str) -> bool {
    text.parse::<T>().is_ok()
}

/// Returns the elements of a list. `None` if one of them is not a `T`.
fn all<T: FromStr>(text: &str) -> Option<Vec<String>> {
    elements(text).map(|element| is::<T>(element).then(|| element.to_owned())).collect()
}

/// Returns the words as a sentence lists them: `a, b or c`.
fn one_of(words: &[&str]) -> String {
    match words {
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
        [] => String::new(),
    }
}

/// Parses a list of CIDRs. `None` if an element is not a CIDR.
fn cidrs(text: &str) -> Option<Vec<IpNet>> {
    elements(text).map(|element| element.parse().ok()).collect()
}
