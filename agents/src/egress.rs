//! Where requests may go: not to the machine itself or the network around it, unless an operator says so.
//!
//! Invariant: the address that was checked is the address that is connected to. Names are checked as the client
//! resolves them, so a name that changes its address between check and use gains nothing; addresses in URLs are
//! checked as the `url` crate reads them, which turns `127.1`, `2130706433` and `0x7f.1` into `127.0.0.1`.
//! Absent: allowed and forbidden names, which are a credential's and a tenant's to say.

use domain::execution::event::NodeError;
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde::Deserialize;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::failure;

/// Where requests may go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EgressConfig {
    /// Whether addresses that are not on the public internet are allowed: loopback, private, link-local and such.
    pub allow_private: bool,
}

/// Why a request is not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Neither http nor https.
    #[error("`{0}` is not a scheme for requests; use http or https")]
    Scheme(String),
    /// The URL names no host.
    #[error("the URL has no host")]
    NoHost,
    /// The host is, or resolves to nothing but, addresses that are not public.
    #[error(
        "`{0}` is not on the public internet, and requests to private addresses are refused; \
         set EVERLINE_EGRESS__ALLOW_PRIVATE=true to allow them"
    )]
    Private(String),
}

impl From<Refused> for NodeError {
    fn from(refused: Refused) -> Self {
        failure::invalid_config(refused.to_string())
    }
}

/// Checks URLs before they are requested and addresses as names are resolved.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    config: EgressConfig,
    /// Stands for the public internet in tests, which have none.
    #[cfg(test)]
    pub(crate) public: Option<IpAddr>,
}

impl Guard {
    /// A guard for these settings.
    pub fn new(config: EgressConfig) -> Self {
        Self {
            config,
            #[cfg(test)]
            public: None,
        }
    }

    /// Checks all that can be known without resolving the host's name.
    pub fn check(self, url: &Url) -> Result<(), Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused::Scheme(url.scheme().to_owned()));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(Refused::NoHost)?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        match bare.parse::<IpAddr>() {
            Ok(address) if !self.allows(address) => Err(Refused::Private(host.to_owned())),
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn allows(self, address: IpAddr) -> bool {
        #[cfg(test)]
        if self.public == Some(address) {
            return true;
        }
        self.config.allow_private || is_public(address)
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            // Port 0 is replaced by the client with the URL's.
            let found: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            let refused = !found.is_empty();
            let allowed: Vec<_> = found.into_iter().filter(|address| guard.allows(address.ip())).collect();
            if allowed.is_empty() && refused {
                return Err(Refused::Private(name.as_str().to_owned()).into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

/// Whether the address is on the public internet, by IANA's special-purpose registries.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || address.is_private()
        || (a == 100 && (64..128).contains(&b)) // carrier-grade NAT
        || address.is_loopback()
        || address.is_link_local()
        || (a == 192 && b == 0 && c == 0) // protocol assignments
        || address.is_documentation()
        || (a == 192 && b == 88 && c == 99) // the former 6to4 relays
        || (a == 198 && (b == 18 || b == 19)) // benchmarks
        || a >= 224) // multicast, reserved, broadcast
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    if let Some(inner) = embedded_v4(address) {
        return is_public_v4(inner);
    }
    let [first, second, ..] = address.segments();
    // Only 2000::/3 is handed out; unspecified, loopback, ULA, link-local and multicast are outside of it.
    first & 0xe000 == 0x2000
        && !(first == 0x2001 && second < 0x0200) // protocol assignments, Teredo among them
        && !(first == 0x2001 && second == 0x0db8) // documentation
        && !(first == 0x3fff && second < 0x1000) // documentation
}

/// The IPv4 address that an IPv6 address leads to: mapped, NAT64 and 6to4.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(from(high, low)),
        [0x2002, high, low, ..] => Some(from(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(allow_private: bool, url: &str) -> Result<(), Refused> {
        Guard::new(EgressConfig { allow_private }).check(&url.parse().expect("a URL"))
    }

    #[test]
    fn addresses_around_the_machine_are_not_public() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "192.0.0.8",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "3fff::1",
        ] {
            assert!(!is_public(text.parse().expect("an address")), "{text}");
        }
    }

    #[test]
    fn addresses_of_the_internet_are_public() {
        for text in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
        ] {
            assert!(is_public(text.parse().expect("an address")), "{text}");
        }
    }

    #[test]
    fn every_spelling_of_a_loopback_address_is_refused() {
        for host in ["127.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.0.0.1.", "[::1]", "[::ffff:7f00:1]"]
        {
            let refused = check(false, &format!("http://{host}/")).expect_err(host);
            assert!(refused.to_string().contains("EVERLINE_EGRESS__ALLOW_PRIVATE"), "{refused}");
            assert_eq!(check(true, &format!("http://{host}/")), Ok(()));
        }
    }

    #[test]
    fn other_schemes_are_refused_even_where_private_addresses_are_allowed() {
        for url in ["file:///etc/passwd", "ftp://example.com/", "gopher://127.0.0.1/"] {
            assert!(matches!(check(true, url), Err(Refused::Scheme(_))), "{url}");
        }
    }
}
