//! What a lane asks of the mappings.

mod bundle;

pub use bundle::{BundleRules, Facts};

use crate::queue::Conflict;
use inventory::Inventory;
use union::{Command, Origin, Plan, Record, SlotSet, command::Cause};

/// The arriving verb that stands for a wish to cancel the running command.
pub const CANCEL: &str = "Cancel";

/// The tables that decide, guard and lower. Guards and conflicts are those of the protocol that asked; effects those of the target.
pub trait Rules: Send + Sync {
    /// What happens to a command asked through `origin` with verb `arriving` while `running` runs or waits.
    fn conflict(&self, origin: &Origin, running: &str, arriving: &str) -> Conflict;

    /// The first guard that refuses the command, as the cause with the native fault and its fields.
    fn guard(&self, command: &Command, object: &Record, around: &Inventory) -> Result<(), Cause>;

    /// The target's calls for the command, by its protocol's effect table; no steps: nothing to do. A verb that the table refuses, or
    /// does not have, is a cause.
    fn lower(
        &self,
        protocol: &str,
        command: &Command,
        object: &Record,
        around: &Inventory,
    ) -> Result<Plan, Cause>;

    /// Whether the effect is there; `None`: it leaves nothing to look at.
    fn expected(
        &self,
        protocol: &str,
        command: &Command,
        object: &Record,
        around: &Inventory,
    ) -> Option<bool>;

    /// The fields of the command that [`expected`](Rules::expected) compares with the object.
    fn compared(&self, _protocol: &str, _command: &Command) -> SlotSet {
        SlotSet::EMPTY
    }
}
