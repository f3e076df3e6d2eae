//! Options as runit's programs read them: they end at the first operand or behind `--`, letters
//! may be joined (`-vt`), an argument may be joined to its letter (`-ugitdaemon`), and a lone `-` is
//! an operand.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Given {
    Flag(u8),
    Value(u8, OsString),
    /// `NAME: illegal option -- X`
    Unknown(u8),
    /// `NAME: option requires an argument -- X`
    Incomplete(u8),
}

pub struct Options<'a> {
    args: &'a [OsString],
    /// Letters; one followed by `:` takes an argument.
    known: &'static [u8],
    next: usize,
    /// Bytes of the current cluster that are read; 0 between clusters.
    within: usize,
    ended: bool,
}

impl<'a> Options<'a> {
    /// `args` without the program's name.
    pub fn new(args: &'a [OsString], known: &'static str) -> Options<'a> {
        Options {
            args,
            known: known.as_bytes(),
            next: 0,
            within: 0,
            ended: false,
        }
    }

    /// What follows the options; to be asked when there are none left.
    pub fn operands(&self) -> &'a [OsString] {
        self.args.get(self.next..).unwrap_or_default()
    }

    fn end_of_cluster(&mut self) {
        self.next += 1;
        self.within = 0;
    }
}

impl Iterator for Options<'_> {
    type Item = Given;

    fn next(&mut self) -> Option<Given> {
        if self.ended {
            return None;
        }
        let word = self.args.get(self.next)?.as_bytes();
        if self.within == 0 {
            match word {
                // djb's getopt looks no further than at the second dash.
                [b'-', b'-', ..] => {
                    self.next += 1;
                    self.ended = true;
                    return None;
                }
                [b'-', _, ..] => self.within = 1,
                _ => {
                    self.ended = true;
                    return None;
                }
            }
        }
        let letter = *word.get(self.within)?;
        self.within += 1;
        let rest = word.get(self.within..).unwrap_or_default();
        let place = self
            .known
            .iter()
            .position(|known| *known == letter && letter != b':');
        let takes_value = place.is_some_and(|place| self.known.get(place + 1) == Some(&b':'));
        if !takes_value {
            if rest.is_empty() {
                self.end_of_cluster();
            }
            return Some(match place {
                Some(_) => Given::Flag(letter),
                None => Given::Unknown(letter),
            });
        }
        self.end_of_cluster();
        if !rest.is_empty() {
            return Some(Given::Value(letter, OsStr::from_bytes(rest).to_owned()));
        }
        match self.args.get(self.next) {
            Some(value) => {
                self.next += 1;
                Some(Given::Value(letter, value.clone()))
            }
            None => Some(Given::Incomplete(letter)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str], known: &'static str) -> (Vec<Given>, Vec<String>) {
        let args: Vec<OsString> = args.iter().map(OsString::from).collect();
        let mut options = Options::new(&args, known);
        let given = options.by_ref().collect();
        let operands = options.operands().iter();
        (
            given,
            operands
                .map(|it| it.to_string_lossy().into_owned())
                .collect(),
        )
    }

    fn value(letter: u8, text: &str) -> Given {
        Given::Value(letter, text.into())
    }

    #[test]
    fn letters_and_arguments_may_be_joined() {
        let (given, operands) = read(&["-vugitdaemon", "-n", "5", "prog", "-x"], "vu:n:");
        assert_eq!(
            given,
            [
                Given::Flag(b'v'),
                value(b'u', "gitdaemon"),
                value(b'n', "5")
            ]
        );
        assert_eq!(operands, ["prog", "-x"]);
    }

    #[test]
    fn two_dashes_end_the_options_and_one_is_an_operand() {
        assert_eq!(
            read(&["-v", "--", "-v"], "v"),
            (vec![Given::Flag(b'v')], vec!["-v".to_owned()])
        );
        assert_eq!(
            read(&["--version", "-v"], "v"),
            (vec![], vec!["-v".to_owned()])
        );
        assert_eq!(
            read(&["-", "-v"], "v"),
            (vec![], vec!["-".to_owned(), "-v".to_owned()])
        );
    }

    #[test]
    fn unknown_letters_and_missing_arguments_are_told() {
        let (given, _) = read(&["-vx:", "-u"], "vu:");
        assert_eq!(
            given,
            [
                Given::Flag(b'v'),
                Given::Unknown(b'x'),
                Given::Unknown(b':'),
                Given::Incomplete(b'u')
            ]
        );
    }

    #[test]
    fn an_empty_argument_is_an_argument() {
        assert_eq!(read(&["-u", ""], "u:").0, [value(b'u', "")]);
    }
}
