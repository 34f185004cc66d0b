//! Connections: where the server is, the first connect, and what is known of each connection afterwards.
//!
//! The first connect gives up after [`FIRST_CONNECT`] with an error that names the server and the remedy; from then on
//! a connection comes back by itself, for ever. Credentials are taken out of the URL before anything else sees it:
//! async-nats would neither use them there nor keep them out of its log.

use async_nats::connection::State;
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use futures::StreamExt;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

use super::NatsOptions;
use crate::error::BusError;

/// How long the first connect is tried.
const FIRST_CONNECT: Duration = Duration::from_secs(10);
/// How long one try may take.
const ONE_CONNECT: Duration = Duration::from_secs(3);
/// The pause between two tries of the first connect.
const BETWEEN_CONNECTS: Duration = Duration::from_millis(500);
/// The longest pause before a reconnect.
const LONGEST_BACKOFF: Duration = Duration::from_secs(1);
/// How often a silent server is asked for a sign of life; the third missed one ends the connection.
const PING_EVERY: Duration = Duration::from_secs(5);
/// How often the connection's state is looked at while waiting for it: events of the client may be lost.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long the server may take to answer when asked whether it has seen what was sent.
const ROUND_TRIP: Duration = Duration::from_secs(2);
/// How long handing a message to the client may take. It takes that long only where the connection is gone and the
/// client's queue is full.
pub(super) const HAND_OVER: Duration = Duration::from_secs(2);
/// Messages that a subscription may hold before the client drops some.
const SUBSCRIPTION_CAPACITY: usize = 16_384;
/// The oldest server that does what is needed.
const OLDEST: (i64, i64, i64) = (2, 9, 0);

/// Where the server is and who we are there.
#[derive(Clone)]
pub(super) struct Endpoint {
    addresses: Vec<ServerAddr>,
    user: Option<(String, String)>,
    token: Option<String>,
    /// `host:port`, separated by commas: what may be shown.
    pub(super) shown: String,
}

impl Endpoint {
    /// Reads the URLs of the options.
    pub(super) fn parse(urls: &str) -> Result<Self, BusError> {
        // The parser's own words could repeat the URL: they are not passed on.
        let refuse = |reason: &str| BusError {
            operation: "read the URL of NATS".to_owned(),
            source: format!(
                "{reason}; expected `nats://[user:password@]host:port`, several separated by commas"
            )
            .into(),
        };
        let mut endpoint = Self { addresses: Vec::new(), user: None, token: None, shown: String::new() };
        for url in urls.split(',').map(str::trim).filter(|url| !url.is_empty()) {
            let address: ServerAddr = url.parse().map_err(|_| refuse("it is not a URL of NATS"))?;
            if address.host().is_empty() || address.is_websocket() {
                return Err(refuse("it does not name a host, or uses WebSocket, which this build does not"));
            }
            match (address.username().map(decoded), address.password().map(decoded)) {
                (Some(user), Some(password)) => endpoint.user = Some((user, password)),
                (Some(token), None) => endpoint.token = Some(token),
                (None, _) => {}
            }
            if !endpoint.shown.is_empty() {
                endpoint.shown.push(',');
            }
            endpoint.shown.push_str(&format!("{}:{}", address.host(), address.port()));
            let mut plain = address.into_inner();
            if plain.set_username("").and_then(|()| plain.set_password(None)).is_err() {
                return Err(refuse("it cannot be used"));
            }
            endpoint.addresses.push(ServerAddr::from_url(plain).map_err(|_| refuse("it cannot be used"))?);
        }
        if endpoint.addresses.is_empty() { Err(refuse("it is empty")) } else { Ok(endpoint) }
    }

    fn options(&self, name: &str, health: &Arc<Health>) -> ConnectOptions {
        let noted = health.clone();
        let mut options = ConnectOptions::new()
            .name(name)
            .connection_timeout(ONE_CONNECT)
            .ping_interval(PING_EVERY)
            .subscription_capacity(SUBSCRIPTION_CAPACITY)
            .reconnect_delay_callback(backoff)
            .event_callback(move |event| {
                noted.note(&event);
                std::future::ready(())
            });
        if let Some((user, password)) = &self.user {
            options = options.user_and_password(user.clone(), password.clone());
        }
        if let Some(token) = &self.token {
            options = options.token(token.clone());
        }
        options
    }

    /// One try.
    async fn connect(&self, options: ConnectOptions) -> Result<Client, async_nats::ConnectError> {
        options.connect(&self.addresses[..]).await
    }

    /// Why a connect failed, and what to do.
    fn failure(&self, error: &async_nats::ConnectError) -> BusError {
        let remedy = match error.kind() {
            ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                "the server refuses the user, password or token of the URL; correct them"
            }
            ConnectErrorKind::Tls => "TLS failed; check the certificates, and whether the server uses TLS",
            ConnectErrorKind::Dns => "the host is not known; correct the URL",
            _ => "start nats-server there, or correct the URL",
        };
        let cause = error.source().map_or_else(|| error.kind().to_string(), ToString::to_string);
        BusError {
            operation: format!("connect to NATS at {}", self.shown),
            source: format!("{cause}; {remedy}").into(),
        }
    }
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match (first, hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn backoff(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(6);
    if attempts <= 1 {
        Duration::ZERO
    } else {
        (Duration::from_millis(20) * 2u32.pow(doublings)).min(LONGEST_BACKOFF)
    }
}

/// What the client reported of a connection.
struct Health {
    /// The connection's name, for people.
    name: String,
    /// How often the connection was lost.
    losses: watch::Sender<u64>,
    /// How often messages for us may have been lost: after a reconnect, or because we were slow.
    missed: watch::Sender<u64>,
}

impl Health {
    fn note(&self, event: &Event) {
        match event {
            Event::Disconnected => {
                tracing::warn!(nats.connection = %self.name, "the connection to NATS is lost");
                self.losses.send_modify(|count| *count += 1);
            }
            Event::Connected | Event::SlowConsumer(_) => self.missed.send_modify(|count| *count += 1),
            Event::ServerError(error) => {
                tracing::warn!(nats.connection = %self.name, "NATS reports: {error}")
            }
            _ => {}
        }
    }
}

/// A connection that comes back by itself. Cheap to clone.
#[derive(Clone)]
pub(super) struct Link {
    /// The client.
    pub(super) client: Client,
    health: Arc<Health>,
}

/// Whether a connection hears what it publishes itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Echo {
    /// It does.
    Yes,
    /// It does not: what is for this process too is handed over without the network.
    No,
}

/// Whether a connection comes back by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Comeback {
    Always,
    Never,
}

impl Link {
    /// Connects, with as many tries as fit into [`FIRST_CONNECT`].
    pub(super) async fn open(endpoint: &Endpoint, name: &str, echo: Echo) -> Result<Self, BusError> {
        let started = Instant::now();
        loop {
            match Self::try_open(endpoint, name, echo, Comeback::Always).await {
                Ok(link) => return Ok(link),
                Err(error) => {
                    let final_answer = matches!(
                        error.kind(),
                        ConnectErrorKind::AuthorizationViolation
                            | ConnectErrorKind::Authentication
                            | ConnectErrorKind::ServerParse
                    );
                    if final_answer || started.elapsed() + BETWEEN_CONNECTS > FIRST_CONNECT {
                        return Err(endpoint.failure(&error));
                    }
                }
            }
            tokio::time::sleep(BETWEEN_CONNECTS).await;
        }
    }

    /// Connects once, for a connection that ends with its first loss: then every subscription of it ends, and nothing
    /// that it still holds is sent later. async-nats cannot be told not to reconnect, but it can be given a place to
    /// reconnect to where nobody listens, and one try.
    pub(super) async fn open_once(endpoint: &Endpoint, name: &str) -> Result<Self, BusError> {
        let link = Self::try_open(endpoint, name, Echo::No, Comeback::Never).await;
        let link = link.map_err(|error| endpoint.failure(&error))?;
        let nowhere =
            tokio::time::timeout(ROUND_TRIP, link.client.set_server_pool("nats://127.0.0.1:0")).await;
        let operation = || format!("connect to NATS at {}", endpoint.shown);
        nowhere.map_err(BusError::of(operation()))?.map_err(BusError::of(operation()))?;
        Ok(link)
    }

    async fn try_open(
        endpoint: &Endpoint,
        name: &str,
        echo: Echo,
        comeback: Comeback,
    ) -> Result<Self, async_nats::ConnectError> {
        let health = Arc::new(Health {
            name: name.to_owned(),
            losses: watch::Sender::new(0),
            missed: watch::Sender::new(0),
        });
        let mut options = endpoint.options(name, &health);
        if echo == Echo::No {
            options = options.no_echo();
        }
        if comeback == Comeback::Never {
            options = options.max_reconnects(1).ignore_discovered_servers();
        }
        let client = endpoint.connect(options).await?;
        Ok(Self { client, health })
    }

    /// Whether the server answers, as far as is known.
    pub(super) fn connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Waits until the server answers.
    pub(super) async fn wait_connected(&self) {
        let mut missed = self.missed();
        while !self.connected() {
            // A lost event of the client costs this long at most.
            let _ = tokio::time::timeout(LOOK_AGAIN, missed.changed()).await;
        }
    }

    /// Follows the losses of the connection.
    pub(super) fn losses(&self) -> watch::Receiver<u64> {
        self.health.losses.subscribe()
    }

    /// Follows what may have made us miss messages.
    pub(super) fn missed(&self) -> watch::Receiver<u64> {
        self.health.missed.subscribe()
    }

    /// Waits until the server has seen everything that was sent before, a subscription for instance. The client's own
    /// `flush` only empties its buffer. Needs a connection with [`Echo::Yes`].
    pub(super) async fn round_trip(&self) -> Result<(), BusError> {
        let inbox = self.client.new_inbox();
        let asked = async {
            let mut answer =
                self.client.subscribe(inbox.clone()).await.map_err(|_| "it takes no subscription")?;
            self.client.publish(inbox, bytes::Bytes::new()).await.map_err(|_| "it takes no message")?;
            answer.next().await.map(drop).ok_or("the connection is closed")
        };
        let answered = tokio::time::timeout(ROUND_TRIP, asked).await.unwrap_or(Err("it does not answer"));
        answered.map_err(BusError::of("reach NATS"))
    }

    /// Hands a message to the client, for a connection that is up: in order with the others, and stored nowhere.
    pub(super) async fn publish(&self, subject: String, payload: bytes::Bytes) -> bool {
        if !self.connected() {
            return false;
        }
        let handed = tokio::time::timeout(HAND_OVER, self.client.publish(subject, payload)).await;
        matches!(handed, Ok(Ok(())))
    }

    /// The server's version.
    pub(super) fn version(&self) -> String {
        self.client.server_info().version
    }

    /// Whether the server is at least of this version.
    pub(super) fn at_least(&self, major: i64, minor: i64) -> bool {
        self.client.is_server_compatible(major, minor, 0)
    }

    /// Refuses a server that is too old.
    pub(super) fn check_version(&self, endpoint: &Endpoint) -> Result<(), BusError> {
        if self.client.is_server_compatible(OLDEST.0, OLDEST.1, OLDEST.2) {
            return Ok(());
        }
        let (major, minor, _) = OLDEST;
        Err(BusError {
            operation: format!("use NATS at {}", endpoint.shown),
            source: format!("nats-server {} is too old; install {major}.{minor} or later", self.version())
                .into(),
        })
    }
}

impl NatsOptions {
    /// The name of one of the connections.
    pub(super) fn connection_name(&self, part: &str) -> String {
        format!("{}-{part}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_shows_hosts_and_keeps_credentials_apart() {
        let endpoint = Endpoint::parse("nats://me:s%40cret@one:4333, nats://two").expect("two servers");
        assert_eq!(endpoint.shown, "one:4333,two:4222");
        assert_eq!(endpoint.user, Some(("me".to_owned(), "s@cret".to_owned())));
        assert!(endpoint.addresses.iter().all(|address| !address.as_url_str().contains('@')));
        let token = Endpoint::parse("nats://t0ken@one").expect("a server with a token");
        assert_eq!((token.user, token.token.as_deref()), (None, Some("t0ken")));
    }

    #[test]
    fn a_url_that_is_none_is_refused_without_being_repeated() {
        for url in ["", "http://me:s3cret@host", "nats://me:s3cret@", "nats://me:s3cret@ho st"] {
            let error = Endpoint::parse(url).err().expect("a refusal");
            let text = format!("{error}: {}", error.source);
            assert!(!text.contains("s3cret"), "{text}");
        }
    }

    #[test]
    fn reconnects_come_quickly_and_at_most_a_second_apart() {
        assert_eq!(backoff(1), Duration::ZERO);
        assert_eq!(backoff(2), Duration::from_millis(40));
        assert_eq!(backoff(usize::MAX), LONGEST_BACKOFF);
    }
}
