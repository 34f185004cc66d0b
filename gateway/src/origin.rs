//! Where clients reach this server, as a URL's beginning without a slash at its end.

use http::{HeaderMap, header};

use crate::config::GatewayConfig;
use crate::failure::Failure;
use crate::status;

/// `gateway.public_url` if it is set, else what the request was sent to, over plain HTTP: whoever puts TLS in front says
/// so in the configuration, for no header can be believed.
pub(crate) fn of(config: &GatewayConfig, headers: &HeaderMap) -> Result<String, Failure> {
    if let Some(url) = &config.public_url {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.filter(|host| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]_".contains(&byte);
        !host.is_empty() && host.len() <= 255 && host.bytes().all(known)
    });
    let host = host.ok_or_else(|| {
        Failure::new(status::INVALID_HEADER, "the `Host` header names no host; set gateway.public_url")
    })?;
    Ok(format!("http://{host}"))
}

/// Whether clients come over TLS, so that cookies may be `Secure`.
pub(crate) fn is_secure(config: &GatewayConfig) -> bool {
    config.cookie_secure || config.public_url.as_deref().is_some_and(|url| url.starts_with("https://"))
}
