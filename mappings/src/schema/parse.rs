//! Reads the compact schema format, one fact a line.

use super::{
    NativeField, NativeMethod, NativeSchema, NativeType, Primitive, TypeDef, TypeId, TypeKind, VersionIndex,
};
use crate::report::{Findings, Span};
use std::sync::Arc;

/// Reads one schema file; what cannot be read is reported.
pub(crate) fn parse(file: u32, text: &str, findings: &mut Findings) -> NativeSchema {
    let mut reader = Reader { schema: NativeSchema::default(), file, findings };
    reader.names(text);
    reader.facts(text);
    let mut schema = reader.schema;
    schema.finish();
    schema
}

struct Reader<'a> {
    schema: NativeSchema,
    file: u32,
    findings: &'a mut Findings,
}

/// The lines that say something, with the place of each.
fn lines(text: &str, file: u32) -> impl Iterator<Item = (Span, &str)> {
    let mut start = 0;
    text.split_inclusive('\n').filter_map(move |line| {
        let at = start;
        start += line.len();
        let line = line.trim_end();
        let empty = line.is_empty() || line.starts_with('#');
        (!empty).then_some((Span { file, start: at, end: at + line.len() }, line))
    })
}

fn kind(word: &str) -> Option<TypeKind> {
    match word {
        "enum" => Some(TypeKind::Enum),
        "data" => Some(TypeKind::Data),
        "fault" => Some(TypeKind::Fault),
        "managed" => Some(TypeKind::Managed),
        _ => None,
    }
}

impl Reader<'_> {
    /// First pass: versions and the names of all types, so that facts may refer forward.
    fn names(&mut self, text: &str) {
        for (span, line) in lines(text, self.file).filter(|(_, l)| !l.starts_with(' ')) {
            let mut words = line.split_whitespace();
            let head = words.next().unwrap_or("");
            if head == "versions" {
                self.schema.versions = words.map(Arc::from).collect();
                continue;
            }
            let (Some(kind), Some(name)) = (kind(head), words.next()) else {
                self.findings.error(
                    span,
                    format!("expected `versions`, `enum`, `data`, `fault` or `managed`, found `{head}`"),
                );
                continue;
            };
            let Ok(id) = u16::try_from(self.schema.types.len()).map(TypeId) else {
                self.findings.error(span, "more than 65,535 types");
                return;
            };
            let name: Arc<str> = Arc::from(name);
            if self.schema.by_name.insert(name.clone(), id).is_some() {
                self.findings.error(span, format!("the type `{name}` is there twice"));
            }
            self.schema.types.push(TypeDef {
                name,
                kind,
                base: None,
                since: VersionIndex(0),
                fields: Vec::new(),
                methods: Vec::new(),
                values: Vec::new(),
                heirs: Vec::new(),
            });
        }
    }

    /// Second pass: everything else.
    fn facts(&mut self, text: &str) {
        let mut current = None;
        for (span, line) in lines(text, self.file) {
            if let Some(body) = line.strip_prefix("  ") {
                let Some(id) = current else { continue };
                self.fact(id, span, body);
            } else if !line.starts_with("versions") {
                current = self.head(span, line);
            }
        }
    }

    fn head(&mut self, span: Span, line: &str) -> Option<TypeId> {
        let mut words = line.split_whitespace().skip(1);
        let id = self.schema.named(words.next()?)?;
        let mut next = words.next();
        let mut base = None;
        if next == Some(":") {
            base = words.next().and_then(|name| self.named(span, name));
            next = words.next();
        }
        let since = self.since(span, next);
        if let Some(def) = self.schema.types.get_mut(usize::from(id.0)) {
            def.base = base;
            def.since = since;
        }
        Some(id)
    }

    fn fact(&mut self, id: TypeId, span: Span, body: &str) {
        let is_enum = self.schema.get(id).is_some_and(|t| t.kind == TypeKind::Enum);
        if is_enum {
            let value = body.split_whitespace().next().map(Arc::from);
            if let Some(def) = self.schema.types.get_mut(usize::from(id.0)) {
                def.values.extend(value);
            }
        } else if let Some(method) = body.strip_prefix('!') {
            let method = self.method(span, method);
            if let (Some(method), Some(def)) = (method, self.schema.types.get_mut(usize::from(id.0))) {
                def.methods.push(method);
            }
        } else if let Some(field) = self.field(span, body)
            && let Some(def) = self.schema.types.get_mut(usize::from(id.0))
        {
            def.fields.push(field);
        }
    }

    fn field(&mut self, span: Span, text: &str) -> Option<NativeField> {
        let mut words = text.split_whitespace();
        let (Some(name), Some(ty)) = (words.next(), words.next()) else {
            self.findings.error(span, "expected `NAME TYPE [VERSION]`");
            return None;
        };
        let since = self.since(span, words.next());
        self.typed(span, name, ty, since)
    }

    fn typed(&mut self, span: Span, name: &str, ty: &str, since: VersionIndex) -> Option<NativeField> {
        let (ty, list) = ty.strip_suffix('*').map_or((ty, false), |t| (t, true));
        let (ty, optional) = ty.strip_suffix('?').map_or((ty, false), |t| (t, true));
        let ty = if let Some(target) = ty.strip_prefix('&') {
            NativeType::Ref(self.named(span, target)?)
        } else if let Some(id) = self.schema.named(ty) {
            match self.schema.get(id).map(|t| t.kind) {
                Some(TypeKind::Enum) => NativeType::Enum(id),
                _ => NativeType::Data(id),
            }
        } else if let Some(primitive) = Primitive::named(ty) {
            NativeType::Primitive(primitive)
        } else {
            self.findings.error(span, format!("the schema has no type `{ty}`"));
            return None;
        };
        Some(NativeField { name: Arc::from(name), ty, optional, list, since })
    }

    fn method(&mut self, span: Span, text: &str) -> Option<NativeMethod> {
        let parts = text.split_once('(').and_then(|(head, rest)| Some((head, rest.split_once(')')?)));
        let Some((head, (inside, tail))) = parts else {
            self.findings.error(span, "expected `!NAME [VERSION] (PARAMETERS) [-> TYPE] [~ FAULTS]`");
            return None;
        };
        let mut words = head.split_whitespace();
        let name = Arc::from(words.next().unwrap_or(""));
        let since = self.since(span, words.next());
        let parameters = inside
            .split(',')
            .map(str::trim)
            .filter(|p| !p.is_empty())
            .filter_map(|p| self.field(span, p))
            .collect();
        let (returns, faults) = tail.split_once('~').unwrap_or((tail, ""));
        let returns = returns.trim().strip_prefix("->").map(str::trim);
        let returns = returns.and_then(|ty| self.typed(span, "", ty, VersionIndex(0)));
        let faults = faults.split_whitespace().filter_map(|f| self.named(span, f)).collect();
        Some(NativeMethod { name, since, parameters, returns, faults })
    }

    fn named(&mut self, span: Span, name: &str) -> Option<TypeId> {
        let id = self.schema.named(name);
        if id.is_none() {
            self.findings.error(span, format!("the schema has no type `{name}`"));
        }
        id
    }

    fn since(&mut self, span: Span, id: Option<&str>) -> VersionIndex {
        let Some(id) = id else { return VersionIndex(0) };
        self.schema.version(id).unwrap_or_else(|| {
            self.findings.error(span, format!("`{id}` is not one of the versions"));
            VersionIndex(0)
        })
    }
}
