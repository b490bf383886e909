//! What a partitioned transactional log is, and one in memory with seeded faults
