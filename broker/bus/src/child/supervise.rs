//! Keeping the child alive.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::spawn::{End, Run, wait_until_free};
use super::{ChildError, ChildState};

/// Restarts allowed within [`WINDOW`].
const MAX_RESTARTS: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(5);

/// What to keep running, and until when.
pub(super) struct Plan {
    pub program: PathBuf,
    pub config: PathBuf,
    pub port: u16,
    pub server_name: String,
    pub probe: Duration,
    pub stop: CancellationToken,
    pub reloads: tokio::sync::mpsc::Receiver<()>,
}

/// Runs the server until it is stopped or ends too often.
pub(super) async fn supervise(mut plan: Plan, state: watch::Sender<ChildState>) {
    let mut restarts = Restarts::default();
    loop {
        state.send_replace(ChildState::Starting);
        let Some(why) = run_once(&mut plan, &state).await else {
            state.send_replace(ChildState::Stopped);
            return;
        };
        let Some(delay) = restarts.next(Instant::now()) else {
            tracing::error!(%why, "nats-server keeps ending and is not started again");
            state.send_replace(ChildState::Failed(ChildError::KeepsEnding { why }));
            return;
        };
        tracing::warn!(%why, ?delay, "nats-server ended and is started again");
        state.send_replace(ChildState::Restarting { why });
        if plan.stop.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
            state.send_replace(ChildState::Stopped);
            return;
        }
    }
}

/// One run: why it ended, or `None` when it was stopped.
async fn run_once(plan: &mut Plan, state: &watch::Sender<ChildState>) -> Option<String> {
    if !wait_until_free(plan.port).await {
        return Some(format!("port {} is taken by another program", plan.port));
    }
    let mut run = match Run::start(&plan.program, &plan.config).await {
        Ok(run) => run,
        Err(why) => return Some(why),
    };
    let watched = async {
        run.ready(plan.port, &plan.server_name).await.map_err(End::Ended)?;
        tracing::info!(port = plan.port, pid = run.pid, "nats-server is ready");
        state.send_replace(ChildState::Ready { pid: run.pid });
        Err::<(), End>(run.ended_or_hung(plan.port, plan.probe, &mut plan.reloads).await)
    };
    let ended = plan.stop.run_until_cancelled(watched).await.and_then(Result::err);
    run.stop(matches!(ended, Some(End::Hung))).await;
    ended.map(|end| end.to_string())
}

/// When the server was restarted in the last minute.
#[derive(Debug, Default)]
struct Restarts {
    at: VecDeque<Instant>,
}

impl Restarts {
    /// How long to wait before the next restart; `None` when there were too many.
    fn next(&mut self, now: Instant) -> Option<Duration> {
        while self.at.front().is_some_and(|at| now.duration_since(*at) > WINDOW) {
            self.at.pop_front();
        }
        if self.at.len() >= MAX_RESTARTS {
            return None;
        }
        let shift = u32::try_from(self.at.len()).unwrap_or(u32::MAX).min(10);
        self.at.push_back(now);
        Some(FIRST_DELAY.saturating_mul(1 << shift).min(LAST_DELAY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn five_restarts_a_minute_with_growing_delays() {
        let mut restarts = Restarts::default();
        let start = Instant::now();
        let delays: Vec<_> = (0..6).map(|_| restarts.next(start).map(|delay| delay.as_millis())).collect();
        assert_eq!(delays, [Some(50), Some(100), Some(200), Some(400), Some(800), None]);
        assert_eq!(restarts.next(start + WINDOW * 2), Some(FIRST_DELAY));
    }
}
