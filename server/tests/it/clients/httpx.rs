//! httpx: HTTP/1.1 and HTTP/2, repeated writes, pages by `Link`, cookies.

use super::{ADMIN, Live, PASSWORD, passes, python};

#[tokio::test]
async fn httpx_repeats_writes_follows_links_and_holds_a_session_in_cookies() {
    let live = Live::start("").await;
    let mut script = python("httpx_client.py");
    script.args([&live.url, &live.client.key, ADMIN, PASSWORD]);
    passes(script).await;
}
