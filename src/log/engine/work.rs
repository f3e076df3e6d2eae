//! A log's processor: started after a rotation, looked after, tried again.

use super::super::dir::{self, Halt};
use super::super::processor::Processor;
use super::super::rotate::{Kind, Old};
use super::{Log, Note, Now, later};
use std::time::Duration;

const PROCESSOR_RETRY_FIRST: Duration = Duration::from_secs(1);
const PROCESSOR_RETRY_MAX: Duration = Duration::from_secs(60);

/// A processor at work, or waiting for its next try.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) running: Option<Processor>,
    pub(super) old: Old,
    pub(super) retry_at: u64,
    delay: Duration,
}

impl Log {
    pub(super) fn process(&mut self, old: Old, now: Now) {
        self.process_again(old, PROCESSOR_RETRY_FIRST, now);
    }

    /// `delay` counts from a failure.
    fn process_again(&mut self, old: Old, delay: Duration, now: Now) {
        let Some(command) = self.settings().processor() else {
            self.work = None;
            return;
        };
        let running = Processor::start(&self.path, command, old).ok();
        if running.is_some() {
            self.tell(&Note::Processing(old.with(Kind::Unprocessed)));
        }
        self.work = Some(Box::new(Work {
            running,
            old,
            retry_at: later(now, delay),
            delay,
        }));
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
        let (old, delay) = (work.old, work.delay);
        let next_delay = (delay * 2).min(PROCESSOR_RETRY_MAX);
        let Some(running) = &mut work.running else {
            if work.retry_at <= now.mono_ns {
                self.process_again(old, next_delay, now);
            }
            return;
        };
        let status = match running.ended() {
            Ok(None) => return,
            Ok(Some(status)) => status,
            Err(_) => std::process::ExitStatus::default(),
        };
        let mode = self.habits.rotated_mode.unwrap_or(self.habits.current_mode);
        if status.success() && running.accept(&self.path, mode).is_ok() {
            self.work = None;
            self.tell(&Note::Processed(old.with(Kind::Saved)));
            if self.habits.unprocessed_are_taken_up {
                self.process_left_over(now);
            }
            self.release(now);
            return;
        }
        running.reject(&self.path);
        if let Some(teller) = &self.teller {
            teller.tell(&Note::ProcessorFailed);
        }
        let gone = !self.path.join(old.with(Kind::Unprocessed).name()).exists();
        work.running = None;
        work.retry_at = later(now, delay);
        work.delay = next_delay;
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
}
