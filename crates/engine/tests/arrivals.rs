//! The same facts, whatever arrives when: any interleaving of partitions, any delay that is waited for, and any idleness lead to
//! the same decisions.
//!
//! `SUTURE_SEEDS=1000 cargo test --release -p suture-engine --test arrivals` tries so many arrivals.

// what goes wrong here is a failed test
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::cast_possible_wrap)]

use std::{collections::VecDeque, sync::Arc};

use suture_config::Pipeline;
use suture_engine::{Decide, DecideOut, Headers, NoExpressions, Observe, ObserveOut, RecordRef, Source};
use suture_event::{
    Fact, FactBody, Incident, IncidentStatus, Progress, ShardId, Span, Timestamp, stable_hash, verify_chain,
};
use suture_simulate::{FaultKind, Options, Recording, record};
use suture_testkit::ROLL_BACK;

/// As a user has it who names nothing but topics; what may be done comes after it.
const PIPELINE: &str = "
version: 1
name: test
telemetry: [{topic: telemetry}]
changes: [{topic: changes}]
window: {size: 1m}
";
/// Telemetry partitions. Two of them stay empty.
const PARTITIONS: i32 = 6;
const WITH_TELEMETRY: u64 = 4;

fn pipeline(clock: &str) -> Arc<Pipeline> {
    let text = format!("{PIPELINE}{ROLL_BACK}clock: {clock}\n");
    Arc::new(Pipeline::parse("test.yaml", &text, &|_| None).unwrap_or_else(|problems| panic!("{problems}")))
}

fn roster() -> Vec<ShardId> {
    let shard = |topic: &str, partition| ShardId {
        topic: topic.into(),
        partition,
    };
    let telemetry = (0..PARTITIONS).map(|partition| shard("telemetry", partition));
    std::iter::once(shard("changes", 0)).chain(telemetry).collect()
}

fn shop() -> Recording {
    record(Options {
        seed: 3,
        services: 8,
        instances: 1,
        step: Span::from_mins(1),
        warmup: Span::from_hours(8),
        faults: 2,
        kinds: vec![FaultKind::BadDeploy],
        fault_every: Span::from_mins(60),
        fault_lasts: Some(Span::from_mins(12)),
        ..Options::default()
    })
    .unwrap()
}

/// What each shard of the roster reads, with the time that it tells of.
fn inputs(recording: &Recording) -> Vec<Vec<(Timestamp, Vec<u8>)>> {
    let mut inputs = vec![Vec::new(); roster().len()];
    for change in &recording.changes {
        let at = change["context"]["timestamp"].as_str().unwrap();
        inputs[0].push((at.parse().unwrap(), change.to_string().into_bytes()));
    }
    for sample in &recording.samples {
        let service = sample.labels.get("service").unwrap_or_default();
        let partition = stable_hash([service.as_bytes()]) % WITH_TELEMETRY;
        let text = serde_json::to_vec(sample).unwrap();
        inputs[1 + usize::try_from(partition).unwrap()].push((sample.ts, text));
    }
    inputs
}

fn observe(pipeline: &Arc<Pipeline>, shard: &ShardId) -> Observe {
    let sources = Source::all(pipeline, &NoExpressions).unwrap();
    let source = sources.into_iter().find(|source| source.topic == *shard.topic).unwrap();
    Observe::new(pipeline.clone(), shard.clone(), source).unwrap()
}

fn take(observe: &mut Observe, offset: usize, written: Option<Timestamp>, value: &[u8], out: &mut ObserveOut) {
    let record = RecordRef {
        offset: offset as i64,
        timestamp: written,
        key: None,
        headers: Headers::default(),
        value: Some(value),
    };
    observe.record(record, out);
    observe.flush(out);
}

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = stable_hash([self.0.to_le_bytes().as_slice()]);
        self.0 % bound.max(1)
    }
}

/// What was decided: every state of every incident, and what was asked for, without the times that the clock on the wall gave.
#[derive(Debug)]
struct Decided {
    incidents: Vec<(Timestamp, String)>,
    requests: Vec<String>,
    ledger: Vec<String>,
    late: u64,
}

/// Decide over what came in this order, with restarts in between.
fn decide(pipeline: &Arc<Pipeline>, recording: &Recording, facts: &[Fact], random: &mut Random) -> Decided {
    let fresh = || Decide::new(pipeline.clone(), recording.topology.clone());
    let (mut decide, mut out) = (fresh(), DecideOut::default());
    let mut late = 0;
    for fact in facts {
        if random.below(2_000) == 0 {
            let bytes = decide.snapshot().unwrap();
            late = decide.counters().late;
            decide = fresh();
            decide.restore(&bytes).unwrap();
        }
        decide.fact(fact.clone(), &mut out).unwrap();
    }
    verify_chain(&out.ledger).unwrap();
    let opened = out
        .incidents
        .iter()
        .filter(|incident| incident.status == IncidentStatus::Open);
    assert!(
        opened.count() > 0 && !out.remediations.is_empty(),
        "nothing was decided"
    );
    let text = |value: serde_json::Value| value.to_string();
    let state = |incident: &Incident| (incident.updated_at, text(serde_json::to_value(incident).unwrap()));
    let request = |request: &suture_event::ActionRequest| {
        format!(
            "{} {} of {}, try {}",
            request.playbook, request.class, request.incident, request.attempt
        )
    };
    Decided {
        incidents: out.incidents.iter().map(state).collect(),
        requests: out.remediations.iter().map(request).collect(),
        ledger: out
            .ledger
            .iter()
            .map(|r| text(serde_json::to_value(r).unwrap()))
            .collect(),
        late: late.max(decide.counters().late),
    }
}

fn seeds(usual: u64) -> std::ops::RangeInclusive<u64> {
    let asked = std::env::var("SUTURE_SEEDS").ok().and_then(|text| text.parse().ok());
    1..=asked.unwrap_or(usual)
}

fn mark(shard: &ShardId, watermark: Timestamp, wall: Timestamp, idle: bool) -> Fact {
    Fact {
        scope: "".into(),
        at: watermark,
        shard: shard.clone(),
        seq: 0,
        body: FactBody::Progress(Progress {
            watermark,
            wall,
            idle,
            silent: None,
            stopped: false,
            roster: roster(),
            series: None,
        }),
    }
}

/// By the event clock: what each shard says is one sequence, in which marks stand anywhere, and the sequences are shuffled
/// into each other at will. A shard that is empty is idle at once; one that is not is so at its end.
#[test]
fn by_the_event_clock_everything_is_the_same_to_the_last_byte() {
    let (recording, pipeline) = (shop(), pipeline("event"));
    // a fact, or how far the shard is after each record
    let mut said: Vec<Vec<Result<Fact, Timestamp>>> = Vec::new();
    for (shard, records) in roster().iter().zip(inputs(&recording)) {
        let mut fold = observe(&pipeline, shard);
        let mut all = Vec::new();
        for (offset, (_, value)) in records.iter().enumerate() {
            let mut out = ObserveOut::default();
            take(&mut fold, offset, None, value, &mut out);
            all.extend(out.facts.into_iter().map(Ok));
            all.push(Err(fold.watermark()));
        }
        said.push(all);
    }
    let mut first: Option<Decided> = None;
    for seed in seeds(24) {
        let mut random = Random(seed);
        let mut wall = Timestamp::from_millis(1_900_000_000_000);
        let mut facts = Vec::new();
        let mut streams: Vec<VecDeque<_>> = said.iter().map(|all| all.iter().collect()).collect();
        // how long a shard goes on by itself, and how seldom it says how far it is
        let (run, seldom) = (1 + random.below(4_000), 1 + random.below(200));
        let roster = roster();
        for (shard, stream) in roster.iter().zip(&streams) {
            facts.push(mark(shard, Timestamp::MIN, wall, stream.is_empty()));
        }
        while streams.iter().any(|stream| !stream.is_empty()) {
            let at = usize::try_from(random.below(streams.len() as u64)).unwrap();
            for _ in 0..random.below(run) {
                match streams[at].pop_front() {
                    Some(Ok(fact)) => facts.push(fact.clone()),
                    Some(Err(reached)) if random.below(seldom) == 0 => {
                        wall = wall.plus(Span::from_millis(7));
                        facts.push(mark(&roster[at], *reached, wall, false));
                    }
                    _ => {}
                }
            }
        }
        for (shard, all) in roster.iter().zip(&said) {
            let reached = all.iter().rev().find_map(|said| said.as_ref().err());
            facts.push(mark(shard, reached.copied().unwrap_or(Timestamp::MIN), wall, false));
        }
        for (shard, all) in roster.iter().zip(&said) {
            let reached = all.iter().rev().find_map(|said| said.as_ref().err());
            facts.push(mark(shard, reached.copied().unwrap_or(Timestamp::MIN), wall, true));
        }
        let decided = decide(&pipeline, &recording, &facts, &mut random);
        same(&mut first, decided, seed);
    }
}

fn same(first: &mut Option<Decided>, decided: Decided, seed: u64) {
    let Some(first) = first else {
        *first = Some(decided);
        return;
    };
    let differs = |one: &str, other: &str| {
        let at = one
            .bytes()
            .zip(other.bytes())
            .position(|(a, b)| a != b)
            .unwrap_or_default();
        let near = |text: &str| {
            text.get(at.saturating_sub(80)..(at + 80).min(text.len()))
                .map(str::to_owned)
        };
        (near(one), near(other))
    };
    for ((at, one), (_, other)) in first.incidents.iter().zip(&decided.incidents) {
        assert!(one == other, "seed {seed}, at {at}: {:?}", differs(one, other));
    }
    for (one, other) in first.ledger.iter().zip(&decided.ledger) {
        assert!(one == other, "seed {seed}: {:?}", differs(one, other));
    }
    let counts = |decided: &Decided| {
        (
            decided.incidents.len(),
            decided.requests.clone(),
            decided.ledger.len(),
            decided.late,
        )
    };
    assert_eq!(counts(first), counts(&decided), "seed {seed}");
}

/// By the wall clock, with the program's own marks: records arrive up to a minute late, partition by partition, commits are
/// seen up to five seconds late, and a shard is idle whenever nothing has come for five seconds.
#[test]
fn by_the_wall_clock_the_same_incidents_open_and_the_same_is_asked_for() {
    let (recording, pipeline) = (shop(), pipeline("wall"));
    let (roster, inputs) = (roster(), inputs(&recording));
    let mut first: Option<Decided> = None;
    for seed in seeds(4) {
        let mut random = Random(seed);
        // each with the time at which it can be read
        let mut facts: Vec<(Timestamp, usize, Fact)> = Vec::new();
        let last = recording.samples.last().unwrap().ts;
        // where telemetry has not been missing for long yet
        let end = last.plus(Span::from_secs(115));
        for (at, (shard, records)) in roster.iter().zip(&inputs).enumerate() {
            let mut fold = observe(&pipeline, shard);
            let mut arrivals: VecDeque<(Timestamp, usize)> = VecDeque::new();
            let longest = match at {
                0 => 4_000,
                _ => 1 + random.below(59_000),
            };
            let mut latest = Timestamp::MIN;
            for (offset, (time, _)) in records.iter().enumerate() {
                // one delay a minute, as a partition that is behind is so as a whole
                let minute = time.as_millis() / 60_000;
                let delay = Random(seed ^ stable_hash([minute.to_le_bytes().as_slice(), &[at as u8]])).below(longest);
                latest = latest.max(time.plus(Span::from_millis(delay as i64)));
                arrivals.push_back((latest, offset));
            }
            let start = recording.samples.first().unwrap().ts.minus(Span::from_mins(1));
            let (mut wall, mut heard) = (start.plus(Span::from_millis(random.below(1_000) as i64)), start);
            let mut readable = wall;
            while wall < end {
                let mut out = ObserveOut::default();
                while let Some((arrived, offset)) = arrivals.front().copied().filter(|(arrived, _)| *arrived <= wall) {
                    arrivals.pop_front();
                    heard = arrived;
                    take(&mut fold, offset, Some(arrived), &records[offset].1, &mut out);
                }
                let idle = wall >= heard.plus(Span::from_secs(5));
                assert_eq!(fold.silent_to(wall, idle), None);
                fold.tick(wall, idle, &roster, &mut out);
                readable = readable.max(wall.plus(Span::from_millis(random.below(5_000) as i64)));
                let place = facts.len();
                facts.extend((place..).zip(out.facts).map(|(place, fact)| (readable, place, fact)));
                wall = wall.plus(Span::from_millis(1_000 + random.below(4_000) as i64));
            }
        }
        facts.sort_by_key(|(readable, place, _)| (*readable, *place));
        let facts: Vec<Fact> = facts.into_iter().map(|(.., fact)| fact).collect();
        let mut decided = decide(&pipeline, &recording, &facts, &mut random);
        // times of what is asked for are those of the clock on the wall
        decided.ledger.clear();
        // what is judged in the end hangs on how far the slowest has come
        decided.incidents.retain(|(at, _)| *at < last.minus(Span::from_mins(3)));
        assert_eq!(decided.late, 0, "seed {seed}");
        same(&mut first, decided, seed);
    }
}
