//! One read of a VM.
//!
//! ```text
//! asked at once ─┬─ document, state ──────────────────▶ a lane waits for news of it? put at once what of it a start or a stop may change
//!                └─ the rest, of a whole read ─ all there ─▶ put
//! ```

use super::{Elsewhere, Extent, Mark, Reader, heard::Turn};
use crate::{
    inventory::{Names, document, domain, get, owned, snapshot},
    native::{
        api::{Api, Handle, State},
        call::CallError,
    },
};
use inventory::Put;
use mapping::edit::Tree;
use rustc_hash::FxHashSet;
use union::{
    Kind, ObjectId, Record, Slot, SlotSet,
    command::Revision,
    pb::{PowerState, ToolsState},
};

/// What only [`Extent::Whole`] reads: told by events of their own, or by none.
const NOT_OF_A_RUN: &[&str] = &["autostart", "snapshots", "current_snapshot_id", "storage_used_bytes"];

/// `VIR_DOMAIN_XML_INACTIVE`: what a domain is defined as, without its secrets.
const INACTIVE: u32 = 1 << 1;

/// What a VM's document and state say.
struct Core {
    rows: Record,
    tools: ToolsState,
    state: State,
}

impl Reader {
    pub(super) async fn read_vm(
        &self,
        api: &Api,
        names: &Names,
        handle: &Handle,
        extent: Extent,
        mark: Mark,
    ) -> Result<Option<Revision>, CallError> {
        let vm = names.vm(handle.uuid);
        if !self.claims.take(vm) {
            return Ok(Some(self.inventory.revision()));
        }
        let whole = extent == Extent::Whole;
        let may_be_active = self.may_be_active(vm);
        let mut sizes = Elsewhere::before(self, vm, &self.around.read().clone());
        let core = async {
            let core = self.read_core(api, names, handle, may_be_active).await?;
            if let Some(core) = core.as_ref().filter(|_| whole && self.heard.is_awaited(vm)) {
                self.put_early(api, names, handle, core, mark);
            }
            Ok::<_, CallError>(core)
        };
        let rest = async {
            if !whole {
                return Ok(None);
            }
            let defined = async {
                match may_be_active {
                    true => api.domain_document(handle, INACTIVE).await.map(Some),
                    false => Ok(None),
                }
            };
            let before = sizes.targets.clone();
            let (snapshots, defined, autostart, ()) = tokio::try_join!(
                api.snapshots(handle),
                defined,
                api.autostart(handle),
                sizes.ask(self, api, handle, before),
            )?;
            Ok(Some((snapshots, defined, autostart)))
        };
        let (core, rest) = tokio::try_join!(core, rest)?;
        let Some(Core { mut rows, tools, mut state }) = core else {
            return Ok(Some(self.inventory.revision()));
        };
        let active = self.tables.active(state);
        let (mut off, mut snapshots) = (None, None);
        if let Some(((documents, current), defined, autostart)) = rest {
            state.autostart = autostart;
            if active {
                let defined = match defined {
                    Some(defined) => defined,
                    None => api.domain_document(handle, INACTIVE).await?,
                };
                off = self.as_defined(&mut rows, &defined, &handle.name);
            }
            let uuid = handle.uuid;
            let lifted =
                snapshot::lift(&self.schema, &self.tables, names, uuid, &documents, current.as_deref());
            snapshots = Some(lifted);
        }
        let around = self.around.read().clone();
        let missing = sizes.missing(self, &rows, &around, whole);
        sizes.ask(self, api, handle, missing).await?;
        let none = snapshot::Lifted::default();
        let answers = domain::Answers {
            rows,
            tools,
            state,
            sizes: sizes.known,
            snapshots: snapshots.as_ref().unwrap_or(&none),
            started_ms: self.started_ms(vm, state),
        };
        let (record, mut slots) =
            domain::lift(&self.schema, &self.tables, names, handle.uuid, &around, answers);
        if !whole {
            slots = self.of_a_run(slots, active);
        }
        if let Some(reason) = api.connection.closed() {
            return Err(CallError::Lost(reason.to_string()));
        }
        let Some(mut turn) = self.heard.turn(vm, mark) else { return Ok(None) };
        turn.read(vm, mark, active, whole.then_some(off));
        Ok(Some(self.put_vm(vm, record, slots, snapshots.map(|lifted| lifted.records))))
    }

    /// `None`: what libvirt said cannot be read, which the log says.
    async fn read_core(
        &self,
        api: &Api,
        names: &Names,
        handle: &Handle,
        may_be_active: bool,
    ) -> Result<Option<Core>, CallError> {
        let (xml, mut state) =
            tokio::try_join!(api.domain_xml(handle), api.domain_state(handle, !may_be_active))?;
        if may_be_active && !self.tables.active(state) {
            state.saved = api.is_saved(handle).await?;
        }
        let document = self.readable(document(&xml), "domain", &handle.name);
        let tree = self.readable(Tree::parse(&xml), "domain", &handle.name);
        let Some((document, tree)) = document.zip(tree) else { return Ok(None) };
        let got = self.rows.get(&tree);
        for gap in &got.gaps {
            self.inventory.gaps().note("libvirt", &gap.path.to_string(), || {
                format!("{} of {}: {}", gap.value, handle.name, gap.why)
            });
        }
        self.note_bridges(names, document.root());
        if !self.tables.runs(state) {
            self.slow.lock().remove(&names.vm(handle.uuid));
        }
        let tools = domain::tools(document.root(), self.tables.power(state), self.tables.agent());
        Ok(Some(Core { rows: got.record, tools, state }))
    }

    /// Puts what is known before a whole read has ended, unless a disk is new, or an event has told more.
    fn put_early(&self, api: &Api, names: &Names, handle: &Handle, core: &Core, mark: Mark) {
        let vm = names.vm(handle.uuid);
        let around = self.around.read().clone();
        let before = Elsewhere::before(self, vm, &around);
        let is_new = !before.missing(self, &core.rows, &around, false).is_empty();
        let turn: Option<Turn<'_>> = self.heard.turn(vm, mark);
        if is_new || turn.is_none() || api.connection.closed().is_some() {
            return;
        }
        let answers = domain::Answers {
            rows: core.rows.clone(),
            tools: core.tools,
            state: core.state,
            sizes: before.known,
            snapshots: &snapshot::Lifted::default(),
            started_ms: self.started_ms(vm, core.state),
        };
        let (record, slots) = domain::lift(&self.schema, &self.tables, names, handle.uuid, &around, answers);
        let slots = self.of_a_run(slots, self.tables.active(core.state));
        self.put_vm(vm, record, slots, None);
    }

    /// Of the slots of a whole read those that a start or a stop may change.
    pub(super) fn of_a_run(&self, mut slots: SlotSet, active: bool) -> SlotSet {
        for slot in self.not_of_a_run(active) {
            slots.0 &= !SlotSet::of(slot).0;
        }
        slots
    }

    fn not_of_a_run(&self, active: bool) -> impl Iterator<Item = Slot> {
        let defined = self.tables.defined().iter().filter(move |_| active).map(|field| &**field);
        let left = NOT_OF_A_RUN.iter().copied().chain(defined);
        left.filter_map(|field| self.schema.slot(Kind::Vm, field))
    }

    /// The least that has to be read of a VM to know these fields.
    pub fn extent_of(&self, fields: SlotSet) -> Extent {
        match self.not_of_a_run(true).any(|slot| fields.contains(slot)) {
            true => Extent::Whole,
            false => Extent::Run,
        }
    }

    /// Whether a VM is not known to be without a process of its own.
    fn may_be_active(&self, vm: ObjectId) -> bool {
        let record = self.inventory.record(vm);
        let power = record.and_then(|record| get(&self.schema, &record, "power_state").as_int());
        power != Some(PowerState::Stopped as i64)
    }

    /// Sets what waits for the next start from what a running domain is defined as; gives all that the rows read of that.
    fn as_defined(&self, record: &mut Record, document: &str, name: &str) -> Option<Record> {
        let tree = self.readable(Tree::parse(document), "definition", name)?;
        let defined = self.rows.get(&tree).record;
        for slot in self.tables.defined().iter().filter_map(|field| self.schema.slot(Kind::Vm, field)) {
            record.set(slot, defined.get(slot).clone());
        }
        Some(defined)
    }

    fn put_vm(
        &self,
        vm: ObjectId,
        record: Record,
        slots: SlotSet,
        snapshots: Option<Vec<(ObjectId, Record)>>,
    ) -> Revision {
        let Some(snapshots) = snapshots else {
            self.held.write().insert(vm);
            return self.apply(vec![Put::Part(vm, record, slots)]);
        };
        let kept: FxHashSet<ObjectId> = snapshots.iter().map(|(id, _)| *id).collect();
        let gone: Vec<ObjectId> = self.snapshots_of(vm).into_iter().filter(|id| !kept.contains(id)).collect();
        let mut held = self.held.write();
        held.insert(vm);
        held.extend(kept);
        held.retain(|id| !gone.contains(id));
        drop(held);
        let all = owned(&self.schema, Kind::Snapshot, &[]);
        let mut puts = vec![Put::Part(vm, record, slots)];
        puts.extend(snapshots.into_iter().map(|(id, record)| Put::Part(id, record, all)));
        puts.extend(gone.into_iter().map(Put::Remove));
        self.apply(puts)
    }

    /// When the running guest was started: told by an event, or seen between two reads; else what was known.
    fn started_ms(&self, vm: ObjectId, state: State) -> Option<i64> {
        let told = self.started.lock().remove(&vm.uuid);
        let before = self.inventory.record(vm);
        let was = before.as_ref().and_then(|r| get(&self.schema, r, "power_state").as_int());
        let off = [PowerState::Stopped, PowerState::Suspended, PowerState::Crashed].map(|s| s as i64);
        let seen = (self.tables.runs(state) && was.is_some_and(|was| off.contains(&was)))
            .then(|| self.clock.now_ms());
        told.or(seen).or_else(|| before.and_then(|r| get(&self.schema, &r, "boot_time_ms").as_int()))
    }
}
