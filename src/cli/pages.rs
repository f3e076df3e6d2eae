//! `completions` and `man`: made from clap's definitions, or committed under man/ and carried in
//! the binary. The tests keep the committed pages in step with the code.

use super::arguments::command;
use super::exit::Exit;
use super::screen::Screen;
use super::words::count;
use clap_complete::Shell;
use std::fs;
use std::io;
use std::path::Path;

const OUTLAST_1: &str = include_str!("../../man/outlast.1");
const PROTOCOL_7: &str = include_str!("../../man/outlast-protocol.7");
const RUNIT_7: &str = include_str!("../../man/outlast-runit.7");
const INIT_8: &str = include_str!("../../man/outlast-init.8");
const SERVICE_TOML_5: &str = include_str!("../../man/service.toml.5");

pub fn completions(shell: Shell, screen: &mut Screen) -> io::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "outlast", &mut script);
    screen.out.write_all(&script)?;
    Ok(Exit::Success)
}

/// Without a directory outlast(1) goes to stdout, for `outlast man | man -l -`.
pub fn man(directory: Option<&Path>, screen: &mut Screen) -> io::Result<Exit> {
    let Some(directory) = directory else {
        screen.out.write_all(OUTLAST_1.as_bytes())?;
        return Ok(Exit::Success);
    };
    match write_pages(directory) {
        Ok(number) => {
            writeln!(
                screen.out,
                "{} written to {}",
                count(number, "page"),
                directory.display()
            )?;
            Ok(Exit::Success)
        }
        Err(error) => {
            let words = super::client::plain(&error);
            screen.complain(format_args!(
                "cannot write pages to {}: {words}",
                directory.display()
            ))?;
            Ok(Exit::NotReached)
        }
    }
}

fn write_pages(directory: &Path) -> io::Result<usize> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("outlast.1"), OUTLAST_1)?;
    fs::write(directory.join("outlast-protocol.7"), PROTOCOL_7)?;
    fs::write(directory.join("outlast-runit.7"), RUNIT_7)?;
    fs::write(directory.join("outlast-init.8"), INIT_8)?;
    fs::write(directory.join("service.toml.5"), SERVICE_TOML_5)?;
    let mut number = 5;
    let mut whole = command();
    whole.build();
    for sub in whole.get_subcommands() {
        let mut text = Vec::new();
        clap_mangen::Man::new(sub.clone()).render(&mut text)?;
        fs::write(
            directory.join(format!("outlast-{}.1", sub.get_name())),
            text,
        )?;
        number += 1;
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::super::screen::Look;
    use super::*;
    use crate::ipc::control::{
        CONNECTIONS_MAX, Hello, ID_MAX, Leftover, NAMES_MAX, REQUEST_BYTES_MAX, Request, Response,
        Service, State, UNANSWERED_MAX, UNREAD_SECONDS_MAX, Usage, VERSION, Verb, Want, Why,
    };
    use std::collections::BTreeSet;

    fn printed(job: impl FnOnce(&mut Screen) -> io::Result<Exit>) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen {
            out: &mut out,
            err: &mut err,
            look: Look::default(),
        };
        let exit = job(&mut screen).expect("written");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (exit, text(out), text(err))
    }

    /// A roff source as its reader sees the words.
    fn plain(page: &str) -> String {
        page.replace("\\-", "-")
            .replace("\\fB", "")
            .replace("\\fI", "")
            .replace("\\fR", "")
    }

    #[test]
    fn the_page_about_runit_lists_every_difference() {
        const QUIRKS: &str = include_str!("../../tests/compat/QUIRKS.md");
        let quirks = QUIRKS
            .lines()
            .filter(|line| line.starts_with(|first: char| first.is_ascii_digit()))
            .count();
        let (_, differences) = RUNIT_7
            .split_once(".SS What differs, and why")
            .expect("the section");
        let (differences, _) = differences.split_once(".SH ").expect("the next section");
        assert!(quirks >= 10, "{quirks}");
        assert_eq!(differences.matches("\n.IP ").count(), quirks);
    }

    #[test]
    fn every_shell_gets_completions_of_every_command() {
        for shell in [
            Shell::Bash,
            Shell::Elvish,
            Shell::Fish,
            Shell::PowerShell,
            Shell::Zsh,
        ] {
            let (exit, script, _) = printed(|screen| completions(shell, screen));
            assert_eq!(exit, Exit::Success);
            for sub in command().get_subcommands() {
                assert!(
                    script.contains(sub.get_name()),
                    "{shell}: {}",
                    sub.get_name()
                );
            }
        }
    }

    #[test]
    fn man_writes_a_page_for_the_program_the_protocol_and_each_command() {
        let dir = tempfile::tempdir().expect("tempdir");
        let to = dir.path().join("man");
        let (exit, _, err) = printed(|screen| man(Some(&to), screen));
        assert_eq!((exit, err.as_str()), (Exit::Success, ""));
        assert_eq!(
            fs::read_to_string(to.join("outlast.1")).expect("the page"),
            OUTLAST_1
        );
        assert!(to.join("outlast-protocol.7").is_file());
        assert!(to.join("service.toml.5").is_file());
        let restart = fs::read_to_string(to.join("outlast-restart.1")).expect("the page");
        assert!(plain(&restart).contains("--no-wait"), "{restart}");
    }

    #[test]
    fn pages_that_cannot_be_written_are_told() {
        let dir = tempfile::tempdir().expect("tempdir");
        fs::write(dir.path().join("file"), "").expect("write");
        let (exit, _, err) = printed(|screen| man(Some(&dir.path().join("file")), screen));
        assert_eq!(exit, Exit::NotReached);
        assert!(err.contains("cannot write pages to"), "{err}");
    }

    #[test]
    fn outlast_1_names_every_command_and_every_long_option() {
        let page = plain(OUTLAST_1);
        for sub in command().get_subcommands() {
            let heading = format!("\n.B outlast {}", sub.get_name());
            assert!(
                page.contains(&heading),
                "outlast {} has no heading of its own",
                sub.get_name()
            );
            for option in sub
                .get_arguments()
                .filter_map(|argument| argument.get_long())
            {
                assert!(
                    page.contains(&format!("--{option}")),
                    "--{option} is missing"
                );
            }
        }
        for option in command()
            .get_arguments()
            .filter_map(|argument| argument.get_long())
        {
            assert!(
                page.contains(&format!("--{option}")),
                "--{option} is missing"
            );
        }
    }

    #[test]
    fn outlast_1_gives_every_exit_code() {
        let page = plain(OUTLAST_1);
        let codes = page
            .split(".SH EXIT STATUS")
            .nth(1)
            .and_then(|rest| rest.split("\n.SH").next());
        let codes = codes.expect("a section EXIT STATUS");
        for code in [
            Exit::Success,
            Exit::NotReached,
            Exit::Usage,
            Exit::NotUp,
            Exit::NoSuchService,
            Exit::NoSupervisor,
            Exit::NotAllowed,
        ] {
            assert!(
                codes.contains(&format!("\n.B {}\n", code as u8)),
                "{code:?}"
            );
        }
    }

    /// Every key of a JSON value, however deep.
    fn keys(value: &serde_json::Value, found: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(object) => {
                for (key, value) in object {
                    found.insert(key.clone());
                    keys(value, found);
                }
            }
            serde_json::Value::Array(array) => array.iter().for_each(|value| keys(value, found)),
            _ => {}
        }
    }

    /// With everything in it that can be.
    fn full_service() -> Service {
        Service {
            last_exit: Some(fake::last_exit(1)),
            problem: Some(fake::trouble("ended", "")),
            leftovers: vec![Leftover {
                pid: 1,
                name: String::new(),
            }],
            living_on: vec![Leftover {
                pid: 2,
                name: String::new(),
            }],
            outcome: fake::failed("ended", ""),
            why: Some(Why {
                story: Vec::new(),
                advice: None,
                usage: Some(Usage {
                    user_seconds: 0.0,
                    system_seconds: 0.0,
                    peak_kib: 0,
                }),
                log: Vec::new(),
                log_file: None,
                log_unfinished: false,
                directory: String::new(),
            }),
            ..fake::service("a")
        }
    }

    #[test]
    fn the_protocol_page_tells_the_limits() {
        let page = plain(PROTOCOL_7);
        for limit in [
            format!("most {CONNECTIONS_MAX} connections"),
            format!("most {UNANSWERED_MAX} requests"),
            format!("{UNREAD_SECONDS_MAX} seconds"),
            format!("{REQUEST_BYTES_MAX} bytes"),
            format!("{NAMES_MAX} names"),
            format!("1 to 2^{}", ID_MAX.ilog2()),
        ] {
            assert!(page.contains(&limit), "{limit}");
        }
    }

    #[test]
    fn the_protocol_page_describes_every_field() {
        let page = plain(PROTOCOL_7);
        let request = Request {
            timeout_ms: Some(1),
            lines: Some(1),
            ..fake::request(Verb::Why, &["a"])
        };
        let response = Response {
            notice: Some(fake::trouble("no-keeper", "")),
            services: vec![full_service()],
            ..fake::refusal("ended", "")
        };
        let hello = Hello {
            outlast: VERSION,
            version: String::new(),
            pid: 1,
        };
        let mut fields = BTreeSet::new();
        for value in [
            serde_json::to_value(hello),
            serde_json::to_value(request),
            serde_json::to_value(response),
        ] {
            keys(&value.expect("JSON"), &mut fields);
        }
        assert!(fields.contains("peak_kib") && fields.contains("timeout_ms"));
        for field in fields {
            let described = page.contains(&format!("\n.B {field}\n"));
            // These stand within the text of the field that holds them.
            let inner = ["trouble", "user_seconds", "system_seconds", "peak_kib"];
            let named = inner.contains(&field.as_str()) && named_in(&page, &field);
            assert!(described || named, "{field} is not described");
        }
    }

    /// As a word set in bold or italics.
    fn named_in(page: &str, word: &str) -> bool {
        let lines = page.lines().filter(|line| {
            line.starts_with(".B") || line.starts_with(".I") || line.starts_with(".RI")
        });
        lines
            .flat_map(|line| line.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')))
            .any(|found| found == word)
    }

    /// Serde names all values when it meets one that it doesn't know.
    fn values<T: serde::de::DeserializeOwned>() -> Vec<String> {
        let words = match serde_json::from_str::<T>("\"?\"") {
            Err(error) => error.to_string(),
            Ok(_) => String::new(),
        };
        words
            .split('`')
            .skip(3)
            .step_by(2)
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn the_protocol_page_names_every_verb_state_and_want() {
        let page = plain(PROTOCOL_7);
        let all = [values::<Verb>(), values::<State>(), values::<Want>()];
        assert!(all.iter().all(|values| values.len() > 3), "{all:?}");
        for value in all.iter().flatten() {
            assert!(named_in(&page, value), "{value} is not described");
        }
    }

    #[test]
    fn the_protocol_page_names_every_trouble_code_that_the_code_knows() {
        let source = include_str!("../ipc/control.rs");
        let list = source
            .split("For programs:")
            .nth(1)
            .and_then(|rest| rest.split("pub code").next());
        let codes: Vec<_> = list
            .expect("the list")
            .split('`')
            .skip(1)
            .step_by(2)
            .collect();
        assert!(
            codes.contains(&"no-such-service") && codes.len() > 9,
            "{codes:?}"
        );
        let page = plain(PROTOCOL_7);
        let section = page.split(".SH TROUBLE CODES").nth(1).expect("a section");
        for code in codes {
            assert!(
                section.contains(&format!("\n.B {code}\n")),
                "{code} is not described"
            );
        }
    }

    #[test]
    fn the_protocol_page_gives_the_version_and_the_limits_of_the_code() {
        let page = plain(PROTOCOL_7);
        assert!(page.contains(&format!("outlast, version {VERSION}\n")));
        assert!(page.contains(&format!("at most {REQUEST_BYTES_MAX} bytes")));
        assert!(page.contains(&format!("at most {NAMES_MAX} names")));
    }
}
