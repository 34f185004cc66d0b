//! `cargo xtask openapi`: records the OpenAPI document that the gateway serves, as `docs/openapi.json`.

use anyhow::{Context, Result, bail};

use crate::{tools, workspace};

/// Writes the document. A test of the gateway compares it with what is served.
pub(crate) fn record() -> Result<bool> {
    let root = workspace()?;
    let mut cargo =
        tools::cargo(&["run", "--quiet", "--package", "gateway", "--example", "openapi_document"]);
    let printed = cargo.current_dir(&root).output().context("cargo does not start")?;
    if !printed.status.success() {
        bail!("the document could not be made: {}", String::from_utf8_lossy(&printed.stderr));
    }
    let path = root.join("docs/openapi.json");
    std::fs::write(&path, &printed.stdout)
        .with_context(|| format!("{} cannot be written", path.display()))?;
    println!("{} is what the gateway serves", path.display());
    Ok(true)
}
