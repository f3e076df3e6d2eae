//! The command line for people, as clap sees it: the only place that knows clap's definitions.
//!
//! Help, completions and the pages of the single commands are made from the same definitions.
//! Building them costs a good part of a short command, so plain `outlast VERB [NAME...]` goes by
//! [`short`] instead, which must understand nothing that clap would understand otherwise.

use super::applets::LinksOrder;
use super::order::Order;
use super::supervise::Settings;
use super::upgrade::UpgradeOrder;
use super::verbs::{Names, ROWS, Row, named};
use crate::ipc::wire::Format;
use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use std::path::PathBuf;
use std::time::Duration;

/// Most log lines that `why` may ask for.
const WHY_LINES_MAX: i64 = 200;

/// What the command line asks for.
pub enum Job {
    Order(Order),
    Supervise(Settings),
    Logs(LogsOrder),
    /// 0 or 6, or nothing.
    Init(Option<String>),
    /// Links by the names of runit's programs.
    Applets(LinksOrder),
    Upgrade(UpgradeOrder),
    Completions(Shell),
    /// Into this directory; none prints outlast(1).
    Man(Option<PathBuf>),
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct LogsOrder {
    pub names: Vec<String>,
    pub lines: Option<usize>,
    pub follow: bool,
    pub utc: bool,
    pub raw: bool,
    /// Read the logs below this directory and ask no supervisor.
    pub log_root: Option<PathBuf>,
    pub socket: Option<PathBuf>,
}

/// `VERB [NAME...]` or `logs [NAME...]` without any option; `None` leaves it to clap.
pub fn short(arguments: &[String]) -> Option<Job> {
    let (command, names) = arguments.split_first()?;
    if names.iter().any(|name| name.starts_with('-')) {
        return None;
    }
    let names = names.to_vec();
    if command == "logs" {
        return Some(Job::Logs(LogsOrder {
            names,
            ..LogsOrder::default()
        }));
    }
    named(command).map(|row| Job::Order(Order::new(row, names)))
}

/// The whole command line, the program's name first.
pub fn parse(arguments: &[String]) -> Result<Job, clap::Error> {
    let matches = command().try_get_matches_from(arguments)?;
    let socket = matches.get_one::<PathBuf>("socket").cloned();
    let Some((name, found)) = matches.subcommand() else {
        return Err(forgotten("no command"));
    };
    Ok(match name {
        "supervise" => Job::Supervise(Settings {
            socket,
            log_root: found.get_one::<PathBuf>("log-root").cloned(),
            quiet: found.get_flag("quiet"),
            format: match found.get_one::<String>("log-format") {
                Some(name) => Format::named(name).unwrap_or_default(),
                None => Format::default(),
            },
            stop_timeout: found.get_one::<Duration>("stop-timeout").copied(),
            directory: found.get_one::<PathBuf>("DIR").cloned().unwrap_or_default(),
        }),
        "logs" => Job::Logs(LogsOrder {
            names: names(found),
            lines: found.get_one::<usize>("lines").copied(),
            follow: found.get_flag("follow"),
            utc: found.get_flag("utc"),
            raw: found.get_flag("raw"),
            log_root: found.get_one::<PathBuf>("log-root").cloned(),
            socket,
        }),
        "init" => Job::Init(found.get_one::<String>("WHAT").cloned()),
        "applets" => Job::Applets(LinksOrder {
            directory: found.get_one::<PathBuf>("DIR").cloned().unwrap_or_default(),
            force: found.get_flag("force"),
            relative: found.get_flag("relative"),
            json: found.get_flag("json"),
        }),
        "upgrade" => Job::Upgrade(UpgradeOrder {
            binary: found.get_one::<PathBuf>("binary").cloned(),
            socket,
        }),
        "completions" => Job::Completions(
            found
                .get_one::<Shell>("SHELL")
                .copied()
                .unwrap_or(Shell::Bash),
        ),
        "man" => Job::Man(found.get_one::<PathBuf>("DIR").cloned()),
        verb => match named(verb) {
            Some(row) => Job::Order(order(row, found, socket)),
            None => return Err(forgotten(verb)),
        },
    })
}

/// clap lets nothing through that isn't defined below; a new command that [`parse`] doesn't know
/// yet is told rather than taken for another.
fn forgotten(name: &str) -> clap::Error {
    command().error(
        clap::error::ErrorKind::InvalidSubcommand,
        format!("{name} does nothing yet"),
    )
}

fn order(row: &'static Row, found: &ArgMatches, socket: Option<PathBuf>) -> Order {
    Order {
        row,
        names: if row.names == Names::None {
            Vec::new()
        } else {
            names(found)
        },
        wait: !row.waits || !found.get_flag("no-wait"),
        timeout: found.get_one::<Duration>("timeout").copied(),
        lines: match row.name {
            "why" => found.get_one::<u32>("lines").copied(),
            _ => None,
        },
        json: found.get_flag("json"),
        socket,
    }
}

fn names(found: &ArgMatches) -> Vec<String> {
    found
        .get_many::<String>("NAME")
        .map(|names| names.cloned().collect())
        .unwrap_or_default()
}

/// clap's definition of everything.
pub fn command() -> Command {
    Command::new("outlast")
        .bin_name("outlast")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Keeps services running, logged and controlled")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .disable_help_subcommand(true)
        .max_term_width(100)
        .arg(
            path("socket", "PATH", "The supervisor's control socket")
                .long("socket")
                .global(true),
        )
        .subcommand(supervise())
        .subcommands(ROWS.iter().map(verb))
        .subcommand(logs())
        .subcommand(init())
        .subcommand(applets())
        .subcommand(upgrade())
        .subcommand(completions())
        .subcommand(man())
        .after_help(
            "Exit codes: 0 done, 1 a service did not get there, 2 wrong usage, 3 a named service is \
             not up (status), 4 no such service, 5 no supervisor, 6 not allowed.",
        )
}

fn supervise() -> Command {
    Command::new("supervise")
        .about("Supervise the services in a directory until told to end (TERM, INT, QUIT)")
        .arg(
            path(
                "log-root",
                "DIR",
                "Where services without a log service are logged",
            )
            .long("log-root"),
        )
        .arg(
            flag("quiet", "Do not print what is going on")
                .short('q')
                .long("quiet"),
        )
        .arg(
            Arg::new("log-format")
                .long("log-format")
                .value_name("FORMAT")
                .help("How lines are printed: text (name | line), stamped, or json")
                .value_parser(Format::ALL.map(Format::name)),
        )
        .arg(
            Arg::new("stop-timeout")
                .long("stop-timeout")
                .value_name("SECONDS")
                .help("Longest time for the stop of everything, whatever services may take")
                .value_parser(ValueParser::from(duration)),
        )
        .arg(path("DIR", "DIR", "The directory of service directories").required(true))
}

fn init() -> Command {
    Command::new("init")
        .about("Boot a machine as its process 1; on one that runs: 0 powers off, 6 reboots")
        .arg(
            Arg::new("WHAT")
                .value_name("0|6|DIR")
                .help("For process 1: the directory of service directories (/etc/service)")
                .value_parser(value_parser!(String)),
        )
}

fn verb(row: &Row) -> Command {
    let mut command = Command::new(row.name)
        .about(row.about)
        .aliases(row.aliases)
        .arg(flag("json", "Print the supervisor's objects as a JSON array").long("json"))
        .arg(
            Arg::new("timeout")
                .long("timeout")
                .value_name("SECONDS")
                .help("Longest wait for the answer: 10, 10s, 1m, 500ms")
                .value_parser(ValueParser::from(duration)),
        );
    if row.waits {
        command = command
            .arg(flag("wait", "Answer when it is done (as always)").long("wait"))
            .arg(
                flag("no-wait", "Answer as soon as the command is taken")
                    .long("no-wait")
                    .overrides_with("wait"),
            )
            .mut_arg("wait", |wait| wait.overrides_with("no-wait"));
    }
    if row.name == "check" {
        command = command.arg(
            flag("all", "All that should be up, as without a name")
                .long("all")
                .conflicts_with("NAME"),
        );
    }
    if row.name == "why" {
        command = command.arg(
            Arg::new("lines")
                .short('n')
                .long("lines")
                .value_name("N")
                .help("How many of the last log lines (10)")
                .value_parser(value_parser!(u32).range(0..=WHY_LINES_MAX)),
        );
    }
    match row.names {
        Names::None => command,
        Names::Optional => command.arg(name_argument()),
        Names::Required => command.arg(name_argument().required(true)),
    }
}

fn name_argument() -> Arg {
    Arg::new("NAME")
        .help("Names of services, or patterns in quotes: 'web-*'")
        .action(ArgAction::Append)
        .num_args(1..)
        .value_parser(value_parser!(String))
}

fn logs() -> Command {
    Command::new("logs")
        .about("Show the logs of services (of all without a name), by time")
        .arg(
            flag("follow", "Go on with what is written from now on")
                .short('f')
                .long("follow"),
        )
        .arg(
            Arg::new("lines")
                .short('n')
                .long("lines")
                .value_name("N")
                .help("How many of the last lines of each log (10)")
                .value_parser(value_parser!(usize)),
        )
        .arg(flag("utc", "Show times in UTC instead of local time").long("utc"))
        .arg(flag("raw", "Print the lines as they stand in the file").long("raw"))
        .arg(
            path(
                "log-root",
                "DIR",
                "Read the logs below DIR and ask no supervisor",
            )
            .long("log-root"),
        )
        .arg(name_argument())
}

fn applets() -> Command {
    Command::new("applets")
        .about(
            "Link the names of runit's programs (sv, runsv, chpst ...) to outlast in a directory",
        )
        .arg(
            flag(
                "force",
                "Replace files and links in the directory that are not outlast's",
            )
            .long("force"),
        )
        .arg(
            flag(
                "relative",
                "Make relative links, for a tree that is moved or mounted elsewhere",
            )
            .long("relative"),
        )
        .arg(flag("json", "Print what was done as a JSON array").long("json"))
        .arg(path("DIR", "DIR", "Where the links go; made if it is missing").required(true))
}

fn upgrade() -> Command {
    Command::new("upgrade")
        .about("Become another version, without restarting any service")
        .arg(
            path(
                "binary",
                "PATH",
                "The new program (without it, the one that is called)",
            )
            .long("binary"),
        )
}

fn completions() -> Command {
    Command::new("completions")
        .about("Print the completions for a shell")
        .arg(
            Arg::new("SHELL")
                .help("bash, elvish, fish, powershell or zsh")
                .required(true)
                .value_parser(value_parser!(Shell)),
        )
}

fn man() -> Command {
    Command::new("man")
        .about("Print outlast(1), or write all manual pages into a directory")
        .arg(path("DIR", "DIR", "Where the pages go"))
}

fn flag(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).action(ArgAction::SetTrue).help(help)
}

fn path(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .value_name(value)
        .help(help)
        .value_parser(value_parser!(PathBuf))
}

/// `10`, `10s`, `1.5m`, `2h`, `500ms`; a bare number is seconds.
fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let unit = units.iter().find(|(unit, _)| text.ends_with(unit));
    let (number, factor) = match unit {
        Some((unit, factor)) => (text.strip_suffix(unit).unwrap_or(text), *factor),
        None => (text, 1.0),
    };
    let digits = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit() || c == '.');
    let seconds = number.parse::<f64>().ok().filter(|_| digits);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds * factor).ok())
        .ok_or_else(|| "not a time: write seconds, or a number with ms, s, m or h".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::control::Verb;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn parsed(line: &str) -> Job {
        parse(&words(line)).unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    fn order_of(job: Job) -> Order {
        match job {
            Job::Order(order) => order,
            _ => panic!("not an order"),
        }
    }

    #[test]
    fn claps_definitions_hold_together() {
        command().debug_assert();
    }

    #[test]
    fn the_short_way_and_claps_way_understand_the_same() {
        for row in ROWS {
            let tail = if row.names == Names::None {
                ""
            } else {
                " web 'db-*'"
            };
            for name in row.aliases.iter().chain([&row.name]) {
                let line = words(&format!("outlast {name}{tail}"));
                let long = order_of(parse(&line).expect("clap takes it"));
                let quick = order_of(short(&line[1..]).expect("the short way takes it"));
                assert_eq!(quick.row.name, row.name);
                assert_eq!((long.row.name, &long.names), (quick.row.name, &quick.names));
                assert_eq!((long.wait, long.timeout), (quick.wait, quick.timeout));
                assert_eq!((long.json, long.lines), (quick.json, quick.lines));
            }
        }
    }

    #[test]
    fn anything_with_an_option_and_any_other_command_is_left_to_clap() {
        for line in [
            "status --json",
            "stop -h",
            "start web --no-wait",
            "supervise x",
            "",
            "--help",
        ] {
            assert!(short(&words(line)).is_none(), "{line}");
        }
    }

    #[test]
    fn options_stand_before_or_after_the_command_and_the_names() {
        let order = order_of(parsed(
            "outlast --socket /s stop --timeout 1.5m web --json db --no-wait",
        ));
        assert_eq!(order.row.verb, Verb::Stop);
        assert_eq!(order.names, ["web", "db"]);
        assert_eq!(order.timeout, Some(Duration::from_secs(90)));
        assert_eq!(order.socket, Some("/s".into()));
        assert!(order.json && !order.wait);
        assert!(order_of(parsed("outlast stop web --socket=/s --no-wait --wait")).wait);
    }

    #[test]
    fn times_are_seconds_unless_a_unit_says_otherwise() {
        let ms = |text| duration(text).map(|wait| wait.as_millis());
        assert_eq!(ms("10"), Ok(10_000));
        assert_eq!(ms("10s"), Ok(10_000));
        assert_eq!(ms("1.5m"), Ok(90_000));
        assert_eq!(ms("2h"), Ok(7_200_000));
        assert_eq!(ms("500ms"), Ok(500));
        assert_eq!(ms("0"), Ok(0));
        for bad in ["", "s", "-1", "ten", "1d", "1e99", "nan", "inf", "1..2"] {
            assert!(ms(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn supervise_and_logs_take_their_options() {
        let Job::Supervise(settings) = parsed("outlast supervise --log-root /l -q /etc/service")
        else {
            panic!("not supervise");
        };
        assert_eq!(settings.log_root, Some("/l".into()));
        assert_eq!(settings.directory, PathBuf::from("/etc/service"));
        assert!(settings.quiet);
        let Job::Logs(logs) = parsed("outlast logs -f -n 20 --utc --raw web") else {
            panic!("not logs");
        };
        let wanted = LogsOrder {
            names: vec!["web".into()],
            lines: Some(20),
            follow: true,
            utc: true,
            raw: true,
            ..LogsOrder::default()
        };
        assert_eq!(logs, wanted);
    }

    #[test]
    fn applets_takes_its_options() {
        let Job::Applets(order) = parsed("outlast applets --force --relative --json /d") else {
            panic!("not applets");
        };
        assert_eq!(order.directory, PathBuf::from("/d"));
        assert!(order.force && order.relative && order.json);
    }

    #[test]
    fn wrong_command_lines_are_refused_with_code_two() {
        for line in [
            "",
            "stop",
            "stop --sokcet /s web",
            "supervise",
            "frobnicate",
            "why -n 201 w",
        ] {
            let error = parse(&words(&format!("outlast {line}"))).err();
            assert_eq!(error.map(|error| error.exit_code()), Some(2), "{line}");
        }
    }
}
