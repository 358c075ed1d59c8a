//! Which target performs a command.

use super::Owner;
use crate::target::Target;
use std::sync::Arc;
use union::{
    Command, Kind, ObjectId, Plan,
    command::{Cause, Code},
};

impl Owner {
    /// The target that holds an object.
    pub fn target_of(&self, id: ObjectId) -> Option<Arc<dyn Target>> {
        self.targets.read().iter().find(|t| t.holds(id)).cloned()
    }

    /// The target for a command: the one that holds its object. Where that is of the broker's making, as a folder is, the one that holds
    /// the host that the command names, else another object in it or in its plan.
    pub(super) fn performer(&self, command: &Command, plan: Option<&Plan>) -> Result<Arc<dyn Target>, Cause> {
        let object = command.object;
        if object.kind != Kind::Folder
            && self.inventory.get(object).is_some()
            && let Some(target) = self.target_of(object)
        {
            return Ok(target);
        }
        let named = plan.and_then(|plan| self.named(command, plan));
        let local = || self.target_of(object).filter(|_| self.inventory.get(object).is_some());
        named.or_else(local).ok_or_else(|| {
            Cause::new(
                Code::NotFound,
                format!("no target of this agent holds {object}; it may have been removed"),
            )
        })
    }

    fn named(&self, command: &Command, plan: &Plan) -> Option<Arc<dyn Target>> {
        let body = || command.body.slots().iter().flat_map(union::Value::refs);
        let steps = || plan.steps.iter().map(|step| step.object);
        let args = || plan.steps.iter().flat_map(|s| &s.call.args).flat_map(|(_, value)| value.refs());
        let hosts = body().chain(args()).filter(|id| id.kind == Kind::Host);
        let rest = steps().chain(args()).chain(body()).filter(|id| id.kind != Kind::Folder);
        hosts.chain(rest).find_map(|id| self.target_of(id))
    }
}
