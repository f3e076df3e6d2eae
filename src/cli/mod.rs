//! Commands for people: `outlast supervise status start stop why logs ...`.
//!
//! A command is one request over the control socket and its answer in words; `supervise` checks
//! what was asked for and becomes the keeper. Nothing here decides about a service, nothing here
//! knows how a process is started, and clap lives only here. main.rs calls [`main`] when the
//! program wasn't called by the name of a runit tool or of one of its own parts.

mod answer;
mod applets;
mod arguments;
mod client;
mod exit;
#[cfg(test)]
mod fake;
mod init;
pub mod logs;
mod order;
mod pages;
mod screen;
mod sources;
pub mod supervise;
mod table;
mod upgrade;
mod verbs;
mod why;
mod words;
mod zone;

use arguments::Job;
use exit::Exit;
use screen::{Look, Screen};
use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

/// `args` with the program's own name first.
pub fn main(args: Vec<OsString>) -> ExitCode {
    if let Some(code) = init::hold(&args) {
        return ExitCode::from(code);
    }
    // A writer of whole lines: an answer is one write.
    let mut out = io::stdout().lock();
    let mut err = io::stderr().lock();
    let mut screen = Screen {
        out: &mut out,
        err: &mut err,
        look: Look::of_stdout(),
    };
    match run(args, &mut screen) {
        Ok(exit) => exit.code(),
        // Nobody reads any more (`outlast status | head -1`): nothing is wrong with that.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Success.code(),
        Err(error) => {
            // Where stderr is gone as well, the exit code is all that is left.
            let words = format_args!("cannot print the answer: {}", client::plain(&error));
            let _ = screen.complain(words);
            Exit::NotReached.code()
        }
    }
}

fn run(args: Vec<OsString>, screen: &mut Screen) -> io::Result<Exit> {
    let args = match in_utf8(args) {
        Ok(args) => args,
        Err(words) => {
            screen.complain(words)?;
            return Ok(Exit::Usage);
        }
    };
    let job = match args.get(1..).and_then(arguments::short) {
        Some(job) => job,
        None => match arguments::parse(&args) {
            Ok(job) => job,
            Err(error) => return refuse(&error, screen),
        },
    };
    match job {
        Job::Order(order) => order::carry_out(&order, screen),
        Job::Supervise(settings) => supervise::carry_out(&settings, screen),
        Job::Upgrade(order) => upgrade::carry_out(&order, screen),
        Job::Logs(order) => sources::carry_out(&order, screen),
        Job::Init(word) => init::carry_out(word.as_deref(), screen),
        Job::Applets(order) => applets::carry_out(&order, screen),
        Job::Completions(shell) => pages::completions(shell, screen),
        Job::Man(directory) => pages::man(directory.as_deref(), screen),
    }
}

/// clap's own words, or the help and version that were asked for.
fn refuse(error: &clap::Error, screen: &mut Screen) -> io::Result<Exit> {
    let text = error.render();
    if error.use_stderr() {
        write!(screen.err, "{text}")?;
        return Ok(Exit::Usage);
    }
    match screen.look.colour {
        true => write!(screen.out, "{}", text.ansi())?,
        false => write!(screen.out, "{text}")?,
    }
    Ok(Exit::Success)
}

/// Names go through JSON, which knows nothing else; paths are told to it as well.
fn in_utf8(args: Vec<OsString>) -> Result<Vec<String>, String> {
    let each = args.into_iter().map(OsString::into_string).enumerate();
    each.map(|(place, arg)| {
        arg.map_err(|arg| {
            format!("argument {place} is not UTF-8: {arg:?}; names and paths must be, so rename it")
        })
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStringExt;

    /// Exit, stdout and stderr of a command line without the program's name.
    fn said(args: &[&str]) -> (Exit, String, String) {
        let args = ["outlast"].iter().chain(args).map(OsString::from).collect();
        said_raw(args)
    }

    fn said_raw(args: Vec<OsString>) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut screen = Screen {
            out: &mut out,
            err: &mut err,
            look: Look::default(),
        };
        let exit = run(args, &mut screen).expect("printed");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (exit, text(out), text(err))
    }

    #[test]
    fn version_and_help_go_to_stdout_and_are_no_mistake() {
        let (exit, out, err) = said(&["--version"]);
        assert_eq!((exit, err.as_str()), (Exit::Success, ""));
        assert_eq!(out, concat!("outlast ", env!("CARGO_PKG_VERSION"), "\n"));
        let (exit, out, _) = said(&["--help"]);
        assert_eq!(exit, Exit::Success);
        for row in verbs::ROWS {
            assert!(
                out.contains(&format!("  {} ", row.name)),
                "{} is not in the help",
                row.name
            );
        }
        assert!(!out.contains('\x1b'));
    }

    #[test]
    fn arguments_that_are_not_utf_8_are_refused_with_words() {
        let name = OsString::from_vec(b"w\xffb".to_vec());
        let (exit, out, err) = said_raw(vec!["outlast".into(), "stop".into(), name]);
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert!(err.contains("argument 2 is not UTF-8"), "{err}");
        assert!(err.contains("w\\xFFb"), "{err}");
    }

    #[test]
    fn a_mistyped_command_is_a_usage_error_on_stderr() {
        let (exit, out, err) = said(&["restrat", "web"]);
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert!(err.contains("restart"), "{err}");
    }
}
