//! What all identity deciders check of texts: lengths, control characters, the shapes of names.

use crate::rejection::Problem;

/// The most characters of a name for people.
pub(super) const MAX_NAME_CHARS: usize = 100;
/// The most characters of a reason or description.
pub(super) const MAX_TEXT_CHARS: usize = 500;

/// What is wrong with a name for people: 1 to 100 characters, none of them a control character, not only spaces.
pub(super) fn name(pointer: &str, text: &str) -> Option<Problem> {
    let fits = text.chars().count() <= MAX_NAME_CHARS
        && !text.trim().is_empty()
        && !text.chars().any(char::is_control);
    let detail = format!("a name has 1 to {MAX_NAME_CHARS} characters, and no control characters");
    (!fits).then(|| Problem::new(pointer, "invalid_name", detail))
}

/// What is wrong with a reason or description: 1 to 500 characters.
pub(super) fn text(pointer: &str, text: &str) -> Option<Problem> {
    let fits = text.chars().count() <= MAX_TEXT_CHARS && !text.trim().is_empty();
    let detail =
        format!("this has 1 to {MAX_TEXT_CHARS} characters; leave it out if there is nothing to say");
    (!fits).then(|| Problem::new(pointer, "out_of_range", detail))
}

/// What is wrong with the name of a role: `[A-Za-z][A-Za-z0-9_-]{0,39}`.
pub(super) fn role_name(pointer: &str, name: &str) -> Option<Problem> {
    let mut bytes = name.bytes();
    let fits = bytes.next().is_some_and(|first| first.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
        && name.len() <= 40;
    let detail = "a role's name is a letter, then up to 39 letters, digits, _ and -";
    (!fits).then(|| Problem::new(pointer, "invalid_name", detail))
}
