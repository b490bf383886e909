//! What a playbook has earned: counted from the ledger alone, and held against stated levels.

use std::{collections::VecDeque, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use statrs::distribution::{Beta, ContinuousCDF};
use suture_event::{LedgerRecord, Rung};

use crate::{Problem, kind};

/// How sure one must be of a playbook before it may do more than advise. Absent, playbooks need to earn nothing.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TrustOptions {
    /// The share of good among what was advised, approved and done that must be exceeded for `supervised`, 0 to 1.
    pub supervised: f64,
    /// The share of good among what was done that must be exceeded for `autonomous`, 0 to 1.
    pub autonomous: f64,
    /// How sure one must be of that, above 0 and below 1.
    pub confidence: f64,
}

impl Default for TrustOptions {
    fn default() -> Self {
        Self {
            supervised: 0.5,
            autonomous: 0.8,
            confidence: 0.95,
        }
    }
}

impl TrustOptions {
    pub(crate) fn validate(&self, problems: &mut Vec<Problem>) {
        for (path, level) in [("supervised", self.supervised), ("autonomous", self.autonomous)] {
            if !(0.0..1.0).contains(&level) {
                let message = format!("{level} is no share that can be exceeded");
                problems.push(Problem::new(
                    format!("trust.{path}"),
                    message,
                    "write a number from 0 to below 1",
                ));
            }
        }
        if self.autonomous < self.supervised {
            problems.push(Problem::new(
                "trust.autonomous",
                "is below `supervised`: acting alone would be easier than acting when asked",
                "write the higher level here",
            ));
        }
        if !(self.confidence > 0.0 && self.confidence < 1.0) {
            let message = format!("{} is no probability between 0 and 1", self.confidence);
            problems.push(Problem::new("trust.confidence", message, "write a number such as 0.95"));
        }
    }

    /// What the evidence is worth. Every answer is no higher than [`Rung::Autonomous`]; with no evidence it is advice.
    #[must_use]
    pub fn judge(&self, evidence: &Evidence) -> Earned {
        let bad = evidence.bad;
        let done = self.lower(evidence.verified_since, bad);
        let said = evidence.verified_since.saturating_add(evidence.agreed_since);
        let all = self.lower(said, bad.saturating_add(evidence.disagreed));
        let rung = if all < self.supervised {
            Rung::Advise
        } else if done < self.autonomous {
            Rung::Supervised
        } else {
            Rung::Autonomous
        };
        Earned { rung, done, all }
    }

    /// What the share of good exceeds as surely as `confidence` says: the lower quantile of the posterior of a share of which
    /// nothing was known before, which is Beta(1 + good, 1 + bad).
    fn lower(&self, good: u32, bad: u32) -> f64 {
        Beta::new(1.0 + f64::from(good), 1.0 + f64::from(bad))
            .map_or(0.0, |posterior| posterior.inverse_cdf(1.0 - self.confidence))
    }
}

/// What evidence is worth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Earned {
    /// The highest rung that it gives.
    pub rung: Rung,
    /// What the share of good among what was done surely exceeds: for `autonomous`.
    pub done: f64,
    /// The same with what humans said of it: for `supervised`.
    pub all: f64,
}

/// What became of a playbook's actions with one verb on services of one tier.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Actions after which every signal that opened the incident came back.
    pub verified: u32,
    /// Actions after which they did not.
    pub failed: u32,
    /// Actions that were taken back, by themselves or by a human's word.
    pub reversed: u32,
    /// Approvals; and advice for incidents that a human called true.
    pub agreed: u32,
    /// Denials; and advice for incidents that a human called none.
    pub disagreed: u32,
    /// Actions that went bad: not verified, taken back, or done for what a human called no incident; each once.
    pub bad: u32,
    /// Verified since the last that went bad. Those before it are no reason to trust any more.
    pub verified_since: u32,
    /// Agreed since then.
    pub agreed_since: u32,
}

/// Whose evidence it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Trustee {
    /// The playbook's name.
    pub playbook: Arc<str>,
    /// Its verb: a playbook that does something else starts anew.
    pub action: Arc<str>,
    /// The tier of the services acted on.
    pub tier: u8,
}

/// The evidence of one scope's playbooks: a fold over its ledger, and over nothing else.
///
/// At most [`Trust::TRUSTEES`] are kept: one beyond them has no evidence, and advises. The last [`Trust::ACTIONS`] requests are
/// known: what becomes of older ones counts no more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    trustees: Vec<(Trustee, Evidence)>,
    actions: VecDeque<Known>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    id: Arc<str>,
    incident: Arc<str>,
    trustee: usize,
    /// Whether executors were let do it.
    sent: bool,
    /// Whether it counts as having gone bad.
    bad: bool,
    /// Whether a human's label of its incident was counted.
    labelled: bool,
}

impl Trust {
    /// How many pairs of playbook, verb and tier are kept.
    pub const TRUSTEES: usize = 1_000;
    /// How many requests are known.
    pub const ACTIONS: usize = 1_000;

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.trustees.is_empty()
    }

    /// The evidence for a playbook's verb on services of a tier; none of it where there is none.
    #[must_use]
    pub fn of(&self, playbook: &str, action: &str, tier: u8) -> Evidence {
        let same = |known: &&(Trustee, Evidence)| {
            let trustee = &known.0;
            *trustee.playbook == *playbook && *trustee.action == *action && trustee.tier == tier
        };
        self.trustees
            .iter()
            .find(same)
            .map_or_else(Evidence::default, |known| known.1)
    }

    /// Everybody of whom there is evidence, in the order in which they were first asked for.
    pub fn all(&self) -> impl Iterator<Item = (&Trustee, &Evidence)> {
        self.trustees.iter().map(|(trustee, evidence)| (trustee, evidence))
    }

    /// Takes one record of the scope's ledger. Where the state behind the ledger was lost, what was earned is lost with it.
    pub fn record(&mut self, record: &LedgerRecord) {
        if record.begins_anew() {
            *self = Self::default();
        }
        self.take(&record.kind, &record.body);
    }

    /// The same of a record that is being written.
    pub(crate) fn take(&mut self, what: &str, body: &Value) {
        let text = |name: &str| body.get(name).and_then(Value::as_str);
        match what {
            kind::ACTION_REQUESTED => self.requested(body),
            kind::VERIFIED => self.count(text("action"), |evidence| {
                evidence.verified += 1;
                evidence.verified_since += 1;
            }),
            kind::NOT_VERIFIED => {
                self.count(text("action"), |evidence| evidence.failed += 1);
                self.went_bad(text("action"));
            }
            kind::APPROVED => self.count(text("action"), |evidence| {
                evidence.agreed += 1;
                evidence.agreed_since += 1;
            }),
            kind::DENIED => self.count(text("action"), |evidence| evidence.disagreed += 1),
            kind::UNDONE => self.went_bad(text("action")),
            kind::LABELLED => self.labelled(text("incident"), text("label")),
            _ => {}
        }
    }

    fn requested(&mut self, body: &Value) {
        let Some(request) = body.get("request") else { return };
        let text = |name: &str| request.get(name).and_then(Value::as_str);
        if let Some(original) = text("reverses") {
            let first = self.actions.iter().any(|known| *known.id == *original);
            if first {
                self.count(Some(original), |evidence| evidence.reversed += 1);
                self.went_bad(Some(original));
            }
            return;
        }
        let (Some(id), Some(incident), Some(playbook), Some(action)) =
            (text("id"), text("incident"), text("playbook"), text("action"))
        else {
            return;
        };
        let sent = text("rung") == Some("autonomous");
        if let Some(known) = self.actions.iter_mut().find(|known| *known.id == *id) {
            known.sent |= sent;
            return;
        }
        let tier = body
            .get("tier")
            .and_then(Value::as_u64)
            .and_then(|tier| u8::try_from(tier).ok());
        let trustee = Trustee {
            playbook: playbook.into(),
            action: action.into(),
            tier: tier.unwrap_or(crate::options::OTHER_TIER),
        };
        let at = self.trustees.iter().position(|(known, _)| *known == trustee);
        let at = match at {
            Some(at) => at,
            None if self.trustees.len() >= Self::TRUSTEES => return,
            None => {
                self.trustees.push((trustee, Evidence::default()));
                self.trustees.len() - 1
            }
        };
        self.actions.push_back(Known {
            id: id.into(),
            incident: incident.into(),
            trustee: at,
            sent,
            bad: false,
            labelled: false,
        });
        while self.actions.len() > Self::ACTIONS {
            self.actions.pop_front();
        }
    }

    fn count(&mut self, action: Option<&str>, counts: impl Fn(&mut Evidence)) {
        let known = self.actions.iter().find(|known| Some(&*known.id) == action);
        if let Some((_, evidence)) = known.and_then(|known| self.trustees.get_mut(known.trustee)) {
            counts(evidence);
        }
    }

    /// An action went bad: whatever was good before it is no reason to trust any more.
    fn went_bad(&mut self, action: Option<&str>) {
        let Some(known) = self.actions.iter_mut().find(|known| Some(&*known.id) == action) else {
            return;
        };
        if std::mem::replace(&mut known.bad, true) {
            return;
        }
        if let Some((_, evidence)) = self.trustees.get_mut(known.trustee) {
            evidence.bad += 1;
            evidence.verified_since = 0;
            evidence.agreed_since = 0;
        }
    }

    /// A human said what an incident really was.
    fn labelled(&mut self, incident: Option<&str>, label: Option<&str>) {
        let of_it: Vec<(Arc<str>, bool)> = self
            .actions
            .iter_mut()
            .filter(|known| Some(&*known.incident) == incident && !known.labelled)
            .map(|known| {
                known.labelled = true;
                (Arc::clone(&known.id), known.sent)
            })
            .collect();
        for (id, sent) in of_it {
            match (label, sent) {
                (Some("true"), false) => self.count(Some(&id), |evidence| {
                    evidence.agreed += 1;
                    evidence.agreed_since += 1;
                }),
                // what was done for nothing went bad, whatever the signals said afterwards
                (Some("false_alarm"), true) => self.went_bad(Some(&id)),
                (Some("false_alarm"), false) => self.count(Some(&id), |evidence| evidence.disagreed += 1),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(trust: &mut Trust, id: &str, rung: &str) {
        let request =
            json!({"id": id, "incident": format!("i-{id}"), "playbook": "p", "action": "rollback", "rung": rung});
        trust.take(kind::ACTION_REQUESTED, &json!({"request": request, "tier": 1}));
    }

    fn rung(trust: &Trust) -> Rung {
        TrustOptions::default().judge(&trust.of("p", "rollback", 1)).rung
    }

    #[test]
    fn the_lower_bound_is_that_of_a_beta_posterior() {
        let options = TrustOptions::default();
        // where nothing went bad it is known in closed form: the n-th root
        for good in [0_u32, 1, 4, 13, 100] {
            let exact = 0.05_f64.powf(1.0 / f64::from(good + 1));
            assert!((options.lower(good, 0) - exact).abs() < 1e-6, "{good}");
        }
        assert!((options.lower(0, 1) - (1.0 - 0.95_f64.sqrt())).abs() < 1e-6);
        assert!(options.lower(10, 1) < options.lower(10, 0));
    }

    #[test]
    fn a_new_playbook_advises_climbs_by_what_was_good_and_falls_at_once() {
        let mut trust = Trust::default();
        assert_eq!(rung(&trust), Rung::Advise);
        for n in 0..4 {
            request(&mut trust, &format!("a{n}"), "advise");
            assert_eq!(rung(&trust), Rung::Advise, "{n}");
            trust.take(kind::LABELLED, &json!({"incident": format!("i-a{n}"), "label": "true"}));
        }
        assert_eq!(rung(&trust), Rung::Supervised);
        for n in 0..13 {
            assert_eq!(rung(&trust), Rung::Supervised, "{n}");
            let id = format!("s{n}");
            request(&mut trust, &id, "supervised");
            trust.take(kind::APPROVED, &json!({"action": id}));
            request(&mut trust, &id, "autonomous");
            trust.take(kind::VERIFIED, &json!({"action": id}));
        }
        assert_eq!(rung(&trust), Rung::Autonomous);
        request(&mut trust, "bad", "autonomous");
        trust.take(kind::NOT_VERIFIED, &json!({"action": "bad"}));
        assert_eq!(rung(&trust), Rung::Advise);
        let reversal =
            json!({"id": "r", "reverses": "bad", "playbook": "p", "action": "redeploy", "rung": "autonomous"});
        trust.take(kind::ACTION_REQUESTED, &json!({"request": reversal, "tier": 1}));
        let evidence = trust.of("p", "rollback", 1);
        assert_eq!(
            (evidence.verified, evidence.failed, evidence.reversed, evidence.bad),
            (13, 1, 1, 1)
        );
        assert_eq!(trust.all().count(), 1, "what undoes is no trustee of its own");
    }

    #[test]
    fn other_verbs_and_other_tiers_have_earned_nothing() {
        let mut trust = Trust::default();
        for n in 0..20 {
            request(&mut trust, &format!("a{n}"), "autonomous");
            trust.take(kind::VERIFIED, &json!({"action": format!("a{n}")}));
        }
        let options = TrustOptions::default();
        let rung = |action, tier| options.judge(&trust.of("p", action, tier)).rung;
        assert_eq!(rung("rollback", 1), Rung::Autonomous);
        assert_eq!(rung("rollback", 0), Rung::Advise);
        assert_eq!(rung("restart", 1), Rung::Advise);
    }

    #[test]
    fn what_was_done_for_a_false_alarm_went_bad_and_an_undo_as_well() {
        for bad in [kind::LABELLED, kind::UNDONE] {
            let mut trust = Trust::default();
            for n in 0..20 {
                request(&mut trust, &format!("a{n}"), "autonomous");
                trust.take(kind::VERIFIED, &json!({"action": format!("a{n}")}));
            }
            trust.take(
                bad,
                &json!({"action": "a3", "incident": "i-a3", "label": "false_alarm"}),
            );
            assert_eq!(rung(&trust), Rung::Advise, "{bad}");
            // once, however often it is said
            trust.take(
                bad,
                &json!({"action": "a3", "incident": "i-a3", "label": "false_alarm"}),
            );
            assert_eq!(trust.of("p", "rollback", 1).bad, 1);
        }
    }

    #[test]
    fn what_is_known_is_bounded_and_what_is_not_known_has_earned_nothing() {
        let mut trust = Trust::default();
        for n in 0..Trust::TRUSTEES + 5 {
            let request = json!({"id": n.to_string(), "incident": "i", "playbook": format!("p{n}"), "action": "restart",
                "rung": "autonomous"});
            trust.take(kind::ACTION_REQUESTED, &json!({"request": request}));
        }
        assert_eq!(trust.all().count(), Trust::TRUSTEES);
        assert!(trust.actions.len() <= Trust::ACTIONS);
        trust.take(kind::VERIFIED, &json!({"action": "1004"}));
        assert_eq!(trust.of("p1004", "restart", 2), Evidence::default());
    }
}
