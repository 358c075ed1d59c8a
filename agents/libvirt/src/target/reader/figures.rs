//! Figures: what changes all the time and no event tells.

use super::Reader;
use crate::{
    inventory::{
        Names, domain, get,
        stats::{self, Counters, Sample},
    },
    native::{
        api::{Api, Handle},
        call::CallError,
    },
};
use inventory::Put;
use std::collections::BTreeMap;
use union::{Kind, ObjectId, Value, pb::PowerState};

impl Reader {
    /// The figures of the host and of the VMs that run.
    pub async fn figures(&self, api: &Api) -> Result<(), CallError> {
        let names = self.names()?;
        let cpu = api.node_counters("NODE_GET_CPU_STATS", "cpuNum").await?;
        let memory = api.node_counters("NODE_GET_MEMORY_STATS", "cellNum").await?;
        let (mhz, cpus) = {
            let around = self.around.read();
            (around.cpu_mhz, around.cpus)
        };
        let mut fields = BTreeMap::new();
        if let Some(spent) = stats::host_busy_ns(&cpu) {
            fields.insert("cpu_usage_mhz", self.usage(names.host(), spent, mhz));
        }
        fields.insert("memory_usage_bytes", stats::host_used_bytes(&memory));
        if let Some(uptime) = stats::host_uptime_s(&cpu, cpus) {
            let record = self.inventory.record(names.host());
            let known = record.and_then(|r| get(&self.schema, &r, "boot_time_ms").as_int());
            let now = self.clock.now_ms();
            let booted = stats::host_boot_ms(known, now, uptime);
            fields.insert("boot_time_ms", Some(booted));
            fields.insert("uptime_s", Some(now.saturating_sub(booted) / 1000));
        }
        let values = fields
            .into_iter()
            .filter_map(|(field, value)| Some((self.schema.slot(Kind::Host, field)?, Value::Int(value?))));
        let mut puts = vec![Put::Slots(names.host(), values.collect())];
        let domains = api.domain_stats().await?;
        for (handle, params) in &domains {
            let vm = names.vm(handle.uuid);
            // Another target's machine may have the same uuid.
            let Some(record) = self.inventory.record(vm).filter(|_| self.claims.holds(vm)) else { continue };
            let power = get(&self.schema, &record, "power_state").as_int();
            if ![PowerState::Running as i64, PowerState::Paused as i64].iter().any(|s| power == Some(*s)) {
                continue;
            }
            let counters = Counters::read(params);
            let usage = counters.cpu_ns.and_then(|ns| self.usage(vm, ns, mhz));
            let booted = get(&self.schema, &record, "boot_time_ms").as_int();
            let uptime = booted.map(|ms| self.clock.now_ms().saturating_sub(ms) / 1000);
            puts.push(Put::Slots(vm, stats::vm(&self.schema, counters, usage, uptime)));
        }
        self.inventory.apply(puts);
        for (handle, _) in &domains {
            match self.addresses(api, &names, handle).await {
                Err(error) if error.is_connection() => return Err(error),
                // One guest's silent agent is no reason to leave out the others.
                Err(error) => {
                    tracing::debug!(target = %self.target, vm = %handle.name, %error, "no addresses")
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// MHz since the last time; `None` the first time.
    fn usage(&self, id: ObjectId, spent_ns: i64, mhz: i64) -> Option<i64> {
        let now = Sample { spent_ns, at: self.clock.monotonic() };
        let before = self.samples.lock().insert(id, now)?;
        stats::mhz_between(before, now, mhz)
    }

    /// The addresses of a guest that has NICs: what its agent tells, else what its networks' DHCP servers gave.
    async fn addresses(&self, api: &Api, names: &Names, handle: &Handle) -> Result<(), CallError> {
        let vm = names.vm(handle.uuid);
        let Some(record) = self.inventory.record(vm).filter(|_| self.claims.holds(vm)) else { return Ok(()) };
        let field = |name| get(&self.schema, &record, name);
        let running = field("power_state").as_int() == Some(PowerState::Running as i64);
        if !running || field("nics").is_absent() {
            return Ok(());
        }
        let agent = field("tools").as_int() == Some(union::pb::ToolsState::ToolsRunning as i64);
        let mut found = if agent { api.addresses(handle, 1).await? } else { Vec::new() };
        if found.is_empty() {
            found = api.addresses(handle, 0).await?;
        }
        let (nics, first) = domain::guest_nics(&self.schema, &record, &found);
        let hostname = if agent { api.guest_hostname(handle).await? } else { None };
        let hostname = hostname.map(|name| Value::str(&name)).into();
        let values = [("guest_nics", nics), ("guest_ip", first), ("guest_hostname", hostname)];
        let slots = values.into_iter().filter_map(|(f, v)| Some((self.schema.slot(Kind::Vm, f)?, v)));
        self.inventory.apply(vec![Put::Slots(vm, slots.collect())]);
        Ok(())
    }
}
