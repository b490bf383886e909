//! Outcomes and commands of files, each of which is taken when telemetry has come to its time.

use std::collections::VecDeque;

use suture_engine::{Observe, ObserveOut};
use suture_event::{Fact, FactBody, Progress, Timestamp};

use super::{Report, lines::Lines, record};

/// What executors and people said, in order of time. Held whole: there are few of them beside telemetry.
#[derive(Default)]
pub(super) struct Aside {
    waiting: VecDeque<(Timestamp, Fact)>,
    /// How far telemetry was said to be.
    reached: Timestamp,
}

impl Aside {
    /// Reads a file of outcomes or commands, through the fold that reads their topic.
    pub(super) fn read(&mut self, mut lines: Lines, mut observe: Observe, report: &mut Report) -> anyhow::Result<()> {
        let mut out = ObserveOut::default();
        // one that was written after another comes after it, whatever clocks say
        let mut latest = Timestamp::MIN;
        while let Some(line) = lines.next_line()? {
            observe.record(record(&line), &mut out);
            for fact in out.facts.drain(..) {
                let at = match &fact.body {
                    FactBody::Outcome(outcome) => outcome.at,
                    FactBody::Command(command) => command.at,
                    _ => continue,
                };
                latest = latest.max(at);
                self.waiting.push_back((latest, fact));
            }
            for letter in out.dead_letters.drain(..) {
                report.rejected(&lines, letter.offset, &letter.reason)?;
            }
        }
        lines.require_some_good(report.refused_in(&lines))
    }

    /// Puts what came of several files in order.
    pub(super) fn sort(&mut self) {
        self.waiting.make_contiguous().sort_by_key(|(at, _)| *at);
    }

    /// What comes before a fact of telemetry. Before a mark that time has gone on these are the outcomes and commands up to then,
    /// each behind a mark that time has come to it and no further: so nothing depends on how often marks are made.
    pub(super) fn before(&mut self, fact: &Fact) -> Vec<Fact> {
        let mut earlier = Vec::new();
        let FactBody::Progress(progress) = &fact.body else {
            return earlier;
        };
        while let Some((at, _)) = self.waiting.front().filter(|(at, _)| *at <= progress.watermark) {
            if *at > self.reached {
                self.reached = *at;
                let mark = Progress {
                    watermark: *at,
                    series: None,
                    silent: None,
                    ..progress.clone()
                };
                earlier.push(Fact {
                    at: *at,
                    body: FactBody::Progress(mark),
                    ..fact.clone()
                });
            }
            earlier.extend(self.waiting.pop_front().map(|(_, fact)| fact));
        }
        self.reached = self.reached.max(progress.watermark);
        earlier
    }

    /// All that still waits.
    pub(super) fn rest(&mut self) -> Vec<Fact> {
        self.waiting.drain(..).map(|(_, fact)| fact).collect()
    }
}

#[cfg(test)]
mod tests {
    use suture_event::{Command, CommandKind, ShardId};

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn fact(at: Timestamp, body: FactBody) -> Fact {
        let shard = ShardId {
            topic: "t".into(),
            partition: 0,
        };
        Fact {
            scope: "".into(),
            at,
            shard,
            seq: 0,
            body,
        }
    }

    fn mark(seconds: i64) -> Fact {
        let progress = Progress {
            watermark: at(seconds),
            wall: Timestamp::MIN,
            idle: false,
            silent: None,
            stopped: false,
            roster: Vec::new(),
            series: None,
        };
        fact(at(seconds), FactBody::Progress(progress))
    }

    fn freeze(seconds: i64) -> (Timestamp, Fact) {
        let command = Command {
            id: format!("c{seconds}").into(),
            at: at(seconds),
            by: "ann".into(),
            scope: "prod".into(),
            kind: CommandKind::Freeze,
            reason: String::new(),
            seal: None,
        };
        (at(seconds), fact(at(seconds), FactBody::Command(command)))
    }

    /// What is handed on where telemetry is marked at these times: `~` for marks.
    fn order(marks: &[i64]) -> Vec<String> {
        let mut aside = Aside::default();
        aside.waiting.extend([freeze(7), freeze(3), freeze(7)]);
        aside.sort();
        let mut all = Vec::new();
        for mark_at in marks {
            all.extend(aside.before(&mark(*mark_at)));
            all.push(mark(*mark_at));
        }
        all.extend(aside.rest());
        let word = |fact: &Fact| match &fact.body {
            FactBody::Progress(progress) => format!("~{}", progress.watermark.as_millis() / 1_000),
            _ => (fact.at.as_millis() / 1_000).to_string(),
        };
        all.iter().map(word).collect()
    }

    #[test]
    fn each_is_taken_when_time_has_come_to_it_however_often_time_is_told() {
        assert_eq!(order(&[10]), ["~3", "3", "~7", "7", "7", "~10"]);
        assert_eq!(
            order(&[1, 3, 5, 10]),
            ["~1", "~3", "3", "~3", "~5", "~7", "7", "7", "~10"]
        );
        assert_eq!(order(&[3, 4]), ["~3", "3", "~3", "~4", "7", "7"]);
    }
}
