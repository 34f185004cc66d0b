//! `/events`: the tenant's log over all partitions.

use axum::extract::State;
use axum::response::Response;
use domain::event::RecordedEvent;
use http::StatusCode;
use serde::Serialize;
use std::sync::Arc;

use crate::access::Followed;
use crate::answer::{json, link_next};
use crate::app::App;
use crate::failure::Failure;
use crate::live::{EventFilter, FeedFilter, FeedReader, FeedTail};
use crate::position::Offsets;
use crate::request::{Caller, Query};
use crate::{schemas, status};

use super::sse;

/// A page of the log.
#[derive(Serialize)]
struct EventPage {
    items: Vec<RecordedEvent>,
    /// Where to go on, also when there is nothing more now.
    resume: String,
    /// The same, while there is more now.
    next_cursor: Option<String>,
}

/// The tenant's log, merged by time; in order within a stream and a partition. A page may be short, even empty, and
/// still have a successor.
#[utoipa::path(get, path = "/events", tag = "events",
    params(("after_position" = Option<String>, Query, description = "`p:off`, a `resume` token, or `latest`."),
        ("category" = Option<String>, Query, description = "`execution`, `workflow`, `variables`."),
        ("type" = Option<String>, Query),
        ("filter" = Option<String>, Query, description = "CEL over `event`, for instance `event.type == 'execution.failed'`; what it cannot be evaluated on does not match."),
        ("limit" = Option<u16>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "Events after a position.", body = schemas::EventPage)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&["after_position", "category", "type", "filter", "limit", "cursor"])?;
    let limit = query.limit()?;
    caller.may_kind("event")?;
    let after = after(&app, query.text("cursor").or_else(|| query.text("after_position"))).await?;
    let page = reader(&app, &caller, filter(&query)?).page(after, limit).await?;
    let resume = page.after.token();
    let body = EventPage {
        items: page.events.into_iter().map(|(event, _)| event).collect(),
        next_cursor: page.more.then(|| resume.clone()),
        resume,
    };
    let mut response = json(StatusCode::OK, &body)?;
    link_next(&mut response, &query.uri, body.next_cursor.as_deref());
    Ok(response)
}

/// The tenant's log as it grows (SSE): events after a position, then live.
#[utoipa::path(get, path = "/events/stream", tag = "events",
    params(("after_position" = Option<String>, Query, description = "`p:off`, a `resume` token, or `latest`."),
        ("category" = Option<String>, Query), ("type" = Option<String>, Query),
        ("filter" = Option<String>, Query, description = "CEL over `event`, for instance `event.type == 'execution.failed'`; what it cannot be evaluated on does not match."),
        ("Last-Event-ID" = Option<String>, Header, description = "The `resume` token of the last event received.")),
    responses((status = 200, description = "Server-sent events; `id` is the `resume` token.",
        content_type = "text/event-stream", body = String)))]
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query,
    token: sse::Token,
) -> Result<Response, Failure> {
    query.only(&["after_position", "category", "type", "filter"])?;
    caller.may_kind("event")?;
    let position = query.last_event_id()?.or_else(|| query.text("after_position"));
    let after = after(&app, position).await?;
    let tail = FeedTail::new(&app.hub, reader(&app, &caller, filter(&query)?), after);
    sse::answer(&app, caller, token, Followed::Events, sse::AnyTail::Feed(Box::new(tail)))
}

/// Where a feed begins: at the start of the log, unless a position says otherwise.
pub(crate) async fn after(app: &App, position: Option<&str>) -> Result<Offsets, Failure> {
    match position {
        None => Ok(Offsets::start(app.log.partitions())),
        Some("latest") => {
            let heads = app.log.heads().await?;
            Ok(Offsets::new(heads.into_iter().map(|head| head.offset).collect()))
        }
        Some(text) => {
            let after = Offsets::parse(text, app.log.partitions())?;
            let heads = app.log.heads().await?;
            // Whoever has seen what is not there yet is of another log, or of one that was restored; told nothing, it
            // would miss what comes until then.
            if let Some(head) = heads.iter().find(|head| after.get(head.partition) > head.offset) {
                let detail = format!(
                    "the position is beyond the end of the log: partition {} ends at {}",
                    head.partition, head.offset
                );
                return Err(Failure::new(status::INVALID_POSITION, detail));
            }
            Ok(after)
        }
    }
}

/// A reader of the caller's log.
pub(crate) fn reader(app: &App, caller: &Caller, filter: FeedFilter) -> FeedReader {
    FeedReader { log: app.log.clone(), tenant: caller.principal.tenant.clone(), filter }
}

fn filter(query: &Query) -> Result<FeedFilter, Failure> {
    Ok(FeedFilter {
        category: query.text("category").map(str::to_owned),
        event_type: query.text("type").map(str::to_owned),
        expression: expression(query)?,
    })
}

/// The filter's expression, if the query has one.
pub(super) fn expression(query: &Query) -> Result<Option<EventFilter>, Failure> {
    query.text("filter").map(|text| EventFilter::parse(text, "/query/filter")).transpose()
}
