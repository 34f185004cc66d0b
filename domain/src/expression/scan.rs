//! Finds the `{{ … }}` in a text.
//!
//! The end of a template is the first `}}` outside the texts and braces of the CEL inside, so that both
//! `{{ '}}' }}` and `{{ {'a': {'b': 1}}.a }}` mean what they say. Linear, no recursion.

use super::lexer::end_of_text;

/// A stretch of the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Text outside braces, never empty.
    Text(&'a str),
    /// What stands between `{{` and `}}`, trimmed.
    Expression(&'a str),
}

/// Splits `text`; the error is the byte offset of a `{{` that is not closed.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece<'_>>, usize> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(open) = rest.find("{{") {
        if open > 0 {
            pieces.push(Piece::Text(&rest[..open]));
        }
        let inside = &rest[open + 2..];
        let close = end_of_expression(inside).ok_or(text.len() - rest.len() + open)?;
        pieces.push(Piece::Expression(inside[..close].trim()));
        rest = &inside[close + 2..];
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}

/// Where the `}}` stands that ends the expression at the start of `text`.
fn end_of_expression(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut braces = 0_usize;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' | b'\'' => {
                at += end_of_text(&text[at..], is_raw(&bytes[..at]))?;
                continue;
            }
            b'{' => braces += 1,
            b'}' if braces > 0 => braces -= 1,
            b'}' if bytes.get(at + 1) == Some(&b'}') => return Some(at),
            _ => {}
        }
        at += 1;
    }
    None
}

/// Whether a quote after `before` opens a raw text: a prefix `r`, `br` or `rb` that is not the end of a word.
fn is_raw(before: &[u8]) -> bool {
    let start =
        before.iter().rposition(|byte| !byte.is_ascii_alphanumeric() && *byte != b'_').map_or(0, |at| at + 1);
    matches!(before[start..].to_ascii_lowercase().as_slice(), b"r" | b"br" | b"rb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_and_quotes_inside_an_expression_do_not_end_it() {
        assert_eq!(pieces("{{ '}}' }}"), Ok(vec![Piece::Expression("'}}'")]));
        assert_eq!(pieces("{{{'a': {'b': 1}}.a}}"), Ok(vec![Piece::Expression("{'a': {'b': 1}}.a")]));
        assert_eq!(pieces(r"{{ r'\' }}x"), Ok(vec![Piece::Expression(r"r'\'"), Piece::Text("x")]));
        assert_eq!(pieces(r"{{ '\'}}' }}"), Ok(vec![Piece::Expression(r"'\'}}'")]));
    }

    #[test]
    fn text_around_a_template_is_kept_to_the_last_space() {
        let expected =
            vec![Piece::Text(" a "), Piece::Expression("x"), Piece::Expression("y"), Piece::Text(" }}")];
        assert_eq!(pieces(" a {{x}}{{ y }} }}"), Ok(expected));
        assert_eq!(pieces(""), Ok(vec![]));
    }

    #[test]
    fn an_open_template_is_found_where_it_opens() {
        assert_eq!(pieces("ab {{ x }"), Err(3));
        assert_eq!(pieces("{{ 'x }}"), Err(0));
    }
}
