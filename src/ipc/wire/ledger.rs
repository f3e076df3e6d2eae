//! The keeper's book as bytes: what one keeper leaves to the binary that it execs in its place.
//!
//! A head, then records, each with its length in front. The rules, so that an older binary can take
//! the book back from a newer one: what a reader does not know is passed over, records and bytes
//! behind those it knows alike; a meaning never changes, a new one gets a new record or is
//! appended; what is missing at the end of a record reads as zero. [`READABLE_BY`] grows only if
//! that can't be kept. Descriptors are numbers here; whoever decodes owns nothing yet.

use super::bytes::{Reader, Writer};
use super::{BLOB_BYTES_MAX, Ending, Key, ROLES, SLOTS, Usage};
use crate::os::step::DETAIL_BYTES_MAX;

const MAGIC: &[u8; 12] = b"outlast book";
/// Of the writer; for people and messages.
pub const VERSION: u16 = 1;
/// The oldest version that makes sense of what we write.
pub const READABLE_BY: u16 = 1;
/// Most ends of supervisors that a keeper has in mind, and carries over.
pub const CRASHES_MAX: usize = 16;
const RECORD_BYTES_MAX: usize = u16::MAX as usize;

const KEEPER: u8 = 1;
const DOOR: u8 = 2;
const ENTRY: u8 = 3;
const END: u8 = 4;

/// How the last upgrade went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Outcome {
    /// There was none.
    #[default]
    None,
    /// This binary came by it.
    Done,
    /// The new supervisor did not answer in time, and the old binary is back.
    Silent,
    /// The new supervisor ended at once, and the old binary is back.
    Ended,
    /// The new binary could not be executed; the errno.
    Refused(i32),
    /// The new binary could not read the book, and the old one is back.
    Unread,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Ledger {
    pub keeper: Keeper,
    pub door: Option<Door>,
    pub entries: Vec<Entry>,
}

/// Of the keeper itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Keeper {
    pub untold_signals: u64,
    pub ending: Option<Ending>,
    /// Limits of open files that services get.
    pub nofile: (u64, u64),
    /// Their oom_score_adj as text; empty when it is not ours to touch.
    pub oom: Vec<u8>,
    pub starts: u32,
    pub delay_ns: u64,
    pub crashes: Vec<u64>,
    pub outcome: Outcome,
    /// When the last supervisor ended that had lived for a while. Appended later.
    pub calm_until_ns: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Door {
    pub fd: i32,
    pub dev: u64,
    pub ino: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub id: u32,
    pub slots: [Option<i32>; SLOTS],
    pub processes: Vec<Process>,
    pub blob: Vec<u8>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Process {
    pub role: u8,
    pub pid: i32,
    pub forked_ns: u64,
    pub stage: Stage,
    /// Another keeper has started it: whoever comes next can't open this pidfd anew, nor wait for it.
    pub adopted: Option<i32>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stage {
    /// With the descriptor that tells how its exec goes.
    Starting(i32),
    Alive,
    Failing(Fault),
    Failed(Fault),
    Ended {
        status: i32,
        ended_ns: u64,
        usage: Usage,
    },
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fault {
    pub step: u8,
    pub errno: i32,
    pub detail: Vec<u8>,
}

impl Outcome {
    pub fn numbers(self) -> (u8, i32) {
        match self {
            Outcome::None => (0, 0),
            Outcome::Done => (1, 0),
            Outcome::Silent => (2, 0),
            Outcome::Ended => (3, 0),
            Outcome::Refused(errno) => (4, errno),
            Outcome::Unread => (5, 0),
        }
    }

    /// What a later version may say beyond these was no success.
    pub fn from_numbers(number: u8, errno: i32) -> Outcome {
        match number {
            0 => Outcome::None,
            1 => Outcome::Done,
            2 => Outcome::Silent,
            3 => Outcome::Ended,
            5 => Outcome::Unread,
            _ => Outcome::Refused(errno),
        }
    }
}

impl Ledger {
    pub fn encode(&self) -> Vec<u8> {
        let mut all = MAGIC.to_vec();
        all.extend(VERSION.to_le_bytes());
        all.extend(READABLE_BY.to_le_bytes());
        put(&mut all, self.keeper.write());
        if let Some(door) = &self.door {
            let record = Writer::new(DOOR);
            put(&mut all, record.i32(door.fd).u64(door.dev).u64(door.ino));
        }
        for entry in &self.entries {
            put(&mut all, entry.write());
        }
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        put(&mut all, Writer::new(END).u32(count));
        all
    }

    /// None when it is no book, cut short, or says that our version would misread it.
    pub fn decode(bytes: &[u8]) -> Option<Ledger> {
        let mut reader = Reader(bytes.strip_prefix(MAGIC)?);
        let _version = reader.u16()?;
        if reader.u16()? > VERSION {
            return None;
        }
        let (mut ledger, mut keeper) = (Ledger::default(), None);
        loop {
            let record = reader.bytes()?;
            let mut record = Reader(&record);
            match record.u8()? {
                KEEPER => keeper = Some(Keeper::read(&mut record)?),
                DOOR => {
                    ledger.door = Some(Door {
                        fd: record.i32()?,
                        dev: record.u64()?,
                        ino: record.u64()?,
                    });
                }
                ENTRY => ledger.entries.push(Entry::read(&mut record)?),
                END => {
                    let whole = u32::try_from(ledger.entries.len()) == Ok(record.u32()?);
                    ledger.keeper = keeper?;
                    return whole.then_some(ledger);
                }
                _ => {}
            }
        }
    }

    /// Every descriptor that is named.
    pub fn fds(&self) -> Vec<i32> {
        let mut fds: Vec<i32> = self.door.iter().map(|door| door.fd).collect();
        for entry in &self.entries {
            fds.extend(entry.slots.iter().flatten());
            for process in &entry.processes {
                if let Stage::Starting(report) = process.stage {
                    fds.push(report);
                }
                fds.extend(process.adopted);
            }
        }
        fds
    }
}

fn put(all: &mut Vec<u8>, record: Writer) {
    let Writer(record) = record;
    all.extend(Writer(Vec::new()).bytes(&record, RECORD_BYTES_MAX).0);
}

/// Cut where they would be when they are handed on.
fn words(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    let mut words = reader.bytes()?;
    words.truncate(DETAIL_BYTES_MAX);
    Some(words)
}

impl Keeper {
    fn write(&self) -> Writer {
        let (outcome, errno) = self.outcome.numbers();
        let crashes = self.crashes.get(..CRASHES_MAX).unwrap_or(&self.crashes);
        let mut writer = Writer::new(KEEPER)
            .u64(self.untold_signals)
            .u8(u8::from(self.ending.is_some()))
            .u64(self.nofile.0)
            .u64(self.nofile.1)
            .bytes(&self.oom, DETAIL_BYTES_MAX)
            .u32(self.starts)
            .u64(self.delay_ns)
            .u8(u8::try_from(crashes.len()).unwrap_or(0));
        for at in crashes {
            writer = writer.u64(*at);
        }
        let ending = self.ending.unwrap_or_default();
        let writer = writer.u8(outcome).i32(errno);
        let writer = writer.u8(ending.code).u64(ending.until_ns);
        writer.u64(self.calm_until_ns)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Keeper> {
        let untold_signals = reader.u64()?;
        let ends = reader.flag()?;
        let mut keeper = Keeper {
            untold_signals,
            ending: None,
            nofile: (reader.u64()?, reader.u64()?),
            oom: words(reader)?,
            starts: reader.u32()?,
            delay_ns: reader.u64()?,
            crashes: {
                let count = reader.u8()?;
                let crashes: Option<Vec<u64>> = (0..count).map(|_| reader.u64()).collect();
                // The last ones come first; so many are handed on.
                let mut crashes = crashes?;
                crashes.truncate(CRASHES_MAX);
                crashes
            },
            outcome: Outcome::from_numbers(reader.u8()?, reader.i32()?),
            calm_until_ns: 0,
        };
        let ending = Ending {
            code: reader.u8().unwrap_or(0),
            until_ns: reader.u64().unwrap_or(0),
        };
        keeper.ending = ends.then_some(ending);
        keeper.calm_until_ns = reader.u64().unwrap_or(0);
        Some(keeper)
    }
}

impl Entry {
    fn write(&self) -> Writer {
        let mut writer = Writer::new(ENTRY)
            .u32(self.id)
            .bytes(&self.blob, BLOB_BYTES_MAX)
            .u8(u8::try_from(SLOTS).unwrap_or(0));
        for slot in self.slots {
            writer = writer.i32(slot.unwrap_or(-1));
        }
        writer = writer.u8(u8::try_from(self.processes.len()).unwrap_or(0));
        for process in &self.processes {
            let Writer(process) = process.write();
            writer = writer.bytes(&process, RECORD_BYTES_MAX);
        }
        writer
    }

    fn read(reader: &mut Reader<'_>) -> Option<Entry> {
        let (id, blob) = (reader.u32()?, reader.bytes()?);
        // Cut, it would say something else; so the book is refused, and who wrote it goes on.
        if blob.len() > BLOB_BYTES_MAX {
            return None;
        }
        let mut slots = [None; SLOTS];
        for at in 0..reader.u8()? {
            let fd = reader.i32()?;
            // Slots of a later version are passed over.
            if let Some(slot) = slots.get_mut(usize::from(at)) {
                *slot = (fd >= 0).then_some(fd);
            }
        }
        let mut processes = Vec::new();
        let count = reader.u8()?;
        if usize::from(count) > ROLES {
            return None;
        }
        for _ in 0..count {
            processes.push(Process::read(&mut Reader(&reader.bytes()?))?);
        }
        Some(Entry {
            id,
            slots,
            processes,
            blob,
        })
    }
}

impl Process {
    fn write(&self) -> Writer {
        let writer = Writer(Vec::new())
            .u8(self.role)
            .i32(self.pid)
            .u64(self.forked_ns);
        let writer = match &self.stage {
            Stage::Starting(report) => writer.u8(1).i32(*report),
            Stage::Alive => writer.u8(2),
            Stage::Failing(fault) => fault.write(writer.u8(3)),
            Stage::Failed(fault) => fault.write(writer.u8(4)),
            Stage::Ended {
                status,
                ended_ns,
                usage,
            } => {
                let writer = writer.u8(5).i32(*status).u64(*ended_ns);
                let writer = writer.u64(usage.user_us).u64(usage.system_us);
                writer.u64(usage.peak_kib)
            }
        };
        match self.adopted {
            Some(pidfd) => writer.u8(1).i32(pidfd),
            None => writer.u8(0),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Process> {
        let role = reader.u8()?;
        let mut process = Process {
            role,
            pid: reader.i32()?,
            forked_ns: reader.u64()?,
            stage: match reader.u8()? {
                1 => Stage::Starting(reader.i32()?),
                2 => Stage::Alive,
                3 => Stage::Failing(Fault::read(reader)?),
                4 => Stage::Failed(Fault::read(reader)?),
                5 => Stage::Ended {
                    status: reader.i32()?,
                    ended_ns: reader.u64()?,
                    usage: Usage {
                        user_us: reader.u64()?,
                        system_us: reader.u64()?,
                        peak_kib: reader.u64()?,
                    },
                },
                // To take a living process for none would be the start of a second one.
                _ => return None,
            },
            adopted: None,
        };
        // Not said by older versions.
        if reader.flag().unwrap_or(false) {
            process.adopted = Some(reader.i32()?);
        }
        (usize::from(role) < ROLES && process.pid > 0).then_some(process)
    }

    pub fn key(&self, id: u32) -> Key {
        Key {
            id,
            role: self.role,
        }
    }
}

impl Fault {
    fn write(&self, writer: Writer) -> Writer {
        let writer = writer.u8(self.step).i32(self.errno);
        writer.bytes(&self.detail, DETAIL_BYTES_MAX)
    }

    fn read(reader: &mut Reader<'_>) -> Option<Fault> {
        Some(Fault {
            step: reader.u8()?,
            errno: reader.i32()?,
            detail: words(reader)?,
        })
    }
}

#[cfg(test)]
mod tests;
