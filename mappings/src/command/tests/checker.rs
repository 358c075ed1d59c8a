//! What the checker says of commands and effects: one change to the small protocol, and its words.

use crate::testing::edited;

/// What is replaced, by what, and what must be said.
type Slip = (&'static str, &'static str, &'static [&'static str]);

fn says(slips: &[Slip]) {
    for (from, to, expected) in slips {
        let said = edited(|text| {
            assert!(text.contains(from), "the small protocol has no `{from}`");
            text.replacen(from, to, 1)
        });
        for part in *expected {
            assert!(said.contains(part), "after `{to}` expected `{part}`, it says:\n{said}");
        }
        assert!(said.contains("demo/protocol.toml:"), "a place is missing:\n{said}");
    }
}

#[test]
fn of_the_rows_of_a_command() {
    says(&[
        (
            "\"spec.memoryMB\" =",
            "\"spec.memoryMb\" =",
            &["native type ChangeSpec has no property `memoryMb`", "did you mean `memoryMB`?"],
        ),
        (
            "\"spec.name\" = \"name\"",
            "\"spce.name\" = \"name\"",
            &["Change_Task has no parameter `spce`", "did you mean `spec`?"],
        ),
        (
            "DiskOrder = \"BOOT_DISK\"",
            "DiskOrdr = \"BOOT_DISK\"",
            &["`DiskOrdr` is not a kind of Order", "did you mean `DiskOrder`?"],
        ),
        (
            "CdOrder = \"BOOT_CDROM\"",
            "CdOrder = \"BOOT_CD\"",
            &["this is not the union enumeration BootDevice"],
        ),
        ("to = \"boot\", types", "to = \"name\", types", &["`types` fills a list, `name` is none"]),
        (
            "from = \"settings\"",
            "from = \"setings\"",
            &["union message Reconfigure has no field `setings`", "did you mean `settings`?"],
        ),
        (
            "type = \"Option\", from = \"settings\"",
            "type = \"Opton\", from = \"settings\"",
            &["`Opton` is not a kind of Option", "did you mean `Option`?"],
        ),
        (
            "{ list = [{ type = \"Option\", from = \"settings\", rows = { \"key\" = \"key\", \"value\" = \"value\" } }] }",
            "{ lst = 1 }",
            &["a command's row has no key `lst`", "did you mean `list`?", "needs one of `to`, `list`"],
        ),
        ("\"spec.name\" = \"vm.name\"", "\"spec.name\" = \"vm.nme\"", &["did you mean `name`?"]),
        ("\"spec.uuid\" = \"it has one\"", "\"spec.uid\" = \"it has one\"", &["did you mean `uuid`?"]),
        (
            "{ fresh = \"vm\", from = \"spec.uuid\" }",
            "{ fresh = \"wm\" }",
            &["there is no kind `wm`", "did you mean `vm`?"],
        ),
        ("{ fresh = \"vm\", from", "{ fresh = \"host\", from", &["`vm_id` of CreateVm never names a host"]),
        (
            "on = \"Machine\"\nunion = \"DestroyVm\"",
            "on = \"Host\"\nunion = \"DestroyVm\"",
            &["the key names the type `Machine`, `on` the type `Host`"],
        ),
    ]);
}

#[test]
fn of_edits_and_what_is_only_read() {
    says(&[
        (
            "like = \"config.hardware.device\"\nto = \"devices\"",
            "like = \"config.hardware.devic\"\nto = \"devices\"",
            &[
                "[object.Machine] has no row `config.hardware.devic`",
                "did you mean `config.hardware.device`?",
            ],
        ),
        (
            "like = \"config.hardware.device\"\nto = \"devices\"",
            "like = \"name\"\nto = \"devices\"",
            &["`name` is not a list row"],
        ),
        ("to = \"devices\"", "to = \"settings\"", &["no item of the list can stand in `settings`"]),
        ("to = \"devices\"", "to = \"name\"", &["`name` holds no changes and no new object"]),
        (
            "field = \"what\"",
            "field = \"wht\"",
            &["native type DeviceSpec has no property `wht`", "did you mean `what`?"],
        ),
        (
            "add = \"add\", edit",
            "add = \"ad\", edit",
            &["native enumeration Op has no value `ad`", "did you mean `add`?"],
        ),
        (
            "item = \"device\"\nrefused",
            "itm = \"device\"\nrefused",
            &["has no key `itm`", "did you mean `item`?"],
        ),
        ("refused = { Disk", "refused = { Dsk", &["`Dsk` is not a kind of Device", "did you mean `Disk`?"]),
        ("named = \"network_id\"", "named = \"mac\"", &["`mac` must name one kind of object, it is text"]),
        (
            "clear = [\"path\"]",
            "clear = [\"pth\"]",
            &["union message Disk has no field `pth`", "did you mean `path`?"],
        ),
        ("model = \"NIC_E1000\"", "model = \"NIC_E100\"", &["`model` is the union enumeration NicModel"]),
    ]);
}

#[test]
fn of_lists_of_an_enumeration() {
    let slot = "{ type = \"Device\", rows = { key = { const = 9 }";
    says(&[
        (
            slot,
            "{ type = \"Device\", from = \"boot\", is = \"BOOT_DSK\", rows = { key = { const = 9 }",
            &["enumeration BootDevice has no value `BOOT_DSK`", "did you mean `BOOT_DISK`?"],
        ),
        (
            slot,
            "{ type = \"Device\", is = \"BOOT_DISK\", rows = { key = { const = 9 }",
            &["`is = \"BOOT_DISK\"` is for lists of an enumeration"],
        ),
        (
            slot,
            "{ type = \"Device\", from = \"boot\", rows = { key = { const = 9 }",
            &["a list is made of parts or of objects of one kind"],
        ),
    ]);
}

#[test]
fn of_effects() {
    says(&[
        (
            "code = \"INVALID_ARGUMENT\"",
            "code = \"INVALID_ARGUMENTS\"",
            &["the union has no code `INVALID_ARGUMENTS`", "did you mean `INVALID_ARGUMENT`?"],
        ),
        ("when = \"cmd.name == 'none'\"", "when = \"cmd.nme == 'none'\"", &["did you mean `name`?"]),
        ("when = \"cmd.name == 'none'\"\n", "", &["a `refuse` needs `when`"]),
        (
            "devices = \"cmd.devices\" }",
            "devices = \"cmd.boot\" }",
            &["`devices` is a list of changes of devices"],
        ),
        (
            "devices = \"cmd.devices\" }",
            "devices = \"item\" }",
            &["`devices` is a list of changes of devices"],
        ),
        (
            "set = { memory_bytes =",
            "set = { memory_byte =",
            &["union message Vm has no field `memory_byte`", "did you mean `memory_bytes`?"],
        ),
        (
            "memory_bytes = \"cmd.memory_bytes\"",
            "memory_bytes = \"cmd.name\"",
            &["`memory_bytes` is a 64-bit integer, this is text"],
        ),
        ("form = \"whole\"", "forms = \"whole\"", &["`edit` has no key `forms`", "did you mean `form`?"]),
        ("undo = \"back\"", "undo = \"forth\"", &["`undo` is a call, or \"back\""]),
        ("each = \"self.disks\"", "each = \"self.name\"", &["`each` needs a list of parts, this is text"]),
        ("vanishes = \"cmd.vm_id\"", "vanishes = \"cmd.keep_files\"", &["this must name one object"]),
        (
            "change_version = \"nobody asks\", ",
            "",
            &["[effect.Reconfigure] does not look at `change_version`"],
        ),
        (
            "left = { change_version =",
            "left = { name = \"?\", change_version =",
            &["`name` is looked at, and so it is not left out"],
        ),
        (
            "settings = \"cmd.settings\"",
            "settings = \"cmd.boot\"",
            &["`settings` is a list of the union message Setting"],
        ),
        ("settings = \"cmd.settings\"", "setings = \"cmd.settings\"", &["did you mean `settings`?"]),
    ]);
}
