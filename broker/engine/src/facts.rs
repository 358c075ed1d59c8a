//! The facts of the fleet, as the engine needs them.

use async_trait::async_trait;
use inventory::{
    Inventory, Put,
    fleet::{Fleet, Holder},
};
use std::{fmt::Debug, sync::Arc, time::Duration};
use union::{ObjectId, Record, Slot, Value, command::Revision};

/// The replica of all agents' facts.
#[async_trait]
pub trait Facts: Send + Sync + Debug {
    /// Where they are.
    fn inventory(&self) -> &Arc<Inventory>;

    /// Who holds an object; `None`: no agent does.
    fn holder(&self, id: ObjectId) -> Option<Holder>;

    /// Why nothing can be done to an object: several agents have it.
    fn contested(&self, id: ObjectId) -> Option<String>;

    /// Whether an agent is heard and a target of its has given all its facts: what it has not named is not there.
    fn in_step(&self, agent: &str, target: &str) -> bool;

    /// Waits until the replica holds what an agent had at `revision`, or for `within`. Whether it does.
    async fn reached(&self, agent: &str, revision: Revision, within: Duration) -> bool;

    /// Lays the broker's facts over an object's; an absent value takes the layer off. The revision that shows it.
    fn set_own(&self, id: ObjectId, facts: Vec<(Slot, Value)>) -> Revision {
        self.inventory().set_own(id, facts)
    }

    /// Shows an object that is the broker's own, or takes it away. The revision that shows it. Its fields are a layer too, so that they
    /// are told to whoever follows the layers.
    fn put_own(&self, id: ObjectId, record: Option<Record>) -> Revision {
        let slots = |record: &Record| {
            let slots = record.slots().iter().enumerate();
            let slots = slots.filter(|(_, value)| !value.is_absent());
            let slots = slots.filter_map(|(at, value)| Some((Slot(u16::try_from(at).ok()?), value.clone())));
            slots.collect::<Vec<_>>()
        };
        match record {
            Some(record) => {
                let own = slots(&record);
                self.inventory().apply(vec![Put::Whole(id, record), Put::Own(id, own)])
            }
            None => {
                let own =
                    self.inventory().own(id).into_iter().map(|(slot, _)| (slot, Value::Absent)).collect();
                self.inventory().apply(vec![Put::Own(id, own), Put::Remove(id)])
            }
        }
    }
}

#[async_trait]
impl Facts for Fleet {
    fn inventory(&self) -> &Arc<Inventory> {
        Fleet::inventory(self)
    }

    fn holder(&self, id: ObjectId) -> Option<Holder> {
        Fleet::holder(self, id)
    }

    fn contested(&self, id: ObjectId) -> Option<String> {
        Fleet::contested(self, id)
    }

    fn in_step(&self, agent: &str, target: &str) -> bool {
        self.is_in_step(agent, target)
    }

    async fn reached(&self, agent: &str, revision: Revision, within: Duration) -> bool {
        self.reached_by(agent, revision, within).await.is_some()
    }
}
