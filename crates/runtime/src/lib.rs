//! Shards over a log: poll, step, commit, snapshot, restore, hand over
