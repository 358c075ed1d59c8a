//! Values, calls and scripts as text, for cases and for people.
//!
//! ```text
//! {id=sda, path=/a.iso}                      a record: the fields that are set
//! Call dom=vm:.. xml<inactive: memory_bytes=1; cdroms[sda] path=/a, -pool; +nics{mac=..}; -nics[52:..]>
//! ```

use union::{
    NativeCall, Record, Schema, Value,
    plan::{Script, ScriptChange},
};

/// A value.
pub(crate) fn value_said(schema: &Schema, value: &Value) -> String {
    match value {
        Value::Absent => "(unset)".to_owned(),
        Value::Int(n) => n.to_string(),
        Value::Bool(b) => b.to_string(),
        Value::Float(n) => n.to_string(),
        Value::Str(text) => text.to_string(),
        Value::Ref(id) => id.to_string(),
        Value::List(items) => items.iter().map(|v| value_said(schema, v)).collect::<Vec<_>>().join(", "),
        Value::Record(record) => format!("{{{}}}", fields_said(schema, record)),
        other => format!("{other:?}"),
    }
}

fn fields_said(schema: &Schema, record: &Record) -> String {
    let fields = schema.get(record.message()).map_or(&[][..], |m| m.fields.as_slice());
    let set = fields.iter().filter_map(|field| match (record.get(field.slot), &field.ty) {
        (Value::Absent, _) => None,
        (Value::Int(n), union::FieldType::Enum(e)) => {
            Some(format!("{}={}", field.name, e.name_of(*n).map_or_else(|| n.to_string(), str::to_owned)))
        }
        (value, _) => Some(format!("{}={}", field.name, value_said(schema, value))),
    });
    set.collect::<Vec<_>>().join(", ")
}

/// A call with its script.
pub(crate) fn call_said(schema: &Schema, call: &NativeCall) -> String {
    let mut out = call.call.to_string();
    for (name, value) in &call.args {
        out.push_str(&format!(" {name}={}", value_said(schema, value)));
    }
    if let Some(script) = &call.script {
        out.push_str(&format!(" {}", script_said(schema, script)));
    }
    out
}

fn script_said(schema: &Schema, script: &Script) -> String {
    let one = |change: &ScriptChange| match change {
        ScriptChange::Set { field, value } => format!("{field}={}", value_said(schema, value)),
        ScriptChange::Edit { list, key, item, clear } => {
            let mut parts = vec![fields_said(schema, item)];
            parts.retain(|part| !part.is_empty());
            parts.extend(clear.iter().map(|c| format!("-{c}")));
            format!("{list}[{key}] {}", parts.join(", "))
        }
        ScriptChange::Add { list, item } => format!("+{list}{{{}}}", fields_said(schema, item)),
        ScriptChange::Remove { list, key } => format!("-{list}[{key}]"),
    };
    let changes: Vec<String> = script.changes.iter().map(one).collect();
    format!("{}<{}: {}>", script.argument, script.form, changes.join("; "))
}
