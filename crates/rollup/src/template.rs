//! Templates: texts in which `$1`, `$2`, … outside of quotes stand for other texts.

/// `template` with each place that `fill` knows filled; others stay. What is filled in is not looked at again.
pub fn fill(template: &str, fill: impl Fn(usize) -> Option<String>) -> String {
    let mut out = String::with_capacity(template.len() + 32);
    let mut rest = template.char_indices().peekable();
    let mut quote: Option<(char, bool)> = None;
    let mut before = ' ';
    while let Some((at, c)) = rest.next() {
        match quote {
            Some((end, escapes)) => {
                out.push(c);
                if c == '\\' && escapes {
                    if let Some((_, escaped)) = rest.next() {
                        out.push(escaped);
                    }
                } else if c == end {
                    quote = None;
                }
            }
            None if c == '\'' || c == '"' => {
                quote = Some((c, c == '\'' && (before == 'E' || before == 'e')));
                out.push(c);
            }
            // A dollar inside a name is part of it.
            None if c == '$' && !(before.is_alphanumeric() || before == '_') => {
                let digits: String = template[at + 1..].chars().take_while(char::is_ascii_digit).collect();
                match digits.parse().ok().and_then(&fill) {
                    Some(text) => {
                        out.push_str(&text);
                        (0..digits.len()).for_each(|_| _ = rest.next());
                    }
                    None => out.push(c),
                }
            }
            None => out.push(c),
        }
        before = c;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::fill;

    fn letters(template: &str) -> String {
        fill(template, |n| (n > 0 && n < 4).then(|| ["a", "b", "c"][n - 1].to_string()))
    }

    #[test]
    fn places_are_filled_outside_of_quotes_alone() {
        assert_eq!(letters("f($1, $2)"), "f(a, b)");
        assert_eq!(letters("'$1' || \"$2\" || $3"), "'$1' || \"$2\" || c");
        assert_eq!(letters("'it''s $1' $1"), "'it''s $1' a");
        assert_eq!(letters(r" E'\'$1' $1"), r" E'\'$1' a");
        assert_eq!(letters("a$1 $9 $10 $ $1é"), "a$1 $9 $10 $ aé");
    }

    #[test]
    fn what_is_filled_in_is_left_alone() {
        assert_eq!(fill("$1", |_| Some("$1".into())), "$1");
    }
}
