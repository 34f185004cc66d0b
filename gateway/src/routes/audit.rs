//! `/audit`: who asked for what, from where, and what became of it.

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use domain::audit::event::AuditResult;
use domain::ids::TenantId;
use domain::time::Timestamp;
use futures::stream;
use http::{HeaderValue, header};
use read_models::{AuditCursor, AuditFilter, AuditRow, ReadModels};
use serde::Serialize;
use serde_json::Value;
use std::io;
use std::sync::Arc;
use uuid::Uuid;

use crate::answer::List;
use crate::app::App;
use crate::cursor::{self, Cursor};
use crate::failure::Failure;
use crate::reading::{read_error, wait_until_fresh};
use crate::request::{Caller, Query};
use crate::schemas;

/// Rows of an export that are read at once. No more are in memory, however slowly the client reads.
const EXPORT_PAGE: usize = 200;

/// The filters of both routes.
const FILTERS: [&str; 8] = ["actor", "user", "action", "result", "resource", "ip", "after", "before"];

/// An entry as it is shown.
#[derive(Serialize)]
struct AuditAnswer {
    id: Uuid,
    at: Timestamp,
    actor: String,
    user: Option<Uuid>,
    action: String,
    permission: Option<String>,
    route: Option<String>,
    resource: Option<String>,
    result: AuditResult,
    code: Option<String>,
    position: Option<String>,
    ip: Option<String>,
    user_agent: Option<String>,
    count: u32,
}

impl AuditAnswer {
    fn of(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at: row.at,
            actor: row.actor,
            user: row.user,
            action: row.action,
            permission: row.permission,
            route: row.route,
            resource: row.resource,
            result: row.result,
            code: row.code,
            position: row.position.map(|position| position.to_string()),
            ip: row.ip,
            user_agent: row.user_agent,
            count: row.count,
        }
    }
}

/// The tenant's audit, the newest first. A page may be short, even empty, and still have a successor.
#[utoipa::path(get, path = "/audit", tag = "audit",
    params(("actor" = Option<String>, Query, description = "Such as `user:<id>`, `key:<fingerprint>` or `anonymous:-`."),
        ("user" = Option<Uuid>, Query, description = "A user, also through a key."),
        ("action" = Option<String>, Query, description = "Such as `StartExecution`, `Login` or `Denied`."),
        ("result" = Option<String>, Query, description = "`accepted`, `rejected`, `denied` or `unknown`."),
        ("resource" = Option<String>, Query), ("ip" = Option<String>, Query),
        ("after" = Option<String>, Query, description = "RFC 3339"),
        ("before" = Option<String>, Query, description = "RFC 3339"),
        ("limit" = Option<u16>, Query, description = "1 to 200."), ("cursor" = Option<String>, Query),
        ("Everline-Min-Position" = Option<String>, Header)),
    responses((status = 200, description = "A page.", body = schemas::AuditList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query,
) -> Result<Response, Failure> {
    let known: Vec<_> = FILTERS.into_iter().chain(["limit", "cursor"]).collect();
    query.only(&known)?;
    let limit = query.limit()?;
    let cursor = query.text("cursor").map(parse_cursor).transpose()?;
    let filter = filter(&query)?;
    caller.may_kind("audit")?;
    wait_until_fresh(&app, &caller.principal, &query, None).await?;
    let page = app.models.audit(&caller.principal.tenant, &filter, cursor, limit).await;
    let page = page.map_err(read_error)?;
    let items = page.items.into_iter().map(AuditAnswer::of).collect();
    List { items, next_cursor: page.next.map(encode_cursor) }.answer(&query.uri)
}

/// All of the tenant's audit that passes the filters, the newest first, as JSON lines. It is read while it is sent: one that
/// is broken off ends without the end that HTTP gives a whole answer.
#[utoipa::path(get, path = "/audit/export", tag = "audit",
    params(("actor" = Option<String>, Query), ("user" = Option<Uuid>, Query), ("action" = Option<String>, Query),
        ("result" = Option<String>, Query), ("resource" = Option<String>, Query), ("ip" = Option<String>, Query),
        ("after" = Option<String>, Query, description = "RFC 3339"),
        ("before" = Option<String>, Query, description = "RFC 3339"),
        ("Everline-Min-Position" = Option<String>, Header)),
    responses((status = 200, description = "An entry a line, each as in the list.",
        content_type = "application/x-ndjson", body = String)))]
pub(crate) async fn export(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&FILTERS)?;
    let filter = filter(&query)?;
    caller.may_kind("audit")?;
    wait_until_fresh(&app, &caller.principal, &query, None).await?;
    let place = app.stream_place()?;
    let export = Export {
        models: app.models.clone(),
        tenant: caller.principal.tenant.clone(),
        filter,
        cursor: None,
        more: true,
    };
    let lines = stream::unfold((export, place), |(mut export, place)| async move {
        let page = export.next().await?;
        Some((page, (export, place)))
    });
    let mut response = Body::from_stream(lines).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    let name = HeaderValue::from_static("attachment; filename=\"audit.jsonl\"");
    headers.insert(header::CONTENT_DISPOSITION, name);
    Ok(response)
}

/// An export under way.
struct Export {
    models: ReadModels,
    tenant: TenantId,
    filter: AuditFilter,
    cursor: Option<AuditCursor>,
    more: bool,
}

impl Export {
    /// The next lines; `None` at the end.
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        while self.more {
            let page = self.models.audit(&self.tenant, &self.filter, self.cursor, EXPORT_PAGE).await;
            let page = match page {
                Ok(page) => page,
                Err(error) => {
                    self.more = false;
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "an export of the audit was broken off because the read model did not answer"
                    );
                    return Some(Err(io::Error::other("the read model does not answer")));
                }
            };
            self.cursor = page.next;
            self.more = self.cursor.is_some();
            // A page of a filter may be empty and still have a successor.
            if !page.items.is_empty() {
                return Some(lines(page.items));
            }
        }
        None
    }
}

fn lines(rows: Vec<AuditRow>) -> io::Result<Bytes> {
    let mut lines = Vec::with_capacity(rows.len() * 400);
    for row in rows {
        serde_json::to_writer(&mut lines, &AuditAnswer::of(row))?;
        lines.push(b'\n');
    }
    Ok(lines.into())
}

fn filter(query: &Query) -> Result<AuditFilter, Failure> {
    let text = |name| query.text(name).map(str::to_owned);
    Ok(AuditFilter {
        actor: text("actor"),
        user: query.id("user")?,
        action: text("action"),
        result: query.text("result").map(result).transpose()?,
        resource: text("resource"),
        ip: text("ip"),
        after: query.time("after")?,
        before: query.time("before")?,
    })
}

/// A result that there is: a misspelt one would find nothing.
fn result(text: &str) -> Result<AuditResult, Failure> {
    serde_json::from_value(Value::from(text)).map_err(|_| {
        Failure::parameter("result", "`result` must be accepted, rejected, denied or unknown")
    })
}

fn encode_cursor(cursor: AuditCursor) -> String {
    Cursor::Name(format!("{}:{}", cursor.at.unix_ms(), cursor.id)).encode()
}

fn parse_cursor(text: &str) -> Result<AuditCursor, Failure> {
    let name = Cursor::name(text)?;
    let place = name.split_once(':').and_then(|(at, id)| {
        Some(AuditCursor { at: Timestamp::from_unix_ms(at.parse().ok()?), id: Uuid::try_parse(id).ok()? })
    });
    place.ok_or_else(cursor::refuse)
}
