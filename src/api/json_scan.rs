//! Finds the end of a JSON value (RFC 8259) in a stream, from its brackets and quotes only.
//!
//! The value may arrive in pieces of any size. Its content is not validated; the parser does that once
//! the value is complete.

/// The deepest nesting that is accepted. serde_json has the same limit, and no Kubernetes object is
/// nested deeper.
const MAX_DEPTH: u32 = 127;

/// The state of the scan of one value.
#[derive(Default)]
pub(super) struct Scan {
    /// The number of open brackets.
    depth: u32,
    /// One bit for each open bracket, the innermost in the lowest bit: 1 for a brace, 0 for a square
    /// bracket.
    braces: u128,
    within: Within,
}

/// The kind of token that the next byte belongs to.
#[derive(Clone, Copy, Default)]
enum Within {
    /// No token: the start of the value, or a position between the tokens of a list or an object.
    #[default]
    Structure,
    /// A string.
    String,
    /// A string, after a backslash.
    Escape,
    /// A number, `true`, `false` or `null` that is the whole value.
    Literal,
}

impl Scan {
    /// Scans the next piece. Returns the number of its bytes that belong to the value, and true if the
    /// value ends there. Fails if the value is missing, nested too deeply, or closes a bracket with one
    /// of the other kind.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Result<(usize, bool), &'static str> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.within {
                Within::String => {
                    let end = bytes[at..].iter().position(|b| matches!(b, b'"' | b'\\'));
                    let Some(end) = end else { return Ok((bytes.len(), false)) };
                    at += end;
                    self.within = match bytes[at] {
                        b'"' => Within::Structure,
                        _ => Within::Escape,
                    };
                    if bytes[at] == b'"' && self.depth == 0 {
                        return Ok((at + 1, true));
                    }
                }
                Within::Escape => self.within = Within::String,
                Within::Literal
                    if matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace() =>
                {
                    return Ok((at, true));
                }
                Within::Literal => {}
                Within::Structure => match byte {
                    b'"' => self.within = Within::String,
                    b'{' | b'[' => self.open(byte == b'{')?,
                    b'}' | b']' => {
                        self.close(byte == b'}')?;
                        if self.depth == 0 {
                            return Ok((at + 1, true));
                        }
                    }
                    b',' | b':' if self.depth == 0 => return Err("a value is missing"),
                    _ if self.depth == 0 => self.within = Within::Literal,
                    _ => {}
                },
            }
            at += 1;
        }
        Ok((at, false))
    }

    fn open(&mut self, brace: bool) -> Result<(), &'static str> {
        if self.depth == MAX_DEPTH {
            return Err("a value is nested too deeply");
        }
        self.depth += 1;
        self.braces = self.braces << 1 | u128::from(brace);
        Ok(())
    }

    fn close(&mut self, brace: bool) -> Result<(), &'static str> {
        match self.depth {
            0 => Err("a value is missing"),
            _ if (self.braces & 1 == 1) != brace => Err("a closing bracket of the wrong kind"),
            _ => {
                self.depth -= 1;
                self.braces >>= 1;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the value at the start of a text that arrives in pieces of this size; `None` if its end
    /// is missing.
    fn value(text: &str, piece: usize) -> Result<Option<&str>, &'static str> {
        let (mut scan, mut len) = (Scan::default(), 0);
        for bytes in text.as_bytes().chunks(piece) {
            let (more, ended) = scan.feed(bytes)?;
            len += more;
            if ended {
                return Ok(Some(&text[..len]));
            }
        }
        Ok(None)
    }

    #[test]
    fn the_end_of_a_value_is_found_for_any_size_of_pieces() {
        for (text, end) in [
            (r#"{"a":[1,{"b":"}]\"\\"}],"c":null} ,"#, 33),
            (r#"["x",[],{}]]"#, 11),
            (r#""a\\\"b":1"#, 8),
            ("-1.5e3,", 6),
            ("true}", 4),
            ("null ]", 4),
        ] {
            for piece in 1..=text.len() {
                assert_eq!(
                    value(text, piece),
                    Ok(Some(&text[..end])),
                    "{text} in pieces of {piece}"
                );
                let cut = value(&text[..end - 1], piece);
                assert_eq!(cut, Ok(None), "{text} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn invalid_or_too_deep_brackets_are_errors() {
        for text in ["]", "}", ",", ":", "[}", r#"{"a":[}"#] {
            assert!(value(text, 1).is_err(), "{text}");
        }
        assert!(value(&"[".repeat(127), 9).is_ok() && value(&"[".repeat(128), 9).is_err());
    }
}
