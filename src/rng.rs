//! A generator of pseudo-random numbers: xorshift64* (Vigna, "An experimental exploration of Marsaglia's
//! xorshift generators, scrambled", 2016).
//!
//! It spreads retries and packets in time and drives randomized tests. The same seed gives the same
//! numbers in every run. It is not suitable for cryptography.

/// A generator, with its state. The state must not be 0.
#[derive(Clone, Debug)]
pub(crate) struct Rng(pub u64);

impl Rng {
    /// Returns a number from 0 to `limit` - 1. `limit` must be from 1 to 2^31.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % limit
    }

    /// Returns a random element.
    #[cfg(test)]
    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Returns true once in `count` calls on average.
    #[cfg(test)]
    pub(crate) fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_sequences_that_reach_every_number() {
        let numbers = |seed| {
            let mut rng = Rng(seed);
            std::iter::repeat_with(move || rng.below(10)).take(200).collect::<Vec<_>>()
        };
        assert_eq!(numbers(7), numbers(7));
        assert_ne!(numbers(7), numbers(8));
        assert!((0..10).all(|number| numbers(7).contains(&number)));
        // The first output for the seed 1 is 0x47e4_ce4b_896c_dd1d, of which the upper 31 bits are used.
        assert_eq!(Rng(1).below(1 << 31), 0x23f2_6725);
    }
}
