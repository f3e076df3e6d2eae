//! What is wrong with a service.toml, shown under the line that it is about.

use annotate_snippets::{AnnotationKind, Level, Renderer, Snippet, normalize_untrusted_str};
use std::fmt::Write;
use std::ops::Range;

/// Most findings shown of one file; the rest is counted.
const SHOWN_MAX: usize = 20;
/// Most bytes of a name or value that are repeated in a message; all of it is in the source line.
const QUOTED_CHARS_MAX: usize = 60;

/// Why a service directory can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// The first finding in one line, for tables and logs.
    pub headline: String,
    /// All of them, ready to be printed, without colour.
    pub text: String,
}

impl Findings {
    /// About a file or directory as a whole.
    pub(super) fn plain(text: impl Into<String>) -> Findings {
        let headline = text.into();
        let text = format!("error: {headline}\n");
        Findings { headline, text }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub(super) struct Finding {
    /// Bytes of the source.
    pub(super) span: Range<usize>,
    pub(super) title: String,
    /// Beside the marker; may be empty.
    pub(super) label: String,
    pub(super) help: Option<String>,
}

/// `name` is the service's, `source` the text of its service.toml. None when nothing is wrong.
pub(super) fn show(name: &str, source: &str, mut findings: Vec<Finding>) -> Option<Findings> {
    findings.sort_by_key(|finding| finding.span.start);
    let first = findings.first()?;
    let (line, column) = position(source, first.span.start);
    let mut headline = format!("service.toml:{line}:{column}: {}", clean(&first.title));
    if let Some(help) = &first.help {
        let _ = write!(headline, "; {}", clean(help));
    }
    if findings.len() > 1 {
        let _ = write!(headline, " (and {} more)", findings.len() - 1);
    }
    let path = format!("{}/service.toml", clean(name));
    let mut text = String::new();
    for (number, finding) in findings.iter().take(SHOWN_MAX).enumerate() {
        if number > 0 {
            text.push('\n');
        }
        text.push_str(&render(&path, source, finding));
        text.push('\n');
    }
    if findings.len() > SHOWN_MAX {
        let _ = writeln!(text, "... and {} more", findings.len() - SHOWN_MAX);
    }
    Some(Findings { headline, text })
}

fn render(path: &str, source: &str, finding: &Finding) -> String {
    let start = floor(source, finding.span.start);
    let end = floor(source, finding.span.end.max(start));
    let mut annotation = AnnotationKind::Primary.span(start..end);
    if !finding.label.is_empty() {
        annotation = annotation.label(clean(&finding.label));
    }
    let snippet = Snippet::source(source).path(path).annotation(annotation);
    let mut group = Level::ERROR
        .primary_title(clean(&finding.title))
        .element(snippet);
    if let Some(help) = &finding.help {
        group = group.element(Level::HELP.message(clean(help)));
    }
    // The renderer shows the lower control characters as pictures; U+0080 to U+009F, among them
    // another way to write ESC [, are left to us.
    let steers = |c: char| c.is_control() && c != '\n';
    Renderer::plain()
        .render(&[group])
        .replace(steers, "\u{fffd}")
}

/// Line and column, both from 1, the column in characters.
pub(super) fn position(source: &str, at: usize) -> (usize, usize) {
    let before = source.get(..floor(source, at)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// The nearest character border at or before `at`.
fn floor(source: &str, at: usize) -> usize {
    let mut at = at.min(source.len());
    while !source.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Words out of the file must not steer a terminal.
fn clean(text: &str) -> String {
    normalize_untrusted_str(text).replace(char::is_control, " ")
}

/// A name or value as it is repeated in a message.
pub(super) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(QUOTED_CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("`{}`", short.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(span: Range<usize>) -> Finding {
        Finding {
            span,
            title: "bad \x1b[31m word".into(),
            label: "here".into(),
            help: Some("write it right".into()),
        }
    }

    #[test]
    fn a_finding_shows_its_line_with_a_marker_and_the_help() {
        let source = "a = 1\nbä = 2\n";
        let shown = show("web", source, vec![finding(12..13)]).expect("one");
        assert!(
            shown.headline.starts_with("service.toml:2:6: bad "),
            "{}",
            shown.headline
        );
        assert!(shown.headline.ends_with("; write it right"));
        assert!(
            shown.text.contains("web/service.toml:2:6"),
            "{}",
            shown.text
        );
        assert!(shown.text.contains("2 | bä = 2"), "{}", shown.text);
        assert!(shown.text.contains("     ^ here"), "{}", shown.text);
        assert!(!shown.text.contains('\x1b') && !shown.headline.contains('\x1b'));
    }

    #[test]
    fn spans_that_lie_outside_or_inside_a_character_are_brought_in() {
        let source = "ä";
        for span in [0..1, 1..1, 1..2, 2..2, 5..9] {
            show("web", source, vec![finding(span)]).expect("one");
        }
        show("web", "", vec![finding(0..0)]).expect("one");
    }

    #[test]
    fn many_findings_are_counted_and_not_all_shown() {
        let findings = (0..50).map(|_| finding(0..1)).collect();
        let shown = show("web", "a = 1", findings).expect("many");
        assert!(
            shown.headline.ends_with("(and 49 more)"),
            "{}",
            shown.headline
        );
        assert!(shown.text.ends_with("... and 30 more\n"));
    }

    #[test]
    fn nothing_wrong_is_no_findings() {
        assert!(show("web", "", Vec::new()).is_none());
    }
}
