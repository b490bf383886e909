//! Playbooks, the ladder of autonomy, verification, reversal and the ledger
