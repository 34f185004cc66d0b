//! Opening the place of large values: a folder, or a bucket behind the protocol of S3.
//!
//! Invariants: a folder is the owner's alone if it is made here, and what was stored in it is on disk; a bucket is reached
//! with the keys that are given and by no proxy, and by plain HTTP only if that is allowed. Deliberately absent: making
//! buckets, keys from the environment or from a machine's metadata.

use object_store::local::LocalFileSystem;
use std::fmt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Objects;
use crate::log::StoreError;

/// Where large values are kept, if not in the log's database.
#[derive(Debug, Clone)]
pub struct BlobOptions {
    /// The place.
    pub place: BlobPlace,
    /// How long storing or reading one value may take, repetitions included.
    pub timeout: Duration,
}

/// A place for large values.
#[derive(Debug, Clone)]
pub enum BlobPlace {
    /// A folder, which all processes of the log must share.
    Folder(PathBuf),
    /// A bucket.
    S3(S3Options),
}

/// A bucket of S3, or of what speaks its protocol.
#[derive(Clone)]
pub struct S3Options {
    /// The bucket.
    pub bucket: String,
    /// What all keys begin with; may be empty.
    pub prefix: String,
    /// Where it is served; `None`: by AWS, in the region.
    pub endpoint: Option<String>,
    /// The region, which requests are signed for.
    pub region: String,
    /// The id of the key.
    pub access_key_id: String,
    /// The key. Never shown.
    pub secret_access_key: String,
    /// The token that goes with a temporary key. Never shown.
    pub session_token: Option<String>,
    /// Whether the bucket is named in the path rather than in the host.
    pub path_style: bool,
    /// Whether the endpoint may be `http://`.
    pub allow_http: bool,
}

/// Without the key and token.
impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("path_style", &self.path_style)
            .field("allow_http", &self.allow_http)
            .finish_non_exhaustive()
    }
}

/// For people.
impl fmt::Display for BlobPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "file://{}", path.display()),
            Self::S3(S3Options { bucket, prefix, endpoint, .. }) => {
                let slash = if prefix.is_empty() { "" } else { "/" };
                write!(f, "s3://{bucket}{slash}{prefix}")?;
                endpoint.iter().try_for_each(|endpoint| write!(f, " at {endpoint}"))
            }
        }
    }
}

impl Objects {
    /// Opens the place as [`Objects::open`] does, but a folder must be there.
    ///
    /// # Errors
    /// It is not there, or as those of [`Objects::open`].
    pub fn open_existing(options: &BlobOptions) -> Result<Self, StoreError> {
        match &options.place {
            BlobPlace::Folder(path) if !path.is_dir() => Err(StoreError::Unfit {
                path: path.display().to_string(),
                reason: "large values are to be there, and it is no folder; see blob_url".to_owned(),
            }),
            BlobPlace::Folder(_) | BlobPlace::S3(_) => Self::open(options),
        }
    }

    /// Opens the place; a folder is made if need be. A bucket is not asked for anything yet.
    ///
    /// # Errors
    /// The folder cannot be made or used, or no client can be made for the bucket.
    pub fn open(options: &BlobOptions) -> Result<Self, StoreError> {
        let name = options.place.to_string();
        match &options.place {
            BlobPlace::Folder(path) => {
                let folder = folder(path)?;
                Ok(Self::new(name, Arc::new(folder), options.timeout))
            }
            BlobPlace::S3(s3) => bucket(name, s3, options.timeout),
        }
    }
}

fn folder(path: &Path) -> Result<LocalFileSystem, StoreError> {
    let io = |source| StoreError::Io { path: path.display().to_string(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(io)?;
    let unusable = |source: object_store::Error| StoreError::Unfit {
        path: path.display().to_string(),
        reason: format!("large values cannot be kept there: {source}"),
    };
    Ok(LocalFileSystem::new_with_prefix(path).map_err(unusable)?.with_fsync(true))
}

#[cfg(feature = "s3")]
fn bucket(name: String, s3: &S3Options, timeout: Duration) -> Result<Objects, StoreError> {
    use object_store::ObjectStore;
    use object_store::aws::AmazonS3Builder;
    use object_store::prefix::PrefixStore;
    use object_store::{BackoffConfig, RetryConfig};

    let unfit = |source: object_store::Error| StoreError::Unfit {
        path: name.clone(),
        reason: format!("large values cannot be kept there: {source}"),
    };
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 3,
        retry_timeout: timeout,
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&s3.bucket)
        .with_region(&s3.region)
        .with_access_key_id(&s3.access_key_id)
        .with_secret_access_key(&s3.secret_access_key)
        .with_virtual_hosted_style_request(!s3.path_style)
        .with_allow_http(s3.allow_http)
        .with_retry(retry)
        // Not everything that speaks the protocol deletes several at once.
        .with_disable_bulk_delete(true)
        .with_http_connector(http::Connector::new(s3, timeout));
    if let Some(endpoint) = &s3.endpoint {
        if !s3.allow_http && !endpoint.starts_with("https://") {
            let reason = "the endpoint is not https://, and plain HTTP is not allowed".to_owned();
            return Err(StoreError::Unfit { path: name, reason });
        }
        builder = builder.with_endpoint(if s3.path_style {
            endpoint.clone()
        } else {
            with_bucket_in_host(endpoint, &s3.bucket)
        });
    }
    if let Some(token) = &s3.session_token {
        builder = builder.with_token(token);
    }
    let bucket = builder.build().map_err(unfit)?;
    let store: Arc<dyn ObjectStore> = if s3.prefix.is_empty() {
        Arc::new(bucket)
    } else {
        Arc::new(PrefixStore::new(bucket, s3.prefix.as_str()))
    };
    Ok(Objects::new(name, store, timeout))
}

/// What the builder takes an endpoint of that style for: that of the bucket.
#[cfg(feature = "s3")]
fn with_bucket_in_host(endpoint: &str, bucket: &str) -> String {
    match endpoint.split_once("://") {
        Some((scheme, host)) => format!("{scheme}://{bucket}.{}", host.trim_end_matches('/')),
        None => format!("{bucket}.{endpoint}"),
    }
}

#[cfg(not(feature = "s3"))]
fn bucket(name: String, _: &S3Options, _: Duration) -> Result<Objects, StoreError> {
    let reason = "this program was built without S3; build it with the feature `s3`, or name a folder";
    Err(StoreError::Unfit { path: name, reason: reason.to_owned() })
}

#[cfg(feature = "s3")]
mod http {
    //! The HTTP client: ours, so that no proxy of the environment is used and a machine without certificates has some.

    use object_store::ClientOptions;
    use object_store::client::{HttpClient, HttpConnector};
    use reqwest::{Certificate, Client, ClientBuilder};
    use std::time::Duration;

    use super::S3Options;

    /// Time to connect, within the request's.
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

    #[derive(Debug)]
    pub(super) struct Connector {
        timeout: Duration,
        /// Nothing is encrypted, so no certificates are needed.
        plain: bool,
    }

    impl Connector {
        pub(super) fn new(s3: &S3Options, timeout: Duration) -> Self {
            let plain = s3.endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
            Self { timeout, plain }
        }

        fn builder(&self) -> ClientBuilder {
            Client::builder()
                .user_agent(concat!("everline/", env!("CARGO_PKG_VERSION")))
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .connect_timeout(CONNECT_TIMEOUT)
                // One try that hangs leaves time for another.
                .timeout(self.timeout / 2)
        }
    }

    impl HttpConnector for Connector {
        fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
            let client = if self.plain {
                self.builder().tls_certs_only([]).build()
            } else {
                // A bare machine or container has no certificates, and the client is not made without any.
                self.builder().build().or_else(|error| {
                    tracing::warn!(
                        error = %error,
                        "the system's CA certificates cannot be read; the certificates in the program are used"
                    );
                    self.builder().tls_certs_only(bundled_certificates()).build()
                })
            };
            let failed = |source| object_store::Error::Generic {
                store: "S3",
                source: Box::<dyn std::error::Error + Send + Sync>::from(source),
            };
            client.map(HttpClient::new).map_err(|error: reqwest::Error| failed(error))
        }
    }

    /// Mozilla's certificates as of this build.
    fn bundled_certificates() -> Vec<Certificate> {
        let certificates = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
        certificates.filter_map(|der| Certificate::from_der(der).ok()).collect()
    }
}

#[cfg(all(test, feature = "s3"))]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_may_be_named_in_the_host() {
        assert_eq!(with_bucket_in_host("https://s3.example.org:9000", "b"), "https://b.s3.example.org:9000");
    }
}
