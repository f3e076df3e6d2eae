//! A log's processor: started after a rotation, looked after, tried again.

use super::super::dir::{self, Halt};
use super::super::processor::Processor;
use super::super::rotate::{Kind, Old};
use super::{Log, Note, Now, later};
use nix::sys::signal::Signal;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

const PROCESSOR_RETRY_FIRST: Duration = Duration::from_secs(1);
const PROCESSOR_RETRY_MAX: Duration = Duration::from_secs(60);

/// A processor at work, or waiting for its next try.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) running: Option<Processor>,
    pub(super) old: Old,
    pub(super) retry_at: u64,
    /// Until the try after the next failure.
    delay: Duration,
    /// How the last try failed.
    failure: Option<Box<str>>,
}

impl Work {
    fn fail(&mut self, failure: String, now: Now) {
        self.running = None;
        self.failure = Some(failure.into());
        self.retry_at = later(now, self.delay);
        self.delay = (self.delay * 2).min(PROCESSOR_RETRY_MAX);
    }
}

impl Log {
    pub(super) fn process(&mut self, old: Old, now: Now) {
        let mut work = Box::new(Work {
            running: None,
            old,
            retry_at: now.mono_ns,
            delay: PROCESSOR_RETRY_FIRST,
            failure: None,
        });
        self.start_processor(&mut work, now);
        self.work = Some(work);
    }

    fn start_processor(&self, work: &mut Work, now: Now) {
        let Some(command) = self.settings().processor() else {
            // At the next try that is seen.
            return work.fail("is none".into(), now);
        };
        let ends_with_us = self.habits.processor_ends_with_us;
        match Processor::start(&self.path, command, work.old, ends_with_us) {
            Ok(running) => {
                work.running = Some(running);
                self.tell(&Note::Processing(work.old.with(Kind::Unprocessed)));
            }
            Err(error) => work.fail(format!("cannot be started: {error}"), now),
        }
    }

    /// The next try is due.
    fn process_again(&mut self, now: Now) {
        if self.habits.config_is_heard_in_trouble {
            self.read_config();
        }
        let Some(mut work) = self.work.take() else {
            return;
        };
        if self.settings().processor().is_none() {
            // There is to be none any more.
            return self.release(now);
        }
        self.start_processor(&mut work, now);
        self.work = Some(work);
    }

    /// The oldest file that a processor which died with us left.
    pub(super) fn process_left_over(&mut self, now: Now) {
        if self.settings().processor().is_none() || self.work.is_some() {
            return;
        }
        let olds = dir::list(&self.path).unwrap_or_default();
        let left = olds.into_iter().filter(|old| old.kind == Kind::Unprocessed);
        if let Some(oldest) = left.min() {
            self.process(oldest, now);
        }
    }

    pub(super) fn look_after_processor(&mut self, now: Now) {
        let Some(work) = &mut self.work else {
            return;
        };
        let old = work.old;
        let Some(running) = &mut work.running else {
            if work.retry_at <= now.mono_ns {
                self.process_again(now);
            }
            return;
        };
        let status = match running.ended() {
            Ok(None) => return,
            Ok(Some(status)) => status,
            Err(_) => ExitStatus::default(),
        };
        let mode = self.habits.rotated_mode.unwrap_or(self.habits.current_mode);
        let accepted = match status.success() {
            true => running.accept(&self.path, mode).map_err(|error| {
                format!("succeeded, but what it has made cannot be put in place: {error}")
            }),
            false => Err(failed(status)),
        };
        let Err(failure) = accepted else {
            self.work = None;
            self.tell(&Note::Processed(old.with(Kind::Saved)));
            if self.habits.unprocessed_are_taken_up {
                self.process_left_over(now);
            }
            self.release(now);
            return;
        };
        running.reject(&self.path);
        if let Some(teller) = &self.teller {
            teller.tell(&Note::ProcessorFailed);
        }
        work.fail(failure, now);
        let gone = !self.path.join(old.with(Kind::Unprocessed).name()).exists();
        if gone {
            // Somebody deleted the file: there is nothing left to process.
            self.work = None;
            self.release(now);
        }
    }

    /// A rotation that waited for the processor need not wait longer.
    fn release(&mut self, now: Now) {
        if let Some(stuck) = &mut self.stuck
            && stuck.halt == Halt::Processing
        {
            stuck.retry_at = Some(now.mono_ns);
        }
    }

    /// Whether a processor is at work, or will be tried again.
    pub fn is_processing(&self) -> bool {
        self.work.is_some()
    }

    /// The file that a processor is at work on.
    pub fn being_processed(&self) -> Option<Old> {
        let work = self.work.as_ref()?;
        work.running.as_ref().map(Processor::old)
    }

    /// For people: that the processor fails, while that goes on, or that there can be none.
    pub fn processor_words(&self) -> Option<String> {
        if let Some(uid) = self.settings().distrusted() {
            let path = self.path.display();
            return Some(format!(
                "the processor in {path}/config is not started: {path} or that file may be written \
                 by others than root and ourselves (it is user id {uid}'s); have both owned by root, \
                 and writable by nobody else"
            ));
        }
        let work = self.work.as_ref()?;
        let failure = work.failure.as_deref()?;
        let (path, file) = (self.path.display(), work.old.with(Kind::Unprocessed).name());
        let and = match self.trouble() {
            Some(Halt::Processing) => "output waits in its pipe until it does not fail",
            Some(_) | None => "when the next rotation is due, output waits for it",
        };
        Some(format!(
            "the processor of {path} {failure}, with {file}; it is started again and again, and \
             {and}; see the ! in {path}/config"
        ))
    }

    /// Does not wait for a processor any longer: all that comes goes to `current`. True when it
    /// was stuck for that; to be followed by [`Log::resume`] then.
    pub fn keep_current(&mut self) -> bool {
        self.keeps_current = true;
        self.trouble() == Some(&Halt::Processing)
    }
}

fn failed(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(signal)) => {
            let name = Signal::try_from(signal).map_or("an unknown signal", Signal::as_str);
            format!("was killed by {name}")
        }
        (None, None) => "has ended".into(),
    }
}
