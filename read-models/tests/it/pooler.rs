//! A PgBouncer in transaction mode, between a test and its database.

use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::{Child, Command};

/// Who runs it where the tests run as root, which it refuses.
const SYSTEM_USER: &str = "postgres";

/// Ends with the value.
pub(crate) struct Pooler {
    url: String,
    _process: Child,
    _folder: TempDir,
}

impl Pooler {
    /// With two connections to the server, so that clients meet on them.
    pub(crate) async fn start(url: &str) -> Self {
        let (address, database) = url.rsplit_once('/').unwrap();
        let (user, server) = address.trim_start_matches("postgres://").rsplit_once('@').unwrap();
        let port = test_services::free_port().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n{database} = host={} port={} user={user}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\n\
             default_pool_size = 2\nserver_login_retry = 1\n",
            server.split(':').next().unwrap(),
            server.split(':').nth(1).unwrap(),
        );
        tokio::fs::write(&config, text).await.unwrap();
        let process = command(folder.path(), &config).spawn().expect("no pgbouncer");
        let pooler = Self {
            url: format!("postgres://{user}@127.0.0.1:{port}/{database}"),
            _process: process,
            _folder: folder,
        };
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        pooler
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

fn command(folder: &Path, config: &Path) -> Command {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let mut command = if is_root {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new("setpriv");
        let ids = ["--reuid", SYSTEM_USER, "--regid", SYSTEM_USER, "--clear-groups", "--pdeathsig", "KILL"];
        command.args(ids).arg("pgbouncer");
        command
    } else {
        Command::new("pgbouncer")
    };
    command.arg("--quiet").arg(config).kill_on_drop(true);
    command
}
