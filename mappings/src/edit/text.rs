//! Text between the document and the union: references, line ends, escapes.

use std::borrow::Cow;

/// Whether XML 1.0 allows the character at all.
pub(crate) fn is_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..='\u{10FFFF}')
}

/// What `&body;` stands for.
pub(crate) fn reference(body: &str) -> Option<char> {
    let number = |digits: &str, radix: u32| {
        // `from_str_radix` takes a sign, XML does not.
        if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
            return None;
        }
        u32::from_str_radix(digits, radix).ok().and_then(char::from_u32).filter(|c| is_char(*c))
    };
    match body {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => match body.strip_prefix('#')? {
            digits if digits.starts_with('x') => number(digits.strip_prefix('x')?, 16),
            digits => number(digits, 10),
        },
    }
}

/// The text of a run: references replaced, line ends as `\n`.
pub(crate) fn decode_text(raw: &str) -> Cow<'_, str> {
    if raw.bytes().all(|b| b != b'&' && b != b'\r') { Cow::Borrowed(raw) } else { decode(raw, false) }
}

/// The value of an attribute: references replaced, white space as spaces.
pub(crate) fn decode_attribute(raw: &str) -> Cow<'_, str> {
    if raw.bytes().all(|b| b != b'&' && b >= b' ') { Cow::Borrowed(raw) } else { decode(raw, true) }
}

/// Line ends as `\n`.
pub(crate) fn lines(raw: &str) -> Cow<'_, str> {
    if raw.contains('\r') {
        Cow::Owned(raw.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        Cow::Borrowed(raw)
    }
}

fn decode(raw: &str, attribute: bool) -> Cow<'_, str> {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw.chars();
    while let Some(c) = rest.next() {
        match c {
            '&' => {
                let tail = rest.as_str();
                let end = tail.find(';').unwrap_or(tail.len());
                out.extend(reference(tail.get(..end).unwrap_or("")));
                rest = tail.get(end + 1..).unwrap_or("").chars();
            }
            '\r' => {
                if let Some(tail) = rest.as_str().strip_prefix('\n') {
                    rest = tail.chars();
                }
                out.push(if attribute { ' ' } else { '\n' });
            }
            '\t' | '\n' if attribute => out.push(' '),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Text as the content of an element; `None` if XML cannot hold it.
pub(crate) fn encode_text(text: &str) -> Option<String> {
    encode(text, |c| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '\r' => Some("&#13;"),
        _ => None,
    })
}

/// Text as the value of an attribute in `quote`s; `None` if XML cannot hold it.
pub(crate) fn encode_attribute(text: &str, quote: char) -> Option<String> {
    encode(text, |c| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '\'' if quote == '\'' => Some("&apos;"),
        '"' if quote == '"' => Some("&quot;"),
        '\t' => Some("&#9;"),
        '\n' => Some("&#10;"),
        '\r' => Some("&#13;"),
        _ => None,
    })
}

fn encode(text: &str, escape: impl Fn(char) -> Option<&'static str>) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if !is_char(c) {
            return None;
        }
        match escape(c) {
            Some(reference) => out.push_str(reference),
            None => out.push(c),
        }
    }
    Some(out)
}
