//! What the keeper is to start, and with which streams.

use super::Key;
use super::bytes::{Reader, Writer};

/// Which program a `Spawn` starts; its path follows from this alone, so that the keeper parses
/// nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum What {
    /// `./run`
    Run,
    /// `./finish CODE STATUS`
    Finish(i32, i32),
    /// `./check`
    Check,
    /// `./control/<letter>`
    Control(u8),
    /// Our own binary as launch, with a plan as descriptor 3.
    Launch,
    /// Our own binary as the scribe, with its link as descriptor 3; whether and how it repeats the
    /// lines on standard output.
    Scribe { echo: Option<Format> },
}

/// The form of lines on standard output and standard error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// `name | line`
    #[default]
    Text,
    /// The same with the time in front.
    Stamped,
    /// One JSON object a line.
    Json,
}

/// Where one of stdin, stdout, stderr of a new process comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stream {
    /// The keeper's own.
    Keep,
    /// /dev/null
    Null,
    /// The reading end of the pipe stored for this service.
    PipeOut(u32),
    /// The writing end of it.
    PipeIn(u32),
    /// The writing end, open for reading as well: it outlives every other reader.
    PipeBoth(u32),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spawn {
    pub key: Key,
    pub what: What,
    /// Become a session leader.
    pub session: bool,
    pub streams: [Stream; 3],
    /// A directory rides along, first; without it the child stays in the keeper's.
    pub directory: bool,
    /// A descriptor for the child's 3 rides along, last.
    pub extra: bool,
}

impl Spawn {
    pub(super) fn write(&self, writer: Writer) -> Writer {
        let mut writer = self.what.write(writer.key(self.key));
        for stream in self.streams {
            writer = stream.write(writer);
        }
        let flags = [self.session, self.directory, self.extra];
        flags
            .into_iter()
            .fold(writer, |writer, flag| writer.u8(u8::from(flag)))
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Spawn> {
        Some(Spawn {
            key: reader.key()?,
            what: What::read(reader)?,
            streams: [
                Stream::read(reader)?,
                Stream::read(reader)?,
                Stream::read(reader)?,
            ],
            session: reader.flag()?,
            directory: reader.flag()?,
            extra: reader.flag()?,
        })
    }
}

impl What {
    fn write(self, writer: Writer) -> Writer {
        let (number, first, second) = match self {
            What::Run => (0, 0, 0),
            What::Finish(code, status) => (1, code, status),
            What::Check => (2, 0, 0),
            What::Control(letter) => (3, i32::from(letter), 0),
            What::Launch => (4, 0, 0),
            What::Scribe { echo } => (5, echo.map_or(0, Format::number), 0),
        };
        writer.u8(number).i32(first).i32(second)
    }

    fn read(reader: &mut Reader<'_>) -> Option<What> {
        let (number, first, second) = (reader.u8()?, reader.i32()?, reader.i32()?);
        Some(match number {
            0 => What::Run,
            1 => What::Finish(first, second),
            2 => What::Check,
            // Only letters and digits: the byte becomes part of a path.
            3 => What::Control(u8::try_from(first).ok().filter(u8::is_ascii_alphanumeric)?),
            4 => What::Launch,
            5 => What::Scribe {
                echo: Format::from_number(first),
            },
            _ => return None,
        })
    }
}

impl Format {
    pub const ALL: [Format; 3] = [Format::Text, Format::Stamped, Format::Json];

    pub fn name(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Stamped => "stamped",
            Format::Json => "json",
        }
    }

    pub fn named(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    fn number(self) -> i32 {
        match self {
            Format::Text => 1,
            Format::Stamped => 2,
            Format::Json => 3,
        }
    }

    fn from_number(number: i32) -> Option<Format> {
        Format::ALL
            .into_iter()
            .find(|format| format.number() == number)
    }
}

impl Stream {
    fn write(self, writer: Writer) -> Writer {
        match self {
            Stream::Keep => writer.u8(0).u32(0),
            Stream::Null => writer.u8(1).u32(0),
            Stream::PipeOut(id) => writer.u8(2).u32(id),
            Stream::PipeIn(id) => writer.u8(3).u32(id),
            Stream::PipeBoth(id) => writer.u8(4).u32(id),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Stream> {
        let (number, id) = (reader.u8()?, reader.u32()?);
        Some(match number {
            0 => Stream::Keep,
            1 => Stream::Null,
            2 => Stream::PipeOut(id),
            3 => Stream::PipeIn(id),
            4 => Stream::PipeBoth(id),
            _ => return None,
        })
    }
}
