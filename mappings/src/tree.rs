//! Native values as a tree of texts: what tests and explanations look at.

use crate::{
    reader::NativeRef,
    render::{Emit, FieldMeta, Role, ValueKind},
};

/// A value that was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its wire name.
    pub name: String,
    /// The wire name of its type.
    pub ty: String,
    /// Its text; a reference's is `Type id`.
    pub text: String,
    /// Of structures and arrays: what is in them.
    pub inside: Vec<Shown>,
    /// An array or a structure.
    pub whole: Whole,
}

/// What a shown value is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// One value.
    Value,
    /// A structure.
    Structure,
    /// An array.
    Array,
}

impl Shown {
    /// One line: the text, a structure's type, an array's items.
    pub fn line(&self) -> String {
        match self.whole {
            Whole::Value => self.text.clone(),
            Whole::Structure => self.ty.clone(),
            Whole::Array => self.inside.iter().map(Shown::line).collect::<Vec<_>>().join(", "),
        }
    }

    /// As [`Shown::line`], references by their ids alone.
    pub fn short(&self) -> String {
        match self.whole {
            Whole::Value if self.ty == "ManagedObjectReference" => {
                self.text.split_once(' ').map_or_else(|| self.text.clone(), |(_, id)| id.to_owned())
            }
            Whole::Array => self.inside.iter().map(Shown::short).collect::<Vec<_>>().join(", "),
            _ => self.line(),
        }
    }

    /// All values as indented lines.
    pub fn outline(&self, depth: usize, out: &mut String) {
        let indent = "  ".repeat(depth);
        out.push_str(&format!("{indent}{} ({})", self.name, self.ty));
        if self.whole == Whole::Value {
            out.push_str(&format!(" = {}", self.text));
        }
        out.push('\n');
        for inner in &self.inside {
            inner.outline(depth + 1, out);
        }
    }
}

/// Collects what is emitted.
#[derive(Debug, Default)]
pub struct Tree {
    /// Everything since the start, as a log; structures are put together at the end.
    log: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Begin(Shown),
    End,
    Value(Shown),
}

impl Tree {
    /// What was shown.
    pub fn shown(self) -> Vec<Shown> {
        let mut open: Vec<Shown> = Vec::new();
        let mut top = Vec::new();
        for step in self.log {
            let done = match step {
                Step::Begin(shown) => {
                    open.push(shown);
                    continue;
                }
                Step::Value(shown) => Some(shown),
                Step::End => open.pop(),
            };
            match (open.last_mut(), done) {
                (Some(parent), Some(done)) => parent.inside.push(done),
                (None, Some(done)) => top.push(done),
                (_, None) => {}
            }
        }
        top
    }

    fn value(&mut self, f: &FieldMeta, text: String) {
        self.log.push(Step::Value(shown(f, text, Whole::Value)));
    }
}

fn shown(f: &FieldMeta, text: String, whole: Whole) -> Shown {
    Shown { name: f.name.to_string(), ty: f.concrete.to_string(), text, inside: Vec::new(), whole }
}

impl Emit for Tree {
    fn begin(&mut self, f: &FieldMeta) {
        let whole = if f.role == Role::Array { Whole::Array } else { Whole::Structure };
        self.log.push(Step::Begin(shown(f, String::new(), whole)));
    }

    fn end(&mut self, _: &FieldMeta) {
        self.log.push(Step::End);
    }

    fn bool(&mut self, f: &FieldMeta, v: bool) {
        self.value(f, v.to_string());
    }

    fn int(&mut self, f: &FieldMeta, v: i64) {
        self.value(f, v.to_string());
    }

    fn float(&mut self, f: &FieldMeta, v: f64) {
        self.value(f, v.to_string());
    }

    fn text(&mut self, f: &FieldMeta, v: &str) {
        self.value(f, v.to_owned());
    }

    fn time(&mut self, f: &FieldMeta, ms: i64) {
        let text = jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |t| t.to_string());
        self.value(f, text);
    }

    fn bytes(&mut self, f: &FieldMeta, v: &[u8]) {
        self.value(f, v.iter().map(|b| format!("{b:02x}")).collect());
    }

    fn reference(&mut self, f: &FieldMeta, r: &NativeRef) {
        let text = if f.kind == ValueKind::Ref { format!("{} {}", r.ty, r.id) } else { r.id.to_string() };
        self.value(f, text);
    }

    fn mark(&self) -> usize {
        self.log.len()
    }

    fn rollback(&mut self, mark: usize) {
        self.log.truncate(mark);
    }
}
