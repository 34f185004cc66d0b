//! Lists in the configuration: an array in the file, or a text with commas in the environment.

use serde::Deserialize;

/// Either form.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged, expecting = "use a list of texts, or one text with commas")]
pub(crate) enum ListOrText {
    /// An array.
    List(Vec<String>),
    /// Elements separated by commas.
    Text(String),
}

impl ListOrText {
    /// The elements.
    pub(crate) fn into_list(self) -> Vec<String> {
        match self {
            Self::List(list) => list,
            Self::Text(text) => {
                text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
            }
        }
    }
}
