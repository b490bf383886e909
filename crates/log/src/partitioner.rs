//! Where a key goes.

/// The partition of a key among `partitions`: murmur2, as Kafka's own clients place keyed records, so that a Java producer
/// with the same key meets the same partition. `partitions` below one counts as one.
#[must_use]
pub fn partition_of(key: &[u8], partitions: i32) -> i32 {
    let positive = i64::from(murmur2(key) & 0x7fff_ffff);
    let partition = positive % i64::from(partitions.max(1));
    i32::try_from(partition).unwrap_or(0)
}

/// `MurmurHash2` by Austin Appleby with the seed Kafka gives it.
fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    #[allow(clippy::cast_possible_truncation)] // keys are far below 4 GiB; the hash is defined modulo 2^32
    let mut hash = SEED ^ (data.len() as u32);
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = word.iter().rev().fold(0u32, |all, byte| (all << 8) | u32::from(*byte));
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest.iter().rev().fold(0u32, |all, byte| (all << 8) | u32::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_hash_as_kafkas_own_clients_hash_them() {
        // the values that Kafka's own unit test of its Utils.murmur2 lists
        for (key, hash) in [
            ("21", -973_932_308_i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(i32::from_ne_bytes(murmur2(key.as_bytes()).to_ne_bytes()), hash, "{key}");
        }
    }

    #[test]
    fn every_partition_is_met_and_none_beyond() {
        let met: std::collections::BTreeSet<i32> = (0..200)
            .map(|n| partition_of(format!("key {n}").as_bytes(), 7))
            .collect();
        assert_eq!(met.into_iter().collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
        assert_eq!(partition_of(b"any", 0), 0);
    }
}
