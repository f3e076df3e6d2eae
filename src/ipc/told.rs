//! A line as one JSON object, for whoever collects standard output and standard error.
//!
//! The scribe tells services' lines so, the supervisor its own, and `supervise` its greeting; the
//! keys are documented in outlast(1).

use serde::Serialize;

#[derive(Serialize)]
pub struct Told<'a> {
    /// RFC 3339, UTC.
    pub time: &'a str,
    /// `outlast` for what is about none.
    pub service: &'a str,
    pub stream: Stream,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<&'a str>,
    /// What is not UTF-8 is replaced.
    pub text: &'a str,
    /// It was longer than the limit; this is its head.
    #[serde(skip_serializing_if = "is_false")]
    pub cut: bool,
}

#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    /// What a service has written, to standard output or standard error: both are one pipe.
    Output,
    /// What is said about it.
    Supervisor,
}

fn is_false(cut: &bool) -> bool {
    !*cut
}

impl Told<'_> {
    /// One line, its newline included.
    pub fn line(&self) -> String {
        // Strings only: it can't fail.
        let mut line = serde_json::to_string(self).unwrap_or_default();
        line.push('\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_text_holds_it_is_one_line() {
        let told = Told {
            time: "2026-11-20T10:00:00.00000Z",
            service: "web",
            stream: Stream::Output,
            level: None,
            text: "a\nb \"c\" \u{1b}[2J",
            cut: true,
        };
        let line = told.line();
        assert_eq!(line.matches('\n').count(), 1);
        assert_eq!(
            line,
            r#"{"time":"2026-11-20T10:00:00.00000Z","service":"web","stream":"output","text":"a\nb \"c\" \u001b[2J","cut":true}"#
                .to_owned()
                + "\n"
        );
    }
}
