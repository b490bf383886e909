//! From record bytes to samples with rows, and to changes, outcomes and commands.

use std::sync::Arc;

use suture_codec::{
    ChangeEvent, Limits, PointKind, RawKey, Rejected, SampleRef, ServiceVersion, Sink, TelemetryDecoder,
    TelemetryFormat, arrow, fields, json::Outlines, records,
};
use suture_config::{AtSeries, Pipeline};
use suture_detect::SeriesHints;
use suture_event::{
    Change, ChangeKind, Command, Edge, EdgeSource, FactBody, Outcome, RecordRef, SeriesKey, SignalKind, Span,
    Timestamp, Watched, impossible,
};
use suture_window::Aggregate;

use super::{Observe, ObserveOut, PENDING, Pending, meter, rollup::How};
use crate::{
    Rows, Source, SourceKind,
    series::{NOBODY, Role, Series, Slot, rolled_up_in},
    versions::versions_of,
};

/// Samples that are looked up together.
const RUN: usize = 256;

/// Versions of a service that are remembered in each environment.
const VERSIONS: usize = 8;

/// Reasons of one record that are written out; the rest is counted.
const REASONS: usize = 5;

/// A record that is no telemetry.
pub(super) enum Decoded {
    Change(Change),
    Outcome(Outcome),
    Command(Command),
    Ignored,
}

/// What decodes a source's records within the pipeline's limits, where they are telemetry.
pub(crate) fn decoder_of(pipeline: &Pipeline, source: &Source) -> Option<Box<dyn TelemetryDecoder>> {
    let limits = Limits {
        labels: pipeline.limits.labels,
        value_bytes: pipeline.limits.label_bytes,
        label_bytes: pipeline.limits.label_bytes,
        histograms: pipeline.limits.series,
        ..Limits::default()
    };
    match source.kind {
        SourceKind::Telemetry(format) => Some(match &source.fields {
            Some(fields) if format == TelemetryFormat::Json => Box::new(fields::Decoder::new(fields, limits)),
            _ => format.decoder(limits),
        }),
        // as the repartition stage writes it
        SourceKind::Rekeyed => Some(Box::new(arrow::Decoder::of_own(limits))),
        SourceKind::Changes(_) | SourceKind::Outcomes | SourceKind::Commands => None,
    }
}

/// The samples of one record that have a row.
#[derive(Default)]
pub(crate) struct Taken {
    pub(crate) rows: Vec<u32>,
    pub(crate) ts: Vec<Timestamp>,
    pub(crate) values: Vec<f64>,
    /// Samples refused because of a bound: on series, or on a series' bytes.
    pub(crate) refused: u64,
    /// Samples refused because of the bound on instances.
    pub(crate) crowded: u64,
    /// Samples from too far in the future, and the first of them.
    pub(crate) future: u64,
    furthest: Timestamp,
}

impl Taken {
    /// Moves the samples on to those that wait to be judged.
    pub(super) fn move_to(&mut self, pending: &mut Pending) {
        pending.take(&mut self.rows, &mut self.ts, &mut self.values);
    }

    /// Whether a sample is not from the future; counts it where it is.
    pub(crate) fn is_timely(&mut self, ts: Timestamp, latest: Option<Timestamp>) -> bool {
        let timely = latest.is_none_or(|latest| ts <= latest);
        if !timely {
            self.future += 1;
            self.furthest = self.furthest.max(ts);
        }
        timely
    }

    /// Takes a sample of a row.
    pub(crate) fn push(&mut self, row: u32, ts: Timestamp, value: f64) {
        self.rows.push(row);
        self.ts.push(ts);
        self.values.push(value);
    }

    /// How far time is with a sample of this time after those taken.
    fn reached(&self, ts: Timestamp) -> Timestamp {
        self.ts.iter().copied().fold(ts, Timestamp::max)
    }

    /// Applies what the pipeline file says of the samples' values, and tells how many it leaves out. `key` is the series of
    /// a row. An error is that of an expression.
    pub(crate) fn express<'a>(
        &mut self,
        source: &Source,
        key: impl Fn(u32) -> Option<&'a SeriesKey>,
    ) -> Result<u64, String> {
        let filter = source.filter.as_ref().filter(|filter| filter.reads_sample());
        if self.rows.is_empty() || (filter.is_none() && source.value.is_none()) {
            return Ok(0);
        }
        let known: Vec<&SeriesKey> = self.rows.iter().filter_map(|row| key(*row)).collect();
        let metric: Vec<&str> = known.iter().map(|key| key.metric.as_ref()).collect();
        let labels: Vec<_> = known.iter().map(|key| &key.labels).collect();
        let rows = Rows {
            metric: &metric,
            labels: &labels,
            value: &self.values,
            ts: &self.ts,
        };
        let kept = filter.map_or_else(|| Ok(vec![true; self.rows.len()]), |filter| filter.keep(rows));
        let values = source.value.as_ref().map_or_else(
            || Ok(self.values.iter().copied().map(Some).collect()),
            |value| value.value(rows),
        );
        let (kept, values) = match (kept, values) {
            (Ok(kept), Ok(values)) => (kept, values),
            (Err(reason), _) | (_, Err(reason)) => {
                return Err(format!("an expression of the pipeline failed: {reason}"));
            }
        };
        let mut to = 0;
        for (from, (kept, value)) in kept.into_iter().zip(values).enumerate() {
            let Some(value) = value.filter(|value| kept && value.is_finite()) else {
                continue;
            };
            self.rows.swap(to, from);
            self.ts.swap(to, from);
            if let Some(slot) = self.values.get_mut(to) {
                *slot = value;
            }
            to += 1;
        }
        let left_out = (self.rows.len() - to) as u64;
        self.rows.truncate(to);
        self.ts.truncate(to);
        self.values.truncate(to);
        Ok(left_out)
    }

    /// What is wrong with a record's samples, in words, and of how many; `refused` tells why those that were refused were.
    pub(crate) fn complaints(
        &self,
        rejected: &[Rejected],
        future: Span,
        refused: impl FnOnce() -> String,
    ) -> Option<(String, u64)> {
        let mut reasons: Vec<String> = rejected.iter().take(REASONS).map(ToString::to_string).collect();
        if rejected.len() > REASONS {
            reasons.push(format!("and {} more like these", rejected.len() - REASONS));
        }
        if self.refused > 0 {
            reasons.push(refused());
        }
        if self.crowded > 0 {
            reasons.push(format!(
                "{} samples of instances beyond as many as one series is made of: raise instances.most, or send fewer",
                self.crowded
            ));
        }
        if self.future > 0 {
            reasons.push(format!(
                "{} samples from the future, up to {}: set the producer's clock, or raise limits.future ({future})",
                self.future, self.furthest
            ));
        }
        let samples = rejected.len() as u64 + self.refused + self.crowded + self.future;
        (!reasons.is_empty()).then(|| (reasons.join("; "), samples))
    }

    pub(crate) fn clear(&mut self) {
        *self = Self {
            rows: std::mem::take(&mut self.rows),
            ts: std::mem::take(&mut self.ts),
            values: std::mem::take(&mut self.values),
            ..Self::default()
        };
        self.rows.clear();
        self.ts.clear();
        self.values.clear();
    }
}

/// Decodes a record of a topic that carries no telemetry.
pub(super) fn decode(kind: SourceKind, record: RecordRef<'_>, limit: usize) -> Result<Decoded, String> {
    let bytes = record.value.unwrap_or_default();
    if let Some(reason) = too_large(bytes, limit) {
        return Err(reason);
    }
    match kind {
        SourceKind::Changes(format) => match format.decoder().decode(record.headers, record.value) {
            Ok(ChangeEvent::Change(change)) => Ok(Decoded::Change(change)),
            Ok(ChangeEvent::Ignored(_)) => Ok(Decoded::Ignored),
            Err(error) => Err(error.to_string()),
        },
        SourceKind::Outcomes => records::decode(bytes).map(Decoded::Outcome).map_err(|e| e.to_string()),
        SourceKind::Commands => records::decode(bytes).map(Decoded::Command).map_err(|e| e.to_string()),
        SourceKind::Telemetry(_) | SourceKind::Rekeyed => Ok(Decoded::Ignored),
    }
}

/// Where the decoders' samples go: to the rows of their series.
struct Intake<'a> {
    observe: &'a mut Observe,
    /// The time beyond which a sample is from the future.
    latest: Option<Timestamp>,
    taken: &'a mut Taken,
    offset: i64,
    out: &'a mut ObserveOut,
}

impl Sink for Intake<'_> {
    fn known(&mut self, key: RawKey, ts: Timestamp, value: f64) -> bool {
        let Some(slot) = self.observe.raw.get(key) else {
            return false;
        };
        if self.is_timely(ts) {
            self.take(slot, ts, value);
        }
        true
    }

    fn known_run(&mut self, keys: &[RawKey], ts: &[Timestamp], values: &[f64]) -> usize {
        let parts = keys.chunks(RUN).zip(ts.chunks(RUN)).zip(values.chunks(RUN));
        let mut done = 0;
        for ((keys, ts), values) in parts {
            let known = self.known_part(keys, ts, values);
            done += known;
            if known < keys.len() {
                break;
            }
        }
        done
    }

    fn sample(&mut self, sample: SampleRef<'_>, key: Option<RawKey>) {
        if !self.is_timely(sample.ts) {
            return;
        }
        let slot = match self.observe.table.slot(sample.hash) {
            Some(slot) => slot,
            None => self.observe.register(&sample, self.taken, self.offset, self.out),
        };
        // one that is refused may have room the next time, where room is made
        let evicts = self.observe.pipeline.limits.at_series == AtSeries::Evict;
        let may_change = slot == Slot::Crowded || (slot == Slot::Refused && evicts);
        if let Some(key) = key.filter(|_| !may_change) {
            self.observe.raw.put(key, slot);
        }
        self.take(slot, sample.ts, sample.value);
    }
}

impl Intake<'_> {
    /// As [`Sink::known_run`]: columns are taken over whole up to a sample that is from the future, or whose series is
    /// unknown or has no row.
    fn known_part(&mut self, keys: &[RawKey], ts: &[Timestamp], values: &[f64]) -> usize {
        let timely = self
            .latest
            .is_none_or(|latest| ts.iter().fold(true, |all, ts| all & (*ts <= latest)));
        let mut done = 0;
        while let (Some(&key), Some(&at), Some(&value)) = (keys.get(done), ts.get(done), values.get(done)) {
            let ahead = keys.get(done..).filter(|_| timely).unwrap_or_default();
            let rows = self.observe.raw.rows(ahead, &mut self.taken.rows);
            if rows > 0 {
                let taken = done..done + rows;
                self.taken
                    .ts
                    .extend_from_slice(ts.get(taken.clone()).unwrap_or_default());
                self.taken
                    .values
                    .extend_from_slice(values.get(taken).unwrap_or_default());
                done += rows;
            } else if self.known(key, at, value) {
                done += 1;
            } else {
                break;
            }
        }
        done
    }

    fn is_timely(&mut self, ts: Timestamp) -> bool {
        self.taken.is_timely(ts, self.latest)
    }

    fn take(&mut self, slot: Slot, ts: Timestamp, value: f64) {
        match slot {
            Slot::Row(row) => self.taken.push(row, ts, value),
            Slot::LeftOut => self.observe.counters.left_out += 1,
            Slot::Refused => self.taken.refused += 1,
            Slot::Crowded => self.taken.crowded += 1,
        }
    }
}

impl Observe {
    /// Takes records in order, each as [`Self::record`] does. Where they are of a sample each that can be told by its bytes, their series are looked
    /// up together, and each waits for memory but once.
    pub fn records(&mut self, records: &[RecordRef<'_>], out: &mut ObserveOut) {
        let mut outlines = std::mem::take(&mut self.outlines);
        for record in records {
            self.note_arrival(record.timestamp);
        }
        for run in records.chunks(RUN) {
            self.run(run, &mut outlines, out);
        }
        self.outlines = outlines;
    }

    fn run(&mut self, records: &[RecordRef<'_>], outlines: &mut Outlines, out: &mut ObserveOut) {
        let mut at = 0;
        while let Some(rest) = records.get(at..).filter(|rest| !rest.is_empty()) {
            outlines.clear();
            if let Some(decoder) = self.decoder.as_ref().filter(|_| self.is_bare()) {
                let most = self.pipeline.limits.record_bytes;
                let values = rest.iter().map(|record| record.value.unwrap_or_default());
                let _ = values
                    .take_while(|value| value.len() <= most && decoder.outline(value, outlines))
                    .count();
            }
            let mut done = 0;
            while let Some(record) = rest.get(done).filter(|_| done < outlines.len()) {
                let known = self.known(rest, outlines, done);
                done += known;
                if known == 0 {
                    self.record(*record, out);
                    done += 1;
                }
            }
            // the one that ended the run
            if let Some(record) = rest.get(done) {
                self.record(*record, out);
                done += 1;
            }
            at += done;
            if self.pending.rows.len() >= PENDING {
                self.flush(out);
            }
        }
    }

    /// Whether samples' values are taken as they are.
    fn is_bare(&self) -> bool {
        let source = &self.source;
        source.value.is_none() && source.filter.as_ref().is_none_or(|filter| !filter.reads_sample())
    }

    /// Takes outlined samples from one on, up to the first that is from the future, or whose series is unknown or has no row.
    fn known(&mut self, records: &[RecordRef<'_>], outlines: &Outlines, from: usize) -> usize {
        let future = self.pipeline.limits.future;
        let times = outlines.ts().iter().zip(records).skip(from);
        let timely = times.take_while(|(ts, record)| record.timestamp.is_none_or(|at| **ts <= at.plus(future)));
        let to = from + timely.count();
        let keys = outlines.keys().get(from..to).unwrap_or_default();
        let known = self.raw.rows(keys, &mut self.pending.rows);
        let taken = from..from + known;
        let (ts, values) = (outlines.ts().get(taken.clone()), outlines.values().get(taken));
        self.pending.ts.extend_from_slice(ts.unwrap_or_default());
        self.pending.values.extend_from_slice(values.unwrap_or_default());
        self.counters.records += known as u64;
        self.counters.samples += known as u64;
        known
    }

    /// Takes the samples of one record in. The decoder is lent out while its samples are looked up.
    pub(super) fn telemetry(&mut self, record: RecordRef<'_>, out: &mut ObserveOut) {
        let bytes = record.value.unwrap_or_default();
        let rekeyed = self.source.kind == SourceKind::Rekeyed;
        // what the repartition stage writes it has held to the bounds on records and on time already
        let too_large = too_large(bytes, self.pipeline.limits.record_bytes).filter(|_| !rekeyed);
        if let Some(reason) = too_large {
            return self.refuse(record.offset, reason, 0, out);
        }
        let Some(mut decoder) = self.decoder.take() else {
            impossible("telemetry without a decoder");
            return;
        };
        let mut taken = std::mem::take(&mut self.taken);
        let latest = record.timestamp.filter(|_| !rekeyed);
        let latest = latest.map(|at| at.plus(self.pipeline.limits.future));
        let mut intake = Intake {
            observe: self,
            latest,
            taken: &mut taken,
            offset: record.offset,
            out,
        };
        let decoded = decoder.decode(bytes, &mut intake);
        self.decoder = Some(decoder);
        match decoded {
            Err(error) => self.refuse(record.offset, error.to_string(), 0, out),
            Ok(decoded) => {
                self.counters.samples += decoded.accepted as u64;
                let carried = if rekeyed {
                    versions_of(record.headers)
                } else {
                    Vec::new()
                };
                for version in decoded.versions.into_iter().chain(carried) {
                    self.version(version, out);
                }
                self.express(&mut taken, record.offset, out);
                self.complain(record.offset, &decoded.rejected, &taken, out);
                taken.move_to(&mut self.pending);
            }
        }
        taken.clear();
        self.taken = taken;
    }

    /// Meets a series for the first time.
    fn register(&mut self, sample: &SampleRef<'_>, taken: &mut Taken, offset: i64, out: &mut ObserveOut) -> Slot {
        let Ok(key) = sample.key() else { return Slot::Refused };
        if !identity_kept(&self.source, &key, sample) {
            self.table
                .exclude(sample.hash, Slot::LeftOut, self.pipeline.limits.series);
            return Slot::LeftOut;
        }
        let seated = match self.pipeline.rolled_up_from(&key) {
            Some(made) => self.seat_instance(key, made, sample, taken, offset, out),
            None => self.seat(key, sample.hash, Role::Plain, None, sample, taken, offset, out),
        };
        match seated {
            Ok(row) => {
                if let Some(key) = self.table.get(row).map(|series| series.key.clone()) {
                    self.edge(&key, || taken.reached(sample.ts), out);
                }
                Slot::Row(row)
            }
            Err(slot) => slot,
        }
    }

    /// Gives an instance's series a row, and one to what it is rolled up into, unless that has one. Where one of its
    /// siblings has been silent for long, it gives way.
    fn seat_instance(
        &mut self,
        key: SeriesKey,
        made: SeriesKey,
        sample: &SampleRef<'_>,
        taken: &mut Taken,
        offset: i64,
        out: &mut ObserveOut,
    ) -> Result<u32, Slot> {
        let hash = rolled_up_in(made.hash64(), self.shard.partition);
        let into = match self.table.slot(hash) {
            Some(Slot::Row(row)) => Ok(row),
            Some(slot) => Err(slot),
            None => self.seat(made, hash, Role::RolledUp, None, sample, taken, offset, out),
        };
        let seated = into.and_then(|into| {
            let free = self.replaced(into, taken, offset, out);
            let most = self.pipeline.instances.most as usize;
            if free.is_none() && self.judge.rollup.members(into).len() >= most {
                return Err(Slot::Crowded);
            }
            let alike = SeriesKey {
                metric: "".into(),
                labels: key.labels.clone(),
            };
            let row = self.seat(key, sample.hash, Role::Instance, free, sample, taken, offset, out)?;
            self.judge.join(into, row, alike.hash64());
            Ok(row)
        });
        self.judge.rollup.settle();
        if seated == Err(Slot::Refused) && self.pipeline.limits.at_series == AtSeries::Refuse {
            self.table
                .exclude(sample.hash, Slot::Refused, self.pipeline.limits.series);
        }
        seated
    }

    /// Gives a series a row: one that is `free`, a new one, or where there is no more room, that of another which gives way.
    #[allow(clippy::too_many_arguments)] // the series, and what a sample is taken in with
    fn seat(
        &mut self,
        key: SeriesKey,
        hash: u64,
        role: Role,
        free: Option<u32>,
        sample: &SampleRef<'_>,
        taken: &mut Taken,
        offset: i64,
        out: &mut ObserveOut,
    ) -> Result<u32, Slot> {
        let limit = self.pipeline.limits.series;
        let full = free.is_none() && self.table.len() >= limit;
        if full && self.pipeline.limits.at_series == AtSeries::Refuse {
            self.table.exclude(hash, Slot::Refused, limit);
            return Err(Slot::Refused);
        }
        // an instance is read as what it is rolled up into is
        let made = (role == Role::Instance).then(|| self.pipeline.rolled_up_from(&key));
        let named = made.flatten();
        let named = named.as_ref().unwrap_or(&key);
        let index = self.matcher.index(&named.metric, |name| named.labels.get(name));
        let Some(signal) = self.matcher.rules().get(index).cloned() else {
            impossible("a series that no rule is for, not even the last");
            return Err(Slot::Refused);
        };
        let told = matches!(sample.kind, PointKind::Cumulative { monotonic: true });
        // nobody says what it is, but for its name
        let unsaid = sample.kind == PointKind::Unspecified
            && (signal.aggregate, signal.counter) == (None, None)
            && self.pipeline.window.size.is_some()
            && meter::may_count(&key.metric);
        let aggregate = match (signal.aggregate, sample.kind) {
            (None, PointKind::Delta { .. }) => Aggregate::Sum,
            _ if unsaid => Aggregate::Rate,
            _ => signal.aggregate_of(told),
        };
        let kind = signal.kind.unwrap_or_else(|| {
            let told = sample.signal.unwrap_or_else(|| signal.kind_of(&key.metric));
            told.of_labels(key.labels.iter())
        });
        let free = if full {
            Some(self.make_room(taken, offset, out).ok_or(Slot::Refused)?)
        } else {
            free
        };
        let row = match free {
            Some(row) => self
                .windows
                .reuse(row, aggregate)
                .map(|()| row)
                .map_err(|_| Slot::Refused)?,
            None => self.windows.add_series(aggregate),
        };
        #[allow(clippy::cast_possible_truncation)] // as many as the pipeline file has rules
        let rule = index as u32;
        let (scope, service) = self.place_of(&key);
        let place = (scope.clone(), service.clone());
        let mut series = Series {
            key,
            hash,
            scope,
            service,
            kind,
            rule,
            bank_row: NOBODY,
            role,
        };
        if role != Role::Instance {
            let hints = SeriesHints {
                metric: &series.key.metric,
                kind,
                counter: signal.is_counter(told) || unsaid && self.judge.meter.is_counter(&series.key.metric),
                hash,
            };
            let known = self.model.as_ref();
            let known = known.and_then(|model| model.find(series.learned_as(), &signal));
            series.bank_row = self.judge.add(rule, row, hints, known);
        }
        if role == Role::RolledUp {
            let how = How::of(kind, &series.key.metric, aggregate);
            self.judge.rollup.add(row, kind, how);
        }
        if unsaid {
            self.judge.meter.add(row, &series.key);
        }
        self.judge.derive.note(row, aggregate);
        if free.is_some() {
            self.table.replace(row, series);
        } else {
            self.table.add(series);
        }
        self.watch(&place.0, place.1.as_ref(), kind, || taken.reached(sample.ts), out);
        Ok(row)
    }

    /// The scope and the service of a series.
    pub(super) fn place_of(&self, key: &SeriesKey) -> (Arc<str>, Option<Arc<str>>) {
        let scope = key.labels.get(&self.pipeline.scope.label);
        let scope = scope.unwrap_or(&self.pipeline.scope.default);
        (scope.into(), key.labels.get(&self.pipeline.entity).map(Arc::from))
    }

    /// Says that a service is watched in a kind of signal, once.
    pub(super) fn watch(
        &mut self,
        scope: &Arc<str>,
        service: Option<&Arc<str>>,
        kind: SignalKind,
        at: impl FnOnce() -> Timestamp,
        out: &mut ObserveOut,
    ) {
        let watched = Watched {
            service: service.cloned(),
            kind,
        };
        let entry = (scope.clone(), watched);
        if self.watched.contains(&entry) || self.watched.len() >= self.pipeline.limits.series {
            return;
        }
        self.watched.insert(entry.clone());
        // as with edges
        self.flush(out);
        self.say(entry.0, at(), FactBody::Watched(entry.1), out);
    }

    /// Says an edge of the call graph where a series' labels name both ends.
    pub(super) fn edge(&mut self, key: &SeriesKey, at: impl Fn() -> Timestamp, out: &mut ObserveOut) {
        for pair in 0..self.pipeline.topology.from_labels.len() {
            let Some(ends) = self.pipeline.topology.from_labels.get(pair) else {
                continue;
            };
            let (Some(from), Some(to)) = (key.labels.get(&ends.from), key.labels.get(&ends.to)) else {
                continue;
            };
            let ends: (Arc<str>, Arc<str>) = (from.into(), to.into());
            if self.edges.contains(&ends) || self.edges.len() >= self.pipeline.limits.series {
                continue;
            }
            self.edges.insert(ends.clone());
            // what came before is said before, however records come in batches
            self.flush(out);
            let scope = key
                .labels
                .get(&self.pipeline.scope.label)
                .unwrap_or(&self.pipeline.scope.default)
                .into();
            let edge = Edge {
                from: ends.0,
                to: ends.1,
                source: EdgeSource::Telemetry,
            };
            self.say(scope, at(), FactBody::Edge(edge), out);
        }
    }

    /// A version of a service that was never there before is a deploy, announced or not: once, however often it and others
    /// that run beside it alternate. What was seen in each environment is kept as one text, a version a line, the newest last.
    fn version(&mut self, seen: ServiceVersion, out: &mut ObserveOut) {
        let place: Arc<str> = match &seen.environment {
            Some(environment) => format!("{environment}\n{}", seen.service).into(),
            None => seen.service.clone(),
        };
        let line = match seen.version.contains(['\n', '\r']) {
            true => seen.version.replace(['\n', '\r'], " ").into(),
            false => seen.version.clone(),
        };
        let known = self.versions.get(&place);
        if known.is_some_and(|known| known.lines().any(|version| version == &*line)) {
            return;
        }
        let first = known.is_none();
        if first && self.versions.len() >= self.pipeline.limits.series {
            return;
        }
        let mut lines: Vec<&str> = known.map(|known| known.lines().collect()).unwrap_or_default();
        lines.push(&line);
        let most = lines.len().saturating_sub(VERSIONS);
        let kept = lines.split_off(most).join("\n");
        self.versions.insert(place, kept.into());
        if first {
            return;
        }
        // as with edges
        self.flush(out);
        self.change(
            Change {
                id: format!("version-{}-{}", seen.service, seen.version).into(),
                at: seen.at,
                kind: ChangeKind::Deploy,
                service: seen.service,
                environment: seen.environment,
                artifact: Some(seen.version),
                source: "telemetry".into(),
                event_type: "service.version".into(),
            },
            None,
            out,
        );
    }

    /// Applies what the pipeline file says of the samples' values to those of one record.
    pub(super) fn express(&mut self, taken: &mut Taken, offset: i64, out: &mut ObserveOut) {
        let table = &self.table;
        match taken.express(&self.source, |row| table.get(row).map(|series| &series.key)) {
            Ok(left_out) => self.counters.left_out += left_out,
            Err(reason) => {
                let samples = taken.rows.len() as u64;
                taken.clear();
                self.refuse(offset, reason, samples, out);
            }
        }
    }

    /// One dead letter for all that was wrong with a record.
    fn complain(&mut self, offset: i64, rejected: &[Rejected], taken: &Taken, out: &mut ObserveOut) {
        let limits = &self.pipeline.limits;
        let refused = || {
            format!(
                "{} samples of new series, but the shard has {} already{}: raise limits.series, or send fewer",
                taken.refused,
                limits.series,
                match limits.at_series {
                    AtSeries::Refuse => "",
                    AtSeries::Evict => ", and none of them is silent",
                }
            )
        };
        let complaints = taken.complaints(rejected, limits.future, refused);
        self.counters.series_refused += taken.refused;
        self.counters.instances_refused += taken.crowded;
        self.counters.future += taken.future;
        if let Some((reason, samples)) = complaints {
            self.refuse(offset, reason, samples, out);
        }
    }
}

/// Whether a condition keeps a series, as far as that can be told from its name and labels.
pub(crate) fn identity_kept(source: &Source, key: &SeriesKey, sample: &SampleRef<'_>) -> bool {
    let Some(filter) = source.filter.as_ref().filter(|filter| !filter.reads_sample()) else {
        return true;
    };
    let rows = Rows {
        metric: &[&key.metric],
        labels: &[&key.labels],
        value: &[sample.value],
        ts: &[sample.ts],
    };
    filter.keep(rows).is_ok_and(|kept| kept == [true])
}

/// Why a record is too large to be looked at, where it is.
pub(crate) fn too_large(bytes: &[u8], limit: usize) -> Option<String> {
    (bytes.len() > limit).then(|| {
        format!(
            "the record has {} bytes, at most {limit} are taken: send less or raise limits.record_bytes",
            bytes.len()
        )
    })
}
