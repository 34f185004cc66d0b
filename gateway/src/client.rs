//! From where a request comes: the address of its connection, or what a trusted proxy says of it.
//!
//! Invariant: what a client writes about itself is believed of nobody. Of the addresses in a header only those count that
//! a trusted proxy has added: from the right, the first that is not such a proxy is the client's. One header is read,
//! the one that the proxies are known to write; the other would come from the client untouched.

use axum::extract::MatchedPath;
use http::{HeaderMap, HeaderName, Method, header};
use serde::Deserialize;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::config::GatewayConfig;
use crate::networks::Networks;

/// The most bytes of a client's program that are kept.
const MAX_USER_AGENT: usize = 200;
/// The most proxies that are looked through.
const MAX_HOPS: usize = 32;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

/// Which header trusted proxies write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`, with `X-Forwarded-Proto`.
    #[default]
    #[serde(rename = "x-forwarded-for")]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    #[serde(rename = "forwarded")]
    Forwarded,
}

/// A client's address and program, and what it asks for, as far as they are known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Client {
    /// The address of the connection, or what a trusted proxy says of it.
    pub(crate) ip: Option<IpAddr>,
    /// `User-Agent`, at most 200 bytes.
    pub(crate) user_agent: Option<Arc<str>>,
    /// Whether the client speaks TLS, with a trusted proxy.
    pub(crate) https: bool,
    /// `X-Request-Id`: the client's, or one made here.
    pub(crate) request_id: Arc<str>,
    /// What it asks for.
    pub(crate) asks: Asks,
}

/// What a client asks for, without ids, queries and bodies.
#[derive(Debug, Clone, Default)]
pub(crate) enum Asks {
    /// A request to a route, or to none.
    Http(Method, Option<MatchedPath>),
    /// A message over a WebSocket, by its name.
    Message(&'static str),
    /// Nothing that is known.
    #[default]
    Unknown,
}

impl fmt::Display for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(method, Some(route)) => write!(f, "{method} {}", route.as_str()),
            Self::Http(method, None) => write!(f, "{method} unmatched"),
            Self::Message(name) => write!(f, "WS {name}"),
            Self::Unknown => f.write_str("-"),
        }
    }
}

impl Client {
    /// Who is behind a request.
    pub(crate) fn of(config: &GatewayConfig, peer: Option<Peer>, headers: &HeaderMap) -> Self {
        let peer = peer.map(|Peer(address)| address.ip().to_canonical());
        let trusted = peer.is_some_and(|ip| config.trusted_proxies.contains(ip));
        let (ip, https) = if trusted { forwarded(config, headers) } else { (None, false) };
        Self {
            ip: ip.or(peer),
            user_agent: headers.get(header::USER_AGENT).map(|value| shown(value.as_bytes())),
            https,
            request_id: request_id(headers),
            asks: Asks::Unknown,
        }
    }

    /// The same client with a message.
    pub(crate) fn with_message(&self, name: &'static str) -> Self {
        Self { asks: Asks::Message(name), ..self.clone() }
    }

    /// What counts as one client: an IPv4 address, or a network of 2^64 IPv6 addresses, which one household has.
    pub(crate) fn network(&self) -> Option<IpAddr> {
        self.ip.map(|ip| match ip {
            IpAddr::V4(_) => ip,
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        })
    }
}

/// What trusted proxies say: the client's address, and whether it speaks TLS with the outermost of them.
fn forwarded(config: &GatewayConfig, headers: &HeaderMap) -> (Option<IpAddr>, bool) {
    match config.forwarded_header {
        ForwardedHeader::XForwardedFor => {
            let hops = values(headers, &X_FORWARDED_FOR);
            let ip = outermost(&config.trusted_proxies, hops.iter().map(|hop| address(hop))).1;
            // Written by the proxy next to us; what it passes on from others is the same in any sane set-up.
            let https = values(headers, &X_FORWARDED_PROTO).last().is_some_and(|proto| is_https(proto));
            (ip, https)
        }
        ForwardedHeader::Forwarded => {
            let hops = values(headers, &header::FORWARDED);
            let addresses = hops.iter().map(|hop| parameter(hop, "for").and_then(address));
            let (place, ip) = outermost(&config.trusted_proxies, addresses);
            let hop = place.and_then(|place| hops.get(place));
            (ip, hop.and_then(|hop| parameter(hop, "proto")).is_some_and(is_https))
        }
    }
}

/// The rightmost address that is no trusted proxy's, with its place; the leftmost of all if every one is.
fn outermost(
    trusted: &Networks,
    hops: impl ExactSizeIterator<Item = Option<IpAddr>> + DoubleEndedIterator,
) -> (Option<usize>, Option<IpAddr>) {
    let mut found = (None, None);
    for (place, hop) in hops.enumerate().rev().take(MAX_HOPS) {
        // What is no address was not written by a proxy that we trust; what it stands beside is as far as we see.
        let Some(ip) = hop else { return found };
        found = (Some(place), Some(ip));
        if !trusted.contains(ip) {
            return found;
        }
    }
    found
}

/// The elements of a header's lists, in their order, without those that are not text.
fn values<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Vec<&'h str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).filter(|value| !value.is_empty()).collect()
}

/// A parameter of a `Forwarded` element.
fn parameter<'h>(element: &'h str, name: &str) -> Option<&'h str> {
    element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

fn is_https(proto: &str) -> bool {
    proto.eq_ignore_ascii_case("https") || proto.eq_ignore_ascii_case("wss")
}

/// An address with or without its port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let ip = text.parse().ok();
    let ip = ip.or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()));
    let ip = ip.or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok());
    ip.map(|ip: IpAddr| ip.to_canonical())
}

/// A text for people: cut, and without what could change how it is shown.
fn shown(bytes: &[u8]) -> Arc<str> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(MAX_USER_AGENT)]);
    let mut shown: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    shown.truncate(shown.floor_char_boundary(MAX_USER_AGENT));
    shown.into()
}

/// The client's name for a request if it can be one, else a random one.
fn request_id(headers: &HeaderMap) -> Arc<str> {
    let given = headers.get("x-request-id").map(|value| value.as_bytes());
    let usable = |id: &&[u8]| (1..=128).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
    match given.filter(usable).and_then(|id| std::str::from_utf8(id).ok()) {
        Some(id) => id.into(),
        None => format!("{:032x}", u128::from_be_bytes(crate::random::bytes())).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(config: &GatewayConfig, peer: &str, lines: &[(&'static str, &str)]) -> Client {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().expect("a header"));
        }
        Client::of(config, Some(Peer(SocketAddr::new(peer.parse().expect("an address"), 1))), &headers)
    }

    fn behind(networks: &[&str], header: ForwardedHeader) -> GatewayConfig {
        let networks = networks.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        GatewayConfig {
            trusted_proxies: Networks::try_from(networks).expect("networks"),
            forwarded_header: header,
            ..GatewayConfig::default()
        }
    }

    fn ip(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn nobody_is_believed_unless_configured() {
        let headers = [("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=203.0.113.7;proto=https")];
        let found = client(&GatewayConfig::default(), "127.0.0.1", &headers);
        assert_eq!((found.ip, found.https), (ip("127.0.0.1"), false));
        let config = behind(&["10.0.0.0/8"], ForwardedHeader::XForwardedFor);
        assert_eq!(client(&config, "192.0.2.1", &headers).ip, ip("192.0.2.1"), "not from a proxy");
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_is_the_clients() {
        let config = behind(&["10.0.0.0/8", "2001:db8:1::/48"], ForwardedHeader::XForwardedFor);
        let of = |text: &str| client(&config, "10.0.0.1", &[("x-forwarded-for", text)]).ip;
        assert_eq!(of("198.51.100.1, 203.0.113.7"), ip("203.0.113.7"), "what stands left was made up");
        assert_eq!(of("203.0.113.7, 10.1.2.3, 2001:db8:1::5"), ip("203.0.113.7"));
        assert_eq!(of("203.0.113.7:4711"), ip("203.0.113.7"));
        assert_eq!(of("[2001:db8::7]:4711"), ip("2001:db8::7"));
        assert_eq!(of("::ffff:203.0.113.7"), ip("203.0.113.7"));
        assert_eq!(of("10.9.9.9, 10.1.2.3"), ip("10.9.9.9"), "every one is a proxy");
        assert_eq!(of("203.0.113.7, nonsense, 10.1.2.3"), ip("10.1.2.3"), "nothing left of nonsense counts");
        assert_eq!(of(""), ip("10.0.0.1"));
        let lines = [("x-forwarded-for", "198.51.100.1"), ("x-forwarded-for", "203.0.113.7")];
        assert_eq!(client(&config, "10.0.0.1", &lines).ip, ip("203.0.113.7"), "lines are one list");
        let forged = [("x-forwarded-for", "203.0.113.7"), ("forwarded", "for=198.51.100.1")];
        assert_eq!(client(&config, "10.0.0.1", &forged).ip, ip("203.0.113.7"), "one header is read");
    }

    #[test]
    fn forwarded_is_read_with_its_protocol() {
        let config = behind(&["10.0.0.0/8"], ForwardedHeader::Forwarded);
        let of = |text: &str| client(&config, "10.0.0.1", &[("forwarded", text)]);
        let found = of("for=198.51.100.1;proto=http, For=\"[2001:db8::7]:80\";Proto=https, for=10.0.0.2");
        assert_eq!((found.ip, found.https), (ip("2001:db8::7"), true));
        assert_eq!(of("for=unknown, for=_hidden").ip, ip("10.0.0.1"));
    }

    #[test]
    fn programs_and_request_ids_are_bounded_and_harmless() {
        let config = GatewayConfig::default();
        let found = client(&config, "127.0.0.1", &[("user-agent", &"x".repeat(900))]);
        assert_eq!(found.user_agent.expect("a program").len(), 200);
        assert_eq!(&*shown("é".repeat(300).as_bytes()), "é".repeat(100));
        assert_eq!(&*shown(b"a\x1b[31mb\r\n"), "a\u{fffd}[31mb\u{fffd}\u{fffd}");
        let id = |value: &str| client(&config, "127.0.0.1", &[("x-request-id", value)]).request_id;
        assert_eq!(&*id("abc-1"), "abc-1");
        for bad in ["", "a b", &"x".repeat(129)] {
            let made = id(bad);
            assert!(made.len() == 32 && &*made != bad, "{made}");
        }
    }

    #[test]
    fn one_household_is_one_client() {
        let of = |text: &str| Client { ip: ip(text), ..Client::default() }.network();
        assert_eq!(of("2001:db8::1:2:3:4"), of("2001:db8::ffff:0:0:1"));
        assert_ne!(of("2001:db8:0:1::1"), of("2001:db8:0:2::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }
}
