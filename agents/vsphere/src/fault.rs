//! The one place where causes become vim faults, and where faults get their wire form.
//!
//! On the wire a fault is HTTP 500 with `<detail><InvalidLoginFault xsi:type="InvalidLogin">`: the element is the type's name and
//! `Fault`, which one client cuts off by length. Inside data (`missingSet`, `Task.info.error`) it is a `LocalizedMethodFault`.

use crate::{
    inventory::Catalog,
    native::{self, NS},
};
use mapping::{
    FaultValue, NativeRef,
    schema::{NativeField, NativeType, Primitive},
};
use std::sync::Arc;
use union::{ObjectId, Value, command::Cause};
use wire::soap::encode::Encoder;

/// A vim fault with its fields in wire order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fault {
    /// For example `InvalidPowerState`.
    pub(crate) ty: Arc<str>,
    /// For people.
    pub(crate) message: Arc<str>,
    fields: Vec<(Arc<str>, Field)>,
}

/// A field of a fault.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Field {
    /// Text, an enumeration's text.
    Text(Arc<str>),
    /// An integer.
    Int(i64),
    /// A truth value.
    Bool(bool),
    /// A managed object.
    Ref(NativeRef),
}

impl Fault {
    /// A fault without fields.
    pub(crate) fn new(ty: &str, message: impl Into<Arc<str>>) -> Fault {
        Fault { ty: Arc::from(ty), message: message.into(), fields: Vec::new() }
    }

    /// With one field more.
    #[must_use]
    pub(crate) fn with(mut self, name: &str, field: Field) -> Fault {
        self.fields.push((Arc::from(name), field));
        self
    }

    /// With more in its message.
    #[must_use]
    pub(crate) fn about(mut self, what: &str) -> Fault {
        self.message = Arc::from(format!("{} ({what})", self.message));
        self
    }

    /// A parameter is wrong.
    pub(crate) fn invalid_argument(property: &str, why: &str) -> Fault {
        Fault::new("InvalidArgument", format!("A specified parameter was not correct: {property}: {why}"))
            .with("invalidProperty", Field::Text(Arc::from(property)))
    }

    /// The reference names nothing.
    pub(crate) fn not_found(object: NativeRef) -> Fault {
        let message = format!(
            "The object '{}:{}' has already been deleted or has not been completely created",
            object.ty, object.id
        );
        Fault::new("ManagedObjectNotFound", message).with("obj", Field::Ref(object))
    }

    /// The caller has no session.
    pub(crate) fn not_authenticated(object: NativeRef) -> Fault {
        Fault::new("NotAuthenticated", "The session is not authenticated.")
            .with("object", Field::Ref(object))
            .with("privilegeId", Field::Text(Arc::from("System.View")))
    }

    /// The type has no such property.
    pub(crate) fn invalid_property(path: &str) -> Fault {
        Fault::new("InvalidProperty", format!("The property '{path}' does not exist on the object's type"))
            .with("name", Field::Text(Arc::from(path)))
    }

    /// The object has no such method.
    pub(crate) fn method_not_found(receiver: NativeRef, method: &str) -> Fault {
        let message = format!("The method is not found: {}.{method}", receiver.ty);
        Fault::new("MethodNotFound", message)
            .with("receiver", Field::Ref(receiver))
            .with("method", Field::Text(Arc::from(method)))
    }

    /// The product has the method; this installation does not offer it.
    pub(crate) fn not_supported(method: &str) -> Fault {
        Fault::new("NotSupported", format!("The operation {method} is not supported on the object."))
    }

    /// The product knows the method by name only.
    pub(crate) fn not_implemented(method: &str) -> Fault {
        Fault::new(
            "NotImplemented",
            format!("The requested operation {method} is not implemented by the server."),
        )
    }

    /// The request makes no sense.
    pub(crate) fn invalid_request(why: impl Into<Arc<str>>) -> Fault {
        Fault::new("InvalidRequest", why)
    }

    /// A table of the session or the front is full.
    pub(crate) fn limit(what: &str, limit: usize) -> Fault {
        let message = format!("No more than {limit} {what}; close some first.");
        Fault::new("LimitExceeded", message)
            .with("property", Field::Text(Arc::from(what)))
            .with("limit", Field::Int(i64::try_from(limit).unwrap_or(i64::MAX)))
    }

    /// From a cause: the fault that a guard or conflict named, else the one that the mapping gives for its code.
    pub(crate) fn of_cause(cause: &Cause, object: &NativeRef, catalog: &Catalog) -> Fault {
        let table = if cause.fault.is_empty() { catalog.protocol().fault(cause.code) } else { None };
        let named = table.map_or(&*cause.fault, |table| &table.fault);
        let Some(def) = catalog.native().lookup(if named.is_empty() { UNNAMED } else { named }) else {
            return Fault::new(UNNAMED, natively(&cause.message, catalog));
        };
        let message = table
            .and_then(|table| table.message.clone())
            .unwrap_or_else(|| natively(&cause.message, catalog));
        let mut fault = Fault::new(&def.name, message.clone());
        for field in &def.fields {
            let given = cause
                .arguments
                .iter()
                .find(|(name, _)| *name == field.name)
                .and_then(|(_, value)| Field::of(value, catalog));
            let from_table = || {
                let (_, value) = table?.with.iter().find(|(name, _)| *name == field.name)?;
                Some(match value {
                    FaultValue::Text(text) => Field::Text(text.clone()),
                    FaultValue::Object => Field::Ref(object.clone()),
                    FaultValue::Message => Field::Text(message.clone()),
                })
            };
            if let Some(value) = given.or_else(from_table).or_else(|| Field::implied(field, object, &message))
            {
                fault = fault.with(&field.name, value);
            }
        }
        fault
    }

    /// Its fields.
    fn encode_fields(&self, out: &mut Encoder) {
        for (name, field) in &self.fields {
            match field {
                Field::Text(text) => out.leaf(name, text),
                Field::Int(number) => out.int_leaf(name, *number),
                Field::Bool(truth) => out.bool_leaf(name, *truth),
                Field::Ref(object) => native::put_reference(out, name, object),
            }
        }
    }

    /// A SOAP fault.
    pub(crate) fn encode(&self, out: &mut Encoder) {
        let element = format!("{}Fault", self.ty);
        out.fault("ServerFaultCode", &self.message, &element, NS, &self.ty, |out| self.encode_fields(out));
    }

    /// The content of a `LocalizedMethodFault` element.
    pub(crate) fn encode_localized(&self, out: &mut Encoder) {
        out.open_typed("fault", &self.ty);
        self.encode_fields(out);
        out.close("fault");
        out.leaf("localizedMessage", &self.message);
    }
}

impl Field {
    fn of(value: &Value, catalog: &Catalog) -> Option<Field> {
        match value {
            Value::Str(text) => Some(Field::Text(text.clone())),
            Value::Int(number) => Some(Field::Int(*number)),
            Value::Bool(truth) => Some(Field::Bool(*truth)),
            Value::Ref(id) => Some(Field::Ref(catalog.reference(*id)?)),
            _ => None,
        }
    }

    /// What a field without an argument says, if it must say something.
    fn implied(field: &NativeField, object: &NativeRef, message: &Arc<str>) -> Option<Field> {
        match field.ty {
            NativeType::Ref(_) if matches!(&*field.name, "obj" | "object" | "receiver") => {
                Some(Field::Ref(object.clone()))
            }
            NativeType::Primitive(Primitive::String) if &*field.name == "reason" => {
                Some(Field::Text(message.clone()))
            }
            NativeType::Primitive(Primitive::String) if !field.optional && !field.list => {
                Some(Field::Text(Arc::from("")))
            }
            _ => None,
        }
    }
}

/// A sentence in which the view's own ids stand for those of the union; what the view does not show is called by its kind.
fn natively(text: &str, catalog: &Catalog) -> Arc<str> {
    /// As many bytes as a uuid has when it is written out.
    const UUID: usize = 36;
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some((before, after)) = rest.split_once(':') {
        let word = before.rfind(|c: char| !c.is_ascii_lowercase() && c != '_').map_or(0, |at| at + 1);
        let start = before.get(word..).unwrap_or_default();
        let id = after.get(..UUID).and_then(|uuid| format!("{start}:{uuid}").parse::<ObjectId>().ok());
        let known =
            id.map(|id| catalog.reference(id).map_or_else(|| format!("a {start}"), |n| n.id.to_string()));
        match known {
            Some(known) => {
                out.push_str(before.get(..word).unwrap_or_default());
                out.push_str(&known);
                rest = after.get(UUID..).unwrap_or_default();
            }
            None => {
                out.push_str(before);
                out.push(':');
                rest = after;
            }
        }
    }
    out.push_str(rest);
    Arc::from(out)
}

/// A cause that neither a guard nor the mapping gives a fault.
const UNNAMED: &str = "SystemError";

/// Faults travel as errors.
pub(crate) type Answer<T> = Result<T, Fault>;
