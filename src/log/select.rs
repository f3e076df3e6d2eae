//! Which lines are written: svlogd's `+` and `-` patterns.
//!
//! Pure. The language is svlogd's to the letter, its oddities included, since people have
//! patterns that rely on them: it never goes back, and a `+c` that swallows the end of the line
//! matches whatever the pattern still holds.

/// What a matching line becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Selected,
    Deselected,
}

/// One line of the config file: `+PATTERN` or `-PATTERN` (`E`, `e` for standard error).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub verdict: Verdict,
    pub pattern: Box<[u8]>,
}

/// The verdict of the last rule that matches, `otherwise` when none does.
pub fn judge(rules: &[Rule], line: &[u8], otherwise: Verdict) -> Verdict {
    let last = rules.iter().rev().find(|rule| matches(&rule.pattern, line));
    last.map_or(otherwise, |rule| rule.verdict)
}

/// Whether the pattern stands for the whole line.
///
/// `*` before a byte skips to the first such byte; at the end it stands for anything. `+c` stands
/// for one or more `c`. Everything else is itself.
pub fn matches(pattern: &[u8], line: &[u8]) -> bool {
    let mut pattern = pattern;
    let mut line = line;
    while let Some((first, rest)) = pattern.split_first() {
        match first {
            b'*' => {
                let Some(wanted) = rest.first() else {
                    return true;
                };
                let Some(at) = memchr::memchr(*wanted, line) else {
                    return false;
                };
                line = &line[at..];
                pattern = rest;
            }
            b'+' => {
                let Some((repeated, after)) = rest.split_first() else {
                    return line.is_empty();
                };
                let run = line.iter().take_while(|byte| *byte == repeated).count();
                if run == 0 {
                    return false;
                }
                if run == line.len() {
                    return true;
                }
                line = &line[run..];
                pattern = after;
            }
            literal => {
                let Some((byte, after)) = line.split_first() else {
                    return false;
                };
                if byte != literal {
                    return false;
                }
                line = after;
                pattern = rest;
            }
        }
    }
    line.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_are_svlogds() {
        // Each of these was put to Debian's svlogd.
        for (pattern, line, expected) in [
            ("+ab", "aaa", true),
            ("+ab", "aab", true),
            ("+a", "aaab", false),
            ("*+x", "foo+x", false),
            ("**", "a*b", true),
            ("**", "ab", false),
            ("*b", "abab", false),
            ("+", "", true),
            ("+", "a", false),
            ("x+", "x", true),
            ("", "", true),
            ("", "a", false),
            ("*a+b", "xxab", true),
            ("+a", "", false),
            ("a?", "a?", true),
        ] {
            let found = matches(pattern.as_bytes(), line.as_bytes());
            assert_eq!(found, expected, "{pattern} on {line}");
        }
    }

    #[test]
    fn the_last_matching_rule_decides() {
        let rule = |verdict, pattern: &str| Rule {
            verdict,
            pattern: pattern.as_bytes().into(),
        };
        let rules = [
            rule(Verdict::Deselected, "*"),
            rule(Verdict::Selected, "keep*"),
            rule(Verdict::Deselected, "keep not"),
        ];
        let verdict = |line: &str| judge(&rules, line.as_bytes(), Verdict::Selected);
        assert_eq!(verdict("keep this"), Verdict::Selected);
        assert_eq!(verdict("keep not"), Verdict::Deselected);
        assert_eq!(verdict("other"), Verdict::Deselected);
        assert_eq!(judge(&[], b"x", Verdict::Selected), Verdict::Selected);
    }
}
