//! Matching sentences: literal text and `*`.

/// The pieces of `text` that the stars of `pattern` stand for, or `None` if it does not match from
/// end to end. A star takes as little as it can.
pub(super) fn matches<'a>(pattern: &str, text: &'a str) -> Option<Vec<&'a str>> {
    let mut literals = pattern.split('*');
    let mut rest = text.strip_prefix(literals.next()?)?;
    let mut stars = Vec::new();
    let mut literals = literals.peekable();
    while let Some(literal) = literals.next() {
        let at = if literals.peek().is_none() {
            let at = rest.len().checked_sub(literal.len())?;
            rest.ends_with(literal).then_some(at)?
        } else {
            rest.find(literal)?
        };
        stars.push(&rest[..at]);
        rest = &rest[at + literal.len()..];
    }
    rest.is_empty().then_some(stars)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars() {
        let check = |pattern, text, expect: Option<&[&str]>| {
            assert_eq!(
                matches(pattern, text).as_deref(),
                expect,
                "{pattern} {text}"
            );
        };
        check("", "", Some(&[]));
        check("", "a", None);
        check("a", "a", Some(&[]));
        check("a", "ab", None);
        check("*", "", Some(&[""]));
        check("*", "ab", Some(&["ab"]));
        check("R* !read_ok", "R1 !read_ok", Some(&["1"]));
        check("R* !read_ok", "R1 !read_ok.", None);
        check("*_or_null*", "a_or_null_or_null", Some(&["a", "_or_null"]));
        check("a*a", "a", None);
        check("a*a", "aa", Some(&[""]));
        check("*é*", "caféé", Some(&["caf", "é"]));
        check("x * y *", "x 1 y 2 y 3", Some(&["1", "2 y 3"]));
    }
}
