//! Whatever comes from outside, no decoder panics: noise, and mutations of the real thing.
//!
//! The seed is fixed, so a failure repeats; `KINGLET_ROUNDS` multiplies the rounds (`tests/run long`).

use kinglet::kernel::{ipvs, message, nft, route};

/// xorshift64*: small, fast, the same everywhere.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most)).map(|_| self.next() as u8).collect()
    }

    /// Flips, cuts, doubles or inserts a few bytes.
    #[allow(dead_code)]
    fn mutate(&mut self, real: &[u8]) -> Vec<u8> {
        let mut bytes = real.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(5) {
                0 if !bytes.is_empty() => bytes[at] = self.next() as u8,
                1 => bytes.truncate(at),
                2 => drop(bytes.splice(at..at, self.bytes(9))),
                3 if !bytes.is_empty() => drop(
                    bytes.drain(at..(at + self.below(40)).min(real.len().max(at)).min(bytes.len())),
                ),
                _ => {
                    let piece = bytes[at..bytes.len().min(at + 64)].to_vec();
                    bytes.splice(at..at, piece);
                }
            }
        }
        bytes
    }
}

fn rounds(base: usize) -> usize {
    base * std::env::var("KINGLET_ROUNDS").ok().and_then(|r| r.parse::<usize>().ok()).unwrap_or(1)
}

fn read_everything(datagram: &[u8]) {
    let of = kinglet::state::Virtual {
        addr: [10, 96, 0, 1].into(),
        protocol: kinglet::state::Protocol::Tcp,
        port: 80,
    };
    for frame in message::frames(datagram).flatten() {
        let _ = frame.answer();
        let body = frame.body();
        let _ = (route::read_link(body), route::read_address(body), route::read_route(body));
        let _ = (ipvs::read_service(body), ipvs::read_real(body, &of));
        let _ = (nft::read_set(body), nft::read_elements(body));
    }
}

#[test]
fn noise_from_netlink_is_never_a_panic() {
    let mut noise = Noise(7);
    for _ in 0..rounds(50_000) {
        let mut datagram = noise.bytes(200);
        read_everything(&datagram);
        // With a right length it gets further in.
        if datagram.len() >= 16 {
            let len = datagram.len() as u32;
            datagram[..4].copy_from_slice(&len.to_ne_bytes());
            read_everything(&datagram);
        }
    }
}
