//! Networks of addresses, as configured: `10.0.0.0/8`, `2001:db8::/32`, or a single address.

use serde::Deserialize;
use std::net::IpAddr;

use crate::lists::ListOrText;

/// Several networks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ListOrText")]
pub struct Networks(Vec<Network>);

/// The addresses whose first `prefix` bits are those of `base`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Network {
    base: IpAddr,
    prefix: u32,
}

/// A text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a network; write an address with its prefix, such as 10.0.0.0/8 or 2001:db8::/32")]
pub struct NetworkError(String);

impl Networks {
    /// Whether an address is in one of them.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(ip))
    }
}

impl TryFrom<Vec<String>> for Networks {
    type Error = NetworkError;

    fn try_from(texts: Vec<String>) -> Result<Self, NetworkError> {
        let networks = texts.into_iter().map(|text| Network::parse(&text).ok_or(NetworkError(text)));
        networks.collect::<Result<_, _>>().map(Self)
    }
}

impl TryFrom<ListOrText> for Networks {
    type Error = NetworkError;

    fn try_from(texts: ListOrText) -> Result<Self, NetworkError> {
        texts.into_list().try_into()
    }
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (base, prefix) = match text.split_once('/') {
            Some((base, prefix)) => (base, Some(prefix.parse().ok()?)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().ok()?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.unwrap_or(most);
        (prefix <= most).then_some(Self { base, prefix })
    }

    fn contains(&self, ip: IpAddr) -> bool {
        match (self.base, ip) {
            (IpAddr::V4(base), IpAddr::V4(ip)) => {
                let differing = base.to_bits() ^ ip.to_bits();
                differing.checked_shr(32 - self.prefix).unwrap_or(0) == 0
            }
            (IpAddr::V6(base), IpAddr::V6(ip)) => {
                let differing = base.to_bits() ^ ip.to_bits();
                differing.checked_shr(128 - self.prefix).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contains(network: &str, ip: &str) -> bool {
        let networks = Networks::try_from(vec![network.to_owned()]).expect("a network");
        networks.contains(ip.parse().expect("an address"))
    }

    #[test]
    fn a_network_has_the_addresses_of_its_prefix() {
        assert!(contains("10.0.0.0/8", "10.255.0.1"));
        assert!(!contains("10.0.0.0/8", "11.0.0.1"));
        assert!(contains("0.0.0.0/0", "203.0.113.7"));
        assert!(!contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("192.0.2.1", "192.0.2.1") && !contains("192.0.2.1", "192.0.2.2"));
        assert!(contains("192.0.2.0/24", "::ffff:192.0.2.9"), "an IPv4 address in the clothes of IPv6");
        assert!(contains("2001:db8::/33", "2001:db8:7fff::1"));
        assert!(!contains("2001:db8::/33", "2001:db8:8000::1"));
        assert!(contains("::/0", "2001:db8::1"));
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "::/129", "example.org", "10.0.0.0/-1"] {
            assert!(Networks::try_from(vec![text.to_owned()]).is_err(), "{text}");
        }
    }
}
