//! The words for what happens, the same on stderr, in the log and in `why`.

use super::stuck;
use super::vocab::{Exit, FailedBecause, Leftover, Notice};
use crate::launch::report::Words;
use crate::machine::view::{Phase, View};
use nix::errno::Errno;
use std::time::Duration;

/// `0.002 s`, `1.25 s`, `4 s`, `3 min 5 s`, `2 h 10 min`, `4 d 3 h`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0 if time.subsec_millis() == 0 => "0 s".into(),
        0 => trimmed(&format!("{:.3}", time.as_secs_f64())),
        1..10 => trimmed(&format!("{:.2}", time.as_secs_f64())),
        10..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min {} s", seconds / 60, seconds % 60),
        7_200..172_800 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

fn trimmed(seconds: &str) -> String {
    format!("{} s", seconds.trim_end_matches('0').trim_end_matches('.'))
}

pub fn names(leftovers: &[Leftover]) -> String {
    const SHOWN: usize = 8;
    let mut text = leftovers
        .iter()
        .take(SHOWN)
        .map(|leftover| format!("{} (pid {})", leftover.name, leftover.pid.0))
        .collect::<Vec<_>>()
        .join(", ");
    if leftovers.len() > SHOWN {
        text.push_str(&format!(" and {} more", leftovers.len() - SHOWN));
    }
    text
}

fn next_start(next: Option<Duration>) -> String {
    match next {
        Some(Duration::ZERO) => "starting again at once".into(),
        Some(delay) => format!("starting again in {}", duration(delay)),
        None => "it stays down".into(),
    }
}

/// What the kernel said, as long as nobody has looked closer.
pub fn error(errno: i32) -> String {
    let errno = Errno::from_raw(errno);
    format!("{} ({errno:?})", errno.desc())
}

/// What the exit says to somebody who has not read wait(2).
pub fn exit(exit: Exit) -> String {
    match exit {
        Exit::Code(111) => "exit code 111 (a temporary failure, by convention)".into(),
        Exit::Code(126) => "exit code 126 (the shell found a command it could not run)".into(),
        Exit::Code(127) => "exit code 127 (the shell did not find a command)".into(),
        Exit::Code(_) | Exit::Signal { .. } => exit.to_string(),
    }
}

/// The line for a notice; failed starts have their own, see [`cannot_start`].
pub fn notice(notice: &Notice) -> String {
    match notice {
        Notice::Started { pid } => format!("started (pid {})", pid.0),
        Notice::Ready => "ready (./check passed)".into(),
        Notice::Ended {
            exit: end,
            ran,
            next,
        } => {
            let (end, ran) = (exit(*end), duration(*ran));
            format!("ended by itself after {ran}: {end}; {}", next_start(*next))
        }
        Notice::Stopped { exit: end, took } => {
            format!("stopped after {}: {}", duration(*took), exit(*end))
        }
        Notice::CannotStart { failure, next, .. } => {
            format!(
                "cannot start: {}; {}",
                error(failure.errno),
                next_start(*next)
            )
        }
        Notice::Killed { after } => {
            format!("did not stop within {}; KILL was sent", duration(*after))
        }
        Notice::FinishKilled { after } => {
            format!(
                "./finish did not end within {}; KILL was sent to it",
                duration(*after)
            )
        }
        Notice::FinishFailed { exit: end } => format!("./finish failed: {}", exit(*end)),
        Notice::ControlKilled { after } => format!(
            "a control script did not end within {}; KILL was sent to it",
            duration(*after)
        ),
        Notice::Clearing { leftovers } => {
            format!(
                "the run left processes behind; ending them: {}",
                names(leftovers)
            )
        }
        Notice::Unkillable { leftovers } => format!(
            "{}; it is not started again before that is gone",
            stuck::all(leftovers).words()
        ),
        Notice::Invalid { reason } => reason.clone(),
        Notice::Gone => "gone: no longer supervised".into(),
    }
}

pub fn cannot_start(words: &Words, next: Option<Duration>, over: bool) -> String {
    let then = match next {
        Some(delay) => format!("trying again in {}", duration(delay)),
        None if over => String::new(),
        None => "trying again when its directory changes".into(),
    };
    let parts = [words.message.as_str(), words.advice.as_str(), &then];
    parts
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

/// Where a service is that has not come to where it was to be in time.
pub fn not_there_yet(name: &str, view: &View) -> String {
    match view.phase {
        Phase::Up if view.got_term && view.paused => {
            format!("it was told to end and is paused; 'outlast cont {name}' lets it go on")
        }
        Phase::Up if view.got_term => format!(
            "it was told to end and has not; if it does not heed the signal, 'outlast kill {name}' \
             ends it"
        ),
        Phase::Up if view.paused => "it is up, and paused".into(),
        Phase::Up if !view.ready => "it is up, and ./check has not passed".into(),
        Phase::Up => "it is up".into(),
        Phase::Starting => "it is being started".into(),
        Phase::Stopping => "it was told to stop and has not ended".into(),
        Phase::Clearing => "it has ended, and what it left behind has not".into(),
        Phase::Finish => "it has ended, and its finish script runs".into(),
        Phase::Backoff => "it waits for its next start".into(),
        Phase::Broken => "it can't be started".into(),
        Phase::Down => "it is down".into(),
    }
}

/// Code and words for a command that did not reach its state.
pub fn failed(because: FailedBecause, problem: Option<&str>) -> (&'static str, String) {
    let (code, text) = match because {
        FailedBecause::TimedOut => ("timed-out", "not reached in time; it goes on trying"),
        FailedBecause::CannotStart => ("cannot-start", "it cannot be started"),
        FailedBecause::Ended => ("ended", "it started and ended again"),
        FailedBecause::NotReady => ("not-ready", "./check does not pass"),
        FailedBecause::NotRunning => ("not-running", "it is not running"),
        FailedBecause::Overruled => ("overruled", "a later command wants something else"),
        FailedBecause::Leaving => ("leaving", "it is no longer supervised"),
    };
    match problem {
        // These say themselves that it cannot start or is not ready, or name the mistake.
        Some(problem)
            if matches!(
                because,
                FailedBecause::CannotStart | FailedBecause::NotReady
            ) =>
        {
            (code, problem.to_owned())
        }
        Some(problem) => (code, format!("{text}: {problem}")),
        None => (code, text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_start_is_told_once() {
        let (code, text) = failed(FailedBecause::CannotStart, Some("cannot start: no run"));
        assert_eq!(
            (code, text.as_str()),
            ("cannot-start", "cannot start: no run")
        );
        let (_, text) = failed(FailedBecause::TimedOut, Some("it is being started"));
        assert_eq!(
            text,
            "not reached in time; it goes on trying: it is being started"
        );
    }

    #[test]
    fn a_duration_is_as_precise_as_people_want_it() {
        let cases = [
            (0, "0 s"),
            (4, "0.004 s"),
            (20, "0.02 s"),
            (1_500, "1.5 s"),
            (4_000, "4 s"),
            (59_999, "59 s"),
            (185_000, "3 min 5 s"),
            (7_800_000, "2 h 10 min"),
            (356_400_000, "4 d 3 h"),
        ];
        for (ms, text) in cases {
            assert_eq!(duration(Duration::from_millis(ms)), text, "{ms} ms");
        }
    }
}
