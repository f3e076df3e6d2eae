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

/// Time since 1970 by the wall's clock, zero when it stands before that.
pub fn wall() -> Duration {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
