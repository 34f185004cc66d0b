//! One connection, from its token to its close.

use axum::extract::ws::{Message, Utf8Bytes, WebSocket};
use futures::StreamExt;
use futures::stream::SplitStream;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior};

use crate::access::{Changes, Followed, RightsChange};
use crate::app::App;
use crate::audit;
use crate::auth::{Credential, Principal};
use crate::client::Client;
use crate::config::ms;
use crate::executing::ExecutionAnswer;
use crate::failure::Failure;
use crate::limits;
use crate::live::{FeedTail, StreamTail, Tail};
use crate::request::Caller;
use crate::routes::{AnyTail, feed_after, feed_reader};
use crate::status;
use crate::trace_context::TraceContext;

use super::commands::CommandMessage;
use super::ending::{End, close};
use super::messages::{self, Channel, ClientMessage, Misunderstood};
use super::outbox::{Outbox, outbox};
use super::rights;
use super::subscriptions::{Subscriptions, Told};

/// Commands of one connection under way at once; further messages wait.
const MAX_COMMANDS: usize = 16;
/// Silent heartbeats after which a client counts as gone.
const SILENT_HEARTBEATS: u32 = 3;
/// The most bytes that are read of somebody unknown. A token has far fewer.
const MAX_FIRST_MESSAGE: usize = 8 * 1024;

/// A caller with what its token is recognised by.
type Known = (Arc<Principal>, Credential);

/// Serves a connection until its end. `known` is the caller of the `Authorization` header, if there was one.
pub(crate) async fn serve(
    app: Arc<App>,
    socket: WebSocket,
    known: Option<Known>,
    client: Client,
    trace: TraceContext,
) {
    let _counted = app.metrics.sockets.count();
    let (mut sink, mut stream) = socket.split();
    let known = match known {
        Some(known) => Ok(known),
        None => first_message(&app, &client, &mut stream).await,
    };
    let end = match known {
        Ok((principal, token)) => {
            let (outbox, outgoing) = outbox(app.config.websocket_buffer_bytes, ms(app.config.slow_client_ms));
            let connection = Connection {
                app: app.clone(),
                // Changes are heard before anything is judged.
                changes: app.rights.changes(),
                expires: rights::expiry(&app, &principal),
                caller: Caller { principal, trace, authority: None, client },
                token,
                outbox,
                subscriptions: Subscriptions::new(),
                commands: JoinSet::new(),
                heard: Instant::now(),
                unsure: false,
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
async fn first_message(
    app: &App,
    client: &Client,
    stream: &mut SplitStream<WebSocket>,
) -> Result<Known, End> {
    let wait = async {
        loop {
            match stream.next().await {
                Some(Ok(Message::Text(text))) if text.len() > MAX_FIRST_MESSAGE => break Err(End::TooLarge),
                Some(Ok(Message::Text(text))) => break Ok(text),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(Message::Binary(_))) => break Ok(Utf8Bytes::default()),
                Some(Ok(Message::Close(_))) => break Err(End::Closed),
                Some(Err(error)) => break Err(error.into()),
                None => break Err(End::Gone),
            }
        }
    };
    let message = tokio::select! {
        message = tokio::time::timeout(ms(app.config.websocket_auth_ms), wait) => message,
        () = app.leaving.cancelled() => return Err(End::GoingAway),
    };
    let text = message.map_err(|_| End::Unauthenticated)??;
    let Ok(ClientMessage::Auth(token)) = messages::read(&text) else { return Err(End::Unauthenticated) };
    let hash = Credential::bearer(&token);
    let principal = app.auth.recognise(&hash).await.map_err(|failure| {
        audit::note_denied(app, &client.with_message("auth"), None, &failure);
        End::Unauthenticated
    })?;
    Ok((principal, hash))
}

/// A command within the caller's limits; what is denied is noted.
async fn carry_out(app: &App, command: CommandMessage, caller: Caller) -> Result<ExecutionAnswer, Failure> {
    let (client, principal) = (caller.client.clone(), caller.principal.clone());
    let work = async {
        limits::admit_message(app, &principal, &client).await?;
        command.carry_out(app, caller).await
    };
    work.await.inspect_err(|failure| audit::note_denied(app, &client, Some(&principal), failure))
}

pub(super) struct Connection {
    pub(super) app: Arc<App>,
    pub(super) caller: Caller,
    pub(super) token: Credential,
    /// When the token expires.
    pub(super) expires: Instant,
    /// Changes of anybody's rights.
    changes: Changes,
    outbox: Outbox,
    pub(super) subscriptions: Subscriptions,
    /// Each in a task, for the reason that tails are: a command may hold a connection to the log.
    commands: JoinSet<Message>,
    /// When the client last sent anything.
    heard: Instant,
    /// Whether what is followed must be judged again: it could not be, or the caller's rights are others.
    pub(super) unsure: bool,
}

impl Connection {
    async fn run(mut self, stream: &mut SplitStream<WebSocket>) -> End {
        let heartbeat = ms(self.app.config.heartbeat_ms.max(100));
        let mut beats = tokio::time::interval_at(Instant::now() + heartbeat, heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let leaving = self.app.leaving.clone();
        let mut expiry = pin!(tokio::time::sleep_until(self.expires));
        loop {
            if expiry.deadline() != self.expires {
                expiry.as_mut().reset(self.expires);
            }
            let step = tokio::select! {
                () = leaving.cancelled() => Err(End::GoingAway),
                message = stream.next(), if self.commands.len() < MAX_COMMANDS => self.hear(message).await,
                Some(told) = self.subscriptions.next() => self.tell(told).await,
                Some(done) = self.commands.join_next(), if !self.commands.is_empty() => self.answer(done).await,
                change = self.changes.next() => self.look_again(&change).await,
                () = &mut expiry => self.recognise().await,
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
            Some(Ok(Message::Close(_))) => Err(End::Closed),
            Some(Err(error)) => Err(error.into()),
            None => Err(End::Gone),
        }
    }

    async fn obey(&mut self, message: ClientMessage) -> Result<(), End> {
        match message {
            ClientMessage::Auth(_) => {
                let failure = Failure::new(status::BAD_REQUEST, "this connection is authenticated already");
                self.say(messages::error(None, None, &failure)).await
            }
            ClientMessage::Ping(id) => self.say(messages::pong(id)).await,
            ClientMessage::Unsubscribe(name) => {
                if self.subscriptions.remove(&name) {
                    return Ok(());
                }
                let detail = "there is no subscription with this id; it may have ended";
                let failure = Failure::new(status::NOT_FOUND, detail);
                self.say(messages::error(Some(name.into()), None, &failure)).await
            }
            ClientMessage::Subscribe(name, channel) => {
                self.recognise().await?;
                match self.subscribe(&name, channel).await {
                    Ok(()) => Ok(()),
                    Err(failure) => {
                        let client = self.caller.client.with_message("subscribe");
                        audit::note_denied(&self.app, &client, Some(&self.caller.principal), &failure);
                        let id = Some(serde_json::Value::from(name.as_str()));
                        self.say(messages::error(id, Some(&name), &failure)).await
                    }
                }
            }
            ClientMessage::Command(id, command) => {
                // Its right is what it is now, not what it was when the connection began.
                self.recognise().await?;
                let (app, mut caller) = (self.app.clone(), self.caller.clone());
                caller.client = caller.client.with_message(command.verb());
                self.commands.spawn(async move {
                    match carry_out(&app, *command, caller).await {
                        Ok(answer) => messages::result(id, &answer),
                        Err(failure) => messages::error(Some(id), None, &failure),
                    }
                });
                Ok(())
            }
        }
    }

    async fn subscribe(&mut self, name: &str, channel: Channel) -> Result<(), Failure> {
        limits::admit_message(&self.app, &self.caller.principal, &self.caller.client).await?;
        if self.subscriptions.contains(name) {
            let detail = format!("the subscription `{name}` exists already; choose another id");
            return Err(Failure::new(status::SUBSCRIPTION_EXISTS, detail));
        }
        let most = self.app.config.max_subscriptions as usize;
        if self.subscriptions.len() >= most {
            let detail = format!("a connection has at most {most} subscriptions; end some, or open another");
            return Err(Failure::new(status::TOO_MANY_SUBSCRIPTIONS, detail));
        }
        let followed = match &channel {
            Channel::Execution { execution, .. } => Followed::Execution(*execution),
            Channel::Events { .. } => Followed::Events,
        };
        followed.check(&self.app, &self.caller.principal).await?;
        let tail = match channel {
            Channel::Execution { execution, after_version, filter } => {
                let log = self.app.log.clone();
                let tail = StreamTail::new(&self.app.hub, log, execution, after_version);
                AnyTail::Stream(Box::new(tail.filtered(filter)))
            }
            Channel::Events { after_position, filter } => {
                let after = feed_after(&self.app, after_position.as_deref()).await?;
                let reader = feed_reader(&self.app, &self.caller, filter);
                AnyTail::Feed(Box::new(FeedTail::new(&self.app.hub, reader, after)))
            }
        };
        self.subscriptions.add(name, followed, tail);
        Ok(())
    }

    async fn answer(&mut self, done: Result<Message, JoinError>) -> Result<(), End> {
        match done.map_err(JoinError::try_into_panic) {
            Ok(message) => self.say(message).await,
            // A panic in a command ends its connection, as if there were no task.
            Err(Ok(panic)) => std::panic::resume_unwind(panic),
            Err(Err(_)) => Ok(()),
        }
    }

    async fn tell(&mut self, Told { name, prefix, tail, .. }: Told) -> Result<(), End> {
        match tail {
            Tail::Event { event, resume } => self.say(messages::event(&prefix, &resume, &event)).await,
            Tail::CaughtUp(resume) => self.say(messages::caught_up(&name, &resume)).await,
            Tail::Passed(resume) => self.say(messages::passed(&name, &resume)).await,
            Tail::End => {
                self.subscriptions.remove(&name);
                self.say(messages::ended(&name)).await
            }
            Tail::Failed(error) => {
                self.subscriptions.remove(&name);
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
        self.recognise().await?;
        if std::mem::take(&mut self.unsure) {
            self.look_again(&RightsChange::Any).await?;
        }
        self.say(Message::Ping(bytes::Bytes::new())).await
    }

    pub(super) async fn say(&mut self, message: Message) -> Result<(), End> {
        Ok(self.outbox.push(message).await?)
    }
}
