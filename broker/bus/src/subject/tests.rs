use proptest::prelude::*;

use super::*;

#[test]
fn the_table_is_built_and_read_back() {
    let subject = Subject::event("lab1", "vm", "vm:1 ä", "powered_on").unwrap();
    assert_eq!(subject.as_str(), "event.lab1.vm.vm=3A1=20=C3=A4.powered_on");
    assert_eq!(
        subject.topic(),
        Some(Topic::Event {
            domain: "lab1".into(),
            kind: "vm".into(),
            id: "vm:1 ä".into(),
            what: "powered_on".into()
        })
    );
    assert_eq!(Subject::task("lab1", "").unwrap().as_str(), "task.lab1.=");
    assert_eq!(Subject::cmd("d", "vm", "power_on").unwrap().as_str(), "cmd.d.vm.power_on");
    assert_eq!(Subject::inventory("d", "a", "facts", "delta").unwrap().as_str(), "inventory.d.a.facts.delta");
    for subject in [
        Subject::metric("d", "vm", "1"),
        Subject::audit("d", "root@local"),
        Subject::console("d", "1", "opened"),
        Subject::agent("d", "a", "perform"),
        Subject::service("console", "ticket"),
    ] {
        assert!(subject.unwrap().topic().is_some());
    }
    for other in ["event.lab1.vm.x", "task.d.i.more", "_INBOX.x", "task.d.=zz", "task.d.=2d"] {
        assert_eq!(Subject::parse(other).unwrap().topic(), None, "{other}");
    }
}

#[test]
fn refuses_what_is_not_a_subject() {
    for text in ["", ".", "a..b", "a.", "a b", "a.*", "a.>", "ä", "a\n", "1.2.3.4.5.6.7.8.9"] {
        assert!(matches!(Subject::parse(text), Err(BusError::InvalidSubject { .. })), "{text:?}");
    }
    assert!(Subject::parse(&"a".repeat(256)).is_err());
    assert!(Subject::task("d", &"ä".repeat(64)).is_err());
    for text in ["a.>.b", "a.b*", "a.*b", ">>", "a..>"] {
        assert!(matches!(Pattern::parse(text), Err(BusError::InvalidSubject { .. })), "{text:?}");
    }
}

#[test]
fn wildcards_match_whole_tokens() {
    let matches = |pattern: &str, subject: &str| {
        Pattern::parse(pattern).unwrap().matches(&Subject::parse(subject).unwrap())
    };
    assert!(matches("a.*.c", "a.b.c"));
    assert!(!matches("a.*.c", "a.b.d"));
    assert!(!matches("a.*", "a.b.c"));
    assert!(!matches("a.*.c", "a.b"));
    assert!(matches("a.>", "a.b.c"));
    assert!(!matches("a.>", "a"));
    assert!(matches(">", "a"));
    assert!(!matches("a.b", "a.b.c"));
}

#[test]
fn a_pattern_covers_narrower_patterns() {
    let covers =
        |wide: &str, narrow: &str| Pattern::parse(wide).unwrap().covers(&Pattern::parse(narrow).unwrap());
    assert!(covers("event.>", "event.*.vm.>"));
    assert!(covers("event.*.vm", "event.d.vm"));
    assert!(!covers("event.*", "event.>"));
    assert!(!covers("event.>", ">"));
    assert!(!covers("event.d.>", "event.*.x"));
    assert!(!covers("a.b", "a"));
}

proptest! {
    #[test]
    fn escaping_is_a_bijection(text in ".{0,20}") {
        let token = escape(&text);
        prop_assert!(Pattern::parse(&token).is_ok());
        let back = unescape(&token);
        prop_assert_eq!(back.as_deref(), Some(text.as_str()));
    }

    #[test]
    fn only_escaped_tokens_are_read(token in "[ -~]{0,12}") {
        if let Some(text) = unescape(&token) {
            prop_assert_eq!(escape(&text), token);
        }
    }
}
