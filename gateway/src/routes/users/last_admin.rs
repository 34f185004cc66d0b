//! What a user loses, unless the tenant would lose its last active ADMIN with it.
//!
//! In one gateway these changes take turns. Two gateways may each see the other's administrator and take both away; so
//! what was done to an ADMIN is looked at again, and undone if nobody is left. A deletion cannot be undone, so it
//! disables first.

use bus::CommandReply;
use domain::access::ADMIN;
use domain::command::Command;
use domain::identity::user::UserStatus;
use domain::identity::user::command::UserCommand;
use domain::rejection::{Rejection, RejectionKind};

use crate::app::App;
use crate::directory::{User, another_admin};
use crate::failure::Failure;
use crate::request::Write;
use crate::sending::send;

use super::step;

/// What a user loses.
pub(super) enum Loss {
    /// The role, for another.
    Role(String),
    /// Being recognised.
    Recognition,
    /// Everything.
    All,
}

/// Takes something from a user.
pub(super) async fn lose(app: &App, write: &Write, user: &User, loss: Loss) -> Result<CommandReply, Failure> {
    let _turn = app.admin_changes.lock().await;
    let is_admin = user.state.role == ADMIN && user.state.status == UserStatus::Active;
    if !is_admin {
        return command(app, write, 3, user, last(&loss)).await;
    }
    if !another_admin(app, &user.tenant, user.id).await? {
        return Err(refuse(user));
    }
    let undo = match loss {
        Loss::Role(_) => UserCommand::ChangeRole { role: ADMIN.to_owned() },
        Loss::Recognition | Loss::All => UserCommand::Enable,
    };
    let first = match &loss {
        Loss::All => UserCommand::Disable,
        Loss::Role(_) | Loss::Recognition => last(&loss),
    };
    let reply = command(app, write, 4, user, first).await?;
    if !another_admin(app, &user.tenant, user.id).await? {
        command(app, write, 5, user, undo).await?;
        return Err(refuse(user));
    }
    match loss {
        Loss::All => command(app, write, 6, user, UserCommand::Delete).await,
        Loss::Role(_) | Loss::Recognition => Ok(reply),
    }
}

fn last(loss: &Loss) -> UserCommand {
    match loss {
        Loss::Role(role) => UserCommand::ChangeRole { role: role.clone() },
        Loss::Recognition => UserCommand::Disable,
        Loss::All => UserCommand::Delete,
    }
}

async fn command(
    app: &App,
    write: &Write,
    number: u128,
    user: &User,
    command: UserCommand,
) -> Result<CommandReply, Failure> {
    let writing = step(write, number).to(user.id, app.clock.now());
    send(app, &writing, Command::User(command)).await
}

fn refuse(user: &User) -> Failure {
    let detail = format!("user {} is the last active ADMIN of the tenant; make another one first", user.id);
    Rejection::new(RejectionKind::Conflict, "last_admin", detail).into()
}
