//! The lenses between the text of a leaf and a union value.
//!
//! | lens | native | union |
//! |---|---|---|
//! | (none) | text | text |
//! | `int`, `decimal` | decimal text | integer |
//! | `unit KiB` | text and `@unit`; the argument is the unit of a text without one | bytes |
//! | `kib`, `mib`, `gib` | decimal text in that unit | bytes |
//! | `offset N` | decimal text | integer, N more |
//! | `enum T` | one of the table's words | an enumeration's value, or text |
//! | `present` | the element is there | true, else false |
//! | `switch on off` | one of two words | true, false |
//! | `lower`, `upper` | text | text in that case |
//! | `filled`, `line` | text | text; an empty one is absent, and `line` takes no line break |
//! | `default V` | absent | V |
//! | `unset W` | the word W | absent |

use std::{borrow::Cow, sync::Arc};
use union::Value;

/// One word of an enumeration's table.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    /// `*` stands for any word that the table does not have.
    pub native: String,
    /// `Absent`: a known word that the union does not show.
    pub union: Value,
    /// Read, never written.
    pub read_only: bool,
}

/// A checked `[enum.*]` for one type of field.
#[derive(Debug)]
pub(crate) struct Words {
    pub words: Vec<Word>,
}

impl Words {
    fn read(&self, native: &str) -> Option<&Value> {
        let named = self.words.iter().find(|w| w.native == native && w.native != "*");
        named.or_else(|| self.words.iter().find(|w| w.native == "*")).map(|w| &w.union)
    }

    fn write(&self, value: &Value) -> Option<&str> {
        let word = self.words.iter().find(|w| !w.read_only && w.native != "*" && w.union == *value)?;
        Some(&word.native)
    }
}

/// One link of a chain.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    Int,
    Unit(i64),
    Scale(i64),
    Offset(i64),
    Enum(Arc<Words>),
    Present,
    Switch(String, String),
    Lower,
    Upper,
    /// Text that is not empty; `line`: nor of several lines.
    Filled {
        line: bool,
    },
    Default(Value),
    Unset(String),
}

/// A chain, native side first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lens {
    pub links: Vec<Link>,
}

/// Why a value does not go through.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Not a whole number in decimal digits.
    #[error("not a whole number")]
    NotANumber,
    /// Too large for the field.
    #[error("out of range")]
    Range,
    /// A unit that libvirt does not have.
    #[error("an unknown unit")]
    Unit,
    /// Not in the enumeration's table.
    #[error("not one of the known words")]
    Word,
    /// The union value has no word in the native form.
    #[error("without native form")]
    NoForm,
    /// Not a whole number of units.
    #[error("not a whole number of units of {0} bytes")]
    NotWhole(i64),
    /// Several lines where one is meant.
    #[error("several lines of text where one is meant")]
    Lines,
    /// Not the type the lens takes.
    #[error("of the wrong type")]
    Type,
}

enum Mid<'a> {
    Absent,
    Text(Cow<'a, str>),
    Value(Value),
}

impl Lens {
    /// What `present` looks at: whether the element is there.
    pub(crate) fn is_present(&self) -> bool {
        matches!(self.links.first(), Some(Link::Present))
    }

    /// The bytes a text without `@unit` counts in, if the lens reads `@unit`.
    pub(crate) fn unit(&self) -> Option<i64> {
        self.links.iter().find_map(|link| if let Link::Unit(factor) = link { Some(*factor) } else { None })
    }

    /// Whether an empty text is no text.
    pub(crate) fn is_filled(&self) -> bool {
        self.links.iter().any(|link| matches!(link, Link::Filled { .. }))
    }

    /// Whether only part of the text, without the white space around it, is its value.
    pub(crate) fn is_numeric(&self) -> bool {
        matches!(self.links.first(), Some(Link::Int | Link::Unit(_) | Link::Scale(_) | Link::Offset(_)))
    }

    /// Native to union. `unit` is the text of `@unit`.
    pub(crate) fn read(&self, native: Option<Cow<'_, str>>, unit: Option<&str>) -> Result<Value, Misfit> {
        let mut mid = native.map_or(Mid::Absent, Mid::Text);
        for link in &self.links {
            mid = link.read(mid, unit)?;
        }
        Ok(match mid {
            Mid::Absent => Value::Absent,
            Mid::Text(text) => Value::str(&text),
            Mid::Value(value) => value,
        })
    }

    /// Union to native, in units of `unit` bytes if the lens has any. `None`: the leaf is to be absent.
    pub(crate) fn write(&self, value: &Value, unit: i64) -> Result<Option<String>, Misfit> {
        let mut value = value.clone();
        for link in self.links.iter().rev() {
            value = link.write(value, unit)?;
        }
        match value {
            Value::Absent => Ok(None),
            Value::Str(text) => Ok(Some(text.to_string())),
            Value::Int(number) => Ok(Some(number.to_string())),
            _ => Err(Misfit::Type),
        }
    }
}

fn number(text: &str) -> Result<i64, Misfit> {
    let text = text.trim_ascii();
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Misfit::NotANumber);
    }
    text.parse().map_err(|_| Misfit::Range)
}

/// The bytes in one unit, by libvirt's words (virScaleInteger: `b`, `bytes`, `KB` of 1000, `K` and `KiB` of 1024, and so on).
pub(crate) fn factor(unit: &str) -> Option<i64> {
    let unit = unit.to_ascii_lowercase();
    if matches!(unit.as_str(), "" | "b" | "byte" | "bytes") {
        return Some(1);
    }
    let mut chars = unit.chars();
    let power = "kmgtpe".find(chars.next()?)?;
    let base: i64 = match chars.as_str() {
        "" | "ib" => 1024,
        "b" => 1000,
        _ => return None,
    };
    base.checked_pow(u32::try_from(power).ok()? + 1)
}

impl Link {
    fn read<'a>(&self, mid: Mid<'a>, unit: Option<&str>) -> Result<Mid<'a>, Misfit> {
        if let Link::Default(value) = self {
            return Ok(match mid {
                Mid::Absent | Mid::Value(Value::Absent) => Mid::Value(value.clone()),
                mid => mid,
            });
        }
        if matches!(self, Link::Present) {
            return Ok(Mid::Value(Value::Bool(!matches!(mid, Mid::Absent))));
        }
        if matches!(mid, Mid::Absent | Mid::Value(Value::Absent)) {
            return Ok(Mid::Absent);
        }
        let scaled = |mid: Mid<'_>, by: i64| -> Result<Mid<'a>, Misfit> {
            let bytes = mid.int()?.checked_mul(by).ok_or(Misfit::Range)?;
            Ok(Mid::Value(Value::Int(bytes)))
        };
        match self {
            Link::Int => Ok(Mid::Value(Value::Int(mid.int()?))),
            Link::Unit(default) => {
                let by = unit.map_or(Some(*default), factor).ok_or(Misfit::Unit)?;
                scaled(mid, by)
            }
            Link::Scale(by) => scaled(mid, *by),
            Link::Offset(by) => {
                let number = mid.int()?.checked_add(*by).ok_or(Misfit::Range)?;
                Ok(Mid::Value(Value::Int(number)))
            }
            Link::Enum(words) => words.read(mid.text()?).cloned().map(Mid::Value).ok_or(Misfit::Word),
            Link::Switch(on, off) => match mid.text()? {
                text if text == on => Ok(Mid::Value(Value::Bool(true))),
                text if text == off => Ok(Mid::Value(Value::Bool(false))),
                _ => Err(Misfit::Word),
            },
            Link::Lower => Ok(Mid::Text(Cow::Owned(mid.text()?.to_lowercase()))),
            Link::Upper => Ok(Mid::Text(Cow::Owned(mid.text()?.to_uppercase()))),
            Link::Unset(word) => Ok(match &mid {
                Mid::Text(text) if text.trim_ascii() == word => Mid::Absent,
                _ => mid,
            }),
            Link::Filled { .. } if mid.text()?.is_empty() => Ok(Mid::Absent),
            Link::Default(_) | Link::Present | Link::Filled { .. } => Ok(mid),
        }
    }

    fn write(&self, value: Value, unit: i64) -> Result<Value, Misfit> {
        if matches!(value, Value::Absent) {
            return Ok(value);
        }
        let whole = |value: &Value, by: i64| -> Result<Value, Misfit> {
            let bytes = value.as_int().ok_or(Misfit::Type)?;
            if bytes.checked_rem(by) != Some(0) {
                return Err(Misfit::NotWhole(by));
            }
            Ok(Value::Int(bytes / by))
        };
        match self {
            Link::Int if value.as_int().is_none() => Err(Misfit::Type),
            Link::Unit(_) => whole(&value, unit),
            Link::Scale(by) => whole(&value, *by),
            Link::Offset(by) => {
                let number = value.as_int().ok_or(Misfit::Type)?;
                number.checked_sub(*by).map(Value::Int).ok_or(Misfit::Range)
            }
            Link::Enum(words) => words.write(&value).map(Value::str).ok_or(Misfit::NoForm),
            Link::Present => match value {
                Value::Bool(true) => Ok(Value::str("")),
                Value::Bool(false) => Ok(Value::Absent),
                _ => Err(Misfit::Type),
            },
            Link::Switch(on, off) => match value {
                Value::Bool(truth) => Ok(Value::str(if truth { on } else { off })),
                _ => Err(Misfit::Type),
            },
            Link::Unset(word) if value.as_str() == Some(word) => Err(Misfit::NoForm),
            Link::Filled { line: true } if value.as_str().is_some_and(|text| text.contains(['\n', '\r'])) => {
                Err(Misfit::Lines)
            }
            Link::Filled { .. } if value.as_str() == Some("") => Ok(Value::Absent),
            Link::Int
            | Link::Lower
            | Link::Upper
            | Link::Filled { .. }
            | Link::Default(_)
            | Link::Unset(_) => Ok(value),
        }
    }
}

impl Mid<'_> {
    fn text(&self) -> Result<&str, Misfit> {
        match self {
            Mid::Text(text) => Ok(text),
            Mid::Value(value) => value.as_str().ok_or(Misfit::Type),
            Mid::Absent => Err(Misfit::Type),
        }
    }

    fn int(&self) -> Result<i64, Misfit> {
        match self {
            Mid::Text(text) => number(text),
            Mid::Value(value) => value.as_int().ok_or(Misfit::Type),
            Mid::Absent => Err(Misfit::Type),
        }
    }
}
