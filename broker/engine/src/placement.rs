//! Where a new VM goes: the host that was asked for, or the one of the pool's cluster with the most memory to spare.

use crate::{engine::Engine, tree::Tree};
use inventory::fleet::Holder;
use std::sync::Arc;
use union::{
    Command, Kind, ObjectId, Record, Value,
    command::{Cause, Code},
    pb::Connection,
};

/// A command that makes an object, with its place.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    /// The command, its host filled in.
    pub command: Command,
    /// Who holds the host.
    pub holder: Holder,
}

/// A field of a command.
pub(crate) fn argument(engine: &Engine, command: &Command, field: &str) -> Value {
    let schema = engine.schema();
    let slot = schema.get(command.body.message()).and_then(|m| m.field(field)).map(|f| f.slot);
    slot.map_or(Value::Absent, |slot| command.body.get(slot).clone())
}

/// A record with one field of it set.
fn with(engine: &Engine, record: &Record, field: &str, value: Value) -> Record {
    let mut record = record.clone();
    let slot = engine.schema().get(record.message()).and_then(|m| m.field(field)).map(|f| f.slot);
    if let Some(slot) = slot {
        record.set(slot, value);
    }
    record
}

impl Engine {
    /// The place of a new VM.
    pub(crate) fn place(&self, command: &Command) -> Result<Placed, Cause> {
        let asked = argument(self, command, "host_id").as_ref_id();
        let pool = argument(self, command, "resource_pool_id").as_ref_id();
        let hosts = match (asked, pool) {
            (Some(host), _) => vec![host],
            (None, Some(pool)) => hosts_of(&self.tree, pool),
            (None, None) => self.deps.facts.inventory().ids(Kind::Host),
        };
        let free = |host: &ObjectId| {
            let number = |field| self.tree.get(*host, field).as_int().unwrap_or(0);
            number("memory_bytes") - number("memory_usage_bytes")
        };
        let ready = |host: &ObjectId| {
            let connection = self.tree.get(*host, "connection").as_int();
            let connected = connection.is_none_or(|c| c == i64::from(Connection::Connected as i32));
            connected && self.tree.get(*host, "maintenance").as_bool() != Some(true)
        };
        let mut fit: Vec<(ObjectId, Holder)> = hosts
            .iter()
            .filter(|host| asked.is_some() || ready(host))
            .filter_map(|host| Some((*host, self.deps.facts.holder(*host)?)))
            .collect();
        fit.sort_by_key(|(host, _)| (-free(host), *host));
        let (host, holder) = fit.into_iter().next().ok_or_else(|| match asked {
            Some(host) => {
                Cause::new(Code::NotFound, format!("no agent holds {host}; it may have been removed"))
            }
            None => Cause::new(Code::Unreachable, "no host of the pool is connected and out of maintenance"),
        })?;
        let body = with(self, &command.body, "host_id", Value::Ref(host));
        Ok(Placed { command: Command { body: Arc::new(body), ..command.clone() }, holder })
    }
}

/// The hosts that a pool's VMs may run on.
fn hosts_of(tree: &Tree, pool: ObjectId) -> Vec<ObjectId> {
    let owner = tree.get(pool, "owner_id").as_ref_id();
    let mut hosts: Vec<ObjectId> =
        owner.map(|cluster| tree.get(cluster, "host_ids").refs().collect()).unwrap_or_default();
    if let (true, Some(cluster)) = (hosts.is_empty(), owner) {
        hosts = tree.referring(Kind::Host, "compute_id", cluster);
    }
    hosts
}
