//! JSON from the command line: written there, in a file, or on standard input.

use serde_json::{Map, Value};
use std::io::Read;
use std::path::Path;

use crate::exit::Failure;

/// The most bytes of a document that is read; the server's limits are lower.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Reads `JSON`, `@FILE`, or `@-` for standard input.
pub(super) fn json_argument(name: &str, text: &str) -> Result<Value, Failure> {
    match text.strip_prefix('@') {
        Some("-") => {
            parse(&format!("{name} from standard input"), &read(std::io::stdin(), "standard input")?)
        }
        Some(path) => json_file(Path::new(path)),
        None => parse(name, text.as_bytes()),
    }
}

/// Reads values by node path: each `PATH=JSON` or `PATH=@FILE`. None where none are given.
pub(super) fn by_path(name: &str, arguments: &[String]) -> Result<Option<Map<String, Value>>, Failure> {
    let mut values = Map::new();
    for argument in arguments {
        let Some((path, value)) = argument.split_once('=').filter(|(path, _)| !path.is_empty()) else {
            let detail =
                format!("{name} `{argument}` is not a path and a value; write for instance fetch={{}}");
            return Err(Failure::Usage(detail));
        };
        let value = json_argument(&format!("{name} {path}"), value)?;
        if values.insert(path.to_owned(), value).is_some() {
            return Err(Failure::Usage(format!("{name} is given twice for `{path}`")));
        }
    }
    Ok((!values.is_empty()).then_some(values))
}

/// Reads a file with one JSON document; `-` is standard input.
pub(super) fn json_file(path: &Path) -> Result<Value, Failure> {
    let name = path.display().to_string();
    if name == "-" {
        return parse("standard input", &read(std::io::stdin(), "standard input")?);
    }
    let file =
        std::fs::File::open(path).map_err(|error| Failure::Usage(format!("cannot open {name}: {error}")))?;
    parse(&name, &read(file, &name)?)
}

fn read(source: impl Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let length = source.take(MAX_BYTES + 1).read_to_end(&mut bytes);
    length.map_err(|error| Failure::Usage(format!("cannot read {name}: {error}")))?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Failure::Usage(format!("{name} is larger than {MAX_BYTES} bytes")));
    }
    Ok(bytes)
}

fn parse(name: &str, bytes: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(bytes).map_err(|error| Failure::Usage(format!("{name} is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_argument_is_json_or_names_a_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("input.json");
        std::fs::write(&file, "{\"a\": 1}").unwrap();
        assert_eq!(json_argument("--input", "[1]").unwrap(), json!([1]));
        assert_eq!(json_argument("--input", &format!("@{}", file.display())).unwrap(), json!({"a": 1}));
    }

    #[test]
    fn values_by_path_are_split_at_the_first_sign() {
        let read = |arguments: &[&str]| {
            by_path("--node-output", &arguments.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(read(&[]).unwrap(), None);
        let values = read(&["loop/0/a=\"x=y\"", "b=null"]).unwrap().unwrap();
        assert_eq!(Value::Object(values), json!({"loop/0/a": "x=y", "b": null}));
        for wrong in [&["a"][..], &["=1"], &["a=1", "a=2"], &["a={"]] {
            assert!(matches!(read(wrong), Err(Failure::Usage(_))), "{wrong:?}");
        }
    }

    #[test]
    fn a_mistake_says_where_it_is() {
        let Err(Failure::Usage(text)) = json_argument("--input", "{\n \"a\": }") else { panic!("accepted") };
        assert!(text.contains("--input is not JSON") && text.contains("line 2"), "{text}");
        let Err(Failure::Usage(text)) = json_argument("--input", "@/nowhere") else { panic!("accepted") };
        assert!(text.contains("cannot open /nowhere"), "{text}");
    }
}
