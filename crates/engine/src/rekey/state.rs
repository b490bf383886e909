//! Snapshots of the repartition stage: what decoding one record needs to know of those before it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use suture_codec::otlp::Histograms;
use suture_event::Timestamp;

use super::Rekey;
use crate::{ENGINE_VERSION, EngineError, misfit};

#[derive(Serialize, Deserialize)]
struct Snapshot {
    engine: u32,
    digest: u64,
    newest: Timestamp,
    histograms: Histograms,
    versions: Vec<(Arc<str>, Arc<str>)>,
}

impl Rekey {
    /// The whole state, to continue from elsewhere. Nothing may wait to be put out: call [`Self::flush`] before.
    ///
    /// # Errors
    /// [`EngineError::Snapshot`] where the state can't be written.
    pub fn snapshot(&self) -> Result<Vec<u8>, EngineError> {
        let snapshot = Snapshot {
            engine: ENGINE_VERSION,
            digest: self.digest,
            newest: self.newest,
            histograms: self
                .decoder
                .as_ref()
                .map(|decoder| decoder.memory())
                .unwrap_or_default(),
            versions: self.versions.iter().map(|(s, v)| (s.clone(), v.clone())).collect(),
        };
        rmp_serde::to_vec_named(&snapshot).map_err(|error| self.snapshot_error(&error))
    }

    /// Continues from a snapshot of an engine version since [`crate::OLDEST_STATE`], whichever pipeline it was made under.
    ///
    /// # Errors
    /// [`EngineError::Snapshot`] where the bytes are no such snapshot; the state is then as it was.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), EngineError> {
        let snapshot: Snapshot = rmp_serde::from_slice(bytes).map_err(|error| self.snapshot_error(&error))?;
        if let Some(reason) = misfit(snapshot.engine) {
            return Err(self.snapshot_error(&reason));
        }
        if let Some(decoder) = &mut self.decoder {
            decoder.restore(snapshot.histograms);
        }
        self.digest = snapshot.digest;
        self.newest = snapshot.newest;
        self.versions = snapshot.versions.into_iter().collect();
        Ok(())
    }

    fn snapshot_error(&self, reason: &dyn std::fmt::Display) -> EngineError {
        EngineError::Snapshot {
            shard: self.shard.to_string(),
            reason: reason.to_string(),
        }
    }
}
