//! Source text to tokens.
//!
//! Literals are decoded here. Words are not told apart: whether `in` is an operator or a field name is for the
//! parser to say. Linear in the length of the source, no recursion.

use super::error::ParseError;

/// A token with its byte range.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) end: usize,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Word(String),
    /// A name in backticks, only good after a dot.
    Quoted(String),
    /// The magnitude; a minus before it is an operator until the parser joins them.
    Int(u64),
    Uint(u64),
    Double(f64),
    Text(String),
    Bytes(Vec<u8>),
    Symbol(&'static str),
    End,
}

/// Longer symbols first.
const SYMBOLS: [&str; 25] = [
    "==", "!=", "<=", ">=", "&&", "||", "(", ")", "[", "]", "{", "}", ".", ",", "?", ":", "+", "-", "*", "/",
    "%", "!", "<", ">", "=",
];

/// Splits `source`; the last token is [`Kind::End`].
pub(super) fn tokens(source: &str) -> Result<Vec<Token>, ParseError> {
    let mut lexer = Lexer { source, position: 0 };
    let mut tokens = Vec::with_capacity(source.len() / 3 + 1);
    loop {
        let token = lexer.next()?;
        let last = token.kind == Kind::End;
        tokens.push(token);
        if last {
            return Ok(tokens);
        }
    }
}

struct Lexer<'a> {
    source: &'a str,
    position: usize,
}

impl<'a> Lexer<'a> {
    fn next(&mut self) -> Result<Token, ParseError> {
        self.skip_space();
        let start = self.position;
        let kind = match self.peek() {
            None => Kind::End,
            Some(c) if c.is_ascii_digit() => self.number()?,
            Some('.') if self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) => self.number()?,
            Some('"' | '\'') => self.text("")?,
            Some('`') => self.quoted()?,
            Some(c) if c.is_ascii_alphabetic() || c == '_' => self.word()?,
            Some(c) => self.symbol(c)?,
        };
        Ok(Token { kind, start, end: self.position })
    }

    fn rest(&self) -> &'a str {
        &self.source[self.position..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn error<T>(&self, offset: usize, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::at(self.source, offset, "expression_syntax", message))
    }

    fn skip_space(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches([' ', '\t', '\r', '\n', '\u{c}']);
            self.position += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.position += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn take_while(&mut self, accept: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !accept(c)).unwrap_or(rest.len());
        self.position += length;
        &rest[..length]
    }

    fn word(&mut self) -> Result<Kind, ParseError> {
        let word = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        let is_prefix = matches!(word, "r" | "R" | "b" | "B")
            || (word.len() == 2 && matches!(word.to_ascii_lowercase().as_str(), "rb" | "br"));
        if is_prefix && self.rest().starts_with(['"', '\'']) {
            return self.text(word);
        }
        Ok(Kind::Word(word.to_owned()))
    }

    fn quoted(&mut self) -> Result<Kind, ParseError> {
        let start = self.position;
        self.position += 1;
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/' | ' '));
        if name.is_empty() || !self.rest().starts_with('`') {
            return self.error(start, "a name in backticks holds letters, digits, `_.-/` and spaces");
        }
        self.position += 1;
        Ok(Kind::Quoted(name.to_owned()))
    }

    fn symbol(&mut self, first: char) -> Result<Kind, ParseError> {
        let rest = self.rest();
        let Some(symbol) = SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) else {
            return self.error(self.position, format!("unexpected character `{}`", first.escape_debug()));
        };
        if symbol == "=" {
            return self.error(self.position, "`=` is not an operator; equality is `==`");
        }
        self.position += symbol.len();
        Ok(Kind::Symbol(symbol))
    }

    fn number(&mut self) -> Result<Kind, ParseError> {
        let start = self.position;
        if self.rest().starts_with("0x") || self.rest().starts_with("0X") {
            self.position += 2;
            let digits = self.take_while(|c| c.is_ascii_hexdigit());
            return self.integer(start, digits, 16);
        }
        let digits = self.take_while(|c| c.is_ascii_digit());
        let mut is_double = false;
        if self.rest().starts_with('.') && self.rest()[1..].starts_with(|c: char| c.is_ascii_digit()) {
            is_double = true;
            self.position += 1;
            self.take_while(|c| c.is_ascii_digit());
        }
        if self.rest().starts_with(['e', 'E']) {
            let exponent = self.rest()[1..].trim_start_matches(['+', '-']);
            let signs = self.rest().len() - 1 - exponent.len();
            if signs <= 1 && exponent.starts_with(|c: char| c.is_ascii_digit()) {
                is_double = true;
                self.position += 1 + signs;
                self.take_while(|c| c.is_ascii_digit());
            }
        }
        if !is_double {
            return self.integer(start, digits, 10);
        }
        match self.source[start..self.position].parse::<f64>() {
            Ok(number) if number.is_finite() => self.end_of_number(start, Kind::Double(number)),
            _ => self.error(start, "the number is too large"),
        }
    }

    fn integer(&mut self, start: usize, digits: &str, radix: u32) -> Result<Kind, ParseError> {
        let Ok(magnitude) = u64::from_str_radix(digits, radix) else {
            return self.error(start, "an integer needs digits and has at most 64 bits");
        };
        if self.rest().starts_with(['u', 'U']) {
            self.position += 1;
            return self.end_of_number(start, Kind::Uint(magnitude));
        }
        self.end_of_number(start, Kind::Int(magnitude))
    }

    fn end_of_number(&self, start: usize, kind: Kind) -> Result<Kind, ParseError> {
        if self.peek().is_some_and(|c| c.is_alphanumeric() || c == '_') {
            return self.error(start, "a number runs into a word");
        }
        Ok(kind)
    }

    fn text(&mut self, prefix: &str) -> Result<Kind, ParseError> {
        let start = self.position - prefix.len();
        let raw = prefix.contains(['r', 'R']);
        let bytes = prefix.contains(['b', 'B']);
        let Some(end) = end_of_text(self.rest(), raw) else {
            return self.error(start, "the text has no closing quote");
        };
        let token = &self.rest()[..end];
        let quotes =
            if end >= 6 && (token.starts_with("\"\"\"") || token.starts_with("'''")) { 3 } else { 1 };
        let body = &token[quotes..end - quotes];
        let body_start = self.position + quotes;
        self.position += end;
        if raw {
            return Ok(if bytes { Kind::Bytes(body.into()) } else { Kind::Text(body.into()) });
        }
        let decoded =
            if bytes { decode_bytes(body).map(Kind::Bytes) } else { decode_text(body).map(Kind::Text) };
        decoded.or_else(|offset| self.error(body_start + offset, "the escape after `\\` is not valid"))
    }
}

/// The length of the string literal at the start of `text`, which begins with a quote; `None` if it is open.
/// A line break ends a text in single quotes without closing it.
pub(super) fn end_of_text(text: &str, raw: bool) -> Option<usize> {
    let bytes = text.as_bytes();
    let quote = *bytes.first()?;
    let triple = bytes.len() >= 3 && bytes[1] == quote && bytes[2] == quote;
    let mut at = if triple { 3 } else { 1 };
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if !raw => at += 1,
            b'\n' | b'\r' if !triple => return None,
            byte if byte == quote && !triple => return Some(at + 1),
            byte if byte == quote && bytes[at..].starts_with(&[quote; 3]) => return Some(at + 3),
            _ => {}
        }
        at += 1;
    }
    None
}

/// One decoded escape.
enum Escape {
    Char(char),
    /// `\x` and octal: a byte in bytes, a code point in text.
    Byte(u8),
}

/// Decodes `body`; the error is the offset of the bad escape.
fn decode_text(body: &str) -> Result<String, usize> {
    let mut out = String::with_capacity(body.len());
    decode(body, |escape| match escape {
        Escape::Char(c) => out.push(c),
        Escape::Byte(byte) => out.push(char::from(byte)),
    })?;
    Ok(out)
}

fn decode_bytes(body: &str) -> Result<Vec<u8>, usize> {
    let mut out = Vec::with_capacity(body.len());
    decode(body, |escape| match escape {
        Escape::Char(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        Escape::Byte(byte) => out.push(byte),
    })?;
    Ok(out)
}

fn decode(body: &str, mut push: impl FnMut(Escape)) -> Result<(), usize> {
    let mut rest = body;
    while let Some(c) = rest.chars().next() {
        if c != '\\' {
            push(Escape::Char(c));
            rest = &rest[c.len_utf8()..];
            continue;
        }
        let offset = body.len() - rest.len();
        let (escape, length) = decode_escape(&rest[1..]).ok_or(offset)?;
        push(escape);
        rest = &rest[1 + length..];
    }
    Ok(())
}

/// The escape at the start of `text`, after the backslash, and its length.
fn decode_escape(text: &str) -> Option<(Escape, usize)> {
    let first = text.chars().next()?;
    let code = |digits: usize| {
        let hex = text.get(1..=digits).filter(|hex| hex.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u32::from_str_radix(hex, 16).ok()
    };
    let simple = match first {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        '\\' | '?' | '"' | '\'' | '`' => first,
        'x' | 'X' => return Some((Escape::Byte(u8::try_from(code(2)?).ok()?), 3)),
        'u' => return Some((Escape::Char(char::from_u32(code(4)?)?), 5)),
        'U' => return Some((Escape::Char(char::from_u32(code(8)?)?), 9)),
        '0'..='3' => {
            let octal = text.get(..3)?;
            return Some((Escape::Byte(u8::from_str_radix(octal, 8).ok()?), 3));
        }
        _ => return None,
    };
    Some((Escape::Char(simple), 1))
}
