//! `[command.METHOD]` and `[effect.VERB]`: read, checked, compiled.

use super::{
    Argument, CommandMap, Dependence, Effect, Guard, GuardValue, Reply, StepKind,
    effect::{Call, Step},
};
use crate::{
    calls::Calls,
    cel::{Scope, compile, condition},
    compile::union_path,
    data::{Fields, Item, Node, Table},
    flow::{Flow, Shape},
    lens::{Env, Lens, chain, constant, meets, split},
    protocol::faults,
    report::{Findings, Span, did_you_mean},
    schema::{NativeField, NativeMethod, NativeType, TypeId, TypeKind},
    table::{Placed, RawRow, rows},
};
use std::sync::Arc;
use union::{
    Kind, Record, SlotSet, Value,
    command::{Class, Code},
    schema::{FieldSchema, MessageSchema},
};

/// What the tables of a protocol's commands are read with.
pub(crate) struct Reading<'a> {
    pub env: &'a Env<'a>,
    pub calls: Option<&'a Calls>,
    pub findings: &'a mut Findings,
}

type Method<'a> = (TypeId, &'a NativeMethod);

impl<'a> Reading<'a> {
    /// The union command called `name`.
    fn verb(&mut self, name: &Placed) -> Option<&'a MessageSchema> {
        let union = self.env.union;
        let found = union.message(&name.0).filter(|m| m.command.is_some());
        if found.is_none() {
            let help = did_you_mean(&name.0, union.commands().map(|c| c.name.as_str()));
            self.findings.error_help(name.1, format!("the union has no command `{}`", name.0), help);
        }
        found
    }

    /// Reads `[command.METHOD]`.
    pub fn command(&mut self, name: &Arc<str>, span: Span, table: &Table) -> Option<CommandMap> {
        let mut fields = Fields::new(table, format!("[command.{name}]"));
        let on = fields.need_str("on", self.findings).map(|(t, s)| (t.clone(), s));
        let verb = fields.need_str("union", self.findings).map(|(t, s)| (t.clone(), s));
        let reply = fields.need_str("reply", self.findings).map(|(t, s)| (t.clone(), s));
        let raw = fields.table("rows", self.findings).map(|t| rows(t, self.findings)).unwrap_or_default();
        let consts = fields.table("const", self.findings);
        let guards = fields.array("guard", self.findings);
        fields.finish(self.findings);
        let (ty, method) = self.method(name, span, &on?)?;
        let message = self.verb(&verb?)?;
        let schema = message.command.clone()?;
        let reply = self.reply(&reply?, method)?;
        let mut rows = Vec::new();
        for row in &raw {
            rows.extend(self.argument(row, ty, method, message));
        }
        for parameter in method.parameters.iter().filter(|p| !p.optional && !p.list) {
            let covered = raw.iter().any(|r| r.path.split('.').next() == Some(&*parameter.name));
            if !covered {
                let message = format!("{name} requires the parameter `{}`; no row reads it", parameter.name);
                self.findings.warning(span, message, None);
            }
        }
        let mut values = Vec::new();
        for entry in consts.map_or(&[][..], |t| &t.entries) {
            let field = self.field(message, &entry.key, entry.key_span);
            values.extend(field.and_then(|f| self.union_constant(f, &entry.value).map(|v| (f.slot, v))));
        }
        let object_slot = message.fields.iter().find(|f| is_ref(f, schema.on)).map(|f| f.slot);
        if !rows.iter().any(|r| Some(r.slot) == object_slot) {
            self.findings.error(
                span,
                format!(
                    "no row of {name} says which {} it acts on: \"this\" = \"... | ref {}\"",
                    schema.on, schema.on
                ),
            );
        }
        let scope = Scope::command(message.id, schema.on, self.env.union.kind(schema.on).id);
        let guards = guards.iter().filter_map(|g| self.guard(g, method, &scope)).collect();
        let ids = rows.iter().any(|r: &Argument| r.chain.lenses.iter().any(|l| matches!(l, Lens::Ref)));
        Some(CommandMap {
            method: name.clone(),
            on_type: Arc::from(self.env.native.name(ty)),
            verb: Arc::from(message.name.as_str()),
            on: schema.on,
            reply,
            dependence: if ids { Dependence::Ids } else { Dependence::Nothing },
            at: Arc::from(self.findings.place(span)),
            message: message.id,
            slots: message.fields.len(),
            object_slot,
            rows,
            consts: values,
            guards,
            schema,
        })
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

    fn field(&mut self, message: &'a MessageSchema, name: &str, span: Span) -> Option<&'a FieldSchema> {
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

    /// One row: a parameter's path, and the union field it becomes.
    fn argument(
        &mut self,
        row: &RawRow,
        ty: TypeId,
        method: &'a NativeMethod,
        message: &'a MessageSchema,
    ) -> Option<Argument> {
        let crate::table::Form::Field { text, span, .. } = &row.form else {
            self.findings.error(row.span, "a command's row is a union field and its lenses");
            return None;
        };
        let field = self.parameter(&row.path, row.path_span, ty, method)?;
        let (name, words) = split(text);
        let (path, shape) = match union_path(self.env.union, message.id, &name) {
            Ok(found) => found,
            Err((message, help)) => {
                self.findings.error_help(*span, message, help);
                return None;
            }
        };
        let chain = chain(shape, &words, *span, self.env, self.findings)?;
        if let Err((message, help)) = meets(&chain.shape, &field, self.env) {
            self.findings.error_help(*span, message, help);
            return None;
        }
        if let Some(lens) = chain.lenses.iter().find(|l| l.class() == crate::lens::Class::RenderOnly) {
            self.findings.error(
                *span,
                format!("`{}` cannot be read backwards, so it has no place in a command", lens.name()),
            );
            return None;
        }
        let [slot] = path.as_slice() else {
            self.findings.error(*span, "a command's row writes a field of the command itself, not of a part");
            return None;
        };
        let at = Arc::from(self.findings.place(row.span));
        Some(Argument { path: row.path.clone(), field, slot: *slot, chain, text: text.clone(), at })
    }

    /// The native field that an argument's path names.
    fn parameter(
        &mut self,
        path: &str,
        span: Span,
        ty: TypeId,
        method: &'a NativeMethod,
    ) -> Option<NativeField> {
        if path == "this" {
            return Some(NativeField {
                name: Arc::from("this"),
                ty: NativeType::Ref(ty),
                optional: false,
                list: false,
                since: method.since,
            });
        }
        let mut names = path.split('.');
        let first = names.next().unwrap_or("");
        let Some(mut field) = method.parameters.iter().find(|p| &*p.name == first).cloned() else {
            let help = did_you_mean(first, method.parameters.iter().map(|p| &*p.name).chain(["this"]));
            self.findings.error_help(span, format!("{} has no parameter `{first}`", method.name), help);
            return None;
        };
        for name in names {
            let NativeType::Data(id) = field.ty else {
                self.findings.error(span, format!("`{}` of `{path}` has no fields", field.name));
                return None;
            };
            let optional = field.optional;
            let Some(inner) = self.env.native.get(id).and_then(|t| t.field(name)) else {
                let def = self.env.native.get(id);
                let help = did_you_mean(name, def.iter().flat_map(|d| &d.fields).map(|f| &*f.name));
                let message = format!("native type {} has no property `{name}`", self.env.native.name(id));
                self.findings.error_help(span, message, help);
                return None;
            };
            field = NativeField { optional: optional || inner.optional, ..inner.clone() };
        }
        Some(field)
    }

    fn union_constant(&mut self, field: &FieldSchema, item: &Item) -> Option<Value> {
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

    /// Reads `[effect.VERB]`.
    pub fn effect(&mut self, name: &Arc<str>, span: Span, table: &Table) -> Option<Effect> {
        let mut fields = Fields::new(table, format!("[effect.{name}]"));
        let refused = fields.str("refused", self.findings).map(|(t, _)| t.clone());
        let emulated = fields.str("emulated", self.findings).map(|(t, _)| t.clone());
        let expect = fields.str("expect", self.findings);
        let raw = fields.array("step", self.findings);
        fields.finish(self.findings);
        let message = self.verb(&(name.clone(), span))?;
        let schema = message.command.clone()?;
        if raw.is_empty() && refused.is_none() && emulated.is_none() {
            self.findings.error(span, format!("[effect.{name}] needs steps, `refused` or `emulated`"));
        }
        if !raw.is_empty() && refused.is_some() {
            self.findings.error(span, format!("[effect.{name}] is refused and so cannot have steps"));
        }
        let object = self.env.union.kind(schema.on).id;
        let scope = Scope::command(message.id, schema.on, object);
        let expect = expect.and_then(|(text, at)| {
            condition(text, at, &Scope::object(object), self.env.union, self.findings)
        });
        let default = if matches!(schema.class, Class::Once | Class::OnceProbed) {
            StepKind::Once
        } else {
            StepKind::Idempotent
        };
        let steps = raw.iter().filter_map(|s| self.step(s, &scope, default)).collect();
        let object_slot = message.fields.iter().find(|f| is_ref(f, schema.on)).map(|f| f.slot);
        let at = Arc::from(self.findings.place(span));
        Some(Effect { verb: name.clone(), on: schema.on, refused, emulated, at, object_slot, expect, steps })
    }

    fn step(&mut self, item: &Item, scope: &Scope, default: StepKind) -> Option<Step> {
        let Some(table) = item.as_table() else {
            self.findings.error(item.span, "a step is a table");
            return None;
        };
        let mut fields = Fields::new(table, "a step");
        let when = fields.str("when", self.findings);
        let name = fields.need_str("call", self.findings);
        let args = fields.table("args", self.findings);
        let once = fields.bool("once", self.findings);
        let undo = fields.table("undo", self.findings);
        fields.finish(self.findings);
        let when = match when {
            None => None,
            Some((text, span)) => Some(condition(text, span, scope, self.env.union, self.findings)?),
        };
        let call = self.call(name?, args, scope);
        let undo = undo.and_then(|table| {
            let mut fields = Fields::new(table, "`undo`");
            let name = fields.need_str("call", self.findings);
            let args = fields.table("args", self.findings);
            fields.finish(self.findings);
            Some(self.call(name?, args, scope))
        });
        let is = match once {
            None => default,
            Some(true) => StepKind::Once,
            Some(false) => StepKind::Idempotent,
        };
        let at = Arc::from(self.findings.place(item.span));
        Some(Step { when, call, undo, is, at })
    }

    fn call(&mut self, (name, span): (&Arc<str>, Span), args: Option<&Table>, scope: &Scope) -> Call {
        let known = self.calls.map(|calls| calls.arguments(name));
        if let Some(None) = known {
            let help = self.calls.and_then(|c| did_you_mean(name, c.names()));
            self.findings.error_help(span, format!("the target has no call `{name}`"), help);
        }
        let mut out = Vec::new();
        for entry in args.map_or(&[][..], |t| &t.entries) {
            if let Some(Some(known)) = &known
                && !known.contains(&&*entry.key)
            {
                let help = did_you_mean(&entry.key, known.iter().copied())
                    .or_else(|| Some(format!("arguments: {}", known.join(", "))));
                self.findings.error_help(
                    entry.key_span,
                    format!("{name} has no argument `{}`", entry.key),
                    help,
                );
            }
            let text = match &entry.value.node {
                Node::Str(text) => text.clone(),
                Node::Int(n) => Arc::from(n.to_string()),
                Node::Bool(b) => Arc::from(b.to_string()),
                _ => {
                    self.findings.error(entry.value.span, "an argument is an expression");
                    continue;
                }
            };
            let program = compile(&text, entry.value.span, scope, self.env.union, self.findings);
            out.extend(program.map(|p| (entry.key.clone(), p)));
        }
        Call { name: name.clone(), args: out }
    }
}

fn is_ref(field: &FieldSchema, kind: Kind) -> bool {
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

fn parts(
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
