//! One word for one idea: a type name is defined once in `src/`.

use std::{collections::BTreeMap, fs, path::Path};

/// Returns the names of the types that a line defines: at most one, except for generic parameters.
fn defined_type(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    if rest.starts_with("pub") {
        rest = rest[3..].trim_start();
        if rest.starts_with('(') {
            rest = rest.split_once(')')?.1.trim_start();
        }
    }
    let (keyword, rest) = rest.split_once(' ')?;
    // An associated type of a trait or an impl is indented; a type alias is not.
    let is_type = ["struct", "enum", "trait", "union"].contains(&keyword)
        || keyword == "type" && !line.starts_with(' ');
    let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
    (is_type && name.starts_with(char::is_uppercase)).then_some(name)
}

/// Adds the types of all files below `folder`, without their unit tests, to `found`.
fn walk(folder: &Path, found: &mut BTreeMap<String, Vec<String>>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            walk(&path, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let is_tests = |line: &&str| {
            line.strip_prefix("pub(super) ").or(line.strip_prefix("pub(crate) ")).unwrap_or(line)
                == "mod tests {"
        };
        for line in text.lines().take_while(|line| !is_tests(line)) {
            if let Some(name) = defined_type(line) {
                found.entry(name.to_owned()).or_default().push(path.display().to_string());
            }
        }
    }
}

#[test]
fn a_type_name_is_defined_once() {
    let mut found = BTreeMap::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut found);
    assert!(found.len() > 300, "only {} types were found", found.len());
    // These files are compiled for tests only.
    let is_test_file = |file: &String| {
        [
            "test_server.rs",
            "world.rs",
            "random.rs",
            "fixtures.rs",
            "model_test.rs",
            "endpoint_cases.rs",
        ]
        .iter()
        .any(|name| file.ends_with(name))
    };
    for (name, mut files) in found {
        files.retain(|file| !is_test_file(file));
        assert!(files.len() <= 1, "{name} is defined in {files:?}");
    }
}

#[test]
fn definitions_are_recognised() {
    for (line, want) in [
        ("pub struct Item {", Some("Item")),
        ("pub(super) enum Knowledge {", Some("Knowledge")),
        ("    struct PageMetadata {", Some("PageMetadata")),
        ("pub type ItemSet = FlatSet<Item>;", Some("ItemSet")),
        ("struct Tuple(u8);", Some("Tuple")),
        ("    type Item = u8;", None),
        ("let structure = 1;", None),
        ("// struct Comment", None),
    ] {
        assert_eq!(defined_type(line), want, "{line}");
    }
}
