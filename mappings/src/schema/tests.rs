use super::*;
use crate::report::Findings;

const TEXT: &str = "\
versions 2.0 5.0 8.0
enum Power
  on
  off
data DynamicData
data Base : DynamicData
  key int
data Below : Base 5.0
  label string? 5.0
  hosts &Host?* 8.0
fault Bad : DynamicData
  state Power?
managed Top
managed Host : Top
  name string
  !Start_Task 5.0 (host &Host? 8.0, force boolean) -> &Top ~ Bad
";

fn schema(text: &str) -> (NativeSchema, Findings) {
    let mut findings = Findings::default();
    let file = findings.file("x.schema", text);
    let schema = parse(file, text, &mut findings);
    (schema, findings)
}

#[test]
fn reads_types_fields_methods_and_versions() {
    let (schema, findings) = schema(TEXT);
    assert!(!findings.failed());
    let below = schema.lookup("Below").unwrap();
    let names: Vec<&str> = below.fields.iter().map(|f| &*f.name).collect();
    assert_eq!(names, ["key", "label", "hosts"], "base fields come first");
    assert_eq!(below.since, schema.version("5.0").unwrap());
    let hosts = below.field("hosts").unwrap();
    assert!(hosts.list && hosts.optional);
    assert_eq!(hosts.ty, NativeType::Ref(schema.named("Host").unwrap()));
    assert!(schema.is_a(schema.named("Below").unwrap(), schema.named("DynamicData").unwrap()));
    assert!(schema.is_polymorphic(schema.named("Base").unwrap()));
    let method = schema.method(schema.named("Host").unwrap(), "Start_Task").unwrap();
    assert_eq!(method.parameters.len(), 2);
    assert_eq!(method.faults, [schema.named("Bad").unwrap()]);
    assert_eq!(schema.lookup("Power").unwrap().values.len(), 2);
}

#[test]
fn reports_what_it_cannot_read() {
    let (_, findings) = schema("versions 1\ndata A\n  x Nowhere\n  y string 9\nbogus B\n");
    let text = findings.report().to_string();
    assert!(text.contains("no type `Nowhere`") && text.contains("`9` is not one of the versions"), "{text}");
    assert!(text.contains("found `bogus`"), "{text}");
}

#[test]
fn reads_the_imported_vim_schema() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vsphere/schema/vim25.schema");
    let text = std::fs::read_to_string(path).unwrap();
    let (schema, findings) = schema(&text);
    assert!(!findings.failed(), "{}", findings.report());
    let vm = schema.lookup("VirtualMachine").unwrap();
    assert!(vm.field("name").is_some() && vm.field("config").is_some());
    assert!(schema.version("8.0.3.0").is_some());
}

#[test]
fn a_type_above_itself_ends() {
    let (schema, _) = schema("versions 1\ndata A : B\n  x int\ndata B : A\n");
    let a = schema.named("A").unwrap();
    assert_eq!(schema.family(a).len(), 2);
    assert!(schema.is_a(a, schema.named("B").unwrap()));
}
