//! Converts a position in a JSON text into the path of its field, for example `spec.ports[0].port`.
//!
//! serde_json's errors have only a line and a column, which are useless for an object in a long list.

/// One element of a path.
enum PathStep<'a> {
    Key(&'a str),
    Index(usize),
}

/// Returns the path of the value at a line and a column (from 1, in bytes, as in serde_json's errors).
/// The JSON text must be well formed up to there. The path of the root is empty.
pub(super) fn at_position(json: &str, line: usize, column: usize) -> String {
    let before: usize = json.split('\n').take(line.saturating_sub(1)).map(|l| l.len() + 1).sum();
    let end = (before + column).min(json.len());
    let bytes = json.as_bytes();
    let mut steps: Vec<PathStep> = Vec::new();
    let mut key_next = false;
    let mut at = 0;
    while at < end {
        let byte = bytes[at];
        at += 1;
        match byte {
            // A bracket at the position itself opens a value of the wrong type, which is not entered.
            b'{' | b'[' if at == end => {}
            b'{' => {
                steps.push(PathStep::Key(""));
                key_next = true;
            }
            b'[' => {
                steps.push(PathStep::Index(0));
                key_next = false;
            }
            b'}' | b']' if at == end => {}
            b'}' | b']' => {
                steps.pop();
            }
            b',' => match steps.last_mut() {
                Some(PathStep::Index(index)) => *index += 1,
                _ => key_next = true,
            },
            b'"' => {
                let start = at;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                if let (true, Some(PathStep::Key(key))) = (key_next, steps.last_mut()) {
                    *key = json.get(start..at).unwrap_or("?");
                    key_next = false;
                }
                at += 1;
            }
            _ => {}
        }
    }
    let mut path = String::new();
    for step in steps {
        match step {
            PathStep::Key("") => {}
            PathStep::Key(key) if path.is_empty() => path.push_str(key),
            PathStep::Key(key) => path = format!("{path}.{key}"),
            PathStep::Index(index) => path = format!("{path}[{index}]"),
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Outer {
        a: Option<String>,
        b: Option<Vec<Inner>>,
        c: Option<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        n: Option<i64>,
        s: Option<Vec<String>>,
    }

    #[test]
    fn the_position_of_a_type_error_gives_the_path_of_its_field() {
        for (json, want) in [
            (r#"{"a":5}"#, "a"),
            (r#"{"x":[{}],"a":[]}"#, "a"),
            (r#"{"a":"\"}{","b":[{"n":1},{"n":"x"}]}"#, "b[1].n"),
            (r#"{"b":[{"n":1},7]}"#, "b[1]"),
            (r#"{"b":{}}"#, "b"),
            (r#"{"b":[]  , "c": {"y":{"z":[1,2]},"s": ["p", "q", 3]}}"#, "c.s[2]"),
            ("{\"b\":[],\n\"c\":{\"s\":\n[\"p\",null]}}", "c.s[1]"),
            (r#"{"c":{"n":1e99}}"#, "c.n"),
            (r#"{"c":{"s":{}}}"#, "c.s"),
            ("5", ""),
            ("[7]", "[0]"),
        ] {
            let e = serde_json::from_str::<Outer>(json).unwrap_err();
            assert_eq!(super::at_position(json, e.line(), e.column()), want, "{json}: {e}");
        }
    }
}
