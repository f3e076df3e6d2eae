//! Chance, from one number.

use super::{MS, SECOND};

/// splitmix64.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// True once in `n` throws.
    pub fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(super) fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[usize::try_from(self.below(all.len() as u64)).unwrap_or(0)]
    }

    /// Mostly short, seldom long.
    pub(super) fn lifetime(&mut self) -> u64 {
        match self.below(10) {
            0..=2 => self.below(5 * MS),
            3..=5 => self.below(2 * SECOND),
            6..=7 => self.below(20 * SECOND),
            8 => self.below(100 * SECOND),
            _ => u64::MAX / 4,
        }
    }
}
