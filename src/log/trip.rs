//! Moments at which a test can have the writer of a log die, as if by SIGKILL: nothing that would
//! come after is done, nothing is tidied up. In this crate's own tests they are counted, and there
//! may be thousands of deaths in a second; elsewhere each is a kill point of the real process.

#[cfg(not(test))]
pub use crate::os::{kill_point as at, kill_point_after as within};

#[cfg(test)]
pub use armed::{Fate, at, run, within};

#[cfg(test)]
mod armed {
    use std::cell::Cell;
    use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

    thread_local! {
        /// Moments until the end, and the last one passed.
        static LEFT: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// What became of the writer.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Fate {
        Lives,
        DiedAt(&'static str),
    }

    struct Death(&'static str);

    fn is_over() -> bool {
        let left = LEFT.get();
        LEFT.set(left.map(|left| left.saturating_sub(1)));
        left == Some(0)
    }

    pub fn at(moment: &'static str) {
        if is_over() {
            LEFT.set(None);
            resume_unwind(Box::new(Death(moment)));
        }
    }

    pub fn within(moment: &'static str, part: impl FnOnce()) {
        if is_over() {
            LEFT.set(None);
            part();
            resume_unwind(Box::new(Death(moment)));
        }
    }

    /// Runs a writer until it has passed so many moments.
    pub fn run(moments: u32, writer: impl FnOnce()) -> Fate {
        LEFT.set(Some(moments));
        let end = catch_unwind(AssertUnwindSafe(writer));
        LEFT.set(None);
        match end {
            Ok(()) => Fate::Lives,
            Err(cause) => match cause.downcast::<Death>() {
                Ok(death) => Fate::DiedAt(death.0),
                Err(other) => resume_unwind(other),
            },
        }
    }
}
