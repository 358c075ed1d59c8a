//! The compact schema text as types. A type is declared before it is used, so types never contain themselves.

use std::{collections::HashMap, fmt, sync::Arc};

/// The type of a value on the wire.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// Signed, 32 bits.
    Int,
    /// Unsigned, 32 bits.
    Uint,
    /// Signed, 64 bits.
    Hyper,
    /// Unsigned, 64 bits.
    Uhyper,
    /// A real number, 64 bits.
    Double,
    /// 32 bits, 0 or 1.
    Bool,
    /// Text of at most this many bytes.
    Text(u32),
    /// Bytes, at most this many.
    Bytes(u32),
    /// Exactly this many bytes.
    FixedBytes(u32),
    /// Characters of four bytes each, at most this many.
    Chars(u32),
    /// Exactly this many characters of four bytes each.
    FixedChars(u32),
    /// There or not.
    Optional(Arc<Type>),
    /// At most so many items.
    Array(Arc<Type>, u32),
    /// Exactly so many items.
    FixedArray(Arc<Type>, u32),
    /// Fields in order.
    Struct(Arc<Struct>),
    /// A discriminant and the arm it selects.
    Union(Arc<Union>),
}

impl Type {
    /// The fewest bytes that a value of this type takes.
    pub fn least(&self) -> u64 {
        match self {
            Type::Int | Type::Uint | Type::Bool => 4,
            Type::Text(_) | Type::Bytes(_) | Type::Chars(_) | Type::Optional(_) | Type::Array(..) => 4,
            Type::Hyper | Type::Uhyper | Type::Double => 8,
            Type::FixedBytes(n) => u64::from(*n).next_multiple_of(4),
            Type::FixedChars(n) => u64::from(*n) * 4,
            Type::FixedArray(item, n) => item.least().saturating_mul(u64::from(*n)),
            Type::Struct(of) => of.least,
            Type::Union(of) => of.arms.iter().map(|(_, arm)| arm.least()).min().unwrap_or(0) + 4,
        }
    }
}

/// One field of a struct.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    pub ty: Type,
}

/// A struct: fields in wire order.
#[derive(Debug, PartialEq)]
pub struct Struct {
    /// Its name.
    pub name: Arc<str>,
    /// In wire order.
    pub fields: Vec<Field>,
    least: u64,
}

/// A union: a signed discriminant selects an arm.
#[derive(Debug, PartialEq)]
pub struct Union {
    /// Its name.
    pub name: Arc<str>,
    /// The discriminant of each arm and its type.
    pub arms: Vec<(i32, Type)>,
}

impl Union {
    /// The arm that `discriminant` selects.
    pub fn arm(&self, discriminant: i32) -> Option<&Type> {
        self.arms.iter().find(|(d, _)| *d == discriminant).map(|(_, ty)| ty)
    }
}

/// What a procedure is besides a call and its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcedureKind {
    /// A call with a reply.
    Call,
    /// Sent by the server only; `args` is its payload.
    Event,
    /// A call after which the server streams to the client.
    ReadStream,
    /// A call after which the client streams to the server.
    WriteStream,
}

/// One procedure.
#[derive(Clone, Debug, PartialEq)]
pub struct Procedure {
    /// Its program.
    pub program: u32,
    /// Its program's version.
    pub version: u32,
    /// Its number in the program.
    pub number: i32,
    /// Its name, for example `REMOTE_PROC_CONNECT_OPEN`.
    pub name: Arc<str>,
    /// What a call carries; `None`: nothing.
    pub args: Option<Arc<Struct>>,
    /// What a reply carries; `None`: nothing.
    pub ret: Option<Arc<Struct>>,
    /// What it is besides.
    pub kind: ProcedureKind,
}

/// The schema text cannot be read: where and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("schema line {line}: {message}")]
pub struct SchemaError {
    /// From 1.
    pub line: usize,
    /// What was expected there.
    pub message: String,
}

/// The types and procedures of one or more programs.
#[derive(Debug, Default)]
pub struct Schema {
    types: HashMap<Arc<str>, Type>,
    constants: HashMap<Arc<str>, i64>,
    procedures: HashMap<(u32, i32), Arc<Procedure>>,
    by_name: HashMap<Arc<str>, Arc<Procedure>>,
}

impl Schema {
    /// Reads the compact text form.
    ///
    /// # Errors
    /// The first line that is not one of `program`, `const`, `struct` and its fields, `union`, `proc`; or that names a type not declared above it.
    pub fn parse(text: &str) -> Result<Schema, SchemaError> {
        let mut reader = Reader { schema: Schema::default(), program: None, open: None };
        for (index, line) in text.lines().enumerate() {
            reader.line(line).map_err(|message| SchemaError { line: index + 1, message })?;
        }
        let last = text.lines().count();
        reader.close().map_err(|message| SchemaError { line: last, message })?;
        Ok(reader.schema)
    }

    /// The struct called `name`.
    pub fn structure(&self, name: &str) -> Option<&Arc<Struct>> {
        match self.types.get(name) {
            Some(Type::Struct(of)) => Some(of),
            _ => None,
        }
    }

    /// The number called `name`.
    pub fn constant(&self, name: &str) -> Option<i64> {
        self.constants.get(name).copied()
    }

    /// The procedure with this number.
    pub fn procedure(&self, program: u32, number: i32) -> Option<&Arc<Procedure>> {
        self.procedures.get(&(program, number))
    }

    /// The procedure called `name`.
    pub fn procedure_named(&self, name: &str) -> Option<&Arc<Procedure>> {
        self.by_name.get(name)
    }

    /// All procedures, in no order.
    pub fn procedures(&self) -> impl Iterator<Item = &Arc<Procedure>> {
        self.by_name.values()
    }
}

struct Reader {
    schema: Schema,
    program: Option<(u32, u32)>,
    open: Option<(Arc<str>, Vec<Field>)>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        if line.starts_with('#') || line.trim().is_empty() {
            return Ok(());
        }
        if let Some(field) = line.strip_prefix("  ") {
            return self.field(field);
        }
        self.close()?;
        let (word, rest) = line.split_once(' ').ok_or("expected a word and what it declares")?;
        match word {
            "program" => self.program(rest),
            "const" => self.constant(rest),
            "struct" => {
                self.open = Some((Arc::from(rest.trim()), Vec::new()));
                Ok(())
            }
            "union" => self.union(rest),
            "proc" => self.procedure(rest),
            other => Err(format!("`{other}` is none of program, const, struct, union, proc")),
        }
    }

    fn field(&mut self, line: &str) -> Result<(), String> {
        let (name, ty) = line.trim().split_once(' ').ok_or("expected `FIELD TYPE`")?;
        let ty = self.ty(ty.trim())?;
        let (_, fields) = self.open.as_mut().ok_or("a field outside a struct")?;
        if fields.iter().any(|f| &*f.name == name) {
            return Err(format!("field `{name}` is there twice"));
        }
        fields.push(Field { name: Arc::from(name), ty });
        Ok(())
    }

    fn close(&mut self) -> Result<(), String> {
        let Some((name, fields)) = self.open.take() else { return Ok(()) };
        let least = fields.iter().fold(0u64, |sum, f| sum.saturating_add(f.ty.least()));
        let of = Struct { name: name.clone(), fields, least };
        self.declare(name, Type::Struct(Arc::new(of)))
    }

    fn declare(&mut self, name: Arc<str>, ty: Type) -> Result<(), String> {
        match self.schema.types.insert(name.clone(), ty) {
            None => Ok(()),
            Some(_) => Err(format!("type `{name}` is declared twice")),
        }
    }

    fn program(&mut self, rest: &str) -> Result<(), String> {
        let (number, version) = rest.split_once(' ').ok_or("expected `program NUMBER VERSION`")?;
        self.program = Some((number_of(number)?, number_of(version)?));
        Ok(())
    }

    fn constant(&mut self, rest: &str) -> Result<(), String> {
        let (name, number) = rest.split_once(' ').ok_or("expected `const NAME NUMBER`")?;
        let number = number.trim().parse().map_err(|_| format!("`{number}` is not a number"))?;
        self.schema.constants.insert(Arc::from(name), number);
        Ok(())
    }

    fn union(&mut self, rest: &str) -> Result<(), String> {
        let shape = "expected `union NAME switch int: N TYPE | N TYPE`";
        let (name, arms) = rest.split_once(" switch int:").ok_or(shape)?;
        let mut read = Vec::new();
        for arm in arms.split('|') {
            let (number, ty) = arm.trim().split_once(' ').ok_or(shape)?;
            let number = number.parse().map_err(|_| format!("`{number}` is not a discriminant"))?;
            read.push((number, self.ty(ty.trim())?));
        }
        let name: Arc<str> = Arc::from(name.trim());
        self.declare(name.clone(), Type::Union(Arc::new(Union { name, arms: read })))
    }

    fn procedure(&mut self, rest: &str) -> Result<(), String> {
        let words: Vec<&str> = rest.split_whitespace().collect();
        let (number, name, args, ret, flag) = match words.as_slice() {
            [number, name, args, ret] => (*number, *name, *args, *ret, None),
            [number, name, args, ret, flag] => (*number, *name, *args, *ret, Some(*flag)),
            _ => return Err("expected `proc NUMBER NAME ARGS RET [FLAG]`".into()),
        };
        let (program, version) = self.program.ok_or("a proc before any program")?;
        let kind = match flag {
            None => ProcedureKind::Call,
            Some("event") => ProcedureKind::Event,
            Some("readstream") => ProcedureKind::ReadStream,
            Some("writestream") => ProcedureKind::WriteStream,
            Some(other) => return Err(format!("`{other}` is none of event, readstream, writestream")),
        };
        let number = number.parse().map_err(|_| format!("`{number}` is not a number"))?;
        let (args, ret) = (self.maybe(args)?, self.maybe(ret)?);
        let procedure =
            Arc::new(Procedure { program, version, number, name: Arc::from(name), args, ret, kind });
        self.schema.by_name.insert(procedure.name.clone(), procedure.clone());
        match self.schema.procedures.insert((program, number), procedure) {
            None => Ok(()),
            Some(other) => Err(format!("procedure {number} is `{}` already", other.name)),
        }
    }

    fn maybe(&self, name: &str) -> Result<Option<Arc<Struct>>, String> {
        if name == "-" {
            return Ok(None);
        }
        match self.schema.structure(name) {
            Some(of) => Ok(Some(of.clone())),
            None => Err(format!("there is no struct `{name}` above")),
        }
    }

    /// `BASE` or `NAME`, then `?`, `<MAX>` and `[N]` from left to right.
    fn ty(&self, text: &str) -> Result<Type, String> {
        let end = text.find(['<', '[', '?']).unwrap_or(text.len());
        let (base, mut rest) = text.split_at_checked(end).ok_or("expected a type")?;
        let mut needed = |what: &str| match bound(&mut rest)? {
            Some(found) => Ok(found),
            None => Err(format!("`{what}` needs `<MAX>` or `[N]`")),
        };
        let mut ty = match base {
            "int" => Type::Int,
            "uint" => Type::Uint,
            "hyper" => Type::Hyper,
            "uhyper" => Type::Uhyper,
            "double" => Type::Double,
            "bool" => Type::Bool,
            "string" => Type::Text(needed("string")?.number()),
            "opaque" => match needed("opaque")? {
                Bound::Max(n) => Type::Bytes(n),
                Bound::Exactly(n) => Type::FixedBytes(n),
            },
            "char" => match needed("char")? {
                Bound::Max(n) => Type::Chars(n),
                Bound::Exactly(n) => Type::FixedChars(n),
            },
            name => self
                .schema
                .types
                .get(name)
                .cloned()
                .ok_or_else(|| format!("there is no type `{name}` above"))?,
        };
        while !rest.is_empty() {
            if let Some(after) = rest.strip_prefix('?') {
                (ty, rest) = (Type::Optional(Arc::new(ty)), after);
                continue;
            }
            if ty.least() == 0 {
                return Err(format!("an array of `{base}`, which takes no bytes, has no end"));
            }
            ty = match bound(&mut rest)? {
                Some(Bound::Max(n)) => Type::Array(Arc::new(ty), n),
                Some(Bound::Exactly(n)) => Type::FixedArray(Arc::new(ty), n),
                None => return Err(format!("`{rest}` is not `?`, `<MAX>` or `[N]`")),
            };
        }
        Ok(ty)
    }
}

#[derive(Clone, Copy)]
enum Bound {
    Max(u32),
    Exactly(u32),
}

impl Bound {
    fn number(self) -> u32 {
        match self {
            Bound::Max(n) | Bound::Exactly(n) => n,
        }
    }
}

/// Takes `<N>` or `[N]` off the front.
fn bound(rest: &mut &str) -> Result<Option<Bound>, String> {
    let (inside, after, max) = if let Some(tail) = rest.strip_prefix('<') {
        let (inside, after) = tail.split_once('>').ok_or("`<` without `>`")?;
        (inside, after, true)
    } else if let Some(tail) = rest.strip_prefix('[') {
        let (inside, after) = tail.split_once(']').ok_or("`[` without `]`")?;
        (inside, after, false)
    } else {
        return Ok(None);
    };
    let number = number_of(inside)?;
    *rest = after;
    Ok(Some(if max { Bound::Max(number) } else { Bound::Exactly(number) }))
}

fn number_of(text: &str) -> Result<u32, String> {
    let text = text.trim();
    let read = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => text.parse(),
    };
    read.map_err(|_| format!("`{text}` is not a number of 32 bits"))
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Type::Int => f.write_str("int"),
            Type::Uint => f.write_str("uint"),
            Type::Hyper => f.write_str("hyper"),
            Type::Uhyper => f.write_str("uhyper"),
            Type::Double => f.write_str("double"),
            Type::Bool => f.write_str("bool"),
            Type::Text(n) => write!(f, "string<{n}>"),
            Type::Bytes(n) => write!(f, "opaque<{n}>"),
            Type::FixedBytes(n) => write!(f, "opaque[{n}]"),
            Type::Chars(n) => write!(f, "char<{n}>"),
            Type::FixedChars(n) => write!(f, "char[{n}]"),
            Type::Optional(of) => write!(f, "{of}?"),
            Type::Array(of, n) => write!(f, "{of}<{n}>"),
            Type::FixedArray(of, n) => write!(f, "{of}[{n}]"),
            Type::Struct(of) => f.write_str(&of.name),
            Type::Union(of) => f.write_str(&of.name),
        }
    }
}
