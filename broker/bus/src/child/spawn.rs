//! One run of nats-server, from spawn to exit.
//!
//! It is started through a small shell script that outlives us: the script's standard input is a pipe from us.
//! When the pipe closes, be it that we were killed outright, the script stops the server. The same pipe carries
//! the words `term`, `kill` and `reload`, so that no signal has to be sent from here.
//!
//! ```text
//! hyperglot ──stdin (words; end of file = we are gone)──► sh ──signals──► nats-server
//!           ◄─stdout: "pid N"───────────────────────────── │
//!           ◄─stderr: log lines────────────────────────────┴───────────── nats-server
//! ```
//! Both run in a process group of their own: a Ctrl-C at the terminal reaches us, not them, and we stop in order.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use thiserror::Error;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStdin, Command};
use tokio::task::JoinHandle;

/// How long the server may take from spawn to its first greeting.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// How long it may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(5);
/// A little more than the script grants a server whose parent is gone.
const FREE_WITHIN: Duration = Duration::from_secs(6);
/// How long the rest of the log is waited for once the shell has ended.
const LOG_WITHIN: Duration = Duration::from_millis(500);
const SILENT_PROBES: u32 = 3;
const POLL: Duration = Duration::from_millis(10);
/// The longest greeting and log line read.
const MAX_LINE: u64 = 64 * 1024;

/// `$1` is the program, `$2` its configuration.
const SCRIPT: &str = r#"
exec 3<&0
"$1" -c "$2" </dev/null >&2 3<&- &
server=$!
echo "pid $server"
(
  while read -r word <&3; do
    case "$word" in
      term) kill -TERM "$server" ;;
      kill) kill -KILL "$server" ;;
      reload) kill -HUP "$server" ;;
    esac
  done
  kill -TERM "$server"
  sleep 5
  kill -KILL "$server"
) >/dev/null 2>&1 &
guard=$!
exec 3<&-
wait "$server"
code=$?
kill "$guard" 2>/dev/null
exit "$code"
"#;

/// Why a run is over.
#[derive(Debug, Error)]
pub(super) enum End {
    /// The server ended by itself, or never greeted.
    #[error("{0}")]
    Ended(String),
    /// It no longer greets.
    #[error("it hangs: it did not greet three times in a row")]
    Hung,
}

/// A running server.
pub(super) struct Run {
    shell: Child,
    words: Option<ChildStdin>,
    /// The server's process id.
    pub(super) pid: u32,
    log: JoinHandle<()>,
    complaint: Arc<Mutex<Option<String>>>,
}

impl Run {
    /// Starts the server.
    pub(super) async fn start(program: &Path, config: &Path) -> Result<Self, String> {
        let mut shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "nats-server"])
            .arg(program)
            .arg(config)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            // The server has no use for it, and its environment can be read for as long as it runs.
            .env_remove("HYPERGLOT_ADMIN_PASSWORD")
            .spawn()
            .map_err(|error| format!("cannot start /bin/sh: {error}"))?;
        let words = shell.stdin.take();
        let (Some(out), Some(log)) = (shell.stdout.take(), shell.stderr.take()) else {
            return Err("no pipes to the server".to_owned());
        };
        let complaint = Arc::<Mutex<Option<String>>>::default();
        let log = tokio::spawn(read_log(BufReader::new(log), complaint.clone()));
        let mut line = String::new();
        let mut out = BufReader::new(out.take(MAX_LINE));
        let read = tokio::time::timeout(READY_WITHIN, out.read_line(&mut line));
        let pid = match read.await {
            Ok(Ok(_)) => line.trim().strip_prefix("pid ").and_then(|pid| pid.parse().ok()),
            Ok(Err(_)) | Err(_) => None,
        };
        let pid = pid.ok_or_else(|| "the server's process id did not arrive".to_owned())?;
        Ok(Self { shell, words, pid, log, complaint })
    }

    /// Waits until the server greets on its port under our name.
    pub(super) async fn ready(&mut self, port: u16, server_name: &str) -> Result<(), String> {
        let greeted = async {
            loop {
                match greeting(port).await {
                    Some(name) if name == server_name => return Ok(()),
                    Some(name) => {
                        return Err(format!("port {port} belongs to another NATS server ({name:?})"));
                    }
                    None => tokio::time::sleep(POLL).await,
                }
            }
        };
        tokio::select! {
            greeted = tokio::time::timeout(READY_WITHIN, greeted) => {
                greeted.unwrap_or_else(|_| Err(format!("no greeting on port {port} within 20 s")))
            }
            status = self.shell.wait() => Err(self.last_words(status.ok()).await),
        }
    }

    /// Waits until the server has ended, or has not greeted for three probes in a row.
    ///
    /// Until then it reads its configuration anew whenever `reloads` says so.
    pub(super) async fn ended_or_hung(
        &mut self,
        port: u16,
        probe: Duration,
        reloads: &mut tokio::sync::mpsc::Receiver<()>,
    ) -> End {
        let (shell, words) = (&mut self.shell, &mut self.words);
        let reloading = async {
            while reloads.recv().await.is_some() {
                if let Some(words) = words
                    && let Err(error) = words.write_all(b"reload\n").await
                {
                    tracing::warn!(%error, "nats-server cannot be told to read its configuration anew");
                }
            }
            std::future::pending::<()>().await;
        };
        let silence = async {
            let mut silent = 0;
            while silent < SILENT_PROBES {
                tokio::time::sleep(probe).await;
                let greeted = tokio::time::timeout(probe, greeting(port)).await;
                silent = if matches!(greeted, Ok(Some(_))) { 0 } else { silent + 1 };
            }
        };
        let end = tokio::select! {
            status = shell.wait() => Some(status.ok()),
            () = silence => None,
            () = reloading => None,
        };
        match end {
            Some(status) => End::Ended(self.last_words(status).await),
            None => End::Hung,
        }
    }

    async fn last_words(&mut self, status: Option<ExitStatus>) -> String {
        if !self.log.is_finished() && tokio::time::timeout(LOG_WITHIN, &mut self.log).await.is_err() {
            tracing::debug!("the log of nats-server goes on after its shell has ended");
        }
        let status = status.map_or_else(|| "it ended".to_owned(), |status| format!("it ended with {status}"));
        match self.complaint.lock().as_ref() {
            Some(complaint) => format!("{status}: {complaint}"),
            None => status,
        }
    }

    /// Stops the server: asked first (unless it hangs), killed after five seconds.
    pub(super) async fn stop(mut self, hung: bool) {
        let words: &[&str] = if hung { &["kill\n"] } else { &["term\n", "kill\n"] };
        for word in words {
            if let Some(words) = &mut self.words
                && let Err(error) = words.write_all(word.as_bytes()).await
            {
                tracing::debug!(%error, "nats-server has ended already");
            }
            if tokio::time::timeout(STOP_WITHIN, self.shell.wait()).await.is_ok() {
                return;
            }
        }
        tracing::warn!(pid = self.pid, "nats-server did not stop");
    }
}

/// Waits a bounded time until nobody listens on the port: a server whose parent was killed needs a moment to close
/// its store, and two servers must never share one. Whether the port is free.
pub(super) async fn wait_until_free(port: u16) -> bool {
    let free = async {
        while TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(FREE_WITHIN, free).await.is_ok()
}

/// The name in the first line that a NATS server sends to every connection.
async fn greeting(port: u16) -> Option<String> {
    #[derive(Deserialize)]
    struct Info {
        #[serde(default)]
        server_name: String,
    }
    let socket = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    let mut line = String::new();
    BufReader::new(socket.take(MAX_LINE)).read_line(&mut line).await.ok()?;
    let info: Option<Info> = serde_json::from_str(line.strip_prefix("INFO ")?.trim()).ok();
    Some(info.map(|info| info.server_name).unwrap_or_default())
}

/// Hands the server's log on, and keeps its last complaint.
async fn read_log(log: impl tokio::io::AsyncBufRead + Unpin, complaint: Arc<Mutex<Option<String>>>) {
    let mut log = log;
    loop {
        let mut line = Vec::new();
        match (&mut log).take(MAX_LINE).read_until(b'\n', &mut line).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
        let line = String::from_utf8_lossy(&line);
        let (level, text) = read_line(&line);
        match level {
            "FTL" | "ERR" => {
                tracing::error!(target: "nats_server", "{text}");
                *complaint.lock() = Some(text.to_owned());
            }
            // The configuration that holds them is readable by the owner only.
            "WRN" if text.starts_with("Plaintext passwords") => {
                tracing::debug!(target: "nats_server", "{text}")
            }
            "WRN" => tracing::warn!(target: "nats_server", "{text}"),
            "INF" => tracing::debug!(target: "nats_server", "{text}"),
            "DBG" | "TRC" => tracing::trace!(target: "nats_server", "{text}"),
            _ => {
                tracing::warn!(target: "nats_server", "{text}");
                *complaint.lock() = Some(text.to_owned());
            }
        }
    }
}

/// Level and text of `[123] [INF] text`; the level is empty for any other line.
fn read_line(line: &str) -> (&str, &str) {
    let line = line.trim();
    let parts = line
        .strip_prefix('[')
        .and_then(|rest| rest.split_once("] ["))
        .and_then(|(_, rest)| rest.split_once(']'));
    parts.map_or(("", line), |(level, text)| (level, text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_are_read() {
        assert_eq!(read_line("[12] [INF] Server is ready\n"), ("INF", "Server is ready"));
        assert_eq!(read_line("[12] [FTL] x [y] z"), ("FTL", "x [y] z"));
        assert_eq!(read_line("nats-server: nats.conf:3: oops"), ("", "nats-server: nats.conf:3: oops"));
        assert_eq!(read_line("[12"), ("", "[12"));
    }
}
