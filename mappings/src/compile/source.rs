//! Leaves: where a value comes from, through which lenses, and how it is written.

use super::{Compiler, Stand, first};
use crate::{
    cel::{Path, compile},
    data::{Item, Node as Toml},
    flow::{Flow, Shape},
    lens::{Chain, Class, chain, constant, meets, split},
    render::{Deps, Leaf, Node, NodeId, NodeKind, Out, Source, ValueKind},
    report::{Span, did_you_mean},
    schema::{NativeField, NativeType, Primitive},
    table::{Dup, Form, Placed, RawRow},
};
use smallvec::smallvec;
use std::sync::Arc;
use union::{Kind, MessageId, Slot, Value};

/// A resolved right side.
struct Resolved {
    source: Source,
    chain: Chain,
    deps: Deps,
    class: Class,
    text: Arc<str>,
}

impl<'a> Compiler<'a> {
    /// A row that stands for the whole field.
    pub(super) fn end(
        &mut self,
        field: &NativeField,
        row: &'a RawRow,
        stand: &Stand,
        path: &str,
    ) -> Option<NodeId> {
        match &row.form {
            Form::List { entries, key } => return self.list(field, row, entries, key.as_ref(), stand, path),
            Form::Show(from) => return self.shown(field, row, from, stand, path),
            _ => {}
        }
        let resolved = self.resolve(field, row, stand)?;
        let (concrete, kind) = self.concrete(field, row, &resolved.chain.shape)?;
        let place = self.place(field, &concrete, kind);
        let array = self.array(field, kind);
        let out = self.out(field, &resolved.chain.shape);
        let at = Arc::from(self.findings.place(row.span));
        Some(self.push(Node {
            since: field.since,
            required: !field.optional,
            list: field.list,
            array,
            place,
            kind: NodeKind::Leaf(Leaf { source: resolved.source, chain: resolved.chain, out }),
            deps: resolved.deps,
            path: Arc::from(path),
            row: resolved.text,
            at,
            class: resolved.class,
        }))
    }

    fn resolve(&mut self, field: &NativeField, row: &'a RawRow, stand: &Stand) -> Option<Resolved> {
        match &row.form {
            Form::Field { text, span, dup } => self.field_row(field, text, *span, *dup, stand),
            Form::Const(item) => self.const_row(field, item),
            Form::Cel { text, span, lens } => self.cel_row(field, text, *span, lens.as_ref(), stand),
            Form::Reverse(sources) => self.reverse_row(field, row.span, sources),
            Form::List { .. } | Form::Show(_) => None,
        }
    }

    fn field_row(
        &mut self,
        field: &NativeField,
        text: &Arc<str>,
        span: Span,
        dup: Dup,
        stand: &Stand,
    ) -> Option<Resolved> {
        let (name, words) = split(text);
        let (source, shape, deps) = self.source(&name, span, stand)?;
        let chain = chain(shape, &words, span, &self.env, self.findings)?;
        let met = self.meet(&chain.shape, field, span)?;
        let shown_only = dup == Dup::View || !matches!(source, Source::Slot(_) | Source::Item(_));
        let class = if shown_only { Class::RenderOnly } else { met.max(chain.class()) };
        Some(Resolved { source, chain, deps, class, text: text.clone() })
    }

    fn meet(&mut self, shape: &Shape, field: &NativeField, span: Span) -> Option<Class> {
        match meets(shape, field, &self.env) {
            Ok(class) => Some(class),
            Err((message, help)) => {
                self.findings.error_help(span, message, help);
                None
            }
        }
    }

    /// The union side of a row: a field, a hop, the object itself.
    pub(super) fn source(&mut self, name: &str, span: Span, stand: &Stand) -> Option<(Source, Shape, Deps)> {
        let has_id = self.env.union.get(stand.item).is_some_and(|m| m.field("id").is_some());
        if (name == "id" && !has_id) || name == "parent.id" {
            let parent = name == "parent.id";
            let kind_of = |message| self.env.union.get(message).and_then(|m| m.kind);
            let kind = kind_of(if parent { stand.object } else { stand.item }).or(kind_of(stand.object));
            return Some((
                Source::Id { parent },
                Shape::one(Flow::Ref(kind.into_iter().collect())),
                Deps::default(),
            ));
        }
        let (head, hop) = name.split_once("->").map_or((name, None), |(a, b)| (a.trim(), Some(b.trim())));
        let (parent, head) = match head.strip_prefix("parent.") {
            Some(rest) if stand.inside => (true, rest),
            _ => (false, head),
        };
        let message = if parent { stand.object } else { stand.item };
        let (path, shape) = self.union_path(message, head, span)?;
        let own = |path: &Path| match (parent, stand.slot) {
            (false, Some(slot)) => union::SlotSet::of(slot),
            _ => first(path),
        };
        let Some(hop) = hop else {
            let mut deps = Deps { own: own(&path), ..Deps::default() };
            if let (false, Some(slot), Some(kind)) = (parent, stand.slot, stand.other) {
                deps.hops.push((slot, kind, first(&path)));
            }
            let source = match (parent, path.as_slice()) {
                (true, _) => Source::Parent(path),
                (false, [slot]) => Source::Slot(*slot),
                (false, _) => Source::Item(path),
            };
            return Some((source, shape, deps));
        };
        let Shape { flow: Flow::Ref(kinds), list: false } = &shape else {
            let is = shape.describe(self.env.native, self.env.union);
            self.findings.error(span, format!("`->` needs one reference, `{head}` is {is}"));
            return None;
        };
        let [kind] = kinds.as_slice() else {
            self.findings
                .error(span, format!("`->` needs a reference to one kind of object, `{head}` is not"));
            return None;
        };
        if hop.contains("->") {
            self.findings.error(span, "`->` may follow one reference, not several");
            return None;
        }
        let (to, shape) = self.union_path(self.env.union.kind(*kind).id, hop, span)?;
        let from_slot = own(&path).iter().next().unwrap_or(Slot(0));
        let deps = Deps { own: own(&path), hops: vec![(from_slot, *kind, first(&to))], ..Deps::default() };
        Some((Source::Hop { parent, from: path, to }, shape, deps))
    }

    /// The slots of `a.b`, `ext.<ns>.<name>`.
    pub(super) fn union_path(&mut self, message: MessageId, text: &str, span: Span) -> Option<(Path, Shape)> {
        match union_path(self.env.union, message, text) {
            Ok(found) => Some(found),
            Err((message, help)) => {
                self.findings.error_help(span, message, help);
                None
            }
        }
    }

    fn const_row(&mut self, field: &NativeField, item: &'a Item) -> Option<Resolved> {
        let shape = Shape { flow: native_flow(field, item), list: field.list };
        let text: Arc<str> = Arc::from("(constant)");
        let chain = Chain { lenses: Vec::new(), shape };
        let by_view = item.as_table().filter(|t| t.entries.iter().all(|e| self.env.views.contains(&e.key)));
        let source = match by_view {
            None => Source::Const(self.constant(field, item)?),
            Some(table) => {
                let mut views = Vec::new();
                for entry in &table.entries {
                    views.push((entry.key.clone(), self.constant(field, &entry.value)?));
                }
                Source::Views(views)
            }
        };
        Some(Resolved { source, chain, deps: Deps::default(), class: Class::RenderOnly, text })
    }

    fn constant(&mut self, field: &NativeField, item: &Item) -> Option<Value> {
        match constant(item, field, &self.env) {
            Ok(value) => Some(value),
            Err((message, help)) => {
                self.findings.error_help(item.span, message, help);
                None
            }
        }
    }

    fn cel_row(
        &mut self,
        field: &NativeField,
        text: &Arc<str>,
        span: Span,
        lens: Option<&Placed>,
        stand: &Stand,
    ) -> Option<Resolved> {
        let program = compile(text, span, &stand.scope(), self.env.union, self.findings)?;
        let mut result = Chain { lenses: Vec::new(), shape: program.shape.clone() };
        if let Some((lens, at)) = lens {
            let (_, words) = split(&format!("x | {lens}"));
            result = chain(program.shape.clone(), &words, *at, &self.env, self.findings)?;
        } else if let Flow::Ref(kinds) = &program.shape.flow {
            result.shape.flow = Flow::NativeRef(kinds.clone());
        }
        match (&result.shape.flow, field.ty) {
            (Flow::Text, NativeType::Enum(id)) if lens.is_none() => {
                let values = self.env.native.get(id).map_or(&[][..], |t| &t.values);
                let Some(texts) = program.texts() else {
                    let message = format!(
                        "`{}` is the enumeration {}: every result must be a literal of it",
                        field.name,
                        self.env.native.name(id)
                    );
                    self.findings.error(span, message);
                    return None;
                };
                if let Some(wrong) = texts.iter().find(|t| !values.contains(t)) {
                    let help = did_you_mean(wrong, values.iter().map(|v| &**v));
                    let message =
                        format!("native enumeration {} has no value `{wrong}`", self.env.native.name(id));
                    self.findings.error_help(span, message, help);
                    return None;
                }
            }
            (Flow::Text, NativeType::Ref(_)) => {}
            _ => {
                self.meet(&result.shape, field, span)?;
            }
        }
        let deps = stand.deps(&program.reads);
        let text: Arc<str> = Arc::from(format!("(cel) {text}"));
        Some(Resolved {
            source: Source::Cel(Box::new(program)),
            chain: result,
            deps,
            class: Class::RenderOnly,
            text,
        })
    }

    fn reverse_row(&mut self, field: &NativeField, span: Span, sources: &'a [Placed]) -> Option<Resolved> {
        let mut pairs = Vec::new();
        for (text, at) in sources {
            let found = text.split_once('.').and_then(|(kind, name)| {
                let kind = Kind::from_message(kind)?;
                self.env.union.kind(kind).field(name).map(|f| (kind, f.clone()))
            });
            match found {
                Some((kind, f)) if matches!(Shape::of(&f).flow, Flow::Ref(_)) => pairs.push((kind, f.slot)),
                Some(_) => self.findings.error(*at, format!("`{text}` is not a reference")),
                None => {
                    let help = Some("the message and its field, for example `Vm.host_id`".to_owned());
                    self.findings.error_help(*at, format!("`{text}` is not a field of a union object"), help);
                }
            }
        }
        let shape = Shape { flow: Flow::NativeRef(pairs.iter().map(|p| p.0).collect()), list: true };
        self.meet(&shape, field, span)?;
        let deps = Deps { reverse: pairs.clone(), ..Deps::default() };
        let names: Vec<&str> = sources.iter().map(|(t, _)| &**t).collect();
        let text = Arc::from(format!("(reverse) {}", names.join(", ")));
        let chain = Chain { lenses: Vec::new(), shape };
        Some(Resolved { source: Source::Reverse(pairs), chain, deps, class: Class::RenderOnly, text })
    }

    /// The type written on the wire.
    fn concrete(
        &mut self,
        field: &NativeField,
        row: &RawRow,
        shape: &Shape,
    ) -> Option<(Arc<str>, ValueKind)> {
        let any = field.ty == NativeType::Primitive(Primitive::AnyType);
        if let Some((name, span)) = &row.ty {
            if !any {
                self.findings.error(
                    *span,
                    format!("`type` is for anyType, `{}` is {}", field.name, self.env.native.describe(field)),
                );
                return None;
            }
            let Some(primitive) = Primitive::named(name) else {
                self.findings.error(*span, format!("`{name}` is not a simple type"));
                return None;
            };
            return Some((name.clone(), ValueKind::Primitive(primitive)));
        }
        let declared = self.declared(field);
        Some(match field.ty {
            NativeType::Enum(_) => (declared, ValueKind::Enum),
            NativeType::Ref(_) => (declared, ValueKind::Ref),
            NativeType::Data(_) => (declared, ValueKind::Data),
            NativeType::Primitive(p) if !any => (declared, ValueKind::Primitive(p)),
            NativeType::Primitive(_) => {
                let primitive = match &shape.flow {
                    Flow::Bool => Primitive::Boolean,
                    Flow::Int => Primitive::Int,
                    Flow::Long => Primitive::Long,
                    Flow::Float => Primitive::Double,
                    Flow::Bytes => Primitive::Base64Binary,
                    Flow::Time => Primitive::DateTime,
                    Flow::NativeRef(_) | Flow::Ref(_) => {
                        return Some((Arc::from("ManagedObjectReference"), ValueKind::Ref));
                    }
                    _ => Primitive::String,
                };
                (Arc::from(primitive.name()), ValueKind::Primitive(primitive))
            }
        })
    }

    fn out(&self, field: &NativeField, shape: &Shape) -> Out {
        match field.ty {
            NativeType::Enum(_) => Out::Text,
            NativeType::Ref(_) if matches!(shape.flow, Flow::NativeRef(_)) => Out::Ref,
            NativeType::Ref(id) => Out::RefText(Arc::from(self.env.native.name(id))),
            NativeType::Data(_) => Out::Any,
            NativeType::Primitive(p) => match p {
                Primitive::String | Primitive::AnyUri if matches!(shape.flow, Flow::NativeRef(_)) => Out::Id,
                Primitive::String | Primitive::AnyUri => Out::Text,
                Primitive::Boolean => Out::Bool,
                Primitive::Float | Primitive::Double => Out::Float,
                Primitive::DateTime => Out::Time,
                Primitive::Base64Binary => Out::Bytes,
                Primitive::AnyType => Out::Any,
                integer => integer.range().map_or(Out::Any, |(least, most)| Out::Int(least, most)),
            },
        }
    }
}

/// What a constant of this form flows as.
fn native_flow(field: &NativeField, item: &Item) -> Flow {
    match (&item.node, field.ty) {
        (_, NativeType::Enum(id)) => Flow::Native(id),
        (Toml::Bool(_), _) => Flow::Bool,
        (Toml::Int(n), _) => {
            if i32::try_from(*n).is_ok() {
                Flow::Int
            } else {
                Flow::Long
            }
        }
        (Toml::Float(_), _) => Flow::Float,
        _ => Flow::Text,
    }
}

/// The slots and the type of a union path.
pub(crate) fn union_path(
    union: &union::Schema,
    message: MessageId,
    text: &str,
) -> Result<(Path, Shape), (String, Option<String>)> {
    let mut path: Path = smallvec![];
    let mut shape = Shape::one(Flow::Part(message));
    let mut rest = text;
    loop {
        let Flow::Part(id) = shape.flow else {
            return Err((format!("`{text}`: what stands before `{rest}` has no fields"), None));
        };
        if shape.list {
            return Err((format!("`{text}`: what stands before `{rest}` is a list"), None));
        }
        let Some(message) = union.get(id) else { return Err(("no such message".to_owned(), None)) };
        let (name, tail) = if rest.starts_with("ext.") {
            let end = rest.match_indices('.').nth(2).map(|(at, _)| at);
            end.map_or((rest, None), |at| (rest.get(..at).unwrap_or(rest), rest.get(at + 1..)))
        } else {
            rest.split_once('.').map_or((rest, None), |(a, b)| (a, Some(b)))
        };
        let Some(field) = message.field(name) else {
            let help = did_you_mean(name, message.fields.iter().map(|f| f.name.as_str()));
            return Err((format!("union message {} has no field `{name}`", message.name), help));
        };
        path.push(field.slot);
        shape = Shape::of(field);
        match tail {
            Some(tail) => rest = tail,
            None => return Ok((path, shape)),
        }
    }
}
