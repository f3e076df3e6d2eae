//! What a command has to say about each service once it is answered: one line. Pure.
//!
//! Success goes to stdout, failure to stderr with the supervisor's own words and the way out.

use super::verbs::Row;
use super::words::{exit_long, leftovers, push, safe, span, without_subject};
use crate::ipc::control::{Outcome, Service, State, Trouble, Verb};

/// `web: up (pid 123, 0.004 s)`; `waited` is false when nobody waited for the state.
pub fn success(row: &Row, waited: bool, service: &Service) -> String {
    let name = safe(&service.name);
    let now = state_words(service);
    let mut text = match row.sends {
        Some(signal) => format!("{name}: {signal} sent; now {now}"),
        None if row.waits && !waited => format!("{name}: {} asked for; now {now}", row.name),
        None if row.verb == Verb::Once => format!("{name}: {}", once_words(service)),
        None => format!("{name}: {now}"),
    };
    if !service.leftovers.is_empty() {
        let fate = if waited && ends_leftovers(row.verb) {
            "ended leftovers"
        } else {
            "left over"
        };
        push(
            &mut text,
            format_args!("; {fate}: {}", leftovers(&service.leftovers)),
        );
    }
    if !service.living_on.is_empty() {
        push(
            &mut text,
            format_args!(
                "; still alive outside its scope, started while it ran: {} (scope = \"tree\" takes \
                 such along from the next start on; see: outlast why {name})",
                leftovers(&service.living_on)
            ),
        );
    }
    text
}

/// A stop and each start end them, so those that an answer names are gone.
fn ends_leftovers(verb: Verb) -> bool {
    matches!(
        verb,
        Verb::Start | Verb::Stop | Verb::Restart | Verb::Once | Verb::Shutdown
    )
}

/// Why it was not reached, and where to look.
pub fn failure(row: &Row, service: &Service) -> String {
    let name = safe(&service.name);
    let Some(trouble) = trouble_of(service) else {
        return format!(
            "{name}: {} failed; now {}; see: outlast why {name}",
            row.name,
            state_words(service)
        );
    };
    let mut text = format!(
        "{name}: {}",
        safe(without_subject(&trouble.message, &service.name))
    );
    let story_helps = match trouble.code.as_str() {
        "timed-out" | "cannot-start" | "ended" | "not-ready" => true,
        "no-such-service" | "not-allowed" | "not-running" | "overruled" | "leaving" => false,
        _ => true,
    };
    if !service.leftovers.is_empty() {
        push(
            &mut text,
            format_args!("; left over: {}", leftovers(&service.leftovers)),
        );
    }
    if story_helps && !trouble.message.contains("outlast why") {
        push(&mut text, format_args!("; see: outlast why {name}"));
    }
    text
}

fn trouble_of(service: &Service) -> Option<&Trouble> {
    let outcome = service
        .outcome
        .as_ref()
        .and_then(|outcome: &Outcome| outcome.trouble.as_ref());
    outcome.or(service.problem.as_ref())
}

/// The state as a person would say it, with its pid and age.
pub fn state_words(service: &Service) -> String {
    let word = match service.state {
        State::Down => "stopped",
        State::Starting => "starting",
        State::Up => "up",
        State::Stopping => "stopping",
        State::Clearing => "ending what the last run left behind",
        State::Finish => "running its finish script",
        State::Backoff => "waiting for its next start",
        State::Broken => "broken",
    };
    let mut text = match (service.state, service.paused) {
        (State::Up, true) => "paused".to_owned(),
        (State::Up, false) if !service.ready => "up, not ready yet".to_owned(),
        _ => word.to_owned(),
    };
    if let Some(seconds) = service.next_start {
        push(&mut text, format_args!(" in {}", span(seconds)));
    }
    if let Some(pid) = service.pid {
        push(
            &mut text,
            format_args!(" (pid {pid}, {})", span(service.seconds)),
        );
    }
    text
}

/// A service that runs once may have ended before the answer.
fn once_words(service: &Service) -> String {
    match (&service.last_exit, service.state) {
        (Some(exit), State::Down) => {
            format!("ran once and {} after {}", exit_long(exit), span(exit.ran))
        }
        _ => format!("{}, once", state_words(service)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{down, failed, last_exit, reached, service};
    use super::*;
    use crate::ipc::control::Leftover;

    fn row(name: &str) -> &'static Row {
        super::super::verbs::named(name).expect("a command")
    }

    #[test]
    fn each_command_says_what_it_reached() {
        assert_eq!(
            success(row("start"), true, &service("web")),
            "web: up (pid 123, 0.004 s)"
        );
        assert_eq!(
            success(row("restart"), false, &service("web")),
            "web: restart asked for; now up (pid 123, 0.004 s)"
        );
        assert_eq!(
            success(row("hup"), true, &service("web")),
            "web: SIGHUP sent; now up (pid 123, 0.004 s)"
        );
        let paused = Service {
            paused: true,
            ..service("web")
        };
        assert_eq!(
            success(row("pause"), true, &paused),
            "web: paused (pid 123, 0.004 s)"
        );
        let ran = Service {
            last_exit: Some(last_exit(0)),
            ..down("job")
        };
        assert_eq!(
            success(row("once"), true, &ran),
            "job: ran once and ended with exit code 0 after 0.200 s"
        );
        assert_eq!(
            success(row("once"), true, &service("job")),
            "job: up (pid 123, 0.004 s), once"
        );
    }

    #[test]
    fn a_stop_names_the_leftovers_that_it_ended() {
        let leftovers = vec![
            Leftover {
                pid: 41,
                name: "nginx".into(),
            },
            Leftover {
                pid: 42,
                name: "ngi\x1bnx".into(),
            },
        ];
        let stopped = Service {
            leftovers,
            outcome: reached(),
            ..down("web")
        };
        assert_eq!(
            success(row("stop"), true, &stopped),
            "web: stopped; ended leftovers: nginx (pid 41), ngi\\x1bnx (pid 42)"
        );
        assert!(success(row("stop"), false, &stopped).contains("; left over: nginx"));
        assert!(success(row("pause"), true, &stopped).contains("; left over: nginx"));
    }

    #[test]
    fn a_stop_does_not_claim_that_what_lives_on_is_stopped() {
        let stopped = Service {
            living_on: vec![Leftover {
                pid: 41,
                name: "ngi\x1bnx".into(),
            }],
            outcome: reached(),
            ..down("web")
        };
        assert_eq!(
            success(row("stop"), true, &stopped),
            "web: stopped; still alive outside its scope, started while it ran: ngi\\x1bnx (pid 41) \
             (scope = \"tree\" takes such along from the next start on; see: outlast why web)"
        );
    }

    #[test]
    fn a_failure_speaks_the_supervisors_words_and_points_to_why() {
        let broken = Service {
            outcome: failed("cannot-start", "web: ./run is missing; make one"),
            ..down("web")
        };
        assert_eq!(
            failure(row("start"), &broken),
            "web: ./run is missing; make one; see: outlast why web"
        );
        let unknown = Service {
            outcome: failed("no-such-service", "wbe: no such service"),
            ..down("wbe")
        };
        assert_eq!(failure(row("start"), &unknown), "wbe: no such service");
        let pointed = Service {
            outcome: failed("ended", "web: ended; see outlast why web"),
            ..down("web")
        };
        assert_eq!(
            failure(row("start"), &pointed),
            "web: ended; see outlast why web"
        );
    }

    #[test]
    fn a_failure_without_words_still_says_what_is_now() {
        let text = failure(row("stop"), &service("web"));
        assert_eq!(
            text,
            "web: stop failed; now up (pid 123, 0.004 s); see: outlast why web"
        );
    }
}
