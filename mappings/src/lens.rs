//! Lenses: what stands between a union field and a native property, both ways. A closed set; each has laws (`lens/tests.rs`).
//!
//! ```text
//! union value ── show ──▶ native value        left to right, for rendering and lowering
//! union value ◀── read ── native value        right to left, for lifting
//! ```
//!
//! Native values are union values in native form: enumerations are their texts, references stay object ids (the front writes them in its
//! own words), moments stay Unix milliseconds.

use crate::{flow::Shape, schema::TypeId};
use rustc_hash::FxHashMap;
use std::{borrow::Cow, sync::Arc};
use union::{Value, schema::EnumSchema};

mod chain;

pub(crate) use chain::{Env, chain, constant, meets, split};

/// What a row promises, best first; found out from its lenses and its field's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Nothing is lost either way.
    Iso,
    /// Several union values look the same natively.
    Quotient,
    /// Some union values do not fit.
    Partial,
    /// Shown only.
    RenderOnly,
    /// Read only.
    ParseOnly,
}

impl std::fmt::Display for Class {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Class::Iso => "iso",
            Class::Quotient => "quotient",
            Class::Partial => "partial",
            Class::RenderOnly => "render-only",
            Class::ParseOnly => "parse-only",
        })
    }
}

/// A table of an enumeration's values, `[enum.NAME]`.
#[derive(Debug)]
pub(crate) struct EnumTable {
    pub name: Arc<str>,
    /// The native enumeration; `None`: free text.
    pub native: Option<TypeId>,
    /// The union enumeration; `None`: text.
    pub union: Option<Arc<EnumSchema>>,
    /// By the union number; texts of text tables are in `texts`.
    pub show: Vec<Option<Arc<str>>>,
    pub texts: FxHashMap<Arc<str>, Arc<str>>,
    pub read: FxHashMap<Arc<str>, Value>,
    pub class: Class,
}

impl EnumTable {
    /// The native text of a union number.
    #[inline]
    pub fn text(&self, number: i64) -> Option<&Arc<str>> {
        usize::try_from(number).ok().and_then(|at| self.show.get(at)).and_then(Option::as_ref)
    }
}

/// One lens.
#[derive(Clone, Debug)]
pub(crate) enum Lens {
    /// Union bytes, native units of so many.
    Scale(i64),
    Times(i64),
    Offset(i64),
    Decimal,
    Enum(Arc<EnumTable>),
    Ref,
    Time,
    Present,
    Switch(Arc<str>, Arc<str>),
    Default(Value),
    Lower,
    Upper,
    Mac,
    Join(Arc<str>),
    Split(Arc<str>),
    Key(i64),
}

/// Why a value does not pass.
pub(crate) type Why = String;

impl Lens {
    /// The name in mapping files.
    pub fn name(&self) -> &'static str {
        match self {
            Lens::Scale(1024) => "kib",
            Lens::Scale(1_048_576) => "mib",
            Lens::Scale(_) => "gib",
            Lens::Times(_) => "times",
            Lens::Offset(_) => "offset",
            Lens::Decimal => "decimal",
            Lens::Enum(_) => "enum",
            Lens::Ref => "ref",
            Lens::Time => "time",
            Lens::Present => "present",
            Lens::Switch(..) => "switch",
            Lens::Default(_) => "default",
            Lens::Lower => "lower",
            Lens::Upper => "upper",
            Lens::Mac => "mac",
            Lens::Join(_) => "join",
            Lens::Split(_) => "split",
            Lens::Key(_) => "key",
        }
    }

    /// What it promises by itself.
    pub fn class(&self) -> Class {
        match self {
            Lens::Decimal | Lens::Ref | Lens::Time | Lens::Switch(..) => Class::Iso,
            Lens::Scale(_)
            | Lens::Default(_)
            | Lens::Lower
            | Lens::Upper
            | Lens::Join(_)
            | Lens::Split(_) => Class::Quotient,
            Lens::Times(_) | Lens::Offset(_) | Lens::Mac => Class::Partial,
            Lens::Enum(table) => table.class,
            Lens::Present | Lens::Key(_) => Class::RenderOnly,
        }
    }

    /// Union -> native. `position`: of the item in its list.
    pub fn show<'a>(&self, value: Cow<'a, Value>, position: usize) -> Result<Cow<'a, Value>, Why> {
        match self {
            Lens::Default(default) if value.is_absent() => return Ok(Cow::Owned(default.clone())),
            Lens::Present => return Ok(Cow::Owned(Value::Bool(!value.is_absent()))),
            Lens::Join(separator) => return join(&value, separator).map(Cow::Owned),
            Lens::Split(separator) => return Ok(Cow::Owned(split_text(&value, separator))),
            _ if value.is_absent() => return Ok(Cow::Owned(Value::Absent)),
            Lens::Default(_) | Lens::Ref | Lens::Time => return Ok(value),
            _ => {}
        }
        if let Value::List(items) = &*value {
            let items: Result<Vec<Value>, Why> = items.iter().map(|v| self.show_one(v, position)).collect();
            return Ok(Cow::Owned(Value::list(items?)));
        }
        self.show_one(&value, position).map(Cow::Owned)
    }

    fn show_one(&self, value: &Value, position: usize) -> Result<Value, Why> {
        Ok(match (self, value) {
            (Lens::Scale(by), Value::Int(n)) => Value::Int(n.div_euclid(*by)),
            (Lens::Times(by), Value::Int(n)) => Value::Int(n.checked_mul(*by).ok_or_else(|| too_big(*n))?),
            (Lens::Offset(by), Value::Int(n)) => Value::Int(n.checked_add(*by).ok_or_else(|| too_big(*n))?),
            (Lens::Decimal, Value::Int(n)) => Value::from(n.to_string()),
            (Lens::Enum(table), Value::Int(n)) => match table.text(*n) {
                Some(text) => Value::Str(text.clone()),
                None => return Err(format!("enum {} has no row for {n}", table.name)),
            },
            (Lens::Enum(table), Value::Str(text)) => match table.texts.get(text) {
                Some(text) => Value::Str(text.clone()),
                None => return Err(format!("enum {} has no row for `{text}`", table.name)),
            },
            (Lens::Switch(yes, no), Value::Bool(b)) => Value::Str(if *b { yes.clone() } else { no.clone() }),
            (Lens::Lower, Value::Str(text)) => Value::from(text.to_lowercase()),
            (Lens::Upper, Value::Str(text)) => Value::from(text.to_uppercase()),
            (Lens::Mac, Value::Str(text)) => Value::from(mac(text)?),
            (Lens::Key(base), _) => {
                let position = i64::try_from(position).unwrap_or(i64::MAX);
                Value::Int(base.checked_add(position).ok_or_else(|| too_big(position))?)
            }
            _ => return Err(format!("`{}` cannot show this value", self.name())),
        })
    }

    /// Native -> union.
    pub fn read(&self, value: Value) -> Result<Value, Why> {
        match (self, &value) {
            (Lens::Join(separator), Value::Str(text)) => {
                return Ok(split_text(&Value::Str(text.clone()), separator));
            }
            (Lens::Split(separator), _) => return join(&value, separator),
            (Lens::Default(_) | Lens::Ref | Lens::Time | Lens::Lower | Lens::Upper, _)
            | (_, Value::Absent) => {
                return Ok(value);
            }
            (_, Value::List(items)) => {
                let items: Result<Vec<Value>, Why> = items.iter().map(|v| self.read(v.clone())).collect();
                return items.map(Value::list);
            }
            _ => {}
        }
        Ok(match (self, &value) {
            (Lens::Scale(by), Value::Int(n)) => Value::Int(n.checked_mul(*by).ok_or_else(|| too_big(*n))?),
            (Lens::Times(by), Value::Int(n)) => Value::Int(n.checked_div(*by).ok_or_else(|| too_big(*n))?),
            (Lens::Offset(by), Value::Int(n)) => Value::Int(n.checked_sub(*by).ok_or_else(|| too_big(*n))?),
            (Lens::Decimal, Value::Str(text)) => {
                Value::Int(text.trim().parse().map_err(|_| format!("`{text}` is not an integer"))?)
            }
            (Lens::Enum(table), Value::Str(text)) => match table.read.get(text) {
                Some(value) => value.clone(),
                None => return Err(format!("enum {} has no row for `{text}`", table.name)),
            },
            (Lens::Switch(yes, no), Value::Str(text)) => match text {
                text if text == yes => Value::Bool(true),
                text if text == no => Value::Bool(false),
                text => return Err(format!("expected `{yes}` or `{no}`, found `{text}`")),
            },
            (Lens::Mac, Value::Str(text)) => Value::from(mac(text)?),
            _ => return Err(format!("`{}` cannot read this value", self.name())),
        })
    }
}

/// A card's own address in small letters: six octets, not that of a group, not all of them 0.
fn mac(text: &str) -> Result<String, Why> {
    let octet = |octet: &str| {
        let hex = octet.len() == 2 && octet.bytes().all(|b| b.is_ascii_hexdigit());
        if hex { u8::from_str_radix(octet, 16).ok() } else { None }
    };
    let octets: Option<Vec<u8>> = text.trim().split([':', '-']).map(octet).collect();
    let single = |all: &[u8]| all.first().is_some_and(|first| first % 2 == 0) && all.iter().any(|n| *n > 0);
    match octets.filter(|all| all.len() == 6 && single(all)) {
        Some(all) => Ok(all.iter().map(|octet| format!("{octet:02x}")).collect::<Vec<_>>().join(":")),
        None => Err(format!("`{text}` is no address of one card, such as 52:54:00:12:34:56")),
    }
}

fn too_big(n: i64) -> Why {
    format!("{n} does not fit")
}

fn split_text(value: &Value, separator: &str) -> Value {
    let texts = value.as_str().map(|text| text.split(separator).filter(|t| !t.is_empty()));
    texts.map_or(Value::Absent, |texts| Value::list(texts.map(Value::str)))
}

fn join(value: &Value, separator: &str) -> Result<Value, Why> {
    let mut out = String::new();
    for (at, item) in value.items().iter().enumerate() {
        if at > 0 {
            out.push_str(separator);
        }
        out.push_str(item.as_str().ok_or_else(|| "only texts can be joined".to_owned())?);
    }
    Ok(if value.is_absent() { Value::Absent } else { Value::from(out) })
}

/// The lenses of a row and the type that comes out of them.
#[derive(Clone, Debug)]
pub(crate) struct Chain {
    pub lenses: Vec<Lens>,
    pub shape: Shape,
}

impl Chain {
    /// What the lenses promise together.
    pub fn class(&self) -> Class {
        self.lenses.iter().map(Lens::class).max().unwrap_or(Class::Iso)
    }

    /// Union -> native, through all lenses.
    pub fn show<'a>(&self, mut value: Cow<'a, Value>, position: usize) -> Result<Cow<'a, Value>, Why> {
        for lens in &self.lenses {
            value = lens.show(value, position)?;
        }
        Ok(value)
    }

    /// Native -> union, through all lenses.
    pub fn read(&self, mut value: Value) -> Result<Value, Why> {
        for lens in self.lenses.iter().rev() {
            value = lens.read(value)?;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests;
