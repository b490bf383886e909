//! Which playbook answers a hypothesis, and why the others do not.

use std::{collections::BTreeSet, sync::Arc};

use globset::{Glob, GlobSet, GlobSetBuilder};
use serde::Serialize;
use suture_event::{ActionStep, Shape, parameter_flaws};

use crate::{
    Options, Playbook,
    state::{Brief, Case, Changes, First, State},
    template::{self, Values},
};

/// A playbook's globs, compiled.
#[derive(Debug, Clone)]
pub(crate) struct Globs {
    class: Option<GlobSet>,
    metric: Option<GlobSet>,
    service: Option<GlobSet>,
    except_service: Option<GlobSet>,
}

/// How much services matter, compiled.
#[derive(Debug, Clone)]
pub struct Tiers {
    named: Vec<(u8, GlobSet)>,
    other: u8,
}

impl Tiers {
    /// Those of a pipeline.
    #[must_use]
    pub fn of(options: &Options) -> Self {
        let named = options.tiers.iter().map(|tier| (tier.tier, set(&tier.services)));
        Self {
            named: named.collect(),
            other: options.other_tier,
        }
    }

    /// The tier of a service; that of the others for none.
    #[must_use]
    pub fn tier(&self, service: Option<&str>) -> u8 {
        let named = service.and_then(|service| self.named.iter().find(|(_, set)| set.is_match(service)));
        named.map_or(self.other, |(tier, _)| *tier)
    }
}

/// Compiles globs; one that is none matches nothing.
pub(crate) fn set(globs: &[String]) -> GlobSet {
    let mut builder = GlobSetBuilder::new();
    globs.iter().filter_map(|glob| Glob::new(glob).ok()).for_each(|glob| {
        builder.add(glob);
    });
    builder.build().unwrap_or_else(|_| GlobSet::empty())
}

impl Globs {
    /// Compiles what [`Options::validate`] found good; a glob that is none matches nothing.
    pub(crate) fn of(playbook: &Playbook) -> Self {
        let set = |globs: &[String]| (!globs.is_empty()).then(|| set(globs));
        Self {
            class: set(&playbook.matches.class),
            metric: set(&playbook.matches.metric),
            service: set(&playbook.matches.service),
            except_service: set(&playbook.matches.except_service),
        }
    }
}

/// A playbook that was looked at, and what was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Candidate {
    pub(crate) playbook: Arc<str>,
    pub(crate) reason: String,
}

/// The playbook that fits, with its placeholders filled in.
pub(crate) struct Chosen {
    pub(crate) index: usize,
    pub(crate) target: Arc<str>,
    pub(crate) step: ActionStep,
    pub(crate) reversal: Option<ActionStep>,
    /// Names of what holds something from outside.
    pub(crate) outside: BTreeSet<Arc<str>>,
}

/// Looks at playbooks in the order of the file. The first that fits is chosen; each gets its reason.
pub(crate) fn choose(
    options: &Options,
    globs: &[Globs],
    tiers: &Tiers,
    case: &Case,
    first: &First,
    scope: &Arc<str>,
    state: &State,
) -> (Vec<Candidate>, Option<Chosen>) {
    let mut candidates = Vec::with_capacity(options.playbooks.len());
    let mut chosen: Option<Chosen> = None;
    let tier = tiers.tier(first.service.as_deref());
    let precedents = state.precedents.of(&first.class, first.service.as_ref());
    for (index, (playbook, globs)) in options.playbooks.iter().zip(globs).enumerate() {
        let reason = if chosen.is_some() {
            "an earlier playbook fits".to_owned()
        } else {
            let values = values(&case.brief, first, playbook, scope, &state.changes);
            let found =
                fits(playbook, globs, case, first, tier, precedents).and_then(|()| fill(index, playbook, &values));
            match found {
                Ok(found) => {
                    chosen = Some(found);
                    "fits".to_owned()
                }
                Err(reason) => reason,
            }
        };
        candidates.push(Candidate {
            playbook: playbook.name.as_str().into(),
            reason,
        });
    }
    (candidates, chosen)
}

fn fits(
    playbook: &Playbook,
    globs: &Globs,
    case: &Case,
    first: &First,
    tier: u8,
    precedents: u32,
) -> Result<(), String> {
    let matches = &playbook.matches;
    let brief = &case.brief;
    if globs
        .class
        .as_ref()
        .is_some_and(|set| !set.is_match(first.class.as_ref()))
    {
        return Err(format!("is not for class {}", first.class));
    }
    if !matches.kind.is_empty() && !matches.kind.contains(&first.kind) {
        return Err(format!("is not for causes of kind {}", word(&first.kind)));
    }
    match (&globs.service, &first.service) {
        (Some(_), None) => return Err("is for certain services, and the cause names none".to_owned()),
        (Some(set), Some(service)) if !set.is_match(service.as_ref()) => return Err(format!("is not for {service}")),
        _ => {}
    }
    if let (Some(set), Some(service)) = (&globs.except_service, &first.service)
        && set.is_match(service.as_ref())
    {
        return Err(format!("is never for {service}"));
    }
    if let Some(least) = matches.severity
        && brief.severity < least
    {
        return Err(format!(
            "is for severity {} and above, and this is {}",
            word(&least),
            word(&brief.severity)
        ));
    }
    if brief.probability < matches.probability {
        return Err(format!("needs a probability of at least {}", matches.probability));
    }
    if !matches.signals.is_empty() && !matches.signals.iter().any(|kind| brief.kinds.contains(kind)) {
        return Err("none of the signals that opened the incident is of a kind it is for".to_owned());
    }
    if let Some(set) = &globs.metric
        && !brief.metrics.iter().any(|metric| set.is_match(metric.as_ref()))
    {
        return Err("none of the signals that opened the incident is of a metric it is for".to_owned());
    }
    if !matches.tier.is_empty() && !matches.tier.contains(&tier) {
        return Err(format!("is not for services of tier {tier}"));
    }
    if precedents < matches.precedents {
        return Err(format!(
            "needs {} incidents of this sort before, and there were {precedents}",
            matches.precedents
        ));
    }
    if case.denied.contains(playbook.name.as_str()) {
        return Err("was denied for this incident".to_owned());
    }
    let sent = case.sent.get(playbook.name.as_str()).copied().unwrap_or(0);
    if sent >= playbook.limits.attempts {
        return Err(format!(
            "was tried {sent} times for this incident, of {} allowed",
            playbook.limits.attempts
        ));
    }
    Ok(())
}

fn fill(index: usize, playbook: &Playbook, values: &Values) -> Result<Chosen, String> {
    let no_value = |name: String| format!("needs {{{{{name}}}}}, which has no value for this cause");
    let target = template::fill(&playbook.target, values).map_err(no_value)?;
    let step = template::fill_step(&playbook.action, values).map_err(no_value)?;
    let reversal = playbook
        .undo()
        .map(|step| template::fill_step(step, values))
        .transpose()
        .map_err(no_value)?;
    if let Err(must) = Shape::Reference.check(&target) {
        return Err(format!("its target {target:?} {must}"));
    }
    for step in std::iter::once(&step).chain(&reversal) {
        if let Some((name, flaw)) = parameter_flaws(step, |name| playbook.parameters.get(name).copied())
            .into_iter()
            .next()
        {
            return Err(format!("its parameter {name} does not fit: {flaw}"));
        }
    }
    Ok(Chosen {
        index,
        target: target.into(),
        step,
        reversal,
        outside: outside(playbook),
    })
}

/// The names of parameters, and `target`, whose texts have a placeholder that is filled from telemetry or changes.
fn outside(playbook: &Playbook) -> BTreeSet<Arc<str>> {
    let steps = std::iter::once(&playbook.action).chain(playbook.undo());
    let texts = steps.flat_map(|step| {
        step.parameters
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
    });
    texts
        .chain([("target", playbook.target.as_str())])
        .filter(|(_, text)| template::is_from_outside(text))
        .map(|(name, _)| name.into())
        .collect()
}

fn values(brief: &Brief, first: &First, playbook: &Playbook, scope: &Arc<str>, changes: &Changes) -> Values {
    let mut values = Values::from([
        ("incident", Arc::clone(&brief.id)),
        ("class", Arc::clone(&first.class)),
        ("kind", word(&first.kind).into()),
        ("severity", word(&brief.severity).into()),
        ("scope", Arc::clone(scope)),
        ("playbook", playbook.name.as_str().into()),
        ("owner", playbook.owner.as_str().into()),
    ]);
    let artifacts = first.change.as_ref().and_then(|change| changes.get(change));
    let optional = [
        ("service", first.service.as_ref()),
        ("change", first.change.as_ref()),
        ("affected", brief.services.first()),
        ("artifact", artifacts.and_then(|a| a.artifact.as_ref())),
        ("previous_artifact", artifacts.and_then(|a| a.previous.as_ref())),
    ];
    values.extend(
        optional
            .into_iter()
            .filter_map(|(name, value)| Some((name, Arc::clone(value?)))),
    );
    values
}

/// The name of an enum's value as it stands in JSON.
pub(crate) fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
