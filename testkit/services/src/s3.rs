//! A server that speaks as much of the protocol of S3 as Everline uses, in this process, with faults at will.
//!
//! Objects of one bucket are kept in memory: put, get, head, delete, list (in small pages, so that paging is used). Every
//! request must be signed (Signature Version 4) with the one key; signature and payload hash are computed again here.
//! Deliberately absent: parts of objects, conditions, ranges, versions, and every other bucket.

use anyhow::Result;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// How many entries a list has at most.
const PAGE: usize = 3;
/// All objects are of this time.
const MODIFIED: (&str, &str) = ("Sat, 21 Nov 2026 09:00:00 GMT", "2026-11-21T09:00:00.000Z");

/// What happens to a request instead of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum S3Fault {
    /// An error with this status.
    Status(u16),
    /// Nothing, for ever.
    Silence,
    /// It is carried out, and answered with an error.
    DoneAnd(u16),
    /// It is carried out, and never answered.
    DoneInSilence,
    /// None: the turn of the next fault comes with the next request.
    None,
}

/// A running server. Its objects go with it.
#[derive(Debug)]
pub struct S3Server {
    url: String,
    bucket: Arc<Bucket>,
    task: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Bucket {
    objects: Mutex<BTreeMap<String, Bytes>>,
    faults: Mutex<VecDeque<(&'static str, S3Fault)>>,
    requests: Mutex<Vec<String>>,
}

impl S3Server {
    /// The only bucket.
    pub const BUCKET: &'static str = "values";
    /// The region that requests are signed for.
    pub const REGION: &'static str = "eu-test-1";
    /// The id of the only key.
    pub const ACCESS_KEY_ID: &'static str = "AKIAEVERLINETEST";
    /// The key.
    pub const SECRET_ACCESS_KEY: &'static str = "secret/of+the/tests";

    /// Starts on a free port.
    ///
    /// # Errors
    /// No port of loopback can be listened on.
    pub async fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let bucket = Arc::new(Bucket::default());
        let router = Router::new()
            .fallback(answer)
            .layer(axum::extract::DefaultBodyLimit::disable())
            .with_state(Arc::clone(&bucket));
        let task = tokio::spawn(async move {
            // It ends with the test.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { url, bucket, task })
    }

    /// Where it is served.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The keys of all objects.
    pub fn keys(&self) -> Vec<String> {
        held(&self.bucket.objects).keys().cloned().collect()
    }

    /// Puts something where an object is, as somebody with access to the bucket can.
    pub fn replace(&self, key: &str, content: impl Into<Bytes>) {
        held(&self.bucket.objects).insert(key.to_owned(), content.into());
    }

    /// Removes an object.
    pub fn remove(&self, key: &str) {
        held(&self.bucket.objects).remove(key);
    }

    /// Lets the next request of a method, such as `PUT`, fail; several of them fail one after the other.
    pub fn fail_next(&self, method: &'static str, fault: S3Fault) {
        held(&self.bucket.faults).push_back((method, fault));
    }

    /// Takes all faults back.
    pub fn heal(&self) {
        held(&self.bucket.faults).clear();
    }

    /// Method and key of every request that was signed as it should be.
    pub fn requests(&self) -> Vec<String> {
        held(&self.bucket.requests).clone()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is held here cannot be left half done by a panic.
fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn answer(
    State(bucket): State<Arc<Bucket>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Err(reason) = check_signature(&method, &uri, &headers, &body) {
        return refusal(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", reason);
    }
    let path = uri.path().trim_start_matches('/');
    let path = decoded(path);
    let (name, key) = path.split_once('/').unwrap_or((&path, ""));
    held(&bucket.requests).push(format!("{method} {key}"));
    match bucket.next_fault(&method) {
        None | Some(S3Fault::None) => {}
        Some(S3Fault::Silence) => return std::future::pending().await,
        Some(S3Fault::Status(status)) => return broken(status),
        Some(S3Fault::DoneInSilence) => {
            bucket.carry_out(&method, key, &uri, body);
            return std::future::pending().await;
        }
        Some(S3Fault::DoneAnd(status)) => {
            bucket.carry_out(&method, key, &uri, body);
            return broken(status);
        }
    }
    if name != S3Server::BUCKET {
        return refusal(StatusCode::NOT_FOUND, "NoSuchBucket", "there is no such bucket");
    }
    bucket.carry_out(&method, key, &uri, body)
}

impl Bucket {
    fn next_fault(&self, method: &Method) -> Option<S3Fault> {
        let mut faults = held(&self.faults);
        let at = faults.iter().position(|(of, _)| *of == method.as_str())?;
        faults.remove(at).map(|(_, fault)| fault)
    }

    fn carry_out(&self, method: &Method, key: &str, uri: &Uri, body: Bytes) -> Response {
        let mut objects = held(&self.objects);
        match (method.as_str(), key) {
            ("GET", "") => list(&objects, uri),
            ("PUT", key) if !key.is_empty() => {
                let tag = tag(&body);
                objects.insert(key.to_owned(), body);
                [(header::ETAG, tag)].into_response()
            }
            ("GET" | "HEAD", key) => match objects.get(key) {
                None => refusal(StatusCode::NOT_FOUND, "NoSuchKey", "there is no such object"),
                Some(content) => {
                    let headers = [
                        (header::ETAG, tag(content)),
                        (header::LAST_MODIFIED, MODIFIED.0.to_owned()),
                        (header::CONTENT_LENGTH, content.len().to_string()),
                    ];
                    let body =
                        if method == Method::HEAD { Body::empty() } else { Body::from(content.clone()) };
                    (headers, body).into_response()
                }
            },
            ("DELETE", key) => {
                objects.remove(key);
                StatusCode::NO_CONTENT.into_response()
            }
            _ => refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "not that"),
        }
    }
}

/// A path of a URL as the key that it means.
fn decoded(path: &str) -> String {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A page of `ListObjectsV2`.
fn list(objects: &BTreeMap<String, Bytes>, uri: &Uri) -> Response {
    let Ok(Query(asked)) = Query::<HashMap<String, String>>::try_from_uri(uri) else {
        return refusal(StatusCode::BAD_REQUEST, "InvalidArgument", "the query does not read");
    };
    let of = |name: &str| asked.get(name).map(String::as_str).unwrap_or_default();
    let (prefix, delimiter, after) = (of("prefix"), of("delimiter"), of("continuation-token"));
    let mut entries = BTreeMap::new();
    for (key, content) in objects.iter().filter(|(key, _)| key.starts_with(prefix)) {
        let rest = &key[prefix.len()..];
        match rest.find(delimiter).filter(|_| !delimiter.is_empty()) {
            Some(at) => {
                let folder = key[..prefix.len() + at + delimiter.len()].to_owned();
                let xml = format!("<CommonPrefixes><Prefix>{folder}</Prefix></CommonPrefixes>");
                entries.insert(folder, xml);
            }
            None => {
                let (tag, size) = (tag(content), content.len());
                let xml = format!(
                    "<Contents><Key>{key}</Key><LastModified>{}</LastModified><ETag>{tag}</ETag><Size>{size}</Size></Contents>",
                    MODIFIED.1
                );
                entries.insert(key.clone(), xml);
            }
        }
    }
    let left: Vec<_> = entries.into_iter().filter(|(key, _)| key.as_str() > after).collect();
    let page = &left[..left.len().min(PAGE)];
    let more = match page.last().filter(|_| left.len() > PAGE) {
        Some((last, _)) => format!("<NextContinuationToken>{last}</NextContinuationToken>"),
        None => String::new(),
    };
    let truncated = !more.is_empty();
    let page: String = page.iter().map(|(_, xml)| xml.as_str()).collect();
    let xml =
        format!("<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{more}{page}</ListBucketResult>");
    ([(header::CONTENT_TYPE, "application/xml")], xml).into_response()
}

fn broken(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    refusal(status, "Broken", "a fault of the test")
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response {
    let xml = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
    (status, [(header::CONTENT_TYPE, "application/xml")], xml).into_response()
}

fn tag(content: &[u8]) -> String {
    format!("\"{}\"", &hex(&Sha256::digest(content))[..32])
}

/// Computes the signature again.
fn check_signature(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Result<(), &'static str> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let authorization = text("authorization").ok_or("there is no Authorization header")?;
    let date = text("x-amz-date").ok_or("there is no x-amz-date header")?;
    let payload = text("x-amz-content-sha256").ok_or("there is no x-amz-content-sha256 header")?;
    if payload != hex(&Sha256::digest(body)) {
        return Err("x-amz-content-sha256 is not the hash of the body");
    }
    let day = date.get(..8).ok_or("x-amz-date is no date")?;
    let scope = format!("{day}/{}/s3/aws4_request", S3Server::REGION);
    let begin = format!("AWS4-HMAC-SHA256 Credential={}/{scope}, SignedHeaders=", S3Server::ACCESS_KEY_ID);
    let rest = authorization.strip_prefix(&begin).ok_or("another key, region or algorithm")?;
    let (signed, signature) = rest.split_once(", Signature=").ok_or("there is no signature")?;

    let mut canonical = format!("{method}\n{}\n", uri.path());
    let mut query: Vec<&str> =
        uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).collect();
    query.sort_unstable();
    // Forms write a space as `+`; it is signed as what it is.
    canonical += &query.join("&").replace('+', "%20");
    canonical.push('\n');
    for name in signed.split(';') {
        let value = text(name).ok_or("a signed header is missing")?;
        canonical += &format!("{name}:{}\n", value.trim());
    }
    canonical += &format!("\n{signed}\n{payload}");

    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(&canonical)));
    let mut key = format!("AWS4{}", S3Server::SECRET_ACCESS_KEY).into_bytes();
    for part in [day, S3Server::REGION, "s3", "aws4_request", to_sign.as_str()] {
        key = hmac(&key, part.as_bytes());
    }
    if hex(&key) == signature { Ok(()) } else { Err("another signature") }
}

/// HMAC-SHA256 (RFC 2104), of keys up to a block.
fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let padded = |pad: u8| {
        let mut block = [pad; 64];
        block.iter_mut().zip(key).for_each(|(byte, key)| *byte ^= key);
        block
    };
    let inner = Sha256::new().chain_update(padded(0x36)).chain_update(message).finalize();
    Sha256::new().chain_update(padded(0x5c)).chain_update(inner).finalize().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
