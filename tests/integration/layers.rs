//! The layers of the source, read from the `use` lines: which module may import which, no circles of files,
//! and the files with unsafe code.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Each top-level module of `src/`, and the modules of kinglet that it may import.
const MAY: [(&str, &[&str]); 23] = [
    ("family", &[]),
    ("hash", &[]),
    ("rng", &[]),
    ("main", &["commands", "error", "log"]),
    ("lib", &[]),
    ("announce", &["collections", "desired", "error", "family", "hash", "model"]),
    ("api", &["codec", "collections", "error", "family", "hash", "log", "model", "rng"]),
    ("bgp", &["collections", "error", "family", "log", "model", "rng", "sys"]),
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
    ("desired", &["codec", "collections", "error", "family", "hash", "model"]),
    ("error", &[]),
    ("kernel", &["codec", "collections", "error", "family", "model", "netlink", "plan", "sys"]),
    ("log", &[]),
    ("model", &["codec", "collections", "family", "hash"]),
    ("netlink", &["collections", "error", "family", "sys"]),
    ("plan", &["family", "model"]),
    (
        "reconcile",
        &["codec", "collections", "desired", "error", "family", "kernel", "model", "plan"],
    ),
    ("report", &["bgp", "collections", "desired", "error", "family", "model", "sys"]),
    ("sys", &["family"]),
];
/// Crates that only these modules may use.
const ONLY: [(&str, &[&str]); 6] = [
    ("ureq", &["api"]),
    ("rustls", &["api"]),
    ("neli", &["kernel", "netlink"]),
    ("libc", &["kernel", "sys"]),
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

/// The folder of `src/` that may hold unsafe code, and the file that allows it there.
const UNSAFE: (&str, &str) = ("sys/", "sys/mod.rs");

/// Returns true if code, without its comments, has the keyword `unsafe` in any form: a block, a function, a trait, an `impl`, an
/// `extern` block or an attribute. The name of the lint, `unsafe_code`, is another word.
fn has_unsafe(text: &str) -> bool {
    code(text).split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe")
}

#[test]
fn unsafe_code_is_in_one_folder() {
    let mut files = BTreeMap::new();
    each_file(&source(), &mut |path, text| {
        files.insert(path.strip_prefix(source()).unwrap().to_str().unwrap().to_owned(), text);
    });
    let found: Vec<_> = files.iter().filter(|(_, t)| has_unsafe(t)).map(|(path, _)| path).collect();
    assert!(!found.is_empty() && found.iter().all(|path| path.starts_with(UNSAFE.0)), "{found:?}");
    let allowed = files.iter().filter(|(_, text)| code(text).contains("allow(unsafe_code"));
    let allowed: Vec<_> = allowed.map(|(path, _)| path).collect();
    assert_eq!(allowed, [UNSAFE.1], "these files allow unsafe code");
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

/// Groups of files that import each other in a circle, with the reason. A circle of other files fails.
const CIRCLES: [(&[&str], &str); 0] = [];

/// A path of a `use` declaration, or of an item that is named by its path.
struct Import {
    /// The segments, from `crate`, `self`, `super`, a child module or another crate.
    path: Vec<String>,
    /// The name that the path has in this file.
    name: String,
    /// True if the declaration is a re-export.
    public: bool,
}

/// A file of `src/` without its unit tests.
struct File {
    /// The file's path below `src/`.
    path: String,
    imports: Vec<Import>,
}

/// Returns the module path of a file: `bgp/rib/mod.rs` is `["bgp", "rib"]`, and `lib.rs` is `[]`.
fn module_of(path: &str) -> Vec<String> {
    let path = path.strip_suffix(".rs").unwrap();
    let path = path.strip_suffix("/mod").unwrap_or(path);
    path.split('/').filter(|part| *part != "lib").map(str::to_owned).collect()
}

/// Splits `a::{b, c::{d, self}, e as f}` into its paths and their names.
fn expand(tree: &str, prefix: &[String], public: bool, imports: &mut Vec<Import>) {
    let tree = tree.trim();
    if tree.is_empty() {
        return; // after the last comma of a list
    }
    let (head, list) = match tree.split_once('{') {
        Some((head, list)) => (head, list.trim_end().strip_suffix('}')),
        None => (tree, None),
    };
    let (head, alias) = head.split_once(" as ").unwrap_or((head, ""));
    let mut path = prefix.to_vec();
    path.extend(head.split("::").map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned));
    let Some(list) = list else {
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        if let Some(last) = path.last() {
            let name = if alias.is_empty() { last.clone() } else { alias.trim().to_owned() };
            imports.push(Import { path, name, public });
        }
        return;
    };
    let (mut depth, mut start) = (0, 0);
    for (at, c) in list.char_indices().chain([(list.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&list[start..at], &path, public, imports);
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// Returns the imports in code: its `use` declarations, and each `crate::…` and `super::…` in the rest.
fn imports(code: &str) -> Vec<Import> {
    let mut imports = Vec::new();
    for statement in code.split(';') {
        let start = statement.lines().position(|line| {
            let line = line.trim_start();
            line.starts_with("use ") || line.starts_with("pub") && line.contains(" use ")
        });
        let lines = |from| statement.lines().skip(from).collect::<Vec<_>>().join(" ");
        if let Some(found) = start.map(lines) {
            let (visibility, tree) = found.split_once("use ").unwrap();
            expand(tree, &[], visibility.contains("pub"), &mut imports);
        }
        let end = start.unwrap_or(usize::MAX);
        for line in statement.lines().take(end) {
            for root in ["crate::", "super::"] {
                for (at, _) in line.match_indices(root) {
                    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
                    let before = &line[..at];
                    if before.ends_with(is_path) {
                        continue; // the rest of a path that was found already
                    }
                    let path = line[at..].split(|c| !is_path(c)).next().unwrap();
                    expand(path, &[], false, &mut imports);
                }
            }
        }
    }
    imports
}

/// Returns all files of `src/` by module path, except those that only tests compile.
fn files() -> BTreeMap<Vec<String>, File> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<Vec<String>, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                let text = code(&fs::read_to_string(&path).unwrap());
                found.insert(vec![name], text);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut texts = BTreeMap::new();
    walk(&root, &root, &mut texts);
    let mut files = BTreeMap::new();
    let mut only_tests = Vec::new();
    for (path, text) in texts {
        let (path, module) = (path[0].clone(), module_of(&path[0]));
        let mut parts = text.split("#[cfg(test)]\n");
        let mut kept = parts.next().unwrap().to_owned();
        for part in parts {
            let (first, rest) = part.split_once('\n').unwrap_or((part, ""));
            let Some((_, name)) = first.split_once("mod ") else {
                kept.push_str(rest); // a single item
                continue;
            };
            match name.strip_suffix(';') {
                Some(name) => {
                    only_tests.push([&module[..], &[name.to_owned()]].concat());
                    kept.push_str(rest);
                }
                None => break, // the unit tests are the end of the file
            }
        }
        files.insert(module, File { path, imports: imports(&kept) });
    }
    files.retain(|module, _| !only_tests.iter().any(|tests| module.starts_with(tests)));
    files
}

/// Returns the module whose file defines what an import of `from` names, and follows re-exports. `None` if
/// it is of another crate.
fn defined_in(
    files: &BTreeMap<Vec<String>, File>,
    from: &[String],
    path: &[String],
) -> Option<Vec<String>> {
    let mut whole: Vec<String> = match path[0].as_str() {
        "crate" if from.first().is_some_and(|first| first == "main") => vec!["main".to_owned()],
        "crate" | "kinglet" => Vec::new(),
        "self" | "super" => from.to_vec(),
        _ => [from, &path[..1]].concat(),
    };
    if !matches!(path[0].as_str(), "crate" | "kinglet" | "self" | "super") {
        files.get(&whole)?;
    }
    for (at, part) in path.iter().enumerate() {
        match part.as_str() {
            "super" => drop(whole.pop()),
            _ if at > 0 => whole.push(part.clone()),
            _ => {}
        }
    }
    let length = (0..=whole.len()).rev().find(|length| files.contains_key(&whole[..*length]))?;
    let (module, rest) = whole.split_at(length);
    let exported = |name: &String| {
        files[module].imports.iter().find(|import| import.public && import.name == *name)
    };
    match rest.first().and_then(exported) {
        Some(import) => {
            let path = [&import.path[..], &rest[1..]].concat();
            defined_in(files, module, &path).or(Some(module.to_vec()))
        }
        None => Some(module.to_vec()),
    }
}

/// Returns the groups of files that import each other, directly or through others.
fn circles(files: &BTreeMap<Vec<String>, File>) -> BTreeSet<BTreeSet<&str>> {
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (module, file) in files {
        let imported = file.imports.iter().filter_map(|i| defined_in(files, module, &i.path));
        let imported = imported.filter(|other| other != module && !other.is_empty());
        reached.insert(&file.path, imported.map(|other| files[&other].path.as_str()).collect());
    }
    loop {
        let next: BTreeMap<&str, BTreeSet<&str>> = reached
            .iter()
            .map(|(file, to)| {
                (*file, to.iter().chain(to.iter().flat_map(|to| &reached[to])).copied().collect())
            })
            .collect();
        if next == reached {
            break;
        }
        reached = next;
    }
    let circular = reached.iter().filter(|(file, to)| to.contains(*file));
    let both_ways = |file: &str, to: &BTreeSet<&'_ str>| -> BTreeSet<&str> {
        let back =
            reached.iter().filter(|(other, back)| to.contains(*other) && back.contains(file));
        back.map(|(other, _)| *other).collect()
    };
    circular.map(|(file, to)| both_ways(file, to)).collect()
}

#[test]
fn no_files_import_each_other_in_a_circle() {
    let files = files();
    let found = circles(&files);
    let is_known = |circle: &&BTreeSet<&str>| {
        !CIRCLES.iter().any(|(known, _)| circle.iter().all(|file| known.contains(file)))
    };
    let mut new = String::new();
    for circle in found.iter().filter(is_known) {
        for (module, file) in files.iter().filter(|(_, file)| circle.contains(&*file.path)) {
            for import in &file.imports {
                let other = defined_in(&files, module, &import.path);
                let other = other.filter(|other| other != module).map(|other| &files[&other].path);
                if let Some(other) = other.filter(|other| circle.contains(other.as_str())) {
                    new += &format!("  {} from {other}: {}\n", file.path, import.path.join("::"));
                }
            }
        }
        new.push('\n');
    }
    assert!(new.is_empty(), "circles of imports:\n{new}");
}

#[test]
fn a_circle_is_found_through_re_exports_and_other_files() {
    let texts = [
        ("x/mod.rs", "mod a;\npub(crate) use a::{A, Other as B};"),
        ("x/a.rs", "use std::fmt;\nuse super::b::{self, B,};"),
        ("x/b.rs", "fn f() -> crate::y::Y { 1 }"),
        ("y.rs", "use crate::{\n    x::{A, B},\n};"),
        ("z.rs", "pub use crate::x::A;"),
    ];
    let files = |count: usize| -> BTreeMap<Vec<String>, File> {
        let file = |path: &str, text| File { path: path.to_owned(), imports: imports(text) };
        let texts = texts.iter().take(count);
        texts.map(|(path, text)| (module_of(path), file(path, text))).collect()
    };
    assert!(circles(&files(3)).is_empty());
    assert_eq!(circles(&files(4)), [["x/a.rs", "x/b.rs", "y.rs"].into()].into());
    assert_eq!(circles(&files(5)), [["x/a.rs", "x/b.rs", "y.rs"].into()].into());
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
        assert!(arms.is_empty(), "{name}: {arms:?}");
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
