//! `suture acl`: who may do what with which topic, for Kafka's own tool to set.

use std::{fmt::Write as _, path::PathBuf};

use suture_config::Pipeline;

use suture_service::{load, planes::Topics};

/// Prints the lines of `kafka-acls.sh` that let each role do what it has to with the pipeline's topics, and no more. What keeps
/// others out is a broker with an authorizer that denies what nothing allows.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The pipeline file.
    #[arg(value_name = "PIPELINE.yaml")]
    pipeline: PathBuf,
    /// Whom the planes run as.
    #[arg(long, value_name = "PRINCIPAL", default_value = "User:suture")]
    run: String,
    /// Whom executors run as.
    #[arg(long, value_name = "PRINCIPAL", default_value = "User:suture-execute")]
    execute: String,
    /// The executors' consumer group, as `suture execute --name` has it.
    #[arg(long, value_name = "NAME", default_value = "suture-execute")]
    execute_name: String,
    /// Whom `suture escalate` runs as, where the pipeline has it call somebody.
    #[arg(long, value_name = "PRINCIPAL", default_value = "User:suture-escalate")]
    escalate: String,
    /// Whom those are known as who approve, freeze and acknowledge.
    #[arg(long, value_name = "PRINCIPAL", default_value = "User:suture-operator")]
    operate: String,
    /// Whom those are known as who read incidents and the ledger.
    #[arg(long, value_name = "PRINCIPAL", default_value = "User:suture-reader")]
    read: String,
    /// Whom the producers of telemetry and changes are known as. May be given several times; absent, theirs are not printed.
    #[arg(long, value_name = "PRINCIPAL")]
    produce: Vec<String>,
    /// A file of settings for the tool's own connection, passed on as `--command-config`.
    #[arg(long, value_name = "FILE")]
    command_config: Option<String>,
    /// Whether the planes may make topics that are missing.
    #[arg(long)]
    create_topics: bool,
}

/// Prints the lines.
pub(crate) fn acl(args: &Args) -> anyhow::Result<()> {
    let pipeline = load::parse(&args.pipeline)?;
    print!("{}", lines(&pipeline, args));
    Ok(())
}

/// A text as one word of a shell.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-:/=,@".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

struct Script {
    head: String,
    text: String,
}

impl Script {
    fn role(&mut self, what: &str) {
        let _ = writeln!(self.text, "\n# {what}");
    }

    fn allow(&mut self, principal: &str, operations: &[&str], resource: &str) {
        let _ = write!(self.text, "{} --allow-principal {}", self.head, quoted(principal));
        for operation in operations {
            let _ = write!(self.text, " --operation {operation}");
        }
        let _ = writeln!(self.text, " {resource}");
    }

    fn topic(&mut self, principal: &str, operations: &[&str], name: &str) {
        self.allow(principal, operations, &format!("--topic {}", quoted(name)));
    }

    /// Rights of a consumer group, and of the transactional ids that begin with its name.
    fn group(&mut self, principal: &str, name: &str, transactions: Option<&str>) {
        self.allow(principal, &["Read", "Describe"], &format!("--group {}", quoted(name)));
        if let Some(prefix) = transactions {
            let ids = format!("--transactional-id {} --resource-pattern-type prefixed", quoted(prefix));
            self.allow(principal, &["Write", "Describe"], &ids);
        }
    }
}

const READ: &[&str] = &["Read", "Describe", "DescribeConfigs"];
const WRITE: &[&str] = &["Write", "Describe", "DescribeConfigs"];
const BOTH: &[&str] = &["Read", "Write", "Describe", "DescribeConfigs"];

fn lines(pipeline: &Pipeline, args: &Args) -> String {
    let names = Topics::of(pipeline);
    let brokers = pipeline.kafka.client.get("bootstrap.servers");
    let brokers = brokers.map_or("localhost:9092", String::as_str);
    let mut head = format!("kafka-acls.sh --bootstrap-server {}", quoted(brokers));
    if let Some(file) = &args.command_config {
        let _ = write!(head, " --command-config {}", quoted(file));
    }
    head.push_str(" --add");
    let mut script = Script {
        head,
        text: String::from(
            "# Nothing else may write to what suture owns: what is not allowed must be denied, so see that\n\
             # allow.everyone.if.no.acl.found is false.\n",
        ),
    };
    run(&mut script, pipeline, &names, args);
    script.role("Executors: requests in, outcomes out.");
    script.topic(&args.execute, READ, &names.remediations);
    script.topic(&args.execute, WRITE, &names.outcomes);
    let ids = format!("{}-", args.execute_name);
    script.group(&args.execute, &args.execute_name, Some(&ids));
    if pipeline.escalate.is_some() {
        script.role("Who calls humans: the ledger in, and out what nobody took.");
        script.topic(&args.escalate, READ, &names.ledger);
        script.topic(&args.escalate, WRITE, &names.dead_letters);
        script.group(&args.escalate, &pipeline.escalate_group(), None);
    }
    script.role("Operators: what they want, and what they have to know for that.");
    script.topic(&args.operate, &["Write", "Describe"], &names.commands);
    for name in [&names.incidents, &names.remediations, &names.ledger] {
        script.topic(&args.operate, &["Read", "Describe"], name);
    }
    script.role("Readers. A group of theirs is theirs to name.");
    for name in [&names.incidents, &names.remediations, &names.outcomes, &names.ledger] {
        script.topic(&args.read, &["Read", "Describe"], name);
    }
    for producer in &args.produce {
        script.role("Producers of telemetry and changes.");
        for name in pipeline.input_topics() {
            script.topic(producer, &["Write", "Describe"], name);
        }
    }
    script.text
}

fn run(script: &mut Script, pipeline: &Pipeline, names: &Topics, args: &Args) {
    let who = args.run.as_str();
    script.role("The planes. Facts, ledger and state are written by them alone.");
    for name in pipeline.input_topics() {
        script.topic(who, READ, name);
    }
    for name in [&names.outcomes, &names.commands] {
        script.topic(who, READ, name);
    }
    for name in [&names.facts, &names.state].into_iter().chain(&names.rekeyed) {
        script.topic(who, BOTH, name);
    }
    for name in [
        &names.incidents,
        &names.remediations,
        &names.ledger,
        &names.dead_letters,
    ] {
        script.topic(who, WRITE, name);
    }
    let rekeys = pipeline.rekey.is_some().then(|| pipeline.rekey_group());
    let groups = [pipeline.observe_group(), pipeline.decide_group()];
    for group in groups.into_iter().chain(rekeys) {
        script.group(who, &group, Some(&format!("{group}.")));
    }
    if args.create_topics {
        let owned = format!(
            "--topic {} --resource-pattern-type prefixed",
            quoted(&format!("{}.", pipeline.kafka.prefix))
        );
        script.allow(who, &["Create"], &owned);
    }
}

#[cfg(test)]
mod tests {
    // what goes wrong here is a failed test
    #![allow(clippy::unwrap_used)]

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn printed(pipeline: &str, more: &[&str]) -> String {
        let pipeline = Pipeline::parse("test.yaml", pipeline, &|_| None).unwrap();
        let line = ["acl", "test.yaml"].iter().chain(more);
        lines(&pipeline, &Line::parse_from(line).args)
    }

    const PIPELINE: &str = "name: shop\ntelemetry: [{topic: metrics}]\nchanges: [{topic: deploys}]\n\
        kafka: {prefix: s, client: {bootstrap.servers: 'a:9092,b:9092'}}\n";

    #[test]
    fn each_owned_topic_is_written_by_whom_it_is_meant_for_alone() {
        let text = printed(PIPELINE, &["--produce", "User:ci bot"]);
        let writers = |topic: &str| -> Vec<&str> {
            let of_topic = text
                .lines()
                .filter(|line| line.contains("--operation Write") && line.split(' ').any(|word| word == topic));
            let mut who: Vec<&str> = of_topic
                .filter_map(|line| line.split("--allow-principal ").nth(1)?.split(" --operation").next())
                .collect();
            who.sort_unstable();
            who
        };
        for own in [
            "s.facts",
            "s.ledger",
            "s.state",
            "s.incidents",
            "s.remediations",
            "s.dead-letters",
        ] {
            assert_eq!(writers(own), ["User:suture"], "{own}");
        }
        assert_eq!(writers("s.outcomes"), ["User:suture-execute"]);
        assert_eq!(writers("s.commands"), ["User:suture-operator"]);
        assert_eq!(writers("metrics"), ["'User:ci bot'"]);
        assert!(!text.contains("escalate"));
        let calls = format!("{PIPELINE}escalate: {{sinks: [{{name: p, kind: pagerduty, secret_env: PD}}]}}\n");
        let calls = printed(&calls, &[]);
        let to_letters = "--allow-principal User:suture-escalate --operation Write";
        assert!(
            calls.contains(to_letters) && calls.contains("--group s-shop-escalate"),
            "{calls}"
        );
        assert!(text.contains("--bootstrap-server a:9092,b:9092 "));
        assert!(text.contains("--transactional-id s-shop-decide. --resource-pattern-type prefixed"));
        assert!(!text.contains("Create"));
        assert!(
            printed(PIPELINE, &["--create-topics"])
                .contains("--operation Create --topic s. --resource-pattern-type prefixed")
        );
    }

    #[test]
    fn what_a_shell_would_take_apart_is_quoted() {
        assert_eq!(quoted("User:o'neil"), r"'User:o'\''neil'");
        assert_eq!(quoted("User:CN=suture,O=shop"), "User:CN=suture,O=shop");
    }
}
