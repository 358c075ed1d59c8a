//! libvirt has at most one job a domain and no ids for them: a long call's progress is the job of its domain while the call runs.

use crate::native::api::{Api, Handle};
use lane::Progress;
use std::{future::Future, time::Duration};
use tokio::time::sleep;

/// How often a running job is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// Waits for `call` and tells `progress` meanwhile. Asking is best effort: a question without an answer is not asked again.
pub async fn watched<T>(
    api: Option<&Api>,
    dom: &Handle,
    progress: &Progress,
    call: impl Future<Output = T>,
) -> T {
    let Some(api) = api else { return call.await };
    let mut call = std::pin::pin!(call);
    loop {
        tokio::select! {
            done = &mut call => return done,
            () = sleep(ASK_EVERY) => {}
        }
        // The call may end while the question is out; its answer is not waited for then.
        tokio::select! {
            done = &mut call => return done,
            answer = api.job_progress(dom) => match answer {
                Ok(Some(percent)) => progress(percent),
                Ok(None) => {}
                Err(error) => {
                    tracing::debug!(%error, "no progress");
                    return call.await;
                }
            },
        }
    }
}
