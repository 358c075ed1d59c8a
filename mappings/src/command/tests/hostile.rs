//! Calls that nobody's client makes: bounded, refused with a place, never a panic.

use super::{Args, Ids, machine};
use crate::{LiftError, NativeArgs, NativeValue, Nothing, testing::demo, testing::record};
use proptest::prelude::*;
use union::Value;

/// A structure with so many items everywhere.
struct Many(usize);

impl NativeArgs for Many {
    fn get(&self, path: &str) -> Option<NativeValue> {
        (path == "this").then(|| machine("vm-1"))
    }

    fn items(&self, _: &str) -> Vec<Box<dyn NativeArgs + '_>> {
        (0..self.0).map(|_| Box::new(Many(1)) as Box<dyn NativeArgs>).collect()
    }
}

/// A structure that goes on for ever.
struct Deep;

impl NativeArgs for Deep {
    fn get(&self, path: &str) -> Option<NativeValue> {
        (path == "this").then(|| machine("vm-1"))
    }

    fn names(&self, _: &str) -> Vec<String> {
        vec!["spec".to_owned()]
    }
}

#[test]
fn lists_are_bounded() {
    let bundle = demo();
    let map = bundle.protocol("demo").unwrap().command("Change_Task").unwrap();
    let error = map.lift(&Many(100_000), &Ids, None).unwrap_err().to_string();
    assert!(error.contains("at most"), "{error}");
}

#[test]
fn names_without_end_end() {
    let bundle = demo();
    let map = bundle.protocol("demo").unwrap().command("Change_Task").unwrap();
    let error = map.lift(&Deep, &Ids, None).unwrap_err();
    assert!(matches!(error, LiftError::NotSupported { .. }), "{error}");
}

/// Any tree of words.
#[derive(Clone, Debug)]
struct Tree {
    ty: Option<String>,
    texts: Vec<(String, String)>,
    parts: Vec<(String, Tree)>,
}

impl NativeArgs for Tree {
    fn get(&self, path: &str) -> Option<NativeValue> {
        match path.split_once('.') {
            None if path == "this" => Some(machine("vm-1")),
            None => {
                self.texts.iter().find(|(n, _)| n == path).map(|(_, text)| NativeValue::Text(text.clone()))
            }
            Some((name, rest)) => self.parts.iter().find(|(n, _)| n == name)?.1.get(rest),
        }
    }

    fn items(&self, path: &str) -> Vec<Box<dyn NativeArgs + '_>> {
        match path.split_once('.') {
            None => {
                let parts = self.parts.iter().filter(|(n, _)| n == path);
                parts.map(|(_, tree)| Box::new(tree.clone()) as Box<dyn NativeArgs>).collect()
            }
            Some((name, rest)) => match self.parts.iter().find(|(n, _)| n == name) {
                Some((_, tree)) => tree.items(rest),
                None => Vec::new(),
            },
        }
    }

    fn type_name(&self) -> Option<String> {
        self.ty.clone()
    }
}

fn tree() -> impl Strategy<Value = Tree> {
    let word = prop::sample::select(vec![
        "spec", "device", "what", "key", "label", "mac", "linked", "order", "option", "value", "name",
        "memoryMB", "add", "edit", "remove", "Nic", "Disk", "Device", "4000", "-1", "", "true", "[a] b",
        "\u{0}",
    ]);
    let word = word.prop_map(str::to_owned);
    let texts = prop::collection::vec((word.clone(), word.clone()), 0..6);
    let leaf = (prop::option::of(word.clone()), texts.clone()).prop_map(|(ty, texts)| Tree {
        ty,
        texts,
        parts: Vec::new(),
    });
    leaf.prop_recursive(4, 40, 6, move |inner| {
        let parts = prop::collection::vec((word.clone(), inner), 0..6);
        (prop::option::of(word.clone()), texts.clone(), parts).prop_map(|(ty, texts, parts)| Tree {
            ty,
            texts,
            parts,
        })
    })
}

proptest! {
    /// Whatever is sent, the answer is a command or a reason; a command about devices names only devices that are stored.
    #[test]
    fn any_call_is_lifted_or_refused(tree in tree()) {
        static BUNDLE: std::sync::LazyLock<std::sync::Arc<crate::Bundle>> = std::sync::LazyLock::new(demo);
        let bundle = &*BUNDLE;
        let schema = &bundle.schema;
        let map = bundle.protocol("demo").unwrap().command("Change_Task").unwrap();
        let nic = record(schema, "Nic", &[("id", Value::str("n")), ("unit", Value::Int(0)), ("mac", Value::str("n"))]);
        let stored = record(schema, "Vm", &[("nics", Value::list([Value::record(nic)]))]);
        let spec = Tree { ty: None, texts: Vec::new(), parts: vec![("spec".to_owned(), tree)] };
        if let Ok(command) = map.lift(&spec, &Ids, Some((&stored, &Nothing))) {
            let change = schema.message("DeviceChange").unwrap();
            let slot = |name: &str| change.field(name).unwrap().slot;
            let devices = schema.message("Reconfigure").unwrap().field("devices").unwrap().slot;
            for change in command.get(devices).items().iter().filter_map(Value::as_record) {
                let key = change.get(slot("key"));
                let added = change.get(slot("op")).as_int() == Some(1);
                prop_assert!(added || key.as_str() == Some("n"), "{change:?}");
            }
            let effect = bundle.protocol("demo").unwrap().effect("Reconfigure").unwrap();
            let id = map.object(&command).unwrap();
            if let Ok(plan) = effect.plan(&command, id, &stored, &Nothing) {
                prop_assert!(plan.reads.iter().any(|r| &*r.field == "name"), "the name was looked at");
            }
        }
    }
}

#[test]
fn a_reference_stands_only_where_its_kind_may() {
    let bundle = demo();
    let protocol = bundle.protocol("demo").unwrap();
    let lift = |method: &str, args: Vec<(&'static str, NativeValue)>| {
        protocol.command(method).unwrap().lift(&Args(args), &Ids, None).unwrap_err().to_string()
    };
    let machine = || machine("vm-1");
    let error = lift("Start_Task", vec![("this", machine()), ("host", machine())]);
    assert!(error.contains("`host` cannot be read: it names a vm, expected is a host"), "{error}");
    let error = lift("Change_Task", vec![("this", machine()), ("spec.name", machine())]);
    assert!(error.contains("a reference cannot stand here"), "{error}");
    let error = lift("Change_Task", vec![("this", NativeValue::Text("vm-1".into()))]);
    assert!(error.contains("a simple value cannot stand here"), "{error}");
}

#[test]
fn a_call_with_nothing_but_its_object_changes_nothing() {
    let bundle = demo();
    let map = bundle.protocol("demo").unwrap().command("Change_Task").unwrap();
    let none = Args(vec![("this", machine("vm-1"))]);
    let record = map.lift(&none, &Ids, None).unwrap();
    assert_eq!(map.object(&record), Some(crate::testing::id(union::Kind::Vm, 1)));
}
