//! What is made of a group, as readings and in words.

use suture_config::DeriveRule;
use suture_detect::{
    mix::{Measure, Novel},
    several::{Measured, Reading},
    slo::Burn,
};
use suture_event::stable_hash;

use super::group::{Group, Member, State};

/// New values that are named.
const NAMED: usize = 5;

/// What the last window of a group said.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Last {
    pub(super) measured: Option<Measured>,
    pub(super) burn: Option<Burn>,
    pub(super) novel: Option<Novel>,
}

/// A value of a label as novelty knows it.
pub(super) fn mark(named: &str) -> u64 {
    stable_hash([named.as_bytes()])
}

#[allow(clippy::cast_precision_loss)] // counts of values
pub(super) fn of_novel(row: u32, novel: Novel) -> Reading {
    let count = novel.open.max(novel.new) as f64;
    Reading {
        row,
        value: novel.new as f64,
        expected: novel.usual,
        scale: 1.0,
        distance: count,
        probability: novel.probability,
    }
}

pub(super) fn of_burn(row: u32, burn: Burn) -> Reading {
    Reading {
        row,
        value: burn.rates.0,
        expected: 1.0,
        scale: burn.limit - 1.0,
        distance: burn.rates.0,
        probability: burn.probability,
    }
}

/// What a reading of the last window means, with the numbers. `value` is what was read.
pub(super) fn words(group: &Group, spec: &DeriveRule, member: u32, value: f64, last: &Last) -> String {
    let measured = last.measured;
    match &group.state {
        State::Peers(peers) => {
            let (median, siblings) = peers.median();
            format!(
                "{} is at {}, away from its {} siblings, whose median is {}",
                name(group, member as usize),
                short(value),
                siblings.saturating_sub(1),
                short(median)
            )
        }
        State::Together(together) => {
            let Some((a, b, parts)) = together.worst() else {
                return String::new();
            };
            let expected = measured.map_or(0.0, |m| m.expected);
            let most = parts
                .first()
                .filter(|(_, pairs)| *pairs > 1.0)
                .map_or_else(String::new, |(at, pairs)| {
                    format!(
                        "; {} is in {pairs} such pairs of {} watched",
                        name(group, *at),
                        together.pairs()
                    )
                });
            format!(
                "{} and {} no longer move together: a correlation of {} of late, of {} before{most}",
                name(group, a),
                name(group, b),
                short(value),
                short(expected)
            )
        }
        State::Covariance(cloud) => format!(
            "the series together are {} spreads from where they usually are: {}",
            short(value),
            shares(group, &cloud.parts())
        ),
        State::Components(components) => format!(
            "{} spreads are not explained by how the series move together: {}",
            short(value),
            shares(group, &components.parts())
        ),
        State::Mix(mix) => {
            let measure = spec.mix.as_ref().map_or("", |options| match options.measure {
                Measure::Entropy => "entropy in bits",
                Measure::Rare => "share of rare values",
                Measure::Psi => "root of the population stability index",
                Measure::JensenShannon => "Jensen-Shannon distance",
                Measure::ChiSquare => "root of chi-square",
                Measure::KolmogorovSmirnov => "Kolmogorov-Smirnov distance",
                Measure::Wasserstein => "Wasserstein distance",
            });
            let label = spec.mix.as_ref().map_or("", |options| options.label.as_str());
            let changed: Vec<String> = mix
                .changed()
                .iter()
                .map(|(name, now, usual)| format!("{name} {}, usually {}", percent(*now), percent(*usual)))
                .collect();
            format!("{measure} of the mix of {label} ({})", changed.join("; "))
        }
        State::New(novelty) => {
            let Some(novel) = last.novel else { return String::new() };
            let labels = spec
                .new_values
                .as_ref()
                .map_or_else(String::new, |new| new.labels.join(" and "));
            let fresh = |member: &&Member| novelty.is_new(mark(&member.named));
            let mut names: Vec<&str> = group.members.iter().filter(fresh).map(|m| &*m.named).collect();
            names.sort_unstable();
            names.dedup();
            let more = names.len().saturating_sub(NAMED);
            names.truncate(NAMED);
            let more = if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            };
            format!(
                "new value of {labels}: {}{more}; {} windows were learned from, probability {:.1e}",
                names.join(", "),
                short(novel.windows),
                novel.probability
            )
        }
        State::Slo(_) => match (&spec.slo, last.burn) {
            (Some(slo), Some(burn)) => burn.words(&slo.options()),
            _ => String::new(),
        },
    }
}

fn name(group: &Group, at: usize) -> &str {
    group.members.get(at).map_or("", |member| &member.named)
}

/// Members with their shares of a distance.
fn shares(group: &Group, parts: &[(usize, f64, f64)]) -> String {
    let told: Vec<String> = parts
        .iter()
        .map(|(at, part, off)| {
            format!(
                "{} {} of it at {} of its own",
                name(group, *at),
                percent(*part),
                short(*off)
            )
        })
        .collect();
    told.join(", ")
}

fn percent(share: f64) -> String {
    format!("{}%", short(100.0 * share))
}

/// Three significant digits.
fn short(value: f64) -> String {
    suture_detect::number(value)
}
