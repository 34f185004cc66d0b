//! websockets: authentication both ways, many subscriptions, resuming, and the close codes.

use super::{Live, passes, python};

#[tokio::test]
async fn websockets_subscribes_resumes_and_is_closed_with_the_right_codes() {
    let configuration =
        "[gateway]\nwebsocket_buffer_bytes = 65536\nslow_client_ms = 500\nwebsocket_auth_ms = 1000\n";
    let live = Live::start(configuration).await;
    let mut script = python("websockets_client.py");
    script.args([&live.url, &live.client.key]);
    passes(script).await;
}
