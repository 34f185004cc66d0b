//! Users, roles, keys, tenants, sharing.

use utoipa::ToSchema;
use uuid::Uuid;

/// A user of a tenant.
#[derive(ToSchema)]
pub(crate) struct TenantUser {
    id: Uuid,
    tenant: String,
    email: String,
    name: Option<String>,
    role: String,
    /// `invited`, `active` or `disabled`.
    status: String,
    /// Whether they run the installation.
    operator: Option<bool>,
    email_verified: bool,
    totp: bool,
    /// In lists.
    created_at: Option<String>,
    /// In lists.
    updated_at: Option<String>,
}

/// A user, with the token of an invited one.
#[derive(ToSchema)]
pub(crate) struct CreatedUser {
    #[schema(inline)]
    #[serde(flatten)]
    user: TenantUser,
    /// Shown only here, and only the first time.
    invitation: Option<OneTimeToken>,
    /// The token of `invitation` again.
    invitation_token: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct OneTimeToken {
    token: String,
    expires_at: String,
}

#[derive(ToSchema)]
pub(crate) struct NewUser {
    email: String,
    name: Option<String>,
    /// `USER` if it is not given.
    role: Option<String>,
    /// 8 to 1024 bytes. Without it, and without a hash, the user is invited.
    password: Option<String>,
    /// argon2id or bcrypt, from elsewhere.
    password_hash: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct UserChange {
    /// `null` takes it away.
    name: Option<String>,
    role: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct PermissionList {
    items: Vec<PermissionItem>,
    next_cursor: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct PermissionItem {
    name: String,
    granted: bool,
}

/// One line of a role.
#[derive(ToSchema)]
pub(crate) struct Grant {
    /// Such as `workflow:read`.
    permission: String,
    /// `own`, `shared`, or `any` if it is not given.
    reach: Option<String>,
    /// CEL over `resource`, `principal` and `action`.
    condition: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct Role {
    name: String,
    description: Option<String>,
    grants: Vec<Grant>,
    builtin: bool,
}

#[derive(ToSchema)]
pub(crate) struct RoleList {
    items: Vec<Role>,
    next_cursor: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct NewRole {
    name: String,
    description: Option<String>,
    grants: Vec<Grant>,
}

#[derive(ToSchema)]
pub(crate) struct RoleChange {
    description: Option<String>,
    grants: Vec<Grant>,
}

#[derive(ToSchema)]
pub(crate) struct NewApiKey {
    name: String,
    /// Permissions, `workflow:*`, or `*`: at most what its maker may do. `*` if they are not given.
    scopes: Option<Vec<String>>,
    /// RFC 3339
    expires_at: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct ApiKey {
    id: Uuid,
    name: String,
    owner: Option<Uuid>,
    /// The first 16 hexadecimal digits of its SHA-256: `key:<fingerprint>` is the actor in events.
    fingerprint: String,
    scopes: Vec<String>,
    expires_at: Option<String>,
    revoked: bool,
    /// In lists.
    revoked_at: Option<String>,
    /// In lists.
    created_at: Option<String>,
    /// In lists.
    last_used_at: Option<String>,
    /// The key itself: shown only when it is made.
    key: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct NewTenant {
    /// Its slug: 1 to 40 of a-z, 0-9 and -.
    name: String,
    display_name: Option<String>,
    settings: Option<TenantSettings>,
    admin: NewUser,
}

#[derive(ToSchema)]
pub(crate) struct TenantSettings {
    /// Requests per minute of all its callers together.
    requests_per_minute: Option<u32>,
}

#[derive(ToSchema)]
pub(crate) struct TenantChange {
    display_name: Option<String>,
    settings: Option<TenantSettings>,
}

#[derive(ToSchema)]
pub(crate) struct Tenant {
    id: String,
    name: String,
    display_name: String,
    settings: TenantSettings,
    suspended: bool,
    /// When it is made.
    admin: Option<TenantUser>,
    /// In lists.
    created_at: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct Share {
    /// `private` if it is not given, or `public`: everybody of the tenant.
    visibility: Option<String>,
    /// Users' ids, at most 200.
    users: Option<Vec<Uuid>>,
    /// `read` if it is not given, or `execute`.
    access: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct TenantUserList {
    items: Vec<TenantUser>,
    next_cursor: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct ApiKeyList {
    items: Vec<ApiKey>,
    next_cursor: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct TenantList {
    items: Vec<Tenant>,
    next_cursor: Option<String>,
}
