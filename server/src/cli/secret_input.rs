//! Secrets from whoever sits there: never an argument, which other users of the machine can read.

use std::io::{BufRead, IsTerminal};

use crate::exit::Failure;
use crate::secret::Secret;

/// The longest line that is a secret; longer ones are another file.
const MAX_BYTES: usize = 4096;

/// Asks without echo where there is a terminal, else reads a line of standard input.
pub(super) async fn secret(prompt: &str) -> Result<Secret, Failure> {
    let prompt = format!("{prompt}: ");
    // Reading blocks, and the process must still hear signals.
    let read = tokio::task::spawn_blocking(move || {
        if std::io::stdin().is_terminal() { rpassword::prompt_password(&prompt) } else { line() }
    });
    let text = read.await.map_err(|error| Failure::Internal(error.into()))?;
    let text = text.map_err(|error| Failure::Usage(format!("no secret could be read: {error}")))?;
    if text.is_empty() || text.len() > MAX_BYTES {
        let detail = "no secret was given; type it, or write it to standard input, as one line";
        return Err(Failure::Usage(detail.to_owned()));
    }
    Ok(Secret::new(text))
}

/// Asks for a new password, twice where somebody types it.
pub(super) async fn new_password() -> Result<Secret, Failure> {
    let password = secret("New password").await?;
    if std::io::stdin().is_terminal() && secret("Again").await? != password {
        return Err(Failure::Usage("the two are not the same; nothing was changed".to_owned()));
    }
    Ok(password)
}

/// A line with echo, for what is no secret.
pub(super) fn answer(prompt: &str) -> Result<String, Failure> {
    eprint!("{prompt}: ");
    let text = line().map_err(|error| Failure::Usage(format!("no {prompt} could be read: {error}")))?;
    Ok(text.trim().to_owned())
}

fn line() -> std::io::Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().read_line(&mut text)?;
    let length = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(length);
    Ok(text)
}
