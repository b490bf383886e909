//! `suture trust` and `suture report`: what the ledger says of playbooks, and of how well it all goes.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use suture_event::{LedgerRecord, Rung};
use suture_remediate::{Report, Trust, TrustOptions};

/// Prints what playbooks have earned, by scope, playbook, verb and tier, from the ledger alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A file of ledger records, one a line, such as the one in a replay's folder; the pipeline's topic where it is left out.
    #[arg(long, value_name = "FILE.ndjson")]
    ledger: Option<PathBuf>,
    /// The pipeline file, for the levels that count, and for the topic. Without it the levels are those by default.
    #[arg(long, value_name = "PIPELINE.yaml", env = "SUTURE_PIPELINE")]
    pipeline: Option<PathBuf>,
}

/// Prints how much was healed alone, how much was taken back, and how long repair took, by week, from the ledger alone.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportArgs {
    /// A file of ledger records, one a line; the pipeline's topic where it is left out.
    #[arg(long, value_name = "FILE.ndjson")]
    ledger: Option<PathBuf>,
    /// The pipeline file, for the topic.
    #[arg(long, value_name = "PIPELINE.yaml", env = "SUTURE_PIPELINE")]
    pipeline: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints what playbooks have earned.
pub(crate) fn trust(args: &Args) -> anyhow::Result<()> {
    let pipeline = args.pipeline.as_deref().map(suture_service::load::parse).transpose()?;
    let records = crate::ledger::read(args.ledger.as_deref(), pipeline.as_ref())?;
    let set = pipeline.and_then(|pipeline| pipeline.remediate.trust);
    print!("{}", table(&records, &set.unwrap_or_default()));
    if set.is_none() {
        crate::tell(format_args!(
            "no `remediate.trust` was given: the levels are those by default, and playbooks are not held to them\n"
        ));
    }
    Ok(())
}

fn table(records: &[LedgerRecord], options: &TrustOptions) -> String {
    let mut scopes: BTreeMap<&Arc<str>, Trust> = BTreeMap::new();
    for record in records {
        scopes.entry(&record.scope).or_default().record(record);
    }
    let head = [
        "scope",
        "playbook",
        "verb",
        "tier",
        "verified",
        "failed",
        "reversed",
        "agreed",
        "disagreed",
        "done",
        "all",
        "rung",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    for (scope, trust) in &scopes {
        let mut all: Vec<_> = trust.all().collect();
        all.sort_by_key(|(trustee, _)| *trustee);
        for (trustee, evidence) in all {
            let earned = options.judge(evidence);
            let rung = match earned.rung {
                Rung::Advise => "advise",
                Rung::Supervised => "supervised",
                Rung::Autonomous => "autonomous",
            };
            rows.push([
                scope.to_string(),
                trustee.playbook.to_string(),
                trustee.action.to_string(),
                trustee.tier.to_string(),
                evidence.verified.to_string(),
                evidence.failed.to_string(),
                evidence.reversed.to_string(),
                evidence.agreed.to_string(),
                evidence.disagreed.to_string(),
                format!("{:.2}", earned.done),
                format!("{:.2}", earned.all),
                rung.to_owned(),
            ]);
        }
    }
    columns(&rows)
}

/// Rows as columns of even width.
fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Prints the weeks.
pub(crate) fn report(args: &ReportArgs) -> anyhow::Result<()> {
    let pipeline = args.pipeline.as_deref().map(suture_service::load::parse).transpose()?;
    let records = crate::ledger::read(args.ledger.as_deref(), pipeline.as_ref())?;
    let mut report = Report::default();
    records.iter().for_each(|record| report.record(record));
    let weeks = report.weeks();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&weeks)?);
        return Ok(());
    }
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1}%", share * 100.0));
    let head = [
        "week of",
        "incidents",
        "healed alone",
        "with approval",
        "escalated",
        "auto-resolution",
        "actions",
        "taken back",
        "rollback rate",
        "minutes to repair",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(weeks.iter().map(|week| {
        [
            week.from.to_string().chars().take(10).collect(),
            week.incidents.to_string(),
            week.healed_alone.to_string(),
            week.healed_approved.to_string(),
            week.escalated.to_string(),
            percent(week.auto_resolution),
            week.actions.to_string(),
            week.reversed.to_string(),
            percent(week.rollback_rate),
            week.minutes_to_repair
                .map_or_else(|| "-".to_owned(), |minutes| format!("{minutes:.1}")),
        ]
    }));
    print!("{}", columns(&rows));
    Ok(())
}

#[cfg(test)]
mod tests {
    use suture_event::Timestamp;

    use super::*;

    #[test]
    fn the_table_has_a_row_for_each_scope_playbook_verb_and_tier() {
        let mut records = Vec::new();
        for scope in ["prod", "test"] {
            let bodies = [
                (
                    "action_requested",
                    serde_json::json!({"tier": 1, "request": {"id": "a", "incident": "i",
                    "playbook": "roll back", "action": "rollback", "rung": "autonomous"}}),
                ),
                ("verified", serde_json::json!({"action": "a", "incident": "i"})),
            ];
            for (seq, (kind, body)) in (0..).zip(bodies) {
                let at = Timestamp::from_millis(0);
                records.push(LedgerRecord::sealed(
                    seq,
                    at,
                    scope.into(),
                    kind,
                    None,
                    body,
                    LedgerRecord::GENESIS,
                ));
            }
        }
        let table = table(&records, &TrustOptions::default());
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(
            lines[0],
            "scope  playbook   verb      tier  verified  failed  reversed  agreed  disagreed  done  all   rung"
        );
        assert_eq!(
            lines[1],
            "prod   roll back  rollback  1     1         0       0         0       0          0.22  0.22  advise"
        );
        assert!(lines[2].starts_with("test "));
    }
}
