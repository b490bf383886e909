//! How far an action may go by itself.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::{Rung, Span, Timestamp, Verb, Weighed};
use suture_policy::{Answer, Context, Guard, Question, Verdict};

use crate::{
    Budget, Options, Playbook, Tiers,
    options::OTHER_TIER,
    select::word,
    state::{Brief, Past, State},
};

/// What can keep an action below autonomous.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The pipeline's `mode`.
    Mode,
    /// What the playbook asks.
    Playbook,
    /// Nothing undoes the action, or its verb is of a class that may not be autonomous.
    Reversibility,
    /// The action is no verb that is known.
    UnknownVerb,
    /// The playbook's safety case is incomplete.
    SafetyCase,
    /// The hypothesis is not probable enough.
    Probability,
    /// The same playbook acted on the same change for another incident.
    Repeated,
    /// The playbook has not earned more.
    Trust,
    /// Policies do not allow more.
    Policy,
    /// A budget is spent.
    Budget,
    /// The scope is frozen.
    Freeze,
}

/// One thing that keeps an action below autonomous, and how low.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitedBy {
    /// What.
    pub limit: Limit,
    /// The highest rung it leaves.
    pub rung: Rung,
    /// Why, in words.
    pub why: String,
}

/// The rung an action may use, everything that limits it, and when a budget that does has room again.
pub(crate) struct Standing {
    pub(crate) rung: Rung,
    pub(crate) limited_by: Vec<LimitedBy>,
    pub(crate) again_at: Option<Timestamp>,
    /// What policies said, where there are any.
    pub(crate) answer: Option<Answer>,
}

/// What the ladder and policies look at beside the options.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) options: &'a Options,
    pub(crate) tiers: &'a Tiers,
    pub(crate) guard: Option<&'a Guard>,
    pub(crate) scope: &'a Arc<str>,
    pub(crate) state: &'a State,
}

/// The least of what every limit leaves.
pub(crate) fn climb(view: View<'_>, playbook: &Playbook, brief: &Brief, target: &str) -> Standing {
    let View { options, state, .. } = view;
    let mut limited_by = Vec::new();
    let mut cap = |limit, rung, why: String| limited_by.push(LimitedBy { limit, rung, why });
    if options.mode < Rung::Autonomous {
        cap(Limit::Mode, options.mode, "the pipeline's mode".to_owned());
    }
    if playbook.rung < Rung::Autonomous {
        cap(
            Limit::Playbook,
            playbook.rung,
            "the playbook asks for no more".to_owned(),
        );
    }
    let action = &playbook.action.action;
    match Verb::of(action) {
        None => cap(
            Limit::UnknownVerb,
            Rung::Advise,
            format!("{action} is no verb that is known"),
        ),
        Some(verb) if verb.class.highest() < Rung::Autonomous => cap(
            Limit::Reversibility,
            verb.class.highest(),
            format!("{action} {}", verb.class.words()),
        ),
        Some(verb) if playbook.undo().is_none() && !verb.leaves_nothing => cap(
            Limit::Reversibility,
            Rung::Supervised,
            "nothing undoes the action".to_owned(),
        ),
        Some(_) => {}
    }
    let missing = playbook.missing_from_safety_case();
    if !missing.is_empty() {
        cap(
            Limit::SafetyCase,
            Rung::Advise,
            format!("the safety case lacks {}", missing.join(", ")),
        );
    }
    let minimum = playbook
        .limits
        .minimum_probability
        .unwrap_or(options.minimum_probability);
    if brief.probability < minimum {
        cap(
            Limit::Probability,
            Rung::Advise,
            format!("the hypothesis must be at least {minimum} probable"),
        );
    }
    let change = brief.first.as_ref().and_then(|first| first.change.as_ref());
    if let Some(change) = change
        && let Some(past) = state.history.on_change(&playbook.name, change, &brief.id)
    {
        let why = format!(
            "{change} was acted on already, by action {} for incident {}",
            past.action, past.incident
        );
        cap(Limit::Repeated, Rung::Advise, why);
    }
    if let Some(trust) = &options.trust {
        let tier = view.tier(target);
        let earned = trust.judge(&state.trust.of(&playbook.name, action, tier));
        if earned.rung < Rung::Autonomous {
            let (level, of, is) = if earned.rung == Rung::Advise {
                (trust.supervised, "supervised", earned.all)
            } else {
                (trust.autonomous, "autonomous", earned.done)
            };
            let why = format!("on services of tier {tier} it has earned {is:.2}, and {of} asks for {level}");
            cap(Limit::Trust, earned.rung, why);
        }
    }
    if let Some(by) = state.frozen_by() {
        cap(Limit::Freeze, Rung::Advise, format!("{by} froze the scope"));
    }
    let answer = view.ask(playbook, brief, target, 0);
    match answer.as_ref().map(|answer| (answer.verdict, &answer.why)) {
        Some((Verdict::Deny, why)) => cap(Limit::Policy, Rung::Advise, why.clone()),
        Some((Verdict::NeedsApproval, why)) => cap(Limit::Policy, Rung::Supervised, why.clone()),
        Some((Verdict::Allow, _)) | None => {}
    }
    let spent = budgets(options, playbook, target, state);
    for why in &spent.whys {
        cap(Limit::Budget, Rung::Advise, why.clone());
    }
    let rung = limited_by
        .iter()
        .map(|limited| limited.rung)
        .min()
        .unwrap_or(Rung::Autonomous);
    limited_by.sort_by_key(|limited| limited.limit);
    Standing {
        rung,
        limited_by,
        again_at: spent.until,
        answer,
    }
}

impl View<'_> {
    /// The tier of a service; that of all where the pipeline names none, as the ledger has it.
    fn tier(&self, target: &str) -> u8 {
        if self.options.tiers.is_empty() {
            OTHER_TIER
        } else {
            self.tiers.tier(Some(target))
        }
    }

    /// What is known of an action that executors cannot know.
    pub(crate) fn weigh(&self, playbook: &Playbook, brief: &Brief, target: &str) -> Weighed {
        let tier = self.tier(target);
        let trust = self.options.trust.unwrap_or_default();
        let earned = trust.judge(&self.state.trust.of(&playbook.name, &playbook.action.action, tier));
        let precedents = brief.first.as_ref().map_or(0, |first| {
            self.state.precedents.of(&first.class, first.service.as_ref())
        });
        Weighed {
            tier,
            severity: brief.severity,
            confidence: percent(brief.probability),
            trust: percent(earned.done),
            precedents,
            budget_left: self.left(playbook, target),
        }
    }

    /// How many actions the tightest budget leaves beside this one.
    fn left(&self, playbook: &Playbook, target: &str) -> u32 {
        let now = self.state.clock;
        let each = |budget: Option<Budget>, ours: bool, here: bool| {
            let budget = budget?;
            let counts =
                |past: &Past| (!ours || *past.playbook == *playbook.name) && (!here || *past.target == *target);
            let used = u32::try_from(self.state.history.within(budget.per, now, counts)).unwrap_or(u32::MAX);
            Some(budget.actions.saturating_sub(used).saturating_sub(1))
        };
        let all = [
            each(Some(self.options.budget.service), false, true),
            each(Some(self.options.budget.scope), false, false),
            each(playbook.safety.budget, true, false),
            each(playbook.limits.per_service, true, true),
        ];
        all.into_iter().flatten().min().unwrap_or(0)
    }

    /// Asks policies for an action that so many people approved; `None` where the pipeline has none.
    pub(crate) fn ask(&self, playbook: &Playbook, brief: &Brief, target: &str, approvals: usize) -> Option<Answer> {
        let guard = self.guard?;
        let weighed = self.weigh(playbook, brief, target);
        let verb = Verb::of(&playbook.action.action);
        let others = self.state.history.touched(Span::from_mins(1), self.state.clock, target);
        let context = Context {
            environment: self.scope.to_string(),
            tier: weighed.tier.into(),
            class: brief
                .first
                .as_ref()
                .map_or_else(String::new, |first| first.class.to_string()),
            severity: word(&weighed.severity),
            undoable: playbook.undo().is_some() || verb.is_some_and(|verb| verb.leaves_nothing),
            targets: 1,
            touched: i64::try_from(others).unwrap_or(i64::MAX).saturating_add(1),
            frozen: self.state.frozen_by().is_some(),
            budget_left: weighed.budget_left.into(),
            trust: weighed.trust.into(),
            confidence: weighed.confidence.into(),
            precedents: weighed.precedents.into(),
            ..Context::default()
        };
        let question = Question {
            playbook: playbook.name.clone(),
            action: playbook.action.action.to_string(),
            service: target.to_owned(),
            approvals: i64::try_from(approvals).unwrap_or(i64::MAX),
            context,
        };
        Some(guard.ask(question, self.state.clock))
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // held to 0 to 100
fn percent(share: f64) -> u8 {
    (share * 100.0).clamp(0.0, 100.0).floor() as u8
}

/// The budgets that leave no room, in words, and when all of them do again.
#[derive(Default)]
pub(crate) struct SpentBudgets {
    pub(crate) whys: Vec<String>,
    pub(crate) until: Option<Timestamp>,
}

/// Looks at every budget that an action of a playbook on a service would be counted in.
pub(crate) fn budgets(options: &Options, playbook: &Playbook, target: &str, state: &State) -> SpentBudgets {
    let now = state.clock;
    let history = &state.history;
    let mut found = SpentBudgets::default();
    let mut never = false;
    let mut look = |name: &str, budget: Option<Budget>, ours: bool, here: bool| {
        let Some(budget) = budget else { return };
        let counts = |past: &Past| {
            (!ours || past.playbook.as_ref() == playbook.name) && (!here || past.target.as_ref() == target)
        };
        if let Some(spent) = history.spent(budget, now, counts) {
            found.whys.push(format!(
                "{} of {} actions in {} are used {name}",
                spent.used, budget.actions, budget.per
            ));
            never |= spent.until.is_none();
            found.until = found.until.max(spent.until);
        }
    };
    look("on the service", Some(options.budget.service), false, true);
    look("in the scope", Some(options.budget.scope), false, false);
    look("by the playbook", playbook.safety.budget, true, false);
    look(
        "by the playbook on the service",
        playbook.limits.per_service,
        true,
        true,
    );
    if history.len() >= options.bounds.history {
        found
            .whys
            .push(format!("{} past actions are all that can be counted", history.len()));
    }
    if never {
        found.until = None;
    }
    found
}
