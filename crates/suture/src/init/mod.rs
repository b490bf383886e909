//! `suture init`: a pipeline file for what is in topics, or in a folder of files.

mod look;
mod shape;
mod write;

use std::{
    fs,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use suture_event::Headers;
use suture_service::load;

use self::{
    look::{BYTES, Topic},
    write::{Proposal, propose},
};
use crate::replay::lines::Lines;

/// Files of a folder, and topics of a cluster, that are looked at.
const TOPICS: usize = 200;

/// Writes a pipeline file for what is in a folder of files, or in a cluster's topics, and says what it could not tell.
///
/// A file stands for a topic that is called as it is, without its ending. Files of text have a record in each line; any other
/// file is one record.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  suture init --from ./samples --out pipeline.yaml && suture check pipeline.yaml")]
pub(crate) struct Args {
    /// A folder with a file for each topic.
    #[arg(long, value_name = "DIR", required_unless_present_any = FROM)]
    from: Option<PathBuf>,
    /// The brokers of a cluster, whose topics are looked at.
    #[cfg(feature = "kafka")]
    #[arg(long, value_name = "HOST:PORT,…", conflicts_with = "from")]
    brokers: Option<String>,
    /// A further setting of the client for that, such as `security.protocol=ssl`. May be given several times.
    #[cfg(feature = "kafka")]
    #[arg(long, value_name = "KEY=VALUE", requires = "brokers")]
    set: Vec<String>,
    /// Look at these topics alone. May be given several times.
    #[arg(long, value_name = "NAME")]
    topic: Vec<String>,
    /// The pipeline's name; that of the folder, or `pipeline`, where it is left out.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Where to write the file, which must not be there yet; to standard output where it is left out.
    #[arg(long, value_name = "PIPELINE.yaml")]
    out: Option<PathBuf>,
}

#[cfg(feature = "kafka")]
const FROM: [&str; 1] = ["brokers"];
#[cfg(not(feature = "kafka"))]
const FROM: [&str; 0] = [];

/// Looks, and writes the file.
pub(crate) fn init(args: &Args) -> anyhow::Result<()> {
    let topics = looked_at(args)?;
    if topics.is_empty() {
        bail!("there is nothing to look at: no files in the folder, or no topics but Suture's and the broker's own");
    }
    let name = args.name.clone().or_else(|| {
        let folder = args.from.as_deref()?.canonicalize().ok()?;
        Some(topic_name(&folder.file_name()?.to_string_lossy()))
    });
    let name = name.unwrap_or_else(|| "pipeline".to_owned());
    let Proposal { file, found, unclear } = propose(&name, &topics);
    let (_, problems) = load::examine_bytes("the proposed pipeline", file.as_bytes());
    if problems.has_errors() {
        bail!(
            "what was found leads to a pipeline file that cannot be right; write it by hand, with docs/pipeline.md at hand:\n{}\n{file}",
            problems.render(suture_config::Look::Plain)
        );
    }
    // what is said goes beside the file, which may go to standard output
    for line in &found {
        crate::tell(format_args!("{line}\n"));
    }
    if !unclear.is_empty() {
        crate::tell(format_args!("\nIt could not be told\n"));
    }
    for line in &unclear {
        crate::tell(format_args!("  {line}\n"));
    }
    match &args.out {
        Some(path) => {
            let made = fs::File::options().write(true).create_new(true).open(path);
            let mut made = made.with_context(|| format!("cannot make {}: is it there already?", path.display()))?;
            made.write_all(file.as_bytes())
                .with_context(|| format!("cannot write {}", path.display()))?;
            let next = topics
                .iter()
                .find(|topic| topic.is_telemetry())
                .and_then(|topic| topic.file.as_deref());
            let changes = topics
                .iter()
                .find(|topic| topic.is_changes())
                .and_then(|topic| topic.file.as_deref());
            crate::tell(format_args!(
                "\n{} is written. Next\n  suture check {0}\n",
                path.display()
            ));
            if let Some(telemetry) = next {
                let changes = changes.map_or_else(String::new, |path| format!(" --changes {}", path.display()));
                crate::tell(format_args!(
                    "  suture replay --pipeline {} --telemetry {}{changes} --out found\n",
                    path.display(),
                    telemetry.display()
                ));
            }
            crate::tell(format_args!("  suture run {} --create-topics\n", path.display()));
        }
        None => print!("{file}"),
    }
    Ok(())
}

fn looked_at(args: &Args) -> anyhow::Result<Vec<Topic>> {
    let wanted = |name: &str| args.topic.is_empty() || args.topic.iter().any(|topic| topic == name);
    if let Some(folder) = &args.from {
        return folder_of(folder, &wanted);
    }
    #[cfg(feature = "kafka")]
    if let Some(brokers) = &args.brokers {
        return cluster::topics(brokers, &args.set, &wanted);
    }
    bail!("name a folder with --from")
}

/// A name that a topic and a pipeline can have.
fn topic_name(text: &str) -> String {
    let name: String = text
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '-'
            }
        })
        .take(200)
        .collect();
    match name.trim_matches(['.', '-']) {
        "" => "topic".to_owned(),
        name => name.to_owned(),
    }
}

fn folder_of(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> anyhow::Result<Vec<Topic>> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot look into {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot look into {}", folder.display()))?
            .path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.to_string_lossy().starts_with('.'));
        // a pipeline file beside the records is none of them
        let yaml = path.extension().is_some_and(|end| end == "yaml" || end == "yml");
        if path.is_file() && !hidden && !yaml {
            files.push(path);
        }
    }
    files.sort();
    let mut topics: Vec<Topic> = Vec::new();
    for path in files {
        let stem = path
            .file_stem()
            .map(|stem| topic_name(&stem.to_string_lossy()))
            .unwrap_or_default();
        if !wanted(&stem) {
            continue;
        }
        if topics.len() >= TOPICS {
            bail!(
                "{} has more than {TOPICS} files: name those to look at with --topic",
                folder.display()
            );
        }
        let mut topic = match topics.iter().any(|topic| topic.name == stem) {
            false => Topic::new(stem, Some(path.clone())),
            true => bail!("two files in {} would be topic {stem}: rename one", folder.display()),
        };
        read_file(&path, &mut topic)?;
        topic.end();
        topics.push(topic);
    }
    Ok(topics)
}

fn read_file(path: &Path, topic: &mut Topic) -> anyhow::Result<()> {
    let mut start = Vec::new();
    let open = fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    open.take(4_096)
        .read_to_end(&mut start)
        .with_context(|| format!("cannot read {}", path.display()))?;
    if is_text(&start) {
        let mut lines = Lines::open(path)?;
        while !topic.is_full() {
            let Some(line) = lines.next_line()? else { break };
            // line protocol and files of our own have comments
            if !line.text.starts_with(b"#") {
                topic.take(line.text, Headers::default(), 0);
            }
        }
        return Ok(());
    }
    let whole = fs::metadata(path).map_or(0, |meta| meta.len());
    if whole > BYTES as u64 {
        bail!(
            "{} is one record of {whole} bytes, which no broker would take",
            path.display()
        );
    }
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    topic.take(&bytes, Headers::default(), 0);
    Ok(())
}

/// Whether the start of a file is text: it may break off within a character.
fn is_text(start: &[u8]) -> bool {
    let text = match std::str::from_utf8(start) {
        Ok(_) => start,
        Err(error) if error.error_len().is_none() => start.get(..error.valid_up_to()).unwrap_or_default(),
        Err(_) => return false,
    };
    !text
        .iter()
        .any(|byte| byte.is_ascii_control() && !byte.is_ascii_whitespace())
}

/// Topics of a cluster.
#[cfg(feature = "kafka")]
mod cluster {
    use std::{collections::BTreeMap, time::Duration};

    use anyhow::Context;
    use suture_log::{Isolation, Log, TopicPartition};

    use super::{TOPICS, Topic};

    /// Records of each partition that are looked at, the last.
    const LAST: i64 = 2_000;
    const WAIT: Duration = Duration::from_secs(5);

    pub(super) fn topics(brokers: &str, set: &[String], wanted: &dyn Fn(&str) -> bool) -> anyhow::Result<Vec<Topic>> {
        let mut client = BTreeMap::from([("bootstrap.servers".to_owned(), brokers.to_owned())]);
        for setting in set {
            let (key, value) = setting
                .split_once('=')
                .with_context(|| format!("--set {setting}: write KEY=VALUE"))?;
            client.insert(key.to_owned(), value.to_owned());
        }
        let log = suture_service::run::cluster(client)?;
        let mut topics = Vec::new();
        for (name, partitions) in log.topics()? {
            let own = name.starts_with("__") || name.starts_with("suture.");
            if own || !wanted(&name) {
                continue;
            }
            if topics.len() >= TOPICS {
                anyhow::bail!("the cluster has more than {TOPICS} topics: name those to look at with --topic");
            }
            let mut topic = Topic::new(name.clone(), None);
            for partition in 0..partitions {
                let at = TopicPartition::new(name.as_str(), partition);
                let range = log.range(&at)?;
                if range.end <= range.start || topic.is_full() {
                    continue;
                }
                let from = range.start.max(range.end - LAST);
                let mut reader = log.reader(&at, from, Isolation::ReadCommitted)?;
                loop {
                    let ended = reader.read(WAIT, 500, &mut |record| {
                        if let Some(value) = record.value
                            && !topic.is_full()
                        {
                            topic.take(value, record.headers, partition);
                        }
                    })?;
                    if ended || topic.is_full() {
                        break;
                    }
                }
            }
            topic.end();
            topics.push(topic);
        }
        Ok(topics)
    }
}
