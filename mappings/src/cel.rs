//! Expressions: a small typed subset of CEL's syntax, checked against the union and compiled to a tree over slots.
//!
//! ```text
//! text ── parse ──▶ Ast (with places) ── check ──▶ Program (typed, slots resolved) ── eval ──▶ value or unset
//! ```
//!
//! Total and bounded: no recursion, no loops but `sum`, `size` and `in` over one list. An unset operand makes arithmetic unset and a
//! comparison false (`!=`, the opposite of `==`, true); an unset truth value counts as false. Overflow and division by zero are unset
//! and tell the reader's `gap`.
//!
//! Limits: 4,096 characters, 512 words and signs, nesting of 64.

mod check;
mod eval;
mod parse;

use crate::{flow::Shape, reader::Reader, sharing::Sharing};
use smallvec::SmallVec;
use std::sync::Arc;
use union::{Kind, MessageId, ObjectId, Record, Slot, SlotSet, Value};

pub(crate) use check::{compile, condition};
pub(crate) use eval::walk;

/// Longest text of an expression.
pub(crate) const MAX_LENGTH: usize = 4096;
/// Most words and signs of an expression: a chain of operators nests as deep as it is long.
pub(crate) const MAX_TOKENS: usize = 512;
/// Deepest nesting of an expression.
pub(crate) const MAX_DEPTH: usize = 64;

/// The records a name may stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// The record whose rows these are: a list's item, or the object.
    Item,
    /// The object.
    Object,
    /// The command.
    Command,
}

/// Which names an expression may use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scope {
    pub names: Vec<(&'static str, Root, MessageId)>,
    /// `index` is known: inside a list.
    pub index: bool,
}

impl Scope {
    /// In the rows of an object.
    pub fn object(message: MessageId) -> Scope {
        Scope { names: vec![("self", Root::Item, message)], index: false }
    }

    /// In the rows of an item.
    pub fn item(item: MessageId, parent: MessageId) -> Scope {
        let names =
            vec![("self", Root::Item, item), ("item", Root::Item, item), ("parent", Root::Object, parent)];
        Scope { names, index: true }
    }

    /// In the condition of a list's entry.
    pub fn entry(item: MessageId, object: MessageId) -> Scope {
        let names = vec![
            ("item", Root::Item, item),
            ("self", Root::Object, object),
            ("parent", Root::Object, object),
        ];
        Scope { names, index: true }
    }

    /// In guards and effects.
    pub fn command(command: MessageId, kind: Kind, object: MessageId) -> Scope {
        Scope::step(command, kind, object, None)
    }

    /// In a step of an effect that is done for each `item` of a list.
    pub fn step(command: MessageId, kind: Kind, object: MessageId, item: Option<MessageId>) -> Scope {
        let mut names = vec![
            ("cmd", Root::Command, command),
            ("self", Root::Object, object),
            (kind.word(), Root::Object, object),
        ];
        names.extend(item.map(|item| ("item", Root::Item, item)));
        Scope { names, index: item.is_some() }
    }
}

/// What an expression looks at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    pub item: SlotSet,
    pub object: SlotSet,
    pub command: SlotSet,
    /// Through which reference, into which kind, which fields.
    pub hops: Vec<(Root, Slot, Kind, SlotSet)>,
}

/// A compiled expression.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    pub text: Arc<str>,
    pub expr: Expr,
    pub shape: Shape,
    pub reads: Reads,
}

/// Slots from a record inward.
pub(crate) type Path = SmallVec<[Slot; 2]>;

/// A checked expression.
#[derive(Clone, Debug)]
pub(crate) enum Expr {
    Const(Value),
    Field(Root, Path),
    /// A field of the object that the first expression names.
    Hop(Box<Expr>, Path),
    /// The object whose rows these are, or the one an item belongs to.
    Id(Root),
    Index,
    View,
    NativeId(Box<Expr>),
    Not(Box<Expr>),
    Negate(Box<Expr>),
    And(Box<Expr>, Box<Expr>),
    Or(Box<Expr>, Box<Expr>),
    Compare(Compare, Box<Expr>, Box<Expr>),
    Arithmetic(Arithmetic, Box<Expr>, Box<Expr>),
    /// Texts one after the other.
    Concat(Vec<Expr>),
    Choose(Box<Expr>, Box<Expr>, Box<Expr>),
    In(Box<Expr>, Vec<Expr>),
    InList(Box<Expr>, Box<Expr>),
    Has(Box<Expr>),
    Size(Box<Expr>),
    Sum(Box<Expr>, Slot),
    Text(Box<Expr>),
    Lower(Box<Expr>),
    /// The uuid of a reference, as text.
    Uuid(Box<Expr>),
    EndsWith(Box<Expr>, Box<Expr>),
    /// Whether a text can be a name: 1 to 80 characters, no control character, no slash of either kind.
    IsName(Box<Expr>),
    IsUuid(Box<Expr>),
    /// A path as seen from a folder above it.
    Below(Box<Expr>, Box<Expr>),
    /// Whether something else shows the file behind the item, a disk; with where the object says its host.
    ShownElsewhere(Arc<Sharing>, Slot),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
}

/// What an expression is evaluated over.
#[derive(Clone, Copy)]
pub(crate) struct Frame<'a> {
    /// The object.
    pub id: ObjectId,
    /// The item, if it is an object itself; else the object.
    pub own: ObjectId,
    pub object: &'a Record,
    pub item: &'a Record,
    pub command: Option<&'a Record>,
    pub index: usize,
    /// The expression, for gaps.
    pub text: &'a str,
    pub reader: &'a dyn Reader,
}

impl<'a> Frame<'a> {
    /// Over one object.
    pub fn object(id: ObjectId, object: &'a Record, reader: &'a dyn Reader) -> Frame<'a> {
        Frame { id, own: id, object, item: object, command: None, index: 0, text: "", reader }
    }
}

impl Program {
    /// Whether the condition holds; unset is false.
    pub fn holds(&self, frame: &Frame<'_>) -> bool {
        eval::truth(&self.expr, &Frame { text: &self.text, ..*frame })
    }

    /// The texts it may give, if all of them are literals.
    pub fn texts(&self) -> Option<Vec<Arc<str>>> {
        fn collect(expr: &Expr, out: &mut Vec<Arc<str>>) -> bool {
            match expr {
                Expr::Const(Value::Str(text)) => {
                    out.push(text.clone());
                    true
                }
                Expr::Choose(_, a, b) => collect(a, out) && collect(b, out),
                _ => false,
            }
        }
        let mut out = Vec::new();
        collect(&self.expr, &mut out).then_some(out)
    }
}

#[cfg(test)]
mod tests;
