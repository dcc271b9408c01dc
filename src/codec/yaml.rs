//! Reads the subset of YAML that kubeconfig files and annotations need: one document as a JSON value.
//!
//! saphyr-parser produces events, from which [`Builder`] builds the value. Constructs that could use
//! unbounded memory are errors: an alias may refer to a scalar only, depth and size are limited, merge
//! keys (`<<`) and tags outside the core schema (YAML 1.2.2 section 10.3) are refused. Plain scalars
//! other than null, true and false stay strings, because a token of digits is still a token.

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value};

use crate::collections::FlatMap;

/// The deepest nesting that is accepted. A kubeconfig has five levels.
const MAX_DEPTH: usize = 64;
/// The largest value that is accepted, in bytes of text with aliases expanded, plus 16 for each node.
const MAX_SIZE: usize = 4 << 20;

/// A collection whose end event has not arrived.
enum Collection {
    List(Vec<Value>),
    Map { map: Map<String, Value>, key: Option<String> },
}

/// Returns the only document of a text. Fails if there is no document or more than one, or if the text
/// is outside the subset; the error names the line.
pub(crate) fn read(text: &str) -> Result<Value, String> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| {
            // The Display text of `e` would repeat the position in another form.
            format!("line {}: {}", e.marker().line(), e.info())
        })?;
        builder.handle_event(event).map_err(|why| format!("line {}: {why}", span.start.line()))?;
    }
    builder.document.ok_or_else(|| "it is empty".to_owned())
}

/// A JSON value under construction from the parser's events.
#[derive(Default)]
struct Builder {
    /// The collections that contain the next node, outermost first.
    open: Vec<Collection>,
    /// The scalars that an alias may refer to, by the number of their anchor.
    anchors: FlatMap<usize, Value>,
    /// The finished document; `None` before its end.
    document: Option<Value>,
    /// The size so far, as limited by [`MAX_SIZE`].
    size: usize,
}

impl Builder {
    fn handle_event(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref())?;
                if anchor != 0 {
                    self.anchors.insert(anchor, value.clone());
                }
                self.add(value)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(value) => self.add(value.clone()),
                None => Err("an alias (*) to a map or a list; write it out".to_owned()),
            },
            Event::SequenceStart(_, tag) => {
                check_tag(tag.as_deref(), "seq")?;
                self.open_collection(Collection::List(Vec::new()))
            }
            Event::MappingStart(_, tag) => {
                check_tag(tag.as_deref(), "map")?;
                self.open_collection(Collection::Map { map: Map::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Collection::List(list)) => self.add(Value::Array(list)),
                Some(Collection::Map { map, .. }) => self.add(Value::Object(map)),
                None => Err("the end of a collection without its start".to_owned()),
            },
            _ => Ok(()),
        }
    }

    /// Opens a collection. Fails if it would be the key of a map, or is nested too deeply.
    fn open_collection(&mut self, collection: Collection) -> Result<(), String> {
        if let Some(Collection::Map { key: None, .. }) = self.open.last() {
            return Err("a key that is a map or a list".to_owned());
        }
        if self.open.len() == MAX_DEPTH {
            return Err(format!("nested deeper than {MAX_DEPTH} levels"));
        }
        self.open.push(collection);
        Ok(())
    }

    /// Adds a finished value to the innermost open collection, or makes it the document.
    fn add(&mut self, value: Value) -> Result<(), String> {
        self.size += 16 + value.as_str().map_or(0, str::len);
        if self.size > MAX_SIZE {
            return Err("it is too large with its aliases expanded".to_owned());
        }
        match self.open.last_mut() {
            Some(Collection::List(list)) => list.push(value),
            Some(Collection::Map { map, key }) => match key.take() {
                None => *key = Some(new_key(&value, map)?),
                Some(key) => drop(map.insert(key, value)),
            },
            None if value.is_null() => {} // an empty document before or after a `---`
            None if self.document.is_some() => {
                return Err("a second document; keep only one".to_owned());
            }
            None => self.document = Some(value),
        }
        Ok(())
    }
}

/// Returns a scalar as the text of a key. Fails if it is a merge key, or if `map` has it already.
fn new_key(value: &Value, map: &Map<String, Value>) -> Result<String, String> {
    let key = match value {
        Value::String(key) => key.clone(),
        other => other.to_string(), // null, true, false
    };
    if key == "<<" {
        return Err("a merge key (<<); write it out".to_owned());
    }
    if map.contains_key(&key) {
        return Err(format!("the key {key:?} occurs twice"));
    }
    Ok(key)
}

/// Returns the suffix of a tag of the core schema, for example `str` of `!!str`. Fails if the tag is
/// another one.
fn core_suffix(tag: &Tag) -> Result<&str, String> {
    match tag.handle.as_str() {
        "tag:yaml.org,2002:" | "!!" => Ok(&tag.suffix),
        _ => Err(format!("the tag {tag} is not supported")),
    }
}

/// Fails if a collection has a tag other than `!!seq` or `!!map`, as given by `expected`.
fn check_tag(tag: Option<&Tag>, expected: &str) -> Result<(), String> {
    match tag.map(core_suffix).transpose()? {
        Some(suffix) if suffix != expected => Err(format!("the tag !!{suffix} is wrong here")),
        _ => Ok(()),
    }
}

/// Returns the value of a scalar. Only plain scalars, and scalars with a tag other than `!!str`, can be
/// null or a bool.
fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let resolved = match tag.map(core_suffix).transpose()? {
        Some("str") => false,
        Some("int" | "float" | "bool" | "null") => true,
        Some(other) => return Err(format!("the tag !!{other} is wrong here")),
        None => style == ScalarStyle::Plain,
    };
    Ok(match text {
        "" | "~" | "null" | "Null" | "NULL" if resolved => Value::Null,
        "true" | "True" | "TRUE" if resolved => Value::Bool(true),
        "false" | "False" | "FALSE" if resolved => Value::Bool(false),
        _ => Value::String(text.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn yaml_as_kubectl_writes_it_is_read() {
        let text = "---\n# a comment\na: b\nc:\n- d: 1\n  e: \"x\\ty\"\n- [f, 'g']\nh: {i: true, j: ~}\nk: |\n  two\n  lines\nl: &x 007\nm: *x\nn: !!str true\n---\n";
        let want = json!({"a": "b", "c": [{"d": "1", "e": "x\ty"}, ["f", "g"]], "h": {"i": true, "j": null},
            "k": "two\nlines\n", "l": "007", "m": "007", "n": "true"});
        assert_eq!(read(text).unwrap(), want);
    }

    #[test]
    fn unbounded_or_ambiguous_yaml_is_an_error_with_its_line() {
        let deep = "[".repeat(100_000);
        let wide = format!("a: &a {}\nb: [{}]", "x".repeat(100_000), "*a,".repeat(1000));
        for (text, want) in [
            ("", "it is empty"),
            ("# nothing", "it is empty"),
            ("a: &a {b: c}\nd: *a", "line 2: an alias (*) to a map or a list; write it out"),
            ("a: &a {b: *a}", "line 1: an alias (*) to a map or a list"),
            ("a: *nowhere", "line 1: while parsing node, found unknown anchor"),
            ("<<: {a: b}", "line 1: a merge key (<<); write it out"),
            ("a: b\na: c", "line 2: the key \"a\" occurs twice"),
            ("a: b\n---\nc: d", "a second document"),
            ("? {a: b}\n: c", "a key that is a map or a list"),
            ("a: !!binary aGk=", "the tag !!binary is wrong here"),
            ("a: !secret x", "the tag !secret is not supported"),
            ("a: [b", "line"),
            ("a: \"b", "line"),
            (&deep, "recursion limit exceeded"), // the parser's own
            (&"- ".repeat(100), "line 1: nested deeper than 64 levels"),
            (&wide, "it is too large with its aliases expanded"),
        ] {
            let got = read(text).unwrap_err();
            assert!(got.contains(want), "{text:.40}: {got}");
        }
    }
}
