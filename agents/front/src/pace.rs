//! One connection's deadlines.
//!
//! ```text
//!           first byte              header read             answer written
//! Fresh ───────────────▶ Header ──────────────▶ Serving ────────────────▶ Idle
//!   (header)               (header)                (none)                   (kept)
//!                            ▲                                               │
//!                            └───────────── first byte ──────────────────────┘
//! any: a write that the client does not take ──▶ Stuck (idle) until it takes some
//! ```
//!
//! While the service works there is no deadline here: a vendor's protocol may wait for minutes, and knows how long.

use crate::limits::Limits;
use parking_lot::Mutex;
use std::sync::Arc;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::{Instant, sleep_until},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Fresh,
    Header,
    Serving,
    Idle,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    until: Option<Instant>,
    stuck: Option<Instant>,
}

/// The deadlines, shared by the connection's stream, its service and its watcher.
#[derive(Debug)]
pub(crate) struct Pace {
    limits: Limits,
    state: Mutex<State>,
    changed: Notify,
}

impl Pace {
    pub(crate) fn new(limits: Limits) -> Arc<Pace> {
        let until = Some(Instant::now() + limits.header);
        let state = Mutex::new(State { phase: Phase::Fresh, until, stuck: None });
        Arc::new(Pace { limits, state, changed: Notify::new() })
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.state.lock();
        state.phase = phase;
        state.until = match phase {
            Phase::Fresh | Phase::Header => Some(Instant::now() + self.limits.header),
            Phase::Idle => Some(Instant::now() + self.limits.kept),
            Phase::Serving => None,
        };
        drop(state);
        self.changed.notify_one();
    }

    /// A request's header was read.
    pub(crate) fn serving(&self) {
        self.enter(Phase::Serving);
    }

    /// An answer was written.
    pub(crate) fn answered(&self) {
        self.enter(Phase::Idle);
    }

    fn received(&self) {
        let phase = self.state.lock().phase;
        if matches!(phase, Phase::Fresh | Phase::Idle) {
            self.enter(Phase::Header);
        }
    }

    fn wrote(&self, progress: bool) {
        let mut state = self.state.lock();
        match (progress, state.stuck) {
            (true, Some(_)) => state.stuck = None,
            (false, None) => state.stuck = Some(Instant::now() + self.limits.idle),
            _ => return,
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Ends when a deadline has passed.
    pub(crate) async fn expired(&self) {
        loop {
            let until = {
                let state = self.state.lock();
                [state.until, state.stuck].into_iter().flatten().min()
            };
            match until {
                None => self.changed.notified().await,
                Some(until) => tokio::select! {
                    () = sleep_until(until) => return,
                    () = self.changed.notified() => {}
                },
            }
        }
    }
}

/// A stream that tells its pace what passes.
#[derive(Debug)]
pub(crate) struct Paced<S> {
    pub(crate) stream: S,
    pub(crate) pace: Arc<Pace>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.pace.received();
        }
        result
    }
}

impl<S: AsyncWrite + Unpin> Paced<S> {
    fn note<T>(&self, result: Poll<T>) -> Poll<T> {
        self.pace.wrote(result.is_ready());
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_flush(cx);
        self.note(result)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.note(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    const HEADER: Duration = Duration::from_secs(5);
    const IDLE: Duration = Duration::from_secs(60);
    const KEPT: Duration = Duration::from_secs(20 * 60);

    async fn ends_after(pace: &Pace) -> Duration {
        let start = Instant::now();
        pace.expired().await;
        start.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn each_phase_has_its_time() {
        let pace = Pace::new(Limits::default());
        assert_eq!(ends_after(&pace).await, HEADER);
        pace.received();
        assert_eq!(ends_after(&pace).await, HEADER);
        tokio::time::advance(Duration::from_secs(1)).await;
        pace.received();
        assert_eq!(ends_after(&pace).await, Duration::ZERO);
        pace.serving();
        pace.received();
        assert!(timeout(Duration::from_secs(100_000), pace.expired()).await.is_err());
        pace.wrote(false);
        assert_eq!(ends_after(&pace).await, IDLE);
        pace.wrote(true);
        pace.answered();
        assert_eq!(ends_after(&pace).await, KEPT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_seen_while_waiting() {
        let pace = Pace::new(Limits::default());
        let watcher = tokio::spawn({
            let pace = Arc::clone(&pace);
            async move { ends_after(&pace).await }
        });
        tokio::time::sleep(Duration::from_secs(3)).await;
        pace.serving();
        tokio::time::sleep(Duration::from_secs(300)).await;
        pace.answered();
        assert_eq!(watcher.await.unwrap(), Duration::from_secs(303) + KEPT);
    }
}
