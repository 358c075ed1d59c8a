//! Escaping on the way out: text without anything to escape is copied in one piece.
//!
//! Characters that XML 1.0 cannot carry at all (most control characters, U+FFFE, U+FFFF) become U+FFFD, so that a
//! guest's odd host name cannot break an answer.

/// 0: copied; 1: escaped in text and attributes; 2: escaped in attributes; 3: look at the character.
const fn class(byte: u8) -> u8 {
    match byte {
        b'\r' | b'&' | b'<' | b'>' => 1,
        b'\t' | b'\n' | b'"' => 2,
        // U+FFFE and U+FFFF begin with 0xEF; so do most of the characters from U+F000.
        0..0x20 | 0xEF => 3,
        _ => 0,
    }
}

/// Appends `text` as element content.
pub fn text(text: &str, out: &mut Vec<u8>) {
    append(text, out, |class| class & 1 == 1);
}

/// Appends `value` as the content of a double-quoted attribute.
pub fn attribute(value: &str, out: &mut Vec<u8>) {
    append(value, out, |class| class != 0);
}

/// `value` escaped for a double-quoted attribute.
pub fn attribute_string(value: &str) -> String {
    let mut out = Vec::with_capacity(value.len());
    attribute(value, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

fn append(text: &str, out: &mut Vec<u8>, stops: impl Fn(u8) -> bool) {
    let mut rest = text;
    while let Some(at) = rest.bytes().position(|byte| stops(class(byte))) {
        let (clean, tail) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.extend_from_slice(clean.as_bytes());
        let mut chars = tail.chars();
        match chars.next() {
            Some('&') => out.extend_from_slice(b"&amp;"),
            Some('<') => out.extend_from_slice(b"&lt;"),
            Some('>') => out.extend_from_slice(b"&gt;"),
            Some('"') => out.extend_from_slice(b"&quot;"),
            Some('\r') => out.extend_from_slice(b"&#xD;"),
            Some('\n') => out.extend_from_slice(b"&#xA;"),
            Some('\t') => out.extend_from_slice(b"&#x9;"),
            Some('\u{FFFE}' | '\u{FFFF}' | '\0'..'\x20') => out.extend_from_slice("\u{FFFD}".as_bytes()),
            Some(other) => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
            None => {}
        }
        rest = chars.as_str();
    }
    out.extend_from_slice(rest.as_bytes());
}

/// Whether XML 1.0 can carry `c`.
pub fn is_xml_char(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | '\u{20}'..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both(value: &str) -> (String, String) {
        let mut out = Vec::new();
        text(value, &mut out);
        (String::from_utf8(out).unwrap(), attribute_string(value))
    }

    #[test]
    fn escapes() {
        assert_eq!(both("plain ünï \u{F8FF}"), ("plain ünï \u{F8FF}".into(), "plain ünï \u{F8FF}".into()));
        assert_eq!(both("a<b>&\"c'"), ("a&lt;b&gt;&amp;\"c'".into(), "a&lt;b&gt;&amp;&quot;c'".into()));
        assert_eq!(both("\t\n\r"), ("\t\n&#xD;".into(), "&#x9;&#xA;&#xD;".into()));
        assert_eq!(
            both("\0\u{1}\u{FFFE}"),
            ("\u{FFFD}\u{FFFD}\u{FFFD}".into(), "\u{FFFD}\u{FFFD}\u{FFFD}".into())
        );
    }
}
