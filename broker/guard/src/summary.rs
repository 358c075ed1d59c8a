//! A command as the audit shows it: a digest of all it says, and what of it may be shown.
//!
//! Numbers, references and short names are shown; of settings only the keys, of other text and bytes only how much there is, so that what a
//! client hides in a setting or a description stays out of the audit.

use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};
use union::{Command, Record, Schema, Value, codec};

/// Bytes of a summary.
const MOST: usize = 4_096;
/// Items of a list that are shown.
const ITEMS: usize = 16;
/// Fields whose text is shown.
const SHOWN: &[&str] = &["name", "guest_os", "change_version", "list", "key", "instance_uuid"];
/// Characters of such a text.
const TEXT: usize = 128;

/// The audit's detail of a command: JSON.
pub fn of(command: &Command, schema: &Schema) -> String {
    let digest = Sha256::digest(codec::encode(schema, &command.body));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let origin = &command.origin;
    let mut detail = json!({
        "protocol": &*origin.protocol,
        "view": &*origin.view,
        "method": &*origin.method,
        "digest": digest,
        "body": record(&command.body, schema),
    });
    if detail.to_string().len() > MOST
        && let Some(body) = detail.get_mut("body")
    {
        *body = json!("too long to show");
    }
    detail.to_string()
}

fn record(record: &Record, schema: &Schema) -> Json {
    let Some(message) = schema.get(record.message()) else { return json!({}) };
    let fields = message.fields.iter().filter_map(|field| {
        let value = record.get(field.slot);
        (!value.is_absent()).then(|| (field.name.clone(), shown(&field.name, value, schema)))
    });
    Json::Object(fields.collect::<Map<_, _>>())
}

fn shown(name: &str, value: &Value, schema: &Schema) -> Json {
    match value {
        Value::Absent => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Int(value) => json!(value),
        Value::Float(value) => json!(value),
        Value::Ref(id) => json!(id.to_string()),
        Value::Str(text) if SHOWN.contains(&name) => json!(text.chars().take(TEXT).collect::<String>()),
        Value::Str(text) => json!(format!("{} bytes", text.len())),
        Value::Bytes(bytes) => json!(format!("{} bytes", bytes.len())),
        Value::Record(part) => record(part, schema),
        Value::List(items) => {
            let mut list: Vec<Json> =
                items.iter().take(ITEMS).map(|item| shown(name, item, schema)).collect();
            if items.len() > ITEMS {
                list.push(json!(format!("and {} more", items.len() - ITEMS)));
            }
            Json::Array(list)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use union::{CommandId, Kind, ObjectId, Origin};
    use uuid::Uuid;

    fn part(schema: &Schema, name: &str, fields: &[(&str, Value)]) -> Record {
        let message = schema.message(name).unwrap();
        let mut record = message.record();
        for (field, value) in fields {
            record.set(message.field(field).unwrap().slot, value.clone());
        }
        record
    }

    #[test]
    fn shows_what_changes_and_no_secret() {
        let schema = Schema::base();
        let setting = |key: &str| {
            Value::record(part(
                &schema,
                "Setting",
                &[("key", Value::str(key)), ("value", Value::str("hunter2"))],
            ))
        };
        let body = |settings: usize| {
            part(
                &schema,
                "Reconfigure",
                &[
                    ("name", Value::str("web")),
                    ("description", Value::str("the password is hunter2")),
                    ("memory_bytes", Value::Int(1 << 30)),
                    ("settings", Value::list((0..settings).map(|n| setting(&format!("guestinfo.{n}"))))),
                ],
            )
        };
        let command = |body: Record| Command {
            id: CommandId(Uuid::from_u128(1)),
            verb: "Reconfigure".into(),
            schema: schema.message("Reconfigure").unwrap().command.clone().unwrap(),
            object: ObjectId::new(Kind::Vm, Uuid::from_u128(1)),
            body: Arc::new(body),
            principal: "eve".into(),
            session: "s".into(),
            deadline_ms: 0,
            origin: Origin { protocol: "p".into(), view: "fleet".into(), method: "M".into() },
        };
        let said = of(&command(body(1)), &schema);
        assert!(!said.contains("hunter2"), "{said}");
        let read: Json = serde_json::from_str(&said).unwrap();
        assert_eq!(read["body"]["name"], "web");
        assert_eq!(read["body"]["description"], "23 bytes");
        assert_eq!(read["body"]["settings"][0], json!({"key": "guestinfo.0", "value": "7 bytes"}));
        assert_eq!(read["digest"].as_str().map(str::len), Some(64));
        let other = of(&command(body(2)), &schema);
        assert_ne!(read["digest"], serde_json::from_str::<Json>(&other).unwrap()["digest"]);
        assert!(of(&command(body(10_000)), &schema).len() <= MOST);
    }
}
