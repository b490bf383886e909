//! `suture audit`: whether the decisions of the ledger come out again from what they rested on.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::bail;
use serde_json::Value;
use suture_event::{LedgerRecord, Timestamp};
use suture_service::load::{self, Loaded};

use crate::{ledger, replay::refold::Refold};

/// Decides anew from the facts, outcomes and commands among them, and shows that every decision of the ledger comes out the same,
/// or where it does not.
///
/// Without --replay, --facts and --ledger both are read from their topics. Exit code 0 where all is the same and the ledger is
/// whole, 1 where not.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Look at the decisions on this incident alone; the beginning of its id is enough.
    #[arg(value_name = "INCIDENT")]
    incident: Option<String>,
    /// Look at decisions from this time on alone.
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// The pipeline file as it was when the decisions were made.
    #[arg(long, value_name = "PIPELINE.yaml", env = "SUTURE_PIPELINE")]
    pipeline: PathBuf,
    /// The call graph, in place of the one that the pipeline names.
    #[arg(long, value_name = "FILE.json")]
    topology: Option<PathBuf>,
    /// The folder of a replay that was made with --facts.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["facts", "ledger"])]
    replay: Option<PathBuf>,
    /// The facts, one a line.
    #[arg(long, value_name = "FILE.ndjson", requires = "ledger")]
    facts: Option<PathBuf>,
    /// The ledger, one record a line.
    #[arg(long, value_name = "FILE.ndjson", requires = "facts")]
    ledger: Option<PathBuf>,
}

/// Differences that are told one by one.
const TOLD: usize = 20;

/// Does the audit and prints what came of it.
pub(crate) fn audit(args: &Args) -> anyhow::Result<ExitCode> {
    let loaded = load::load(&args.pipeline, args.topology.as_deref())?;
    let files = match (&args.replay, &args.facts, &args.ledger) {
        (Some(folder), ..) => Some((folder.join("facts.ndjson"), folder.join("ledger.ndjson"))),
        (None, Some(facts), Some(ledger)) => Some((facts.clone(), ledger.clone())),
        _ => None,
    };
    let (recorded, refolded, mut wrong) = match files {
        Some((facts, ledger)) => {
            if !facts.is_file() {
                bail!("{} is not there: replay with --facts", facts.display());
            }
            let recorded = ledger::read(Some(&ledger), None)?;
            let mut refolded = Vec::new();
            Refold::of_file(&loaded, &facts)?.file(&facts, &mut |_, out| {
                refolded.append(&mut out.ledger);
                out.incidents.clear();
                out.remediations.clear();
                Ok(())
            })?;
            (recorded, refolded, Vec::new())
        }
        None => of_topics(&loaded)?,
    };
    wrong.extend(ledger::broken(&recorded));
    let asked = Asked {
        incident: args.incident.as_deref(),
        since: args.since,
    };
    let found = compare(&recorded, &refolded, asked);
    if found.same == 0 && found.differ.is_empty() {
        bail!("no decision was found for what was asked: see `suture explain` for the incidents there are");
    }
    wrong.extend(found.differ);
    for line in wrong.iter().take(TOLD) {
        println!("{line}");
    }
    if wrong.len() > TOLD {
        println!("and {} more", wrong.len() - TOLD);
    }
    println!(
        "{} decisions come out the same, {} things do not",
        found.same,
        wrong.len()
    );
    Ok(if wrong.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Which decisions are looked at. All are made anew: each rests on those before it.
#[derive(Debug, Clone, Copy, Default)]
struct Asked<'a> {
    incident: Option<&'a str>,
    since: Option<Timestamp>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    same: usize,
    /// One line for each decision that is not the same.
    differ: Vec<String>,
}

/// A record's place: its scope, how often the chain has begun anew before it, and its number.
type Place<'r> = (&'r Arc<str>, usize, u64);

/// Records by their places. Of two in one place the first counts: that there are two, the look at the chain tells.
fn placed(records: &[LedgerRecord]) -> BTreeMap<Place<'_>, &LedgerRecord> {
    let mut lives: BTreeMap<&Arc<str>, (usize, bool)> = BTreeMap::new();
    let mut placed = BTreeMap::new();
    for record in records {
        let (life, begun) = lives.entry(&record.scope).or_default();
        if *begun && record.begins_anew() {
            *life += 1;
        }
        *begun = true;
        placed.entry((&record.scope, *life, record.seq)).or_insert(record);
    }
    placed
}

fn compare(recorded: &[LedgerRecord], refolded: &[LedgerRecord], asked: Asked<'_>) -> Found {
    let actions: BTreeSet<&str> = match asked.incident {
        Some(incident) => [recorded, refolded]
            .into_iter()
            .flatten()
            .filter(|record| text(record, "/request/incident").is_some_and(|id| id.starts_with(incident)))
            .filter_map(|record| text(record, "/request/id"))
            .collect(),
        None => BTreeSet::new(),
    };
    let wanted = |record: &LedgerRecord| {
        asked.since.is_none_or(|since| record.at >= since)
            && asked
                .incident
                .is_none_or(|incident| concerns(record, incident, &actions))
    };
    let (recorded, refolded) = (placed(recorded), placed(refolded));
    let places: BTreeSet<&Place<'_>> = recorded.keys().chain(refolded.keys()).collect();
    let mut found = Found::default();
    for place in places {
        let (there, anew) = (recorded.get(place), refolded.get(place));
        if ![there, anew].into_iter().flatten().any(|record| wanted(record)) {
            continue;
        }
        let (scope, seq) = (place.0, place.2);
        let what = match (there, anew) {
            (Some(there), Some(anew)) => match difference(there, anew) {
                None => {
                    found.same += 1;
                    continue;
                }
                Some(what) => format!("{} of {}: {what}", there.kind, there.at),
            },
            (Some(there), None) if there.begins_anew() => format!(
                "the state of decide was lost at {}: what was decided from here on rests on nothing that is known",
                there.at
            ),
            (Some(there), None) => format!("{} of {} is in the ledger, and is not decided", there.kind, there.at),
            (None, Some(anew)) => format!("{} of {} is decided, and is not in the ledger", anew.kind, anew.at),
            (None, None) => continue,
        };
        found.differ.push(format!("{scope} {seq}: {what}"));
    }
    found
}

fn text<'r>(record: &'r LedgerRecord, pointer: &str) -> Option<&'r str> {
    record.body.pointer(pointer).and_then(Value::as_str)
}

/// Whether a record is about an incident, or about an action for it.
fn concerns(record: &LedgerRecord, incident: &str, actions: &BTreeSet<&str>) -> bool {
    let named = |pointer: &&str| text(record, pointer);
    ["/incident", "/request/incident", "/command/incident"]
        .iter()
        .filter_map(named)
        .any(|id| id.starts_with(incident))
        || ["/action", "/request/id", "/outcome/action", "/command/action"]
            .iter()
            .filter_map(named)
            .any(|id| actions.contains(id))
}

/// The first thing in which two records of one place differ. Their hashes are left out: they follow from the rest, and from the
/// records before.
fn difference(there: &LedgerRecord, anew: &LedgerRecord) -> Option<String> {
    let said = |field: &str, there: &dyn std::fmt::Display, anew: &dyn std::fmt::Display| {
        Some(format!("{field} is {there} in the ledger, and {anew} comes out"))
    };
    if there.kind != anew.kind {
        return said("its kind", &there.kind, &anew.kind);
    }
    if there.at != anew.at {
        return said("its time", &there.at, &anew.at);
    }
    if there.cause != anew.cause {
        let cause = |record: &LedgerRecord| match &record.cause {
            Some(cause) => format!("fact {} of {}", cause.seq, cause.shard),
            None => "no fact".to_owned(),
        };
        return said("its cause", &cause(there), &cause(anew));
    }
    let mut path = "body".to_owned();
    let (there, anew) = inner(&there.body, &anew.body, &mut path)?;
    said(&format!("`{path}`"), &shown(there), &shown(anew))
}

/// The first place within two values where they differ.
fn inner<'v>(there: &'v Value, anew: &'v Value, path: &mut String) -> Option<(&'v Value, &'v Value)> {
    if there == anew {
        return None;
    }
    let before = path.len();
    match (there, anew) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            for key in keys {
                path.push('.');
                path.push_str(key);
                let (one, other) = (
                    one.get(key).unwrap_or(&Value::Null),
                    other.get(key).unwrap_or(&Value::Null),
                );
                if let Some(found) = inner(one, other, path) {
                    return Some(found);
                }
                path.truncate(before);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (index, (one, other)) in one.iter().zip(other).enumerate() {
                path.push_str(&format!("[{index}]"));
                if let Some(found) = inner(one, other, path) {
                    return Some(found);
                }
                path.truncate(before);
            }
        }
        _ => {}
    }
    Some((there, anew))
}

/// A value, as short as can be read at a glance.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 120;
    let text = suture_event::canonical(value.clone()).to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

type Both = (Vec<LedgerRecord>, Vec<LedgerRecord>, Vec<String>);

#[cfg(feature = "kafka")]
fn of_topics(loaded: &Loaded) -> anyhow::Result<Both> {
    use anyhow::Context as _;
    use suture_codec::records;
    use suture_engine::{DecideOut, Seal};
    use suture_event::Fact;
    use suture_log::TopicPartition;

    let pipeline = &loaded.pipeline;
    let recorded = ledger::read(None, Some(pipeline))?;
    let log = suture_service::run::connect(pipeline)?;
    let topic = suture_service::planes::Topics::of(pipeline).facts;
    let partitions = log
        .topic(&topic)?
        .with_context(|| format!("topic {topic} is not there"))?
        .partitions;
    let (mut refolded, mut wrong) = (Vec::new(), Vec::new());
    for partition in 0..partitions {
        let at = TopicPartition::new(topic.as_ref(), partition);
        let start = log.range(&at)?.start;
        if start > 0 {
            wrong.push(format!(
                "{at} begins at offset {start}: what was decided from facts before that does not come out; keep facts for as long as \
                 audits must go back"
            ));
        }
        // each partition is a fold of its own, as in a run
        let mut refold = Refold::of_run(loaded);
        let mut out = DecideOut::default();
        let mut failed = None;
        ledger::to_end(log.as_ref(), &at, &mut |record| {
            let Ok(fact) = records::decode::<Fact>(record.value.unwrap_or_default()) else {
                return; // a run passes these over as well, and says so in the dead letters
            };
            let header = record.headers.iter().find(|(name, _)| *name == Seal::HEADER);
            let seal = header.and_then(|(_, value)| Seal::decode(value?));
            if refold.decide().admit(&fact, seal).is_ok()
                && let Err(error) = refold.decide().fact(fact, &mut out)
            {
                failed.get_or_insert(error);
            }
            refolded.append(&mut out.ledger);
            out.incidents.clear();
            out.remediations.clear();
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
    }
    // what decide has not written yet; whether a chain was cut off at its end, `suture ledger verify --end` tells
    let mut heads: BTreeMap<&Arc<str>, u64> = BTreeMap::new();
    for record in &recorded {
        let head = heads.entry(&record.scope).or_default();
        *head = record.seq.max(*head);
    }
    refolded.retain(|record| heads.get(&record.scope).is_none_or(|head| record.seq <= *head));
    Ok((recorded, refolded, wrong))
}

#[cfg(not(feature = "kafka"))]
fn of_topics(_: &Loaded) -> anyhow::Result<Both> {
    bail!("this build knows no broker: give --replay DIR, or --facts and --ledger")
}

#[cfg(test)]
mod tests {
    // what goes wrong here is a failed test
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn chain(bodies: &[(&str, Value)]) -> Vec<LedgerRecord> {
        let mut records: Vec<LedgerRecord> = Vec::new();
        for (seq, (kind, body)) in (0_u64..).zip(bodies) {
            let at = Timestamp::from_millis(1_000 * i64::try_from(seq).unwrap());
            let previous = records.last().map_or(LedgerRecord::GENESIS, |r| &r.hash).to_owned();
            let record = LedgerRecord::sealed(seq, at, "prod".into(), kind, None, body.clone(), &previous);
            records.push(record);
        }
        records
    }

    fn story() -> Vec<(&'static str, Value)> {
        vec![
            ("incident_opened", json!({"incident": "i1"})),
            (
                "action_requested",
                json!({"request": {"id": "a1", "incident": "i1", "rung": "autonomous"}}),
            ),
            ("incident_opened", json!({"incident": "i2"})),
            ("outcome", json!({"outcome": {"action": "a1", "status": "succeeded"}})),
        ]
    }

    #[test]
    fn what_comes_out_again_is_the_same() {
        let found = compare(&chain(&story()), &chain(&story()), Asked::default());
        assert_eq!((found.same, found.differ.len()), (4, 0));
    }

    #[test]
    fn a_record_that_was_made_up_is_named_also_where_the_chain_holds() {
        let mut forged = story();
        forged[1].1["request"]["rung"] = "advise".into();
        let found = compare(&chain(&forged), &chain(&story()), Asked::default());
        assert_eq!(found.same, 3);
        let said = "prod 1: action_requested of 1970-01-01T00:00:01Z: `body.request.rung` is \"advise\" in the ledger, and \
                    \"autonomous\" comes out";
        assert_eq!(found.differ, [said]);
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        let mut short = chain(&story());
        short.remove(3);
        let found = compare(&short, &chain(&story()), Asked::default());
        assert_eq!((found.same, found.differ.len()), (3, 1));
        assert!(found.differ[0].starts_with("prod 3: outcome") && found.differ[0].ends_with("not in the ledger"));
        let found = compare(&chain(&story()), &short, Asked::default());
        assert!(found.differ[0].ends_with("is not decided"), "{:?}", found.differ);
    }

    #[test]
    fn one_incident_is_looked_at_with_its_actions_and_a_time_cuts_off_what_was_before() {
        let all = chain(&story());
        let of = |incident, since: Option<i64>| {
            let since = since.map(Timestamp::from_millis);
            compare(&all, &all, Asked { incident, since }).same
        };
        assert_eq!(of(Some("i1"), None), 3);
        assert_eq!(of(Some("i2"), None), 1);
        assert_eq!(of(Some("i3"), None), 0);
        assert_eq!(of(None, Some(2_000)), 2);
        assert_eq!(of(Some("i1"), Some(2_000)), 1);
    }

    #[test]
    fn a_state_that_was_lost_is_told_and_what_followed_is_compared_with_nothing() {
        let mut lost = chain(&story());
        lost.extend(chain(&[("epoch", json!({"cold": true}))]));
        let found = compare(&lost, &chain(&story()), Asked::default());
        assert_eq!(found.same, 4);
        assert!(found.differ[0].contains("was lost"), "{:?}", found.differ);
    }
}
