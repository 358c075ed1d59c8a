//! Records as JSON, for event bodies and status: fields by name, enumerations by theirs, ids as text; what is unset is left out.

use serde_json::{Map, Number, Value as Json};
use union::{FieldType, Record, Schema, Value};

/// A record as a JSON object.
pub fn record(schema: &Schema, record: &Record) -> Json {
    let Some(message) = schema.get(record.message()) else { return Json::Null };
    let fields = message.fields.iter().filter_map(|field| {
        let value = record.get(field.slot);
        let shown = match value {
            _ if value.is_absent() => return None,
            Value::List(items) => {
                Json::Array(items.iter().map(|item| one(schema, &field.ty, item)).collect())
            }
            one_value => one(schema, &field.ty, one_value),
        };
        Some((field.name.clone(), shown))
    });
    Json::Object(fields.collect::<Map<_, _>>())
}

fn one(schema: &Schema, ty: &FieldType, value: &Value) -> Json {
    match value {
        Value::Absent => Json::Null,
        Value::Bool(v) => Json::Bool(*v),
        Value::Int(v) => match ty {
            FieldType::Enum(e) => e.name_of(*v).map_or_else(|| Json::Number((*v).into()), Json::from),
            _ => Json::Number((*v).into()),
        },
        Value::Float(v) => Number::from_f64(*v).map_or(Json::Null, Json::Number),
        Value::Str(v) => Json::from(&**v),
        Value::Bytes(v) => Json::from(v.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        Value::Ref(v) => Json::from(v.to_string()),
        Value::List(v) => Json::Array(v.iter().map(|item| one(schema, ty, item)).collect()),
        Value::Record(v) => record(schema, v),
    }
}

/// Unix milliseconds as RFC 3339 in UTC.
pub fn time(ms: i64) -> String {
    wire::datetime::format(ms).as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use union::{Kind, ObjectId};

    #[test]
    fn names_not_numbers() {
        let schema = Schema::base();
        let vm = schema.kind(Kind::Vm);
        let mut r = vm.record();
        let host = ObjectId::derived(Kind::Host, &["h"]);
        r.set(vm.field("name").unwrap().slot, "web01");
        r.set(vm.field("power_state").unwrap().slot, 1);
        r.set(vm.field("host_id").unwrap().slot, host);
        let shown = record(&schema, &r);
        assert_eq!(shown["name"], "web01");
        assert_eq!(shown["power_state"], "RUNNING");
        assert_eq!(shown["host_id"], host.to_string());
        assert!(shown.get("uuid").is_none());
    }
}
