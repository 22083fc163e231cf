//! What could stand where the cursor is.

/// An answer to "how could this word go on?".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Completions {
    /// Where the word begins that the candidates replace up to the cursor, in bytes. If that is behind the
    /// cursor or within a character, the answer counts for nothing.
    pub start: usize,
    /// Whole words. One that ends with a blank is finished.
    pub candidates: Vec<String>,
}

impl Completions {
    /// That nothing is known.
    #[must_use]
    pub fn none() -> Completions {
        Completions::default()
    }

    /// Those of the words that begin as the one before the cursor does, with a blank behind each. Words are
    /// separated by blanks.
    #[must_use]
    pub fn of_words<'a>(
        line: &str,
        cursor: usize,
        words: impl IntoIterator<Item = &'a str>,
    ) -> Completions {
        let before = line.get(..cursor).unwrap_or_default();
        let start = before.rfind(' ').map_or(0, |at| at + 1);
        let typed = before.get(start..).unwrap_or_default();
        let words = words.into_iter().filter(|word| word.starts_with(typed));
        Completions {
            start,
            candidates: words.map(|word| format!("{word} ")).collect(),
        }
    }
}

/// What all candidates begin with, if that is more than what was typed.
pub(crate) fn extension(typed: &str, candidates: &[String]) -> Option<String> {
    let (first, rest) = candidates.split_first()?;
    let mut common = first.as_str();
    for other in rest {
        let mut pairs = common.char_indices().zip(other.chars());
        let end = pairs
            .find(|((_, ours), theirs)| ours != theirs)
            .map_or(common.len().min(other.len()), |((at, _), _)| at);
        common = common.get(..end).unwrap_or_default();
    }
    let longer = common.starts_with(typed) && common.len() > typed.len();
    // The only candidate may be spelled otherwise than it was typed.
    let only = rest.is_empty() && common != typed;
    (longer || only).then(|| common.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_beginnings() {
        for (typed, candidates, text) in [
            ("", &[][..], None),
            ("re", &["reload "][..], Some("reload ")),
            ("re", &["reload ", "remove "], None),
            ("", &["reload ", "remove "], Some("re")),
            ("re", &["reload ", "reload-all "], Some("reload")),
            ("RE", &["reload "], Some("reload ")),
            ("RE", &["reload ", "reload-all "], None),
            ("ż", &["żółw", "żółty"], Some("żół")),
            ("a", &["ab", "a"], None),
            ("", &["é", "è"], None),
        ] {
            let candidates: Vec<String> = candidates.iter().map(|s| (*s).to_owned()).collect();
            let expected = text.map(str::to_owned);
            assert_eq!(
                extension(typed, &candidates),
                expected,
                "{typed:?} {candidates:?}"
            );
        }
    }

    #[test]
    fn words_that_begin_so() {
        let found = Completions::of_words("drain app-", 10, ["app-1", "app-2", "web"]);
        assert_eq!(found.start, 6);
        assert_eq!(found.candidates, ["app-1 ", "app-2 "]);
        assert!(Completions::of_words("ż", 1, ["x"]).candidates.len() == 1);
    }
}
