//! Message headers: a short list of names and values, kept in the order of their names.

use crate::BusError;
use crate::limits::MAX_HEADERS;

/// The headers of a message. Names are compared without regard to case; values of one name keep their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    list: Vec<(String, String)>,
}

impl Headers {
    /// No headers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a header and returns the list, for building in one expression.
    ///
    /// # Errors
    /// As [`Headers::push`].
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, BusError> {
        self.push(name, value)?;
        Ok(self)
    }

    /// Adds a header.
    ///
    /// # Errors
    /// `InvalidHeader`: the name is empty or has anything but printable ASCII without space and colon, the value
    /// has a line break, or there are 64 headers already.
    pub fn push(&mut self, name: &str, value: &str) -> Result<(), BusError> {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
            return Err(BusError::invalid_header(name, "expected printable ASCII without spaces and colons"));
        }
        if value.contains(['\r', '\n']) {
            return Err(BusError::invalid_header(name, "expected a value without line breaks"));
        }
        if self.list.len() >= MAX_HEADERS {
            return Err(BusError::invalid_header(name, "expected at most 64 headers"));
        }
        let at = self.list.partition_point(|(known, _)| known.as_str() <= name);
        self.list.insert(at, (name.to_owned(), value.to_owned()));
        Ok(())
    }

    /// The first value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.list.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Names and values, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.list.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The bytes they take in a message: the version line, `name: value` lines and the empty line, or nothing.
    pub fn wire_len(&self) -> usize {
        if self.list.is_empty() {
            return 0;
        }
        let lines: usize = self.list.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        lines + "NATS/1.0\r\n".len() + "\r\n".len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordered_by_name_and_found_without_case() {
        let headers = Headers::new().with("b", "1").unwrap().with("a", "2").unwrap().with("b", "3").unwrap();
        let list: Vec<_> = headers.iter().collect();
        assert_eq!(list, [("a", "2"), ("b", "1"), ("b", "3")]);
        assert_eq!(headers.get("B"), Some("1"));
        assert_eq!(headers.wire_len(), "NATS/1.0\r\na: 2\r\nb: 1\r\nb: 3\r\n\r\n".len());
        assert_eq!(Headers::new().wire_len(), 0);
    }

    #[test]
    fn refuses_what_would_break_the_wire() {
        let mut headers = Headers::new();
        for (name, value) in [("", "v"), ("a:b", "v"), ("a b", "v"), ("ä", "v"), ("a", "x\ny"), ("a", "x\r")]
        {
            assert!(matches!(headers.push(name, value), Err(BusError::InvalidHeader { .. })), "{name:?}");
        }
        for _ in 0..MAX_HEADERS {
            headers.push("n", "v").unwrap();
        }
        assert!(headers.push("n", "v").is_err());
    }
}
