//! The zone that times are shown in: that of `TZ`, or else the machine's.

use jiff::tz::TimeZone;

/// What glibc adds to a zone that names its summer time and not when that is (tzset(3)).
const RULES_OF_OLD: &str = ",M3.2.0,M11.1.0";

/// UTC where there is none, or nobody knows it.
pub fn local() -> TimeZone {
    let without_rules = |_| {
        let zone = std::env::var("TZ").map_err(drop)?;
        TimeZone::posix(&(zone + RULES_OF_OLD)).map_err(drop)
    };
    TimeZone::try_system()
        .or_else(without_rules)
        .unwrap_or(TimeZone::UTC)
}
