//! The commands that are one request to the supervisor, as data: one row each.
//!
//! clap's definitions and the way around clap are both made from this table, so that they can't
//! know different commands.

use self::Names::{Optional, Required};
use crate::ipc::control::Verb;

pub struct Row {
    pub verb: Verb,
    pub name: &'static str,
    pub names: Names,
    pub about: &'static str,
    /// Hidden: what people who know `sv` type.
    pub aliases: &'static [&'static str],
    /// It asks for something that takes time to reach: `--wait` and `--no-wait` make sense.
    pub waits: bool,
    /// The signal that is all it is about.
    pub sends: Option<&'static str>,
}

/// How many services a command is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Names {
    /// None means all, or the supervisor itself.
    Optional,
    Required,
    None,
}

/// In the order in which `outlast --help` shows them.
#[rustfmt::skip]
pub const ROWS: &[Row] = &[
    row(Verb::Status, "status", Optional, "Show the state of services (of all without a name)"),
    row(Verb::List, "list", Optional, "Print the names of services, one a line").alias(&["ls"]),
    row(Verb::Why, "why", Required, "Tell what happened to a service, and what to do"),
    row(Verb::Check, "check", Optional, "Tell whether services are up and ready (without a name, all that should be)").waits(),
    row(Verb::Start, "start", Required, "Start services and keep them up").alias(&["up"]).waits(),
    row(Verb::Stop, "stop", Required, "Stop services and what they left behind").alias(&["down"]).waits(),
    row(Verb::Restart, "restart", Required, "Stop services if they run, then start them").waits(),
    row(Verb::Once, "once", Required, "Start services, but not again when they end").waits(),
    row(Verb::Pause, "pause", Required, "Send SIGSTOP").waits(),
    row(Verb::Cont, "cont", Required, "Send SIGCONT").alias(&["continue"]).waits(),
    row(Verb::Hup, "hup", Required, "Send SIGHUP").sends("SIGHUP"),
    row(Verb::Alarm, "alarm", Required, "Send SIGALRM").alias(&["alrm"]).sends("SIGALRM"),
    row(Verb::Interrupt, "interrupt", Required, "Send SIGINT").alias(&["int"]).sends("SIGINT"),
    row(Verb::Quit, "quit", Required, "Send SIGQUIT").sends("SIGQUIT"),
    row(Verb::Usr1, "usr1", Required, "Send SIGUSR1").alias(&["1"]).sends("SIGUSR1"),
    row(Verb::Usr2, "usr2", Required, "Send SIGUSR2").alias(&["2"]).sends("SIGUSR2"),
    row(Verb::Term, "term", Required, "Send the stop signal; a service that is wanted up starts again").sends("the stop signal"),
    row(Verb::Kill, "kill", Required, "Send SIGKILL; a service that is wanted up starts again").sends("SIGKILL"),
    row(Verb::Reload, "reload", Optional, "Read service directories and the logs' config again now; with names, send SIGHUP").sends("SIGHUP"),
    row(Verb::Shutdown, "shutdown", Names::None, "Stop all services in order and end the supervisor").waits(),
];

const fn row(verb: Verb, name: &'static str, names: Names, about: &'static str) -> Row {
    Row {
        verb,
        name,
        names,
        about,
        aliases: &[],
        waits: false,
        sends: None,
    }
}

impl Row {
    const fn alias(self, aliases: &'static [&'static str]) -> Row {
        Row { aliases, ..self }
    }

    const fn waits(self) -> Row {
        Row {
            waits: true,
            ..self
        }
    }

    /// A control script may stand in for the signal, and that takes time.
    const fn sends(self, signal: &'static str) -> Row {
        Row {
            sends: Some(signal),
            waits: true,
            ..self
        }
    }
}

/// By name or alias.
pub fn named(name: &str) -> Option<&'static Row> {
    ROWS.iter()
        .find(|row| row.name == name || row.aliases.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Serde names all of them when it meets one that it doesn't know.
    fn all_verbs() -> Vec<String> {
        let words = serde_json::from_str::<Verb>("\"?\"")
            .expect_err("no verb")
            .to_string();
        words
            .split('`')
            .skip(3)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn every_verb_of_the_protocol_is_a_command_of_the_same_name() {
        let verbs = all_verbs();
        // The one is two requests, the other a part of `supervise`.
        let others = [Verb::Upgrade, Verb::StepDown];
        let others = others.map(|verb| serde_json::to_value(verb).expect("a string"));
        assert_eq!(verbs.len(), ROWS.len() + others.len());
        let single = |verb: &String| others.iter().all(|other| other != verb.as_str());
        for verb in verbs.into_iter().filter(single) {
            let row = named(&verb).unwrap_or_else(|| panic!("{verb} is no command"));
            assert_eq!(
                serde_json::to_value(row.verb).expect("a string"),
                verb.as_str()
            );
            assert_eq!(row.name, verb);
        }
    }

    #[test]
    fn no_two_commands_share_a_name_or_alias() {
        let all: Vec<_> = ROWS
            .iter()
            .flat_map(|row| row.aliases.iter().chain([&row.name]))
            .collect();
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }
}
