use super::*;
use crate::{
    target::{self, Config},
    tests::{bundle, bundle_with, tables},
};
use inventory::Inventory;
use mapping::Bundle;
use std::fs;
use union::{Schema, clock::ManualClock};

fn state(state: i64, saved: bool) -> State {
    State { state, saved, autostart: false, persistent: true }
}

#[test]
fn power_states() {
    let tables = tables();
    for (number, saved, power) in [
        (0, false, PowerState::Running),
        (1, false, PowerState::Running),
        (2, true, PowerState::Running),
        (3, false, PowerState::Paused),
        (4, false, PowerState::Running),
        (5, false, PowerState::Stopped),
        (5, true, PowerState::Suspended),
        (6, false, PowerState::Crashed),
        (7, false, PowerState::Suspended),
        (99, false, PowerState::Stopped),
        (-1, true, PowerState::Suspended),
    ] {
        assert_eq!(tables.power(state(number, saved)), power, "{number} {saved}");
        assert_eq!(tables.asleep(state(number, saved)), number == 7, "{number} {saved}");
        let runs = matches!(power, PowerState::Running | PowerState::Paused);
        assert_eq!(tables.runs(state(number, saved)), runs, "{number} {saved}");
    }
}

#[test]
fn words_and_errors() {
    let tables = tables();
    for (word, power) in [
        ("running", PowerState::Running),
        ("paused", PowerState::Paused),
        ("pmsuspended", PowerState::Suspended),
        ("shutoff", PowerState::Stopped),
        ("disk-snapshot", PowerState::Stopped),
        ("", PowerState::Stopped),
    ] {
        assert_eq!(tables.snapshot(word), power, "{word}");
    }
    assert_eq!(tables.format("qcow2"), DiskFormat::Qcow2);
    assert_eq!(tables.format("bochs"), DiskFormat::OtherFormat);
    for (number, code) in [
        (3, Some(Code::NotSupported)),
        (8, Some(Code::InvalidArgument)),
        (29, Some(Code::Permission)),
        (42, Some(Code::NotFound)),
        (55, Some(Code::InvalidState)),
        (68, Some(Code::InProgress)),
        (78, Some(Code::Cancelled)),
        (97, Some(Code::GuestUnavailable)),
        (1, None),
    ] {
        assert_eq!(tables.meaning(number), code, "{number}");
    }
    assert!(tables.directory("netfs") && !tables.directory("logical"));
    assert_eq!(tables.agent(), "org.qemu.guest_agent.0");
    assert_eq!(tables.started(), 2);
    let power = |event, detail| tables.told(event, detail).map(|told| tables.power(told.state));
    assert_eq!((power(2, 0), power(5, 1)), (Some(PowerState::Running), Some(PowerState::Stopped)));
    assert_eq!((power(2, 2), power(5, 4)), (None, None));
    assert_eq!(tables.events().iter().map(|e| e.ids.len()).collect::<Vec<_>>(), [12, 1, 2]);
}

/// What a connection says when `from` in the tables is `to`.
fn refusal(from: &str, to: &str) -> String {
    let bundle = bundle_with(|dir| {
        let file = dir.join("protocol.toml");
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(file, text.replace(from, to)).unwrap();
    });
    connect(&bundle.unwrap_or_else(|report| panic!("{report}")))
}

/// What a connection says; nothing if it is one.
fn connect(bundle: &Bundle) -> String {
    let clock = Arc::new(ManualClock::new(0));
    let inventory = Inventory::new(Schema::base(), 1, clock.clone());
    let config = Config::new("lab", "qemu+unix:///system?socket=/nonexistent/sock");
    let error = target::connect(config, bundle, inventory, clock).err();
    error.map(|e| e.to_string()).unwrap_or_default()
}

#[tokio::test]
async fn a_table_that_is_missing_or_wrong_refuses_the_target_in_plain_words() {
    for (from, to, says) in [
        (
            "[enum.domain_state]",
            "[enum.state]",
            "has no [enum.domain_state]: expected rows of a virDomainState",
        ),
        ("[enum.snapshot_state]", "[enum.other]", "has no [enum.snapshot_state]"),
        ("[enum.volume_format]", "[enum.other]", "has no [enum.volume_format]"),
        ("[enum.error]", "[enum.errors]", "has no [enum.error]: expected rows of a virErrorNumber"),
        ("[\"6\", \"CRASHED\"]", "[\"six\", \"CRASHED\"]", "found `six`"),
        ("  [\"*\", \"OTHER_FORMAT\"],\n", "  [\"else\", \"OTHER_FORMAT\"],\n", "found no row \"*\""),
        ("[table.pools]", "[table.stores]", "has no [table.pools] directories: expected a list"),
        ("agent = \"org.qemu.guest_agent.0\"", "agent = 3", "found Int(3)"),
        ("started = 2", "begun = 2", "has no [table.events] started"),
        ("told = [", "tell = [", "has no [table.events] told"),
        ("from = [\"STOPPED\"]", "from = [\"OFF\"]", "expected a list of { event = number, details"),
        ("ids = [0, 1] }", "ids = [] }", "expected a list of { call"),
        ("ConnectNetworkEventRegisterAny", "ConnectNetworkRing", "found `ConnectNetworkRing`"),
    ] {
        let refused = refusal(from, to);
        assert!(refused.contains(says), "{from}: {refused}");
    }
    assert_eq!(refusal("started = 2", "started = 3"), "");
}

#[tokio::test]
async fn a_bundle_without_libvirts_files_says_which() {
    for (gone, says) in [("domain.toml", "domain.toml is missing"), ("", "protocol.toml is missing")] {
        let bundle = bundle_with(|dir| match gone {
            "" => fs::rename(dir, dir.with_file_name("other")).unwrap(),
            file => fs::remove_file(dir.join(file)).unwrap(),
        });
        let bundle = bundle.unwrap_or_else(|report| panic!("{report}"));
        let refused = connect(&bundle);
        assert!(refused.contains(says), "{refused}");
    }
    assert_eq!(connect(&bundle()), "");
}
