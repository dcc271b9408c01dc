//! YAML as kubeconfig files need it: one document into one JSON value.
//!
//! What could blow up is refused and not expanded: an alias may stand for a scalar only, nesting and
//! size are bounded, merge keys and tags beyond the core schema are errors. Plain scalars stay text,
//! but for `null`, `true` and `false`: a token of digits is still a token.

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Value};

use crate::few::Few;

/// A kubeconfig nests five levels.
const DEPTH: usize = 64;
/// All of its text, with aliases written out.
const SIZE: usize = 4 << 20;

/// A collection whose end has not come yet.
enum Open {
    List(Vec<Value>),
    Map { map: Map<String, Value>, key: Option<String> },
}

/// The one document of a text. An error says at which line.
pub fn read(text: &str) -> Result<Value, String> {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|e| {
            // Its own text repeats the position in another form.
            format!("line {}: {}", e.marker().line(), e.info())
        })?;
        builder.event(event).map_err(|why| format!("line {}: {why}", span.start.line()))?;
    }
    builder.document.ok_or_else(|| "it holds nothing".to_owned())
}

#[derive(Default)]
struct Builder {
    open: Vec<Open>,
    /// What an alias may stand for: by anchor, the scalar.
    anchors: Few<usize, Value>,
    document: Option<Value>,
    size: usize,
}

impl Builder {
    fn event(&mut self, event: Event<'_>) -> Result<(), String> {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let value = scalar(&text, style, tag.as_deref())?;
                if anchor != 0 {
                    self.anchors.insert(anchor, value.clone());
                }
                self.put(value)
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(value) => self.put(value.clone()),
                None => Err("an alias (*) to a map or a list; write it out".to_owned()),
            },
            Event::SequenceStart(_, tag) => {
                collection(tag.as_deref(), "seq")?;
                self.begin(Open::List(Vec::new()))
            }
            Event::MappingStart(_, tag) => {
                collection(tag.as_deref(), "map")?;
                self.begin(Open::Map { map: Map::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => match self.open.pop() {
                Some(Open::List(list)) => self.put(Value::Array(list)),
                Some(Open::Map { map, .. }) => self.put(Value::Object(map)),
                None => Err("a collection ends that never began".to_owned()),
            },
            _ => Ok(()),
        }
    }

    fn begin(&mut self, open: Open) -> Result<(), String> {
        if let Some(Open::Map { key: None, .. }) = self.open.last() {
            return Err("a key that is a map or a list".to_owned());
        }
        if self.open.len() == DEPTH {
            return Err(format!("nested deeper than {DEPTH} levels"));
        }
        self.open.push(open);
        Ok(())
    }

    fn put(&mut self, value: Value) -> Result<(), String> {
        self.size += 16 + value.as_str().map_or(0, str::len);
        if self.size > SIZE {
            return Err("its aliases make it too large".to_owned());
        }
        match self.open.last_mut() {
            Some(Open::List(list)) => list.push(value),
            Some(Open::Map { map, key }) => match key.take() {
                None => *key = Some(key_of(&value, map)?),
                Some(key) => drop(map.insert(key, value)),
            },
            None if value.is_null() => {} // an empty document before or after a `---`
            None if self.document.is_some() => {
                return Err("a second document; keep the one that counts".to_owned());
            }
            None => self.document = Some(value),
        }
        Ok(())
    }
}

fn key_of(value: &Value, map: &Map<String, Value>) -> Result<String, String> {
    let key = match value {
        Value::String(key) => key.clone(),
        other => other.to_string(), // null, true, false
    };
    if key == "<<" {
        return Err("a merge key (<<); write it out".to_owned());
    }
    if map.contains_key(&key) {
        return Err(format!("the key {key:?} is there twice"));
    }
    Ok(key)
}

/// The suffix of a tag of the core schema (`!!str`); other tags mean something that we don't know.
fn core(tag: &Tag) -> Result<&str, String> {
    match tag.handle.as_str() {
        "tag:yaml.org,2002:" | "!!" => Ok(&tag.suffix),
        _ => Err(format!("the tag {tag} is not known")),
    }
}

fn collection(tag: Option<&Tag>, is: &str) -> Result<(), String> {
    match tag.map(core).transpose()? {
        Some(suffix) if suffix != is => Err(format!("the tag !!{suffix} does not fit")),
        _ => Ok(()),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let resolved = match tag.map(core).transpose()? {
        Some("str") => false,
        Some("int" | "float" | "bool" | "null") => true,
        Some(other) => return Err(format!("the tag !!{other} does not fit")),
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
    fn what_kubectl_writes_is_understood() {
        let text = "---\n# a comment\na: b\nc:\n- d: 1\n  e: \"x\\ty\"\n- [f, 'g']\nh: {i: true, j: ~}\nk: |\n  two\n  lines\nl: &x 007\nm: *x\nn: !!str true\n---\n";
        let want = json!({"a": "b", "c": [{"d": "1", "e": "x\ty"}, ["f", "g"]], "h": {"i": true, "j": null},
            "k": "two\nlines\n", "l": "007", "m": "007", "n": "true"});
        assert_eq!(read(text).unwrap(), want);
    }

    #[test]
    fn what_could_blow_up_or_mislead_is_an_error_with_its_line() {
        let deep = "[".repeat(100_000);
        let wide = format!("a: &a {}\nb: [{}]", "x".repeat(100_000), "*a,".repeat(1000));
        for (text, want) in [
            ("", "it holds nothing"),
            ("# nothing", "it holds nothing"),
            ("a: &a {b: c}\nd: *a", "line 2: an alias (*) to a map or a list; write it out"),
            ("a: &a {b: *a}", "line 1: an alias (*) to a map or a list"),
            ("a: *nowhere", "line 1: while parsing node, found unknown anchor"),
            ("<<: {a: b}", "line 1: a merge key (<<); write it out"),
            ("a: b\na: c", "line 2: the key \"a\" is there twice"),
            ("a: b\n---\nc: d", "a second document"),
            ("? {a: b}\n: c", "a key that is a map or a list"),
            ("a: !!binary aGk=", "the tag !!binary does not fit"),
            ("a: !secret x", "the tag !secret is not known"),
            ("a: [b", "line"),
            ("a: \"b", "line"),
            (&deep, "recursion limit exceeded"), // the parser's own
            (&"- ".repeat(100), "line 1: nested deeper than 64 levels"),
            (&wide, "its aliases make it too large"),
        ] {
            let got = read(text).unwrap_err();
            assert!(got.contains(want), "{text:.40}: {got}");
        }
    }
}
