//! Native values of this protocol: references, and what the mapping renders, on the SOAP wire.
//!
//! ```text
//! property   <val xsi:type="VirtualMachineSummary">…</val>         always says its type
//! array      <val xsi:type="ArrayOfVirtualDevice">                 items say theirs too
//!              <VirtualDevice xsi:type="VirtualDisk">…</VirtualDevice></val>
//! field      <memoryMB>128</memoryMB>                              says its type where the schema leaves it open
//! ```

use crate::{browser::Found, fault::Fault, permission::Sight};
use mapping::{Emit, FieldMeta, NativeRef, Protocol, Role, ValueKind, schema::Primitive};
use std::sync::Arc;
use wire::{
    datetime,
    soap::encode::{Encoder, Mark},
    xml::{Element, escape},
};

mod tree;

pub(crate) use tree::{Node, TreeEmit};

/// The namespace of every message.
pub(crate) const NS: &str = "urn:vim25";

/// An element as a `ManagedObjectReference`.
pub(crate) fn reference(element: Element<'_>) -> Option<NativeRef> {
    let id = element.text().trim();
    let ty = element.attribute("type").unwrap_or_default().trim();
    (!id.is_empty()).then(|| NativeRef { ty: Arc::from(ty), id: Arc::from(id) })
}

/// `<name type="HostSystem">host-1</name>`
pub(crate) fn put_reference(out: &mut Encoder, name: &str, reference: &NativeRef) {
    out.open_with(name, &[("type", &reference.ty)]);
    out.text(&reference.id);
    out.close(name);
}

/// `<name type="HostSystem" xsi:type="ManagedObjectReference">host-1</name>`
pub(crate) fn put_typed_reference(out: &mut Encoder, name: &str, reference: &NativeRef) {
    out.open_with(name, &[("type", &reference.ty), ("xsi:type", "ManagedObjectReference")]);
    out.text(&reference.id);
    out.close(name);
}

/// `<name xsi:type="ArrayOfManagedObjectReference">…</name>`
pub(crate) fn put_reference_array(out: &mut Encoder, name: &str, references: &[NativeRef]) {
    out.open_typed(name, "ArrayOfManagedObjectReference");
    for reference in references {
        put_typed_reference(out, REFERENCE, reference);
    }
    out.close(name);
}

/// The required field of `TaskInfo` that `error` and `result` follow in wire order.
const BEFORE_OUTCOME: &str = "cancelable";
const REFERENCE: &str = "ManagedObjectReference";

/// Tags that were escaped once, for every place of the mapping where a value may be written.
#[derive(Debug, Default)]
pub struct Tags {
    places: Vec<Tag>,
}

#[derive(Debug, Default)]
struct Tag {
    /// The whole start tag; for a property only what follows the name that the caller chooses.
    open: Box<str>,
    close: Box<str>,
    /// For a reference: what follows the native type.
    after_type: Box<str>,
}

impl Tags {
    /// For all places of a protocol.
    pub fn new(protocol: &Protocol) -> Tags {
        Tags { places: protocol.fields().iter().map(|meta| Tag::new(meta)).collect() }
    }

    fn get(&self, meta: &FieldMeta) -> Option<&Tag> {
        self.places.get(meta.index as usize)
    }
}

impl Tag {
    fn new(meta: &FieldMeta) -> Tag {
        let ty = match (meta.role, meta.kind) {
            (Role::Array, kind) => array_type(meta, kind),
            (_, ValueKind::Primitive(Primitive::AnyType)) => String::new(),
            (_, ValueKind::Primitive(_)) => format!("xsd:{}", meta.concrete),
            (_, ValueKind::Ref) => REFERENCE.to_owned(),
            (_, ValueKind::Enum | ValueKind::Data) => meta.concrete.to_string(),
        };
        let told = (meta.typed || meta.role != Role::Field) && !ty.is_empty();
        let told =
            if told { format!(" xsi:type=\"{}\"", escape::attribute_string(&ty)) } else { String::new() };
        let name: &str = match (meta.role, meta.kind) {
            (Role::Item, ValueKind::Ref) => REFERENCE,
            _ => &meta.name,
        };
        let (open, close) = match meta.role {
            Role::Property | Role::Array => (format!("{told}>"), String::new()),
            _ => (format!("<{name}{told}>"), format!("</{name}>")),
        };
        let own = matches!(meta.role, Role::Property | Role::Array);
        if meta.kind == ValueKind::Ref && meta.role != Role::Array {
            let open = if own { " type=\"".to_owned() } else { format!("<{name} type=\"") };
            return Tag { open: open.into(), close: close.into(), after_type: format!("\"{told}>").into() };
        }
        Tag { open: open.into(), close: close.into(), after_type: Box::default() }
    }
}

fn array_type(meta: &FieldMeta, kind: ValueKind) -> String {
    if kind == ValueKind::Ref {
        return format!("ArrayOf{REFERENCE}");
    }
    let mut chars = meta.concrete.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase()).into_iter();
    let name: String = first.chain(chars).collect();
    format!("ArrayOf{name}")
}

/// Writes what the mapping renders; a property under the name the caller chooses.
pub struct Soap<'o> {
    out: &'o mut Encoder,
    tags: &'o Tags,
    name: &'o str,
    outcome: Option<TaskOutcome>,
    sight: Option<&'o Sight<'o>>,
}

/// What a plan for several machines did.
#[derive(Debug)]
pub(crate) struct Attempted {
    /// Machines and their tasks.
    pub(crate) tasks: Vec<(NativeRef, NativeRef)>,
    /// Machines whose command was not taken, and why.
    pub(crate) refused: Vec<(NativeRef, Fault)>,
}

/// What a task ended with, where it is no object.
#[derive(Debug)]
pub(crate) enum TaskResult {
    /// A plan for several machines: each with its own task.
    Attempted(Attempted),
    /// What a search found.
    Found(Vec<Found>),
    /// What a search found in a directory and below.
    FoundBelow(Vec<Found>),
}

/// How a task ended, where that is more than the union knows.
#[derive(Clone, Debug)]
pub(crate) enum TaskOutcome {
    /// It failed: a fault's own fields are no facts of the union.
    Error(Fault),
    /// Its result is no object.
    Result(Arc<TaskResult>),
}

impl TaskOutcome {
    /// As the field of `TaskInfo` that it is.
    fn encode(&self, out: &mut Encoder) {
        match self {
            TaskOutcome::Error(fault) => {
                out.open("error");
                fault.encode_localized(out);
                out.close("error");
            }
            TaskOutcome::Result(result) => result.encode(out),
        }
    }
}

impl TaskResult {
    fn encode(&self, out: &mut Encoder) {
        match self {
            TaskResult::Found(found) => found.iter().for_each(|found| found.encode(out, "result")),
            TaskResult::FoundBelow(found) => {
                out.open_typed("result", "ArrayOfHostDatastoreBrowserSearchResults");
                found.iter().for_each(|found| found.encode(out, "HostDatastoreBrowserSearchResults"));
                out.close("result");
            }
            TaskResult::Attempted(machines) => {
                out.open_typed("result", "ClusterPowerOnVmResult");
                for (machine, task) in &machines.tasks {
                    out.open("attempted");
                    put_reference(out, "vm", machine);
                    put_reference(out, "task", task);
                    out.close("attempted");
                }
                for (machine, fault) in &machines.refused {
                    out.open("notAttempted");
                    put_reference(out, "vm", machine);
                    out.open("fault");
                    fault.encode_localized(out);
                    out.close("fault");
                    out.close("notAttempted");
                }
                out.close("result");
            }
        }
    }
}

impl<'o> Soap<'o> {
    /// Properties are written as `<name …>`.
    pub fn new(out: &'o mut Encoder, tags: &'o Tags, name: &'o str) -> Soap<'o> {
        Soap { out, tags, name, outcome: None, sight: None }
    }

    /// Writes how a task ended into its `TaskInfo`.
    #[must_use]
    pub(crate) fn with_outcome(mut self, outcome: Option<TaskOutcome>) -> Soap<'o> {
        self.outcome = outcome;
        self
    }

    /// Leaves out of lists what the caller does not see.
    #[must_use]
    pub(crate) fn seen_by(mut self, sight: &'o Sight<'o>) -> Soap<'o> {
        self.sight = Some(sight).filter(|sight| !sight.is_whole());
        self
    }

    fn open(&mut self, f: &FieldMeta) {
        if matches!(f.role, Role::Property | Role::Array) {
            self.out.raw("<");
            self.out.raw(self.name);
        }
        if let Some(tag) = self.tags.get(f) {
            self.out.raw(&tag.open);
        }
    }

    fn close(&mut self, f: &FieldMeta) {
        if matches!(f.role, Role::Property | Role::Array) {
            self.out.close(self.name);
        } else if let Some(tag) = self.tags.get(f) {
            self.out.raw(&tag.close);
        }
    }

    fn value(&mut self, f: &FieldMeta, content: impl FnOnce(&mut Encoder)) {
        self.open(f);
        content(self.out);
        self.close(f);
        if f.role == Role::Field
            && &*f.name == BEFORE_OUTCOME
            && let Some(outcome) = &self.outcome
        {
            outcome.encode(self.out);
        }
    }
}

impl Emit for Soap<'_> {
    fn begin(&mut self, f: &FieldMeta) {
        self.open(f);
    }

    fn end(&mut self, f: &FieldMeta) {
        self.close(f);
    }

    fn bool(&mut self, f: &FieldMeta, v: bool) {
        self.value(f, |out| out.bool(v));
    }

    fn int(&mut self, f: &FieldMeta, v: i64) {
        self.value(f, |out| out.int(v));
    }

    fn float(&mut self, f: &FieldMeta, v: f64) {
        self.value(f, |out| out.float(v));
    }

    fn text(&mut self, f: &FieldMeta, v: &str) {
        self.value(f, |out| out.text(v));
    }

    fn time(&mut self, f: &FieldMeta, ms: i64) {
        self.value(f, |out| out.time(ms));
    }

    fn bytes(&mut self, f: &FieldMeta, v: &[u8]) {
        self.value(f, |out| out.bytes(v));
    }

    fn reference(&mut self, f: &FieldMeta, r: &NativeRef) {
        if f.role == Role::Item && self.sight.is_some_and(|sight| !sight.sees_reference(r)) {
            return;
        }
        self.open(f);
        self.out.attribute_value(&r.ty);
        if let Some(tag) = self.tags.get(f) {
            self.out.raw(&tag.after_type);
        }
        self.out.text(&r.id);
        self.close(f);
    }

    fn mark(&self) -> usize {
        self.out.mark().offset()
    }

    fn rollback(&mut self, mark: usize) {
        self.out.rollback(Mark::at(mark));
    }
}

/// Gathers what a property holds, without its form: its text, and what it refers to.
#[derive(Debug, Default)]
pub(crate) struct Plain {
    texts: Vec<String>,
    references: Vec<NativeRef>,
}

impl Plain {
    /// The first text.
    pub(crate) fn text(mut self) -> String {
        if self.texts.is_empty() { String::new() } else { self.texts.swap_remove(0) }
    }

    /// Every reference.
    pub(crate) fn into_references(self) -> Vec<NativeRef> {
        self.references
    }
}

impl Emit for Plain {
    fn begin(&mut self, _: &FieldMeta) {}

    fn end(&mut self, _: &FieldMeta) {}

    fn bool(&mut self, _: &FieldMeta, v: bool) {
        self.texts.push(v.to_string());
    }

    fn int(&mut self, _: &FieldMeta, v: i64) {
        self.texts.push(v.to_string());
    }

    fn float(&mut self, _: &FieldMeta, v: f64) {
        self.texts.push(v.to_string());
    }

    fn text(&mut self, _: &FieldMeta, v: &str) {
        self.texts.push(v.to_owned());
    }

    fn time(&mut self, _: &FieldMeta, ms: i64) {
        self.texts.push(datetime::format(ms).as_str().to_owned());
    }

    fn bytes(&mut self, _: &FieldMeta, _: &[u8]) {}

    fn reference(&mut self, _: &FieldMeta, r: &NativeRef) {
        self.references.push(r.clone());
    }

    /// Both lengths in one number.
    fn mark(&self) -> usize {
        self.texts.len() << 32 | self.references.len()
    }

    fn rollback(&mut self, mark: usize) {
        self.texts.truncate(mark >> 32);
        self.references.truncate(mark & 0xffff_ffff);
    }
}
