//! Two clocks: one that never goes back, for every decision, and the wall's, for people.

use nix::time::{ClockId, clock_gettime};
use std::time::{Duration, SystemTime};

/// Nanoseconds of CLOCK_MONOTONIC: the same for all processes of one boot.
pub fn monotonic_ns() -> u64 {
    let Ok(now) = clock_gettime(ClockId::CLOCK_MONOTONIC) else {
        return 0;
    };
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    let rest = u64::try_from(now.tv_nsec()).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// Clock ticks of /proc in a second: USER_HZ, which no architecture that we build for changes.
const TICKS_PER_SECOND: u64 = 100;

/// Clock ticks from boot until now, as /proc counts the start of a process.
pub fn ticks_from_boot() -> u64 {
    let Ok(now) = clock_gettime(ClockId::CLOCK_BOOTTIME) else {
        return 0;
    };
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    let rest = u64::try_from(now.tv_nsec()).unwrap_or(0);
    let parts = rest.saturating_mul(TICKS_PER_SECOND) / 1_000_000_000;
    seconds
        .saturating_mul(TICKS_PER_SECOND)
        .saturating_add(parts)
}

/// Time since 1970 by the wall's clock, zero when it stands before that.
pub fn wall() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
