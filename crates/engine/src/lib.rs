//! The two folds, observe and decide, and their snapshots
