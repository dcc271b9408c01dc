//! Who may import whom: the layers of the design, read from the `use` lines of the source.

use std::{collections::BTreeMap, fs, path::Path};

/// Each top-level module of `src/`, and the modules of kinglet that it may name.
const MAY: [(&str, &[&str]); 21] = [
    ("family", &[]),
    (
        "main",
        &[
            "api",
            "bgp",
            "cli",
            "commands",
            "daemon",
            "desired",
            "error",
            "kernel",
            "log",
            "model",
            "plan",
            "reconcile",
            "report",
            "sys",
        ],
    ),
    ("lib", &[]),
    ("announce", &["collections", "desired", "error", "family", "model"]),
    ("api", &["codec", "collections", "error", "family", "log", "model"]),
    ("bgp", &["collections", "error", "family", "log", "model", "sys"]),
    ("cli", &["error", "model"]),
    ("codec", &["collections"]),
    ("collections", &[]),
    (
        "commands",
        &[
            "announce",
            "api",
            "bgp",
            "cli",
            "codec",
            "collections",
            "daemon",
            "desired",
            "error",
            "family",
            "kernel",
            "log",
            "model",
            "plan",
            "reconcile",
            "report",
            "sys",
        ],
    ),
    (
        "daemon",
        &[
            "announce",
            "api",
            "bgp",
            "collections",
            "desired",
            "error",
            "family",
            "kernel",
            "log",
            "model",
            "plan",
            "reconcile",
            "report",
            "sys",
        ],
    ),
    ("desired", &["bgp", "codec", "collections", "error", "family", "model"]),
    ("error", &[]),
    ("kernel", &["codec", "collections", "error", "family", "model", "netlink", "plan", "sys"]),
    ("log", &[]),
    ("model", &["codec", "collections", "family"]),
    ("netlink", &["collections", "error", "family", "sys"]),
    ("plan", &["family", "model"]),
    (
        "reconcile",
        &["bgp", "codec", "collections", "desired", "error", "family", "kernel", "model", "plan"],
    ),
    ("report", &["bgp", "collections", "desired", "error", "family", "model", "sys"]),
    ("sys", &["family"]),
];
/// A crate that only these modules may name.
const ONLY: [(&str, &[&str]); 6] = [
    ("ureq", &["api"]),
    ("rustls", &["api"]),
    ("neli", &["kernel", "netlink"]),
    ("libc", &["kernel", "netlink", "sys"]),
    ("lexopt", &["cli"]),
    ("smol", &["daemon", "report"]),
];

/// The source text of every file, without its unit tests, by its top-level module.
fn modules() -> BTreeMap<String, String> {
    fn walk(folder: &Path, module: Option<&str>, found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let module = module.unwrap_or(&stem);
            if path.is_dir() {
                walk(&path, Some(module), found);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
                found.entry(module.to_owned()).or_default().push_str(text);
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), None, &mut found);
    found
}

/// Code without comments.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// Whether `name` stands in the code as the first part of a path of `root`: `crate::name`, or in the
/// braces of `use crate::{…}`.
fn names(code: &str, root: &str, name: &str) -> bool {
    let direct = format!("{root}::{name}");
    let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
    if code.match_indices(&direct).any(|(at, _)| is_end(&code[at + direct.len()..])) {
        return true;
    }
    code.split(&format!("use {root}::{{")).skip(1).any(|rest| {
        let (mut depth, mut part) = (0, String::new());
        for c in rest.chars() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => part.push('\n'),
                c if depth == 0 => part.push(c),
                _ => {}
            }
        }
        part.lines().any(|p| p.trim().split("::").next() == Some(name))
    })
}

#[test]
fn every_module_imports_only_what_its_layer_may() {
    let modules = modules();
    let known: Vec<&str> = MAY.iter().map(|(module, _)| *module).collect();
    for (module, text) in &modules {
        let may = MAY.iter().find(|(m, _)| m == module);
        let (_, may) = may.unwrap_or_else(|| panic!("src/{module} has no row in this test"));
        let root = if module == "main" { "kinglet" } else { "crate" };
        for other in known.iter().filter(|other| *other != module && !may.contains(other)) {
            assert!(!names(&code(text), root, other), "{module} must not import {other}");
        }
        for (krate, only) in ONLY {
            let named = code(text).contains(&format!("{krate}::"));
            assert!(!named || only.contains(&module.as_str()), "{module} must not name {krate}");
        }
    }
}

#[test]
fn the_rule_can_be_broken() {
    assert!(names("use crate::{\n error::Error, kernel::{Kernel, files},\n};", "crate", "kernel"));
    assert!(names("fn f() -> crate::kernel::Kernel {}", "crate", "kernel"));
    assert!(!names("use crate::{plan::kernel, state};", "crate", "kernel"));
    assert!(!names("use crate::kernels;", "crate", "kernel"));
}

#[test]
fn unsafe_code_is_in_one_file() {
    for (module, text) in modules() {
        let blocks = code(&text).matches("unsafe {").count();
        assert!(blocks == 0 || module == "sys", "unsafe code in {module}");
    }
}

/// Code without comments, and without the contents of its strings and characters.
fn bare(text: &str) -> String {
    let (mut bare, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(['"', '\'', '/']) {
        let (before, quoted) = rest.split_at(at);
        bare.push_str(before);
        if quoted.starts_with('/') {
            let line = quoted.find('\n').unwrap_or(quoted.len());
            rest = &quoted[if quoted.starts_with("//") { line } else { 1 }..];
            continue;
        }
        let raw = before.ends_with("r#");
        let len = if raw {
            quoted[1..].find("\"#").map(|end| end + 3)
        } else if let Some(text) = quoted.strip_prefix('"') {
            let mut escaped = false;
            let end = text.find(|c| {
                let end = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                end
            });
            end.map(|end| end + 2)
        } else {
            // A character, or the start of a lifetime or a label.
            let mut chars = quoted[1..].char_indices();
            match (chars.next(), chars.next()) {
                (Some((_, '\\')), _) => quoted[3..].find('\'').map(|end| end + 4),
                (_, Some((end, '\''))) => Some(end + 2),
                _ => Some(1),
            }
        };
        rest = &quoted[len.unwrap_or(quoted.len())..];
    }
    bare + rest
}

/// The patterns of each `match` in bare code.
fn matches_in(bare: &str) -> Vec<Vec<&str>> {
    let mut found = Vec::new();
    for (at, _) in bare.match_indices("match ") {
        if bare[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_') {
            continue;
        }
        let (mut depth, mut patterns, mut start, mut in_pattern) = (0, Vec::new(), None, true);
        for (i, c) in bare[at..].char_indices() {
            let i = at + i;
            match c {
                '{' | '(' | '[' => {
                    depth += 1;
                    if c == '{' && depth == 1 && start.is_none() {
                        start = Some(i + 1);
                    }
                }
                '}' | ')' | ']' => {
                    depth -= 1;
                    if depth == 0 && start.is_some() {
                        break;
                    }
                    if c == '}' && depth == 1 && !in_pattern {
                        // The end of a block; an expression goes on only with one of these.
                        let next = bare[i + 1..].trim_start();
                        if !next.starts_with(['.', '?', ',', ')', '=', '+', '&', '|', '-']) {
                            (in_pattern, start) = (true, Some(i + 1));
                        }
                    }
                }
                ',' if depth == 1 && !in_pattern => (in_pattern, start) = (true, Some(i + 1)),
                '>' if depth == 1 && in_pattern && start.is_some() && bare[..i].ends_with('=') => {
                    let from = start.unwrap_or(i);
                    patterns.push(bare[from..i - 1].trim());
                    in_pattern = false;
                }
                ';' if start.is_none() => break,
                _ => {}
            }
        }
        found.push(patterns);
    }
    found
}

/// The arms that would take a new kind of item silently: those without a kind, in a `match` that has
/// kinds.
fn swallows(bare: &str) -> Vec<String> {
    let names_kind = |pattern: &str| {
        pattern.match_indices("Item").any(|(at, _)| {
            let whole = !pattern[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
            let rest = &pattern[at..];
            whole && ["Item::", "ItemKind::"].iter().any(|path| rest.starts_with(path))
        })
    };
    let of_items = |patterns: &Vec<&str>| patterns.iter().any(|pattern| names_kind(pattern));
    let arms = matches_in(bare).into_iter().filter(of_items).flatten();
    let silent = |pattern: &&str| !names_kind(pattern) && *pattern != "None";
    arms.filter(silent).map(str::to_owned).collect()
}

#[test]
fn no_match_on_items_takes_a_new_kind_silently() {
    /// Files in which such arms are left.
    const LEFT: [&str; 5] = [
        "src/desired/unit.rs",
        "src/reconcile/drain.rs",
        "src/reconcile/network.rs",
        "src/reconcile/reconciler.rs",
        "src/reconcile/stale_flows.rs",
    ];
    fn walk(folder: &Path, check: &mut dyn FnMut(&Path)) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, check) } else { check(&path) }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut matches = 0;
    walk(&root.join("src"), &mut |path| {
        let text = fs::read_to_string(path).unwrap();
        let text = bare(text.split("#[cfg(test)]\nmod tests").next().unwrap());
        let name = path.strip_prefix(root).unwrap().to_str().unwrap();
        matches += matches_in(&text).len();
        let arms = swallows(&text);
        assert!(arms.is_empty() || LEFT.contains(&name), "{name}: {arms:?}");
    });
    assert!(matches > 300, "only {matches} were found");
}

#[test]
fn a_wildcard_in_a_match_on_items_is_found() {
    let found = |code: &str| swallows(&bare(code));
    assert_eq!(found("match item { Item::Link { .. } => 1, _ => 2 }"), ["_"]);
    assert_eq!(found("match x { Item::A { b, .. } => { f(b); } other => g(\"}\") }"), ["other"]);
    assert_eq!(
        found("match s { Step::Add(Item::A { .. }) => a, Step::Add(item) => '{' }"),
        ["Step::Add(item)"]
    );
    let inner = "match i { Item::A { .. } => match k { K::A => 1, _ => 2 }, Item::B { .. } => 3 }";
    assert_eq!(found(inner), [""; 0], "the inner match is not on an item");
    assert_eq!(found("match i { Some(Item::A { .. }) => 1, None => r#\"{\"#.len() }"), [""; 0]);
    assert_eq!(found("match i { OtherItem::A => 1, _ => 2 }"), [""; 0]);
}
