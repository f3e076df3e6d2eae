//! What comes after what, and after which end: the rules of runit(8), and ours where there is no
//! script. Pure.

/// What process 1 has done, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// Stage 1: what is done once.
    First,
    /// Stage 2: services.
    Second,
    /// Stage 3: everything is brought to an end.
    Third,
    /// A shell on the console for somebody who can help.
    Shell,
    /// Disks are written out, and the machine ends.
    Last,
}

impl Part {
    /// runit's script for it; without one we do it ourselves.
    pub fn script(self) -> Option<&'static str> {
        match self {
            Part::First => Some("/etc/runit/1"),
            Part::Second => Some("/etc/runit/2"),
            Part::Third => Some("/etc/runit/3"),
            Part::Shell | Part::Last => None,
        }
    }

    pub fn number(self) -> &'static str {
        match self {
            Part::First => "1",
            Part::Second => "2",
            Part::Third => "3",
            Part::Shell => "shell",
            Part::Last => "last",
        }
    }

    /// On the way to the machine's end.
    pub fn next(self) -> Part {
        match self {
            Part::First | Part::Second | Part::Shell => Part::Third,
            Part::Third | Part::Last => Part::Last,
        }
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum After {
    Go(Part),
    /// Stage 2 once more, and its process group is killed first.
    Again {
        pause: bool,
    },
    Shell {
        reason: String,
        resume: Part,
    },
    /// The shell has been left: what it was for.
    Resume,
    /// The machine should have ended by now.
    Refused,
}

/// A stage 2 that lived so long comes back at once.
const HEALTHY_NS: u64 = 5_000_000_000;
const SKIP: i32 = 100;
const AGAIN: i32 = 111;

/// `code` is None after a signal. `unexecuted`: the script, or our own binary, could not be executed.
pub fn after(part: Part, code: Option<i32>, unexecuted: bool, lived_ns: u64) -> After {
    match (part, code) {
        (Part::First | Part::Second, _) if unexecuted => After::Shell {
            reason: format!(
                "{} can't be executed",
                part.script().unwrap_or(part.number())
            ),
            resume: part,
        },
        // Nobody can help where there is no shell.
        (Part::Shell, _) if unexecuted => After::Go(Part::Third),
        (Part::First, Some(SKIP)) => After::Go(Part::Third),
        (Part::First, Some(_)) => After::Go(Part::Second),
        (Part::First, None) => After::Shell {
            reason: "stage 1 was killed by a signal".to_owned(),
            resume: Part::Second,
        },
        (Part::Second, Some(AGAIN)) => After::Again { pause: true },
        (Part::Second, None) => After::Again {
            pause: lived_ns < HEALTHY_NS,
        },
        (Part::Second, Some(_)) => After::Go(Part::Third),
        (Part::Third, _) => After::Go(Part::Last),
        (Part::Shell, Some(0)) => After::Resume,
        (Part::Shell, _) => After::Go(Part::Third),
        (Part::Last, _) => After::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: u64 = HEALTHY_NS;

    #[test]
    fn the_stages_come_one_after_the_other() {
        assert_eq!(
            after(Part::First, Some(0), false, 0),
            After::Go(Part::Second)
        );
        assert_eq!(
            after(Part::Second, Some(0), false, 0),
            After::Go(Part::Third)
        );
        assert_eq!(after(Part::Third, Some(0), false, 0), After::Go(Part::Last));
    }

    #[test]
    fn exit_100_of_stage_1_alone_skips_stage_2() {
        assert_eq!(
            after(Part::First, Some(100), false, 0),
            After::Go(Part::Third)
        );
        assert_eq!(
            after(Part::First, Some(1), false, 0),
            After::Go(Part::Second)
        );
        assert_eq!(
            after(Part::Second, Some(100), false, 0),
            After::Go(Part::Third)
        );
        assert_eq!(
            after(Part::Third, Some(100), false, 0),
            After::Go(Part::Last)
        );
    }

    #[test]
    fn a_stage_2_that_crashed_comes_back_and_at_once_if_it_was_well() {
        assert_eq!(
            after(Part::Second, Some(111), false, LONG),
            After::Again { pause: true }
        );
        assert_eq!(
            after(Part::Second, None, false, LONG),
            After::Again { pause: false }
        );
        assert_eq!(
            after(Part::Second, None, false, LONG - 1),
            After::Again { pause: true }
        );
    }

    #[test]
    fn a_stage_1_that_crashed_or_is_no_program_leads_to_a_shell() {
        for (code, unexecuted, resumed) in
            [(None, false, Part::Second), (Some(0), true, Part::First)]
        {
            let After::Shell { resume, .. } = after(Part::First, code, unexecuted, 0) else {
                panic!("no shell");
            };
            assert_eq!(resume, resumed);
        }
        assert_eq!(after(Part::Shell, Some(0), false, 0), After::Resume);
        assert_eq!(
            after(Part::Shell, Some(1), false, 0),
            After::Go(Part::Third)
        );
    }

    #[test]
    fn without_a_shell_the_machine_ends() {
        assert_eq!(
            after(Part::Shell, Some(111), true, 0),
            After::Go(Part::Third)
        );
        assert_eq!(after(Part::Last, Some(111), true, 0), After::Refused);
    }

    #[test]
    fn whatever_happens_to_stage_3_the_machine_ends() {
        for (code, unexecuted) in [(None, false), (Some(111), false), (Some(0), true)] {
            assert_eq!(
                after(Part::Third, code, unexecuted, 0),
                After::Go(Part::Last)
            );
        }
    }
}
