//! Settling: a command whose answer was lost is asked about until its owner tells. It is never sent again.
//!
//! ```text
//! settle ─▶ outcome: that is it │ running: asked again │ never heard of: it will not happen any more │ away: asked when it is back
//!           ├─ looked for there, as long as nothing else begins in its lane: asked again, however long that lasts
//!           └─ not known, and not to be found any more (no trace, or another command's effect over it): Failed(TIMED_OUT)
//! ```

use crate::engine::Engine;
use bytes::Bytes;
use prost::Message;
use union::{
    CommandId, ObjectId,
    command::{Cause, Code, Outcome},
    pb,
};

impl Engine {
    /// What became of a command. Returns when its owner has told, however long that takes.
    pub(crate) async fn settle(&self, id: CommandId, object: ObjectId, agent: &str) -> Outcome {
        let limits = &self.deps.limits;
        let about = pb::About {
            command_id: id.to_string(),
            object_id: object.to_string(),
            engine_epoch: self.deps.epoch.0,
        };
        let body = Bytes::from(about.encode_to_vec());
        let mut arrivals = self.arrivals.subscribe();
        let mut pause = limits.pause.0;
        let room = self.room_to_ask(agent);
        loop {
            arrivals.mark_unchanged();
            // Never closed.
            let turn = room.acquire().await;
            let answer = self.deps.agents.ask(agent, "settle", body.clone(), limits.question).await;
            drop(turn);
            let settled = match &answer {
                Ok(reply) => pb::Settled::decode(reply.as_ref()).ok(),
                Err(_) => None,
            };
            match settled {
                Some(pb::Settled { unknown: true, .. }) => {
                    let message = format!("the command did not reach {agent}; nothing was done");
                    return Outcome::Refused(Cause::new(Code::Unreachable, message));
                }
                Some(pb::Settled { outcome: Some(outcome), running: false, .. }) => {
                    match Outcome::from_pb(self.schema(), &outcome) {
                        Ok(Outcome::Unknown { message, .. }) => return unknowable(&message),
                        Ok(outcome) => return outcome,
                        Err(error) => tracing::error!(command = %id, %error, "an outcome cannot be read"),
                    }
                }
                Some(_) => pause = pause.min(limits.pause.0 * 4),
                None => {}
            }
            // A returning agent is asked at once.
            tokio::select! {
                biased;
                () = tokio::time::sleep(pause) => {}
                _ = arrivals.changed() => {}
            }
            pause = (pause * 2).min(limits.pause.1);
        }
    }
}

/// The end of a command that leaves nothing to look at, or whose owner has looked in vain.
pub(crate) fn unknowable(message: &str) -> Outcome {
    Outcome::Failed(Cause::new(Code::TimedOut, format!("it cannot be told whether it was done: {message}")))
}
