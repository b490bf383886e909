//! What a shard tells while it is at work: to the log, and to those who ask how it stands. Nothing is told of what is only done
//! again after a restart.

use std::{collections::BTreeMap, sync::Arc};

use suture_engine::{Decide, DecideOut, Verdict, VerdictOutcome, Warmth};
use suture_event::{Fact, FactBody, ShardId, Span, Timestamp};

use crate::{
    status::{Board, Letters, Warm},
    story::{self, Line, Pace, Weight, many},
};

/// Anomalies that a shard tells of in a minute.
const ANOMALIES: u32 = 20;
/// Groups that are no incident which a shard tells of in a minute.
const GROUPS: u32 = 10;
/// How often a shard is looked at anew, by the clock on the wall.
const LOOK: Span = Span::from_secs(5);
/// After so long without a sample a shard says so.
const NOTHING: Span = Span::from_mins(1);
/// One in so many series may be unknown while a shard counts as warm.
const TWENTIETH: u64 = 20;
/// A group that has come less far than this share of the way to an incident is not told of.
const NEAR: f64 = 0.5;

/// What every plane's shard tells.
pub(super) struct Teller {
    plane: &'static str,
    shard: ShardId,
    board: Arc<Board>,
    live: bool,
    letters: Letters,
    minute: i64,
}

impl Teller {
    pub(super) fn new(plane: &'static str, shard: &ShardId, board: &Arc<Board>) -> Self {
        Self {
            plane,
            shard: shard.clone(),
            board: board.clone(),
            live: false,
            letters: Letters::default(),
            minute: 0,
        }
    }

    /// From now on what happens is new.
    pub(super) fn go_live(&mut self) {
        self.live = true;
    }

    /// A record went to the dead letters: the first for a reason is told at once, the others are counted.
    pub(super) fn dead_letter(&mut self, offset: i64, reason: &str) {
        if !self.live {
            return;
        }
        if self.letters.add(offset, reason) {
            let shard = &self.shard;
            warning(format!(
                "{shard}: a record could not be taken in, wholly or in part, and went to the dead letters (offset {offset}): {reason}"
            ))
            .log();
        }
    }

    /// Time has come to here.
    pub(super) fn pass(&mut self, now: Timestamp) {
        let minute = now.as_millis().div_euclid(60_000);
        if !self.live || minute == self.minute {
            return;
        }
        self.minute = minute;
        let told = self.letters.tell();
        let total: u64 = told.iter().map(|(records, ..)| records).sum();
        if total > 0 {
            let reasons = told.iter().take(3);
            let reasons: Vec<String> = reasons
                .map(|(records, reason, offset)| format!("{records} like that at offset {offset}: {reason}"))
                .collect();
            warning(format!(
                "{}: {} more went to the dead letters in the last minute; {}",
                self.shard,
                many(total, "record", "records"),
                reasons.join("; ")
            ))
            .log();
        }
        let letters = self.letters.all();
        self.board
            .write(self.plane, &self.shard, |status| status.dead_letters = letters);
    }
}

/// What has been said of a shard's warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    /// That nothing comes.
    Empty,
    /// That so many series are being learned.
    Warming(u64),
    /// That what is usual is known.
    Warm,
}

/// What a shard of observe tells.
pub(super) struct ObserveTeller {
    all: Teller,
    anomalies: Pace,
    said: Said,
    began: Option<Timestamp>,
    looked: Option<Timestamp>,
    warming: Option<u64>,
    /// Whether it reads telemetry.
    telemetry: bool,
    window: Option<Span>,
}

impl ObserveTeller {
    pub(super) fn new(all: Teller, telemetry: bool, window: Option<Span>) -> Self {
        Self {
            all,
            anomalies: Pace::default(),
            said: Said::Nothing,
            began: None,
            looked: None,
            warming: None,
            telemetry,
            window,
        }
    }

    pub(super) fn go_live(&mut self) {
        self.all.go_live();
    }

    pub(super) fn dead_letter(&mut self, offset: i64, reason: &str) {
        self.all.dead_letter(offset, reason);
    }

    pub(super) fn fact(&mut self, fact: &Fact) {
        if !self.all.live {
            return;
        }
        match &fact.body {
            FactBody::Anomaly(anomaly) => {
                if let Some(line) = story::of_anomaly(anomaly)
                    && self.anomalies.may(ANOMALIES, anomaly.service.as_ref())
                {
                    line.log();
                }
            }
            FactBody::Change(change) => story::of_change(change).log(),
            _ => {}
        }
    }

    /// Time has come to here. `look` says how far the shard has learned, which costs something.
    pub(super) fn pass(&mut self, now: Timestamp, watermark: Option<Timestamp>, look: impl FnOnce() -> Warmth) {
        if !self.all.live {
            return;
        }
        self.all.pass(now);
        if let Some((left, whose)) = self.anomalies.pass(now) {
            let shard = &self.all.shard;
            let whose = if whose.is_empty() {
                String::new()
            } else {
                format!(": {whose}")
            };
            let left = many(left, "line", "lines");
            note(format!(
                "{shard}: {left} on anomalies of the last minute were left out{whose}"
            ))
            .log();
        }
        if !self.telemetry
            || self
                .looked
                .is_some_and(|looked| now >= looked && now.since(looked) < LOOK)
        {
            return;
        }
        self.looked = Some(now);
        let began = *self.began.get_or_insert(now);
        let warmth = look();
        self.warming = Some(warmth.warming);
        let warm = Warm::of(warmth, watermark, self.window);
        self.say_warmth(warmth, warm.until, now.since(began));
        self.all
            .board
            .write(self.all.plane, &self.all.shard, |status| status.warm = Some(warm));
    }

    /// Series of which nothing is said yet, when that was last looked at.
    pub(super) const fn warming(&self) -> Option<u64> {
        self.warming
    }

    fn say_warmth(&mut self, warmth: Warmth, until: Option<Timestamp>, waited: Span) {
        let shard = &self.all.shard;
        let Warmth {
            series,
            warming,
            windows,
        } = warmth;
        if series == 0 {
            if self.said == Said::Nothing && waited >= NOTHING {
                self.said = Said::Empty;
                note(format!(
                    "{shard}: no telemetry has come yet: nothing can be judged before it does"
                ))
                .log();
            }
            return;
        }
        let cold = warming * TWENTIETH > series;
        let grown = match self.said {
            Said::Warming(before) => series > before.saturating_add(before / 2),
            _ => true,
        };
        if cold && grown {
            self.said = Said::Warming(series);
            let until = match until {
                Some(at) => format!("until about {}", story::time(at)),
                None => format!("for {} more of each", many(windows.into(), "sample", "samples")),
            };
            note(format!(
                "{shard}: warming up {until}: what is usual of {warming} of {series} series is being learned, and nothing is said \
                 of these before"
            ))
            .log();
        } else if !cold && self.said != Said::Warm {
            self.said = Said::Warm;
            let some = if warming == 0 {
                String::new()
            } else {
                format!(" but {warming}")
            };
            note(format!(
                "{shard}: warm: what is usual is known of all {series} series{some}, and what is not is told"
            ))
            .log();
        }
    }
}

/// What a shard of decide tells.
pub(super) struct DecideTeller {
    all: Teller,
    groups: Pace,
    now: Timestamp,
    published: Option<Timestamp>,
}

impl DecideTeller {
    pub(super) fn new(all: Teller) -> Self {
        Self {
            all,
            groups: Pace::default(),
            now: Timestamp::MIN,
            published: None,
        }
    }

    pub(super) fn go_live(&mut self) {
        self.all.go_live();
    }

    pub(super) fn dead_letter(&mut self, offset: i64, reason: &str) {
        self.all.dead_letter(offset, reason);
    }

    /// Tells what was decided, before it is put out.
    pub(super) fn decided(&mut self, decide: &Decide, out: &mut DecideOut) {
        let verdicts = std::mem::take(&mut out.verdicts);
        if !self.all.live {
            return;
        }
        let mut opened: BTreeMap<Arc<str>, Verdict> = BTreeMap::new();
        for verdict in verdicts {
            self.all
                .board
                .write(self.all.plane, &self.all.shard, |status| status.hold(&verdict));
            let far = matches!(verdict.outcome, VerdictOutcome::BelowBar | VerdictOutcome::Passed)
                && verdict.height < NEAR * verdict.bar;
            if let VerdictOutcome::Opened { incident } = &verdict.outcome {
                opened.insert(incident.clone(), verdict);
            } else if !far
                && let Some(line) = story::of_verdict(&verdict)
                && self.groups.may(GROUPS, verdict.service.as_ref())
            {
                line.log();
            }
        }
        for incident in &out.incidents {
            if let Some(line) = story::of_incident(incident) {
                line.log();
            }
            if let Some(line) = opened.remove(&incident.id).as_ref().and_then(story::why_opened) {
                line.log();
            }
        }
        for record in &out.ledger {
            if let Some(line) = story::of_ledger(record) {
                line.log();
            }
        }
        out.remediations
            .iter()
            .for_each(|request| story::of_request(request).log());
        if !out.incidents.is_empty() || !out.ledger.is_empty() {
            self.publish(decide);
        }
    }

    /// Time has come to here.
    pub(super) fn pass(&mut self, now: Timestamp, decide: &Decide) {
        if !self.all.live || now <= self.now {
            return;
        }
        self.now = now;
        self.all.pass(now);
        if let Some((left, _)) = self.groups.pass(now) {
            let left = many(left, "line", "lines");
            note(format!(
                "{}: {left} on what is no incident were left out in the last minute",
                self.all.shard
            ))
            .log();
        }
        if self.published.is_none_or(|at| now.since(at) >= LOOK) {
            self.publish(decide);
        }
    }

    fn publish(&mut self, decide: &Decide) {
        self.published = Some(self.now);
        self.all
            .board
            .write(self.all.plane, &self.all.shard, |status| status.stand(decide));
    }
}

fn note(text: String) -> Line {
    Line {
        weight: Weight::Note,
        text,
    }
}

fn warning(text: String) -> Line {
    // a reason may quote a record, which may hold anything
    Line {
        weight: Weight::Warning,
        text: text.replace(|c: char| c.is_control(), " "),
    }
}
