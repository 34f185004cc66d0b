//! Holds the error codes in the sources and the pages under `docs/errors/` together.
//!
//! A code is a snake_case text literal that stands at a known place: a given argument of a constructor of an
//! error (see [`CALLS`]). The scan reads text, not types: it finds calls over several lines, skips comments,
//! tests and other literals, and takes every code-shaped literal of that argument, also of both arms of an `if`.

use anyhow::{Context, Result};
use std::collections::BTreeSet;
use std::path::Path;

use crate::workspace;

/// The folders whose sources are scanned.
const SOURCES: &[&str] = &["domain/src", "bus/src", "gateway/src", "command-service/src", "agents/src"];
/// Calls that make an error with a code, and which argument the code is, from 0.
const CALLS: &[(&str, usize)] = &[
    ("Rejection::new", 1),
    ("Rejection::invalid", 0),
    ("Problem::new", 1),
    ("ParseError::at", 2),
    (".report", 1),
    (".problem", 1),
    (".error_at", 1),
    ("ApiError::new", 1),
    (" conflict", 0),
    ("(conflict", 0),
];
/// Functions whose every text literal is a code: they give an error's code.
const GIVERS: &[&str] = &["fn code("];
/// What stands before a literal that is a code: a field of a struct or of JSON.
const FIELDS: &[&str] = &["code: \"", "\"code\": \""];
/// Macros whose body has a code in each line, after the equals sign.
const MACROS: &[&str] = &["\ncodes! {"];
/// Codes that never reach a user: what they stand for is handled before anyone is answered.
const INTERNAL: &[&str] = &["needs_blob", "unknown"];
/// The page that lists all the others.
const INDEX: &str = "README";

/// Codes without a page and pages without a code, in words.
pub(crate) fn check_workspace() -> Result<Vec<String>> {
    let root = workspace()?;
    let mut codes = BTreeSet::new();
    for folder in SOURCES {
        scan_folder(&root.join(folder), &mut codes)?;
    }
    let pages = root.join("docs/errors");
    let names = page_names(&pages)?;
    let index = std::fs::read_to_string(pages.join("README.md")).context("docs/errors has no README.md")?;
    let mut found = Vec::new();
    for code in codes.difference(&names) {
        found.push(format!("code `{code}` has no page docs/errors/{code}.md"));
    }
    for name in names.difference(&codes) {
        found.push(format!("docs/errors/{name}.md describes a code that no source gives"));
    }
    for name in names.iter().filter(|name| !index.contains(&format!("]({name}.md)"))) {
        found.push(format!("docs/errors/README.md does not list {name}.md"));
    }
    Ok(found)
}

fn page_names(folder: &Path) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).context("there is no folder docs/errors")? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if path.extension().is_some_and(|ending| ending == "md") && name != INDEX {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

fn scan_folder(folder: &Path, codes: &mut BTreeSet<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        let is_tests = path.file_stem().is_some_and(|stem| stem == "tests");
        if path.is_dir() && !is_tests {
            scan_folder(&path, codes)?;
        } else if path.extension().is_some_and(|ending| ending == "rs") && !is_tests {
            let source = std::fs::read_to_string(&path)?;
            codes.extend(codes_in(&source));
        }
    }
    Ok(())
}

/// The codes of one source file, outside its tests.
fn codes_in(source: &str) -> BTreeSet<String> {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let mut codes = BTreeSet::new();
    for (call, position) in CALLS {
        for (at, _) in source.match_indices(call) {
            let rest = source[at + call.len()..].trim_start();
            if let Some(arguments) = rest.strip_prefix('(') {
                codes.extend(literals_of_argument(arguments, *position));
            }
        }
    }
    for giver in GIVERS {
        for (at, _) in source.match_indices(giver) {
            if let Some((_, body)) = source[at..].split_once('{') {
                codes.extend(literals_of_argument(body, 0));
            }
        }
    }
    for field in FIELDS {
        codes.extend(
            source.match_indices(field).map(|(at, _)| literal(&source[at + field.len()..]).to_owned()),
        );
    }
    for name in MACROS {
        for (at, _) in source.match_indices(name) {
            let body = source[at..].split("\n}").next().unwrap_or_default();
            codes.extend(body.split("= \"").skip(1).map(|rest| literal(rest).to_owned()));
        }
    }
    codes.retain(|text| is_code(text) && !INTERNAL.contains(&text.as_str()));
    codes
}

/// The text literals inside one argument of a call, given what follows its opening parenthesis.
fn literals_of_argument(arguments: &str, wanted: usize) -> Vec<String> {
    let (mut depth, mut argument) = (0usize, 0);
    let mut literals = Vec::new();
    let mut rest = arguments;
    while let Some(c) = rest.chars().next() {
        let mut length = c.len_utf8();
        match c {
            '"' => {
                let inside = literal(&rest[1..]);
                length = (inside.len() + 2).min(rest.len());
                let before = arguments[..arguments.len() - rest.len()].trim_end();
                let is_compared = before.ends_with("==") || before.ends_with("!=");
                if argument == wanted && !is_compared {
                    literals.push(inside.to_owned());
                }
            }
            '/' if rest.starts_with("//") => length = rest.find('\n').unwrap_or(rest.len()),
            // A character literal may hold a quote or a bracket; a lifetime has no closing quote.
            '\'' => length = character_length(rest),
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => break,
            ')' | ']' | '}' => depth -= 1,
            ',' if depth == 0 => argument += 1,
            _ => {}
        }
        rest = &rest[length..];
    }
    literals
}

/// What stands before the closing quote of a text literal; all of it where there is none.
fn literal(text: &str) -> &str {
    let mut escaped = false;
    let end = text.find(|c| match c {
        _ if escaped => {
            escaped = false;
            false
        }
        '\\' => {
            escaped = true;
            false
        }
        c => c == '"',
    });
    end.map_or(text, |end| &text[..end])
}

/// The length of a character literal with both quotes, or of the tick of a lifetime.
fn character_length(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match (chars.next(), chars.next(), chars.next()) {
        (Some((_, '\\')), Some(_), Some((at, '\''))) => at + 1,
        (Some(_), Some((at, '\'')), _) => at + 1,
        _ => 1,
    }
}

/// Lower-case words joined by `_`: what a code looks like, unlike a sentence, a pointer or a field of one.
fn is_code(text: &str) -> bool {
    let word =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.starts_with(|first: char| first.is_ascii_lowercase()) && text.split('_').all(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(source: &str) -> Vec<String> {
        codes_in(source).into_iter().collect()
    }

    #[test]
    fn every_error_code_has_a_page_and_every_page_a_code() {
        assert_eq!(check_workspace().expect("the workspace can be read"), Vec::<String>::new());
    }

    #[test]
    fn a_code_is_found_in_its_argument_also_over_several_lines() {
        let source =
            "Rejection::new(\n  Kind::Conflict, // why, \"so\"\n  \"workflow_disabled\",\n  detail(\"x_y\"))";
        assert_eq!(found(source), ["workflow_disabled"]);
    }

    #[test]
    fn both_arms_of_a_choice_are_found() {
        let source = r#"Problem::new(p, if a == "source" { "unknown_edge_source" } else { "unknown_edge_target" }, d)"#;
        assert_eq!(found(source), ["unknown_edge_source", "unknown_edge_target"]);
    }

    #[test]
    fn brackets_and_commas_inside_literals_do_not_count() {
        let source =
            r#"reader.report("a, (b", "wrong_type", "x"); Problem::new(f(',', '"', "\","), "too_large", d)"#;
        assert_eq!(found(source), ["too_large", "wrong_type"]);
    }

    #[test]
    fn codes_of_fields_and_of_functions_that_give_them_are_found() {
        let source = r#"json!({"code": "not_a_boolean"}); Warning { code: "history_half_full".into() }
            fn code(&self) -> &'static str { match self { A { .. } => "limit", B => "needs_blob" } } f("later")"#;
        assert_eq!(found(source), ["history_half_full", "limit", "not_a_boolean"]);
        let source = "\ncodes! {\n    GONE = \"gone\", GONE, \"It is gone\";\n}\nlet a = \"other\";";
        assert_eq!(found(source), ["gone"]);
    }

    #[test]
    fn tests_and_other_literals_are_not_codes() {
        let source =
            "log(\"not_a_code\");\n#[cfg(test)]\nmod tests { Problem::new(p, \"only_in_tests\", d) }";
        assert_eq!(found(source), Vec::<String>::new());
    }

    #[test]
    fn an_unfinished_source_is_read_to_its_end() {
        assert_eq!(found("Problem::new(p, \"open"), ["open"]);
        assert_eq!(found("Problem::new(p, \""), Vec::<String>::new());
    }
}
