//! What an epoll event is about, packed into the number that comes with it.

use crate::ipc::wire::Key;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    Signals,
    Link,
    Deputy,
    /// Somebody has connected to the control socket.
    Door,
    /// A held process has ended.
    Process(Key),
    /// Its exec has worked or failed.
    Report(Key),
    /// Children have their own table of open files.
    Berths,
}

impl Source {
    pub fn pack(self) -> u64 {
        let (kind, id, role) = match self {
            Source::Signals => (0, 0, 0),
            Source::Link => (1, 0, 0),
            Source::Deputy => (2, 0, 0),
            Source::Process(key) => (3, key.id, key.role),
            Source::Report(key) => (4, key.id, key.role),
            Source::Door => (5, 0, 0),
            Source::Berths => (6, 0, 0),
        };
        u64::from_le_bytes({
            let [a, b, c, d] = u32::to_le_bytes(id);
            [a, b, c, d, role, kind, 0, 0]
        })
    }

    pub fn unpack(number: u64) -> Option<Source> {
        let [a, b, c, d, role, kind, ..] = number.to_le_bytes();
        let key = Key {
            id: u32::from_le_bytes([a, b, c, d]),
            role,
        };
        match kind {
            0 => Some(Source::Signals),
            1 => Some(Source::Link),
            2 => Some(Source::Deputy),
            3 => Some(Source::Process(key)),
            4 => Some(Source::Report(key)),
            5 => Some(Source::Door),
            6 => Some(Source::Berths),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_survives_being_packed_into_a_number() {
        let key = Key {
            id: 4_000_000_000,
            role: 3,
        };
        let all = [
            Source::Signals,
            Source::Link,
            Source::Deputy,
            Source::Door,
            Source::Berths,
            Source::Process(key),
            Source::Report(key),
        ];
        for source in all {
            assert_eq!(Source::unpack(source.pack()), Some(source));
        }
    }
}
