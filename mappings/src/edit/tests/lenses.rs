//! The laws of the lenses: what is written reads back.

use crate::edit::lens::{Lens, Link, Misfit, Word, Words, factor};
use proptest::prelude::*;
use std::{borrow::Cow, sync::Arc};
use union::Value;

fn words() -> Link {
    let word = |native: &str, union: i64, read_only| Word {
        native: native.into(),
        union: Value::Int(union),
        read_only,
    };
    Link::Enum(Arc::new(Words {
        words: vec![word("one", 1, false), word("eins", 1, true), word("two", 2, false), word("*", 9, true)],
    }))
}

fn lens(links: Vec<Link>) -> Lens {
    Lens { links }
}

fn read(lens: &Lens, text: Option<&str>, unit: Option<&str>) -> Result<Value, Misfit> {
    lens.read(text.map(Cow::Borrowed), unit)
}

proptest! {
    #[test]
    fn numbers_read_back(number in any::<i64>(), by in -1000i64..1000) {
        for links in [vec![Link::Int], vec![Link::Scale(1024)], vec![Link::Offset(by)], vec![Link::Unit(1024)]] {
            let lens = lens(links);
            if let Ok(Some(text)) = lens.write(&Value::Int(number), 1024) {
                prop_assert_eq!(read(&lens, Some(&text), Some("KiB")), Ok(Value::Int(number)));
            }
        }
    }

    #[test]
    fn texts_read_back(text in "\\PC{0,20}") {
        for links in [vec![], vec![Link::Filled { line: false }], vec![Link::Unset("none".into())], vec![Link::Switch("on".into(), "off".into())], vec![words()]] {
            let lens = lens(links);
            if let Ok(value) = read(&lens, Some(&text), None)
                && let Ok(Some(written)) = lens.write(&value, 1)
            {
                prop_assert_eq!(read(&lens, Some(&written), None), Ok(value));
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in any::<String>(), unit in proptest::option::of("[a-zA-Z]{0,4}")) {
        for links in [vec![Link::Int], vec![Link::Unit(1024)], vec![Link::Scale(1 << 30)], vec![Link::Present], vec![Link::Lower]] {
            read(&lens(links), Some(&text), unit.as_deref()).ok();
        }
    }
}

#[test]
fn words_and_absence() {
    let words = lens(vec![words()]);
    assert_eq!(read(&words, Some("eins"), None), Ok(Value::Int(1)));
    assert_eq!(read(&words, Some("drei"), None), Ok(Value::Int(9)));
    assert_eq!(words.write(&Value::Int(1), 1), Ok(Some("one".to_owned())));
    assert_eq!(words.write(&Value::Int(9), 1), Err(Misfit::NoForm));
    let present = lens(vec![Link::Present]);
    assert_eq!(read(&present, None, None), Ok(Value::Bool(false)));
    assert_eq!(read(&present, Some(""), None), Ok(Value::Bool(true)));
    let default = lens(vec![Link::Int, Link::Default(Value::Int(7))]);
    assert_eq!(read(&default, None, None), Ok(Value::Int(7)));
    let unset = lens(vec![Link::Unset("-1".into()), Link::Int]);
    assert_eq!(read(&unset, Some("-1"), None), Ok(Value::Absent));
    assert_eq!(read(&unset, Some(" 5901 "), None), Ok(Value::Int(5901)));
}

#[test]
fn numbers_are_decimal_and_bounded() {
    let int = lens(vec![Link::Int]);
    for text in ["", " ", "+1", "0x10", "1e3", "--1", "1 2", "\u{661}"] {
        assert_eq!(read(&int, Some(text), None), Err(Misfit::NotANumber), "{text:?}");
    }
    assert_eq!(read(&int, Some("9223372036854775808"), None), Err(Misfit::Range));
    assert_eq!(
        read(&lens(vec![Link::Unit(1024)]), Some("9223372036854775807"), Some("KiB")),
        Err(Misfit::Range)
    );
}

#[test]
fn units_are_libvirts() {
    let expected = [
        ("b", 1),
        ("Bytes", 1),
        ("KB", 1000),
        ("k", 1024),
        ("KiB", 1024),
        ("MB", 1_000_000),
        ("m", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
    ];
    for (unit, bytes) in expected {
        assert_eq!(factor(unit), Some(bytes), "{unit}");
    }
    assert_eq!((factor("furlong"), factor("Kib"), factor("kbit")), (None, Some(1024), None));
}
