//! HTTP statuses, all of them: what each error code and each kind of rejection is answered with.
//!
//! Owns: the gateway's own error codes. Codes of deciders come from `domain` and get their status by
//! [`RejectionKind`]. A code is stable: clients match on it, and each has a page under `docs/errors/`.

use domain::rejection::{Rejection, RejectionKind};
use http::StatusCode;

/// A stable error code with what it is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode {
    /// Stable snake_case code.
    pub code: &'static str,
    /// The HTTP status.
    pub status: StatusCode,
    /// The problem's title: the same for every occurrence.
    pub title: &'static str,
}

macro_rules! codes {
    ($($name:ident = $code:literal, $status:ident, $title:literal;)+) => {
        $(#[doc = $title] pub(crate) const $name: ErrorCode =
            ErrorCode { code: $code, status: StatusCode::$status, title: $title };)+

        /// Every error code of the gateway itself.
        pub const CODES: &[ErrorCode] = &[$($name),+];
    };
}

codes! {
    INVALID_JSON = "invalid_json", BAD_REQUEST, "The body is not JSON";
    INVALID_UTF8 = "invalid_utf8", BAD_REQUEST, "The request is not UTF-8";
    INVALID_HEADER = "invalid_header", BAD_REQUEST, "A header is not valid";
    INVALID_PARAMETER = "invalid_parameter", BAD_REQUEST, "A query parameter is not valid";
    INVALID_CURSOR = "invalid_cursor", BAD_REQUEST, "The cursor is not one of ours";
    INVALID_POSITION = "invalid_position", BAD_REQUEST, "The position is not one of ours";
    INVALID_IDEMPOTENCY_KEY = "invalid_idempotency_key", BAD_REQUEST, "The Idempotency-Key is not valid";
    BAD_REQUEST = "bad_request", BAD_REQUEST, "The request is not valid";
    AUTHORIZATION_PENDING = "authorization_pending", BAD_REQUEST, "Nobody has approved the code yet";
    SLOW_DOWN = "slow_down", BAD_REQUEST, "The device asks too often";
    ACCESS_DENIED = "access_denied", BAD_REQUEST, "The login was turned away";
    EXPIRED_TOKEN = "expired_token", BAD_REQUEST, "The code has expired";
    LOGIN_STATE_INVALID = "login_state_invalid", BAD_REQUEST, "The answer is for no login of this browser";
    PROVIDER_TOKEN_INVALID = "provider_token_invalid", UNAUTHORIZED, "The provider's token is not valid";
    UNAUTHENTICATED = "unauthenticated", UNAUTHORIZED, "A valid key or token is needed";
    INVALID_CREDENTIALS = "invalid_credentials", UNAUTHORIZED, "E-mail or password is wrong";
    INVALID_REFRESH_TOKEN = "invalid_refresh_token", UNAUTHORIZED, "The refresh token is not valid";
    REFRESH_TOKEN_REUSED = "refresh_token_reused", UNAUTHORIZED, "The refresh token was used before";
    SECOND_FACTOR_REQUIRED = "second_factor_required", UNAUTHORIZED, "A second factor is needed";
    INVALID_SECOND_FACTOR = "invalid_second_factor", UNAUTHORIZED, "The second factor is wrong";
    INVALID_ONE_TIME_TOKEN = "invalid_one_time_token", UNAUTHORIZED, "The token is not valid";
    CSRF_FAILED = "csrf_failed", FORBIDDEN, "The request may have been forged";
    FORBIDDEN = "forbidden", FORBIDDEN, "This is not allowed to you";
    REGISTRATION_CLOSED = "registration_closed", FORBIDDEN, "Registration is closed";
    LOGIN_REFUSED = "login_refused", FORBIDDEN, "The provider did not let you in";
    ACCOUNT_NOT_LINKED = "account_not_linked", FORBIDDEN, "No account is for this identity";
    NOT_FOUND = "not_found", NOT_FOUND, "There is nothing here";
    WORKFLOW_NOT_FOUND = "workflow_not_found", NOT_FOUND, "There is no such workflow";
    WORKFLOW_VERSION_NOT_FOUND = "workflow_version_not_found", NOT_FOUND, "There is no such version";
    EXECUTION_NOT_FOUND = "execution_not_found", NOT_FOUND, "There is no such execution";
    BULK_NOT_FOUND = "bulk_not_found", NOT_FOUND, "There is no such bulk job";
    DEAD_LETTER_NOT_FOUND = "dead_letter_not_found", NOT_FOUND, "There is no such dead letter";
    VARIABLE_NOT_FOUND = "variable_not_found", NOT_FOUND, "There is no such variable";
    EXECUTION_VERSION_NOT_FOUND = "execution_version_not_found", NOT_FOUND, "The execution has no such version";
    SESSION_NOT_FOUND = "session_not_found", NOT_FOUND, "There is no such session";
    NODE_NOT_FOUND = "node_not_found", NOT_FOUND, "There is no such node";
    PROVIDER_NOT_FOUND = "provider_not_found", NOT_FOUND, "There is no such provider";
    USER_CODE_NOT_FOUND = "user_code_not_found", NOT_FOUND, "No device shows this code";
    METHOD_NOT_ALLOWED = "method_not_allowed", METHOD_NOT_ALLOWED, "The method is not allowed here";
    REQUEST_TIMEOUT = "request_timeout", REQUEST_TIMEOUT, "The body did not arrive in time";
    SUBSCRIPTION_EXISTS = "subscription_exists", CONFLICT, "There is a subscription with this id";
    TOO_MANY_SUBSCRIPTIONS = "too_many_subscriptions", CONFLICT, "There are too many subscriptions";
    NOT_A_SESSION = "not_a_session", CONFLICT, "This is not a session";
    TOTP_ENABLED = "totp_enabled", CONFLICT, "There is a second factor already";
    TOTP_NOT_ENABLED = "totp_not_enabled", CONFLICT, "There is no second factor";
    VERSION_MISMATCH = "version_mismatch", PRECONDITION_FAILED, "It has changed since it was read";
    BODY_TOO_LARGE = "body_too_large", PAYLOAD_TOO_LARGE, "The body is too large";
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "The body must be JSON";
    INVALID_BODY = "invalid_body", UNPROCESSABLE_ENTITY, "The body is not valid";
    RESERVED_VALUE = "reserved_value", UNPROCESSABLE_ENTITY, "The value has a reserved shape";
    INVALID_EXPRESSION = "invalid_expression", UNPROCESSABLE_ENTITY, "The expression does not parse";
    INVALID_FILTER = "invalid_filter", UNPROCESSABLE_ENTITY, "The filter does not parse";
    EXPRESSION_FAILED = "expression_failed", UNPROCESSABLE_ENTITY, "The expression gave no value";
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused", UNPROCESSABLE_ENTITY, "The Idempotency-Key was used for another request";
    UPGRADE_REQUIRED = "upgrade_required", UPGRADE_REQUIRED, "This is a WebSocket";
    PRECONDITION_REQUIRED = "precondition_required", PRECONDITION_REQUIRED, "If-Match is needed";
    RATE_LIMITED = "rate_limited", TOO_MANY_REQUESTS, "Too many requests";
    TOO_MANY_ATTEMPTS = "too_many_attempts", TOO_MANY_REQUESTS, "Too many attempts";
    INTERNAL = "internal", INTERNAL_SERVER_ERROR, "Something went wrong here";
    OVERLOADED = "overloaded", SERVICE_UNAVAILABLE, "Too much to do";
    SCRIPTS_UNAVAILABLE = "scripts_unavailable", SERVICE_UNAVAILABLE, "Scripts cannot be run at the moment";
    READ_MODEL_BEHIND = "read_model_behind", SERVICE_UNAVAILABLE, "The read model is behind";
    REQUEST_TOOK_TOO_LONG = "request_took_too_long", SERVICE_UNAVAILABLE, "The request took too long";
    COMMAND_UNDECIDED = "command_undecided", SERVICE_UNAVAILABLE, "The command was not answered in time";
    PROVIDER_UNAVAILABLE = "provider_unavailable", SERVICE_UNAVAILABLE, "The provider does not answer";
    STORE_UNAVAILABLE = "store_unavailable", SERVICE_UNAVAILABLE, "The store does not answer";
}

/// The status of a decider's refusal.
pub(crate) fn of_rejection(rejection: &Rejection) -> (StatusCode, &'static str) {
    match rejection.kind {
        RejectionKind::NotFound => (StatusCode::NOT_FOUND, "There is no such thing"),
        RejectionKind::Conflict => (StatusCode::CONFLICT, "Its state does not allow this"),
        RejectionKind::Forbidden => (StatusCode::FORBIDDEN, FORBIDDEN.title),
        RejectionKind::PreconditionFailed => (StatusCode::PRECONDITION_FAILED, VERSION_MISMATCH.title),
        RejectionKind::Invalid => (StatusCode::UNPROCESSABLE_ENTITY, "The content is not valid"),
        // A document that is too large is the request's size; too many things of a kind is a state.
        RejectionKind::TooLarge if rejection.code.starts_with("too_many") => {
            (StatusCode::CONFLICT, "A limit is reached")
        }
        RejectionKind::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "It is too large"),
    }
}

/// The code for an error that came from below the routes, where only a status is known.
pub(crate) fn of_bare_status(status: StatusCode) -> ErrorCode {
    match status {
        StatusCode::NOT_FOUND => NOT_FOUND,
        StatusCode::METHOD_NOT_ALLOWED => METHOD_NOT_ALLOWED,
        StatusCode::UNAUTHORIZED => UNAUTHENTICATED,
        StatusCode::PAYLOAD_TOO_LARGE => BODY_TOO_LARGE,
        StatusCode::UNSUPPORTED_MEDIA_TYPE => UNSUPPORTED_MEDIA_TYPE,
        StatusCode::UPGRADE_REQUIRED => UPGRADE_REQUIRED,
        other if other.is_client_error() => BAD_REQUEST,
        _ => INTERNAL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_snake_case_and_named_once() {
        let mut seen = std::collections::HashSet::new();
        for code in CODES {
            assert!(seen.insert(code.code), "{} stands twice", code.code);
            assert!(code.code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            assert!(code.status.is_client_error() || code.status.is_server_error());
        }
    }

    #[test]
    fn a_limit_on_how_many_is_a_conflict_and_a_limit_on_size_is_not() {
        let many = Rejection::new(RejectionKind::TooLarge, "too_many_variables", "");
        let large = Rejection::new(RejectionKind::TooLarge, "definition_too_large", "");
        assert_eq!(of_rejection(&many).0, StatusCode::CONFLICT);
        assert_eq!(of_rejection(&large).0, StatusCode::PAYLOAD_TOO_LARGE);
    }
}
