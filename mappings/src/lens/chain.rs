//! `"field | lens arg | ..."`: reads the lenses, checks that their types meet.

use super::{Chain, Class, EnumTable, Lens};
use crate::{
    flow::{Flow, Shape, kind_names},
    report::{Findings, Span, did_you_mean},
    schema::{NativeField, NativeSchema, NativeType, Primitive, TypeId, TypeKind},
};
use rustc_hash::FxHashMap;
use std::{collections::BTreeMap, sync::Arc};
use union::{Kind, Schema, Value};

/// What rows are checked against.
#[derive(Clone, Copy)]
pub(crate) struct Env<'a> {
    pub native: &'a NativeSchema,
    pub union: &'a Schema,
    pub enums: &'a BTreeMap<Arc<str>, Arc<EnumTable>>,
    /// The native types that show each kind.
    pub shown: &'a FxHashMap<Kind, Vec<TypeId>>,
    pub views: &'a [Arc<str>],
}

/// One lens as written: its name and arguments.
pub(crate) struct Words {
    pub words: Vec<String>,
    /// Where it begins in the row's text.
    pub at: usize,
}

/// Splits `field | lens arg | ...`; the first element is the field. Quotes keep words together.
pub(crate) fn split(text: &str) -> (String, Vec<Words>) {
    let mut parts = Vec::new();
    let mut current = Words { words: Vec::new(), at: 0 };
    let mut word: Option<String> = None;
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '|') => {
                current.words.extend(word.take());
                let next = Words { words: Vec::new(), at: at + 1 };
                parts.push(std::mem::replace(&mut current, next));
            }
            (None, c) if c.is_whitespace() => current.words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    current.words.extend(word);
    parts.push(current);
    let mut parts = parts.into_iter();
    let field = parts.next().map(|w| w.words.join(" ")).unwrap_or_default();
    (field, parts.collect())
}

const NAMES: [&str; 18] = [
    "mib", "kib", "gib", "times", "offset", "decimal", "enum", "ref", "time", "present", "switch", "default",
    "lower", "upper", "mac", "join", "split", "key",
];

/// Checks the lenses over a value of type `start`; every error is reported.
pub(crate) fn chain(
    start: Shape,
    words: &[Words],
    span: Span,
    env: &Env<'_>,
    findings: &mut Findings,
) -> Option<Chain> {
    let mut lenses = Vec::new();
    let mut shape = start;
    for lens in words {
        let place = span.inside(lens.at + 1);
        match link(&shape, lens, env) {
            Ok((lens, next)) => {
                lenses.push(lens);
                shape = next;
            }
            Err((message, help)) => {
                findings.error_help(place, message, help);
                return None;
            }
        }
    }
    Some(Chain { lenses, shape })
}

type Trouble = (String, Option<String>);

fn trouble<T>(message: impl Into<String>) -> Result<T, Trouble> {
    Err((message.into(), None))
}

/// One lens over a value of type `shape`.
fn link(shape: &Shape, lens: &Words, env: &Env<'_>) -> Result<(Lens, Shape), Trouble> {
    let mut words = lens.words.iter().map(String::as_str);
    let name = words.next().unwrap_or("");
    let arguments: Vec<&str> = words.collect();
    let is = || shape.describe(env.native, env.union);
    let wants = match name {
        "times" | "offset" | "enum" | "default" | "join" | "split" | "key" => 1..=1,
        "switch" => 2..=2,
        "ref" => 0..=1,
        _ => 0..=0,
    };
    if !NAMES.contains(&name) {
        let help = did_you_mean(name, NAMES).or_else(|| Some(format!("lenses: {}", NAMES.join(", "))));
        return Err((format!("there is no lens `{name}`"), help));
    }
    if !wants.contains(&arguments.len()) {
        return trouble(format!("`{name}` takes {} arguments, {} are given", wants.end(), arguments.len()));
    }
    let first = arguments.first().copied().unwrap_or("");
    let to = |flow| Shape { flow, list: shape.list };
    let integer = || match first.replace('_', "").parse::<i64>() {
        Ok(n) => Ok(n),
        Err(_) => trouble(format!("`{name}` needs an integer, not `{first}`")),
    };
    let numeric = matches!(shape.flow, Flow::Int | Flow::Long);
    let size = |by| {
        if shape.flow == Flow::Long {
            return Ok((Lens::Scale(by), to(Flow::Long)));
        }
        trouble(format!("`{name}` scales a 64-bit byte count, this is {}", is()))
    };
    match name {
        "kib" => size(1024),
        "mib" => size(1_048_576),
        "gib" => size(1_073_741_824),
        "times" | "offset" if !numeric => trouble(format!("`{name}` needs an integer, this is {}", is())),
        "times" if integer()? < 1 => trouble("`times` needs a positive integer"),
        "times" => Ok((Lens::Times(integer()?), to(Flow::Long))),
        "offset" => Ok((Lens::Offset(integer()?), to(shape.flow.clone()))),
        "decimal" if numeric => Ok((Lens::Decimal, to(Flow::Text))),
        "decimal" => trouble(format!("`decimal` needs an integer, this is {}", is())),
        "time" if matches!(shape.flow, Flow::Long) => Ok((Lens::Time, to(Flow::Time))),
        "time" => trouble(format!("`time` needs Unix milliseconds in a 64-bit integer, this is {}", is())),
        "present" => Ok((Lens::Present, Shape::one(Flow::Bool))),
        "switch" if shape.flow == Flow::Bool => {
            let second = arguments.get(1).copied().unwrap_or("");
            Ok((Lens::Switch(Arc::from(first), Arc::from(second)), to(Flow::Text)))
        }
        "switch" => trouble(format!("`switch` needs a truth value, this is {}", is())),
        "mac" if shape.flow == Flow::Text => Ok((Lens::Mac, shape.clone())),
        "lower" | "upper" if shape.flow == Flow::Text => {
            Ok((if name == "lower" { Lens::Lower } else { Lens::Upper }, shape.clone()))
        }
        "lower" | "upper" | "mac" => trouble(format!("`{name}` needs text, this is {}", is())),
        "join" if shape.flow == Flow::Text && shape.list => {
            Ok((Lens::Join(Arc::from(first)), Shape::one(Flow::Text)))
        }
        "join" => trouble(format!("`join` needs a list of text, this is {}", is())),
        "split" if shape.flow == Flow::Text && !shape.list && !first.is_empty() => {
            Ok((Lens::Split(Arc::from(first)), Shape { flow: Flow::Text, list: true }))
        }
        "split" => trouble(format!("`split` needs one text and a separator, this is {}", is())),
        "key" => Ok((Lens::Key(integer()?), Shape::one(Flow::Int))),
        "enum" => enumeration(first, shape, env),
        "ref" => reference(first, shape, env),
        _ => default(first, shape, env),
    }
}

fn enumeration(name: &str, shape: &Shape, env: &Env<'_>) -> Result<(Lens, Shape), Trouble> {
    let Some(table) = env.enums.get(name) else {
        let help = did_you_mean(name, env.enums.keys().map(|k| &**k));
        return Err((format!("there is no table `[enum.{name}]`"), help));
    };
    let fits = match (&shape.flow, &table.union) {
        (Flow::Enum(e), Some(union)) => e.name == union.name,
        (Flow::Text, None) => true,
        _ => false,
    };
    if !fits {
        let is = shape.describe(env.native, env.union);
        let of = table.union.as_ref().map_or("text", |e| &e.name);
        return trouble(format!("`enum {name}` is a table of {of}, this is {is}"));
    }
    let flow = table.native.map_or(Flow::Text, Flow::Native);
    Ok((Lens::Enum(table.clone()), Shape { flow, list: shape.list }))
}

fn reference(word: &str, shape: &Shape, env: &Env<'_>) -> Result<(Lens, Shape), Trouble> {
    let Flow::Ref(kinds) = &shape.flow else {
        return trouble(format!(
            "`ref` needs a reference, this is {}",
            shape.describe(env.native, env.union)
        ));
    };
    if word.is_empty() {
        return Ok((Lens::Ref, Shape { flow: Flow::NativeRef(kinds.clone()), list: shape.list }));
    }
    let Some(kind) = Kind::from_word(word) else {
        let help = did_you_mean(word, Kind::ALL.iter().map(|k| k.word()));
        return Err((format!("there is no kind `{word}`"), help));
    };
    if !kinds.is_empty() && !kinds.contains(&kind) {
        return trouble(format!("this names {}, never `{word}`", kind_names(kinds)));
    }
    Ok((Lens::Ref, Shape { flow: Flow::NativeRef(vec![kind]), list: shape.list }))
}

fn default(text: &str, shape: &Shape, env: &Env<'_>) -> Result<(Lens, Shape), Trouble> {
    if shape.list {
        return trouble("`default` is for single values: an empty list is left out or shown empty by itself");
    }
    let value = match &shape.flow {
        Flow::Bool => text.parse().ok().map(Value::Bool),
        Flow::Int | Flow::Long | Flow::Time => text.replace('_', "").parse().ok().map(Value::Int),
        Flow::Float => text.parse().ok().map(Value::Float),
        Flow::Text => Some(Value::str(text)),
        Flow::Native(id) => {
            let values = env.native.get(*id).map_or(&[][..], |t| &t.values);
            if !values.iter().any(|v| &**v == text) {
                let help = did_you_mean(text, values.iter().map(|v| &**v));
                return Err((
                    format!("native enumeration {} has no value `{text}`", env.native.name(*id)),
                    help,
                ));
            }
            Some(Value::str(text))
        }
        Flow::Enum(e) => {
            let is = format!("`default` stands after `enum`: this is still the union enumeration {}", e.name);
            return trouble(is);
        }
        _ => None,
    };
    match value {
        Some(value) => Ok((Lens::Default(value), shape.clone())),
        None => trouble(format!("`{text}` is not {}", shape.describe(env.native, env.union))),
    }
}

/// Whether a value of this type may stand in the native field; the class is what the meeting costs.
pub(crate) fn meets(shape: &Shape, field: &NativeField, env: &Env<'_>) -> Result<Class, Trouble> {
    let is = || {
        format!(
            "union gives {}, native `{}` is {}",
            shape.describe(env.native, env.union),
            field.name,
            env.native.describe(field)
        )
    };
    let no = |help: Option<&str>| Err((format!("types do not meet: {}", is()), help.map(str::to_owned)));
    if shape.list && !field.list {
        return no(Some("`| join SEP` makes one text of several"));
    }
    use Primitive as P;
    match (&shape.flow, field.ty) {
        (Flow::Part(_), _) => no(Some("parts are shown by `list`, `show` or rows of their fields")),
        (_, NativeType::Primitive(P::AnyType)) => Ok(Class::Iso),
        (Flow::Bool, NativeType::Primitive(P::Boolean)) => Ok(Class::Iso),
        (Flow::Int | Flow::Long, NativeType::Primitive(P::Long)) => Ok(Class::Iso),
        (Flow::Int, NativeType::Primitive(P::Int)) => Ok(Class::Iso),
        (Flow::Int | Flow::Long, NativeType::Primitive(P::Int | P::Short | P::Byte)) => Ok(Class::Partial),
        (Flow::Int | Flow::Long | Flow::Float, NativeType::Primitive(P::Float | P::Double)) => {
            Ok(Class::Quotient)
        }
        (Flow::Long, NativeType::Primitive(P::DateTime)) => no(Some("add `| time`")),
        (Flow::Int | Flow::Long, NativeType::Primitive(P::String)) => no(Some("add `| decimal`")),
        (Flow::Text, NativeType::Primitive(P::String | P::AnyUri)) => Ok(Class::Iso),
        (Flow::Bytes, NativeType::Primitive(P::Base64Binary)) => Ok(Class::Iso),
        (Flow::Time, NativeType::Primitive(P::DateTime)) => Ok(Class::Iso),
        (Flow::Native(table), NativeType::Enum(id)) if *table == id => Ok(Class::Iso),
        (Flow::Native(table), NativeType::Enum(id)) => {
            let message = format!(
                "the table is of {}, native `{}` is {}",
                env.native.name(*table),
                field.name,
                env.native.name(id)
            );
            Err((message, None))
        }
        (Flow::Native(_), NativeType::Primitive(P::String)) => Ok(Class::Iso),
        (Flow::Enum(_), NativeType::Enum(_) | NativeType::Primitive(P::String)) => {
            no(Some("add `| enum <table>`"))
        }
        (Flow::Text, NativeType::Enum(_)) => {
            no(Some("add `| enum <table>`, a table with union = \"string\""))
        }
        (Flow::Ref(_), NativeType::Ref(_) | NativeType::Primitive(P::String)) => {
            no(Some("add `| ref <kind>`"))
        }
        (Flow::NativeRef(_), NativeType::Primitive(P::String)) => Ok(Class::Iso),
        (Flow::NativeRef(kinds), NativeType::Ref(declared)) => {
            if kinds.is_empty() || kinds.iter().any(|k| may_be(*k, declared, env)) {
                return Ok(Class::Iso);
            }
            no(None)
        }
        _ => no(None),
    }
}

/// Whether an object of the kind may be shown as a `declared`.
fn may_be(kind: Kind, declared: TypeId, env: &Env<'_>) -> bool {
    match env.shown.get(&kind) {
        None => true,
        Some(types) => types.iter().any(|t| env.native.is_a(*t, declared) || env.native.is_a(declared, *t)),
    }
}

/// A constant of a mapping file in the form of the native field.
pub(crate) fn constant(
    item: &crate::data::Item,
    field: &NativeField,
    env: &Env<'_>,
) -> Result<Value, Trouble> {
    use crate::data::Node;
    if field.list {
        let Node::Array(items) = &item.node else {
            return trouble(format!("`{}` is a list: expected an array, not {}", field.name, item.what()));
        };
        let one = NativeField { list: false, ..field.clone() };
        let values: Result<Vec<Value>, Trouble> = items.iter().map(|i| constant(i, &one, env)).collect();
        return values.map(Value::list);
    }
    use Primitive as P;
    let value = match (&item.node, field.ty) {
        (Node::Bool(b), NativeType::Primitive(P::Boolean | P::AnyType)) => Value::Bool(*b),
        (Node::Int(n), NativeType::Primitive(P::Float | P::Double)) => Value::Int(*n),
        (Node::Int(n), NativeType::Primitive(P::AnyType | P::DateTime)) => Value::Int(*n),
        (Node::Int(n), NativeType::Primitive(p)) if p.range().is_some() => match p.range() {
            Some((least, most)) if *n >= least && *n <= most => Value::Int(*n),
            _ => return trouble(format!("{n} does not fit {}", p.name())),
        },
        (Node::Float(n), NativeType::Primitive(P::Float | P::Double | P::AnyType)) => Value::Float(*n),
        (Node::Str(t), NativeType::Primitive(P::String | P::AnyUri | P::AnyType)) => Value::Str(t.clone()),
        (Node::Str(t), NativeType::Primitive(P::DateTime)) => {
            let time = t.parse::<jiff::Timestamp>().map_err(|_| {
                (
                    format!("`{t}` is not a date and time"),
                    Some("for example `2024-03-01T00:00:00Z`".to_owned()),
                )
            })?;
            Value::Int(time.as_millisecond())
        }
        (Node::Str(t), NativeType::Ref(_)) => Value::Str(t.clone()),
        (Node::Str(t), NativeType::Enum(id)) => {
            let values = env.native.get(id).map_or(&[][..], |d| &d.values);
            if !values.contains(t) {
                let help = did_you_mean(t, values.iter().map(|v| &**v));
                return Err((format!("native enumeration {} has no value `{t}`", env.native.name(id)), help));
            }
            Value::Str(t.clone())
        }
        (_, NativeType::Data(id)) => {
            let fields: Vec<&str> =
                env.native.get(id).map_or(Vec::new(), |d| d.fields.iter().map(|f| &*f.name).collect());
            let kind = if env.native.get(id).is_some_and(|d| d.kind == TypeKind::Fault) {
                "fault"
            } else {
                "structure"
            };
            return Err((
                format!("`{}` is a {kind} ({}): give rows of its fields", field.name, env.native.name(id)),
                Some(format!("fields: {}", fields.join(", "))),
            ));
        }
        _ => return trouble(format!("expected {}, not {}", env.native.describe(field), item.what())),
    };
    Ok(value)
}
