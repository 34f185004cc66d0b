//! Commands of a process that owns partitions itself and is one of several: what it owns needs no network.

use async_trait::async_trait;
use std::sync::Arc;

use domain::command::CommandEnvelope;

use crate::commands::{CommandError, CommandHandler, CommandReply, Commands};

/// Asks the process's own handler first, and the others where that is not the owner.
pub struct RoutedCommands {
    local: Arc<dyn CommandHandler>,
    remote: Arc<dyn Commands>,
}

impl RoutedCommands {
    /// Of a handler in this process and a way to the others.
    pub fn new(local: Arc<dyn CommandHandler>, remote: Arc<dyn Commands>) -> Self {
        Self { local, remote }
    }
}

#[async_trait]
impl Commands for RoutedCommands {
    async fn send(&self, command: CommandEnvelope) -> Result<CommandReply, CommandError> {
        match self.local.handle(command.clone()).await {
            Err(CommandError::NotOwner) => self.remote.send(command).await,
            answered => answered,
        }
    }
}
