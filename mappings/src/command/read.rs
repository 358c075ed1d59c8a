//! `[command.METHOD]`: read, checked, compiled. Its rows are read in `read_rows.rs`, effects in `read_effect.rs`.

use super::{Argument, CommandMap, Dependence, Form, Fresh, Guard, GuardValue, Reply};
use crate::{
    calls::Calls,
    cel::{Scope, compile, condition},
    data::{Fields, Item, Node, Table},
    flow::{Flow, Shape},
    lens::{Env, Lens, chain, constant, meets, split},
    object::ObjectMap,
    protocol::faults,
    render::Compiled,
    report::{Findings, Span, did_you_mean},
    schema::{NativeField, NativeMethod, NativeType, TypeId, TypeKind},
    table::{Placed, RawObject, placed},
};
use std::{collections::BTreeMap, sync::Arc};
use union::{
    Kind, Record, Schema, SlotSet, Value,
    command::Code,
    schema::{FieldSchema, MessageSchema},
};

/// What the tables of a protocol's commands are read with.
pub(crate) struct Reading<'a> {
    pub env: &'a Env<'a>,
    pub union: &'a Arc<Schema>,
    pub calls: Option<&'a Calls>,
    pub raws: &'a BTreeMap<Arc<str>, RawObject>,
    pub objects: &'a BTreeMap<Arc<str>, Arc<ObjectMap>>,
    pub compiled: &'a Arc<Compiled>,
    pub findings: &'a mut Findings,
}

pub(super) type Method<'a> = (TypeId, &'a NativeMethod);

impl<'a> Reading<'a> {
    /// The union command called `name`.
    pub(super) fn verb(&mut self, name: &Placed) -> Option<&'a MessageSchema> {
        let union = self.env.union;
        let found = union.message(&name.0).filter(|m| m.command.is_some());
        if found.is_none() {
            let help = did_you_mean(&name.0, union.commands().map(|c| c.name.as_str()));
            self.findings.error_help(name.1, format!("the union has no command `{}`", name.0), help);
        }
        found
    }

    /// Reads `[command.METHOD]`, or `[command."Type.METHOD"]` where several types have the method.
    pub fn command(&mut self, name: &Arc<str>, span: Span, table: &Table) -> Option<CommandMap> {
        let mut fields = Fields::new(table, format!("[command.{name}]"));
        let on = fields.need_str("on", self.findings).map(|(t, s)| (t.clone(), s));
        let verb = fields.need_str("union", self.findings).map(|(t, s)| (t.clone(), s));
        let reply = fields.need_str("reply", self.findings).map(|(t, s)| (t.clone(), s));
        let raw = fields.table("rows", self.findings);
        let consts = fields.table("const", self.findings);
        let edits = fields.table("edit", self.findings);
        let ignored = fields.table("ignore", self.findings);
        let guards = fields.array("guard", self.findings);
        fields.finish(self.findings);
        let on = on?;
        let method_name: Arc<str> = match name.rsplit_once('.') {
            None => name.clone(),
            Some((ty, method)) => {
                if *ty != *on.0 {
                    let message = format!("the key names the type `{ty}`, `on` the type `{}`", on.0);
                    self.findings.error(span, message);
                }
                Arc::from(method)
            }
        };
        let (ty, method) = self.method(&method_name, span, &on)?;
        let message = self.verb(&verb?)?;
        let schema = message.command.clone()?;
        let reply = self.reply(&reply?, method)?;
        let rows = raw.map(|raw| self.arguments(raw, (ty, method), message)).unwrap_or_default();
        let mut edit_maps = Vec::new();
        for entry in edits.map_or(&[][..], |t| &t.entries) {
            edit_maps.extend(self.edit(&entry.key, entry.key_span, &entry.value, (ty, method), message));
        }
        for row in &rows {
            if let Form::Types { keys: Some(keys), .. } = &row.form
                && !edit_maps.iter().any(|edit| edit.path == keys.like)
            {
                let text = format!(
                    "`keys` of `{}` is like `{}`, which no edit of {name} reads",
                    row.path, keys.like
                );
                self.findings.error(span, text);
            }
        }
        let mut left_out = Vec::new();
        for entry in ignored.map_or(&[][..], |t| &t.entries) {
            self.parameter(&entry.key, entry.key_span, ty, method);
            left_out.extend(
                placed(&entry.value, "the reason", self.findings).map(|(why, _)| (entry.key.clone(), why)),
            );
        }
        let (values, fresh) = self.consts(consts, message);
        for parameter in method.parameters.iter().filter(|p| !p.optional && !p.list) {
            let reads = |path: &str| path.split('.').next() == Some(&*parameter.name);
            let covered = raw.is_some_and(|t| t.entries.iter().any(|e| reads(&e.key)))
                || edit_maps.iter().any(|e| reads(&e.path))
                || left_out.iter().any(|(path, _)| reads(path));
            if !covered {
                let message = format!("{name} requires the parameter `{}`; no row reads it", parameter.name);
                self.findings.warning(span, message, None);
            }
        }
        let object_slot = message.fields.iter().find(|f| is_ref(f, schema.on)).map(|f| f.slot);
        let writes = |row: &Argument| match &row.form {
            Form::Value { to, .. } => to.part.is_none() && Some(to.slot) == object_slot,
            _ => false,
        };
        if !rows.iter().any(writes) {
            self.findings.error(
                span,
                format!(
                    "no row of {} says which {} it acts on: \"this\" = \"... | ref {}\"",
                    name, schema.on, schema.on
                ),
            );
        }
        let scope = Scope::command(message.id, schema.on, self.env.union.kind(schema.on).id);
        let guards = guards.iter().filter_map(|g| self.guard(g, method, &scope)).collect();
        let ids = |row: &Argument| match &row.form {
            Form::Value { chain, .. } => chain.lenses.iter().any(|l| matches!(l, Lens::Ref)),
            Form::Named { .. } | Form::File { .. } => true,
            Form::Items { .. } | Form::Types { .. } => false,
        };
        let dependence = if edit_maps.iter().any(super::device::DeviceEdit::needs_stored) {
            Dependence::Object
        } else if rows.iter().any(ids) || !fresh.is_empty() || !edit_maps.is_empty() {
            Dependence::Ids
        } else {
            Dependence::Nothing
        };
        Some(CommandMap {
            method: method_name,
            on_type: Arc::from(self.env.native.name(ty)),
            verb: Arc::from(message.name.as_str()),
            on: schema.on,
            reply,
            dependence,
            at: Arc::from(self.findings.place(span)),
            message: message.id,
            slots: message.fields.len(),
            object_slot,
            rows,
            consts: values,
            fresh,
            edits: edit_maps,
            ignored: left_out,
            guards,
            schema,
        })
    }

    /// `[command.X.const]`: values, and fields that get an id of their own: `{ fresh = "vm", from = "spec.uuid" }`.
    fn consts(
        &mut self,
        table: Option<&Table>,
        message: &'a MessageSchema,
    ) -> (Vec<(union::Slot, Value)>, Vec<Fresh>) {
        let (mut values, mut fresh) = (Vec::new(), Vec::new());
        for entry in table.map_or(&[][..], |t| &t.entries) {
            let Some(field) = self.field(message, &entry.key, entry.key_span) else { continue };
            let Some(inner) = entry.value.as_table() else {
                values.extend(self.union_constant(field, &entry.value).map(|v| (field.slot, v)));
                continue;
            };
            let mut fields = Fields::new(inner, format!("`{}`", entry.key));
            let word = fields.need_str("fresh", self.findings);
            let from = fields.str("from", self.findings).map(|(t, _)| t.clone());
            fields.finish(self.findings);
            let Some((word, span)) = word else { continue };
            match Kind::from_word(word) {
                Some(kind) if is_ref(field, kind) => fresh.push(Fresh { to: field.slot, kind, from }),
                Some(kind) => {
                    let text = format!("`{}` of {} never names a {kind}", field.name, message.name);
                    self.findings.error(span, text);
                }
                None => {
                    let help = did_you_mean(word, Kind::ALL.iter().map(|k| k.word()));
                    self.findings.error_help(span, format!("there is no kind `{word}`"), help);
                }
            }
        }
        (values, fresh)
    }

    fn method(&mut self, name: &str, span: Span, on: &Placed) -> Option<Method<'a>> {
        let native = self.env.native;
        let Some(ty) =
            native.named(&on.0).filter(|id| native.get(*id).is_some_and(|t| t.kind == TypeKind::Managed))
        else {
            let managed = native.types().filter(|(_, t)| t.kind == TypeKind::Managed).map(|(_, t)| &*t.name);
            let help = did_you_mean(&on.0, managed);
            self.findings.error_help(on.1, format!("there is no managed type `{}`", on.0), help);
            return None;
        };
        let Some(method) = native.method(ty, name) else {
            let all: Vec<&str> = native
                .chain(ty)
                .filter_map(|t| native.get(t))
                .flat_map(|t| &t.methods)
                .map(|m| &*m.name)
                .collect();
            let help = did_you_mean(name, all);
            self.findings.error_help(span, format!("{} has no method `{name}`", on.0), help);
            return None;
        };
        Some((ty, method))
    }

    fn reply(&mut self, reply: &Placed, method: &NativeMethod) -> Option<Reply> {
        let task = method
            .returns
            .as_ref()
            .is_some_and(|r| matches!(r.ty, NativeType::Ref(id) if self.env.native.name(id) == "Task"));
        let (wanted, is) = match (&*reply.0, task, method.returns.is_some()) {
            ("task", true, _) => return Some(Reply::Task),
            ("void", _, false) => return Some(Reply::Void),
            ("value", false, true) => return Some(Reply::Value),
            (_, true, _) => ("task", "a task"),
            (_, _, true) => ("value", "a value"),
            _ => ("void", "nothing"),
        };
        self.findings.error(reply.1, format!("{} returns {is}: `reply = \"{wanted}\"`", method.name));
        None
    }

    pub(super) fn field(
        &mut self,
        message: &'a MessageSchema,
        name: &str,
        span: Span,
    ) -> Option<&'a FieldSchema> {
        let found = message.field(name);
        if found.is_none() {
            let help = did_you_mean(name, message.fields.iter().map(|f| f.name.as_str()));
            self.findings.error_help(
                span,
                format!("union message {} has no field `{name}`", message.name),
                help,
            );
        }
        found
    }

    pub(super) fn union_constant(&mut self, field: &FieldSchema, item: &Item) -> Option<Value> {
        let value = union_value(&Shape::of(field), item);
        if value.is_none() {
            let is = Shape::of(field).describe(self.env.native, self.env.union);
            self.findings.error(item.span, format!("`{}` is {is}, not {}", field.name, item.what()));
        }
        value
    }

    fn guard(&mut self, item: &Item, method: &NativeMethod, scope: &Scope) -> Option<Guard> {
        let Some(table) = item.as_table() else {
            self.findings.error(item.span, "a guard is a table");
            return None;
        };
        let mut fields = Fields::new(table, "a guard");
        let when = fields.need_str("when", self.findings);
        let fault = fields.need_str("fault", self.findings);
        let message = fields.str("message", self.findings).map(|(t, _)| t.clone());
        let code = fields.str("code", self.findings);
        let with = fields.table("with", self.findings);
        fields.finish(self.findings);
        let (fault, fault_span) = fault?;
        let known = faults::check_fault(fault, fault_span, self.env.native, self.findings);
        if known {
            self.declared(fault, fault_span, method);
        }
        let code = match code {
            None => Some(Code::InvalidState),
            Some((name, span)) => {
                let code = Code::from_str_name(name);
                if code.is_none() {
                    self.findings.error(span, format!("the union has no code `{name}`"));
                }
                code
            }
        };
        let mut values = Vec::new();
        for entry in with.map_or(&[][..], |t| &t.entries) {
            faults::check_field(fault, &entry.key, entry.key_span, self.env.native, self.findings);
            let field = self.env.native.lookup(fault).and_then(|d| d.field(&entry.key)).cloned();
            let value = field.and_then(|field| self.guard_value(&field, &entry.value, scope));
            values.extend(value.map(|v| (entry.key.clone(), v)));
        }
        let (text, span) = when?;
        let when = condition(text, span, scope, self.env.union, self.findings)?;
        let message =
            message.unwrap_or_else(|| Arc::from(format!("{} is not allowed in this state.", method.name)));
        let at = Arc::from(self.findings.place(item.span));
        Some(Guard { when, fault: fault.clone(), code: code?, message, with: values, at })
    }

    /// The fault must be declared by the method, or be below one that is, or be a runtime fault.
    fn declared(&mut self, fault: &str, span: Span, method: &NativeMethod) {
        let native = self.env.native;
        let Some(id) = native.named(fault) else { return };
        let runtime = native.named("RuntimeFault").is_some_and(|r| native.is_a(id, r));
        if !runtime && !method.faults.iter().any(|f| native.is_a(id, *f)) {
            let declared: Vec<&str> = method.faults.iter().map(|f| native.name(*f)).collect();
            let help = Some(format!("declared: {}, and every RuntimeFault", declared.join(", ")));
            self.findings.error_help(
                span,
                format!("{} does not declare the fault {fault}", method.name),
                help,
            );
        }
    }

    /// A literal, or `vm.field | lens`.
    fn guard_value(&mut self, field: &NativeField, item: &Item, scope: &Scope) -> Option<GuardValue> {
        let is_field = |text: &str| {
            scope.names.iter().any(|(name, ..)| text.strip_prefix(name).is_some_and(|r| r.starts_with('.')))
        };
        match item.as_str().filter(|text| is_field(text)) {
            None => match constant(item, field, self.env) {
                Ok(value) => Some(GuardValue::Const(value)),
                Err((message, help)) => {
                    self.findings.error_help(item.span, message, help);
                    None
                }
            },
            Some(text) => {
                let (name, words) = split(text);
                let program = compile(&Arc::from(name), item.span, scope, self.env.union, self.findings)?;
                let chain = chain(program.shape.clone(), &words, item.span, self.env, self.findings)?;
                if let Err((message, help)) = meets(&chain.shape, field, self.env) {
                    self.findings.error_help(item.span, message, help);
                    return None;
                }
                Some(GuardValue::Field(Box::new((program, chain))))
            }
        }
    }
}

pub(super) fn is_ref(field: &FieldSchema, kind: Kind) -> bool {
    matches!(&field.ty, union::FieldType::Ref(kinds) if kinds.contains(&kind)) && !field.repeated
}

/// A union value as written in a mapping file: enumerations by name, references as `kind:uuid`.
pub(crate) fn union_value(shape: &Shape, item: &Item) -> Option<Value> {
    if shape.list {
        let Node::Array(items) = &item.node else { return None };
        let one = Shape::one(shape.flow.clone());
        return items.iter().map(|i| union_value(&one, i)).collect::<Option<Vec<_>>>().map(Value::list);
    }
    Some(match (&item.node, &shape.flow) {
        (Node::Bool(b), Flow::Bool) => Value::Bool(*b),
        (Node::Int(n), Flow::Int | Flow::Long) => Value::Int(*n),
        (Node::Int(n), Flow::Float) => n.to_string().parse().map(Value::Float).ok()?,
        (Node::Float(n), Flow::Float) => Value::Float(*n),
        (Node::Str(t), Flow::Text) => Value::Str(t.clone()),
        (Node::Str(t), Flow::Enum(e)) => Value::Int(e.number(t)?),
        (Node::Str(t), Flow::Ref(_)) => Value::Ref(t.parse().ok()?),
        _ => return None,
    })
}

/// A record from a table of a mapping file; parts are tables, lists arrays. Unknown fields and values are reported.
pub(crate) fn union_record(
    union: &union::Schema,
    message: &MessageSchema,
    table: &Table,
    findings: &mut Findings,
) -> Record {
    let mut record = message.record();
    let mut known = SlotSet::EMPTY;
    for entry in &table.entries {
        let Some(field) = message.field(&entry.key) else {
            let help = did_you_mean(&entry.key, message.fields.iter().map(|f| f.name.as_str()));
            let text = format!("union message {} has no field `{}`", message.name, entry.key);
            findings.error_help(entry.key_span, text, help);
            continue;
        };
        known.insert(field.slot);
        let shape = Shape::of(field);
        let value = match &shape.flow {
            Flow::Part(id) => match union.get(*id) {
                Some(part) => parts(union, part, shape.list, &entry.value, findings),
                None => None,
            },
            _ => union_value(&shape, &entry.value),
        };
        match value {
            Some(value) => record.set(field.slot, value),
            None => findings.error(entry.value.span, format!("this is not a value of `{}`", entry.key)),
        }
    }
    record
}

pub(crate) fn parts(
    union: &union::Schema,
    part: &MessageSchema,
    list: bool,
    item: &Item,
    findings: &mut Findings,
) -> Option<Value> {
    match &item.node {
        Node::Table(table) if !list => Some(Value::record(union_record(union, part, table, findings))),
        Node::Array(items) if list => {
            let one = |i: &Item| Some(Value::record(union_record(union, part, i.as_table()?, findings)));
            items.iter().map(one).collect::<Option<Vec<_>>>().map(Value::list)
        }
        _ => None,
    }
}
