//! Patterns of names.

/// A pattern in which `*` stands for any text and `?` for one character.
#[derive(Clone, Debug)]
pub(super) struct Glob {
    parts: Vec<char>,
    is_plain: bool,
}

impl Glob {
    pub(super) fn new(pattern: &str) -> Glob {
        Glob {
            is_plain: !pattern.contains(['*', '?']),
            parts: pattern.chars().collect(),
        }
    }

    pub(super) fn fits(&self, name: &str) -> bool {
        if self.is_plain {
            return self.parts.iter().copied().eq(name.chars());
        }
        let mut rest = name.chars();
        let mut at = 0;
        // Behind the last star: where the pattern goes on, and what it may still swallow.
        let mut retry: Option<(usize, std::str::Chars<'_>)> = None;
        loop {
            let mut ahead = rest.clone();
            match (self.parts.get(at), ahead.next()) {
                (Some('*'), _) => {
                    at += 1;
                    retry = Some((at, rest.clone()));
                    continue;
                }
                (None, None) => return true,
                (Some(part), Some(c)) if *part == '?' || *part == c => {
                    at += 1;
                    rest = ahead;
                    continue;
                }
                _ => {}
            }
            let Some((start, mut from)) = retry.take() else {
                return false;
            };
            if from.next().is_none() {
                return false;
            }
            at = start;
            rest = from.clone();
            retry = Some((start, from));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Glob;

    #[test]
    fn patterns() {
        for (pattern, name, wanted) in [
            ("vfs_read", "vfs_read", true),
            ("vfs_read", "vfs_readv", false),
            ("vfs_*", "vfs_read", true),
            ("*read", "vfs_read", true),
            ("*", "", true),
            ("?", "", false),
            ("?", "ü", true),
            ("a*b*c", "a1b2bc", true),
            ("a*b*c", "a1c2b", false),
            ("a*a", "a", false),
            ("*x*", "axb", true),
            ("a**b", "ab", true),
            ("a*bc*c", "abc", false),
            ("a?c*", "abcdef", true),
            ("*a?", "aab", true),
            ("", "", true),
            ("", "a", false),
        ] {
            assert_eq!(Glob::new(pattern).fits(name), wanted, "{pattern} {name}");
        }
        // Not exponential.
        let pattern = "a*".repeat(40) + "b";
        assert!(!Glob::new(&pattern).fits(&"a".repeat(4000)));
    }
}
