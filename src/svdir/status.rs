//! The formats inside `supervise/`: `status` (20 bytes), `stat` and `pid` (text), as runsv writes
//! them and every runit client reads them. Pure; `supervise` puts them on disk.

use std::time::Duration;

/// What one `supervise/` tells the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Since 1970. runit's rule: the start of the supervision, then each start of run and each
    /// arrival in down; finish keeps the time of its run.
    pub since: Duration,
    /// None when neither run nor finish lives.
    pub pid: Option<u32>,
    pub paused: bool,
    pub want: Want,
    pub got_term: bool,
    pub state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    Up,
    Down,
    /// Shown as down in `status`, as itself in `stat`.
    Exit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Down = 0,
    Run = 1,
    Finish = 2,
}

pub const STATUS_BYTES: usize = 20;

/// 1970 on TAI64's scale: 2^62, plus the ten seconds TAI was ahead of UTC by runit's reckoning.
const TAI_1970: u64 = (1 << 62) + 10;

pub fn encode(status: &Status) -> [u8; STATUS_BYTES] {
    let mut bytes = [0; STATUS_BYTES];
    bytes[0..8].copy_from_slice(&label(status.since).to_be_bytes());
    bytes[8..12].copy_from_slice(&status.since.subsec_nanos().to_be_bytes());
    bytes[12..16].copy_from_slice(&status.pid.unwrap_or(0).to_le_bytes());
    bytes[16] = u8::from(status.paused);
    bytes[17] = match status.want {
        Want::Up => b'u',
        Want::Down | Want::Exit => b'd',
    };
    bytes[18] = u8::from(status.got_term);
    bytes[19] = status.state as u8;
    bytes
}

/// The fields as they stand in the file, whatever their values: `sv` shows even a status that no
/// runsv would write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw {
    /// TAI64N: a label of seconds, and nanoseconds.
    pub since: (u64, u32),
    /// 0 for none.
    pub pid: u32,
    pub paused: u8,
    pub want: u8,
    pub got_term: u8,
    pub state: u8,
}

impl Raw {
    /// None when there are fewer than 20 bytes; what follows them is not looked at.
    pub fn read(bytes: &[u8]) -> Option<Raw> {
        let (bytes, _) = bytes.split_first_chunk::<STATUS_BYTES>()?;
        let (label, rest) = bytes.split_first_chunk::<8>()?;
        let (nanos, rest) = rest.split_first_chunk::<4>()?;
        let (pid, flags) = rest.split_first_chunk::<4>()?;
        let [paused, want, got_term, state] = *flags else {
            return None;
        };
        Some(Raw {
            since: (u64::from_be_bytes(*label), u32::from_be_bytes(*nanos)),
            pid: u32::from_le_bytes(*pid),
            paused,
            want,
            got_term,
            state,
        })
    }

    /// Whole seconds from then to `wall` (since 1970), as runit counts them: none when it is in
    /// the future.
    pub fn age_s(&self, wall: Duration) -> u64 {
        label(wall).saturating_sub(self.since.0)
    }
}

/// A time since 1970 as the status has it.
pub fn label(wall: Duration) -> u64 {
    TAI_1970.wrapping_add(wall.as_secs())
}

/// None for what runit's own reader would call a bad format, or for a state it does not have.
/// More than 20 bytes are fine, as they are for `sv`. Want::Exit comes back as Want::Down.
pub fn decode(bytes: &[u8]) -> Option<Status> {
    let raw = Raw::read(bytes)?;
    let seconds = raw.since.0.checked_sub(TAI_1970)?;
    let nanos = Some(raw.since.1).filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Status {
        since: Duration::new(seconds, nanos),
        pid: Some(raw.pid).filter(|pid| *pid != 0),
        paused: raw.paused != 0,
        want: match raw.want {
            b'u' => Want::Up,
            _ => Want::Down,
        },
        got_term: raw.got_term != 0,
        state: match raw.state {
            0 => State::Down,
            1 => State::Run,
            2 => State::Finish,
            _ => return None,
        },
    })
}

/// `supervise/stat`, its newline included.
pub fn stat_text(status: &Status) -> String {
    let mut text = String::from(match status.state {
        State::Down => "down",
        State::Run => "run",
        State::Finish => "finish",
    });
    if status.paused {
        text.push_str(", paused");
    }
    if status.got_term {
        text.push_str(", got TERM");
    }
    if status.state != State::Down {
        text.push_str(match status.want {
            Want::Up => "",
            Want::Down => ", want down",
            Want::Exit => ", want exit",
        });
    }
    text.push('\n');
    text
}

/// `supervise/pid`: empty when there is no process.
pub fn pid_text(status: &Status) -> String {
    status
        .pid
        .map_or_else(String::new, |pid| format!("{pid}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn these_bytes_are_what_runsv_wrote_for_a_running_service() {
        let bytes = [
            0x40, 0, 0, 0, 0x6b, 0, 0x30, 0x3a, 0x16, 3, 0x56, 0x7c, 0x67, 0x34, 0, 0, 0, 0x75, 0,
            1,
        ];
        let status = decode(&bytes).expect("twenty good bytes");
        assert_eq!(status.pid, Some(13415));
        assert_eq!(status.state, State::Run);
        assert_eq!(status.want, Want::Up);
        assert_eq!(status.since.as_secs(), 0x6b00_303a - 10);
        assert_eq!(encode(&status), bytes);
        assert_eq!(stat_text(&status), "run\n");
        assert_eq!(pid_text(&status), "13415\n");
    }

    #[test]
    fn want_is_told_only_while_something_runs() {
        let mut status = Status {
            since: Duration::ZERO,
            pid: Some(1),
            paused: true,
            want: Want::Exit,
            got_term: true,
            state: State::Run,
        };
        assert_eq!(stat_text(&status), "run, paused, got TERM, want exit\n");
        status.state = State::Down;
        status.pid = None;
        status.got_term = false;
        assert_eq!(stat_text(&status), "down, paused\n");
        assert_eq!(pid_text(&status), "");
    }

    #[test]
    fn too_short_is_no_status_and_longer_is() {
        let good = [
            0x40, 0, 0, 0, 0x6b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'd', 0, 0, 9,
        ];
        assert!(decode(&good[..19]).is_none());
        assert!(decode(&good).is_some());
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back(
            seconds in 0..u64::from(u32::MAX), nanos in 0..1_000_000_000u32, pid in 1..i32::MAX.cast_unsigned(),
            alive: bool, paused: bool, up: bool, got_term: bool, state in 0..3u8,
        ) {
            let status = Status {
                since: Duration::new(seconds, nanos),
                pid: alive.then_some(pid),
                paused,
                want: if up { Want::Up } else { Want::Down },
                got_term,
                state: match state { 0 => State::Down, 1 => State::Run, _ => State::Finish },
            };
            prop_assert_eq!(decode(&encode(&status)), Some(status));
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(status) = decode(&bytes) {
                prop_assert!(bytes.len() >= STATUS_BYTES);
                let _ = stat_text(&status);
            }
        }
    }
}
