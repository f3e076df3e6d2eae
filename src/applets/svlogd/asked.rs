//! What the command line asks for.

use crate::applets::options::{Given, Options};
use crate::log::Stamp;
use crate::log::settings::SVLOGD_LINE_BYTES_MAX;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

/// svlogd's buffer; what is left of it is that a line must be shorter.
const BUFFER_BYTES_DEFAULT: usize = 1024;
/// A line longer than this is not held back whatever `-l` says: memory stays bounded.
const LINE_BYTES_MAX: usize = 1 << 30;

#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    pub stamp: Stamp,
    pub verbose: bool,
    pub line_bytes_max: usize,
    /// What stands for a byte that is replaced; None: none is.
    pub replacement: Option<u8>,
    /// Replaced besides those that can't be printed.
    pub replaced: Vec<u8>,
    pub directories: Vec<OsString>,
}

/// Or what is said instead, without its last newline.
pub fn read(args: &[OsString]) -> Result<Asked, Vec<u8>> {
    let name = args.first().map_or(&b"svlogd"[..], |name| name.as_bytes());
    let usage = |complaint: &[&[u8]]| {
        let text: &[u8] = b" [-ttv] [-r c] [-R abc] [-l len] [-b buflen] dir ...\n";
        [&complaint.concat(), &b"usage: "[..], name, text].concat()
    };
    let mut asked = Asked {
        stamp: Stamp::None,
        verbose: false,
        line_bytes_max: SVLOGD_LINE_BYTES_MAX,
        replacement: None,
        replaced: Vec::new(),
        directories: Vec::new(),
    };
    let mut buffer = BUFFER_BYTES_DEFAULT;
    let mut stamps = 0;
    let mut options = Options::new(args.get(1..).unwrap_or_default(), "R:r:l:b:tvV");
    for given in options.by_ref() {
        match given {
            Given::Flag(b't') => stamps += 1,
            Given::Flag(b'v') => asked.verbose = true,
            Given::Flag(_) => {
                let version = concat!("outlast ", env!("CARGO_PKG_VERSION"), "\n");
                return Err(usage(&[version.as_bytes()]));
            }
            Given::Value(b'r', value) => match value.as_bytes() {
                [byte] => asked.replacement = Some(*byte),
                _ => return Err(usage(&[])),
            },
            Given::Value(b'R', value) => {
                asked.replaced = value.into_vec();
                asked.replacement = asked.replacement.or(Some(b'_'));
            }
            Given::Value(b'l', value) => {
                asked.line_bytes_max = number(&value, SVLOGD_LINE_BYTES_MAX);
            }
            Given::Value(_, value) => buffer = number(&value, BUFFER_BYTES_DEFAULT),
            Given::Unknown(letter) => {
                return Err(usage(&[name, b": illegal option -- ", &[letter], b"\n"]));
            }
            Given::Incomplete(letter) => {
                let why: &[u8] = b": option requires an argument -- ";
                return Err(usage(&[name, why, &[letter], b"\n"]));
            }
        }
    }
    asked.stamp = match stamps {
        0 => Stamp::None,
        1 => Stamp::Tai64n,
        2 => Stamp::Human,
        _ => Stamp::Iso,
    };
    asked.directories = options.operands().to_vec();
    if asked.directories.is_empty() || buffer <= asked.line_bytes_max {
        return Err(usage(&[]));
    }
    asked.line_bytes_max = asked.line_bytes_max.min(LINE_BYTES_MAX);
    Ok(asked)
}

/// The number that the text begins with; `otherwise` for none and for zero.
fn number(text: &OsStr, otherwise: usize) -> usize {
    let digits = text
        .as_bytes()
        .iter()
        .take_while(|byte| byte.is_ascii_digit());
    let number = digits.fold(0usize, |sum, digit| {
        sum.saturating_mul(10)
            .saturating_add(usize::from(digit - b'0'))
    });
    match number {
        0 => otherwise,
        number => number,
    }
}
