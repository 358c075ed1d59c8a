//! How deep a TOML text's brackets go. The TOML parser recovers from errors by recursion, and a bracket of the wrong
//! kind makes it forget how deep it is; so this is looked at before it is called.

/// Brackets of one kind inside each other.
const DEEPEST: usize = 64;

/// What is said of a text that is deeper.
pub(crate) const TOO_DEEP: &str = "more than 64 brackets are open here";

/// Where more than 64 brackets of one kind are open. Strings and comments are not told from the rest: a text for which
/// they make a difference is no mapping.
pub(crate) fn too_deep(text: &str) -> Option<usize> {
    let (mut square, mut curly) = (0_usize, 0_usize);
    text.bytes().position(|byte| {
        match byte {
            b'[' => square += 1,
            b']' => square = square.saturating_sub(1),
            b'{' => curly += 1,
            b'}' => curly = curly.saturating_sub(1),
            _ => {}
        }
        square > DEEPEST || curly > DEEPEST
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_place() {
        assert_eq!(too_deep(&"[a]\nb = { c = [1, 2] }\n".repeat(1_000)), None);
        assert_eq!(too_deep(&"{".repeat(64)), None);
        assert_eq!(too_deep(&"[".repeat(1_000)), Some(64));
        assert_eq!(too_deep(&"a = { b = c]\n".repeat(1_000)), Some(64 * 13 + 4));
    }
}
