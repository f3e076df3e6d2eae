//! Cuts a stream of bytes into lines, holding back no more than one unfinished line.
//!
//! Pure. A line that is longer than the limit is passed on in parts: its head as soon as it is
//! full, the rest as it comes. So memory is bounded whatever a service writes.

use memchr::memchr;
use std::time::Duration;

/// A line, or a part of one.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// Without its newline.
    pub text: &'a [u8],
    /// For the first piece of a line: when its first byte came.
    pub begun: Option<Duration>,
    /// The newline came, or the stream ended: no more pieces of this line.
    pub ended: bool,
}

/// Longest piece of a line behind its head: so much is in hand at most when a file ends in it.
const PART_BYTES_MAX: usize = 8192;

/// Where in a line the stream stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// Before the first byte of a line.
    #[default]
    Start,
    /// Within a line of which nothing was passed on yet.
    Held,
    /// Within a line whose head was passed on.
    Rest,
}

/// The cutter of one stream.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    /// The unfinished line; what a piece was just made of stays until the next call.
    held: Vec<u8>,
    since: Duration,
    place: Place,
}

impl Lines {
    /// A stream whose first bytes go on with a line that is on disk already.
    pub fn within_a_line() -> Lines {
        Lines {
            place: Place::Rest,
            ..Lines::default()
        }
    }

    /// A stream that goes on where another one stood.
    pub fn at(place: Place, since: Duration, held: Vec<u8>) -> Lines {
        Lines { held, since, place }
    }

    pub fn place(&self) -> Place {
        self.place
    }

    /// What is held back, and since when.
    pub fn held(&self) -> (&[u8], Duration) {
        match self.place {
            Place::Held => (&self.held, self.since),
            Place::Start | Place::Rest => (&[], self.since),
        }
    }

    /// Stands behind a piece that others have cut.
    pub fn be_behind(&mut self, piece_ended: bool) {
        self.place = match piece_ended {
            true => Place::Start,
            false => Place::Rest,
        };
    }

    /// The next piece, its bytes taken off `input`. None when the input is used up; an unfinished
    /// line shorter than `limit` is then held. `now` is when the input came.
    pub fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i [u8],
        now: Duration,
        limit: usize,
    ) -> Option<Piece<'s>> {
        if self.place != Place::Held && !self.held.is_empty() {
            self.held = Vec::new();
        }
        if input.is_empty() {
            return None;
        }
        match self.place {
            Place::Start => self.at_start(input, now, limit),
            Place::Held => self.in_held(input, limit),
            Place::Rest => Some(self.in_rest(input)),
        }
    }

    /// The end of the stream, or of the run that wrote it: the last piece of an unfinished line.
    /// `goes_on`: what may come nevertheless belongs to that line.
    pub fn end(&mut self, goes_on: bool) -> Option<Piece<'_>> {
        let place = self.place;
        if goes_on && place != Place::Start {
            self.place = Place::Rest;
        } else {
            self.place = Place::Start;
        }
        let (text, begun) = match place {
            Place::Start => return None,
            Place::Held => (&self.held[..], Some(self.since)),
            Place::Rest => (&[][..], None),
        };
        Some(Piece {
            text,
            begun,
            ended: true,
        })
    }

    /// Bytes held back.
    pub fn held_bytes(&self) -> usize {
        match self.place {
            Place::Held => self.held.len(),
            Place::Start | Place::Rest => 0,
        }
    }

    pub fn is_within_a_line(&self) -> bool {
        self.place != Place::Start
    }

    fn at_start<'i>(
        &mut self,
        input: &mut &'i [u8],
        now: Duration,
        limit: usize,
    ) -> Option<Piece<'i>> {
        let window = &input[..input.len().min(limit.saturating_add(1))];
        let (text, ended) = if let Some(at) = memchr(b'\n', window) {
            (cut(input, at, 1), true)
        } else if input.len() > limit {
            self.place = Place::Rest;
            (cut(input, limit, 0), false)
        } else {
            self.held = input.to_vec();
            self.since = now;
            self.place = Place::Held;
            *input = &[];
            return None;
        };
        Some(Piece {
            text,
            begun: Some(now),
            ended,
        })
    }

    fn in_held(&mut self, input: &mut &[u8], limit: usize) -> Option<Piece<'_>> {
        let room = limit.saturating_sub(self.held.len());
        let window = &input[..input.len().min(room.saturating_add(1))];
        let ended = if let Some(at) = memchr(b'\n', window) {
            self.held.extend_from_slice(cut(input, at, 1));
            self.place = Place::Start;
            true
        } else if input.len() > room {
            self.held.extend_from_slice(cut(input, room, 0));
            self.place = Place::Rest;
            false
        } else {
            self.held.extend_from_slice(input);
            *input = &[];
            return None;
        };
        Some(Piece {
            text: &self.held,
            begun: Some(self.since),
            ended,
        })
    }

    fn in_rest<'i>(&mut self, input: &mut &'i [u8]) -> Piece<'i> {
        let window = &input[..input.len().min(PART_BYTES_MAX)];
        let (text, ended) = match memchr(b'\n', window) {
            Some(at) => (cut(input, at, 1), true),
            None => (cut(input, window.len(), 0), false),
        };
        if ended {
            self.place = Place::Start;
        }
        Piece {
            text,
            begun: None,
            ended,
        }
    }
}

/// Takes `bytes` off the front of the input, and drops `skip` more.
fn cut<'a>(input: &mut &'a [u8], bytes: usize, skip: usize) -> &'a [u8] {
    let (text, rest) = input.split_at(bytes);
    *input = &rest[skip..];
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What comes out when the chunks go in: whole lines, joined from their pieces.
    fn lines_of(chunks: &[&[u8]], limit: usize, end: bool) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut lines = Lines::default();
        let mut whole = Vec::new();
        let mut open = Vec::new();
        let mut add = |piece: Piece<'_>, open: &mut Vec<u8>| {
            open.extend_from_slice(piece.text);
            if piece.ended {
                whole.push(std::mem::take(open));
            }
        };
        for chunk in chunks {
            let mut input = *chunk;
            while let Some(piece) = lines.next(&mut input, Duration::ZERO, limit) {
                assert!(piece.begun.is_none() || piece.text.len() <= limit);
                add(piece, &mut open);
            }
            assert!(lines.held_bytes() <= limit);
        }
        if end && let Some(piece) = lines.end(false) {
            add(piece, &mut open);
        }
        (whole, open)
    }

    #[test]
    fn a_line_in_two_chunks_has_the_time_of_its_first_byte() {
        let mut lines = Lines::default();
        let mut input = &b"one\ntw"[..];
        let first = Duration::from_secs(1);
        assert_eq!(
            lines.next(&mut input, first, 100).map(|p| p.text.to_vec()),
            Some(b"one".to_vec())
        );
        assert_eq!(lines.next(&mut input, first, 100), None);
        let mut more = &b"o\n"[..];
        let piece = lines.next(&mut more, Duration::from_secs(9), 100);
        assert_eq!(
            piece,
            Some(Piece {
                text: b"two",
                begun: Some(first),
                ended: true
            })
        );
    }

    #[test]
    fn a_line_beyond_the_limit_is_passed_on_before_its_newline_comes() {
        let mut lines = Lines::default();
        let mut input = &b"abcdefgh"[..];
        let head = lines.next(&mut input, Duration::ZERO, 3);
        assert_eq!(
            head.map(|p| (p.text.to_vec(), p.ended)),
            Some((b"abc".to_vec(), false))
        );
        let rest = lines.next(&mut input, Duration::ZERO, 3);
        assert_eq!(
            rest.map(|p| (p.text.to_vec(), p.ended)),
            Some((b"defgh".to_vec(), false))
        );
        assert_eq!(lines.held_bytes(), 0);
        let end = lines.end(false);
        assert_eq!(end.map(|p| (p.text.len(), p.ended)), Some((0, true)));
        assert_eq!(lines.end(false), None);
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_one_piece() {
        assert_eq!(lines_of(&[b"abc\nabc", b"\n"], 3, false).0, vec![b"abc"; 2]);
    }

    #[test]
    fn a_held_line_costs_nothing_once_it_is_passed_on() {
        let mut lines = Lines::default();
        let mut input = &b"half"[..];
        assert_eq!(lines.next(&mut input, Duration::ZERO, 100), None);
        let mut input = &b"\n"[..];
        assert!(lines.next(&mut input, Duration::ZERO, 100).is_some());
        assert_eq!(lines.next(&mut input, Duration::ZERO, 100), None);
        assert_eq!(lines.held.capacity(), 0);
    }

    proptest! {
        #[test]
        fn chunks_give_the_lines_of_the_whole(
            text in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'a'), any::<u8>()], 0..200),
            cuts in proptest::collection::vec(0usize..200, 0..8),
            limit in 1usize..40,
            end in any::<bool>(),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(text.len())).collect();
            cuts.push(0);
            cuts.push(text.len());
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|w| &text[w[0]..w[1]]).collect();
            let (lines, _) = lines_of(&chunks, limit, end);
            let mut expected: Vec<Vec<u8>> =
                text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
            let last = expected.pop().unwrap_or_default();
            if end && !last.is_empty() {
                expected.push(last);
            }
            prop_assert_eq!(lines, expected);
        }
    }
}
