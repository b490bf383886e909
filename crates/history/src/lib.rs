//! Everything DataFusion: SQL expressions of pipeline files, queries over what a replay or the archive holds
