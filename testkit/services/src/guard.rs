//! A server that cannot outlive its test process.
//!
//! A shell starts the server and then reads its own standard input, which the test process holds open. When that
//! process ends, even by `kill -9`, the read ends, and the shell ends the server and removes its folder.

use anyhow::{Context, Result, ensure};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// The shell's part: `$1` is the folder to remove at the end, the rest is the command. The server's id goes to
/// standard output first. `exec` in the subshell makes that id the server's own.
const SCRIPT: &str = r#"
folder=$1; shift
( exec "$@" </dev/null >>"$folder/server.log" 2>&1 ) &
server=$!
echo "$server"
exec >/dev/null
read -r last
kill -9 "$server" 2>/dev/null
wait "$server" 2>/dev/null
[ "$last" = keep ] || rm -rf "$folder"
"#;

/// A running server.
#[derive(Debug)]
pub(crate) struct Guarded {
    shell: Child,
    stdin: Option<ChildStdin>,
    pid: u32,
}

impl Guarded {
    /// Starts a command whose folder goes with it.
    pub(crate) fn start(folder: &Path, command: &[&std::ffi::OsStr]) -> Result<Self> {
        use std::io::{BufRead, BufReader};
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT, "guard"])
            .arg(folder)
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("a shell cannot be started")?;
        let stdin = shell.stdin.take();
        let stdout = shell.stdout.take().context("the shell has no standard output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).context("the shell does not answer")?;
        let pid = line.trim().parse().context("the shell did not name its server")?;
        Ok(Self { shell, stdin, pid })
    }

    /// The server's process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends the server a signal by its name, such as `KILL`.
    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.pid)]).status()?;
        ensure!(sent.success(), "the server cannot be signalled");
        Ok(())
    }

    /// Ends the server at once, if it still runs, and keeps its folder.
    pub(crate) async fn end(mut self) -> Result<()> {
        use std::io::Write;
        if let Some(mut stdin) = self.stdin.take() {
            stdin.write_all(b"keep\n").context("the shell is gone")?;
        }
        for _ in 0..1_000 {
            if self.shell.try_wait()?.is_some() {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        anyhow::bail!("the server does not end")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // The shell sees the end of its input, ends the server and removes the folder.
        if self.stdin.take().is_some() {
            let _ = self.shell.wait();
        }
    }
}

/// A new folder for a server, with a short path: sockets live in it.
pub(crate) fn folder(kind: &str) -> Result<PathBuf> {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("el-{kind}-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&path).with_context(|| format!("{} cannot be created", path.display()))?;
    Ok(path)
}
