//! Property paths: `name`, `config.hardware.memoryMB`, `config.hardware.device[4000].deviceInfo.label`,
//! `config.extraConfig["guestinfo.a"].value`.
//!
//! Limits: 32 names a path, 1,024 characters.

use super::ObjectMap;
use crate::{
    render::{BodyId, Deps, NodeId, NodeKind},
    schema::{NativeField, NativeSchema, NativeType, TypeId, VersionIndex},
};
use std::sync::Arc;

const MAX_NAMES: usize = 32;
const MAX_LENGTH: usize = 1024;

/// A property of one native type, resolved once and rendered often.
#[derive(Clone, Debug)]
pub struct Selection {
    pub(crate) path: Arc<str>,
    pub(crate) deps: Deps,
    pub(crate) since: VersionIndex,
    pub(crate) target: Target,
}

#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// Valid, but no row shows it.
    Unset,
    Node(NodeId),
    /// Inside a structure whose type the facts choose: the rest of the path by variant.
    Through(NodeId, Vec<Target>),
    /// One item of a list: the rest of the path by entry, `None`: the whole item.
    Keyed {
        node: NodeId,
        key: Option<Arc<str>>,
        tails: Vec<Option<Target>>,
    },
}

/// A path that the type does not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No such property in the negotiated version.
    #[error("`{ty}` has no property `{name}` (in the path `{path}`)")]
    NoSuchProperty {
        /// The type that was looked at.
        ty: String,
        /// The name it does not have.
        name: String,
        /// The whole path.
        path: String,
    },
    /// A key on what has none, or a list's field without a key.
    #[error("`{path}`: {why}")]
    BadKey {
        /// The whole path.
        path: String,
        /// What is wrong with the key.
        why: &'static str,
    },
}

#[derive(Debug)]
struct Step {
    name: String,
    key: Option<String>,
}

fn parse(path: &str) -> Result<Vec<Step>, PathError> {
    let bad = |why| PathError::BadKey { path: path.chars().take(MAX_LENGTH).collect(), why };
    if path.len() > MAX_LENGTH {
        return Err(bad("the path is too long"));
    }
    let mut steps = Vec::new();
    let mut rest = path;
    loop {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (name, mut tail) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let mut key = None;
        if let Some(inside) = tail.strip_prefix('[') {
            let quoted = inside.strip_prefix('"');
            let close = if quoted.is_some() { "\"]" } else { "]" };
            let (text, after) =
                quoted.unwrap_or(inside).split_once(close).ok_or_else(|| bad("the key has no end"))?;
            if text.is_empty() || (quoted.is_none() && text.contains('"')) {
                return Err(bad("the key cannot be read"));
            }
            key = Some(text.to_owned());
            tail = after;
        }
        steps.push(Step { name: name.to_owned(), key });
        if steps.len() > MAX_NAMES {
            return Err(bad("the path has too many names"));
        }
        match tail.strip_prefix('.') {
            Some(more) => rest = more,
            None if tail.is_empty() => return Ok(steps),
            None => return Err(bad("a name or the end must follow a key")),
        }
    }
}

pub(super) fn select(map: &ObjectMap, path: &str, version: VersionIndex) -> Result<Selection, PathError> {
    let steps = parse(path)?;
    let finder = Finder { map, path, version };
    let since = finder.exists(map.native_id, &steps)?;
    let mut deps = Deps::default();
    let target = finder.find(map.body, &steps, &mut deps);
    Ok(Selection { path: Arc::from(path), deps, since, target })
}

struct Finder<'a> {
    map: &'a ObjectMap,
    path: &'a str,
    version: VersionIndex,
}

/// The field in the type or in a type below it.
fn field_below<'n>(
    native: &'n NativeSchema,
    ty: TypeId,
    name: &str,
    version: VersionIndex,
) -> Option<&'n NativeField> {
    let of = |ty: TypeId| native.get(ty).and_then(|d| d.field(name)).filter(|f| f.since <= version);
    of(ty).or_else(|| native.family(ty).into_iter().skip(1).find_map(of))
}

impl Finder<'_> {
    /// Checks the path against the native schema alone.
    ///
    /// The object's own type is known; a structure may be of a type below the declared one.
    fn exists(&self, ty: TypeId, steps: &[Step]) -> Result<VersionIndex, PathError> {
        let native = &self.map.native;
        let Some((step, rest)) = steps.split_first() else { return Ok(VersionIndex(0)) };
        let own = native.get(ty).filter(|_| ty == self.map.native_id).map(|d| d.field(&step.name));
        let field = match own {
            Some(own) => own.filter(|f| f.since <= self.version),
            None => field_below(native, ty, &step.name, self.version),
        };
        let Some(field) = field else {
            return Err(PathError::NoSuchProperty {
                ty: native.name(ty).to_owned(),
                name: step.name.clone(),
                path: self.path.to_owned(),
            });
        };
        let bad = |why| Err(PathError::BadKey { path: self.path.to_owned(), why });
        let inner = if let NativeType::Data(id) = field.ty { Some(id) } else { None };
        match (&step.key, field.list, inner) {
            (Some(_), false, _) => return bad("only a list takes a key"),
            (Some(_), true, None) => return bad("the items of this list have no key"),
            (Some(_), true, Some(id)) if !self.keyed(id) => return bad("the items of this list have no key"),
            (None, true, _) if !rest.is_empty() => return bad("a field of a list needs the item's key"),
            _ => {}
        }
        if rest.is_empty() {
            return Ok(field.since);
        }
        let below = match inner {
            Some(id) => self.exists(id, rest)?,
            None => {
                return Err(PathError::NoSuchProperty {
                    ty: step.name.clone(),
                    name: rest.first().map(|s| s.name.clone()).unwrap_or_default(),
                    path: self.path.to_owned(),
                });
            }
        };
        Ok(below.max(field.since))
    }

    /// Whether the items have a field called `key`, or a row of a list says which field is.
    fn keyed(&self, ty: TypeId) -> bool {
        field_below(&self.map.native, ty, "key", self.version).is_some()
            || self.map.compiled.nodes.iter().any(|n| match &n.kind {
                NodeKind::List(list) => list
                    .key
                    .as_ref()
                    .is_some_and(|k| field_below(&self.map.native, ty, k, self.version).is_some()),
                _ => false,
            })
    }

    fn find(&self, body: BodyId, steps: &[Step], deps: &mut Deps) -> Target {
        let compiled = &self.map.compiled;
        let Some((step, rest)) = steps.split_first() else { return Target::Unset };
        let id = compiled.body(body).and_then(|b| b.by_name.get(step.name.as_str())).copied();
        let Some((id, node)) = id.and_then(|id| compiled.node(id).map(|n| (id, n))) else {
            return Target::Unset;
        };
        if step.key.is_none() && rest.is_empty() {
            deps.add(&node.deps);
            return Target::Node(id);
        }
        match &node.kind {
            NodeKind::Leaf(_) => Target::Unset,
            NodeKind::Struct(variants) => {
                let mut inner = Deps::default();
                let mut tails: Vec<Target> =
                    variants.iter().map(|v| self.find(v.body, rest, &mut inner)).collect();
                let plain = variants.iter().all(|v| v.when.is_none()) && tails.len() == 1;
                if plain {
                    deps.add(&inner);
                    return tails.pop().unwrap_or(Target::Unset);
                }
                deps.add(&node.deps);
                Target::Through(id, tails)
            }
            NodeKind::List(list) => {
                deps.add(&node.deps);
                let whole = rest.is_empty();
                let mut ignored = Deps::default();
                let tails = list
                    .entries
                    .iter()
                    .map(|e| (!whole).then(|| self.find(e.body, rest, &mut ignored)))
                    .collect();
                Target::Keyed { node: id, key: step.key.as_deref().map(Arc::from), tails }
            }
        }
    }
}
