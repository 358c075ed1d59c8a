//! An effect that facts show before the lane's own look does.
//!
//! ```text
//! call answered well ─┬─▶ reread, look ─ there ─▶ Done                    whichever is first
//!                     └─▶ the target's own reader put facts ─ they show it ─▶ Done; the reread is not waited for
//! ```
//!
//! A target tells of its changes by itself, and what reads them for that may have begun before the call was answered, or was sent. Such a read
//! counts only where what it shows proves the effect:
//!
//! * the effect table's `expect` holds now, and did not hold of the facts right before the call was sent;
//! * the plan is one call, so there is no step whose effect the read may have been too early for;
//! * `expect` compares every field that the command sets, so it is all that is to be seen of it. Otherwise a change may be there in part, and
//!   by somebody else's hand;
//! * nothing appears or vanishes by the plan;
//! * no call that was overtaken may still be under way.
//!
//! Then the call took effect between its sending and its answer (had the effect been there before, by somebody else, the call was answered
//! well all the same, and asked for no more), facts never go back to an earlier read, and every view holds what is told. All other commands
//! end by a read that began after the answer. A fact of another's change after the call is as late as it ever is: until it is told.

use super::Work;
use crate::owner::Subscription;
use union::{Plan, Slot, Value, command::Revision};

/// Facts that will show the effect of a command.
#[derive(Debug)]
pub(super) struct Facts(Subscription);

impl Facts {
    /// To be asked right before the call is sent; `None`: the effect is to be looked for.
    pub fn before(work: &Work<'_>, plan: &Plan) -> Option<Facts> {
        let (owner, command) = (work.owner, &*work.run.command);
        let marked = plan.appears.or(plan.vanishes).is_some();
        if plan.steps.len() != 1 || marked || !plan.own.is_empty() {
            return None;
        }
        let compared = owner.rules.compared(work.target.protocol(), command);
        let unseen = |(slot, value): (u16, &Value)| {
            !value.is_absent() && value.as_ref_id() != Some(command.object) && !compared.contains(Slot(slot))
        };
        if (0..).zip(command.body.slots()).any(unseen) {
            return None;
        }
        let news = owner.news.subscribe(command.object);
        let object = owner.inventory.record(command.object)?;
        (work.expected(&object) == Some(false)).then_some(Facts(news))
    }

    /// When the facts show the effect, and everybody who watches them has been told.
    pub async fn shown(self, work: &Work<'_>) -> Revision {
        let (inventory, object) = (&work.owner.inventory, work.run.command.object);
        let holds = || (work.expected(&*inventory.record(object)?)?).then(|| inventory.revision());
        let revision = self.0.until(holds).await;
        inventory.seen(revision).await;
        revision
    }
}
