//! How telemetry is put into partitions anew where its producers did not key it by series.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::Span;

use crate::Pipeline;

/// Bytes of a series in the repartition stage: its name and labels, and what finds it.
const KNOWN: usize = 900;

/// A stage in front of observe that puts telemetry into partitions anew, so that a series lives wholly in one of them. Its
/// presence turns the stage on: `rekey: {}` takes every default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rekey {
    /// Name of the topic in between, which the program owns: `PREFIX.rekeyed` where absent. Letters, digits, `.`, `_` and
    /// `-`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[A-Za-z0-9._-]{1,249}$"))]
    pub topic: Option<String>,
    /// Partitions of that topic. It must have exactly so many: another number would move series. To change it, let the
    /// topic run dry and name another one.
    #[schemars(range(min = 1, max = 10_000))]
    pub partitions: u32,
    /// Labels by which series are put together: those with the same values of them come to one partition, as a group of a
    /// `derive` rule must. A series with none of these labels goes by its name and all of its labels, as every series does
    /// where the list is empty; an instance's without the labels that tell it from its siblings, so that they come together.
    pub by: Vec<String>,
    /// How long the topic keeps its records: longer than observe may ever be down or behind.
    pub retention: Span,
    /// Samples of one record of the topic, at most.
    #[schemars(range(min = 1, max = 100_000))]
    pub batch_samples: usize,
    /// Bytes of one record of the topic, at most, before compression: below the broker's limit on a message. A sample
    /// whose name and labels alone take more goes to the dead letters.
    #[schemars(range(min = 16_384, max = 67_108_864))]
    pub batch_bytes: usize,
    /// For how long, at most, a telemetry partition that makes no progress holds the others back: they are kept together
    /// within half of `window.lateness`. At least 1s.
    pub patience: Span,
}

impl Default for Rekey {
    fn default() -> Self {
        Self {
            topic: None,
            partitions: 6,
            by: Vec::new(),
            retention: Span::from_hours(24),
            batch_samples: 8_192,
            batch_bytes: 512 << 10,
            patience: Span::from_secs(30),
        }
    }
}

impl Pipeline {
    /// The topic that the repartition stage writes and observe reads in place of the telemetry topics; none where there is
    /// no such stage.
    #[must_use]
    pub fn rekeyed_topic(&self) -> Option<String> {
        let rekey = self.rekey.as_ref()?;
        let usual = || format!("{}.rekeyed", self.kafka.prefix);
        Some(rekey.topic.clone().unwrap_or_else(usual))
    }

    /// The consumer group of the repartition stage: as that of observe, with `-rekey`.
    #[must_use]
    pub fn rekey_group(&self) -> String {
        format!("{}-rekey", self.group())
    }

    /// By how much one telemetry partition may be ahead of another in the topic in between, by the time that the log has
    /// for their records: half of the lateness, so that the other half is left for how far a record's samples are from its
    /// time. None where nothing waits for late samples, and so nobody for a slower partition.
    #[must_use]
    pub fn rekey_in_step(&self) -> Option<Span> {
        let half = Span::from_millis(self.window.lateness.as_millis() / 2);
        (self.rekey.is_some() && half > Span::ZERO).then_some(half)
    }

    /// Bytes that one shard of the repartition stage may come to need; nothing where there is none.
    pub(crate) fn rekey_bytes(&self) -> usize {
        let stage = self.rekey.as_ref();
        stage.map_or(0, |rekey| {
            let waiting = (rekey.partitions as usize).saturating_mul(rekey.batch_bytes);
            self.limits.series.saturating_mul(KNOWN).saturating_add(waiting)
        })
    }
}
