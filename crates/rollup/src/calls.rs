//! Calls in a text of SQL.

/// Where a text names what, qualified, before a parenthesis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Where the schema begins and ends in the text.
    pub schema_at: std::ops::Range<usize>,
    /// The schema, without quotes.
    pub schema: String,
    /// The function, without quotes.
    pub function: String,
}

/// The qualified calls of a text, in order. Literals are passed over.
pub fn calls(text: &str) -> Vec<Call> {
    let bytes = text.as_bytes();
    let (mut at, mut found) = (0, Vec::new());
    // The identifier that ended just before, and the one that a dot stands behind.
    let mut last: Option<(std::ops::Range<usize>, String)> = None;
    let mut schema: Option<(std::ops::Range<usize>, String)> = None;
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'\'' => {
                at = skip_quoted(bytes, at, b'\'').0;
                (last, schema) = (None, None);
            }
            b'"' => {
                let (end, name) = skip_quoted(bytes, at, b'"');
                last = Some((at..end, String::from_utf8_lossy(&name).into_owned()));
                at = end;
            }
            b if b == b'_' || b.is_ascii_alphabetic() || b >= 0x80 => {
                let length = bytes[at..]
                    .iter()
                    .take_while(|b| **b == b'_' || **b == b'$' || b.is_ascii_alphanumeric() || **b >= 0x80)
                    .count();
                last = Some((at..at + length, text[at..at + length].to_ascii_lowercase()));
                at += length;
            }
            b'.' => {
                schema = last.take();
                at += 1;
            }
            b'(' => {
                if let Some(((schema_at, schema), (_, function))) = schema.take().zip(last.take()) {
                    found.push(Call { schema_at, schema, function });
                }
                (last, schema) = (None, None);
                at += 1;
            }
            _ => {
                (last, schema) = (None, None);
                at += 1;
            }
        }
    }
    found
}

/// Behind a quoted piece that begins at `at`, and what it says.
fn skip_quoted(bytes: &[u8], mut at: usize, quote: u8) -> (usize, Vec<u8>) {
    let mut says = Vec::new();
    at += 1;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        if byte == quote {
            if bytes.get(at) != Some(&quote) {
                break;
            }
            at += 1;
        }
        says.push(byte);
    }
    (at, says)
}

/// The text with other schemas before some calls: those for which `other` has one, quoted as it is to stand.
pub fn with_schemas(text: &str, other: impl Fn(&Call) -> Option<String>) -> String {
    let mut made = text.to_string();
    // From the end, so that places before stay what they are.
    for call in calls(text).into_iter().rev() {
        if let Some(schema) = other(&call) {
            made.replace_range(call.schema_at.clone(), &schema);
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, String)> {
        calls(text).into_iter().map(|c| (c.schema, c.function)).collect()
    }

    #[test]
    fn calls_are_found_by_their_names() {
        let pair = |a: &str, b: &str| (a.to_string(), b.to_string());
        assert_eq!(found("public.hll_union($1, $2)"), [pair("public", "hll_union")]);
        assert_eq!(found("\"My \"\"s\"\".x\".f(a.b + c.g(1))"), [pair("My \"s\".x", "f"), pair("c", "g")]);
        assert_eq!(found("'it''s x.f(1)' || a.b || f(1) || (x.y) || \"x.f(\""), []);
        assert_eq!(found("Größe.\"F\"(1), A.B(2)"), [pair("größe", "F"), pair("a", "b")]);
        assert_eq!(found("x . f (1)"), [], "texts that are made have no blanks there");
    }

    #[test]
    fn schemas_are_exchanged_before_some_calls() {
        let text = "a.f(a.g('a.f('), \"a\".f(1)) + b.f(2)";
        let other = |c: &Call| (c.schema == "a" && c.function == "f").then(|| "\"o o\"".to_string());
        assert_eq!(with_schemas(text, other), "\"o o\".f(a.g('a.f('), \"o o\".f(1)) + b.f(2)");
    }
}
