//! What a client selects: `PropertyFilterSpec` read into steps that refer to each other by number, so that a specification that
//! names itself is a loop in a table and not in the program.
//!
//! Limits: 1,000 property sets, 10,000 object sets, 1,000 steps and 10,000 paths a specification.

use super::super::{fault::Fault, native};
use mapping::{NativeRef, schema::VersionIndex};
use std::{collections::HashMap, sync::Arc};
use wire::{soap::encode::Encoder, xml::Element};

const MAX_SETS: usize = 1_000;
const MAX_OBJECTS: usize = 10_000;
const MAX_STEPS: usize = 1_000;
const MAX_PATHS: usize = 10_000;

/// What one filter selects.
#[derive(Clone, Debug, Default)]
pub(crate) struct FilterSpec {
    /// Which properties of which types.
    pub(crate) sets: Vec<PropertySet>,
    /// Where to begin.
    pub(crate) objects: Vec<ObjectSpec>,
    /// Where to go on to from an object.
    pub(crate) steps: Vec<Step>,
    /// An object that is not there is left out instead of failing the call.
    pub(crate) tolerant: bool,
    /// The version its values are shown in.
    pub(crate) version: VersionIndex,
}

/// Properties of a type and of the types below it.
#[derive(Clone, Debug)]
pub(crate) struct PropertySet {
    /// A managed type.
    pub(crate) ty: Arc<str>,
    /// Every property that has a value.
    pub(crate) all: bool,
    /// Each once, in the order asked.
    pub(crate) paths: Vec<Arc<str>>,
}

/// An object to begin at.
#[derive(Clone, Debug)]
pub(crate) struct ObjectSpec {
    /// Which one.
    pub(crate) object: NativeRef,
    /// Not itself selected.
    pub(crate) skip: bool,
    /// Steps to take from it.
    pub(crate) steps: Vec<u16>,
}

/// From an object of `ty` to what its property `path` refers to.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// The name by which other steps go on with this one.
    pub(crate) name: Option<Arc<str>>,
    /// Objects of other types do not take it.
    pub(crate) ty: Arc<str>,
    /// A property that refers to objects.
    pub(crate) path: Arc<str>,
    /// What it leads to is not itself selected.
    pub(crate) skip: bool,
    /// Steps to take from there.
    pub(crate) next: Vec<u16>,
}

/// A step not yet bound to its names.
enum Link {
    Step(u16),
    Name(Arc<str>),
}

struct Reading {
    steps: Vec<(Step, Vec<Link>)>,
    objects: Vec<(ObjectSpec, Vec<Link>)>,
    paths: usize,
    spec: FilterSpec,
}

impl FilterSpec {
    /// Reads one `PropertyFilterSpec` element of a client that speaks `version`.
    pub(crate) fn read(element: Element<'_>, version: VersionIndex) -> Result<FilterSpec, Fault> {
        let mut reading = Reading {
            steps: Vec::new(),
            objects: Vec::new(),
            paths: 0,
            spec: FilterSpec { version, ..FilterSpec::default() },
        };
        for child in element.children() {
            match child.name() {
                "propSet" => reading.property_set(child)?,
                "objectSet" => reading.object_set(child)?,
                "reportMissingObjectsInResults" => reading.spec.tolerant = child.bool().unwrap_or(false),
                _ => {
                    return Err(Fault::invalid_argument(
                        "specSet",
                        "the filter has an element that is none of its own",
                    ));
                }
            }
        }
        reading.bind()
    }
}

impl FilterSpec {
    /// Writes it as `<name xsi:type="PropertyFilterSpec">`. A step that was written once is named from then on.
    pub(crate) fn encode(&self, out: &mut Encoder, name: &str) {
        out.open_typed(name, "PropertyFilterSpec");
        for set in &self.sets {
            out.open("propSet");
            out.leaf("type", &set.ty);
            if set.all {
                out.bool_leaf("all", true);
            }
            set.paths.iter().for_each(|path| out.leaf("pathSet", path));
            out.close("propSet");
        }
        let mut written = vec![false; self.steps.len()];
        for object in &self.objects {
            out.open("objectSet");
            native::put_reference(out, "obj", &object.object);
            out.bool_leaf("skip", object.skip);
            self.encode_steps(out, &object.steps, &mut written);
            out.close("objectSet");
        }
        if self.tolerant {
            out.bool_leaf("reportMissingObjectsInResults", true);
        }
        out.close(name);
    }

    fn encode_steps(&self, out: &mut Encoder, steps: &[u16], written: &mut [bool]) {
        for number in steps {
            let at = usize::from(*number);
            let (Some(step), Some(written_before)) = (self.steps.get(at), written.get_mut(at)) else {
                continue;
            };
            if std::mem::replace(written_before, true) {
                out.open_typed("selectSet", "SelectionSpec");
                out.leaf("name", step.name.as_deref().unwrap_or_default());
                out.close("selectSet");
                continue;
            }
            out.open_typed("selectSet", "TraversalSpec");
            if let Some(name) = &step.name {
                out.leaf("name", name);
            }
            out.leaf("type", &step.ty);
            out.leaf("path", &step.path);
            out.bool_leaf("skip", step.skip);
            self.encode_steps(out, &step.next, written);
            out.close("selectSet");
        }
    }
}

impl Reading {
    fn property_set(&mut self, element: Element<'_>) -> Result<(), Fault> {
        if self.spec.sets.len() >= MAX_SETS {
            return Err(Fault::invalid_argument("propSet", "more property sets than one filter may have"));
        }
        let ty = element.child_text("type").map(str::trim).filter(|ty| !ty.is_empty());
        let ty =
            ty.ok_or_else(|| Fault::invalid_argument("propSet.type", "a property set names a managed type"))?;
        let mut paths: Vec<Arc<str>> = Vec::new();
        for path in element.children_named("pathSet") {
            self.paths += 1;
            if self.paths > MAX_PATHS {
                return Err(Fault::invalid_argument("pathSet", "more paths than one filter may have"));
            }
            paths.push(Arc::from(path.text().trim()));
        }
        let mut seen = std::collections::HashSet::new();
        paths.retain(|path| seen.insert(path.clone()));
        let all = element.child("all").and_then(Element::bool).unwrap_or(false);
        self.spec.sets.push(PropertySet { ty: Arc::from(ty), all, paths });
        Ok(())
    }

    fn object_set(&mut self, element: Element<'_>) -> Result<(), Fault> {
        if self.objects.len() >= MAX_OBJECTS {
            return Err(Fault::invalid_argument("objectSet", "more objects than one filter may begin at"));
        }
        let object = element.child("obj").and_then(native::reference);
        let object = object
            .ok_or_else(|| Fault::invalid_argument("objectSet.obj", "an object set names an object"))?;
        let skip = element.child("skip").and_then(Element::bool).unwrap_or(false);
        let links = self.links(element)?;
        self.objects.push((ObjectSpec { object, skip, steps: Vec::new() }, links));
        Ok(())
    }

    /// The `selectSet` of an object set or of a step. The decoder's limit on nesting bounds the recursion.
    fn links(&mut self, parent: Element<'_>) -> Result<Vec<Link>, Fault> {
        let mut links = Vec::new();
        for element in parent.children_named("selectSet") {
            let name =
                element.child_text("name").map(str::trim).filter(|name| !name.is_empty()).map(Arc::from);
            let path = element.child_text("path").map(str::trim).filter(|path| !path.is_empty());
            match (path, name) {
                (Some(path), name) => {
                    if self.steps.len() >= MAX_STEPS {
                        return Err(Fault::invalid_argument(
                            "selectSet",
                            "more traversals than one filter may have",
                        ));
                    }
                    let ty = element.child_text("type").map(str::trim).filter(|ty| !ty.is_empty());
                    let ty = ty.ok_or_else(|| {
                        Fault::invalid_argument("selectSet.type", "a traversal names a managed type")
                    })?;
                    let skip = element.child("skip").and_then(Element::bool).unwrap_or(false);
                    let number = u16::try_from(self.steps.len()).unwrap_or(u16::MAX);
                    let step =
                        Step { name, ty: Arc::from(ty), path: Arc::from(path), skip, next: Vec::new() };
                    self.steps.push((step, Vec::new()));
                    let next = self.links(element)?;
                    if let Some(step) = self.steps.get_mut(usize::from(number)) {
                        step.1 = next;
                    }
                    links.push(Link::Step(number));
                }
                (None, Some(name)) => links.push(Link::Name(name)),
                (None, None) => {
                    return Err(Fault::invalid_argument(
                        "selectSet",
                        "a selection has a name, or a type and a path",
                    ));
                }
            }
        }
        Ok(links)
    }

    /// Binds names to steps. A name may stand before, after or inside the step it names.
    fn bind(self) -> Result<FilterSpec, Fault> {
        let mut names: HashMap<Arc<str>, u16> = HashMap::new();
        for (number, (step, _)) in (0u16..).zip(&self.steps) {
            if let Some(name) = &step.name {
                names.entry(name.clone()).or_insert(number);
            }
        }
        let resolve = |links: Vec<Link>| -> Result<Vec<u16>, Fault> {
            let mut steps = Vec::with_capacity(links.len());
            for link in links {
                let number = match link {
                    Link::Step(number) => number,
                    Link::Name(name) => *names.get(&name).ok_or_else(|| {
                        Fault::invalid_argument(
                            "selectSet.name",
                            &format!("no traversal of the filter is called {name}"),
                        )
                    })?,
                };
                if !steps.contains(&number) {
                    steps.push(number);
                }
            }
            Ok(steps)
        };
        let mut spec = self.spec;
        for (mut step, links) in self.steps {
            step.next = resolve(links)?;
            spec.steps.push(step);
        }
        for (mut object, links) in self.objects {
            object.steps = resolve(links)?;
            spec.objects.push(object);
        }
        Ok(spec)
    }
}
