//! Everything the mapping files of one protocol say, compiled.

use crate::{
    command::{CommandMap, Effect},
    compile::RowInfo,
    lens::EnumTable,
    object::ObjectMap,
    reader::Reader,
    render::{Compiled, FieldMeta},
    schema::NativeSchema,
};
use rustc_hash::FxHashMap;
use std::{
    any::Any,
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};
use union::{MessageId, ObjectId, Record, command::Code};

pub(crate) mod conflict;
pub(crate) mod constants;
pub(crate) mod enums;
pub(crate) mod faults;
pub(crate) mod ids;

pub use conflict::Conflict;
pub use constants::Constant;
pub use faults::{FaultMap, FaultValue};
pub use ids::IdForm;

/// One protocol's mapping.
#[derive(Debug)]
pub struct Protocol {
    /// Its folder's name, for example `vsphere`.
    pub name: Arc<str>,
    /// The vendor's types; empty where the native form is not made of them.
    pub native: Arc<NativeSchema>,
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) objects: BTreeMap<Arc<str>, Arc<ObjectMap>>,
    /// The rows of tables that only make items of lists, with the message they show.
    pub(crate) items: BTreeMap<Arc<str>, (MessageId, Vec<RowInfo>)>,
    /// By union message; managed types and those with a condition first.
    pub(crate) showing: FxHashMap<MessageId, Vec<Arc<ObjectMap>>>,
    pub(crate) commands: BTreeMap<Arc<str>, Arc<CommandMap>>,
    pub(crate) effects: BTreeMap<Arc<str>, Arc<Effect>>,
    pub(crate) conflicts: conflict::ConflictTable,
    pub(crate) ids: ids::Forms,
    pub(crate) faults: FxHashMap<i32, FaultMap>,
    pub(crate) views: BTreeMap<Arc<str>, Constant>,
    pub(crate) tables: BTreeMap<Arc<str>, Constant>,
    pub(crate) enums: BTreeMap<Arc<str>, Arc<EnumTable>>,
    pub(crate) unmapped: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Arc<str>>>,
    pub(crate) family: OnceLock<Arc<dyn Any + Send + Sync>>,
}

impl Protocol {
    /// The map of a native type.
    pub fn object(&self, native_type: &str) -> Option<&Arc<ObjectMap>> {
        self.objects.get(native_type)
    }

    /// All maps, by native type.
    pub fn objects(&self) -> impl Iterator<Item = &Arc<ObjectMap>> {
        self.objects.values()
    }

    /// The rows of every table: of objects, and of items of lists.
    pub fn rows(&self) -> impl Iterator<Item = (&Arc<str>, MessageId, &[RowInfo])> {
        let objects = self.objects.values().map(|m| (&m.native_type, m.union, m.rows()));
        objects.chain(self.items.iter().map(|(name, (message, rows))| (name, *message, rows.as_slice())))
    }

    /// The native type that shows a union record: the first whose `when` holds.
    pub fn show(&self, id: ObjectId, record: &Record, reader: &dyn Reader) -> Option<&Arc<ObjectMap>> {
        self.showing.get(&record.message())?.iter().find(|m| m.fits(id, record, reader))
    }

    /// The map of a native command; of several types that have it, the first by name.
    pub fn command(&self, method: &str) -> Option<&Arc<CommandMap>> {
        self.commands.get(method).or_else(|| self.commands.values().find(|c| *c.method == *method))
    }

    /// The map of a type's method: its own, or that of the nearest type above it.
    pub fn command_of(&self, native_type: &str, method: &str) -> Option<&Arc<CommandMap>> {
        let of = |ty: &str| self.commands.values().find(|c| *c.method == *method && *c.on_type == *ty);
        let id = self.native.named(native_type)?;
        self.native.chain(id).find_map(|ty| of(self.native.name(ty)))
    }

    /// The map of a native command that lifts to a union command.
    pub fn command_to(&self, method: &str, verb: &str) -> Option<&Arc<CommandMap>> {
        self.commands.values().find(|c| *c.method == *method && *c.verb == *verb)
    }

    /// All native commands.
    pub fn commands(&self) -> impl Iterator<Item = &Arc<CommandMap>> {
        self.commands.values()
    }

    /// What a union command becomes on targets of this protocol.
    pub fn effect(&self, verb: &str) -> Option<&Arc<Effect>> {
        self.effects.get(verb)
    }

    /// All effects, by verb.
    pub fn effects(&self) -> impl Iterator<Item = &Arc<Effect>> {
        self.effects.values()
    }

    /// What happens to a command that arrives while another runs; both are union verbs.
    pub fn conflict(&self, running: &str, arriving: &str) -> Conflict {
        self.conflicts.get(running, arriving)
    }

    /// How an object's native id is formed in a view; `None`: the view does not show it.
    pub fn id_form(
        &self,
        view: &str,
        native_type: &str,
        id: ObjectId,
        record: &Record,
        reader: &dyn Reader,
    ) -> Option<&IdForm> {
        self.ids.get(view, native_type, id, record, reader)
    }

    /// The forms of native ids that take a number in a view: what an agent sets numbers aside for.
    pub fn numbered_forms(&self, view: &str) -> std::collections::BTreeSet<String> {
        self.ids.numbered(view)
    }

    /// The forms of native ids, as `[id.TYPE] VIEW`, that `newer` has differently or not at all. Ids that clients hold would mean nothing by
    /// it, or something else.
    pub fn differing_id_forms(&self, newer: &Protocol) -> Vec<String> {
        self.ids.differing(&newer.ids)
    }

    /// The native fault of a union code.
    pub fn fault(&self, code: Code) -> Option<&FaultMap> {
        self.faults.get(&i32::from(code))
    }

    /// The constants of a view, `[view.NAME]`.
    pub fn constants(&self, view: &str) -> Option<&Constant> {
        self.views.get(view)
    }

    /// The names of the views.
    pub fn views(&self) -> impl Iterator<Item = &Arc<str>> {
        self.views.keys()
    }

    /// A free table for the front, `[table.NAME]`.
    pub fn table(&self, name: &str) -> Option<&Constant> {
        self.tables.get(name)
    }

    /// The native text of a union enumeration's number, by `[enum.TABLE]`.
    pub fn enum_text(&self, table: &str, number: i64) -> Option<&Arc<str>> {
        self.enums.get(table)?.text(number)
    }

    /// The union number of a native text, by `[enum.TABLE]`.
    pub fn enum_number(&self, table: &str, text: &str) -> Option<i64> {
        self.enums.get(table)?.read.get(text)?.as_int()
    }

    /// What `[enum.TABLE]` reads, for a target that looks it up once: its union enumeration (`string`: none) and each native text with
    /// its union number. `None`: there is no such table.
    pub fn enum_readings(&self, table: &str) -> Option<(&str, impl Iterator<Item = (&Arc<str>, i64)>)> {
        let table = self.enums.get(table)?;
        let union = table.union.as_ref().map_or("string", |union| union.name.as_str());
        Some((union, table.read.iter().filter_map(|(text, value)| Some((text, value.as_int()?)))))
    }

    /// Every place where rows may write a value; [`FieldMeta::index`] counts them.
    pub fn fields(&self) -> &[Arc<FieldMeta>] {
        &self.compiled.metas
    }

    /// The wire's own table over [`Protocol::fields`], built at first use and kept as long as the bundle. One protocol has one wire
    /// family, so the type is always the same; another type gets a table of its own that is not kept.
    pub fn family<T: Any + Send + Sync>(&self, build: impl Fn(&[Arc<FieldMeta>]) -> T) -> Arc<T> {
        let kept = self.family.get_or_init(|| Arc::new(build(self.fields())));
        kept.clone().downcast::<T>().unwrap_or_else(|_| Arc::new(build(self.fields())))
    }
}
