//! setrlimit(2)'s resources by the names that service.toml gives them, with their units.

use nix::sys::resource::Resource;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Seconds,
    Microseconds,
    Count,
}

/// One resource: RLIMIT_ in front and in capitals it is the system's name.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    pub name: &'static str,
    pub resource: Resource,
    pub unit: Unit,
}

pub const LIMITS: [Limit; 16] = [
    limit("as", Resource::RLIMIT_AS, Unit::Bytes),
    limit("core", Resource::RLIMIT_CORE, Unit::Bytes),
    limit("cpu", Resource::RLIMIT_CPU, Unit::Seconds),
    limit("data", Resource::RLIMIT_DATA, Unit::Bytes),
    limit("fsize", Resource::RLIMIT_FSIZE, Unit::Bytes),
    limit("locks", Resource::RLIMIT_LOCKS, Unit::Count),
    limit("memlock", Resource::RLIMIT_MEMLOCK, Unit::Bytes),
    limit("msgqueue", Resource::RLIMIT_MSGQUEUE, Unit::Bytes),
    // 20 minus the lowest nice value: not a nice value itself.
    limit("nice", Resource::RLIMIT_NICE, Unit::Count),
    limit("nofile", Resource::RLIMIT_NOFILE, Unit::Count),
    limit("nproc", Resource::RLIMIT_NPROC, Unit::Count),
    limit("rss", Resource::RLIMIT_RSS, Unit::Bytes),
    limit("rtprio", Resource::RLIMIT_RTPRIO, Unit::Count),
    limit("rttime", Resource::RLIMIT_RTTIME, Unit::Microseconds),
    limit("sigpending", Resource::RLIMIT_SIGPENDING, Unit::Count),
    limit("stack", Resource::RLIMIT_STACK, Unit::Bytes),
];

const fn limit(name: &'static str, resource: Resource, unit: Unit) -> Limit {
    Limit {
        name,
        resource,
        unit,
    }
}

pub fn by_name(name: &str) -> Option<Limit> {
    LIMITS.into_iter().find(|limit| limit.name == name)
}
