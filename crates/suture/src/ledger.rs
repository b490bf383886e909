//! `suture ledger verify`: whether the ledger is as it was written.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};
use suture_codec::records;
use suture_config::Pipeline;
use suture_event::{Damage, LedgerRecord, Tampering, damage};
use suture_permit::{Checkpoint, Keyring, Role};

/// Looks after the ledger.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Sub,
}

#[derive(Debug, clap::Subcommand)]
enum Sub {
    /// Check that the ledger is as it was written: names each record that was changed, removed, moved, inserted or cut off, and
    /// each whose signature does not fit. Exit code 0 where all is well, 1 where not.
    ///
    /// A chain that was cut off at its end looks like one that ends there: keep the ends that this prints, and hand them in with
    /// --end the next time.
    Verify {
        /// A file of ledger records, one a line; the pipeline's topic where it is left out.
        #[arg(value_name = "FILE.ndjson")]
        file: Option<PathBuf>,
        /// The pipeline file, for decide's keys, and for the topic. Without it signatures are not checked.
        #[arg(long, value_name = "PIPELINE.yaml", env = "SUTURE_PIPELINE")]
        pipeline: Option<PathBuf>,
        /// The end that a scope's chain had before. May be given several times.
        #[arg(long, value_name = "SCOPE=SEQ:HASH", value_parser = end)]
        end: Vec<(Arc<str>, (u64, String))>,
    },
}

fn end(text: &str) -> Result<(Arc<str>, (u64, String)), String> {
    let parts = text.rsplit_once('=').and_then(|(scope, rest)| {
        let (seq, hash) = rest.split_once(':')?;
        Some((scope.into(), (seq.parse().ok()?, hash.to_owned())))
    });
    parts.ok_or_else(|| "write SCOPE=SEQ:HASH, as `suture ledger verify` prints it".to_owned())
}

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// One line for each thing that is wrong.
    wrong: Vec<String>,
    /// How many records were looked at.
    records: usize,
    /// How many of them are signed by a key that counts.
    signed: usize,
    /// The end of each chain.
    ends: BTreeMap<Arc<str>, (u64, String)>,
}

/// Does what is asked with the ledger.
pub(crate) fn ledger(args: &Args) -> anyhow::Result<ExitCode> {
    let Sub::Verify { file, pipeline, end } = &args.command;
    let pipeline = pipeline.as_deref().map(suture_service::load::parse).transpose()?;
    let keys = pipeline.as_ref().map(|pipeline| &pipeline.remediate.keys);
    let (records, unreadable) = of(file.as_deref(), pipeline.as_ref())?;
    let mut verdict = verify(&records, keys, &end.iter().cloned().collect());
    verdict.wrong.extend(unreadable);
    for line in &verdict.wrong {
        println!("{line}");
    }
    for (scope, (seq, hash)) in &verdict.ends {
        println!("end {scope}={seq}:{hash}");
    }
    let (all, signed, wrong) = (verdict.records, verdict.signed, verdict.wrong.len());
    println!("{all} records, {signed} of them signed, {wrong} things wrong");
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn of(file: Option<&Path>, pipeline: Option<&Pipeline>) -> anyhow::Result<Read> {
    match (file, pipeline) {
        (Some(file), _) => of_file(file),
        (None, Some(pipeline)) => of_topic(pipeline),
        (None, None) => bail!("give a file of ledger records, or --pipeline for the topic"),
    }
}

/// Every record of a file, or of the pipeline's topic.
///
/// # Errors
/// Where neither is given or it can't be read, and where a record in it is none: what is counted of part of a ledger is wrong.
pub(crate) fn read(file: Option<&Path>, pipeline: Option<&Pipeline>) -> anyhow::Result<Vec<LedgerRecord>> {
    let (records, unreadable) = of(file, pipeline)?;
    if let Some(first) = unreadable.first() {
        bail!("{first}: this is no ledger record; `suture ledger verify` tells all that is wrong");
    }
    Ok(records)
}

/// Checks records in the order in which they are kept. Where decide has keys in the ring, each record must be signed with one.
#[must_use]
pub(crate) fn verify(
    records: &[LedgerRecord],
    keys: Option<&Keyring>,
    ends: &BTreeMap<Arc<str>, (u64, String)>,
) -> Verdict {
    let mut verdict = Verdict {
        records: records.len(),
        ..Verdict::default()
    };
    verdict.wrong = damage(records, ends).iter().map(words).collect();
    let keys = keys.filter(|keys| keys.has(Role::Decide));
    for (place, record) in records.iter().enumerate() {
        verdict
            .ends
            .insert(record.scope.clone(), (record.seq, record.hash.clone()));
        let Some(keys) = keys else { continue };
        match keys.check_checkpoint(&Checkpoint::of(record), record.seal.as_ref()) {
            Ok(()) => verdict.signed += 1,
            Err(flaw) => {
                let (scope, seq, place) = (&record.scope, record.seq, place + 1);
                verdict.wrong.push(format!(
                    "{scope} {seq}: nobody vouches for the record at place {place}: {flaw}"
                ));
            }
        }
    }
    verdict
}

/// One line for each thing that was done to the chains of some records.
#[must_use]
pub(crate) fn broken(records: &[LedgerRecord]) -> Vec<String> {
    damage(records, &BTreeMap::new()).iter().map(words).collect()
}

fn words(damage: &Damage) -> String {
    let what = match damage.what {
        Tampering::Changed => "was changed",
        Tampering::Removed => "was removed",
        Tampering::Moved => "was moved",
        Tampering::Inserted => "was inserted",
        Tampering::Truncated => "and what is beyond it was cut off",
    };
    let place = damage
        .place
        .map_or_else(String::new, |place| format!(", found at place {}", place + 1));
    format!("{} {}: the record {what}{place}", damage.scope, damage.seq)
}

type Read = (Vec<LedgerRecord>, Vec<String>);

fn of_file(path: &Path) -> anyhow::Result<Read> {
    let text = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if line.trim_ascii().is_empty() {
            continue;
        }
        match records::decode(line) {
            Ok(record) => found.push(record),
            Err(error) => unreadable.push(format!("line {}: {error}", number + 1)),
        }
    }
    Ok((found, unreadable))
}

#[cfg(feature = "kafka")]
fn of_topic(pipeline: &Pipeline) -> anyhow::Result<Read> {
    use suture_log::TopicPartition;

    let log = suture_service::run::connect(pipeline)?;
    let topic = suture_service::planes::Topics::of(pipeline).ledger;
    let partitions = log
        .topic(&topic)?
        .with_context(|| format!("topic {topic} is not there"))?
        .partitions;
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for partition in 0..partitions {
        let at = TopicPartition::new(topic.as_ref(), partition);
        to_end(
            log.as_ref(),
            &at,
            &mut |record| match records::decode(record.value.unwrap_or_default()) {
                Ok(record) => found.push(record),
                Err(error) => unreadable.push(format!("{at}, offset {}: {error}", record.offset)),
            },
        )?;
    }
    Ok((found, unreadable))
}

/// Reads a partition from its first record to its end as it was when this was called.
///
/// # Errors
/// Where it can't be read, or brings nothing for a minute while its end is not reached.
#[cfg(feature = "kafka")]
pub(crate) fn to_end(
    log: &dyn suture_log::Log,
    at: &suture_log::TopicPartition,
    take: &mut dyn FnMut(suture_log::RecordRef<'_>),
) -> anyhow::Result<()> {
    use std::time::{Duration, Instant};

    let mut reader = log.reader(at, log.range(at)?.start, suture_log::Isolation::ReadCommitted)?;
    let mut patience = Instant::now();
    loop {
        let mut taken = false;
        let mut each = |record: suture_log::RecordRef<'_>| {
            taken = true;
            take(record);
        };
        if reader.read(Duration::from_secs(1), 10_000, &mut each)? {
            return Ok(());
        }
        if taken {
            patience = Instant::now();
        }
        anyhow::ensure!(
            patience.elapsed() < Duration::from_secs(60),
            "{at} brings nothing for a minute, and its end is not reached"
        );
    }
}

#[cfg(not(feature = "kafka"))]
fn of_topic(_: &Pipeline) -> anyhow::Result<Read> {
    bail!("this build knows no broker: give a file of ledger records")
}

#[cfg(test)]
mod tests {
    // what goes wrong here is a failed test
    #![allow(clippy::unwrap_used)]

    use suture_event::Timestamp;
    use suture_permit::{KeyEntry, SecretKey};

    use super::*;

    fn key() -> SecretKey {
        SecretKey::from_seed(&[5; 32], "decide", Role::Decide)
    }

    fn ring() -> Keyring {
        Keyring::new(vec![KeyEntry {
            who: "decide".into(),
            role: Role::Decide,
            public: key().public(),
            until: None,
        }])
    }

    fn chain(words: &str, signs: Option<&SecretKey>) -> Vec<LedgerRecord> {
        let mut records: Vec<LedgerRecord> = Vec::new();
        for seq in 0..5 {
            let previous = records.last().map_or(LedgerRecord::GENESIS, |r| &r.hash).to_owned();
            let (at, body) = (Timestamp::from_millis(0), serde_json::json!({"words": words}));
            let mut record = LedgerRecord::sealed(seq, at, "prod".into(), "test", None, body, &previous);
            record.seal = signs.map(|key| key.sign(&Checkpoint::of(&record)));
            records.push(record);
        }
        records
    }

    #[test]
    fn a_chain_without_keys_cannot_be_made_up() {
        let none = BTreeMap::new();
        let good = verify(&chain("true", Some(&key())), Some(&ring()), &none);
        assert_eq!((good.wrong.len(), good.signed), (0, 5));
        let stranger = SecretKey::from_seed(&[6; 32], "decide", Role::Decide);
        for signs in [None, Some(&stranger)] {
            let made_up = chain("false", signs);
            assert_eq!(
                verify(&made_up, None, &none).wrong,
                [] as [String; 0],
                "the hashes are right"
            );
            assert_eq!(verify(&made_up, Some(&ring()), &none).wrong.len(), 5);
        }
    }

    #[test]
    fn what_was_changed_is_named_in_words() {
        let mut records = chain("true", Some(&key()));
        records[2].body = serde_json::json!({"words": "false"});
        records[2].hash = records[2].digest();
        let wrong = verify(&records, Some(&ring()), &BTreeMap::new()).wrong;
        assert_eq!(wrong[0], "prod 2: the record was changed");
        assert!(wrong[1].starts_with("prod 2: nobody vouches for the record at place 3: its signature does not fit"));
        records.truncate(2);
        let end = end("prod=4:abc").unwrap();
        let wrong = verify(&records, Some(&ring()), &BTreeMap::from([end])).wrong;
        assert_eq!(wrong, ["prod 4: the record and what is beyond it was cut off"]);
    }
}
