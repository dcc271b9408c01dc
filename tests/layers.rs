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
    ("libc", &["kernel", "sys"]),
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
fn unsafe_code_is_in_one_folder() {
    for (module, text) in modules() {
        let blocks = code(&text).matches("unsafe {").count();
        assert!(blocks == 0 || module == "sys", "unsafe code in {module}");
    }
}
