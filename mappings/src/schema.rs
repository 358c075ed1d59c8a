//! The vendor's own types as data: what native paths are checked against, and what gives order, occurrence and versions.
//!
//! Read from `schema/*.schema` (the format is described at the head of each such file) and corrected by `overlay.toml`.
//!
//! Limits: 65,535 types, base chains of 32.

use rustc_hash::FxHashMap;
use std::sync::Arc;

mod overlay;
mod parse;

pub(crate) use overlay::apply as apply_overlay;
pub(crate) use parse::parse;

/// A version a client may negotiate: its place in [`NativeSchema::versions`], ascending.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionIndex(pub u16);

impl VersionIndex {
    /// Later than every version.
    pub const NEWEST: VersionIndex = VersionIndex(u16::MAX);
}

/// A type of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TypeId(pub u16);

/// A type that values have, by the names of XML Schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Primitive {
    /// Text.
    String,
    /// A truth value.
    Boolean,
    /// 8 bits.
    Byte,
    /// 16 bits.
    Short,
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
    /// A real number.
    Float,
    /// A real number.
    Double,
    /// A moment, Unix milliseconds in our values.
    DateTime,
    /// Bytes.
    Base64Binary,
    /// Text that is a URI.
    AnyUri,
    /// Any type; the value says which.
    AnyType,
}

impl Primitive {
    const ALL: [(&'static str, Primitive); 12] = [
        ("string", Primitive::String),
        ("boolean", Primitive::Boolean),
        ("byte", Primitive::Byte),
        ("short", Primitive::Short),
        ("int", Primitive::Int),
        ("long", Primitive::Long),
        ("float", Primitive::Float),
        ("double", Primitive::Double),
        ("dateTime", Primitive::DateTime),
        ("base64Binary", Primitive::Base64Binary),
        ("anyURI", Primitive::AnyUri),
        ("anyType", Primitive::AnyType),
    ];

    /// The name in XML Schema.
    pub fn name(self) -> &'static str {
        Primitive::ALL.iter().find(|(_, p)| *p == self).map_or("anyType", |(n, _)| n)
    }

    /// The primitive of that name.
    pub fn named(name: &str) -> Option<Primitive> {
        Primitive::ALL.iter().find(|(n, _)| *n == name).map(|(_, p)| *p)
    }

    /// The least and greatest integer it holds, if it holds integers.
    pub fn range(self) -> Option<(i64, i64)> {
        match self {
            Primitive::Byte => Some((i8::MIN.into(), i8::MAX.into())),
            Primitive::Short => Some((i16::MIN.into(), i16::MAX.into())),
            Primitive::Int => Some((i32::MIN.into(), i32::MAX.into())),
            Primitive::Long => Some((i64::MIN, i64::MAX)),
            _ => None,
        }
    }
}

/// What a property holds, or each item of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NativeType {
    /// A simple value.
    Primitive(Primitive),
    /// One of an enumeration's texts.
    Enum(TypeId),
    /// A structure, or one below it.
    Data(TypeId),
    /// A reference to a managed object of this type, or below it.
    Ref(TypeId),
}

/// One property of a structure or managed object, or one parameter of a method.
#[derive(Clone, Debug, PartialEq)]
pub struct NativeField {
    /// The wire name.
    pub name: Arc<str>,
    /// Its type, or that of its items.
    pub ty: NativeType,
    /// May be left out.
    pub optional: bool,
    /// Several values.
    pub list: bool,
    /// The first version that has it.
    pub since: VersionIndex,
}

/// A method of a managed object.
#[derive(Clone, Debug, PartialEq)]
pub struct NativeMethod {
    /// The wire name.
    pub name: Arc<str>,
    /// The first version that has it.
    pub since: VersionIndex,
    /// In order.
    pub parameters: Vec<NativeField>,
    /// What it returns (`name` is empty).
    pub returns: Option<NativeField>,
    /// The faults it declares.
    pub faults: Vec<TypeId>,
}

/// What kind of type it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TypeKind {
    /// An enumeration.
    Enum,
    /// A structure.
    Data,
    /// A structure that tells of a failure.
    Fault,
    /// An object that lives on the server.
    Managed,
}

/// One type.
#[derive(Clone, Debug)]
pub struct TypeDef {
    /// The wire name.
    pub name: Arc<str>,
    /// What it is.
    pub kind: TypeKind,
    /// The type above it.
    pub base: Option<TypeId>,
    /// The first version that has it.
    pub since: VersionIndex,
    /// All properties, those of the bases first: wire order.
    pub fields: Vec<NativeField>,
    /// Own methods.
    pub methods: Vec<NativeMethod>,
    /// Of an enumeration: its texts.
    pub values: Vec<Arc<str>>,
    /// Types directly below.
    pub heirs: Vec<TypeId>,
}

impl TypeDef {
    /// The property called `name`, bases included.
    pub fn field(&self, name: &str) -> Option<&NativeField> {
        self.fields.iter().find(|f| &*f.name == name)
    }
}

/// The types of one protocol; empty for a protocol whose native form is not made of them.
#[derive(Clone, Debug, Default)]
pub struct NativeSchema {
    versions: Vec<Arc<str>>,
    types: Vec<TypeDef>,
    by_name: FxHashMap<Arc<str>, TypeId>,
}

impl NativeSchema {
    /// The negotiable versions, ascending.
    pub fn versions(&self) -> &[Arc<str>] {
        &self.versions
    }

    /// The version with exactly this id.
    pub fn version(&self, id: &str) -> Option<VersionIndex> {
        let at = self.versions.iter().position(|v| &**v == id)?;
        u16::try_from(at).ok().map(VersionIndex)
    }

    /// The type called `name`.
    pub fn named(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    /// The type called `name`, with its facts.
    pub fn lookup(&self, name: &str) -> Option<&TypeDef> {
        self.named(name).and_then(|id| self.get(id))
    }

    /// The type `id`.
    pub fn get(&self, id: TypeId) -> Option<&TypeDef> {
        self.types.get(usize::from(id.0))
    }

    /// The wire name of `id`.
    pub fn name(&self, id: TypeId) -> &str {
        self.get(id).map_or("?", |t| &t.name)
    }

    /// All types.
    pub fn types(&self) -> impl Iterator<Item = (TypeId, &TypeDef)> {
        (0u16..).map(TypeId).zip(&self.types)
    }

    /// Whether `below` is `above` or descends from it.
    pub fn is_a(&self, below: TypeId, above: TypeId) -> bool {
        self.chain(below).any(|t| t == above)
    }

    /// The type and those above it, nearest first.
    pub fn chain(&self, id: TypeId) -> impl Iterator<Item = TypeId> + '_ {
        std::iter::successors(Some(id), |id| self.get(*id)?.base).take(32)
    }

    /// The type and all below it.
    pub fn family(&self, id: TypeId) -> Vec<TypeId> {
        let mut all = vec![id];
        let mut at = 0;
        while let Some(heirs) = all.get(at).and_then(|id| self.get(*id)).map(|t| &t.heirs) {
            // A type that is above itself is counted once.
            all.extend(heirs.iter().filter(|h| at < self.types.len() && **h != id));
            at += 1;
        }
        all
    }

    /// Whether other structures may stand where `id` is declared.
    pub fn is_polymorphic(&self, id: TypeId) -> bool {
        self.get(id).is_some_and(|t| !t.heirs.is_empty())
    }

    /// A method of the managed type or one above it.
    pub fn method(&self, managed: TypeId, name: &str) -> Option<&NativeMethod> {
        self.chain(managed).find_map(|t| self.get(t)?.methods.iter().find(|m| &*m.name == name))
    }

    /// What a type is called in messages: `int`, `HostSystem`, `reference to HostSystem`.
    pub fn describe(&self, field: &NativeField) -> String {
        let name = match field.ty {
            NativeType::Primitive(p) => p.name().to_owned(),
            NativeType::Enum(id) | NativeType::Data(id) => self.name(id).to_owned(),
            NativeType::Ref(id) => format!("reference to {}", self.name(id)),
        };
        if field.list { format!("list of {name}") } else { name }
    }

    /// Fills in heirs and inherited fields; call once after all types are known.
    fn finish(&mut self) {
        let ids: Vec<TypeId> = self.types().map(|(id, _)| id).collect();
        for id in &ids {
            if let Some(base) = self.get(*id).and_then(|t| t.base)
                && let Some(base) = self.types.get_mut(usize::from(base.0))
            {
                base.heirs.push(*id);
            }
        }
        let own: Vec<Vec<NativeField>> = self.types.iter().map(|t| t.fields.clone()).collect();
        for id in &ids {
            let chain: Vec<TypeId> = self.chain(*id).collect();
            let all =
                chain.iter().rev().filter_map(|t| own.get(usize::from(t.0))).flatten().cloned().collect();
            if let Some(def) = self.types.get_mut(usize::from(id.0)) {
                def.fields = all;
            }
        }
    }
}

#[cfg(test)]
mod tests;
