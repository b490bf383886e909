//! What an executor is called, reads, and may do.

use globset::Glob;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use suture_event::{Checker, Problem, Span};
use suture_permit::Keyring;
use suture_policy::Policy;

use crate::Error;

/// What to do with a request for an action that is not on the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unlisted {
    /// Refuse it: there is no other executor.
    #[default]
    Refuse,
    /// Leave it to another executor, which reads the same topic under another name and group.
    Leave,
}

/// A number of actions in a sliding span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// How many.
    pub actions: u32,
    /// In how long.
    pub per: Span,
}

/// What an executor is called, reads, and may do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Who it is in outcomes. Processes with one name and group share the work.
    pub name: String,
    /// The consumer group, and the first part of its transactional ids.
    pub group: String,
    /// The topic of action requests.
    pub requests: String,
    /// The topic of outcomes.
    pub outcomes: String,
    /// The topic of humans' commands, of which it follows freezes and thaws.
    pub commands: String,
    /// Whether the pipeline has one scope, whatever commands name.
    pub one_scope: bool,
    /// The keys whose signatures count: decide's for permits, people's for freezes. With none, only a dry run takes requests.
    pub keys: Keyring,
    /// Actions on any one service, over all scopes. Reversals are not counted.
    pub service_budget: Budget,
    /// Actions of this executor over all services and scopes.
    pub pipeline_budget: Budget,
    /// What operators allow, as Cedar policies; the pipeline's. Absent: whatever a permit is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Policy>,
    /// Actions it may do, as globs. Nothing by default.
    pub actions: Vec<String>,
    /// Services it may touch, as globs.
    pub targets: Vec<String>,
    /// What to do with requests for other actions.
    pub unlisted: Unlisted,
    /// How long an action may take before it is given up as failed.
    pub time_limit: Span,
    /// How many requests' outcomes are known. Beyond it the oldest are forgotten; a request that old has long expired.
    pub remembered: usize,
    /// How many requests are taken in ahead of the one being worked on, for each partition.
    pub queue: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "suture-execute".to_owned(),
            group: "suture-execute".to_owned(),
            requests: "suture.remediations".to_owned(),
            outcomes: "suture.outcomes".to_owned(),
            commands: "suture.commands".to_owned(),
            one_scope: false,
            keys: Keyring::default(),
            service_budget: Budget {
                actions: 3,
                per: Span::from_hours(1),
            },
            pipeline_budget: Budget {
                actions: 30,
                per: Span::from_hours(1),
            },
            policy: None,
            actions: Vec::new(),
            targets: vec!["*".to_owned()],
            unlisted: Unlisted::Refuse,
            time_limit: Span::from_mins(10),
            remembered: 10_000,
            queue: 64,
        }
    }
}

impl Options {
    /// Every problem, in the order of the fields.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        for (path, text) in [
            ("name", &self.name),
            ("group", &self.group),
            ("requests", &self.requests),
            ("outcomes", &self.outcomes),
            ("commands", &self.commands),
        ] {
            if text.trim().is_empty() {
                check.wrong(path, "is empty", "write a name");
            }
        }
        for (field, globs) in [("actions", &self.actions), ("targets", &self.targets)] {
            if globs.is_empty() {
                let help = "list what it may do, or \"*\" for everything";
                check.wrong(field, "is empty, so that every request would be refused", help);
            }
            for (at, glob) in globs.iter().enumerate() {
                if let Err(error) = Glob::new(glob) {
                    let message = format!("{glob:?} is no glob: {}", error.kind());
                    let help = "write a name, or one with * and ? in it";
                    check.wrong(format!("{field}[{at}]"), message, help);
                }
            }
        }
        if self.time_limit.as_millis() <= 0 {
            check.wrong("time_limit", "is no time at all", "write a span such as 10m");
        }
        for (path, budget) in [
            ("service_budget.per", self.service_budget),
            ("pipeline_budget.per", self.pipeline_budget),
        ] {
            if budget.per.as_millis() <= 0 {
                check.wrong(path, "is no time at all", "write a span such as 1h");
            }
        }
        for (path, bound) in [("remembered", self.remembered), ("queue", self.queue)] {
            if bound == 0 {
                check.wrong(path, "is 0", "write 1 or more");
            }
        }
        check.found()
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        let problems = self.validate();
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Error::Options(problems))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executor_that_may_do_nothing_is_a_problem() {
        let options = Options {
            targets: vec!["[".to_owned()],
            queue: 0,
            ..Options::default()
        };
        let paths: Vec<String> = options.validate().into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, ["actions", "targets[0]", "queue"]);
        let listed = Options {
            actions: vec!["rollback".to_owned()],
            ..Options::default()
        };
        assert_eq!(listed.validate(), []);
    }
}
