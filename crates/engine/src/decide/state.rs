//! What decide keeps between two runs.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use suture_event::{Cause, EpochNote, Fact, Timestamp};
use suture_remediate::PutAway;

use super::{Decide, Digests, ScopeState};
use crate::{ENGINE_VERSION, EngineError, ahead::Ahead, misfit, reorder::Reorder, seal::Seals, twice::Twice};

#[derive(Serialize, Deserialize)]
struct Snapshot {
    engine: u32,
    reorder: Reorder,
    now: Timestamp,
    scopes: Vec<(Arc<str>, ScopeState)>,
    #[serde(default)]
    away: Vec<(Arc<str>, PutAway)>,
    #[serde(default)]
    lost: Option<EpochNote>,
    #[serde(default)]
    unsaid: Vec<(EpochNote, Option<Cause>)>,
    #[serde(default)]
    ahead: Ahead,
    #[serde(default)]
    early: VecDeque<(Timestamp, Fact)>,
    #[serde(default)]
    twice: Twice,
    #[serde(default = "Seals::of_old")]
    seals: Seals,
    digests: Digests,
}

/// [`Snapshot`], borrowed.
#[derive(Serialize)]
struct SnapshotView<'a> {
    engine: u32,
    reorder: &'a Reorder,
    now: Timestamp,
    scopes: Vec<(&'a Arc<str>, &'a ScopeState)>,
    away: Vec<(&'a Arc<str>, &'a PutAway)>,
    lost: &'a Option<EpochNote>,
    unsaid: &'a [(EpochNote, Option<Cause>)],
    ahead: &'a Ahead,
    early: &'a VecDeque<(Timestamp, Fact)>,
    twice: &'a Twice,
    seals: &'a Seals,
    digests: Digests,
}

impl Decide {
    /// The whole state, to continue from elsewhere.
    ///
    /// # Errors
    /// [`EngineError::Snapshot`] where the state can't be written.
    pub fn snapshot(&self) -> Result<Vec<u8>, EngineError> {
        let scopes: Vec<(&Arc<str>, &ScopeState)> = self.scopes.iter().collect();
        let view = SnapshotView {
            engine: ENGINE_VERSION,
            reorder: &self.reorder,
            now: self.now,
            scopes,
            away: self.away.iter().collect(),
            lost: &self.lost,
            unsaid: &self.unsaid,
            ahead: &self.ahead,
            early: &self.early,
            twice: &self.twice,
            seals: &self.seals,
            digests: self.digests,
        };
        rmp_serde::to_vec_named(&view).map_err(|e| snapshot_error(&e))
    }

    /// Continues from a snapshot, under this fold's pipeline, whichever the snapshot was made under.
    ///
    /// # Errors
    /// [`EngineError::Snapshot`] where the bytes are no snapshot of this fold; the state is then as it was.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let snapshot: Snapshot = rmp_serde::from_slice(bytes).map_err(|e| snapshot_error(&e))?;
        if let Some(reason) = misfit(snapshot.engine) {
            return Err(EngineError::Snapshot {
                shard: "decide".to_owned(),
                reason,
            });
        }
        let mut scopes = BTreeMap::new();
        for (scope, state) in snapshot.scopes {
            // another pipeline judges what comes; what is open stays
            let remediator = state
                .remediator
                .with_options(self.pipeline.remediate.clone())
                .map_err(|e| EngineError::Remediate {
                    scope: scope.to_string(),
                    reason: e.to_string(),
                })?;
            let mut diagnoser = state.diagnoser;
            diagnoser.reconfigure(self.pipeline.diagnose.clone());
            scopes.insert(
                scope,
                ScopeState {
                    diagnoser,
                    remediator,
                    ..state
                },
            );
        }
        self.reorder.adopt(snapshot.reorder);
        for state in scopes.values_mut() {
            // an earlier program did not know: any that has had telemetry may have had some of it
            state.shards.get_or_insert_with(|| self.reorder.with_telemetry());
        }
        self.now = snapshot.now;
        self.scopes = scopes;
        self.away = snapshot.away.into_iter().collect();
        self.lost = snapshot.lost;
        self.unsaid = snapshot.unsaid;
        self.ahead = snapshot.ahead;
        self.early = snapshot.early;
        self.twice = snapshot.twice;
        self.seals = snapshot.seals;
        self.digests = snapshot.digests;
        Ok(())
    }
}

fn snapshot_error(reason: &dyn std::fmt::Display) -> EngineError {
    EngineError::Snapshot {
        shard: "decide".to_owned(),
        reason: reason.to_string(),
    }
}
