//! What of a snapshot goes on where the pipeline has changed since.
//!
//! A series goes on as if nothing had happened where it is the same to those who hear of it, its samples make the same
//! values, and the same detectors watch these. Where only the detectors changed, its open windows stay and its detectors
//! begin anew. A series that was judged by itself and is now one instance's of a service, or the other way about, is
//! another. Everything else of it is dropped: it is met again with its next sample. What was open on a series that does
//! not go on ends, as nobody would ever tell.

use std::sync::Arc;

use suture_config::SignalRule;
use suture_detect::{Bank, Budget, SeriesHints};
use suture_event::{Anomaly, Carried, stable_hash};

use super::{Judge, Observe, ObserveOut, anomaly::anomaly, state::Snapshot, terms::Terms};
use crate::{
    EngineError, Rows, SourceKind,
    blob::Blob,
    series::{NOBODY, Role, Series, SeriesTable},
    written::fingerprint_of,
};

/// Series that a condition is asked about at a time.
const RUN: usize = 8_192;

/// What is known of a rule that a snapshot was made under.
enum Former {
    Rule(Box<SignalRule>),
    /// Only its hash: the snapshot is of a program that kept no more.
    Hash(u64),
}

/// How much of a series' state fits a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fit {
    Whole,
    /// Its windows, and not its detectors.
    Windows,
    Nothing,
}

impl Former {
    fn fit(&self, rule: &SignalRule) -> Fit {
        match self {
            Self::Hash(hash) if *hash == fingerprint_of(rule) => Fit::Whole,
            Self::Hash(_) => Fit::Nothing,
            Self::Rule(former) => {
                let values = |rule: &SignalRule| (rule.aggregate, rule.counter, rule.kind);
                match (values(former) == values(rule), former.detect == rule.detect) {
                    (true, true) => Fit::Whole,
                    (true, false) => Fit::Windows,
                    (false, _) => Fit::Nothing,
                }
            }
        }
    }
}

/// What has become of a state that was taken over, until it is on record.
#[derive(Debug, Default)]
pub(super) struct Account {
    pub(super) counts: Carried,
    /// What ended with the series that did not go on.
    ended: Vec<(Anomaly, Arc<str>)>,
}

/// A series of the snapshot, and its fate.
struct Fate {
    rule: u32,
    fit: Fit,
}

impl Observe {
    /// The account of a state that goes on as a whole.
    pub(super) fn account_for_all(&mut self, ended: Vec<(Anomaly, Arc<str>)>) {
        self.account = Some(Account {
            counts: Carried {
                kept: self.table.len() as u64,
                ..Carried::default()
            },
            ended,
        });
    }

    /// Takes over what fits of a snapshot that was made under other terms; of these nothing is known where `terms` is
    /// absent, but for the hashes that the snapshot itself has.
    pub(super) fn carry_over(&mut self, mut snapshot: Snapshot, former: Option<&Terms>) -> Result<(), EngineError> {
        let terms = self.terms();
        if snapshot.series.is_empty() && snapshot.derive.is_none() {
            // a shard of changes, of commands, or one that has met no series yet
            self.account_for_all(Vec::new());
            return Ok(());
        }
        let rules = self.former_rules(&snapshot, former)?;
        if former.is_some_and(|former| !former.same_windows(&terms) || former.value != terms.value) {
            return Err(self.misfit());
        }
        let mut counts = Carried::default();
        snapshot.rollup.find();
        let fates = self.fates(&snapshot, &rules, former, &terms, &mut counts);

        let old = SeriesTable::of(snapshot.series);
        let mut judge = Judge::new(&self.matcher, &self.pipeline)?;
        let known = (0..).zip(old.iter()).zip(&fates);
        let stays = known.filter_map(|((row, series), fate)| Some((row, series, fate.as_ref()?)));
        let (mut rows, mut table): (Vec<u32>, Vec<Series>) = (Vec::new(), Vec::new());
        let mut places = vec![NOBODY; old.len()];
        for (row, series, fate) in stays {
            if let Some(place) = places.get_mut(row as usize) {
                #[allow(clippy::cast_possible_truncation)] // no more than there were
                let new = rows.len() as u32;
                *place = new;
            }
            rows.push(row);
            table.push(Series {
                rule: fate.rule,
                bank_row: NOBODY,
                ..series.clone()
            });
        }
        let whole =
            |place: &u32| fates.get(*place as usize).and_then(Option::as_ref).map(|fate| fate.fit) == Some(Fit::Whole);
        let mut accounts = vec![false; rules.len()];
        for (rule, bank) in (0..).zip(judge.banks_mut()) {
            // rows of this rule's new bank, by the bank they come from
            let mut parts: Vec<Vec<(usize, u32)>> = rules.iter().map(|_| Vec::new()).collect();
            for (new, from) in rows.iter().enumerate().filter(|(_, from)| whole(from)) {
                let (Some(series), Some(one)) = (old.get(*from), table.get(new)) else {
                    continue;
                };
                if one.rule == rule
                    && one.role != Role::Instance
                    && let Some(part) = parts.get_mut(series.rule as usize)
                {
                    part.push((new, series.bank_row));
                }
            }
            self.fill(bank, rule, &rules, &parts, &snapshot.banks, &mut accounts)?;
            let order = parts.iter().flatten();
            for (place, (new, _)) in (0..).zip(order) {
                if let Some(series) = table.get_mut(*new) {
                    series.bank_row = place;
                }
            }
        }
        judge.rollup = snapshot.rollup.moved(&places, NOBODY);
        judge.meter = snapshot.meter.moved(&places, NOBODY);
        judge.meter.link(table.iter().map(|series| &series.key));
        judge.link(table.iter());

        let mut ended = Vec::new();
        let at = self.restore_windows(&snapshot.windows, Some(&rows))?;
        for (number, former) in rules.iter().enumerate() {
            let Former::Rule(former) = former else { continue };
            let judged = |series: &Series| series.rule as usize == number && series.role != Role::Instance;
            let of = |row: &u32| old.get(*row).is_some_and(judged);
            let anew: Vec<u32> = (0..).take(old.len()).filter(|row| of(row) && !whole(row)).collect();
            let Some(bytes) = snapshot.banks.get(number).filter(|_| !anew.is_empty()) else {
                continue;
            };
            let mut bank = Bank::new(&former.detect).map_err(|e| self.snapshot_error(&e))?;
            bank.restore(&bytes.0).map_err(|e| self.snapshot_error(&e))?;
            for row in anew {
                let Some(series) = old.get(row) else { continue };
                let counter = bank.is_counter(series.bank_row);
                for mut episode in bank.retire(series.bank_row, at) {
                    "the pipeline watches it otherwise from now on: what became of it is not known"
                        .clone_into(&mut episode.detail);
                    ended.push((anomaly(series, episode), series.scope.clone()));
                }
                let new = places.get(row as usize).copied().unwrap_or(NOBODY);
                let Some(place) = table.get_mut(new as usize) else {
                    continue;
                };
                let hints = SeriesHints {
                    metric: &series.key.metric,
                    kind: series.kind,
                    counter,
                    hash: series.hash,
                };
                let signal = self.matcher.rules().get(place.rule as usize);
                let learned = self
                    .model
                    .as_ref()
                    .zip(signal)
                    .and_then(|(model, signal)| model.find(series.hash, signal));
                place.bank_row = judge.add(place.rule, new, hints, learned);
            }
        }

        if let (Some(alarms), Some(account)) = (&self.pipeline.alarms, &snapshot.budget)
            && former.is_none_or(|former| former.alarms.as_ref() == Some(alarms))
        {
            judge.budget = Some(Budget::load(alarms, account).map_err(|e| self.snapshot_error(&e))?);
        }
        if let Some(Blob(bytes)) = &snapshot.derive {
            let fits = former.is_none_or(|former| former.same_context(&terms));
            let said = judge.derive.restore(bytes, fits, &places, &old, at);
            ended.append(&mut said.map_err(|e| self.snapshot_error(&e))?);
        }
        self.judge = judge;
        self.table = SeriesTable::of(table);
        self.note_aggregates();
        // a state of which parts are gone must never pass for the one that was committed
        self.taken_digest = stable_hash([b"carried over".as_slice(), &snapshot.taken_digest.to_le_bytes()]);
        self.account = Some(Account { counts, ended });
        Ok(())
    }

    fn former_rules(&self, snapshot: &Snapshot, former: Option<&Terms>) -> Result<Vec<Former>, EngineError> {
        if let Some(former) = former {
            let rules = former.rules.iter().cloned().map(|rule| Former::Rule(Box::new(rule)));
            return Ok(rules.collect());
        }
        // the hash of the windows comes before those of the rules, one of the budget's may come after them
        let (windows, rules) = snapshot.shape.split_first().ok_or_else(|| self.misfit())?;
        let rules = rules.get(..snapshot.banks.len()).ok_or_else(|| self.misfit())?;
        if *windows != fingerprint_of(&self.pipeline.window) {
            return Err(self.misfit());
        }
        Ok(rules.iter().copied().map(Former::Hash).collect())
    }

    /// What becomes of each series; `None` where nothing of it stays.
    fn fates(
        &self,
        snapshot: &Snapshot,
        rules: &[Former],
        former: Option<&Terms>,
        terms: &Terms,
        counts: &mut Carried,
    ) -> Vec<Option<Fate>> {
        let series = snapshot.series.as_slice();
        let mut kept = match former {
            Some(former) if former.condition != terms.condition => self.kept_by_condition(series),
            _ => vec![true; series.len()],
        };
        for (row, one) in (0..).zip(series) {
            if one.role == Role::RolledUp {
                // it is kept where any of those is that it is made of
                let mut members = snapshot.rollup.members(row).iter();
                let any = members.any(|member| kept.get(*member as usize) == Some(&true));
                if let Some(slot) = kept.get_mut(row as usize) {
                    *slot = any;
                }
            }
        }
        let rolled = |former: &Terms| former.instances == terms.instances && former.same_context(terms);
        let rolled = former.is_some_and(rolled);
        let fits: Vec<Vec<Fit>> = rules
            .iter()
            .map(|former| self.matcher.rules().iter().map(|rule| former.fit(rule)).collect())
            .collect();
        let mut fates = Vec::with_capacity(series.len());
        for (one, kept) in series.iter().zip(kept) {
            if !kept {
                counts.left_out += 1;
                fates.push(None);
                continue;
            }
            let made = self.pipeline.rolled_up_from(&one.key);
            let fits_role = match one.role {
                Role::Plain => made.is_none(),
                Role::Instance | Role::RolledUp => rolled,
            };
            let named = made.as_ref().unwrap_or(&one.key);
            let index = self.matcher.index(&named.metric, |name| named.labels.get(name));
            let (scope, service) = self.place_of(&one.key);
            let fit = fits.get(one.rule as usize).and_then(|fits| fits.get(index));
            let fit = match fit {
                Some(fit) if fits_role && scope == one.scope && service == one.service => match fit {
                    // no detectors watch it
                    Fit::Windows if one.role == Role::Instance => Fit::Whole,
                    fit => *fit,
                },
                _ => Fit::Nothing,
            };
            match fit {
                Fit::Whole => counts.kept += 1,
                Fit::Windows | Fit::Nothing => counts.anew += 1,
            }
            #[allow(clippy::cast_possible_truncation)] // as many as the pipeline file has rules
            let rule = index as u32;
            fates.push((fit != Fit::Nothing).then_some(Fate { rule, fit }));
        }
        fates
    }

    /// Which series the pipeline's condition keeps, as far as that can be told from their names and labels.
    fn kept_by_condition(&self, series: &[Series]) -> Vec<bool> {
        let Some(filter) = self.source.filter.as_ref().filter(|filter| !filter.reads_sample()) else {
            return vec![true; series.len()];
        };
        let keep = |part: &[Series]| {
            let metric: Vec<&str> = part.iter().map(|series| series.key.metric.as_ref()).collect();
            let labels: Vec<_> = part.iter().map(|series| &series.key.labels).collect();
            filter.keep(Rows {
                metric: &metric,
                labels: &labels,
                value: &vec![0.0; part.len()],
                ts: &vec![self.newest; part.len()],
            })
        };
        let mut kept = Vec::with_capacity(series.len());
        for part in series.chunks(RUN) {
            match keep(part) {
                Ok(answers) => kept.extend(answers),
                // one that it fails on is left out, as when it is met for the first time
                Err(_) => kept.extend(part.iter().map(|one| keep(std::slice::from_ref(one)) == Ok(vec![true]))),
            }
        }
        kept
    }

    /// Gives a rule's bank the rows that it goes on with, and the account of alarms of the rule that it was.
    fn fill(
        &self,
        bank: &mut Bank,
        rule: u32,
        rules: &[Former],
        parts: &[Vec<(usize, u32)>],
        banks: &[Blob],
        accounts: &mut [bool],
    ) -> Result<(), EngineError> {
        let Some(signal) = self.matcher.rules().get(rule as usize) else {
            return Ok(());
        };
        let free = |(number, former): &(usize, &Former)| {
            !accounts.get(*number).copied().unwrap_or(true) && former.fit(signal) == Fit::Whole
        };
        let namesake = |(_, former): &(usize, &Former)| match former {
            Former::Rule(former) => former.pattern == signal.pattern,
            Former::Hash(_) => true,
        };
        let mut same = rules.iter().enumerate().filter(free);
        let first = same.next();
        let number = first
            .into_iter()
            .chain(same)
            .find(namesake)
            .or(first)
            .map(|(number, _)| number);
        if let Some(taken) = number.and_then(|number| accounts.get_mut(number)) {
            *taken = true;
        }
        let account = number
            .and_then(|number| banks.get(number))
            .map(|bank| bank.0.as_slice());
        let rows: Vec<Vec<u32>> = parts
            .iter()
            .map(|part| part.iter().map(|(_, row)| *row).collect())
            .collect();
        let parts = banks.iter().zip(&rows).filter(|(_, rows)| !rows.is_empty());
        let parts: Vec<(&[u8], &[u32])> = parts.map(|(bank, rows)| (bank.0.as_slice(), rows.as_slice())).collect();
        bank.restore_rows(&parts, account).map_err(|e| self.snapshot_error(&e))
    }

    fn misfit(&self) -> EngineError {
        self.snapshot_error(&"it was made with other windows, or of other values, so nothing of it fits")
    }

    pub(super) fn terms(&self) -> Terms {
        Terms::of(&self.pipeline, self.matcher.rules(), &self.source)
    }

    /// Says what a change of the pipeline did: what ended with it, and the edges that it sees for the first time. Gives
    /// the counts.
    pub(super) fn settle_account(&mut self, out: &mut ObserveOut) -> Option<Carried> {
        let Account { counts, ended } = self.account.take()?;
        if !matches!(self.source.kind, SourceKind::Telemetry(_) | SourceKind::Rekeyed) {
            return None;
        }
        let at = self.windows.newest();
        for (mut anomaly, scope) in ended {
            anomaly.at = anomaly.at.max(at);
            let at = anomaly.at;
            self.say(scope, at, suture_event::FactBody::Anomaly(anomaly), out);
        }
        if !self.pipeline.topology.from_labels.is_empty() {
            let keys: Vec<_> = self.table.iter().map(|series| series.key.clone()).collect();
            for key in keys {
                self.edge(&key, || at, out);
            }
        }
        Some(counts)
    }
}
