//! `[effect.VERB]`: read, checked, compiled.

use super::{
    Effect, StepKind,
    changes::ChangeSlots,
    effect::{Call, Devices, EditStep, Own, Refuse, Step, Undo},
    read::{Reading, is_ref},
};
use crate::{
    cel::{Program, Scope, compile, condition},
    data::{Fields, Item, Node, Table},
    flow::{Flow, Shape},
    report::{Span, did_you_mean},
    table::{Placed, placed},
};
use std::sync::Arc;
use union::{
    FieldType, MessageId,
    command::{Class, Code},
    schema::MessageSchema,
};

/// What the steps of one effect are read with.
struct Stand<'a> {
    message: &'a MessageSchema,
    /// The message of the object, and the one that documents and kept facts are of.
    object: &'a MessageSchema,
    about: &'a MessageSchema,
    scope: Scope,
    default: StepKind,
}

type Text<'t> = (&'t Arc<str>, Span);

impl<'a> Reading<'a> {
    /// Reads `[effect.VERB]`.
    pub fn effect(&mut self, name: &Arc<str>, span: Span, table: &Table) -> Option<Effect> {
        let found = self.findings.count();
        let mut fields = Fields::new(table, format!("[effect.{name}]"));
        let refused = fields.str("refused", self.findings).map(|(t, _)| t.clone());
        let emulated = fields.str("emulated", self.findings).map(|(t, _)| t.clone());
        let expect = fields.str("expect", self.findings);
        let appears = fields.str("appears", self.findings);
        let vanishes = fields.str("vanishes", self.findings);
        let refuses = fields.array("refuse", self.findings);
        let raw = fields.array("step", self.findings);
        let own = fields.table("own", self.findings);
        let left = fields.table("left", self.findings);
        fields.finish(self.findings);
        let message = self.verb(&(name.clone(), span))?;
        let schema = message.command.clone()?;
        if raw.is_empty() && own.is_none() && refused.is_none() && emulated.is_none() {
            self.findings.error(span, format!("[effect.{name}] needs steps, `own`, `refused` or `emulated`"));
        }
        if !raw.is_empty() && refused.is_some() {
            self.findings.error(span, format!("[effect.{name}] is refused and so cannot have steps"));
        }
        let object = self.env.union.kind(schema.on);
        let scope = Scope::command(message.id, schema.on, object.id);
        let expect = expect.and_then(|(text, at)| condition(text, at, &scope, self.env.union, self.findings));
        let appears = appears.and_then(|text| self.reference(text, &scope));
        let vanishes = vanishes.and_then(|text| self.reference(text, &scope));
        let kind = appears.as_ref().and_then(|p| match &p.shape.flow {
            Flow::Ref(kinds) => kinds.first().copied(),
            _ => None,
        });
        let about = kind.map_or(object, |kind| self.env.union.kind(kind));
        let default = if matches!(schema.class, Class::Once | Class::OnceProbed) {
            StepKind::Once
        } else {
            StepKind::Idempotent
        };
        let stand = Stand { message, object, about, scope, default };
        let refuses = refuses.iter().filter_map(|item| self.refuse(item, &stand)).collect();
        let steps = raw.iter().filter_map(|item| self.step(item, &stand)).collect();
        let own = own.map(|own| self.own(own, &stand)).unwrap_or_default();
        let effect = Effect {
            verb: name.clone(),
            on: schema.on,
            refused,
            emulated,
            at: Arc::from(self.findings.place(span)),
            schema: self.union.clone(),
            object_slot: message.fields.iter().find(|f| is_ref(f, schema.on)).map(|f| f.slot),
            expect,
            refuses,
            steps,
            own,
            appears,
            vanishes,
        };
        let whole = self.findings.count() == found;
        self.left(&effect, left, message, (span, whole));
        Some(effect)
    }

    /// Every field of the command is looked at, or left out with a reason.
    fn left(
        &mut self,
        effect: &Effect,
        left: Option<&Table>,
        message: &'a MessageSchema,
        (span, whole): (Span, bool),
    ) {
        let looked = effect.looks_at();
        for entry in left.map_or(&[][..], |t| &t.entries) {
            placed(&entry.value, "the reason", self.findings);
            let Some(field) = self.field(message, &entry.key, entry.key_span) else { continue };
            if looked.contains(field.slot) {
                let text = format!("`{}` is looked at, and so it is not left out", entry.key);
                self.findings.error(entry.key_span, text);
            }
        }
        // Steps that could not be read are reported already.
        if effect.refused.is_some() || effect.emulated.is_some() || !whole {
            return;
        }
        for field in &message.fields {
            let said = left.is_some_and(|t| t.get(&field.name).is_some());
            if !said && !looked.contains(field.slot) && Some(field.slot) != effect.object_slot {
                let text =
                    format!("[effect.{}] does not look at `{}` of the command", effect.verb, field.name);
                let help = "use it, refuse it, or say under `left` why it does not matter".to_owned();
                self.findings.error_help(span, text, Some(help));
            }
        }
    }

    /// An expression that names one object.
    fn reference(&mut self, (text, span): Text<'_>, scope: &Scope) -> Option<Program> {
        let program = compile(text, span, scope, self.env.union, self.findings)?;
        if !matches!(program.shape, Shape { flow: Flow::Ref(_), list: false }) {
            let is = program.shape.describe(self.env.native, self.env.union);
            self.findings.error(span, format!("this must name one object, it is {is}"));
            return None;
        }
        Some(program)
    }

    fn refuse(&mut self, item: &Item, stand: &Stand<'_>) -> Option<Refuse> {
        let Some(table) = item.as_table() else {
            self.findings.error(item.span, "a `refuse` is a table");
            return None;
        };
        let mut fields = Fields::new(table, "a `refuse`");
        let when = fields.need_str("when", self.findings);
        let code = fields.need_str("code", self.findings);
        let message = fields.need_str("message", self.findings).map(|(t, _)| t.clone());
        fields.finish(self.findings);
        let (name, code_span) = code?;
        let code = Code::from_str_name(name);
        if code.is_none() {
            let codes = (1..=64).filter_map(|n| Code::try_from(n).ok()).map(|c| c.as_str_name());
            let help = did_you_mean(name, codes);
            self.findings.error_help(code_span, format!("the union has no code `{name}`"), help);
        }
        let (text, span) = when?;
        let when = condition(text, span, &stand.scope, self.env.union, self.findings)?;
        let at = Arc::from(self.findings.place(item.span));
        Some(Refuse { when, code: code?, message: message?, at })
    }

    fn step(&mut self, item: &Item, stand: &Stand<'a>) -> Option<Step> {
        let Some(table) = item.as_table() else {
            self.findings.error(item.span, "a step is a table");
            return None;
        };
        let mut fields = Fields::new(table, "a step");
        let when = fields.str("when", self.findings);
        let each = fields.str("each", self.findings);
        let on = fields.str("on", self.findings);
        let name = fields.need_str("call", self.findings);
        let args = fields.table("args", self.findings);
        let edit = fields.table("edit", self.findings);
        let once = fields.bool("once", self.findings);
        let undo = fields.get("undo");
        fields.finish(self.findings);
        let (mut scope, mut items) = (stand.scope.clone(), None);
        let mut each_program = None;
        if let Some((text, span)) = each {
            let program = compile(text, span, &stand.scope, self.env.union, self.findings)?;
            let Shape { flow: Flow::Part(part), list: true } = program.shape else {
                let is = program.shape.describe(self.env.native, self.env.union);
                self.findings.error(span, format!("`each` needs a list of parts, this is {is}"));
                return None;
            };
            let command = stand.message.command.as_ref()?;
            scope = Scope::step(stand.message.id, command.on, stand.object.id, Some(part));
            items = Some(part);
            each_program = Some(program);
        }
        let when = match when {
            None => None,
            Some((text, span)) => Some(condition(text, span, &scope, self.env.union, self.findings)?),
        };
        let on = on.and_then(|text| self.reference(text, &scope));
        let mut call = self.call(name?, args, &scope);
        call.edit = edit.and_then(|edit| self.script(edit, name?.0, items, stand, &scope));
        if edit.is_some() && call.edit.is_none() {
            return None;
        }
        let undo = match undo {
            None => Undo::Nothing,
            Some(Item { node: Node::Str(word), span }) => {
                if &**word != "back" || call.edit.is_none() {
                    let text = "`undo` is a call, or \"back\" in a step with `edit`: the same call with the script turned back";
                    self.findings.error(*span, text);
                }
                Undo::Back
            }
            Some(Item { node: Node::Table(table), .. }) => {
                let mut fields = Fields::new(table, "`undo`");
                let name = fields.need_str("call", self.findings);
                let args = fields.table("args", self.findings);
                fields.finish(self.findings);
                Undo::Call(Box::new(self.call(name?, args, &scope)))
            }
            Some(other) => {
                self.findings.error(other.span, format!("`undo` is a table, not {}", other.what()));
                Undo::Nothing
            }
        };
        let is = match once {
            None => stand.default,
            Some(true) => StepKind::Once,
            Some(false) => StepKind::Idempotent,
        };
        let at = Arc::from(self.findings.place(item.span));
        Some(Step { when, each: each_program, on, call, undo, is, at })
    }

    fn call(&mut self, (name, span): Text<'_>, args: Option<&Table>, scope: &Scope) -> Call {
        let known = self.calls.map(|calls| calls.arguments(name));
        if let Some(None) = known {
            let help = self.calls.and_then(|c| did_you_mean(name, c.names()));
            self.findings.error_help(span, format!("the target has no call `{name}`"), help);
        }
        let mut out = Vec::new();
        for entry in args.map_or(&[][..], |t| &t.entries) {
            self.known_argument(name, &entry.key, entry.key_span);
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
        Call { name: name.clone(), args: out, edit: None }
    }

    fn known_argument(&mut self, call: &str, argument: &str, span: Span) {
        let Some(Some(known)) = self.calls.map(|calls| calls.arguments(call)) else { return };
        if !known.contains(&argument) {
            let help = did_you_mean(argument, known.iter().copied())
                .or_else(|| Some(format!("arguments: {}", known.join(", "))));
            self.findings.error_help(span, format!("{call} has no argument `{argument}`"), help);
        }
    }

    /// `edit = { argument, form, set, devices }`.
    fn script(
        &mut self,
        table: &Table,
        call: &Arc<str>,
        items: Option<MessageId>,
        stand: &Stand<'a>,
        scope: &Scope,
    ) -> Option<EditStep> {
        let mut fields = Fields::new(table, "`edit`");
        let argument = fields.need_str("argument", self.findings);
        let form = fields.need_str("form", self.findings).map(|(t, _)| t.clone());
        let set = fields.table("set", self.findings);
        let devices = fields.str("devices", self.findings).map(|(t, s)| (t.clone(), s));
        fields.finish(self.findings);
        let (argument, span) = argument?;
        self.known_argument(call, argument, span);
        let mut sets = Vec::new();
        for entry in set.map_or(&[][..], |t| &t.entries) {
            let text = match &entry.value.node {
                Node::Str(text) => text.clone(),
                Node::Int(n) => Arc::from(n.to_string()),
                Node::Bool(b) => Arc::from(b.to_string()),
                _ => {
                    self.findings.error(entry.value.span, "a field is set to an expression");
                    continue;
                }
            };
            let place = (&entry.key, entry.key_span);
            let program = self.fill(place, (&text, entry.value.span), stand.about, scope);
            sets.extend(program.map(|p| (entry.key.clone(), p)));
        }
        let devices = match devices {
            None => Devices::None,
            Some(devices) => self.devices(&devices, items, scope)?,
        };
        if sets.is_empty() && matches!(devices, Devices::None) {
            self.findings.error(table.span, "`edit` changes nothing: it needs `set` or `devices`");
            return None;
        }
        Some(EditStep { argument: argument.clone(), form: form?, set: sets, devices })
    }

    fn devices(&mut self, (text, span): &Placed, items: Option<MessageId>, scope: &Scope) -> Option<Devices> {
        let union = self.env.union;
        let slots = |id: MessageId| union.get(id).and_then(ChangeSlots::of);
        let no = "`devices` is a list of changes of devices, or `item` in a step for each of them";
        if &**text == "item" {
            let slots = items.and_then(slots);
            if slots.is_none() {
                self.findings.error(*span, no);
            }
            return slots.map(Devices::Item);
        }
        let program = compile(text, *span, scope, union, self.findings)?;
        match &program.shape {
            Shape { flow: Flow::Part(part), list: true } if slots(*part).is_some() => {
                let slots = slots(*part)?;
                Some(Devices::List(program, slots))
            }
            _ => {
                self.findings.error(*span, no);
                None
            }
        }
    }

    /// An expression that fills a field of a message.
    fn fill(
        &mut self,
        (name, name_span): Text<'_>,
        (text, span): Text<'_>,
        message: &'a MessageSchema,
        scope: &Scope,
    ) -> Option<Program> {
        let field = self.field(message, name, name_span)?;
        let wants = Shape::of(field);
        // A bare name of the field's enumeration.
        if let (Flow::Enum(e), false) = (&wants.flow, wants.list)
            && let Some(_number) = e.number(text)
        {
            let full: Arc<str> = Arc::from(format!("{}.{text}", e.name));
            return compile(&full, span, scope, self.env.union, self.findings);
        }
        let program = compile(text, span, scope, self.env.union, self.findings)?;
        let fits = match (&program.shape.flow, &wants.flow) {
            (a, b) if a == b => true,
            (Flow::Int | Flow::Long, Flow::Int | Flow::Long) => true,
            (Flow::Ref(a), Flow::Ref(b)) => a.is_empty() || b.is_empty() || a.iter().any(|k| b.contains(k)),
            _ => false,
        };
        if !fits || program.shape.list != wants.list {
            let (is, wants) = (
                program.shape.describe(self.env.native, self.env.union),
                wants.describe(self.env.native, self.env.union),
            );
            self.findings.error(span, format!("`{name}` is {wants}, this is {is}"));
            return None;
        }
        Some(program)
    }

    /// `own = { template = "true" }`.
    fn own(&mut self, table: &Table, stand: &Stand<'a>) -> Vec<Own> {
        let mut out = Vec::new();
        for entry in &table.entries {
            let text = match &entry.value.node {
                Node::Str(text) => text.clone(),
                Node::Int(n) => Arc::from(n.to_string()),
                Node::Bool(b) => Arc::from(b.to_string()),
                _ => {
                    self.findings.error(entry.value.span, "what the broker keeps is an expression");
                    continue;
                }
            };
            let place = (&entry.key, entry.key_span);
            let program = self.fill(place, (&text, entry.value.span), stand.about, &stand.scope);
            let (Some(value), Some(field)) = (program, stand.about.field(&entry.key)) else { continue };
            let key = match (&field.ty, field.repeated) {
                (FieldType::Message(id), true) => self.env.union.get(*id).and_then(|m| m.field("key")),
                _ => None,
            };
            let at = Arc::from(self.findings.place(entry.value.span));
            let (slot, key) = (field.slot, key.map(|f| f.slot));
            out.push(Own { name: entry.key.clone(), slot, value, key, at });
        }
        out
    }
}
