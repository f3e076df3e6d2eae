//! Whether another part of ours still serves: when it is asked, and how long its silence may last.
//!
//! The keeper looks at the supervisor so, and the supervisor at the scribe. Who is looked at is
//! asked only when something has waited for it: a message that it has not read, a stop that somebody
//! sent it; and when somebody has come to the control socket, since one that hangs may have let him in
//! before. So nobody wakes while nothing happens. The answer
//! comes from the loop that serves, and one that does not come costs a part its life; services do
//! not notice. Pure: the time comes in as a number.

const MS: u64 = 1_000_000;
/// How long something may wait before anybody asks; mostly it is gone by then.
const LOOK_NS: u64 = 500 * MS;
/// ... and when it still waits though there was an answer: all places may be taken.
const LOOK_AGAIN_NS: u64 = 5_000 * MS;
/// How long an answer may take.
const ANSWER_NS: u64 = 5_000 * MS;
/// How long a fresh one may take until it says hello: exec, libraries, a slow disk.
const HELLO_NS: u64 = 20_000 * MS;
/// When we are woken so much too late, we did not run either: it gets its time once more.
const LATE_NS: u64 = 1_000 * MS;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Watch {
    /// Nothing is known to wait.
    #[default]
    Calm,
    /// Something may wait; to be looked at then, or asked in any case.
    Look { at_ns: u64, asks: bool },
    /// A sign of life has to come until then.
    Asked { until_ns: u64, patience_ns: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    Ask,
    Replace,
}

#[derive(Debug, Default)]
pub struct Vigil {
    watch: Watch,
}

impl Vigil {
    /// It was started and owes us a hello.
    pub fn started(&mut self, now_ns: u64) {
        self.watch = asked(now_ns, HELLO_NS);
    }

    /// There is none, or it is not waited for any more.
    pub fn ended(&mut self) {
        self.watch = Watch::Calm;
    }

    /// It has hung up and is to end.
    pub fn leaving(&mut self, now_ns: u64) {
        self.watch = asked(now_ns, ANSWER_NS);
    }

    /// Something was left for it.
    pub fn stir(&mut self, now_ns: u64) {
        if self.watch == Watch::Calm {
            let at_ns = now_ns.saturating_add(LOOK_NS);
            self.watch = Watch::Look { at_ns, asks: false };
        }
    }

    /// Somebody has come who is going to wait for it.
    pub fn called(&mut self, now_ns: u64) {
        self.stir(now_ns);
        if let Watch::Look { asks, .. } = &mut self.watch {
            *asks = true;
        }
    }

    /// Somebody has stopped it: no need to wait for something that waits.
    pub fn stopped(&mut self, now_ns: u64) {
        match self.watch {
            Watch::Calm | Watch::Look { .. } => {
                self.watch = Watch::Look {
                    at_ns: now_ns,
                    asks: false,
                }
            }
            // It may have been a moment only; but a hello is not waited for that long.
            Watch::Asked { until_ns, .. } => {
                let soon = asked(now_ns, ANSWER_NS);
                if now_ns.saturating_add(ANSWER_NS) < until_ns {
                    self.watch = soon;
                }
            }
        }
    }

    /// It has answered, or said hello.
    pub fn answered(&mut self, now_ns: u64, waits: bool) {
        self.watch = match waits {
            true => Watch::Look {
                at_ns: now_ns.saturating_add(LOOK_AGAIN_NS),
                asks: false,
            },
            false => Watch::Calm,
        };
    }

    /// When [`Vigil::judge`] is to be called again.
    pub fn due_ns(&self) -> Option<u64> {
        match self.watch {
            Watch::Calm => None,
            Watch::Look { at_ns, .. } => Some(at_ns),
            Watch::Asked { until_ns, .. } => Some(until_ns),
        }
    }

    /// `waits`: whether something waits for it at this moment.
    pub fn judge(&mut self, now_ns: u64, waits: impl FnOnce() -> bool) -> Verdict {
        match self.watch {
            Watch::Look { at_ns, asks } if at_ns <= now_ns => {
                if asks || waits() {
                    self.watch = asked(now_ns, ANSWER_NS);
                    Verdict::Ask
                } else {
                    self.watch = Watch::Calm;
                    Verdict::Fine
                }
            }
            Watch::Asked {
                until_ns,
                patience_ns,
            } if until_ns <= now_ns => {
                if now_ns.saturating_sub(until_ns) > LATE_NS {
                    self.watch = asked(now_ns, patience_ns);
                    Verdict::Fine
                } else {
                    self.watch = Watch::Calm;
                    Verdict::Replace
                }
            }
            Watch::Calm | Watch::Look { .. } | Watch::Asked { .. } => Verdict::Fine,
        }
    }
}

fn asked(now_ns: u64, patience_ns: u64) -> Watch {
    Watch::Asked {
        until_ns: now_ns.saturating_add(patience_ns),
        patience_ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000 * MS;

    #[test]
    fn nothing_is_due_while_nothing_waits() {
        let mut vigil = Vigil::default();
        assert_eq!(vigil.due_ns(), None);
        vigil.stir(0);
        assert_eq!(vigil.judge(LOOK_NS, || false), Verdict::Fine);
        assert_eq!(vigil.due_ns(), None);
    }

    #[test]
    fn who_does_not_answer_is_replaced_within_ten_seconds() {
        let mut vigil = Vigil::default();
        vigil.stir(S);
        vigil.stir(S + LOOK_NS / 2);
        assert_eq!(vigil.judge(S + LOOK_NS, || true), Verdict::Ask);
        let due = vigil.due_ns().expect("a deadline");
        assert!(due < 9 * S);
        assert_eq!(vigil.judge(due - 1, || true), Verdict::Fine);
        assert_eq!(vigil.judge(due, || true), Verdict::Replace);
    }

    #[test]
    fn who_answers_lives_and_is_looked_at_again_only_if_something_still_waits() {
        for waits in [false, true] {
            let mut vigil = Vigil::default();
            vigil.stir(0);
            vigil.judge(LOOK_NS, || true);
            vigil.answered(S, waits);
            assert_eq!(vigil.judge(9 * S, || false), Verdict::Fine);
            assert_eq!(vigil.due_ns(), None);
        }
    }

    #[test]
    fn who_let_somebody_in_and_hangs_is_found_out() {
        let mut vigil = Vigil::default();
        vigil.called(0);
        assert_eq!(vigil.judge(LOOK_NS, || false), Verdict::Ask);
        assert_eq!(vigil.judge(LOOK_NS + ANSWER_NS, || false), Verdict::Replace);
        // One that was looked at already is asked no later.
        vigil.stir(20 * S);
        vigil.called(20 * S + LOOK_NS / 2);
        assert_eq!(vigil.judge(20 * S + LOOK_NS, || false), Verdict::Ask);
        vigil.answered(21 * S, false);
        assert_eq!(vigil.due_ns(), None);
    }

    #[test]
    fn a_keeper_that_did_not_run_itself_does_not_judge() {
        let mut vigil = Vigil::default();
        vigil.stir(0);
        vigil.judge(LOOK_NS, || true);
        assert_eq!(vigil.judge(100 * S, || true), Verdict::Fine);
        assert_eq!(vigil.judge(100 * S + ANSWER_NS, || true), Verdict::Replace);
    }

    #[test]
    fn a_stop_is_a_reason_to_ask_at_once_and_shortens_the_wait_for_a_hello() {
        let mut vigil = Vigil::default();
        vigil.stopped(S);
        assert_eq!(vigil.judge(S, || true), Verdict::Ask);
        vigil.started(2 * S);
        vigil.stopped(3 * S);
        assert_eq!(vigil.due_ns(), Some(3 * S + ANSWER_NS));
    }
}
