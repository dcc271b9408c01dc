//! The layers of the source: which module may import which, read from the `use` lines, and the file
//! with unsafe code.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Each top-level module of `src/`, and the modules of kinglet that it may import.
const MAY: [(&str, &[&str]); 21] = [
    ("family", &[]),
    ("main", &["commands", "error", "log"]),
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
/// Crates that only these modules may use.
const ONLY: [(&str, &[&str]); 6] = [
    ("ureq", &["api"]),
    ("rustls", &["api"]),
    ("neli", &["kernel", "netlink"]),
    ("libc", &["kernel", "netlink", "sys"]),
    ("lexopt", &["cli"]),
    ("smol", &["daemon", "report"]),
];

/// Returns the folder `src`.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Calls `take` with the path and the text of each Rust file below a folder.
fn each_file(folder: &Path, take: &mut dyn FnMut(&Path, String)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_file(&path, take);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            take(&path, fs::read_to_string(&path).unwrap());
        }
    }
}

/// Returns the source text of each top-level module, all its files joined, without unit tests.
fn modules() -> BTreeMap<String, String> {
    let mut found = BTreeMap::<String, String>::new();
    each_file(&source(), &mut |path, text| {
        let within = path.strip_prefix(source()).unwrap();
        let top = Path::new(within.iter().next().unwrap());
        let module = top.file_stem().unwrap().to_str().unwrap().to_owned();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        found.entry(module).or_default().push_str(text);
    });
    found
}

/// Returns code without its comments.
fn code(text: &str) -> String {
    let lines = text.lines().map(|line| line.split("//").next().unwrap());
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns true if `name` is the first part of a path below `root` in the code: `crate::name`, or
/// in the braces of `use crate::{…}`.
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
fn each_module_imports_only_the_modules_of_its_row() {
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
fn a_forbidden_import_is_found() {
    assert!(names("use crate::{\n error::Error, kernel::{Kernel, files},\n};", "crate", "kernel"));
    assert!(names("fn f() -> crate::kernel::Kernel {}", "crate", "kernel"));
    assert!(!names("use crate::{plan::kernel, state};", "crate", "kernel"));
    assert!(!names("use crate::kernels;", "crate", "kernel"));
}

/// The files of `src/` that may hold unsafe code.
const UNSAFE: [&str; 1] = ["sys/calls.rs"];

/// Returns true if code, without its comments, has the keyword `unsafe` in any form: a block, a function, a trait, an `impl`, an
/// `extern` block or an attribute. The name of the lint, `unsafe_code`, is another word.
fn has_unsafe(text: &str) -> bool {
    code(text).split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
}

#[test]
fn unsafe_code_is_in_one_file() {
    let mut files = BTreeMap::new();
    each_file(&source(), &mut |path, text| {
        files.insert(path.strip_prefix(source()).unwrap().to_str().unwrap().to_owned(), text);
    });
    let found: Vec<_> = files.iter().filter(|(_, t)| has_unsafe(t)).map(|(path, _)| path).collect();
    assert_eq!(found, UNSAFE, "these files have unsafe code");
    let allowed = files.iter().filter(|(_, text)| code(text).contains("allow(unsafe_code"));
    let allowed: Vec<_> = allowed.map(|(path, _)| path).collect();
    assert_eq!(allowed, UNSAFE, "these files allow unsafe code");
}

#[test]
fn unsafe_code_is_found_in_any_form() {
    for text in [
        "unsafe {",
        "unsafe\n{",
        "pub unsafe fn f()",
        "unsafe impl Send for A {}",
        "unsafe extern \"C\" {",
        "#[unsafe(no_mangle)]",
    ] {
        assert!(has_unsafe(text), "{text}");
    }
    assert!(!has_unsafe("#![deny(unsafe_code)] // unsafe {"));
}
