use crate::testing::{demo, edited, testdata};
use proptest::prelude::*;

#[test]
fn the_small_protocol_is_good_and_its_cases_hold() {
    let report = crate::check(&testdata());
    assert_eq!(report.to_string(), "0 errors, 0 warnings");
    let tests = crate::test(&testdata());
    assert!(tests.is_good(), "{tests}");
    assert_eq!(tests.cases, 20);
    assert!(tests.samples > 50);
}

#[test]
fn the_hash_names_the_contents() {
    assert_eq!(demo().hash, demo().hash);
    assert_eq!(demo().hash.len(), 64);
}

/// One change, and what the checker must say of it.
#[test]
fn says_what_is_wrong_and_what_to_do() {
    let cases = [
        (
            "\"config.hardware.memoryMB\" = \"memory_bytes | mib\"",
            "\"config.hardware.memoryMb\" = \"memory_bytes | mib\"",
            &[
                "native type Hardware has no property `memoryMb`",
                "did you mean `memoryMB`?",
                "Hardware requires `memoryMB` (int); no row gives it",
                "demo/protocol.toml:46:1",
            ][..],
        ),
        (
            "memory_bytes | mib",
            "cpu_count | mib",
            &["`mib` scales a 64-bit byte count, this is a 32-bit integer", "already written"],
        ),
        (
            "\"config.uuid\" = \"uuid\"",
            "\"config.uuid\" = \"uid\"",
            &["union message Vm has no field `uid`", "did you mean `uuid`?"],
        ),
        (
            "host_id | ref host\"\n\"runtime.boot",
            "host_id\"\n\"runtime.boot",
            &["types do not meet", "add `| ref <kind>`"],
        ),
        (
            "[\"off\", \"STOPPED\"]",
            "[\"of\", \"STOPED\"]",
            &["native enum Power has no value `of`", "did you mean `off`?"],
        ),
        (
            "[\"asleep\", \"SUSPENDED\"], ",
            "",
            &["warning: enum power: no row shows SUSPENDED", "no row reads asleep"],
        ),
        (
            "vm.power_state == RUNNING\"",
            "vm.power_state == RUNING\"",
            &["enumeration PowerState has no value `RUNING`", "did you mean `RUNNING`?"],
        ),
        ("\"capacity\" = \"size_bytes\"", "", &["Disk requires `capacity` (long); no row gives it"]),
        (
            "{ type = \"Nic\", from = \"nics\" }",
            "{ type = \"Nick\", from = \"nics\" }",
            &["`Nick` is not a kind of Device", "did you mean `Nic`?"],
        ),
        ("from = \"nics\"", "from = \"disks\"", &["[object.Nic] shows Nic, but here it gets Disk"]),
        (
            "enum power\"\n\"runtime.host",
            "enum powr\"\n\"runtime.host",
            &["there is no table `[enum.powr]`", "did you mean `power`?"],
        ),
        ("boot_time_ms | time", "boot_time_ms", &["add `| time`"]),
        ("boot_time_ms | time", "boot_time_ms | tme", &["there is no lens `tme`", "did you mean `time`?"]),
        (
            "fault = \"BadState\"\nmessage",
            "fault = \"Other\"\nmessage",
            &["Start_Task does not declare the fault Other"],
        ),
        (
            "\"name\" = \"name\"\n\n[object.Machine]",
            "\"name\" = \"name\"\n\"name.x\" = \"uuid\"\n\n[object.Machine]",
            &["has a row of its own, and so has"],
        ),
        (
            "\"guest.ip\" = \"guest_ip\"",
            "\"guest.ip\" = \"name\"",
            &["the union field `name` is already written by the row `name`", "dup = \\\"view\\\""],
        ),
        ("reply = \"task\"", "reply = \"void\"", &["Start_Task returns a task: `reply = \"task\"`"]),
        (
            "[command.Start_Task]",
            "[command.Start_Tsk]",
            &["Machine has no method `Start_Tsk`", "did you mean `Start_Task`?"],
        ),
        (
            "union = \"PowerOn\"",
            "union = \"PowerOnn\"",
            &["the union has no command `PowerOnn`", "did you mean `PowerOn`?"],
        ),
        ("[effect.Reset]", "[effect.Rest]", &["the union has no command `Rest`"]),
        (
            "\"picture\" = \"nobody draws it\"",
            "\"name\" = \"no\"",
            &[
                "`name` of Machine has a row: it is not unmapped",
                "no row shows what every Machine has: picture",
            ],
        ),
        (
            "when = \"has(self.title)\"",
            "wen = \"has(self.title)\"",
            &["an entry of `list` has no key `wen`", "did you mean `when`?"],
        ),
        (
            "[view.fleet]",
            "[vew.fleet]",
            &["there is no section `vew`", "did you mean `view`?", "there is no `[view.fleet]`"],
        ),
        ("\"info:DirBacking\" =", "\"info:DirBackin\" =", &["no row of Store begins with `info:DirBackin`"]),
        ("[object.Store]", "[object.Stor]", &["the native schema has no type `Stor`"]),
        (
            "\"demo.note\" = \"string\"",
            "\"demo.note\" = \"text\"",
            &["`text` is not a type of extension fields", "union message Vm has no field `ext.demo.note`"],
        ),
        ("{ reverse = \"Vm.host_id\" }", "{ reverse = \"Vm.name\" }", &["`Vm.name` is not a reference"]),
        (
            "PowerOn = \"satisfied\"",
            "PowerOn = \"satisfy\"",
            &["expected `queue`, `refuse FAULT`, `overtake` or `satisfied`"],
        ),
        ("fleet = \"vm-{n}\"", "fleet = \"vm-{m}\"", &["`{m}` is not known"]),
        (
            "[fault.IN_PROGRESS]",
            "[fault.IN_PROGRES]",
            &["the union has no code `IN_PROGRES`", "did you mean `IN_PROGRESS`?"],
        ),
        (
            "string(index + 1)",
            "index",
            &["cannot calculate with text and a 32-bit integer", "`string(x)` makes text of a number"],
        ),
        (
            "\"tags\" = { const = [] }",
            "\"tags\" = { const = \"a\" }",
            &["`tags` is a list: expected an array, not a text"],
        ),
        ("{ const = 9 }", "{ const = 99999999999 }", &["99999999999 does not fit int"]),
    ];
    for (from, to, expected) in cases {
        let said = edited(|text| {
            assert!(text.contains(from), "{from}");
            text.replace(from, to)
        });
        for part in expected {
            let part = part.replace("\\\"", "\"");
            assert!(said.contains(&part), "{from} -> {to}\nexpected: {part}\n{said}");
        }
    }
}

#[test]
fn says_everything_at_once() {
    let said = edited(|text| {
        text.replace("\"uuid\"", "\"uid\"")
            .replace("mib", "mb")
            .replace("[effect.Reset]", "[effect.Rest]")
            .replace("RUNNING\"\n", "RUNING\"\n")
    });
    let errors = said.matches("error: ").count();
    assert!(errors >= 5, "{said}");
    assert!(
        said.contains("has no field `uid`")
            && said.contains("no lens `mb`")
            && said.contains("no command `Rest`"),
        "{said}"
    );
}

#[test]
fn checks_both_sides_of_a_row() {
    let said = edited(|text| text.replace("\"guest.ip\" = \"guest_ip\"", "\"guest.pi\" = \"guest_pi\""));
    assert!(said.contains("has no property `pi`") && said.contains("has no field `guest_pi`"), "{said}");
}

#[test]
fn an_empty_directory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let said = crate::check(dir.path()).to_string();
    assert!(said.contains("there is no folder with mapping files here"), "{said}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is cut out of or put into a mapping file: findings, never a panic.
    #[test]
    fn no_file_makes_the_checker_panic(at in 0.0f64..1.0, length in 0usize..40, with in "[\\[\\]{}=\"'a-z|.>\\-0-9\n ]{0,12}") {
        edited(|text| {
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let start = (text.len() as f64 * at) as usize;
            let start = (start..text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(0);
            let end = (start + length..=text.len()).find(|i| text.is_char_boundary(*i)).unwrap_or(text.len());
            format!("{}{with}{}", text.get(..start).unwrap(), text.get(end..).unwrap())
        });
    }
}
