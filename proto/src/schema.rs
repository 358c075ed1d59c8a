//! The union's messages as data: what the mapping checker checks against and what gives each field its slot.
//!
//! Built from the descriptors of `union/v1/*.proto` plus the extension fields that mapping files declare. Slots are dense: a message's
//! own fields in the order of the proto file, then its extension fields by name.
//!
//! Limits: 128 slots a message, 65,535 messages.

use crate::{id::Kind, record::Record};
use prost_reflect::{DescriptorPool, FieldDescriptor, Kind as ProtoKind, MessageDescriptor};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

/// Most fields a message may have, extension fields included.
pub const MAX_SLOTS: usize = 128;

/// A message of one schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u16);

/// A field's place in its message's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u16);

/// A set of slots of one message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlotSet(pub u128);

impl SlotSet {
    /// No slot.
    pub const EMPTY: SlotSet = SlotSet(0);
    /// Every slot.
    pub const ALL: SlotSet = SlotSet(u128::MAX);

    /// The set of one slot.
    pub fn of(slot: Slot) -> SlotSet {
        let mut set = SlotSet::EMPTY;
        set.insert(slot);
        set
    }

    /// Adds a slot.
    pub fn insert(&mut self, slot: Slot) {
        self.0 |= 1u128.checked_shl(u32::from(slot.0)).unwrap_or(0);
    }

    /// Whether the slot is in it.
    pub fn contains(self, slot: Slot) -> bool {
        self.intersects(SlotSet(1u128.checked_shl(u32::from(slot.0)).unwrap_or(0)))
    }

    /// Whether the two have a slot in common.
    pub fn intersects(self, other: SlotSet) -> bool {
        self.0 & other.0 != 0
    }

    /// The slots in either.
    #[must_use]
    pub fn union(self, other: SlotSet) -> SlotSet {
        SlotSet(self.0 | other.0)
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The slots in order.
    pub fn iter(self) -> impl Iterator<Item = Slot> {
        (0..128u16).map(Slot).filter(move |slot| self.contains(*slot))
    }
}

/// The type of a field, or of the items of a repeated one.
#[derive(Clone, Debug, PartialEq)]
pub enum FieldType {
    /// A truth value.
    Bool,
    /// 32-bit integer.
    Int32,
    /// 64-bit integer.
    Int64,
    /// A real number.
    Float,
    /// Text.
    Str,
    /// Bytes.
    Bytes,
    /// One of an enumeration's values.
    Enum(Arc<EnumSchema>),
    /// Another object; empty: of any kind.
    Ref(Vec<Kind>),
    /// A part of the object.
    Message(MessageId),
}

/// An enumeration.
#[derive(Debug, PartialEq)]
pub struct EnumSchema {
    /// For example `PowerState`.
    pub name: String,
    /// Names and numbers, in order; the first is "unspecified".
    pub values: Vec<(String, i64)>,
}

impl EnumSchema {
    /// The number of the value called `name`.
    pub fn number(&self, name: &str) -> Option<i64> {
        self.values.iter().find(|(n, _)| n == name).map(|(_, number)| *number)
    }

    /// The name of the value `number`.
    pub fn name_of(&self, number: i64) -> Option<&str> {
        self.values.iter().find(|(_, n)| *n == number).map(|(name, _)| name.as_str())
    }
}

/// One field of a message.
#[derive(Clone, Debug)]
pub struct FieldSchema {
    /// The name in mapping files; an extension field's is `ext.<namespace>.<name>`.
    pub name: String,
    /// Its place in records.
    pub slot: Slot,
    /// Its number in protobuf; `None` for an extension field.
    pub number: Option<u32>,
    /// Its type, or that of its items.
    pub ty: FieldType,
    /// Several values.
    pub repeated: bool,
    /// It follows the running guest.
    pub runtime: bool,
}

/// One message.
#[derive(Clone, Debug)]
pub struct MessageSchema {
    /// For example `Vm`.
    pub name: String,
    /// Its id in this schema.
    pub id: MessageId,
    /// The kind of object it is, if it is one.
    pub kind: Option<Kind>,
    /// Fields by slot.
    pub fields: Vec<FieldSchema>,
    /// The slots marked `runtime`.
    pub runtime: SlotSet,
    /// For a command: its class, the kind it acts on, the operation it shows.
    pub command: Option<CommandSchema>,
    by_name: HashMap<String, Slot>,
}

/// What the proto file says of a command.
#[derive(Clone, Debug, PartialEq)]
pub struct CommandSchema {
    /// What may be done when the answer is lost.
    pub class: crate::command::Class,
    /// The kind of object it acts on.
    pub on: Kind,
    /// The number of the operation (`Operation`) the object shows meanwhile.
    pub operation: i64,
}

impl MessageSchema {
    /// The field called `name`.
    pub fn field(&self, name: &str) -> Option<&FieldSchema> {
        self.by_name.get(name).and_then(|slot| self.fields.get(usize::from(slot.0)))
    }

    /// The field in `slot`.
    pub fn field_at(&self, slot: Slot) -> Option<&FieldSchema> {
        self.fields.get(usize::from(slot.0))
    }

    /// An empty record.
    pub fn record(&self) -> Record {
        Record::new(self.id, self.fields.len())
    }
}

/// An extension field that a mapping file declares.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExtField {
    /// The message it extends, for example `Vm`.
    pub message: String,
    /// `<namespace>.<name>`, without `ext.`.
    pub name: String,
    /// `bool`, `int`, `float`, `string` or `bytes`.
    pub ty: ExtType,
    /// Several values.
    pub repeated: bool,
    /// It follows the running guest.
    pub runtime: bool,
}

/// The types an extension field may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExtType {
    /// A truth value.
    Bool,
    /// An integer.
    Int,
    /// A real number.
    Float,
    /// Text.
    Str,
}

/// An extension field that cannot be added.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ExtError {
    /// No such message.
    #[error("there is no union message `{0}`")]
    NoMessage(String),
    /// Only objects carry extension fields.
    #[error("union message `{0}` takes no extension fields: only objects do")]
    NotAnObject(String),
    /// Declared twice with different types.
    #[error("extension field `{0}` is declared twice with different types")]
    Conflict(String),
    /// More than [`MAX_SLOTS`].
    #[error("message `{0}` would have more than {MAX_SLOTS} fields")]
    TooMany(String),
}

/// The messages of the union.
#[derive(Debug)]
pub struct Schema {
    messages: Vec<MessageSchema>,
    by_name: HashMap<String, MessageId>,
    by_kind: Vec<MessageId>,
    enums: BTreeMap<String, Arc<EnumSchema>>,
}

static BASE: LazyLock<Arc<Schema>> = LazyLock::new(|| Arc::new(build()));

impl Schema {
    /// The union without extension fields.
    pub fn base() -> Arc<Schema> {
        BASE.clone()
    }

    /// The union with these extension fields.
    pub fn with_ext(ext: &[ExtField]) -> Result<Arc<Schema>, ExtError> {
        let base = Schema::base();
        let mut schema = Schema {
            messages: base.messages.clone(),
            by_name: base.by_name.clone(),
            by_kind: base.by_kind.clone(),
            enums: base.enums.clone(),
        };
        let mut sorted: Vec<&ExtField> = ext.iter().collect();
        sorted.sort();
        sorted.dedup();
        for field in sorted {
            schema.add(field)?;
        }
        Ok(Arc::new(schema))
    }

    fn add(&mut self, ext: &ExtField) -> Result<(), ExtError> {
        let id = self.by_name.get(&ext.message).ok_or_else(|| ExtError::NoMessage(ext.message.clone()))?;
        let message = self
            .messages
            .get_mut(usize::from(id.0))
            .filter(|m| m.kind.is_some())
            .ok_or_else(|| ExtError::NotAnObject(ext.message.clone()))?;
        let name = format!("ext.{}", ext.name);
        if message.by_name.contains_key(&name) {
            return Err(ExtError::Conflict(name));
        }
        if message.fields.len() >= MAX_SLOTS {
            return Err(ExtError::TooMany(ext.message.clone()));
        }
        let slot = Slot(u16::try_from(message.fields.len()).unwrap_or(u16::MAX));
        let ty = match ext.ty {
            ExtType::Bool => FieldType::Bool,
            ExtType::Int => FieldType::Int64,
            ExtType::Float => FieldType::Float,
            ExtType::Str => FieldType::Str,
        };
        if ext.runtime {
            message.runtime.insert(slot);
        }
        message.by_name.insert(name.clone(), slot);
        message.fields.push(FieldSchema {
            name,
            slot,
            number: None,
            ty,
            repeated: ext.repeated,
            runtime: ext.runtime,
        });
        Ok(())
    }

    /// The message called `name`, for example `Vm` or `PowerOn`.
    pub fn message(&self, name: &str) -> Option<&MessageSchema> {
        self.by_name.get(name).and_then(|id| self.get(*id))
    }

    /// The message `id`.
    pub fn get(&self, id: MessageId) -> Option<&MessageSchema> {
        self.messages.get(usize::from(id.0))
    }

    /// The message of a kind of object.
    pub fn kind(&self, kind: Kind) -> &MessageSchema {
        // Every kind has a message: `build` and a test see to it.
        let id = self.by_kind.get(kind as usize).copied().unwrap_or(MessageId(0));
        self.get(id).unwrap_or(&EMPTY)
    }

    /// The slot of a kind's field.
    pub fn slot(&self, kind: Kind, field: &str) -> Option<Slot> {
        self.kind(kind).by_name.get(field).copied()
    }

    /// An enumeration by name.
    pub fn enumeration(&self, name: &str) -> Option<&Arc<EnumSchema>> {
        self.enums.get(name)
    }

    /// All messages.
    pub fn messages(&self) -> &[MessageSchema] {
        &self.messages
    }

    /// The commands of the union.
    pub fn commands(&self) -> impl Iterator<Item = &MessageSchema> {
        self.messages.iter().filter(|m| m.command.is_some())
    }
}

/// Stands in for a kind without a message, which `build` never leaves.
static EMPTY: LazyLock<MessageSchema> = LazyLock::new(|| MessageSchema {
    name: String::new(),
    id: MessageId(u16::MAX),
    kind: None,
    fields: Vec::new(),
    runtime: SlotSet::EMPTY,
    command: None,
    by_name: HashMap::new(),
});

const PACKAGE: &str = "union.v1";

fn build() -> Schema {
    let bytes = include_bytes!(concat!(env!("OUT_DIR"), "/union.bin"));
    // The bytes were made by the build script from our own files.
    let pool = DescriptorPool::decode(bytes.as_slice()).unwrap_or_default();
    let mut enums = BTreeMap::new();
    for e in pool.all_enums().filter(|e| e.parent_file().package_name() == PACKAGE) {
        let values = e.values().map(|v| (v.name().to_owned(), i64::from(v.number()))).collect();
        enums.insert(e.name().to_owned(), Arc::new(EnumSchema { name: e.name().to_owned(), values }));
    }
    let descriptors: Vec<MessageDescriptor> = pool
        .all_messages()
        .filter(|m| m.parent_file().package_name() == PACKAGE && !m.is_map_entry())
        .collect();
    let by_name: HashMap<String, MessageId> =
        (0u16..).zip(&descriptors).map(|(i, m)| (m.name().to_owned(), MessageId(i))).collect();
    let messages: Vec<MessageSchema> = descriptors
        .iter()
        .zip(0u16..)
        .map(|(m, i)| message(&pool, m, MessageId(i), &by_name, &enums))
        .collect();
    let by_kind =
        Kind::ALL.iter().map(|k| by_name.get(k.message()).copied().unwrap_or(MessageId(0))).collect();
    Schema { messages, by_name, by_kind, enums }
}

fn message(
    pool: &DescriptorPool,
    descriptor: &MessageDescriptor,
    id: MessageId,
    names: &HashMap<String, MessageId>,
    enums: &BTreeMap<String, Arc<EnumSchema>>,
) -> MessageSchema {
    let mut fields = Vec::new();
    let mut by_name = HashMap::new();
    let mut runtime = SlotSet::EMPTY;
    let plain = descriptor.fields().filter(|f| !f.is_map());
    for (f, index) in plain.zip(0u16..) {
        let slot = Slot(index);
        let is_runtime = option(pool, &f, "runtime").and_then(|v| v.as_bool()).unwrap_or(false);
        if is_runtime {
            runtime.insert(slot);
        }
        by_name.insert(f.name().to_owned(), slot);
        fields.push(FieldSchema {
            name: f.name().to_owned(),
            slot,
            number: Some(f.number()),
            ty: field_type(pool, &f, names, enums),
            repeated: f.is_list(),
            runtime: is_runtime,
        });
    }
    MessageSchema {
        name: descriptor.name().to_owned(),
        id,
        kind: Kind::from_message(descriptor.name()),
        fields,
        runtime,
        command: command(pool, descriptor, enums),
        by_name,
    }
}

fn option(pool: &DescriptorPool, field: &FieldDescriptor, name: &str) -> Option<prost_reflect::Value> {
    let extension = pool.get_extension_by_name(&format!("{PACKAGE}.{name}"))?;
    let options = field.options();
    options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())
}

fn field_type(
    pool: &DescriptorPool,
    field: &FieldDescriptor,
    names: &HashMap<String, MessageId>,
    enums: &BTreeMap<String, Arc<EnumSchema>>,
) -> FieldType {
    match field.kind() {
        ProtoKind::Bool => FieldType::Bool,
        ProtoKind::Double | ProtoKind::Float => FieldType::Float,
        ProtoKind::Int32 | ProtoKind::Sint32 | ProtoKind::Uint32 => FieldType::Int32,
        ProtoKind::Bytes => FieldType::Bytes,
        ProtoKind::Enum(e) => enums.get(e.name()).cloned().map_or(FieldType::Int32, FieldType::Enum),
        ProtoKind::Message(m) => names.get(m.name()).copied().map_or(FieldType::Bytes, FieldType::Message),
        ProtoKind::String => match option(pool, field, "ref").and_then(|v| v.as_str().map(str::to_owned)) {
            None => FieldType::Str,
            Some(kinds) => FieldType::Ref(kinds.split('|').filter_map(Kind::from_message).collect()),
        },
        _ => FieldType::Int64,
    }
}

fn command(
    pool: &DescriptorPool,
    descriptor: &MessageDescriptor,
    enums: &BTreeMap<String, Arc<EnumSchema>>,
) -> Option<CommandSchema> {
    let options = descriptor.options();
    let get = |name: &str| {
        let extension = pool.get_extension_by_name(&format!("{PACKAGE}.{name}"))?;
        options.has_extension(&extension).then(|| options.get_extension(&extension).into_owned())
    };
    let class = get("class")?.as_enum_number().and_then(crate::command::Class::from_number)?;
    let on = get("on")?.as_str().and_then(Kind::from_message)?;
    let operation = get("operation")
        .and_then(|v| v.as_str().and_then(|name| enums.get("Operation")?.number(name)))
        .unwrap_or(0);
    Some(CommandSchema { class, on, operation })
}
