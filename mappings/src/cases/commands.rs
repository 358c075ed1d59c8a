//! Command, guard and effect cases.

use super::{
    Case, pairs,
    said::{call_said, value_said},
    text,
    world::{World, native, value_text},
};
use crate::{
    command::{
        NativeArgs, NativeValue,
        read::{parts, union_record},
    },
    data::{Entry, Fields, Item, Node, Table},
    flow::{Flow, Shape},
};
use union::{ObjectId, Record, Value, schema::MessageSchema};

/// The arguments of a case: references are written `Type id`; a structure is a table, with its type as `type:`, and a dotted name stands
/// for tables within one another.
struct Args<'a>(&'a [Entry]);

/// What names a structure's type.
const TYPE: &str = "type:";

impl<'a> Args<'a> {
    /// Calls with what stands at a path.
    fn at(&self, path: &str) -> Option<&'a Item> {
        if let Some(entry) = self.0.iter().find(|e| &*e.key == path) {
            return Some(&entry.value);
        }
        self.0.iter().find_map(|e| {
            let rest = path.strip_prefix(&*e.key)?.strip_prefix('.')?;
            Args(&e.value.as_table()?.entries).at(rest)
        })
    }
}

impl NativeArgs for Args<'_> {
    fn get(&self, path: &str) -> Option<NativeValue> {
        self.at(path).filter(|item| item.as_table().is_none()).map(value)
    }

    fn items(&self, path: &str) -> Vec<Box<dyn NativeArgs + '_>> {
        fn entries(item: &Item) -> Option<&[Entry]> {
            item.as_table().map(|t| t.entries.as_slice())
        }
        let found = match self.at(path).map(|item| &item.node) {
            Some(Node::Table(table)) => vec![table.entries.as_slice()],
            Some(Node::Array(items)) => items.iter().filter_map(entries).collect(),
            _ => Vec::new(),
        };
        found.into_iter().map(|entries| Box::new(Args(entries)) as Box<dyn NativeArgs + '_>).collect()
    }

    fn type_name(&self) -> Option<String> {
        self.0.iter().find(|e| &*e.key == TYPE).and_then(|e| e.value.as_str()).map(|t| t.to_string())
    }

    fn names(&self, path: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        let mut add = |key: &str| {
            let name = key.split('.').next().unwrap_or(key).to_owned();
            if name != TYPE && !names.contains(&name) {
                names.push(name);
            }
        };
        for entry in self.0 {
            let key = &*entry.key;
            if path.is_empty() {
                add(key);
            } else if let Some(rest) = key.strip_prefix(path).and_then(|r| r.strip_prefix('.')) {
                add(rest);
            }
        }
        if let Some(Node::Table(table)) = self.at(path).map(|item| &item.node) {
            table.entries.iter().for_each(|e| add(&e.key));
        }
        names
    }
}

fn value(item: &Item) -> NativeValue {
    match &item.node {
        Node::Array(items) => NativeValue::Items(items.iter().map(value).collect()),
        Node::Str(t)
            if t.split_once(' ').is_some_and(|(ty, id)| {
                ty.starts_with(char::is_uppercase)
                    && ty.chars().all(char::is_alphanumeric)
                    && id.contains('-')
                    && !id.contains(' ')
            }) =>
        {
            NativeValue::Ref(native(t))
        }
        _ => NativeValue::Text(text(item)),
    }
}

impl Case<'_> {
    fn record(&mut self, message: &MessageSchema, table: Option<&Table>) -> Record {
        match table {
            Some(table) => union_record(&self.bundle.schema, message, table, self.findings),
            None => message.record(),
        }
    }

    fn world(&mut self, fields: &mut Fields<'_>) -> World {
        let view = fields.str("view", self.findings).map(|(t, _)| t.to_string()).unwrap_or_default();
        let others = fields.array("objects", self.findings);
        let mut world = World::new(self.protocol, &self.bundle.schema, &view);
        world.read(others, self.bundle, self.findings);
        world
    }

    pub(super) fn command(&mut self, fields: &mut Fields<'_>) -> Option<()> {
        let method = fields.need_str("method", self.findings).map(|(t, _)| t.clone());
        let args = fields.table("args", self.findings);
        let gives = fields.table("gives", self.findings);
        let fails = fields.str("fails", self.findings).map(|(t, _)| t.clone());
        let depends = fields.str("depends", self.findings).map(|(t, _)| t.clone());
        let on = fields.str("on", self.findings).map(|(t, _)| t.clone());
        let stored = fields.table("stored", self.findings);
        let world = self.world(fields);
        let method = method?;
        let protocol = self.protocol.clone();
        let found = match &on {
            Some(on) => protocol.command_of(on, &method),
            None => protocol.command(&method),
        };
        let Some(map) = found else {
            return self.fail(format!("there is no [command.{method}]"));
        };
        if let Some(depends) = depends {
            self.same("depends", &depends, &map.dependence.to_string());
        }
        let schema = self.bundle.schema.clone();
        let stored = stored.map(|table| self.record(schema.kind(map.on), Some(table)));
        let around: &dyn crate::Reader = &world;
        let stored = stored.as_ref().map(|record| (record, around));
        let lifted = map.lift(&Args(args.map_or(&[], |t| &t.entries)), &world, stored);
        let record = match (lifted, fails) {
            (Err(error), Some(part)) if error.to_string().contains(&*part) => return Some(()),
            (Err(error), _) => return self.fail(format!("cannot be lifted: {error}")),
            (Ok(_), Some(part)) => return self.fail(format!("expected a failure that says `{part}`")),
            (Ok(record), None) => record,
        };
        let message = schema.get(record.message())?;
        let expected = pairs(gives);
        for (name, _) in &expected {
            if message.field(name).is_none() {
                self.why.push(format!("union message {} has no field `{name}`", message.name));
            }
        }
        for field in &message.fields {
            let shape = Shape::of(field);
            let found = record.get(field.slot);
            if let Flow::Part(part) = &shape.flow
                && let Some(item) = gives.and_then(|t| t.get(&field.name))
            {
                let part = schema.get(*part)?;
                let expected = parts(&schema, part, shape.list, item, self.findings).unwrap_or_default();
                self.same(&field.name, &value_said(&schema, &expected), &value_said(&schema, found));
                continue;
            }
            let expected = expected.iter().find(|(n, _)| **n == *field.name).map(|(_, t)| t.clone());
            let expected = expected.map(|text| expected_text(&text, &shape, &world));
            match expected {
                None if found.is_absent() => {}
                None => self.why.push(format!(
                    "{}: expected nothing, found `{}`",
                    field.name,
                    value_text(found, &shape)
                )),
                Some(expected) => self.same(&field.name, &expected, &value_text(found, &shape)),
            }
        }
        Some(())
    }

    pub(super) fn guard(&mut self, fields: &mut Fields<'_>) -> Option<()> {
        let method = fields.need_str("method", self.findings).map(|(t, _)| t.clone());
        let object = fields.table("object", self.findings);
        let command = fields.table("command", self.findings);
        let fault = fields.need_str("fault", self.findings).map(|(t, _)| t.clone());
        let with = fields.table("with", self.findings);
        let on = fields.str("on", self.findings).map(|(t, _)| t.clone());
        let world = self.world(fields);
        let (method, fault) = (method?, fault?);
        let protocol = self.protocol.clone();
        let found = match &on {
            Some(on) => protocol.command_of(on, &method),
            None => protocol.command(&method),
        };
        let Some(map) = found else {
            return self.fail(format!("there is no [command.{method}]"));
        };
        let schema = self.bundle.schema.clone();
        let object = self.record(schema.kind(map.on), object);
        let command = self.record(schema.get(map.message)?, command);
        let answer = map.guard(&command, &object, &world);
        let found = answer.as_ref().err().map_or("", |cause| &cause.fault);
        self.same("fault", &fault, found);
        let arguments = answer.err().map(|cause| cause.arguments).unwrap_or_default();
        for (name, expected) in pairs(with) {
            let value = arguments.iter().find(|(n, _)| *n == name).map_or(Value::Absent, |(_, v)| v.clone());
            self.same(&name, &expected, &value_text(&value, &Shape::one(Flow::Text)));
        }
        Some(())
    }

    pub(super) fn effect(&mut self, fields: &mut Fields<'_>) -> Option<()> {
        let verb = fields.need_str("verb", self.findings).map(|(t, _)| t.clone());
        let object = fields.table("object", self.findings);
        let command = fields.table("command", self.findings);
        let calls: Vec<String> = fields.array("calls", self.findings).iter().map(text).collect();
        let undo = fields.get("undo");
        let refused = fields.get("refused");
        let done = fields.bool("done", self.findings);
        let own = fields.table("own", self.findings);
        let reads = fields.get("reads");
        let appears = fields.str("appears", self.findings).map(|(t, _)| t.clone());
        let world = self.world(fields);
        let verb = verb?;
        let protocol = self.protocol.clone();
        let Some(effect) = protocol.effect(&verb) else {
            return self.fail(format!("there is no [effect.{verb}]"));
        };
        let schema = self.bundle.schema.clone();
        let object = self.record(schema.kind(effect.on), object);
        let command = self.record(schema.message(&verb)?, command);
        let id = effect.object_slot.and_then(|slot| command.get(slot).as_ref_id());
        let id = id.unwrap_or_else(|| ObjectId::new(effect.on, uuid::Uuid::nil()));
        let words = refused.and_then(Item::as_str);
        match effect.plan(&command, id, &object, &world) {
            Err(cause) if refused.is_none() => return self.fail(format!("refused: {cause}")),
            Err(cause) if words.is_some_and(|words| !cause.message.contains(&**words)) => {
                return self.fail(format!("refused for another reason: {cause}"));
            }
            Err(_) => {}
            Ok(_) if refused.is_some() => return self.fail("expected a refusal"),
            Ok(plan) => {
                let found: Vec<String> = plan.steps.iter().map(|s| call_said(&schema, &s.call)).collect();
                self.same("calls", &calls.join("; "), &found.join("; "));
                if let Some(Item { node: Node::Array(undo), .. }) = undo {
                    let back = plan.steps.iter().filter_map(|s| s.call.undo.as_deref());
                    let found: Vec<String> = back.map(|call| call_said(&schema, call)).collect();
                    let expected: Vec<String> = undo.iter().map(text).collect();
                    self.same("undo", &expected.join("; "), &found.join("; "));
                }
                let kept: Vec<String> = plan
                    .own
                    .iter()
                    .map(|f| format!("{}={}", f.field, value_said(&schema, &f.value)))
                    .collect();
                let expected = pairs(own).into_iter().map(|(name, value)| format!("{name}={value}"));
                self.same("own", &expected.collect::<Vec<_>>().join("; "), &kept.join("; "));
                if let Some(reads) = reads {
                    let found: Vec<&str> = plan.reads.iter().map(|r| &*r.field).collect();
                    self.same("reads", &text(reads), &found.join(", "));
                }
                if let Some(appears) = appears {
                    let found = plan.appears.map(|id| id.to_string()).unwrap_or_default();
                    self.same("appears", &appears, &found);
                }
            }
        }
        if let Some(done) = done {
            let found = effect
                .expect(&command, &object, &world)
                .map_or("(no expectation)".to_owned(), |d| d.to_string());
            self.same("done", &done.to_string(), &found);
        }
        Some(())
    }
}

/// A native reference stands for the object it resolves to.
fn expected_text(text: &str, shape: &Shape, world: &World) -> String {
    let reference = matches!(shape.flow, Flow::Ref(_)) && !text.contains(':');
    let resolved = reference.then(|| crate::command::Resolve::resolve(world, &native(text))).flatten();
    resolved.map_or_else(|| text.to_owned(), |id| id.to_string())
}
