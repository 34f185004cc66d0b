//! Where large values live: the URL, and how a bucket is reached.

use event_store::blobs::{BlobOptions, BlobPlace, S3Options};
use reqwest::Url;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::error::ConfigError;
use crate::secret::Secret;

/// A place for large values: `file:///<folder>` or `s3://<bucket>/<prefix>`. It has no secrets in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobUrl {
    /// A folder.
    Folder(PathBuf),
    /// A bucket.
    S3 {
        /// Its name.
        bucket: String,
        /// What all keys begin with; may be empty.
        prefix: String,
    },
}

impl BlobUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, without quoting it: it may hold what does not belong there.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = "write file:///<folder> or s3://<bucket>/<prefix>";
        let url = Url::parse(text).map_err(|error| format!("not a URL ({error}); {form}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a blob URL has no keys in it; set them in the section [blobs]".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(format!("a blob URL has no parameters; {form}, and set the rest in [blobs]"));
        }
        match url.scheme() {
            "file" => {
                match url.to_file_path() {
                    Ok(folder) if folder.parent().is_some() => Ok(Self::Folder(folder)),
                    _ => Err("file:// needs the absolute path of a folder: file:///var/lib/everline/blobs"
                        .to_owned()),
                }
            }
            "s3" if !cfg!(feature = "s3") => {
                Err("this program was built without S3; build it with the feature `s3`, or name a folder"
                    .to_owned())
            }
            "s3" => Self::bucket(&url),
            _ => Err(format!("no such blob store; {form}")),
        }
    }

    fn bucket(url: &Url) -> Result<Self, String> {
        let bucket = url.host_str().unwrap_or_default();
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if bucket.is_empty() || !bucket.bytes().all(plain) || url.port().is_some() {
            return Err("s3:// needs the name of a bucket: s3://<bucket>/<prefix>".to_owned());
        }
        let prefix = url.path().trim_matches('/');
        let fits = |part: &str| !part.is_empty() && part.bytes().all(plain) && !matches!(part, "." | "..");
        if !prefix.is_empty() && !prefix.split('/').all(fits) {
            return Err(
                "the prefix of an s3:// URL has letters, digits, `-`, `_`, `.` and single `/`".to_owned()
            );
        }
        Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() })
    }
}

/// A URL, or nothing: an empty text is the log's database.
pub(super) fn optional_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<BlobUrl>, D::Error> {
    // Read as a secret, so that serde's own message quotes nothing.
    match Option::<Secret>::deserialize(deserializer)? {
        Some(text) if !text.expose().is_empty() => {
            BlobUrl::parse(text.expose()).map(Some).map_err(Error::custom)
        }
        _ => Ok(None),
    }
}

/// How large values are kept, if `blob_url` says where. All but the time is about S3.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlobsConfig {
    /// Where S3 is served, `https://host:port`. Absent: by AWS, in the region.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// The id of the access key.
    pub access_key_id: Option<Secret>,
    /// The access key.
    pub secret_access_key: Option<Secret>,
    /// The token that goes with a temporary key.
    pub session_token: Option<Secret>,
    /// Whether the bucket is named in the path rather than in the host.
    pub path_style: bool,
    /// Whether the endpoint may be `http://`: what is stored then crosses the network in the clear.
    pub allow_http: bool,
    /// How long storing or reading one value may take, repetitions included, in milliseconds.
    pub timeout_ms: NonZeroU32,
}

impl Default for BlobsConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            region: "us-east-1".to_owned(),
            access_key_id: None,
            secret_access_key: None,
            session_token: None,
            path_style: true,
            allow_http: false,
            timeout_ms: NonZeroU32::new(15_000).expect("15,000 is not zero"),
        }
    }
}

impl BlobsConfig {
    /// How the place at `url` is opened.
    ///
    /// # Errors
    /// Each setting that S3 lacks, or that cannot be used.
    pub fn options(&self, url: &BlobUrl) -> Result<BlobOptions, ConfigError> {
        let place = match url {
            BlobUrl::Folder(folder) => BlobPlace::Folder(folder.clone()),
            BlobUrl::S3 { bucket, prefix } => BlobPlace::S3(self.bucket(bucket, prefix)?),
        };
        Ok(BlobOptions { place, timeout: Duration::from_millis(u64::from(self.timeout_ms.get())) })
    }

    fn bucket(&self, bucket: &str, prefix: &str) -> Result<S3Options, ConfigError> {
        let needed = |key: &str, secret: &Option<Secret>| match secret {
            Some(secret) => Ok(secret.expose().to_owned()),
            None => {
                let detail = format!(
                    "an s3:// blob_url needs it; as a file, EVERLINE_{}_FILE",
                    key.replace('.', "__").to_uppercase()
                );
                Err(ConfigError::single(key, detail))
            }
        };
        self.check_endpoint().map_err(|detail| ConfigError::single("blobs.endpoint", detail))?;
        Ok(S3Options {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
            endpoint: self.endpoint.clone(),
            region: self.region.clone(),
            access_key_id: needed("blobs.access_key_id", &self.access_key_id)?,
            secret_access_key: needed("blobs.secret_access_key", &self.secret_access_key)?,
            session_token: self.session_token.as_ref().map(|token| token.expose().to_owned()),
            path_style: self.path_style,
            allow_http: self.allow_http,
        })
    }

    fn check_endpoint(&self) -> Result<(), String> {
        let Some(endpoint) = &self.endpoint else { return Ok(()) };
        let url =
            Url::parse(endpoint).map_err(|error| format!("not a URL ({error}); write https://host:port"))?;
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            "http" => return Err("plain http:// is refused unless blobs.allow_http is true".to_owned()),
            _ => {
                return Err("it begins with https://, or with http:// if blobs.allow_http is true".to_owned());
            }
        }
        let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if plain && url.host_str().is_some() {
            Ok(())
        } else {
            Err("write https://host:port, and nothing else".to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_url_names_a_folder() {
        let folder = BlobUrl::parse("file:///var/lib/ever%20line/blobs/").unwrap();
        assert_eq!(folder, BlobUrl::Folder(PathBuf::from("/var/lib/ever line/blobs/")));
        BlobsConfig::default().options(&folder).unwrap();
    }

    #[cfg(not(feature = "s3"))]
    #[test]
    fn a_bucket_is_refused_by_a_program_without_s3() {
        assert!(BlobUrl::parse("s3://values").unwrap_err().contains("built without S3"));
    }

    #[cfg(feature = "s3")]
    #[test]
    fn a_blob_url_names_a_bucket() {
        for (text, bucket, prefix) in [
            ("s3://values", "values", ""),
            ("s3://values/", "values", ""),
            ("s3://my.values/a/b_c/", "my.values", "a/b_c"),
        ] {
            let found = BlobUrl::parse(text).unwrap();
            assert_eq!(found, BlobUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.to_owned() });
        }
    }

    #[cfg(feature = "s3")]
    #[test]
    fn a_blob_url_that_cannot_be_used_is_refused_with_the_reason_and_without_the_url() {
        for (text, said) in [
            ("blobs", "not a URL"),
            ("file://blobs/hunter2", "absolute path"),
            ("file:///", "absolute path"),
            ("s3:///hunter2", "name of a bucket"),
            ("s3://key:hunter2@values", "no keys in it"),
            ("s3://values?secret=hunter2", "no parameters"),
            ("s3://values/a//hunter2", "the prefix"),
            ("s3://values/a%20hunter2", "the prefix"),
            ("https://hunter2", "no such blob store"),
        ] {
            let error = BlobUrl::parse(text).unwrap_err();
            assert!(error.contains(said) && !error.contains("hunter2"), "{text}: {error}");
        }
    }

    #[cfg(feature = "s3")]
    #[test]
    fn a_bucket_needs_its_keys_and_encryption_unless_told_otherwise() {
        let url = BlobUrl::parse("s3://values").unwrap();
        let said = |config: &BlobsConfig| config.options(&url).unwrap_err().to_string();
        let key = |text: &str| Some(Secret::new(text));
        let mut config = BlobsConfig::default();
        assert!(
            said(&config).starts_with("blobs.access_key_id: an s3:// blob_url needs it"),
            "{}",
            said(&config)
        );
        config.access_key_id = key("id");
        assert!(said(&config).contains("EVERLINE_BLOBS__SECRET_ACCESS_KEY_FILE"), "{}", said(&config));
        config.secret_access_key = key("hunter2");
        config.options(&url).unwrap();
        for (endpoint, refused) in [
            ("http://127.0.0.1:9000", "blobs.allow_http"),
            ("127.0.0.1:9000", "https://"),
            ("https://u:hunter2@host", "nothing else"),
        ] {
            config.endpoint = Some(endpoint.to_owned());
            assert!(
                said(&config).contains(refused) && !said(&config).contains("hunter2"),
                "{}",
                said(&config)
            );
        }
        config.endpoint = Some("http://127.0.0.1:9000".to_owned());
        config.allow_http = true;
        let options = config.options(&url).unwrap();
        assert!(!format!("{config:?}{options:?}").contains("hunter2"));
        assert_eq!(options.place.to_string(), "s3://values at http://127.0.0.1:9000");
    }
}
