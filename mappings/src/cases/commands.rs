//! Command, guard and effect cases.

use super::{
    Case, pairs, text,
    world::{World, native, value_text},
};
use crate::{
    command::{NativeArgs, NativeCall, NativeValue, read::union_record},
    data::{Fields, Item, Node, Table},
    flow::{Flow, Shape},
};
use std::sync::Arc;
use union::{Record, Value, schema::MessageSchema};

/// The arguments of a case: references are written `Type id`.
struct Args<'a>(&'a [crate::data::Entry]);

impl NativeArgs for Args<'_> {
    fn get(&self, path: &str) -> Option<NativeValue> {
        self.0.iter().find(|e| &*e.key == path).map(|e| value(&e.value))
    }
}

fn value(item: &Item) -> NativeValue {
    match &item.node {
        Node::Array(items) => NativeValue::Items(items.iter().map(value).collect()),
        Node::Str(t)
            if t.split_once(' ')
                .is_some_and(|(ty, id)| ty.starts_with(char::is_uppercase) && !id.contains(' ')) =>
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
        let world = self.world(fields);
        let method = method?;
        let protocol = self.protocol.clone();
        let Some(map) = protocol.command(&method) else {
            return self.fail(format!("there is no [command.{method}]"));
        };
        if let Some(depends) = depends {
            self.same("depends", &depends, &map.dependence.to_string());
        }
        let lifted = map.lift(&Args(args.map_or(&[], |t| &t.entries)), &world);
        let record = match (lifted, fails) {
            (Err(error), Some(part)) if error.to_string().contains(&*part) => return Some(()),
            (Err(error), _) => return self.fail(format!("cannot be lifted: {error}")),
            (Ok(_), Some(part)) => return self.fail(format!("expected a failure that says `{part}`")),
            (Ok(record), None) => record,
        };
        let schema = self.bundle.schema.clone();
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
        let world = self.world(fields);
        let (method, fault) = (method?, fault?);
        let protocol = self.protocol.clone();
        let Some(map) = protocol.command(&method) else {
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
        let refused = fields.bool("refused", self.findings).unwrap_or(false);
        let done = fields.bool("done", self.findings);
        let world = self.world(fields);
        let verb = verb?;
        let protocol = self.protocol.clone();
        let Some(effect) = protocol.effect(&verb) else {
            return self.fail(format!("there is no [effect.{verb}]"));
        };
        let schema = self.bundle.schema.clone();
        let object = self.record(schema.kind(effect.on), object);
        let command = self.record(schema.message(&verb)?, command);
        match effect.lower(&command, &object, &world) {
            Err(cause) if !refused => return self.fail(format!("refused: {cause}")),
            Err(_) => {}
            Ok(_) if refused => return self.fail("expected a refusal"),
            Ok(found) => {
                let found: Vec<String> = found.iter().map(call_text).collect();
                self.same("calls", &calls.join("; "), &found.join("; "));
            }
        }
        if let Some(done) = done {
            let found =
                effect.expect(&object, &world).map_or("(no expectation)".to_owned(), |d| d.to_string());
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

fn call_text(call: &NativeCall) -> String {
    let mut out = call.call.to_string();
    for (name, value) in &call.args {
        let value: Arc<str> = Arc::from(value_text(value, &Shape::one(Flow::Text)));
        out.push_str(&format!(" {name}={value}"));
    }
    out
}
