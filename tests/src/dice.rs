//! Numbers that look random and are the same each time: SplitMix64.

/// The source of all that varies.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that fall the same for the same seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Less than `n`, which is not zero.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn ten(&mut self) -> [u8; 10] {
        let mut ten = [0; 10];
        let (eight, two) = (self.next().to_le_bytes(), self.next().to_le_bytes());
        ten[..8].copy_from_slice(&eight);
        ten[8..].copy_from_slice(&two[..2]);
        ten
    }

    /// A full id as restic makes them.
    pub(crate) fn hex_id(&mut self) -> String {
        (0..4).map(|_| format!("{:016x}", self.next())).collect()
    }
}
