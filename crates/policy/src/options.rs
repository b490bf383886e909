//! Where policies come from, and examples of what they say.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Answer, Envelope, Hours, Problem, Question, Verdict};

/// What operators allow, as Cedar policies. Absent, whatever the ladder leaves is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    /// Files of policies, by paths relative to the pipeline file.
    pub files: Vec<String>,
    /// Policies written out here. What `files` names is taken in here when the pipeline file is loaded.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub texts: Vec<Source>,
    /// The zone whose hours and weekdays policies see, such as `Europe/Berlin`.
    pub time_zone: String,
    /// How many services there are, for the share that is touched at once. Absent: one action touches all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fleet: Option<u32>,
}

/// A text of policies and what it is called.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name, for messages and for the ids of policies that have none.
    pub name: String,
    /// The policies.
    pub text: String,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            files: Vec::new(),
            texts: Vec::new(),
            time_zone: "UTC".to_owned(),
            fleet: None,
        }
    }
}

impl Policy {
    /// Files that were named and not read yet. While there is one nothing is allowed.
    pub fn unread(&self) -> impl Iterator<Item = &str> {
        let read = |file: &&String| self.texts.iter().any(|text| text.name == **file);
        self.files.iter().filter(move |file| !read(file)).map(String::as_str)
    }

    /// Everything that is wrong with what was read.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut problems = Envelope::new(&self.texts).err().unwrap_or_default();
        if Hours::of(&self.time_zone).is_none() {
            let message = format!(
                "{:?} is no time zone: write one such as Europe/Berlin, or UTC",
                self.time_zone
            );
            problems.push(Problem {
                file: "time_zone".to_owned(),
                line: 0,
                column: 0,
                span: 0..0,
                message,
            });
        }
        problems
    }
}

/// An example of what policies must say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    /// What it shows.
    pub name: String,
    /// What is asked. What is left out is as on a calm weekday in production.
    #[serde(default)]
    pub ask: Question,
    /// What they must say.
    pub expect: Verdict,
    /// The policies that must determine it, by id. None given: any.
    #[serde(default)]
    pub by: Vec<String>,
}

impl Example {
    /// Asks; the answer, and what is wrong with it if anything is.
    #[must_use]
    pub fn try_on(&self, envelope: &Envelope) -> (Answer, Option<String>) {
        let answer = envelope.ask(&self.ask);
        let word = |verdict: Verdict| match verdict {
            Verdict::Allow => "allow",
            Verdict::NeedsApproval => "needs_approval",
            Verdict::Deny => "deny",
        };
        let mut wrong = None;
        if answer.verdict != self.expect {
            let why = if answer.why.is_empty() {
                format!("by {}", answer.policies.join(", "))
            } else {
                answer.why.clone()
            };
            wrong = Some(format!(
                "expected {}, and it is {}: {why}",
                word(self.expect),
                word(answer.verdict)
            ));
        } else if !self.by.is_empty() {
            let mut by = self.by.clone();
            by.sort();
            if !by
                .iter()
                .map(String::as_str)
                .eq(answer.policies.iter().map(AsRef::as_ref))
            {
                wrong = Some(format!(
                    "expected it by {}, and it is by {}",
                    by.join(", "),
                    answer.policies.join(", ")
                ));
            }
        }
        (answer, wrong)
    }
}
