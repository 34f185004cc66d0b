//! Calls to providers: bounded in time and size, without redirects.

use futures::future::BoxFuture;
use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use reqwest::redirect::Policy;
use std::time::Duration;

/// How long a whole call may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The most bytes of an answer: discovery documents and key sets have some thousand.
const MAX_BYTES: usize = 512 * 1024;

/// A call gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutboundError {
    /// The connection or the protocol failed.
    #[error("the provider could not be asked")]
    Call(#[from] reqwest::Error),
    /// The answer has too many bytes.
    #[error("the provider's answer has more than {MAX_BYTES} bytes")]
    TooLarge,
    /// The answer is not one.
    #[error("the provider's answer is not one")]
    Answer(#[from] http::Error),
}

/// The client for all providers.
#[derive(Debug, Clone)]
pub(super) struct Outbound(reqwest::Client);

impl Outbound {
    pub(super) fn new() -> Result<Self, OutboundError> {
        let builder = || {
            // A redirect would carry codes and secrets to where nobody has said.
            reqwest::Client::builder()
                .redirect(Policy::none())
                .timeout(TIMEOUT)
                .connect_timeout(CONNECT_TIMEOUT)
        };
        // A machine without certificates of its own gets Mozilla's.
        let client = builder().build().or_else(|_| {
            let bundled = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
            let bundled = bundled.filter_map(|der| reqwest::Certificate::from_der(der).ok());
            builder().tls_certs_only(bundled).build()
        })?;
        Ok(Self(client))
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, OutboundError> {
        let mut response = self.0.execute(request.try_into()?).await?;
        let mut answer = http::Response::builder().status(response.status());
        for (name, value) in response.headers() {
            answer = answer.header(name, value);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(OutboundError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(answer.body(body)?)
    }
}

impl<'c> AsyncHttpClient<'c> for Outbound {
    type Error = OutboundError;
    type Future = BoxFuture<'c, Result<HttpResponse, OutboundError>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.send(request))
    }
}
