//! Consumer kit for remediators: idempotence, outcomes, and the stock executors
