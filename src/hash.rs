//! FNV-1a hashes (Fowler, Noll and Vo; draft-eastlake-fnv). They are fast and the same in every run, and
//! give no protection against an attacker.

/// Returns the 32-bit hash of bytes.
pub(crate) fn fnv1a_32(bytes: &[u8]) -> u32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(0x811c_9dc5, step)
}

/// A 64-bit hash of bytes that arrive in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sum(pub u64);

impl Default for Sum {
    fn default() -> Sum {
        Sum(0xcbf2_9ce4_8422_2325)
    }
}

impl Sum {
    /// Adds the next bytes to the hash.
    pub(crate) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hashes_equal_the_test_vectors_of_the_reference_implementation() {
        assert_eq!(fnv1a_32(b""), 0x811c_9dc5);
        assert_eq!(fnv1a_32(b"a"), 0xe40c_292c);
        assert_eq!(fnv1a_32(b"foobar"), 0xbf9c_f968);
        let mut sum = Sum::default();
        sum.add(b"foo");
        sum.add(b"bar");
        assert_eq!(sum.0, 0x8594_4171_f739_67e8);
    }
}
