//! What was learned from history, for series to begin with: a model file's contents.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use suture_config::{Pipeline, SignalRule};
use suture_detect::Bank;
use suture_event::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use crate::{
    ENGINE_VERSION, EngineError, Observe,
    blob::Blob,
    misfit,
    series::{Role, Series},
    written::fingerprint_of,
};

/// First bytes of a model file; the number is the layout's version.
const MAGIC: &[u8] = b"suture model 1\n";
const CHECKSUM: usize = 8;

/// What a model was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelAbout {
    /// Name of the pipeline.
    pub pipeline: String,
    /// Series that something was learned of.
    pub series: u64,
    /// Samples taken in.
    pub samples: u64,
    /// Event time up to which it was learned.
    pub until: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Body {
    about: ModelAbout,
    engine: u32,
    /// What a window's value depends on.
    window: u64,
    rules: Vec<Rule>,
    /// Hash of each series, its rule and its row in the rule's bank.
    series: Vec<(u64, u32, u32)>,
}

#[derive(Serialize, Deserialize)]
struct Rule {
    /// What a series' value depends on.
    value: u64,
    detect: String,
    bank: Blob,
}

/// Detectors that learned from history.
///
/// A series that a shard meets for the first time, and that the model knows, begins with what was learned of it: it need not
/// warm up, and only settles as after any gap, for half of `warm_up` and at most 30 windows. Series are known by metric and labels. The model says nothing of windows, incidents or alarms.
///
/// Kept whole in memory, at the price of the detectors' state: some 340 bytes a series, and 262 kB more for each that the
/// sequence model watches.
#[derive(Debug)]
pub struct Model {
    about: ModelAbout,
    window: u64,
    values: Vec<u64>,
    banks: Vec<Bank>,
    series: FxHashMap<u64, (u32, u32)>,
    digest: u64,
}

impl Model {
    /// What the detectors of a shard have learned, as a model file. Call [`Observe::flush`] before.
    ///
    /// # Errors
    /// [`EngineError::Model`] where samples wait, or where the state can't be written.
    pub fn encode(observe: &Observe) -> Result<Vec<u8>, EngineError> {
        let (pipeline, rules, banks) = observe.learned().ok_or_else(|| error(&"samples wait to be judged"))?;
        let series: Vec<_> = observe
            .series()
            .filter(|series| series.role != Role::Instance)
            .map(|series| (series.learned_as(), series.rule, series.bank_row))
            .collect();
        let body = Body {
            about: ModelAbout {
                pipeline: pipeline.name.clone(),
                series: series.len() as u64,
                samples: observe.counters().samples,
                until: observe.watermark(),
            },
            engine: ENGINE_VERSION,
            window: window_of(pipeline),
            rules: rules
                .iter()
                .zip(banks)
                .map(|(rule, bank)| {
                    Ok(Rule {
                        value: value_of(rule),
                        detect: serde_json::to_string(bank.options()).map_err(|e| error(&e))?,
                        bank: Blob(bank.snapshot().map_err(|e| error(&e))?),
                    })
                })
                .collect::<Result<_, EngineError>>()?,
            series,
        };
        let mut bytes = MAGIC.to_vec();
        rmp_serde::encode::write_named(&mut bytes, &body).map_err(|e| error(&e))?;
        let checksum = xxh3_64(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        Ok(bytes)
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// [`EngineError::Model`] where the bytes are none, are damaged, or are of another engine's version.
    pub fn decode(bytes: &[u8]) -> Result<Self, EngineError> {
        let body = bytes
            .strip_prefix(MAGIC)
            .ok_or_else(|| error(&"it does not begin as one: make it with `suture train`"))?;
        let (body, checksum) = body
            .split_last_chunk::<CHECKSUM>()
            .ok_or_else(|| error(&"it is cut short"))?;
        let digest = xxh3_64(bytes.get(..bytes.len() - CHECKSUM).unwrap_or_default());
        if digest != u64::from_le_bytes(*checksum) {
            return Err(error(&"its checksum is wrong: it was cut short or damaged"));
        }
        let body: Body = rmp_serde::from_slice(body).map_err(|e| error(&e))?;
        if let Some(reason) = misfit(body.engine) {
            return Err(error(&format!("{reason}: train it anew")));
        }
        let mut banks = Vec::with_capacity(body.rules.len());
        for rule in &body.rules {
            let options = serde_json::from_str(&rule.detect).map_err(|e| error(&e))?;
            let mut bank = Bank::new(&options).map_err(|e| error(&e))?;
            bank.restore(&rule.bank.0).map_err(|e| error(&e))?;
            banks.push(bank);
        }
        let known = |(_, rule, row): &&(u64, u32, u32)| {
            let bank = banks.get(*rule as usize);
            bank.is_some_and(|bank| (*row as usize) < bank.len())
        };
        if !body.series.iter().all(|series| known(&series)) {
            return Err(error(&"it names series that it holds nothing of"));
        }
        Ok(Self {
            series: body
                .series
                .iter()
                .map(|(hash, rule, row)| (*hash, (*rule, *row)))
                .collect(),
            values: body.rules.iter().map(|rule| rule.value).collect(),
            about: body.about,
            window: body.window,
            banks,
            digest,
        })
    }

    /// What it was made from.
    #[must_use]
    pub const fn about(&self) -> &ModelAbout {
        &self.about
    }

    /// A number that differs, but for chance, between models: what a run finds depends on it.
    #[must_use]
    pub const fn digest(&self) -> u64 {
        self.digest
    }

    /// Whether it can serve a pipeline at all.
    ///
    /// # Errors
    /// [`EngineError::Model`] where the pipeline's windows are others than those that were learned from.
    pub fn check(&self, pipeline: &Pipeline) -> Result<(), EngineError> {
        if self.window == window_of(pipeline) {
            return Ok(());
        }
        Err(error(
            &"it was learned from other windows than the pipeline's: train it with this pipeline file",
        ))
    }

    /// What was learned of a series, where a rule makes the same values of its samples.
    pub(crate) fn find(&self, hash: u64, rule: &SignalRule) -> Option<(&Bank, u32)> {
        let (at, row) = self.series.get(&hash)?;
        let at = *at as usize;
        (*self.values.get(at)? == value_of(rule)).then_some((self.banks.get(at)?, *row))
    }
}

impl Observe {
    /// Lets series begin with what a model knows of them.
    ///
    /// # Errors
    /// As [`Model::check`].
    pub fn with_model(mut self, model: Arc<Model>) -> Result<Self, EngineError> {
        model.check(self.pipeline())?;
        self.set_model(model);
        Ok(self)
    }

    fn series(&self) -> impl Iterator<Item = &Series> {
        self.table().iter()
    }
}

fn error(reason: &dyn std::fmt::Display) -> EngineError {
    EngineError::Model(reason.to_string())
}

fn window_of(pipeline: &Pipeline) -> u64 {
    let window = &pipeline.window;
    fingerprint_of(&(window.size, window.slide, window.gaps))
}

fn value_of(rule: &SignalRule) -> u64 {
    fingerprint_of(&(rule.aggregate, rule.counter))
}
