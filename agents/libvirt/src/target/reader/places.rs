//! The host and the places around its VMs: networks, bridges, pools and their volumes. They are few and told by rare events, so all of them are
//! read at once.

use super::{Places, Reader};
use crate::{
    inventory::{
        Names,
        domain::{self, Surroundings},
        get, host, network, owned, pool, set,
    },
    native::{
        api::{Api, Handle},
        call::CallError,
        uri::Transport,
    },
};
use inventory::Put;
use rustc_hash::FxHashSet;
use std::sync::Arc;
use union::{Kind, ObjectId, Record, Value};

impl Reader {
    /// Reads the host and what VMs refer to. What is no longer named is removed, VMs apart.
    pub async fn surroundings(&self, api: &Api) -> Result<Places, CallError> {
        let answers = self.host_answers(api).await?;
        let names = Names::new(&self.target, &answers.node.hostname, &self.uri.name);
        let before = self.names.write().replace(names.clone());
        if before.is_some_and(|before| before.host() != names.host()) {
            tracing::warn!(target = %self.target, "another host answers at this target's address");
        }
        let address = match &self.uri.transport {
            Transport::Unix(_) => None,
            Transport::Tcp { host, .. } | Transport::Tls { host, .. } => host.parse().ok(),
        };
        let mut record = host::lift(&self.schema, &answers, address);
        let mut seen = Vec::new();
        let mut around =
            Surroundings { cpu_mhz: answers.node.mhz, cpus: answers.node.cpus, ..Surroundings::default() };
        for net in api.networks().await? {
            seen.extend(self.read_network(api, &names, &net, &mut around).await?);
        }
        for pool in api.pools().await? {
            seen.extend(self.read_pool(api, &names, &pool, &mut around).await?);
        }
        around.pools.sort_by(|a, b| a.name.cmp(&b.name));
        let refs = |kind| {
            Value::list(
                seen.iter().map(|(id, _)| *id).filter(|id: &ObjectId| id.kind == kind).map(Value::Ref),
            )
        };
        let networks = self.networks_of_host(&around, &self.around.read(), &names);
        set(&self.schema, &mut record, "network_ids", networks);
        set(&self.schema, &mut record, "storage_pool_ids", refs(Kind::StoragePool));
        // Figures are the counters', not these answers'.
        let figures = ["cpu_usage_mhz", "memory_usage_bytes", "uptime_s", "boot_time_ms"];
        let slots = owned(&self.schema, Kind::Host, &figures);
        self.held.write().insert(names.host());
        self.apply(vec![Put::Part(names.host(), record, slots)]);
        let ids: FxHashSet<ObjectId> = seen.iter().map(|(id, _)| *id).collect();
        self.put(seen);
        let (bridges, changed) = self.replace_around(around, &names);
        let domains = api.domains().await?;
        let gone: Vec<ObjectId> = [Kind::Host, Kind::Network, Kind::StoragePool, Kind::Volume]
            .into_iter()
            .flat_map(|kind| self.held(kind))
            .filter(|id| !ids.contains(id) && !bridges.contains(id) && *id != names.host())
            .collect();
        let revision = self.remove(&gone);
        Ok(Places { domains, changed, revision })
    }

    /// The host's networks by name, then the bridges that guests are attached to without one, of which `known` has more.
    fn networks_of_host(&self, around: &Surroundings, known: &Surroundings, names: &Names) -> Value {
        let mut networks: Vec<(&String, ObjectId)> = around.networks.iter().map(|(n, id)| (n, *id)).collect();
        networks.sort_unstable();
        let plain = |(name, id): (&'_ String, &ObjectId)| *id == names.bridge(name);
        let free = known.bridges.iter().filter(|bridge| {
            let taken = around.bridges.get(bridge.0);
            plain(*bridge) && taken.is_none_or(|id| id == bridge.1)
        });
        let mut bridges: Vec<(&String, ObjectId)> = free.map(|(name, id)| (name, *id)).collect();
        bridges.sort_unstable();
        Value::list(networks.into_iter().chain(bridges).map(|(_, id)| Value::Ref(id)))
    }

    /// Takes over what was read; plain bridges, which only domains name, stay known as long as no network has them.
    fn replace_around(&self, mut next: Surroundings, names: &Names) -> (FxHashSet<ObjectId>, bool) {
        let mut around = self.around.write();
        let mut kept = FxHashSet::default();
        for (name, id) in &around.bridges {
            if *id == names.bridge(name) && !next.bridges.contains_key(name) {
                next.bridges.insert(name.clone(), *id);
                kept.insert(*id);
            }
        }
        let changed = **around != next;
        *around = Arc::new(next);
        (kept, changed)
    }

    async fn read_network(
        &self,
        api: &Api,
        names: &Names,
        net: &Handle,
        around: &mut Surroundings,
    ) -> Result<Option<(ObjectId, Record)>, CallError> {
        let (xml, flags) = match api.network_facts(net).await {
            Ok(facts) => facts,
            // It went between the list and the question.
            Err(CallError::Native(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let id = names.network(net.uuid);
        let Some(record) =
            self.readable(network::lift(&self.schema, names.host(), &xml, flags), "network", &net.name)
        else {
            return Ok(None);
        };
        around.networks.insert(net.name.to_string(), id);
        if let Some(bridge) = get(&self.schema, &record, "bridge").as_str() {
            around.bridges.insert(bridge.to_owned(), id);
        }
        Ok(Some((id, record)))
    }

    async fn read_pool(
        &self,
        api: &Api,
        names: &Names,
        native: &Handle,
        around: &mut Surroundings,
    ) -> Result<Vec<(ObjectId, Record)>, CallError> {
        let (xml, sizes, flags) = match api.pool_facts(native).await {
            Ok(facts) => facts,
            Err(CallError::Native(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let lifted = pool::lift(&self.schema, names.host(), &xml, sizes, flags);
        let Some(record) = self.readable(lifted, "pool", &native.name) else { return Ok(Vec::new()) };
        let id = names.pool(native.uuid);
        let text =
            |record: &Record, field: &str| get(&self.schema, record, field).as_str().map(str::to_owned);
        let [active, ..] = flags;
        around.pools.push(domain::Pool {
            id,
            name: native.name.to_string(),
            path: text(&record, "path"),
            active,
            directory: text(&record, "backing").is_some_and(|backing| self.tables.directory(&backing)),
        });
        let mut read = vec![(id, record)];
        if active {
            for volume in api.volumes(native).await? {
                let (id, record) = pool::volume(&self.schema, &self.tables, names, native.uuid, &volume);
                if let Some(path) = text(&record, "path") {
                    around.by_name.insert((native.name.to_string(), volume.name.to_string()), path.clone());
                    let known = domain::Volume {
                        id,
                        pool: names.pool(native.uuid),
                        path: path.clone(),
                        sizes: volume.sizes,
                    };
                    around.volumes.insert(path, known);
                }
                read.push((id, record));
            }
        }
        Ok(read)
    }

    /// Shows the bridges that a domain's NICs name without a network.
    pub(super) fn note_bridges(&self, names: &Names, root: wire::xml::Element<'_>) {
        for bridge in domain::bridges(root) {
            let id = names.bridge(bridge);
            let mut around = self.around.write();
            if around.bridges.contains_key(bridge) {
                continue;
            }
            Arc::make_mut(&mut around).bridges.insert(bridge.to_owned(), id);
            let networks = self.networks_of_host(&around, &around, names);
            drop(around);
            self.put(vec![(id, network::bridge(&self.schema, names.host(), bridge))]);
            if let Some(slot) = self.schema.slot(Kind::Host, "network_ids") {
                self.apply(vec![Put::Slots(names.host(), vec![(slot, networks)])]);
            }
        }
    }
}
