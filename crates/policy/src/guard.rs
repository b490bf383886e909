//! Policies as they are asked again and again: with the hours and the fleet of the pipeline.

use suture_event::Timestamp;

use crate::{Answer, Envelope, Hours, Policy, Question, Verdict, fleet_percent};

/// A pipeline's policies, compiled once. Where they could not be, everything is denied.
#[derive(Debug, Clone)]
pub struct Guard {
    envelope: Result<Envelope, String>,
    hours: Option<Hours>,
    fleet: Option<u32>,
}

impl Guard {
    /// Compiles a pipeline's policies.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let envelope = match policy.unread().next() {
            Some(file) => Err(format!("the policy file {file} was not read")),
            None => Envelope::new(&policy.texts).map_err(|problems| {
                problems
                    .first()
                    .map_or_else(|| "the policies are not whole".to_owned(), ToString::to_string)
            }),
        };
        Self {
            envelope,
            hours: Hours::of(&policy.time_zone),
            fleet: policy.fleet,
        }
    }

    /// Asks at a time; the question's hour, weekday and share of the fleet are filled in.
    #[must_use]
    pub fn ask(&self, mut question: Question, at: Timestamp) -> Answer {
        let deny = |why: &str| Answer {
            verdict: Verdict::Deny,
            policies: Vec::new(),
            why: why.to_owned(),
        };
        let envelope = match &self.envelope {
            Ok(envelope) => envelope,
            Err(why) => return deny(why),
        };
        let Some(hours) = &self.hours else {
            return deny("the time zone of the policies is none that is known");
        };
        (question.context.hour, question.context.weekday) = hours.at(at);
        question.context.fleet_percent = fleet_percent(question.context.touched, self.fleet);
        envelope.ask(&question)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Source;

    fn policy() -> Policy {
        Policy {
            texts: vec![Source {
                name: "p".to_owned(),
                text: "permit (principal, action, resource) when { context.hour >= 8 && context.fleet_percent <= 10 };"
                    .to_owned(),
            }],
            fleet: Some(20),
            ..Policy::default()
        }
    }

    fn verdict(policy: &Policy, at: &str, touched: i64) -> Verdict {
        let mut question = Question::default();
        question.context.touched = touched;
        Guard::of(policy).ask(question, at.parse().unwrap()).verdict
    }

    #[test]
    fn the_hour_and_the_share_of_the_fleet_are_filled_in() {
        let day = "2026-11-28T12:00:00Z";
        assert_eq!(verdict(&policy(), day, 2), Verdict::Allow);
        assert_eq!(verdict(&policy(), "2026-11-28T07:59:00Z", 2), Verdict::Deny);
        assert_eq!(verdict(&policy(), day, 3), Verdict::Deny);
        let unknown = Policy {
            fleet: None,
            ..policy()
        };
        assert_eq!(verdict(&unknown, day, 1), Verdict::Deny);
    }

    #[test]
    fn what_is_not_whole_allows_nothing() {
        let unread = Policy {
            files: vec!["night.cedar".to_owned()],
            ..policy()
        };
        let nowhere = Policy {
            time_zone: "Atlantis".to_owned(),
            ..policy()
        };
        let mut broken = policy();
        broken.texts[0].text = "permit (".to_owned();
        for policy in [unread, nowhere, broken] {
            assert_eq!(verdict(&policy, "2026-11-28T12:00:00Z", 1), Verdict::Deny);
        }
    }
}
