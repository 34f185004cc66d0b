//! `everline health`: one look at a running process, without a shell or curl.

use clap::Args;
use serde_json::Value;
use std::time::Duration;

use crate::exit::Failure;
use crate::output::Output;

/// How long an answer may take: more than `/readyz` gives its dependencies.
const PATIENCE: Duration = Duration::from_secs(4);

/// `everline health`
#[derive(Debug, Args)]
pub(super) struct HealthArgs {
    /// The process's URL
    #[arg(long, default_value = "http://127.0.0.1:7070")]
    url: String,
    /// What is asked: `/readyz`, or `/livez`
    #[arg(long, default_value = "/readyz")]
    path: String,
}

pub(super) async fn run(args: HealthArgs, output: Output) -> Result<(), Failure> {
    let unusable = |error: reqwest::Error| Failure::Usage(format!("{} cannot be asked: {error}", args.url));
    // No certificates and no proxy: it asks its own machine.
    let client = reqwest::Client::builder().timeout(PATIENCE).no_proxy().tls_certs_only([]).build();
    let client = client.map_err(unusable)?;
    let url = format!("{}{}", args.url.trim_end_matches('/'), args.path);
    let request = client.get(&url).build().map_err(unusable)?;
    let answer = match client.execute(request).await {
        Ok(answer) => answer,
        Err(_) => {
            output.say(&format!("nobody answers at {url}"))?;
            return Err(Failure::Unsuccessful);
        }
    };
    let healthy = answer.status().is_success();
    let body: Value = answer.json().await.unwrap_or_default();
    output.thing(&body)?;
    if healthy { Ok(()) } else { Err(Failure::Unsuccessful) }
}
