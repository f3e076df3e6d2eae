//! `status` as a table: services in, text out. Pure.
//!
//! On a terminal the note gives way so that a row stays on its line; in a pipe nothing is cut.

use super::screen::{BAD, CHANGING, GOOD, HEADING, Look, QUIET};
use super::words::{age, cut, exit_short, leftovers, push, safe, span, width, without_subject};
use crate::ipc::control::{Service, State, Want};
use anstyle::Style;

const COLUMNS: usize = 6;
const HEADINGS: [&str; COLUMNS] = ["NAME", "STATE", "SINCE", "PID", "RESTARTS", "LAST EXIT"];
const NOTE: &str = "NOTE";
/// Numbers stand to the right.
const TO_THE_RIGHT: [bool; COLUMNS] = [false, false, true, true, true, false];
/// Between two columns.
const GAP: usize = 2;
/// A note cut to less than this says nothing; the row then runs over.
const NOTE_COLUMNS_MIN: usize = 12;

pub fn render(services: &[Service], look: Look) -> String {
    let rows: Vec<_> = services.iter().map(cells).collect();
    let mut widths = HEADINGS.map(width);
    for row in &rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = width(cell).max(*widest);
        }
    }
    let before_note = widths.iter().map(|wide| wide + GAP).sum::<usize>();
    let note_columns = look
        .columns
        .map(|all| all.saturating_sub(before_note).max(NOTE_COLUMNS_MIN));

    let mut text = String::with_capacity((rows.len() + 1) * (before_note + 24));
    line(
        &mut text,
        &HEADINGS.map(str::to_owned),
        &widths,
        NOTE,
        look,
        |_| HEADING,
    );
    for (service, row) in services.iter().zip(&rows) {
        let note = note(service);
        let note = note_columns.map_or(note.as_str().into(), |columns| cut(&note, columns));
        let state = state_style(service);
        let style = |column| if column == 1 { state } else { Style::new() };
        line(&mut text, row, &widths, &note, look, style);
    }
    text
}

/// One row, without blanks at its end.
fn line(
    text: &mut String,
    cells: &[String; COLUMNS],
    widths: &[usize; COLUMNS],
    note: &str,
    look: Look,
    style: impl Fn(usize) -> Style,
) {
    let mut owed = 0;
    for (column, cell) in cells.iter().enumerate() {
        let fill = widths[column] - width(cell);
        let (before, after) = if TO_THE_RIGHT[column] {
            (fill, 0)
        } else {
            (0, fill)
        };
        // {:1$} pads by characters, not by columns, so blanks are counted here.
        push(text, format_args!("{:1$}", "", owed + before));
        push(text, format_args!("{}", look.paint(style(column), cell)));
        owed = after + GAP;
    }
    if !note.is_empty() {
        push(
            text,
            format_args!("{:1$}{2}", "", owed, look.paint(style(COLUMNS), note)),
        );
    }
    text.push('\n');
}

fn cells(service: &Service) -> [String; COLUMNS] {
    [
        safe(&service.name).into_owned(),
        state_name(service.state).to_owned(),
        age(service.seconds),
        service
            .pid
            .map_or_else(|| "-".into(), |pid| pid.to_string()),
        service.restarts.to_string(),
        service
            .last_exit
            .as_ref()
            .map_or_else(|| "-".into(), exit_short),
    ]
}

/// As the protocol spells it.
pub fn state_name(state: State) -> &'static str {
    match state {
        State::Down => "down",
        State::Starting => "starting",
        State::Up => "up",
        State::Stopping => "stopping",
        State::Clearing => "clearing",
        State::Finish => "finish",
        State::Backoff => "backoff",
        State::Broken => "broken",
    }
}

pub fn state_style(service: &Service) -> Style {
    match service.state {
        State::Up if service.ready && !service.paused => GOOD,
        State::Broken => BAD,
        State::Down => match service.want {
            Want::Up => BAD,
            Want::Once | Want::Down | Want::Exit => QUIET,
        },
        State::Up
        | State::Starting
        | State::Stopping
        | State::Clearing
        | State::Finish
        | State::Backoff => CHANGING,
    }
}

/// What is worth a word: trouble and what comes next, then what is unusual.
pub fn note(service: &Service) -> String {
    let problem = service.problem.as_ref();
    // The problem's words may already end in "trying again in 4 s".
    let told = problem.is_some_and(|problem| problem.message.contains("again in"));
    let next = service.next_start.filter(|_| !told);
    let next = next.map(|seconds| format!("next try in {}", span(seconds)));
    let problem = problem.map(|problem| {
        let message = without_subject(&problem.message, &service.name);
        // The state says that much, and a narrow terminal has no room to say it twice.
        let broken = service.state == State::Broken;
        let message = match message.strip_prefix("cannot start: ") {
            Some(cause) if broken => cause,
            Some(_) | None => message,
        };
        safe(message).into_owned()
    });
    let mut parts: Vec<String> = Vec::new();
    // The end of a note is what a narrow terminal cuts. Who waits has its cause in the column of
    // the last exit as well.
    match service.state {
        State::Backoff => parts.extend(next.into_iter().chain(problem)),
        State::Down
        | State::Starting
        | State::Up
        | State::Stopping
        | State::Clearing
        | State::Finish
        | State::Broken => parts.extend(problem.into_iter().chain(next)),
    }
    if !service.leftovers.is_empty() {
        parts.push(format!("left over: {}", leftovers(&service.leftovers)));
    }
    if service.paused {
        parts.push("paused".into());
    }
    if service.got_term {
        parts.push("told to end".into());
    }
    let said = service.problem.as_ref();
    let said = said.is_some_and(|problem| problem.code == "not-ready");
    if service.state == State::Up && !service.ready && !said {
        parts.push("not ready yet".into());
    }
    parts.extend(want_note(service).map(str::to_owned));
    if service.normally_down {
        parts.push("normally down".into());
    }
    parts.join("; ")
}

/// Only where what is wanted isn't what everybody expects in that state.
fn want_note(service: &Service) -> Option<&'static str> {
    let running = match service.state {
        State::Up | State::Starting => true,
        State::Down
        | State::Stopping
        | State::Clearing
        | State::Finish
        | State::Backoff
        | State::Broken => false,
    };
    match service.want {
        Want::Up if service.state == State::Down => Some("wanted up"),
        Want::Up => None,
        Want::Once if running => Some("runs once"),
        Want::Once => None,
        Want::Down if running => Some("wanted down"),
        Want::Down => None,
        Want::Exit => Some("leaving"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{self, down, last_exit, service, trouble};
    use super::*;
    use crate::ipc::control::{LastExit, Leftover};

    fn fleet() -> Vec<Service> {
        vec![
            Service {
                seconds: 86_400.0 * 4.0,
                pid: Some(1_234_567),
                ..service("web")
            },
            Service {
                seconds: 20.0,
                ..service("web/log")
            },
            Service {
                state: State::Backoff,
                pid: None,
                ready: false,
                seconds: 1.0,
                restarts: 12,
                last_exit: Some(last_exit(3)),
                next_start: Some(4.0),
                ..service("crasher")
            },
            Service {
                state: State::Broken,
                pid: None,
                ready: false,
                problem: Some(trouble(
                    "cannot-start",
                    "cannot start: ./run is not executable; run: chmod +x bad/run",
                )),
                ..service("bad")
            },
            Service {
                normally_down: true,
                ..down("spare")
            },
        ]
    }

    #[test]
    fn columns_stand_under_their_headings() {
        let text = render(&fleet(), Look::default());
        let wanted = "\
NAME     STATE    SINCE      PID  RESTARTS  LAST EXIT  NOTE
web      up          4d  1234567         0  -
web/log  up         20s      123         0  -
crasher  backoff     1s        -        12  code 3     next try in 4.0 s
bad      broken      0s        -         0  -          ./run is not executable; run: chmod +x bad/run
spare    down        0s        -         0  -          normally down
";
        assert_eq!(text, wanted);
    }

    #[test]
    fn a_terminal_cuts_the_note_and_a_pipe_nothing() {
        let narrow = render(
            &fleet(),
            Look {
                colour: false,
                columns: Some(80),
            },
        );
        assert!(narrow.lines().all(|line| width(line) <= 80), "{narrow}");
        assert!(narrow.contains("./run is not executab"), "{narrow}");
        assert!(narrow.contains('…'));
        assert!(render(&fleet(), Look::default()).contains("chmod +x bad/run"));
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let plain = render(&fleet(), Look::default());
        let coloured = render(
            &fleet(),
            Look {
                colour: true,
                columns: None,
            },
        );
        assert!(coloured.contains("\x1b[32mup\x1b[0m"), "{coloured:?}");
        let stripped = anstream::adapter::strip_str(&coloured).to_string();
        assert_eq!(stripped, plain);
    }

    #[test]
    fn wide_letters_keep_the_columns_straight() {
        let text = render(&[service("漢字"), service("abcd")], Look::default());
        let lines: Vec<_> = text.lines().collect();
        assert!(lines[1].starts_with("漢字  up"), "{text}");
        assert!(lines[2].starts_with("abcd  up"), "{text}");
    }

    #[test]
    fn a_name_cannot_write_to_the_terminal() {
        let evil = Service {
            problem: Some(trouble("ended", "x\x1b]0;title\x07\nweb  up")),
            ..service("a\x1b[2J\r\nb")
        };
        let text = render(&[evil], Look::default());
        assert_eq!(text.lines().count(), 2, "{text:?}");
        assert!(!text.contains(['\x1b', '\r', '\x07']), "{text:?}");
    }

    #[test]
    fn the_note_tells_what_is_unusual() {
        let note_of = |change: fn(&mut Service)| {
            let mut one = service("web");
            change(&mut one);
            note(&one)
        };
        assert_eq!(note_of(|_| ()), "");
        assert_eq!(note_of(|s| s.paused = true), "paused");
        assert_eq!(note_of(|s| s.ready = false), "not ready yet");
        assert_eq!(note_of(|s| s.got_term = true), "told to end");
        assert_eq!(note_of(|s| s.want = Want::Once), "runs once");
        assert_eq!(note_of(|s| s.state = State::Down), "wanted up");
        assert_eq!(
            note_of(|s| s.leftovers = vec![Leftover {
                pid: 7,
                name: "nginx".into()
            }]),
            "left over: nginx (pid 7)"
        );
        let told = note_of(|s| {
            s.ready = false;
            s.problem = Some(trouble("not-ready", "./check has not passed yet"));
        });
        assert_eq!(told, "./check has not passed yet");
        let told = note_of(|s| {
            s.next_start = Some(4.0);
            s.problem = Some(fake::trouble(
                "cannot-start",
                "web: no user; trying again in 4 s",
            ));
        });
        assert_eq!(told, "no user; trying again in 4 s");
    }

    #[test]
    fn exits_are_short_and_exact() {
        let killed = |core, oom| LastExit {
            code: None,
            signal: Some("SIGSEGV".into()),
            core,
            oom,
            ..last_exit(0)
        };
        assert_eq!(exit_short(&last_exit(0)), "code 0");
        assert_eq!(exit_short(&killed(false, None)), "SIGSEGV");
        assert_eq!(exit_short(&killed(true, Some(false))), "SIGSEGV (core)");
        assert_eq!(exit_short(&killed(false, Some(true))), "SIGSEGV (oom)");
    }
}
