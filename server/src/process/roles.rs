//! What a process does of the whole.

use std::fmt;

/// One of the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The only writer of the log, owner of partitions.
    CommandService,
    /// Keeps the read models up to the log.
    ProjectionService,
    /// HTTP, WebSocket and SSE.
    Gateway,
    /// The workers.
    Agents,
}

impl Role {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::CommandService => "command-service",
            Self::ProjectionService => "projection-service",
            Self::Gateway => "gateway",
            Self::Agents => "agents",
        }
    }
}

/// The roles of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Roles {
    /// All of them.
    All,
    /// One.
    Only(Role),
}

impl Roles {
    /// Whether a role is among them.
    pub fn has(self, role: Role) -> bool {
        match self {
            Self::All => true,
            Self::Only(only) => only == role,
        }
    }

    /// Whether this process reads or writes read models.
    pub(crate) fn use_read_models(self) -> bool {
        self.has(Role::Gateway) || self.has(Role::ProjectionService)
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "all",
            Self::Only(role) => role.name(),
        })
    }
}
