//! When an ended service is started again: the two rules, and the jitter.
//!
//! Only arithmetic: it is given how long a run lasted and says how long to wait. It must never
//! decide *whether* to start; that is the ending's business. Called by `ending` and `starting`.

use super::spec::{HEALTHY, Policy, Rule};
use super::vocab::Exit;
use std::time::Duration;

/// runit's pause, and the time since the start of `run` below which it is made.
pub(super) const RUNIT_PAUSE: Duration = Duration::from_secs(1);

/// A delay is shortened by at most one part in this many, so that services which fell together do
/// not rise together. Never lengthened: `max` in service.toml stays the longest wait.
const JITTER_PART: u64 = 10;

/// Doublings after which every delay is at its maximum; keeps the shift below in range.
const DOUBLINGS_MAX: u32 = 31;

/// A small generator (splitmix64) for jitter: seeded from outside, so that a simulation repeats.
#[derive(Clone, Debug)]
pub(super) struct Jitter(u64);

impl Jitter {
    pub(super) fn new(seed: u64) -> Jitter {
        Jitter(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// `delay` less up to a tenth.
    fn shorten(&mut self, delay: Duration) -> Duration {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        let cut = nanos / JITTER_PART;
        let off = if cut == 0 { 0 } else { self.next() % (cut + 1) };
        Duration::from_nanos(nanos - off)
    }
}

/// How often in a row it has gone wrong: runs that ended before [`HEALTHY`], starts that failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct BackOff {
    pub(super) failures: u32,
}

impl BackOff {
    /// The delay before the next start after a run of `ran`. An end that somebody asked for is
    /// nobody's failure and costs nothing.
    pub(super) fn after_run(
        &mut self,
        rule: &Rule,
        ran: Duration,
        asked: bool,
        jitter: &mut Jitter,
    ) -> Duration {
        if ran >= HEALTHY {
            self.failures = 0;
        }
        if asked {
            return Duration::ZERO;
        }
        let before = self.failures;
        self.failures = self.failures.saturating_add(1);
        jitter.shorten(nth(rule, before))
    }

    /// The delay after a start that failed for want of something the machine will have again. Not
    /// "at once" even the first time: memory does not come back within a microsecond.
    pub(super) fn after_failed_start(&mut self, rule: &Rule, jitter: &mut Jitter) -> Duration {
        let before = self.failures.max(1);
        self.failures = before.saturating_add(1);
        jitter.shorten(nth(rule, before))
    }
}

/// The slowest retry that `rule` knows.
pub(super) fn slowest(rule: &Rule) -> Duration {
    match rule {
        Rule::BackOff { max, .. } => *max,
        Rule::Runit => RUNIT_PAUSE,
    }
}

fn nth(rule: &Rule, failures: u32) -> Duration {
    match rule {
        // Counted from the arrival in down, not from the end of the run: see `runit_pause`.
        Rule::Runit => Duration::ZERO,
        Rule::BackOff { .. } if failures == 0 => Duration::ZERO,
        Rule::BackOff { delay, max } => {
            let doublings = (failures - 1).min(DOUBLINGS_MAX);
            delay.saturating_mul(1 << doublings).min(*max)
        }
    }
}

/// runit's pause on arrival in down, `since_start` after the last start of `run`: a whole second,
/// not what is left of one, as runsv sleeps it.
pub(super) fn runit_pause(rule: &Rule, since_start: Duration) -> Duration {
    match rule {
        Rule::Runit if since_start < RUNIT_PAUSE => RUNIT_PAUSE,
        Rule::Runit | Rule::BackOff { .. } => Duration::ZERO,
    }
}

/// Whether a run that ended by itself is followed by another.
pub(super) fn starts_again(policy: Policy, exit: Option<Exit>) -> bool {
    match policy {
        Policy::Always => true,
        // An exit that nobody saw was not seen to be a success.
        Policy::OnFailure => exit.is_none_or(|exit| !exit.success()),
        Policy::Never => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Rule = Rule::BackOff {
        delay: Duration::from_secs(1),
        max: Duration::from_secs(60),
    };

    fn close(actual: Duration, nominal_s: u64) {
        let nominal = Duration::from_secs(nominal_s);
        assert!(
            actual <= nominal && actual >= nominal.mul_f64(0.9),
            "{actual:?} for {nominal:?}"
        );
    }

    #[test]
    fn the_first_restart_is_at_once_then_a_second_doubling_to_a_minute() {
        let mut back_off = BackOff::default();
        let mut jitter = Jitter::new(1);
        let mut next = || back_off.after_run(&RULE, Duration::ZERO, false, &mut jitter);
        for nominal in [0, 1, 2, 4, 8, 16, 32, 60, 60, 60] {
            close(next(), nominal);
        }
    }

    #[test]
    fn a_healthy_minute_ends_the_back_off() {
        let mut back_off = BackOff { failures: 9 };
        let mut jitter = Jitter::new(1);
        assert_eq!(
            back_off.after_run(&RULE, HEALTHY, false, &mut jitter),
            Duration::ZERO
        );
        assert_eq!(back_off.failures, 1);
    }

    #[test]
    fn an_end_that_was_asked_for_is_no_failure() {
        let mut back_off = BackOff { failures: 3 };
        let mut jitter = Jitter::new(1);
        let delay = back_off.after_run(&RULE, Duration::ZERO, true, &mut jitter);
        assert_eq!((delay, back_off.failures), (Duration::ZERO, 3));
    }

    #[test]
    fn a_failed_start_is_never_tried_again_at_once() {
        let mut back_off = BackOff::default();
        let mut jitter = Jitter::new(1);
        close(back_off.after_failed_start(&RULE, &mut jitter), 1);
        close(back_off.after_failed_start(&RULE, &mut jitter), 2);
    }

    #[test]
    fn a_delay_above_its_maximum_is_cut_to_it() {
        let rule = Rule::BackOff {
            delay: Duration::from_secs(9),
            max: Duration::from_secs(2),
        };
        let mut back_off = BackOff { failures: u32::MAX };
        close(
            back_off.after_run(&rule, Duration::ZERO, false, &mut Jitter::new(7)),
            2,
        );
    }

    #[test]
    fn services_that_fell_together_do_not_rise_together() {
        let mut jitter = Jitter::new(5);
        let mut delays = std::collections::BTreeSet::new();
        for _ in 0..100 {
            let mut back_off = BackOff { failures: 7 };
            delays.insert(back_off.after_run(&RULE, Duration::ZERO, false, &mut jitter));
        }
        assert!(delays.len() > 90);
    }

    #[test]
    fn runit_waits_a_whole_second_when_less_than_one_passed_since_the_start() {
        let pause = |ms| runit_pause(&Rule::Runit, Duration::from_millis(ms));
        assert_eq!(
            (pause(0), pause(999), pause(1000)),
            (RUNIT_PAUSE, RUNIT_PAUSE, Duration::ZERO)
        );
        assert_eq!(runit_pause(&RULE, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn the_policy_decides_by_the_exit() {
        let ok = Some(Exit::Code(0));
        let bad = Some(Exit::Code(1));
        assert!(starts_again(Policy::Always, ok) && !starts_again(Policy::Never, bad));
        assert!(!starts_again(Policy::OnFailure, ok) && starts_again(Policy::OnFailure, bad));
        assert!(starts_again(Policy::OnFailure, None));
    }
}
