//! Tree -> typed expression over slots; every error is reported with its place and a suggestion.

use super::{
    Arithmetic, Expr, Path, Program, Reads, Root, Scope,
    parse::{Ast, Node, parse},
};
use crate::{
    flow::{Flow, Shape},
    report::{Findings, Span, did_you_mean},
    schema::NativeSchema,
    sharing::Sharing,
};
use smallvec::smallvec;
use std::sync::Arc;
use union::{
    Kind, MessageId, Schema, Slot, SlotSet, Value,
    schema::{EnumSchema, FieldSchema, MessageSchema},
};

/// Reads, checks and compiles one expression; `span` is the quoted text in its file.
pub(crate) fn compile(
    text: &Arc<str>,
    span: Span,
    scope: &Scope,
    union: &Schema,
    findings: &mut Findings,
) -> Option<Program> {
    let ast = match parse(text) {
        Ok(ast) => ast,
        Err(error) => {
            findings.error(span.inside(error.at), error.message);
            return None;
        }
    };
    let mut checker = Checker { span, scope, union, findings, reads: Reads::default() };
    let (expr, shape) = checker.check(&ast, None)?;
    let reads = checker.reads;
    Some(Program { text: text.clone(), expr, shape, reads })
}

/// As [`compile`], and it must be a condition.
pub(crate) fn condition(
    text: &Arc<str>,
    span: Span,
    scope: &Scope,
    union: &Schema,
    findings: &mut Findings,
) -> Option<Program> {
    let program = compile(text, span, scope, union, findings)?;
    if program.shape != Shape::one(Flow::Bool) {
        let is = program.shape.describe(&NativeSchema::default(), union);
        findings.error(span, format!("a condition must be true or false, this is {is}"));
        return None;
    }
    Some(program)
}

struct Checker<'a> {
    span: Span,
    scope: &'a Scope,
    union: &'a Schema,
    findings: &'a mut Findings,
    reads: Reads,
}

type Typed = (Expr, Shape);

/// The field called by the names from `at` on, `ext.<ns>.<name>` being one name; how many names it took.
fn field_of<'m>(message: &'m MessageSchema, names: &[&str]) -> Option<(&'m FieldSchema, usize)> {
    match names {
        ["ext", namespace, name, ..] => message.field(&format!("ext.{namespace}.{name}")).map(|f| (f, 3)),
        [name, ..] => message.field(name).map(|f| (f, 1)),
        [] => None,
    }
}

impl Checker<'_> {
    fn fail<T>(&mut self, ast: &Ast, message: String, help: Option<String>) -> Option<T> {
        self.findings.error_help(self.span.inside(ast.at), message, help);
        None
    }

    fn describe(&self, shape: &Shape) -> String {
        shape.describe(&NativeSchema::default(), self.union)
    }

    /// `hint`: the enumeration that a bare name may come from.
    fn check(&mut self, ast: &Ast, hint: Option<&Arc<EnumSchema>>) -> Option<Typed> {
        let one = |expr, flow| Some((expr, Shape::one(flow)));
        match &ast.node {
            Node::Bool(b) => one(Expr::Const(Value::Bool(*b)), Flow::Bool),
            Node::Int(n) => {
                let flow = if i32::try_from(*n).is_ok() { Flow::Int } else { Flow::Long };
                one(Expr::Const(Value::Int(*n)), flow)
            }
            Node::Float(n) => one(Expr::Const(Value::Float(*n)), Flow::Float),
            Node::Text(t) => one(Expr::Const(Value::str(t)), Flow::Text),
            Node::Name(name) => self.name(ast, name, hint),
            Node::Member(..) | Node::Hop(..) => self.path(ast),
            Node::Call(name, arguments) => self.call(ast, name, arguments),
            Node::List(_) => self.fail(ast, "a list may stand only after `in`".into(), None),
            Node::Not(a) => {
                let a = self.truth(a)?;
                one(Expr::Not(Box::new(a)), Flow::Bool)
            }
            Node::And(a, b) => {
                let (a, b) = (self.truth(a), self.truth(b));
                one(Expr::And(Box::new(a?), Box::new(b?)), Flow::Bool)
            }
            Node::Or(a, b) => {
                let (a, b) = (self.truth(a), self.truth(b));
                one(Expr::Or(Box::new(a?), Box::new(b?)), Flow::Bool)
            }
            Node::Negate(a) => match self.check(a, None)? {
                (Expr::Const(Value::Int(n)), shape) => Some((Expr::Const(Value::Int(-n)), shape)),
                (a, shape) if numeric(&shape) => Some((Expr::Negate(Box::new(a)), shape)),
                (_, shape) => {
                    self.fail(ast, format!("`-` needs a number, not {}", self.describe(&shape)), None)
                }
            },
            Node::Compare(op, a, b) => {
                let (a, b) = self.pair(ast, a, b)?;
                one(Expr::Compare(*op, Box::new(a), Box::new(b)), Flow::Bool)
            }
            Node::Arithmetic(op, a, b) => self.arithmetic(ast, *op, a, b),
            Node::In(a, b) => self.within(ast, a, b),
            Node::Choose(c, a, b) => {
                let c = self.truth(c);
                let (a, left) = self.check(a, hint)?;
                let enumeration = enumeration(&left).or(hint.cloned());
                let (b, right) = self.check(b, enumeration.as_ref())?;
                let Some(shape) = join(&left, &right) else {
                    let message = format!(
                        "the two results differ: {} and {}",
                        self.describe(&left),
                        self.describe(&right)
                    );
                    return self.fail(ast, message, None);
                };
                Some((Expr::Choose(Box::new(c?), Box::new(a), Box::new(b)), shape))
            }
        }
    }

    fn truth(&mut self, ast: &Ast) -> Option<Expr> {
        let (expr, shape) = self.check(ast, None)?;
        if shape != Shape::one(Flow::Bool) {
            let message = format!("expected true or false, this is {}", self.describe(&shape));
            return self.fail(ast, message, Some("`has(x)` asks whether x is set".into()));
        }
        Some(expr)
    }

    /// Two operands that can be compared; either may name a value of the other's enumeration.
    fn pair(&mut self, ast: &Ast, a: &Ast, b: &Ast) -> Option<(Expr, Expr)> {
        let bare =
            |ast: &Ast| matches!(&ast.node, Node::Name(n) if self.scope.names.iter().all(|(s, ..)| s != n));
        let swap = bare(a) && !bare(b);
        let (first, second) = if swap { (b, a) } else { (a, b) };
        let first = self.check(first, None);
        let hint = first.as_ref().and_then(|(_, shape)| enumeration(shape));
        let second = self.check(second, hint.as_ref());
        let ((first, left), (second, right)) = (first?, second?);
        if left.list || right.list || join(&left, &right).is_none() {
            let message = format!("cannot compare {} with {}", self.describe(&left), self.describe(&right));
            return self.fail(ast, message, None);
        }
        Some(if swap { (second, first) } else { (first, second) })
    }

    fn arithmetic(&mut self, ast: &Ast, op: Arithmetic, a: &Ast, b: &Ast) -> Option<Typed> {
        let (a, b) = (self.check(a, None), self.check(b, None));
        let ((a, left), (b, right)) = (a?, b?);
        let text = Shape::one(Flow::Text);
        if op == Arithmetic::Add && left == text && right == text {
            let mut parts = match a {
                Expr::Concat(parts) => parts,
                one => vec![one],
            };
            match b {
                Expr::Concat(more) => parts.extend(more),
                one => parts.push(one),
            }
            return Some((Expr::Concat(parts), text));
        }
        if !numeric(&left) || !numeric(&right) {
            let help = (op == Arithmetic::Add).then(|| "`string(x)` makes text of a number".to_owned());
            let message =
                format!("cannot calculate with {} and {}", self.describe(&left), self.describe(&right));
            return self.fail(ast, message, help);
        }
        let flow =
            if left.flow == Flow::Float || right.flow == Flow::Float { Flow::Float } else { Flow::Long };
        Some((Expr::Arithmetic(op, Box::new(a), Box::new(b)), Shape::one(flow)))
    }

    fn within(&mut self, ast: &Ast, a: &Ast, b: &Ast) -> Option<Typed> {
        if let Node::List(items) = &b.node {
            let (a, shape) = self.check(a, None)?;
            let hint = enumeration(&shape);
            let mut out = Vec::new();
            for item in items {
                let (expr, is) = self.check(item, hint.as_ref())?;
                if join(&shape, &is).is_none() {
                    let message =
                        format!("cannot compare {} with {}", self.describe(&shape), self.describe(&is));
                    return self.fail(item, message, None);
                }
                out.push(expr);
            }
            return Some((Expr::In(Box::new(a), out), Shape::one(Flow::Bool)));
        }
        let (list, is) = self.check(b, None)?;
        let (a, shape) = self.check(a, enumeration(&is).as_ref())?;
        if !is.list || join(&shape, &Shape::one(is.flow.clone())).is_none() {
            let message =
                format!("`in` needs a list of {}, this is {}", self.describe(&shape), self.describe(&is));
            return self.fail(ast, message, None);
        }
        Some((Expr::InList(Box::new(a), Box::new(list)), Shape::one(Flow::Bool)))
    }

    fn name(&mut self, ast: &Ast, name: &str, hint: Option<&Arc<EnumSchema>>) -> Option<Typed> {
        if let Some(hint) = hint {
            if let Some(number) = hint.number(name) {
                return Some((Expr::Const(Value::Int(number)), Shape::one(Flow::Enum(hint.clone()))));
            }
            let help = did_you_mean(name, hint.values.iter().map(|(n, _)| n.as_str()));
            return self.fail(ast, format!("enumeration {} has no value `{name}`", hint.name), help);
        }
        if name == "view" {
            return Some((Expr::View, Shape::one(Flow::Text)));
        }
        if name == "index" && self.scope.index {
            return Some((Expr::Index, Shape::one(Flow::Int)));
        }
        let names = self.names();
        if names.contains(&name) {
            return self.fail(ast, format!("`{name}` is a whole object: name one of its fields"), None);
        }
        let help = did_you_mean(name, names.iter().copied())
            .or_else(|| Some(format!("known names: {}", names.join(", "))));
        self.fail(ast, format!("nothing here is called `{name}`"), help)
    }

    fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<&'static str> = self.scope.names.iter().map(|(n, ..)| *n).collect();
        names.push("view");
        if self.scope.index {
            names.push("index");
        }
        names
    }

    /// `root.a.b`, `root.a->b`, `Enumeration.VALUE`.
    fn path(&mut self, ast: &Ast) -> Option<Typed> {
        let mut names = Vec::new();
        let mut at = ast;
        let base = loop {
            match &at.node {
                Node::Member(inner, name) => {
                    names.push(name.as_str());
                    at = inner;
                }
                Node::Hop(inner, name) => {
                    names.push(name.as_str());
                    names.reverse();
                    return self.hop(ast, inner, &names);
                }
                _ => break at,
            }
        };
        names.reverse();
        let Node::Name(root) = &base.node else {
            return self.fail(ast, "only an object has fields".into(), None);
        };
        if let (Some(e), [value]) = (self.union.enumeration(root), names.as_slice()) {
            let e = e.clone();
            return self.name(ast, value, Some(&e));
        }
        let Some((_, root, message)) = self.scope.names.iter().find(|(n, ..)| n == root).cloned() else {
            return self.name(base, root, None);
        };
        let is_object = self.union.get(message).is_some_and(|m| m.kind.is_some() && m.field("id").is_none());
        if names == ["id"] && root != Root::Command && is_object {
            let kind = self.union.get(message).and_then(|m| m.kind);
            return Some((Expr::Id(root), Shape::one(Flow::Ref(kind.into_iter().collect()))));
        }
        let (path, shape) = self.fields(ast, message, &names)?;
        if let Some(slot) = path.first() {
            match root {
                Root::Item => self.reads.item.insert(*slot),
                Root::Object => self.reads.object.insert(*slot),
                Root::Command => self.reads.command.insert(*slot),
            }
        }
        Some((Expr::Field(root, path), shape))
    }

    /// The slots of `names` from `message` inward.
    fn fields(&mut self, ast: &Ast, message: MessageId, names: &[&str]) -> Option<(Path, Shape)> {
        let mut path: Path = smallvec![];
        let mut shape = Shape::one(Flow::Part(message));
        let mut rest = names;
        while !rest.is_empty() {
            let Shape { flow: Flow::Part(id), list: false } = shape else {
                let is = self.describe(&shape);
                return self.fail(ast, format!("{is} has no fields"), None);
            };
            let message = self.union.get(id)?;
            let Some((field, took)) = field_of(message, rest) else {
                let name = rest.first().copied().unwrap_or("");
                let help = did_you_mean(name, message.fields.iter().map(|f| f.name.as_str()));
                return self.fail(ast, format!("union message {} has no field `{name}`", message.name), help);
            };
            path.push(field.slot);
            shape = Shape::of(field);
            rest = rest.get(took..).unwrap_or(&[]);
        }
        Some((path, shape))
    }

    fn hop(&mut self, ast: &Ast, from: &Ast, names: &[&str]) -> Option<Typed> {
        let (from, shape) = self.check(from, None)?;
        let Shape { flow: Flow::Ref(kinds), list: false } = &shape else {
            let is = self.describe(&shape);
            return self.fail(ast, format!("`->` needs one reference, this is {is}"), None);
        };
        let [kind] = kinds.as_slice() else {
            return self.fail(ast, "`->` needs a reference to one kind of object".into(), None);
        };
        let Expr::Field(root, path) = &from else {
            return self.fail(ast, "`->` may follow one reference, not several".into(), None);
        };
        let (root, first) = (*root, path.first().copied());
        let (then, shape) = self.fields(ast, self.union.kind(*kind).id, names)?;
        if let (Some(first), Some(slot)) = (first, then.first()) {
            self.note_hop(root, first, *kind, SlotSet::of(*slot));
        }
        Some((Expr::Hop(Box::new(from), then), shape))
    }

    fn note_hop(&mut self, root: Root, slot: Slot, kind: Kind, slots: SlotSet) {
        match self.reads.hops.iter_mut().find(|h| (h.0, h.1, h.2) == (root, slot, kind)) {
            Some(known) => known.3 = known.3.union(slots),
            None => self.reads.hops.push((root, slot, kind, slots)),
        }
    }

    fn call(&mut self, ast: &Ast, name: &str, arguments: &[Ast]) -> Option<Typed> {
        const CALLS: [&str; 12] = [
            "has",
            "size",
            "sum",
            "string",
            "lower",
            "native_id",
            "uuid",
            "ends_with",
            "is_name",
            "is_uuid",
            "below",
            "shown_elsewhere",
        ];
        if !CALLS.contains(&name) {
            let help = did_you_mean(name, CALLS).or_else(|| Some(format!("known: {}", CALLS.join(", "))));
            return self.fail(ast, format!("there is no function `{name}`"), help);
        }
        if let ("ends_with" | "below", [a, b]) = (name, arguments) {
            let (a, b) = (self.check(a, None), self.check(b, None));
            let ((a, left), (b, right)) = (a?, b?);
            let text = Shape::one(Flow::Text);
            if left != text || right != text {
                return self.fail(ast, format!("`{name}` needs two texts"), None);
            }
            let (a, b) = (Box::new(a), Box::new(b));
            return Some(match name {
                "below" => (Expr::Below(a, b), text),
                _ => (Expr::EndsWith(a, b), Shape::one(Flow::Bool)),
            });
        }
        let wants = if matches!(name, "ends_with" | "below") { 2 } else { 1 };
        let argument = match arguments {
            [argument] if wants == 1 => argument,
            _ => {
                let takes = if wants == 2 { "two arguments" } else { "one argument" };
                let text = format!("`{name}` takes {takes}, {} are given", arguments.len());
                return self.fail(ast, text, None);
            }
        };
        if name == "sum" {
            return self.sum(ast, argument);
        }
        if name == "shown_elsewhere" {
            return self.shown_elsewhere(ast, argument);
        }
        let whole = match &argument.node {
            Node::Name(n) => {
                self.scope.names.iter().find(|(s, r, _)| s == n && *r != Root::Command).map(|(_, r, _)| *r)
            }
            _ => None,
        };
        if let (Some(root), "native_id") = (whole, name) {
            return Some((Expr::NativeId(Box::new(Expr::Id(root))), Shape::one(Flow::Text)));
        }
        let (expr, shape) = self.check(argument, None)?;
        let boxed = Box::new(expr);
        let one = |expr, flow| Some((expr, Shape::one(flow)));
        match (name, &shape.flow, shape.list) {
            ("has", ..) => one(Expr::Has(boxed), Flow::Bool),
            ("size", _, true) | ("size", Flow::Text, false) => one(Expr::Size(boxed), Flow::Int),
            ("string", Flow::Int | Flow::Long | Flow::Float | Flow::Bool | Flow::Text, false) => {
                one(Expr::Text(boxed), Flow::Text)
            }
            ("is_name", Flow::Text, false) => one(Expr::IsName(boxed), Flow::Bool),
            ("is_uuid", Flow::Text, false) => one(Expr::IsUuid(boxed), Flow::Bool),
            ("lower", Flow::Text, false) => one(Expr::Lower(boxed), Flow::Text),
            ("uuid", Flow::Ref(_), false) => one(Expr::Uuid(boxed), Flow::Text),
            ("native_id", Flow::Ref(_), false) => one(Expr::NativeId(boxed), Flow::Text),
            _ => {
                let message = format!("`{name}` cannot be asked of {}", self.describe(&shape));
                self.fail(ast, message, None)
            }
        }
    }

    /// `shown_elsewhere(item)` of a VM's disk.
    fn shown_elsewhere(&mut self, ast: &Ast, argument: &Ast) -> Option<Typed> {
        let named = |name: &str| self.scope.names.iter().find(|(n, ..)| *n == name);
        let item = match &argument.node {
            Node::Name(name) => named(name).filter(|(_, root, _)| *root == Root::Item),
            _ => None,
        };
        let is_disk = item.and_then(|(.., id)| self.union.get(*id)).is_some_and(|m| m.name == "Disk");
        let vm = self.union.kind(Kind::Vm).id;
        let of_vm = self.scope.names.iter().any(|(_, root, id)| *root == Root::Object && *id == vm);
        let sharing = Sharing::new(self.union).filter(|_| is_disk && of_vm);
        let (Some(sharing), Some(host)) = (sharing, self.union.slot(Kind::Vm, "host_id")) else {
            let message = "`shown_elsewhere` is asked of a VM's disk, as `each = \"self.disks\"` gives it";
            return self.fail(ast, message.into(), Some("`shown_elsewhere(item)`".to_owned()));
        };
        self.reads.object.insert(host);
        Some((Expr::ShownElsewhere(Arc::new(sharing), host), Shape::one(Flow::Bool)))
    }

    fn sum(&mut self, ast: &Ast, argument: &Ast) -> Option<Typed> {
        let help = Some("for example `sum(self.disks.size_bytes)`".to_owned());
        let Node::Member(list, field) = &argument.node else {
            return self.fail(ast, "`sum` needs a field of a list's items".into(), help);
        };
        let (list, shape) = self.check(list, None)?;
        let Shape { flow: Flow::Part(id), list: true } = shape else {
            return self.fail(ast, "`sum` needs a field of a list's items".into(), help);
        };
        let (path, shape) = self.fields(argument, id, &[field.as_str()])?;
        match path.first() {
            Some(slot) if matches!(shape.flow, Flow::Int | Flow::Long) && !shape.list => {
                Some((Expr::Sum(Box::new(list), *slot), Shape::one(Flow::Long)))
            }
            _ => self.fail(ast, "`sum` adds integers".into(), help),
        }
    }
}

fn numeric(shape: &Shape) -> bool {
    !shape.list && matches!(shape.flow, Flow::Int | Flow::Long | Flow::Float)
}

fn enumeration(shape: &Shape) -> Option<Arc<EnumSchema>> {
    if let Flow::Enum(e) = &shape.flow { Some(e.clone()) } else { None }
}

/// The type that holds both, if they can stand for one another.
fn join(a: &Shape, b: &Shape) -> Option<Shape> {
    if a == b {
        return Some(a.clone());
    }
    if a.list || b.list {
        return None;
    }
    match (&a.flow, &b.flow) {
        (Flow::Int | Flow::Long, Flow::Int | Flow::Long) => Some(Shape::one(Flow::Long)),
        _ if numeric(a) && numeric(b) => Some(Shape::one(Flow::Float)),
        (Flow::Ref(_), Flow::Ref(_)) => Some(Shape::one(Flow::Ref(Vec::new()))),
        _ => None,
    }
}
