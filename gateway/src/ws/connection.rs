//! One connection, from its token to its close.

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures::future::BoxFuture;
use futures::stream::{AbortHandle, BoxStream, FuturesUnordered, SelectAll, SplitSink, SplitStream};
use futures::{FutureExt, SinkExt, StreamExt, stream};
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

use crate::app::App;
use crate::auth::Principal;
use crate::auth::token::TokenHash;
use crate::config::ms;
use crate::executing;
use crate::failure::Failure;
use crate::live::{FeedTail, StreamTail, Tail};
use crate::request::{Caller, Write};
use crate::routes::{AnyTail, check_visible, feed_after, feed_reader};
use crate::status;
use crate::trace_context::TraceContext;

use super::messages::{self, Action, Channel, ClientMessage, Misunderstood};
use super::outbox::{Outbox, Slow, outbox};
use super::{GOING_AWAY, SLOW, UNAUTHENTICATED};

/// Commands of one connection under way at once; further messages wait.
const MAX_COMMANDS: usize = 16;
/// Silent heartbeats after which a client counts as gone.
const SILENT_HEARTBEATS: u32 = 3;
/// How long a close frame may take to leave. A slow client gets long, so that it can still read why.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
const SLOW_CLOSE_PATIENCE: Duration = Duration::from_secs(30);

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The client closed it, or the network did.
    Gone,
    /// The process stops.
    GoingAway,
    /// The client does not read.
    Slow,
    /// No valid token.
    Unauthenticated,
}

impl From<Slow> for End {
    fn from(_: Slow) -> Self {
        Self::Slow
    }
}

/// A caller with what its token is recognised by.
type Known = (Arc<Principal>, TokenHash);

/// Serves a connection until its end. `known` is the caller of the `Authorization` header, if there was one.
pub(crate) async fn serve(app: Arc<App>, socket: WebSocket, known: Option<Known>, trace: TraceContext) {
    let _counted = app.metrics.sockets.count();
    let (mut sink, mut stream) = socket.split();
    let known = match known {
        Some(known) => Ok(known),
        None => first_message(&app, &mut stream).await,
    };
    let end = match known {
        Ok((principal, token)) => {
            let (outbox, outgoing) = outbox(app.config.websocket_buffer_bytes, ms(app.config.slow_client_ms));
            let connection = Connection {
                app: app.clone(),
                caller: Caller { principal, trace },
                token,
                outbox,
                names: HashMap::new(),
                tails: SelectAll::new(),
                commands: FuturesUnordered::new(),
                heard: Instant::now(),
            };
            let writing = pin!(outgoing.write_to(&mut sink));
            tokio::select! {
                end = connection.run(&mut stream) => end,
                () = writing => End::Gone,
            }
        }
        Err(end) => end,
    };
    close(&app, sink, stream, end).await;
}

/// The token as the first message, in time.
async fn first_message(app: &App, stream: &mut SplitStream<WebSocket>) -> Result<Known, End> {
    let wait = async {
        loop {
            match stream.next().await {
                Some(Ok(Message::Text(text))) => break Some(text),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Binary(_))) => break Some(Utf8Bytes::default()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => break None,
            }
        }
    };
    let message = tokio::select! {
        message = tokio::time::timeout(ms(app.config.websocket_auth_ms), wait) => message,
        () = app.draining.cancelled() => return Err(End::GoingAway),
    };
    let text = message.map_err(|_| End::Unauthenticated)?.ok_or(End::Gone)?;
    let Ok(ClientMessage::Auth(token)) = messages::read(&text) else { return Err(End::Unauthenticated) };
    let hash = TokenHash::of(&token);
    let principal = app.auth.recognise(&hash).await.map_err(|_| End::Unauthenticated)?;
    Ok((principal, hash))
}

/// Tells the client why, and lets it answer, so that the reason is not lost with the connection.
async fn close(
    app: &App,
    mut sink: SplitSink<WebSocket, Message>,
    mut stream: SplitStream<WebSocket>,
    end: End,
) {
    let (code, reason, patience) = match end {
        End::Gone => return,
        End::GoingAway => (GOING_AWAY, "the server is stopping; connect again", CLOSE_PATIENCE),
        End::Unauthenticated => (UNAUTHENTICATED, "send a valid key or token", CLOSE_PATIENCE),
        End::Slow => {
            app.metrics.slow_clients.fetch_add(1, Ordering::Relaxed);
            tracing::info!("a WebSocket client was cut off because it did not read");
            (SLOW, "the client does not read; resume from the last event", SLOW_CLOSE_PATIENCE)
        }
    };
    let frame = Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) }));
    let send = async {
        tokio::select! {
            sent = sink.send(frame) => sent.is_ok(),
            // A process that stops does not wait for a client that does not read.
            () = async { app.draining.cancelled().await; tokio::time::sleep(CLOSE_PATIENCE).await } => false,
        }
    };
    if tokio::time::timeout(patience, send).await.unwrap_or(false) {
        let answered = async { while let Some(Ok(_)) = stream.next().await {} };
        let _ = tokio::time::timeout(CLOSE_PATIENCE, answered).await;
    }
}

/// What a tail gives, with the subscription that it is for.
type Told = (Arc<str>, Arc<str>, Tail);

struct Connection {
    app: Arc<App>,
    caller: Caller,
    token: TokenHash,
    outbox: Outbox,
    /// Subscriptions by name.
    names: HashMap<Arc<str>, AbortHandle>,
    tails: SelectAll<BoxStream<'static, Told>>,
    commands: FuturesUnordered<BoxFuture<'static, Message>>,
    /// When the client last sent anything.
    heard: Instant,
}

impl Connection {
    async fn run(mut self, stream: &mut SplitStream<WebSocket>) -> End {
        let heartbeat = ms(self.app.config.heartbeat_ms.max(100));
        let mut beats = tokio::time::interval_at(Instant::now() + heartbeat, heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let draining = self.app.draining.clone();
        loop {
            let step = tokio::select! {
                () = draining.cancelled() => Err(End::GoingAway),
                message = stream.next(), if self.commands.len() < MAX_COMMANDS => self.hear(message).await,
                Some(told) = self.tails.next(), if !self.tails.is_empty() => self.tell(told).await,
                Some(message) = self.commands.next(), if !self.commands.is_empty() => {
                    self.outbox.push(message).await.map_err(End::from)
                }
                _ = beats.tick() => self.beat(heartbeat).await,
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    async fn hear(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        self.heard = Instant::now();
        match message {
            Some(Ok(Message::Text(text))) => match messages::read(&text) {
                Ok(message) => self.obey(message).await,
                Err(Misunderstood { id, failure }) => self.say(messages::error(id, None, &failure)).await,
            },
            Some(Ok(Message::Binary(_))) => {
                let failure =
                    Failure::new(status::INVALID_JSON, "messages are text: send JSON in text frames");
                self.say(messages::error(None, None, &failure)).await
            }
            // Pongs to pings are sent by the protocol layer.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => Err(End::Gone),
        }
    }

    async fn obey(&mut self, message: ClientMessage) -> Result<(), End> {
        match message {
            // Said in the header or before already.
            ClientMessage::Auth(_) => Ok(()),
            ClientMessage::Ping(id) => self.say(messages::pong(id)).await,
            ClientMessage::Unsubscribe(name) => {
                if let Some(handle) = self.names.remove(name.as_str()) {
                    handle.abort();
                }
                Ok(())
            }
            ClientMessage::Subscribe(name, channel) => match self.subscribe(&name, channel).await {
                Ok(()) => Ok(()),
                Err(failure) => {
                    let id = Some(serde_json::Value::from(name.as_str()));
                    self.say(messages::error(id, Some(&name), &failure)).await
                }
            },
            ClientMessage::Command(id, action) => {
                let (app, caller) = (self.app.clone(), self.caller.clone());
                self.commands.push(
                    async move {
                        match act(&app, caller, action).await {
                            Ok(answer) => messages::result(id, &answer),
                            Err(failure) => messages::error(Some(id), None, &failure),
                        }
                    }
                    .boxed(),
                );
                Ok(())
            }
        }
    }

    async fn subscribe(&mut self, name: &str, channel: Channel) -> Result<(), Failure> {
        if self.names.contains_key(name) {
            let detail = format!("the subscription `{name}` exists already; choose another id");
            return Err(Failure::new(status::SUBSCRIPTION_EXISTS, detail));
        }
        let most = self.app.config.max_subscriptions as usize;
        if self.names.len() >= most {
            let detail = format!("a connection has at most {most} subscriptions; end some, or open another");
            return Err(Failure::new(status::TOO_MANY_SUBSCRIPTIONS, detail));
        }
        let tail = match channel {
            Channel::Execution { execution, after_version } => {
                check_visible(&self.app, &self.caller, execution).await?;
                let log = self.app.log.clone();
                AnyTail::Stream(Box::new(StreamTail::new(&self.app.hub, log, execution, after_version)))
            }
            Channel::Events { after_position, filter } => {
                let after = feed_after(&self.app, after_position.as_deref()).await?;
                let reader = feed_reader(&self.app, &self.caller, filter);
                AnyTail::Feed(Box::new(FeedTail::new(&self.app.hub, reader, after)))
            }
        };
        let (name, prefix): (Arc<str>, Arc<str>) = (Arc::from(name), Arc::from(messages::event_prefix(name)));
        let key = name.clone();
        let told = stream::unfold(Some(tail), move |tail| {
            let (name, prefix) = (name.clone(), prefix.clone());
            async move {
                let mut tail = tail?;
                let next = tail.next().await;
                let over = matches!(next, Tail::End | Tail::Failed(_));
                Some(((name, prefix, next), (!over).then_some(tail)))
            }
        });
        let (told, handle) = stream::abortable(told);
        self.names.insert(key, handle);
        self.tails.push(told.boxed());
        Ok(())
    }

    async fn tell(&mut self, (name, prefix, tail): Told) -> Result<(), End> {
        // What was read before the client unsubscribed is not told any more.
        if !self.names.contains_key(&name) {
            return Ok(());
        }
        match tail {
            Tail::Event { event, resume } => self.say(messages::event(&prefix, &resume, &event)).await,
            Tail::CaughtUp => self.say(messages::caught_up(&name)).await,
            Tail::End => {
                self.names.remove(&name);
                Ok(())
            }
            Tail::Failed(error) => {
                self.names.remove(&name);
                let failure = Failure::from(error);
                self.say(messages::error(None, Some(&name), &failure)).await
            }
        }
    }

    /// A sign of life, and whether the token is still good.
    async fn beat(&mut self, heartbeat: Duration) -> Result<(), End> {
        if self.heard.elapsed() > heartbeat * SILENT_HEARTBEATS {
            return Err(End::Slow);
        }
        match self.app.auth.recognise(&self.token).await {
            Ok(_) => self.say(Message::Ping(bytes::Bytes::new())).await,
            Err(failure) if failure.code == status::UNAUTHENTICATED.code => Err(End::Unauthenticated),
            // A store that does not answer for a moment does not end connections.
            Err(_) => Ok(()),
        }
    }

    async fn say(&mut self, message: Message) -> Result<(), End> {
        Ok(self.outbox.push(message).await?)
    }
}

async fn act(app: &App, caller: Caller, action: Action) -> Result<executing::ExecutionAnswer, Failure> {
    // One connection is in one trace; each command begins its own.
    let write = Write::without_key(Caller { trace: TraceContext::fresh(), ..caller });
    match action {
        Action::Execute(request) => executing::start(app, write, *request, "api").await,
        Action::Cancel { execution, reason } => executing::cancel(app, write, execution, reason).await,
        Action::Signal { execution, name, payload } => {
            executing::signal(app, write, execution, name, payload).await
        }
    }
}
