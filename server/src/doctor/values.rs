//! Where large values are kept: whether something can be written there, read and removed again.

use event_store::blobs::{BlobOptions, BlobPlace, Objects};
use std::path::Path;

use super::{Findings, PATIENCE, say};
use crate::config::Config;

const CHECK: &str = "blobs";

/// Looks at the folder or bucket, if there is one.
pub(super) async fn look(config: &Config, findings: &mut Findings) {
    match config.blobs() {
        // The layers refuse it before.
        Err(error) => findings.broken(CHECK, error.to_string()),
        Ok(None) => findings.ok(CHECK, "there is no blob_url: large values are kept in the log's database"),
        Ok(Some(options)) => look_at(&options, findings).await,
    }
}

async fn look_at(options: &BlobOptions, findings: &mut Findings) {
    let name = &options.place;
    if let BlobPlace::Folder(folder) = &options.place
        && !folder.exists()
    {
        return look_above(folder, findings);
    }
    let tried = async { Objects::open_existing(options)?.probe().await };
    match tokio::time::timeout(PATIENCE, tried).await {
        Ok(Ok(())) => findings.ok(CHECK, format!("{name} can be written and read")),
        Ok(Err(error)) => findings.broken(CHECK, format!("{name} cannot be used: {}", say(error))),
        Err(_) => findings.broken(CHECK, format!("{name} does not answer")),
    }
}

/// A folder that is not there yet is made by the first start, if it can.
fn look_above(folder: &Path, findings: &mut Findings) {
    let shown = folder.display();
    let above = folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match super::embedded::try_to_write(above) {
        Ok(()) => findings.ok(CHECK, format!("{shown} is not there yet; the first start creates it")),
        Err(error) => findings.broken(
            CHECK,
            format!("{shown} cannot be created: {} cannot be written: {error}", above.display()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use crate::config::BlobUrl;

    async fn found(place: &Path) -> (State, String) {
        let config = Config { blob_url: Some(BlobUrl::Folder(place.to_owned())), ..Config::default() };
        let mut findings = Findings::default();
        look(&config, &mut findings).await;
        let finding = findings.0.remove(0);
        (finding.state, finding.detail)
    }

    #[tokio::test]
    async fn a_folder_is_tried_and_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let folder = directory.path().join("not/yet");
        let (state, detail) = found(&folder).await;
        assert!(state == State::Ok && detail.contains("first start creates it"), "{detail}");
        assert!(!folder.exists());
        std::fs::create_dir_all(&folder).unwrap();
        let (state, detail) = found(&folder).await;
        assert!(state == State::Ok && detail.contains("not/yet can be written and read"), "{detail}");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        for place in [file.clone(), file.join("below")] {
            let (state, detail) = found(&place).await;
            assert!(state == State::Broken && detail.contains("file"), "{detail}");
        }
    }
}
