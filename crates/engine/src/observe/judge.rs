//! From closed windows to anomalies: each series' column entry goes to the bank of its signal rule.

use std::{collections::BTreeSet, sync::Arc};

use suture_config::{Pipeline, SignalMatcher};
use suture_detect::{Bank, Budget, Column, Episode, SeriesHints};
use suture_event::{Anomaly, SeriesKey, Timestamp, impossible};
use suture_window::{Closed, Gaps, Windows};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{
    ScoreRow, SuppressedAlarm,
    anomaly::{anomaly, band, suppressed},
    derive::Derive,
    meter::Meter,
    rollup::{RollUp, Uncertain},
};
use crate::{
    EngineError,
    series::{Role, Series, SeriesTable},
};

/// What a row of a bank stands for that no series has.
const NO_ROW: u32 = u32::MAX;
/// In place of a rule: no bank judges the series, which is an instance's, and in place of a row stands its group.
const OF_INSTANCE: u32 = u32::MAX;

/// One signal rule's detectors, with the columns they are fed from.
struct RuleBank {
    bank: Bank,
    /// Row in the windows, by row in the bank; [`NO_ROW`] where its series was given up.
    rows: Vec<u32>,
    /// Rows of the bank whose series were given up: the lowest is the first to be given to another.
    free: BTreeSet<u32>,
    bank_rows: Vec<u32>,
    values: Vec<f64>,
    last: Vec<Timestamp>,
    scores: Vec<f64>,
}

/// A bank, and a row of it.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    rule: u32,
    bank_row: u32,
}

/// The detectors of a shard. The last bank is that of series which no rule names.
#[derive(Default)]
pub(super) struct Judge {
    banks: Vec<RuleBank>,
    /// By row in the windows: where its series is judged. The table of series says so too, but in lines of memory of its own.
    places: Vec<Place>,
    episodes: Vec<Episode>,
    /// The pipeline's own budget of alarms, on which every bank draws that has none.
    pub(super) budget: Option<Budget>,
    /// What is made of several series together.
    pub(super) derive: Derive,
    /// What is made of instances' series, and is judged in their place.
    pub(super) rollup: RollUp,
    uncertain: Uncertain,
    /// What may be counters though nobody says so.
    pub(super) meter: Meter,
    gaps: Gaps,
    /// Alarms that a budget suppressed, in order.
    pub(super) suppressed: Vec<SuppressedAlarm>,
    /// Anomalies to be said, with their scopes, in order.
    pub(super) said: Vec<(Anomaly, Arc<str>)>,
}

impl Judge {
    pub(super) fn new(matcher: &SignalMatcher, pipeline: &Pipeline) -> Result<Self, EngineError> {
        let alarms = pipeline.alarms.as_ref();
        let mut banks = Vec::with_capacity(matcher.rules().len());
        for rule in matcher.rules() {
            let bank = match alarms {
                Some(_) => Bank::under_budget(&rule.detect),
                None => Bank::new(&rule.detect),
            };
            let bank = bank.map_err(|e| EngineError::Detect {
                signal: rule.name.clone(),
                reason: e.to_string(),
            })?;
            banks.push(RuleBank {
                bank,
                rows: Vec::new(),
                free: BTreeSet::new(),
                bank_rows: Vec::new(),
                values: Vec::new(),
                last: Vec::new(),
                scores: Vec::new(),
            });
        }
        Ok(Self {
            banks,
            places: Vec::new(),
            episodes: Vec::new(),
            budget: alarms.map(Budget::new),
            suppressed: Vec::new(),
            said: Vec::new(),
            derive: Derive::new(pipeline)?,
            rollup: RollUp::default(),
            uncertain: Uncertain::of(&pipeline.window),
            meter: Meter::default(),
            gaps: pipeline.window.gaps,
        })
    }

    /// Gives a series a row in the bank of its rule, and returns it. `row` is its row in the windows; `known` is what was
    /// learned of it elsewhere.
    pub(super) fn add(&mut self, rule: u32, row: u32, hints: SeriesHints<'_>, known: Option<(&Bank, u32)>) -> u32 {
        let Some(bank) = self.banks.get_mut(rule as usize) else {
            impossible("a rule without a bank");
            return NO_ROW;
        };
        let place = bank.free.pop_first();
        let bank_row = match place {
            Some(free) => {
                bank.bank.reuse(free, hints);
                free
            }
            None => {
                bank.rows.push(row);
                bank.bank.add_series(hints)
            }
        };
        if let Some(place) = bank.rows.get_mut(bank_row as usize) {
            *place = row;
        }
        if let Some((from, from_row)) = known {
            bank.bank.adopt(bank_row, from, from_row);
        }
        self.place(row, Place { rule, bank_row });
        bank_row
    }

    fn place(&mut self, row: u32, place: Place) {
        let at = row as usize;
        if at >= self.places.len() {
            self.places.resize(at + 1, Place::default());
        }
        if let Some(slot) = self.places.get_mut(at) {
            *slot = place;
        }
    }

    /// Rolls a row up into another. `labels` stands for all of its labels.
    pub(super) fn join(&mut self, into: u32, row: u32, labels: u64) {
        self.rollup.join(into, row, labels);
        let group = self.rollup.group(row).unwrap_or(NO_ROW);
        self.place(
            row,
            Place {
                rule: OF_INSTANCE,
                bank_row: group,
            },
        );
    }

    /// Gives a series up: its row in the bank is free for another. What is open of it ends.
    pub(super) fn retire(&mut self, series: &Series, at: Timestamp) -> Vec<Anomaly> {
        let Some(rule) = self.banks.get_mut(series.rule as usize) else {
            return Vec::new();
        };
        let Some(row) = rule.rows.get_mut(series.bank_row as usize) else {
            return Vec::new();
        };
        *row = NO_ROW;
        rule.free.insert(series.bank_row);
        let ended = rule.bank.retire(series.bank_row, at).into_iter();
        ended.map(|episode| anomaly(series, episode)).collect()
    }

    pub(super) fn explain(&self, series: &Series) -> Option<String> {
        if series.role == Role::Instance {
            return Some(
                "an instance's: it is judged against its siblings, and what they come to by its own past".to_owned(),
            );
        }
        let told = self.banks.get(series.rule as usize)?.bank.explain(series.bank_row);
        Some(match self.meter.is_counter(&series.key.metric) {
            true => format!("{told}; read by its rate, as it counts up like the counter that its name says it is"),
            false => told,
        })
    }

    /// Pushes samples into the windows and judges every window that closes on the way.
    #[allow(clippy::too_many_arguments)] // the parts of one fold, borrowed apart
    pub(super) fn take_in(
        &mut self,
        windows: &mut Windows,
        rows: &[u32],
        ts: &[Timestamp],
        values: &[f64],
        table: &SeriesTable,
        mut scores: Option<&mut Vec<ScoreRow>>,
        digest: &mut u64,
    ) {
        windows.push(rows, ts, values, &mut |closed| {
            *digest = fold_column(*digest, closed);
            self.judge(closed, table, scores.as_deref_mut());
        });
    }

    /// Judges every window that closes as time passes without samples.
    pub(super) fn pass(
        &mut self,
        windows: &mut Windows,
        to: Timestamp,
        table: &SeriesTable,
        mut scores: Option<&mut Vec<ScoreRow>>,
        digest: &mut u64,
    ) {
        windows.pass_to(to, &mut |closed| {
            *digest = fold_column(*digest, closed);
            self.judge(closed, table, scores.as_deref_mut());
        });
    }

    fn judge(&mut self, closed: &Closed<'_>, table: &SeriesTable, scores: Option<&mut Vec<ScoreRow>>) {
        if self.meter.is_empty() {
            return self.judge_values(closed, table, scores);
        }
        let mut meter = std::mem::take(&mut self.meter);
        let values = meter.read(closed, self.gaps);
        self.judge_values(&closed.with_values(values), table, scores);
        for (row, counts) in meter.turned() {
            self.begin_anew(row, counts, closed.at, table);
        }
        self.meter = meter;
    }

    /// What a row's values are is another thing from now on: everything that was learned of them is forgotten.
    fn begin_anew(&mut self, row: u32, counter: bool, at: Timestamp, table: &SeriesTable) {
        self.rollup.begin_anew(row);
        self.said.append(&mut self.derive.forget(row, table, at));
        let Some(series) = table.get(row) else { return };
        let Some(rule) = self.banks.get_mut(series.rule as usize) else {
            return;
        };
        if series.role == Role::Instance {
            return;
        }
        for mut episode in rule.bank.retire(series.bank_row, at) {
            "it is read another way from now on, as it counts up or has ceased to: what became of it is not known"
                .clone_into(&mut episode.detail);
            self.said.push((anomaly(series, episode), series.scope.clone()));
        }
        let hints = SeriesHints {
            metric: &series.key.metric,
            kind: series.kind,
            counter,
            hash: series.hash,
        };
        rule.bank.reuse(series.bank_row, hints);
    }

    fn judge_values(&mut self, closed: &Closed<'_>, table: &SeriesTable, mut scores: Option<&mut Vec<ScoreRow>>) {
        let scored = scores.is_some();
        self.split(closed, scored);
        for rule in &mut self.banks {
            if rule.bank_rows.is_empty() {
                continue;
            }
            let column = Column {
                start: closed.start,
                end: closed.end,
                at: closed.at,
                rows: &rule.bank_rows,
                values: &rule.values,
            };
            rule.scores.clear();
            self.episodes.clear();
            rule.bank.update_within(
                &column,
                self.budget.as_mut(),
                scored.then_some(&mut rule.scores),
                &mut self.episodes,
            );
            for alarm in rule.bank.suppressed() {
                let row = rule.rows.get(alarm.row as usize).copied();
                if let Some(series) = row.and_then(|row| table.get(row)) {
                    self.suppressed.push(suppressed(series, alarm));
                }
            }
            for episode in self.episodes.drain(..) {
                let row = rule.rows.get(episode.row as usize).copied();
                if let Some(series) = row.and_then(|row| table.get(row)) {
                    self.said.push((anomaly(series, episode), series.scope.clone()));
                }
            }
        }
        if let Some(scores) = scores.as_deref_mut() {
            self.write_scores(table, scores);
        }
        self.derive.close(
            closed,
            &self.rollup,
            table,
            self.budget.as_mut(),
            &mut self.said,
            &mut self.suppressed,
            scores,
        );
    }

    /// Deals the window's entries out to the banks; the times of their samples only where they are written with scores.
    fn split(&mut self, closed: &Closed<'_>, scored: bool) {
        for rule in &mut self.banks {
            rule.bank_rows.clear();
            rule.values.clear();
            rule.last.clear();
        }
        self.rollup.begin();
        for (i, (&row, &value)) in closed.rows.iter().zip(closed.values).enumerate() {
            let Some(place) = self.places.get(row as usize) else {
                continue;
            };
            let Some(rule) = self.banks.get_mut(place.rule as usize) else {
                debug_assert_eq!(place.rule, OF_INSTANCE, "a rule without a bank");
                self.rollup.take(place.bank_row, closed, i, self.uncertain);
                continue;
            };
            rule.bank_rows.push(place.bank_row);
            rule.values.push(value);
            if scored {
                rule.last.push(closed.last(i));
            }
        }
        self.rollup.finish(closed);
        for made in self.rollup.made() {
            let Some(place) = self.places.get(made.row as usize) else {
                continue;
            };
            let Some(rule) = self.banks.get_mut(place.rule as usize) else {
                continue;
            };
            rule.bank_rows.push(place.bank_row);
            rule.values.push(made.value);
            if scored {
                rule.last.push(made.last);
            }
        }
    }

    fn write_scores(&mut self, table: &SeriesTable, scores: &mut Vec<ScoreRow>) {
        for rule in &self.banks {
            let entries = rule
                .bank_rows
                .iter()
                .zip(&rule.values)
                .zip(&rule.last)
                .zip(&rule.scores);
            let [expected, lower, upper] = rule.bank.bands();
            for (i, (((&bank_row, &value), &ts), &score)) in entries.enumerate() {
                let row = rule.rows.get(bank_row as usize).copied();
                let Some(series) = row.and_then(|row| table.get(row)) else {
                    continue;
                };
                if value.is_nan() {
                    continue;
                }
                let SeriesKey { metric, labels } = series.key.clone();
                scores.push(ScoreRow {
                    ts,
                    metric,
                    labels,
                    value,
                    score,
                    band: band(expected.get(i), lower.get(i), upper.get(i)),
                });
            }
        }
    }

    /// How many windows each series that is judged has still to bring before anything is said of it, in no order.
    pub(super) fn warms_in(&self) -> impl Iterator<Item = u32> {
        self.banks.iter().flat_map(|rule| {
            let rows = (0_u32..).zip(&rule.rows).filter(|(_, row)| **row != NO_ROW);
            rows.map(|(bank_row, _)| rule.bank.warms_in(bank_row))
        })
    }

    pub(super) fn banks(&self) -> impl Iterator<Item = &Bank> {
        self.banks.iter().map(|rule| &rule.bank)
    }

    pub(super) fn banks_mut(&mut self) -> impl Iterator<Item = &mut Bank> {
        self.banks.iter_mut().map(|rule| &mut rule.bank)
    }

    /// Says again which window row each bank row belongs to, after a restore: that of what is rolled up included.
    pub(super) fn link<'a>(&mut self, series: impl Iterator<Item = &'a Series>) {
        for rule in &mut self.banks {
            rule.rows.clear();
            rule.rows.resize(rule.bank.len(), NO_ROW);
        }
        self.places.clear();
        for (row, one) in series.enumerate() {
            #[allow(clippy::cast_possible_truncation)] // bounded by the limit on series
            let row = row as u32;
            if one.role == Role::Instance {
                self.places.push(Place {
                    rule: OF_INSTANCE,
                    bank_row: self.rollup.group(row).unwrap_or(NO_ROW),
                });
                continue;
            }
            self.places.push(Place {
                rule: one.rule,
                bank_row: one.bank_row,
            });
            let rule = self.banks.get_mut(one.rule as usize);
            if let Some(slot) = rule.and_then(|rule| rule.rows.get_mut(one.bank_row as usize)) {
                *slot = row;
            }
        }
        for rule in &mut self.banks {
            let rows = (0..).zip(&rule.rows);
            rule.free = rows.filter(|(_, row)| **row == NO_ROW).map(|(free, _)| free).collect();
        }
    }
}

/// What was taken in so far, in 64 bits: each closed window's rows and values go into it, at some bytes a nanosecond.
fn fold_column(digest: u64, closed: &Closed<'_>) -> u64 {
    let mut digest = digest ^ closed.end.as_millis().unsigned_abs();
    let mut bytes = [0_u8; 1024];
    for values in closed.values.chunks(128) {
        for (place, value) in bytes.chunks_exact_mut(8).zip(values) {
            place.copy_from_slice(&value.to_bits().to_le_bytes());
        }
        digest = xxh3_64_with_seed(bytes.get(..values.len() * 8).unwrap_or(&bytes), digest);
    }
    digest
}
