//! Prints the OpenAPI document: `cargo xtask openapi` writes it to `docs/openapi.json`.

fn main() -> Result<(), serde_json::Error> {
    let document: serde_json::Value = serde_json::from_slice(&gateway::openapi_document())?;
    println!("{}", serde_json::to_string_pretty(&document)?);
    Ok(())
}
