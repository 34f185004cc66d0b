//! How long recognising takes: `cargo test -p gateway --release --lib auth::measure -- --ignored --nocapture`.

use domain::time::{Clock, Timestamp};
use event_store::sealing::MasterKey;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::GatewayConfig;
use crate::directory::Directory;

use super::bootstrap::prepare_admin;
use super::sessions::{Device, Sessions};
use super::signing::AccessTokens;
use super::{Authenticator, Credential};

/// What recognising a token that was seen before may take.
const MOST: Duration = Duration::from_micros(50);

struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        Timestamp::from_unix_ms(since.as_millis() as i64)
    }
}

#[tokio::test]
#[ignore = "a measurement: run it alone"]
async fn a_token_seen_before_is_recognised_in_less_than_50_microseconds() {
    let log = Arc::new(SqliteLog::open_temporary(SqliteOptions::default()).await.expect("a log"));
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let config = GatewayConfig { auth_cache_ms: 600_000, ..GatewayConfig::default() };
    let master_key = MasterKey::generate().expect("a key");
    let tokens = Arc::new(AccessTokens::new(log.clone(), clock.clone(), master_key.clone(), &config));
    let directory = Arc::new(Directory::new(log.clone(), 1_000, Duration::from_secs(600)));
    let sealing = (tokens.clone(), master_key.clone());
    let auth = Arc::new(Authenticator::new(log.clone(), directory, sealing, clock.clone(), &config, 16));
    let sessions = Sessions::new(auth.clone(), tokens, master_key, &config);

    let admin = prepare_admin(&*log, &*clock, "a@example.test", Some("a good password".to_owned().into()));
    let admin = admin.await.expect("prepared").expect("the first");
    admin.store(&*log).await.expect("stored");
    let key = Credential::bearer(&admin.api_key);
    let caller = auth.recognise(&key).await.expect("recognised");
    let user = auth.user_of(&caller).await.expect("a user");
    let session = sessions.begin(&user, &Device::new("everline", None)).await.expect("a session");
    let first = Instant::now();
    auth.recognise(&Credential::bearer(&session.access_token)).await.expect("recognised");
    println!("a signed token seen for the first time: {:?}", first.elapsed());

    for (what, secret) in [("an API key", &*admin.api_key), ("a signed token", &*session.access_token)] {
        let rounds = 20_000;
        let start = Instant::now();
        for _ in 0..rounds {
            // As every request does it: hashed anew.
            auth.recognise(&Credential::bearer(secret)).await.expect("recognised");
        }
        let each = start.elapsed() / rounds;
        println!("{what} seen before: {each:?}");
        assert!(each < MOST, "{what}: {each:?}");
    }
}
