//! Where a JSON value ends: seen from its brackets and quotes, in any pieces. What is in it is for others to
//! understand.

/// Nested deeper than this is no object of Kubernetes (serde_json bears as much).
const DEPTH: u32 = 127;

/// A value of which a part was seen.
#[derive(Default)]
pub struct Scan {
    depth: u32,
    /// A bit for each bracket that is open, the innermost lowest: whether it is a curly one.
    curly: u128,
    inside: Inside,
}

#[derive(Clone, Copy, Default)]
enum Inside {
    /// Nothing, or a list or an object.
    #[default]
    Brackets,
    Quotes,
    /// Quotes, behind a backslash.
    Escape,
    /// A number or a word that is a value by itself.
    Word,
}

impl Scan {
    /// How many of these bytes belong to it, and whether it is over there.
    pub fn pass(&mut self, bytes: &[u8]) -> Result<(usize, bool), &'static str> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            match self.inside {
                Inside::Quotes => {
                    let end = bytes[at..].iter().position(|b| matches!(b, b'"' | b'\\'));
                    let Some(end) = end else { return Ok((bytes.len(), false)) };
                    at += end;
                    self.inside = match bytes[at] {
                        b'"' => Inside::Brackets,
                        _ => Inside::Escape,
                    };
                    if bytes[at] == b'"' && self.depth == 0 {
                        return Ok((at + 1, true));
                    }
                }
                Inside::Escape => self.inside = Inside::Quotes,
                Inside::Word
                    if matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace() =>
                {
                    return Ok((at, true));
                }
                Inside::Word => {}
                Inside::Brackets => match byte {
                    b'"' => self.inside = Inside::Quotes,
                    b'{' | b'[' => self.open(byte == b'{')?,
                    b'}' | b']' => {
                        self.close(byte == b'}')?;
                        if self.depth == 0 {
                            return Ok((at + 1, true));
                        }
                    }
                    b',' | b':' if self.depth == 0 => return Err("a value is missing"),
                    _ if self.depth == 0 => self.inside = Inside::Word,
                    _ => {}
                },
            }
            at += 1;
        }
        Ok((at, false))
    }

    fn open(&mut self, curly: bool) -> Result<(), &'static str> {
        if self.depth == DEPTH {
            return Err("a value is nested too deeply");
        }
        self.depth += 1;
        self.curly = self.curly << 1 | u128::from(curly);
        Ok(())
    }

    fn close(&mut self, curly: bool) -> Result<(), &'static str> {
        match self.depth {
            0 => Err("a value is missing"),
            _ if (self.curly & 1 == 1) != curly => Err("a bracket that does not fit"),
            _ => {
                self.depth -= 1;
                self.curly >>= 1;
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value at the start of a text that comes in pieces of this size.
    fn value(text: &str, piece: usize) -> Result<Option<&str>, &'static str> {
        let (mut scan, mut len) = (Scan::default(), 0);
        for bytes in text.as_bytes().chunks(piece) {
            let (more, over) = scan.pass(bytes)?;
            len += more;
            if over {
                return Ok(Some(&text[..len]));
            }
        }
        Ok(None)
    }

    #[test]
    fn a_value_ends_where_it_does_in_whatever_pieces_it_comes() {
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
    fn what_can_be_no_value_is_an_error() {
        for text in ["]", "}", ",", ":", "[}", r#"{"a":[}"#] {
            assert!(value(text, 1).is_err(), "{text}");
        }
        assert!(value(&"[".repeat(127), 9).is_ok() && value(&"[".repeat(128), 9).is_err());
    }
}
