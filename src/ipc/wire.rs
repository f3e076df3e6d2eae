//! What the keeper and the supervisor say to each other: small binary records, one a datagram over
//! a SOCK_SEQPACKET pair; descriptors ride along (SCM_RIGHTS) in the order a record names them.
//!
//! Numbers are little endian. A record starts with its tag; bytes behind what a tag needs are
//! ignored, so that a later version may append. A record that is too short or whose tag is unknown
//! decodes to None, and its receiver drops it. Both ends are processes of one binary except during
//! an upgrade, for which [`VERSION`] is exchanged first.

pub mod bytes;
pub mod ledger;
mod spawn;

use bytes::{Reader, Writer};
pub use spawn::{Format, Spawn, Stream, What};

/// Grows when a record changes its meaning; appended fields don't count.
pub const VERSION: u16 = 1;
/// The first argument of a keeper that has a front: a process that the user called and that told it
/// which directory is meant. The front's end comes to the keeper as SIGUSR1.
pub const FRONTED: &str = "many";
/// Longest record in bytes.
pub const RECORD_BYTES_MAX: usize = 2048;
/// Longest blob of supervisor state that the keeper stores for one service; what is longer is not
/// stored.
pub const BLOB_BYTES_MAX: usize = 1800;
/// Stored descriptors for one service: its log pipe and its lock.
pub const SLOTS: usize = 2;
/// Slot of the log pipe.
pub const SLOT_PIPE: u8 = 0;
/// Slot of `supervise/lock`.
pub const SLOT_LOCK: u8 = 1;
/// Roles of processes under one service.
pub const ROLES: usize = 4;
/// The status of an exit that nobody could see: of a process taken over, which has another parent.
/// No status of wait(2) is negative.
pub const STATUS_UNSEEN: i32 = -1;
/// The service id under which the scribe is held.
pub const SCRIBE: u32 = u32::MAX;
/// Its slots: the journal, and the pipe that goes with it.
pub const SCRIBE_SLOTS: [u8; SLOTS] = [0, 1];

/// One process of one service.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Key {
    pub id: u32,
    /// 0 run, 1 finish, 2 check, 3 control; below [`ROLES`].
    pub role: u8,
}

/// From the supervisor.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ToKeeper {
    /// The first record: asks for the book.
    Hello {
        version: u16,
    },
    Spawn(Spawn),
    /// To that process itself.
    Signal {
        key: Key,
        signal: u8,
    },
    /// Keep the attached descriptor.
    Store {
        id: u32,
        slot: u8,
    },
    /// Send a duplicate of it.
    Fetch {
        id: u32,
        slot: u8,
    },
    /// Close it.
    Drop {
        id: u32,
        slot: u8,
    },
    /// Keep this state; replaces the one before.
    Blob {
        id: u32,
        bytes: Vec<u8>,
    },
    /// The end of that process (or its failed start) has been taken note of.
    Acknowledge {
        key: Key,
        pid: i32,
    },
    /// Nothing is known of this service any more; refused while a process of it lives.
    Forget {
        id: u32,
    },
    /// Hold a living process that another keeper has started, its pidfd attached.
    Adopt {
        key: Key,
        pid: i32,
    },
    /// Services are being stopped for good: a successor is to be told to go on with that.
    Ending(Ending),
    /// The supervisor is through: end with this code once it has exited.
    Done {
        code: u8,
    },
    /// Keep the attached listening socket for my successors; device and inode of its path.
    Listen {
        dev: u64,
        ino: u64,
    },
    /// The answer to `StillThere`.
    Here,
    /// Exec the attached binary in your place, as soon as I have ended.
    Upgrade,
    /// Send a copy of the book as a successor would get it.
    Copy,
}

/// The end that was begun: what a successor has to know of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ending {
    /// What outlast exits with when all goes well.
    pub code: u8,
    /// CLOCK_MONOTONIC nanoseconds by which all is to be over; 0 for no bound.
    pub until_ns: u64,
}

/// How a held process stands in the book.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    None,
    /// Forked; whether its exec works is not known yet.
    Starting,
    Alive,
    /// Ended or never started; the report follows the book.
    Ended,
}

/// One process as the book shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Held {
    pub standing: Standing,
    pub pid: i32,
    /// CLOCK_MONOTONIC nanoseconds of the fork.
    pub forked_ns: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    pub user_us: u64,
    pub system_us: u64,
    pub peak_kib: u64,
}

/// From the keeper.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FromKeeper {
    /// The answer to Hello; `entries` records of the book follow, then `EndOfBook`. A listening
    /// socket that a predecessor left is attached.
    Welcome(Welcome),
    Entry {
        id: u32,
        slots: u8,
        held: [Held; ROLES],
        blob: Vec<u8>,
    },
    EndOfBook,
    /// The exec worked.
    Spawned {
        key: Key,
        pid: i32,
        forked_ns: u64,
    },
    /// It did not; no process is left. `pid` is 0 when there never was one.
    SpawnFailed {
        key: Key,
        pid: i32,
        step: u8,
        errno: i32,
        detail: Vec<u8>,
    },
    Exited {
        key: Key,
        pid: i32,
        status: i32,
        ended_ns: u64,
        usage: Usage,
    },
    /// The answer to Fetch, with the descriptor when it is there.
    Fetched {
        id: u32,
        slot: u8,
        found: bool,
    },
    /// The keeper was sent this signal.
    Caught {
        signal: u8,
    },
    /// Something has waited for the supervisor for a while; to be answered with `Here`.
    StillThere,
    /// The answer to `Copy`, with the book in a file; without one when that could not be made.
    Book,
    /// A predecessor has begun to stop everything; follows the book.
    Ending(Ending),
    /// A part of ours has been stopped by a signal, and was not continued since.
    Stopped {
        key: Key,
    },
}

/// What a supervisor is told first.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Welcome {
    pub version: u16,
    pub keeper: i32,
    pub entries: u32,
    pub starts: u32,
    pub signals: u64,
    /// As `Listen` told them; zero without a socket. Appended later, as is all that follows: a
    /// keeper that does not send them means zero.
    pub dev: u64,
    pub ino: u64,
    /// Supervisors that crashed within the last minute.
    pub crashes: u32,
    /// CLOCK_MONOTONIC nanoseconds of the first of these crashes, or of the last end of a supervisor
    /// that had lived for a while, or of the last that was heard of one that hung: what was in force before is to blame for none.
    pub calm_until_ns: u64,
    /// How the last upgrade went.
    pub upgrade: ledger::Outcome,
    /// The predecessor has crashed; nobody has ended it.
    pub crashed: bool,
}

impl Writer {
    fn key(self, key: Key) -> Writer {
        self.u32(key.id).u8(key.role)
    }
}

impl Reader<'_> {
    fn key(&mut self) -> Option<Key> {
        let key = Key {
            id: self.u32()?,
            role: self.u8()?,
        };
        (usize::from(key.role) < ROLES).then_some(key)
    }
    fn slot(&mut self) -> Option<u8> {
        self.u8().filter(|slot| usize::from(*slot) < SLOTS)
    }
}

impl Held {
    pub const NONE: Held = Held {
        standing: Standing::None,
        pid: 0,
        forked_ns: 0,
    };

    fn write(self, writer: Writer) -> Writer {
        let number = match self.standing {
            Standing::None => 0,
            Standing::Starting => 1,
            Standing::Alive => 2,
            Standing::Ended => 3,
        };
        writer.u8(number).i32(self.pid).u64(self.forked_ns)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Held> {
        let standing = match reader.u8()? {
            0 => Standing::None,
            1 => Standing::Starting,
            2 => Standing::Alive,
            3 => Standing::Ended,
            _ => return None,
        };
        Some(Held {
            standing,
            pid: reader.i32()?,
            forked_ns: reader.u64()?,
        })
    }
}

impl Ending {
    fn write(&self, writer: Writer) -> Writer {
        writer.u8(self.code).u64(self.until_ns)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Ending> {
        Some(Ending {
            code: reader.u8()?,
            until_ns: reader.u64()?,
        })
    }
}

impl ToKeeper {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            ToKeeper::Hello { version } => Writer::new(1).u16(*version),
            ToKeeper::Spawn(spawn) => spawn.write(Writer::new(2)),
            ToKeeper::Signal { key, signal } => Writer::new(3).key(*key).u8(*signal),
            ToKeeper::Store { id, slot } => Writer::new(4).u32(*id).u8(*slot),
            ToKeeper::Fetch { id, slot } => Writer::new(5).u32(*id).u8(*slot),
            ToKeeper::Drop { id, slot } => Writer::new(6).u32(*id).u8(*slot),
            ToKeeper::Blob { id, bytes } => Writer::new(7).u32(*id).bytes(bytes, BLOB_BYTES_MAX),
            ToKeeper::Acknowledge { key, pid } => Writer::new(8).key(*key).i32(*pid),
            ToKeeper::Forget { id } => Writer::new(9).u32(*id),
            ToKeeper::Done { code } => Writer::new(10).u8(*code),
            ToKeeper::Ending(ending) => ending.write(Writer::new(11)),
            ToKeeper::Adopt { key, pid } => Writer::new(12).key(*key).i32(*pid),
            ToKeeper::Listen { dev, ino } => Writer::new(13).u64(*dev).u64(*ino),
            ToKeeper::Here => Writer::new(14),
            ToKeeper::Upgrade => Writer::new(15),
            ToKeeper::Copy => Writer::new(16),
        }
        .0
    }

    pub fn decode(bytes: &[u8]) -> Option<ToKeeper> {
        let mut reader = Reader(bytes);
        let reader = &mut reader;
        Some(match reader.u8()? {
            1 => ToKeeper::Hello {
                version: reader.u16()?,
            },
            2 => ToKeeper::Spawn(Spawn::read(reader)?),
            3 => ToKeeper::Signal {
                key: reader.key()?,
                signal: reader.u8()?,
            },
            4 => ToKeeper::Store {
                id: reader.u32()?,
                slot: reader.slot()?,
            },
            5 => ToKeeper::Fetch {
                id: reader.u32()?,
                slot: reader.slot()?,
            },
            6 => ToKeeper::Drop {
                id: reader.u32()?,
                slot: reader.slot()?,
            },
            7 => ToKeeper::Blob {
                id: reader.u32()?,
                bytes: reader.bytes()?,
            },
            8 => ToKeeper::Acknowledge {
                key: reader.key()?,
                pid: reader.i32()?,
            },
            9 => ToKeeper::Forget { id: reader.u32()? },
            12 => ToKeeper::Adopt {
                key: reader.key()?,
                pid: reader.i32()?,
            },
            10 => ToKeeper::Done { code: reader.u8()? },
            11 => ToKeeper::Ending(Ending::read(reader)?),
            13 => ToKeeper::Listen {
                dev: reader.u64()?,
                ino: reader.u64()?,
            },
            14 => ToKeeper::Here,
            15 => ToKeeper::Upgrade,
            16 => ToKeeper::Copy,
            _ => return None,
        })
    }
}

impl FromKeeper {
    pub fn encode(&self) -> Vec<u8> {
        match self {
            FromKeeper::Welcome(welcome) => Writer::new(1)
                .u16(welcome.version)
                .i32(welcome.keeper)
                .u32(welcome.entries)
                .u32(welcome.starts)
                .u64(welcome.signals)
                .u64(welcome.dev)
                .u64(welcome.ino)
                .u32(welcome.crashes)
                .u64(welcome.calm_until_ns)
                .u8(welcome.upgrade.numbers().0)
                .i32(welcome.upgrade.numbers().1)
                .u8(u8::from(welcome.crashed)),
            FromKeeper::Entry {
                id,
                slots,
                held,
                blob,
            } => {
                let writer = Writer::new(2).u32(*id).u8(*slots);
                let writer = held.iter().fold(writer, |writer, held| held.write(writer));
                writer.bytes(blob, BLOB_BYTES_MAX)
            }
            FromKeeper::EndOfBook => Writer::new(3),
            FromKeeper::Spawned {
                key,
                pid,
                forked_ns,
            } => Writer::new(4).key(*key).i32(*pid).u64(*forked_ns),
            FromKeeper::SpawnFailed {
                key,
                pid,
                step,
                errno,
                detail,
            } => {
                let writer = Writer::new(5).key(*key).i32(*pid).u8(*step).i32(*errno);
                writer.bytes(detail, crate::os::step::DETAIL_BYTES_MAX)
            }
            FromKeeper::Exited {
                key,
                pid,
                status,
                ended_ns,
                usage,
            } => Writer::new(6)
                .key(*key)
                .i32(*pid)
                .i32(*status)
                .u64(*ended_ns)
                .u64(usage.user_us)
                .u64(usage.system_us)
                .u64(usage.peak_kib),
            FromKeeper::Fetched { id, slot, found } => {
                Writer::new(7).u32(*id).u8(*slot).u8(u8::from(*found))
            }
            FromKeeper::Caught { signal } => Writer::new(8).u8(*signal),
            FromKeeper::StillThere => Writer::new(9),
            FromKeeper::Book => Writer::new(10),
            FromKeeper::Ending(ending) => ending.write(Writer::new(11)),
            FromKeeper::Stopped { key } => Writer::new(12).key(*key),
        }
        .0
    }

    pub fn decode(bytes: &[u8]) -> Option<FromKeeper> {
        let mut reader = Reader(bytes);
        let reader = &mut reader;
        Some(match reader.u8()? {
            1 => FromKeeper::Welcome(Welcome {
                version: reader.u16()?,
                keeper: reader.i32()?,
                entries: reader.u32()?,
                starts: reader.u32()?,
                signals: reader.u64()?,
                dev: reader.u64().unwrap_or(0),
                ino: reader.u64().unwrap_or(0),
                crashes: reader.u32().unwrap_or(0),
                calm_until_ns: reader.u64().unwrap_or(0),
                upgrade: {
                    let (number, errno) = (reader.u8().unwrap_or(0), reader.i32().unwrap_or(0));
                    ledger::Outcome::from_numbers(number, errno)
                },
                crashed: reader.flag().unwrap_or(false),
            }),
            2 => FromKeeper::Entry {
                id: reader.u32()?,
                slots: reader.u8()?,
                held: [
                    Held::read(reader)?,
                    Held::read(reader)?,
                    Held::read(reader)?,
                    Held::read(reader)?,
                ],
                blob: reader.bytes()?,
            },
            3 => FromKeeper::EndOfBook,
            4 => FromKeeper::Spawned {
                key: reader.key()?,
                pid: reader.i32()?,
                forked_ns: reader.u64()?,
            },
            5 => FromKeeper::SpawnFailed {
                key: reader.key()?,
                pid: reader.i32()?,
                step: reader.u8()?,
                errno: reader.i32()?,
                detail: reader.bytes()?,
            },
            6 => FromKeeper::Exited {
                key: reader.key()?,
                pid: reader.i32()?,
                status: reader.i32()?,
                ended_ns: reader.u64()?,
                usage: Usage {
                    user_us: reader.u64()?,
                    system_us: reader.u64()?,
                    peak_kib: reader.u64()?,
                },
            },
            7 => FromKeeper::Fetched {
                id: reader.u32()?,
                slot: reader.slot()?,
                found: reader.flag()?,
            },
            8 => FromKeeper::Caught {
                signal: reader.u8()?,
            },
            9 => FromKeeper::StillThere,
            10 => FromKeeper::Book,
            11 => FromKeeper::Ending(Ending::read(reader)?),
            12 => FromKeeper::Stopped { key: reader.key()? },
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
