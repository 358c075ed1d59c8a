//! Calls about configuration: VMs made, changed and removed.

use super::{State, World, change::Change, subject};
use crate::{
    inventory::vm_template,
    native::{CONFIG, Refusal, leads_to},
};
use lane::NativeCall;
use std::sync::Arc;
use union::{
    Kind, ObjectId, Record, Slot, Value,
    pb::{PowerState, ToolsState},
};

impl World {
    /// Whether an object already is as a call would make it.
    pub fn effective(&self, object: ObjectId, call: &NativeCall) -> Option<bool> {
        let subject = subject(object, call);
        let state = self.state.lock();
        let machine = state.vms.get(&subject);
        match &*call.call {
            "CreateVm" => return Some(machine.is_some()),
            "DestroyVm" => return Some(machine.is_none()),
            _ => {}
        }
        let machine = machine?;
        let power = self.power(&machine.record);
        if let Some(wanted) = leads_to(&call.call) {
            return Some(power == wanted);
        }
        if !CONFIG.contains(&&*call.call) {
            return None;
        }
        let mut record = machine.record.clone();
        let asking = OwnedChange { asking: true, ..self.change(&state, Some(power)) };
        let changed = asking.apply(&mut record, call);
        Some(changed.is_ok() && record.changed(&machine.record).is_empty())
    }

    /// What objects are called, for changes.
    fn change<'a>(&'a self, state: &'a State, power: Option<PowerState>) -> OwnedChange<'a> {
        OwnedChange { world: self, state, power, asking: false }
    }

    pub(super) fn configure(
        &self,
        state: &mut State,
        vm: ObjectId,
        call: &NativeCall,
        now: i64,
    ) -> Result<(), Refusal> {
        let gone = || Refusal::Gone(call.call.to_string());
        if &*call.call == "CreateVm" {
            let record = self.made(state, vm, call)?;
            let machine = self.machine(record, now);
            state.own.insert(vm);
            state.vms.insert(vm, machine);
            return Ok(());
        }
        let machine = state.vms.get(&vm).ok_or_else(gone)?;
        let power = self.power(&machine.record);
        if &*call.call == "DestroyVm" {
            if power != PowerState::Stopped {
                return Err(Refusal::State { call: call.call.to_string(), state: power.as_str_name() });
            }
            state.own.remove(&vm);
            state.vms.remove(&vm);
            return Ok(());
        }
        let mut record = machine.record.clone();
        self.change(state, Some(power)).apply(&mut record, call)?;
        state.vms.get_mut(&vm).ok_or_else(gone)?.record = record;
        Ok(())
    }

    /// The record of a VM to be made.
    fn made(&self, state: &State, vm: ObjectId, call: &NativeCall) -> Result<Record, Refusal> {
        if state.vms.contains_key(&vm) {
            return Err(Refusal::Duplicate(format!("there is a {vm} already")));
        }
        let slot = |field| self.schema.slot(Kind::Vm, field).unwrap_or(Slot(u16::MAX - 1));
        let mut record = vm_template(&self.schema);
        let arg = |name: &str| call.args.iter().find(|(n, _)| &**n == name).map(|(_, value)| value);
        if let Some(wanted) = arg("vm").and_then(Value::as_record) {
            for (n, value) in wanted.slots().iter().enumerate().filter(|(_, v)| !v.is_absent()) {
                record.set(Slot(u16::try_from(n).unwrap_or(u16::MAX - 1)), value.clone());
            }
        }
        let host = arg("host")
            .or_else(|| arg("host_id"))
            .and_then(Value::as_ref_id)
            .or_else(|| state.hosts.first().copied());
        if host.is_some_and(|host| !state.own.contains(&host)) {
            return Err(Refusal::Argument(format!("{}: the host is not of this hypervisor", call.call)));
        }
        record.set(slot("host_id"), host);
        for field in ["folder_id", "resource_pool_id"] {
            if let Some(id) = arg(field).and_then(Value::as_ref_id) {
                record.set(slot(field), id);
            }
        }
        record.set(slot("uuid"), vm.uuid.to_string());
        record.set(slot("power_state"), PowerState::Stopped as i32);
        record.set(slot("tools"), ToolsState::ToolsNotInstalled as i32);
        for (field, other, least) in
            [("cpu_count", "cpu_current", 1), ("memory_bytes", "memory_current_bytes", 1 << 30)]
        {
            let value = record.get(slot(field)).as_int().filter(|n| *n > 0).unwrap_or(least);
            record.set(slot(field), value);
            record.set(slot(other), value);
        }
        let args = call.args.iter().filter(|(name, _)| !matches!(&**name, "vm" | "vm_id")).cloned().collect();
        self.change(state, None).apply(&mut record, &NativeCall { args, ..call.clone() })?;
        Ok(record)
    }
}

/// What a change needs to know of the world.
struct OwnedChange<'a> {
    world: &'a World,
    state: &'a State,
    power: Option<PowerState>,
    asking: bool,
}

impl OwnedChange<'_> {
    fn apply(&self, record: &mut Record, call: &NativeCall) -> Result<(), Refusal> {
        let schema = &*self.world.schema;
        let name_of = |id: ObjectId| {
            let slot = schema.slot(id.kind, "name")?;
            self.state.others.get(&id)?.get(slot).as_str().map(Arc::from)
        };
        Change { schema, name_of: &name_of, state: self.power, asking: self.asking }.apply(record, call)
    }
}
