//! Where a command prints, and how: colour, width, JSON.
//!
//! Every command writes to one of these, so that tests read what people would see. Colour is a
//! question asked once; the answer is no unless stdout is a terminal (or CLICOLOR_FORCE says so),
//! and always no with NO_COLOR.

use crate::ipc::control::Service;
use anstyle::{AnsiColor, Style};
use std::fmt;
use std::io::{self, IsTerminal, Write};

pub struct Screen<'a> {
    pub out: &'a mut dyn Write,
    pub err: &'a mut dyn Write,
    pub look: Look,
}

/// How answers are laid out on stdout.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    pub colour: bool,
    /// The terminal's width; none in a pipe, where nothing is ever cut.
    pub columns: Option<usize>,
}

pub const GOOD: Style = AnsiColor::Green.on_default();
pub const CHANGING: Style = AnsiColor::Yellow.on_default();
pub const BAD: Style = AnsiColor::Red.on_default().bold();
pub const QUIET: Style = Style::new().dimmed();
pub const HEADING: Style = Style::new().bold();

impl Look {
    pub fn of_stdout() -> Look {
        let stdout = io::stdout();
        let colour = anstream::AutoStream::choice(&stdout) != anstream::ColorChoice::Never;
        let columns = match stdout.is_terminal() {
            true => terminal_size::terminal_size_of(&stdout).map(|(width, _)| usize::from(width.0)),
            false => None,
        };
        Look { colour, columns }
    }

    pub fn paint<T: fmt::Display>(self, style: Style, text: T) -> Painted<T> {
        Painted {
            style: if self.colour { style } else { Style::new() },
            text,
        }
    }
}

/// A text between its colour's escapes, or plain.
pub struct Painted<T> {
    style: Style,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{:#}", self.style, self.text, self.style)
    }
}

impl Screen<'_> {
    /// A finding of ours on stderr, under our name.
    pub fn complain(&mut self, words: impl fmt::Display) -> io::Result<()> {
        writeln!(self.err, "outlast: {words}")
    }

    /// The supervisor's own objects as one JSON array, an object a line.
    pub fn json(&mut self, services: &[Service]) -> io::Result<()> {
        let mut text = Vec::with_capacity(services.len() * 512);
        text.push(b'[');
        for (place, service) in services.iter().enumerate() {
            text.extend_from_slice(if place == 0 { b"\n" } else { b",\n" });
            serde_json::to_writer(&mut text, service)?;
        }
        text.extend_from_slice(if services.is_empty() {
            b"]\n"
        } else {
            b"\n]\n"
        });
        self.out.write_all(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    #[test]
    fn json_is_one_array_with_an_object_a_line_and_the_promised_fields() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen {
            out: &mut out,
            err: &mut err,
            look: Look::default(),
        };
        screen
            .json(&[fake::service("a"), fake::service("b")])
            .expect("written");
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 4);
        let parsed: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        for field in [
            "name",
            "state",
            "want",
            "pid",
            "since",
            "restarts",
            "last_exit",
        ] {
            assert!(parsed[1].get(field).is_some(), "{field}");
        }
    }

    #[test]
    fn no_services_are_an_empty_array() {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        Screen {
            out: &mut out,
            err: &mut err,
            look: Look::default(),
        }
        .json(&[])
        .expect("written");
        assert_eq!(out, b"[]\n");
    }

    #[test]
    fn colour_is_escapes_around_the_text_or_nothing_at_all() {
        let with = Look {
            colour: true,
            columns: None,
        }
        .paint(GOOD, "up")
        .to_string();
        assert_eq!(with, "\x1b[32mup\x1b[0m");
        assert_eq!(Look::default().paint(GOOD, "up").to_string(), "up");
    }
}
