//! `why`: what happened to a service, in one screen. Pure.
//!
//! The state in words, the supervisor's story, the bare facts of the last run, its last lines, and
//! what to do. Nothing is invented here: a part that the supervisor doesn't know isn't printed.

use super::screen::{HEADING, Look, QUIET};
use super::table::state_style;
use super::words::{exit_long, leftovers, push, safe, safe_line, span};
use super::zone;
use crate::ipc::control::{LastExit, Service, State, Usage, Want, Why};

const KIB_IN_MIB: u64 = 1024;

pub fn render(service: &Service, look: Look) -> String {
    let mut text = String::new();
    let name = safe(&service.name);
    let headline = format!("{name} {}", headline(service));
    push(
        &mut text,
        format_args!("{}\n", look.paint(state_style(service).bold(), headline)),
    );
    if let Some(description) = &service.description {
        push(
            &mut text,
            format_args!("{}\n", look.paint(QUIET, safe(description))),
        );
    }
    let Some(why) = &service.why else { return text };
    if !why.story.is_empty() {
        text.push('\n');
    }
    // A mistake in service.toml is shown with the line it stands in, on lines of its own.
    for line in why.story.iter().flat_map(|step| step.lines()) {
        push(&mut text, format_args!("  {}\n", safe(line)));
    }
    let facts = facts(service, why);
    if !facts.is_empty() {
        text.push('\n');
    }
    for (label, fact) in facts {
        push(
            &mut text,
            format_args!(
                "  {} {fact}\n",
                look.paint(QUIET, format_args!("{label:<10}"))
            ),
        );
    }
    last_lines(&mut text, service, why, look);
    if let Some(advice) = &why.advice {
        push(
            &mut text,
            format_args!(
                "\n{} {}\n",
                look.paint(HEADING, "What to do:"),
                safe(advice)
            ),
        );
    }
    text
}

/// The state as a sentence without its subject.
fn headline(service: &Service) -> String {
    let since = span(service.seconds);
    let pid = service
        .pid
        .map(|pid| format!(" (pid {pid})"))
        .unwrap_or_default();
    match service.state {
        State::Up if service.paused => format!("is paused{pid}; it was started {since} ago"),
        State::Up if service.ready => format!("is up{pid}, for {since} now"),
        State::Up => format!("is up{pid}, for {since} now, but not ready: ./check has not passed"),
        State::Starting => format!("is being started, for {since} now"),
        State::Stopping => format!("is being stopped{pid}, for {since} now"),
        State::Clearing => {
            format!("has ended; what it left behind is being ended, for {since} now")
        }
        State::Finish => format!("has ended; its finish script runs{pid}, for {since} now"),
        State::Backoff => match service.next_start {
            Some(seconds) => format!(
                "is not running; the next start is tried in {}",
                span(seconds)
            ),
            None => "is not running; the next start is due".into(),
        },
        State::Broken => match service.next_start {
            Some(seconds) => format!("cannot be started; tried again in {}", span(seconds)),
            None if is_quarantined(service) => {
                "is not started before its definition has been read".into()
            }
            None => "cannot be started until something is mended".into(),
        },
        State::Down => down_headline(service, &since),
    }
}

fn is_quarantined(service: &Service) -> bool {
    has_problem(service, "quarantined")
}

fn has_problem(service: &Service, code: &str) -> bool {
    let problem = service.problem.as_ref();
    problem.is_some_and(|problem| problem.code == code)
}

fn down_headline(service: &Service, since: &str) -> String {
    let normally = if service.normally_down {
        "; it is normally down"
    } else {
        ""
    };
    match service.want {
        // By itself, after which its policy leaves it down: nobody has asked for that.
        Want::Down | Want::Once if has_problem(service, "failed") => {
            format!("has failed and stays down, for {since} now{normally}")
        }
        Want::Up => format!("has been down for {since}, although it is wanted up{normally}"),
        Want::Once => format!("has been down for {since}; it was to run once{normally}"),
        Want::Down => format!("has been down for {since}, as wanted{normally}"),
        Want::Exit => format!("has been down for {since} and is leaving"),
    }
}

/// Label and value, only of what is known. What the story tells is not told again.
fn facts(service: &Service, why: &Why) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(exit) = &service.last_exit {
        facts.extend(local_time(exit.at).map(|at| ("ended at", at)));
        if why.story.is_empty() {
            facts.push(("last run", last_run(exit)));
        }
    }
    if let Some(usage) = &why.usage {
        facts.push(("it used", used(usage)));
    }
    if !service.leftovers.is_empty() {
        facts.push(("left over", leftovers(&service.leftovers)));
    }
    facts.push(("directory", safe(&why.directory).into_owned()));
    facts
}

fn last_run(exit: &LastExit) -> String {
    let asked = if exit.asked {
        ", as it was told to"
    } else {
        ""
    };
    format!(
        "pid {} {} after {}{asked}",
        exit.pid,
        exit_long(exit),
        span(exit.ran)
    )
}

fn used(usage: &Usage) -> String {
    let cpu = span(usage.user_seconds + usage.system_seconds);
    let peak = match usage.peak_kib {
        0..KIB_IN_MIB => format!("{} KiB", usage.peak_kib),
        _ => format!("{:.1} MiB", usage.peak_kib as f64 / KIB_IN_MIB as f64),
    };
    format!("{cpu} of CPU, {peak} of memory at most")
}

/// None when the number is no time that a calendar has.
fn local_time(unix_seconds: f64) -> Option<String> {
    let stamp = jiff::Timestamp::from_second(unix_seconds as i64).ok()?;
    let zoned = stamp.to_zoned(zone::local());
    Some(zoned.strftime("%Y-%m-%d %H:%M:%S %:z").to_string())
}

fn last_lines(text: &mut String, service: &Service, why: &Why, look: Look) {
    let file = why.log_file.as_deref().map(safe);
    let has_run = service.pid.is_some() || service.last_exit.is_some();
    match (why.log.is_empty(), file) {
        (true, None) => {}
        (true, Some(_)) if !has_run => {}
        (true, Some(file)) => {
            push(text, format_args!("\nThat run wrote nothing to {file}\n"));
        }
        (false, file) => {
            let heading = look.paint(HEADING, "Its last lines");
            let file = file
                .map(|file| format!(", from {file}"))
                .unwrap_or_default();
            push(text, format_args!("\n{heading}{file}:\n"));
            for line in &why.log {
                push(
                    text,
                    format_args!("{} {}\n", look.paint(QUIET, "  |"), safe_line(line)),
                );
            }
            if why.log_unfinished {
                let note = look.paint(QUIET, "  the last of them has no newline yet");
                push(text, format_args!("{note}\n"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{down, last_exit, service};
    use super::*;

    fn crasher() -> Service {
        Service {
            state: State::Backoff,
            pid: None,
            ready: false,
            restarts: 4,
            next_start: Some(7.9),
            description: Some("falls over, for show".into()),
            last_exit: Some(LastExit {
                at: f64::NAN,
                ..last_exit(3)
            }),
            why: Some(Why {
                story: vec![
                    "Started as pid 41.".into(),
                    "It ended after 0.2 s with exit code 3.".into(),
                ],
                advice: Some("something else holds the port; see: ss -ltnp".into()),
                usage: Some(Usage {
                    user_seconds: 0.01,
                    system_seconds: 0.02,
                    peak_kib: 3174,
                }),
                log: vec!["bind:\tAddress already in use\x1b[0m".into()],
                log_file: Some("/var/log/outlast/crasher/current".into()),
                log_unfinished: false,
                directory: "/etc/service/crasher".into(),
            }),
            ..service("crasher")
        }
    }

    #[test]
    fn the_screen_goes_from_the_state_to_what_to_do() {
        let wanted = "\
crasher is not running; the next start is tried in 7.9 s
falls over, for show

  Started as pid 41.
  It ended after 0.2 s with exit code 3.

  ended at   1970-01-01
  it used    0.030 s of CPU, 3.1 MiB of memory at most
  directory  /etc/service/crasher

Its last lines, from /var/log/outlast/crasher/current:
  | bind:\tAddress already in use\\x1b[0m

What to do: something else holds the port; see: ss -ltnp
";
        let text = render(&crasher(), Look::default());
        let (wanted, rest) = wanted.split_once("1970-01-01").unwrap_or_default();
        assert!(text.starts_with(wanted), "{text}");
        assert!(text.ends_with(rest), "{text}");
    }

    #[test]
    fn a_mistake_keeps_its_lines() {
        let mut one = crasher();
        if let Some(why) = &mut one.why {
            why.story = vec!["unknown key\n |\n6 | umsk = 1".into()];
        }
        let text = render(&one, Look::default());
        assert!(
            text.contains("\n  unknown key\n   |\n  6 | umsk = 1\n"),
            "{text}"
        );
    }

    #[test]
    fn what_never_ran_is_not_said_to_have_written_nothing() {
        let mut one = crasher();
        if let Some(why) = &mut one.why {
            why.log.clear();
        }
        assert!(render(&one, Look::default()).contains("That run wrote nothing"));
        one.last_exit = None;
        assert!(!render(&one, Look::default()).contains("That run"));
    }

    #[test]
    fn parts_that_nobody_knows_are_left_out() {
        let why = Why {
            story: Vec::new(),
            advice: None,
            usage: None,
            log: Vec::new(),
            log_file: None,
            log_unfinished: false,
            directory: "/s/web".into(),
        };
        let text = render(
            &Service {
                why: Some(why),
                ..service("web")
            },
            Look::default(),
        );
        assert_eq!(
            text,
            "web is up (pid 123), for 0.004 s now\n\n  directory  /s/web\n"
        );
    }

    #[test]
    fn what_failed_and_stays_down_is_not_said_to_be_as_wanted() {
        let mut one = Service {
            state: State::Down,
            want: Want::Down,
            pid: None,
            seconds: 90.0,
            last_exit: Some(last_exit(5)),
            ..service("web")
        };
        let headline = |one: &Service| render(one, Look::default());
        assert_eq!(headline(&one), "web has been down for 90 s, as wanted\n");
        one.problem = Some(crate::ipc::control::Trouble {
            code: "failed".into(),
            message: "exit code 5; stays down".into(),
        });
        assert_eq!(
            headline(&one),
            "web has failed and stays down, for 90 s now\n"
        );
    }

    #[test]
    fn each_state_has_a_sentence() {
        let say = |state, change: fn(&mut Service)| {
            let mut one = Service {
                state,
                pid: None,
                ..service("w")
            };
            change(&mut one);
            headline(&one)
        };
        assert_eq!(
            say(State::Broken, |_| ()),
            "cannot be started until something is mended"
        );
        assert!(say(State::Up, |s| s.ready = false).contains("./check has not passed"));
        assert!(say(State::Up, |s| s.paused = true).starts_with("is paused"));
        assert!(
            headline(&Service {
                normally_down: true,
                ..down("w")
            })
            .ends_with("it is normally down")
        );
        assert!(say(State::Down, |_| ()).contains("although it is wanted up"));
    }

    #[test]
    fn nothing_in_it_reaches_the_terminal_as_a_command() {
        let mut evil = crasher();
        evil.name = "a\x1b[31m".into();
        if let Some(why) = &mut evil.why {
            why.story = vec!["\x1b]52;c;x\x07".into()];
            why.advice = Some("rm\r\n\x1b[A".into());
        }
        assert!(!render(&evil, Look::default()).contains(['\x1b', '\x07', '\r']));
    }
}
