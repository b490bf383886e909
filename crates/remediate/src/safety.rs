//! What a playbook's safety case lacks, and what stands in it without saying anything.

use suture_event::{Rung, Verb};

use crate::{Playbook, Problem, options};

/// One thing that a safety case does not say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The field, as it is called in the file, from the playbook on: `safety.trigger`.
    pub field: &'static str,
    /// Which of a list's items, where only some say nothing.
    pub item: Option<usize>,
    /// Whether something stands there that says nothing, such as `TODO`.
    pub placeholder: bool,
    /// What belongs there.
    pub help: &'static str,
}

/// Words that hold a place. A text in which one stands is unfinished, whatever else it says.
const UNFINISHED: [&str; 8] = ["todo", "tbd", "fixme", "xxx", "tba", "wip", "lorem", "placeholder"];
/// Words that are no answer by themselves.
const NO_ANSWER: [&str; 12] = [
    "none", "n/a", "na", "nil", "nothing", "unknown", "example", "test", "foo", "bar", "asdf", "later",
];

/// Whether a text says nothing: too short for a sentence of two words, or one that holds a place.
fn says_nothing(text: &str) -> bool {
    let words = words(text);
    let letters = text.chars().filter(|c| c.is_alphabetic()).count();
    words.len() < 2 || letters < 6 || is_unfinished(&words)
}

/// The same of a name, which may be one word.
fn names_nobody(text: &str) -> bool {
    let words = words(text);
    let letters = text.chars().filter(|c| c.is_alphanumeric()).count();
    letters < 2 || is_unfinished(&words) || NO_ANSWER.contains(&text.trim().to_lowercase().as_str())
}

fn words(text: &str) -> Vec<String> {
    let parts = text.split(|c: char| !c.is_alphanumeric() && c != '\'');
    parts.filter(|word| !word.is_empty()).map(str::to_lowercase).collect()
}

fn is_unfinished(words: &[String]) -> bool {
    words.iter().any(|word| UNFINISHED.contains(&word.as_str()))
}

const TRIGGER: &str = "say in a sentence what sets it off";
const FALSE: &str = "name a case in which it is set off wrongly; `none known` where none is";
const BLAST: &str = "say in a sentence the worst that it can do";
const MEASURED: &str = "measure how long the reversal takes, and write that down";
const BUDGET: &str = "say how often it may act: {actions: 3, per: 1h}";
const TELEMETRY: &str = "name a metric that would show it misbehaving";
const OWNER: &str = "name the team or person who answers for it";

impl Playbook {
    /// Everything that the safety case does not say, in the order of the file. Empty where it is complete; a playbook with any
    /// can only advise.
    #[must_use]
    pub fn gaps(&self) -> Vec<Gap> {
        let safety = &self.safety;
        let mut gaps = Vec::new();
        let mut text = |field, text: &str, flawed: fn(&str) -> bool, help| {
            let blank = text.trim().is_empty();
            if blank || flawed(text) {
                gaps.push(Gap {
                    field,
                    item: None,
                    placeholder: !blank,
                    help,
                });
            }
        };
        text("owner", &self.owner, names_nobody, OWNER);
        text("safety.trigger", &safety.trigger, says_nothing, TRIGGER);
        text("safety.blast_radius", &safety.blast_radius, says_nothing, BLAST);
        let mut list = |field, texts: &[String], flawed: fn(&str) -> bool, help| {
            if texts.iter().all(|text| text.trim().is_empty()) {
                gaps.push(Gap {
                    field,
                    item: None,
                    placeholder: false,
                    help,
                });
                return;
            }
            let unsaid = texts.iter().enumerate().filter(|(_, text)| flawed(text));
            gaps.extend(unsaid.map(|(at, _)| Gap {
                field,
                item: Some(at),
                placeholder: true,
                help,
            }));
        };
        list("safety.false_positives", &safety.false_positives, says_nothing, FALSE);
        list("safety.telemetry", &safety.telemetry, names_nobody, TELEMETRY);
        let mut other = |field, missing: bool, placeholder: bool, help| {
            if missing || placeholder {
                gaps.push(Gap {
                    field,
                    item: None,
                    placeholder,
                    help,
                });
            }
        };
        let time = safety.reversal_time.filter(|_| self.undo().is_some());
        other(
            "safety.reversal_time",
            self.undo().is_some() && time.is_none(),
            time.is_some_and(|time| time.as_millis() <= 0),
            MEASURED,
        );
        other("safety.budget", safety.budget.is_none(), false, BUDGET);
        gaps.sort_by_key(|gap| ORDER.iter().position(|field| *field == gap.field));
        gaps
    }

    /// The fields that the safety case still lacks, as they are called in the file; empty where it is complete.
    #[must_use]
    pub fn missing_from_safety_case(&self) -> Vec<&'static str> {
        let mut fields: Vec<&'static str> = self.gaps().into_iter().map(|gap| gap.field).collect();
        fields.dedup();
        fields
    }

    /// Everything that keeps it from doing what it is for: gaps in its safety case, whatever rung it asks for, and what its verb
    /// does not give. Paths are from the playbook on.
    #[must_use]
    pub fn lint(&self) -> Vec<Problem> {
        let gap = |gap: Gap| {
            let path = gap
                .item
                .map_or_else(|| gap.field.to_owned(), |at| format!("{}[{at}]", gap.field));
            let message = if gap.placeholder {
                "is a placeholder: it can only advise"
            } else {
                "is missing: it can only advise"
            };
            Problem::new(path, message, gap.help)
        };
        let mut problems: Vec<Problem> = self.gaps().into_iter().map(gap).collect();
        let verb = Verb::of(&self.action.action);
        problems.extend(options::undoes_nothing(self, verb));
        problems.extend(options::asks_too_much(self, verb));
        let undone = self.undo().is_some() || verb.is_some_and(|verb| verb.leaves_nothing);
        if self.rung == Rung::Autonomous && !undone && verb.is_some_and(|verb| verb.class.highest() == Rung::Autonomous)
        {
            problems.push(Problem::new(
                "rung",
                "asks for autonomous, but nothing undoes the action, so it is supervised at most",
                "give a `reversal`, or write `rung: supervised`",
            ));
        }
        problems
    }
}

/// The order in which fields stand in the file.
const ORDER: [&str; 7] = [
    "owner",
    "safety.trigger",
    "safety.false_positives",
    "safety.blast_radius",
    "safety.reversal_time",
    "safety.budget",
    "safety.telemetry",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use suture_event::{ActionStep, Span};

    use super::*;
    use crate::{Budget, Safety};

    fn complete() -> Playbook {
        let mut playbook = Playbook::new("p", "rollback");
        playbook.owner = "shop".to_owned();
        playbook.reversal = Some(ActionStep {
            action: "redeploy".into(),
            parameters: BTreeMap::new(),
        });
        playbook.safety = Safety {
            trigger: "errors after a deploy".to_owned(),
            false_positives: vec!["none known".to_owned()],
            blast_radius: "one service".to_owned(),
            reversal_time: Some(Span::from_secs(90)),
            budget: Some(Budget {
                actions: 3,
                per: Span::from_hours(1),
            }),
            telemetry: vec!["error_ratio".to_owned()],
        };
        playbook
    }

    #[test]
    fn a_complete_case_has_no_gap() {
        assert_eq!(complete().gaps(), []);
        assert_eq!(complete().lint(), []);
    }

    #[test]
    fn what_is_not_there_and_what_only_holds_a_place_are_told_apart() {
        let empty = Playbook::new("p", "rollback");
        let fields: Vec<&str> = empty.gaps().iter().map(|gap| gap.field).collect();
        // nothing undoes it, so that there is no reversal to measure
        let all: Vec<&str> = ORDER
            .into_iter()
            .filter(|field| *field != "safety.reversal_time")
            .collect();
        assert_eq!(fields, all);
        assert!(empty.gaps().iter().all(|gap| !gap.placeholder));
        for held in ["x", "TODO", "to be done: TODO", "n/a", "...", "tbd", "-", "errors"] {
            let mut playbook = complete();
            playbook.safety.trigger = held.to_owned();
            let gaps = playbook.gaps();
            assert_eq!(gaps.len(), 1, "{held}");
            assert!(gaps[0].placeholder && gaps[0].field == "safety.trigger", "{held}");
            assert_eq!(playbook.missing_from_safety_case(), ["safety.trigger"]);
        }
        for good in ["far off", "errors after a deploy", "a queue that's full"] {
            let mut playbook = complete();
            playbook.safety.trigger = good.to_owned();
            assert_eq!(playbook.gaps(), [], "{good}");
        }
    }

    #[test]
    fn items_of_lists_are_told_by_their_places() {
        let mut playbook = complete();
        playbook.safety.false_positives.push("TBD".to_owned());
        playbook.safety.telemetry = vec!["none".to_owned()];
        playbook.safety.reversal_time = Some(Span::ZERO);
        playbook.owner = "?".to_owned();
        let paths: Vec<String> = playbook.lint().into_iter().map(|problem| problem.path).collect();
        assert_eq!(
            paths,
            [
                "owner",
                "safety.false_positives[1]",
                "safety.reversal_time",
                "safety.telemetry[0]"
            ]
        );
    }

    #[test]
    fn what_the_verb_does_not_give_is_told_too() {
        let mut playbook = complete();
        playbook.rung = Rung::Autonomous;
        playbook.reversal = None;
        let told = playbook.lint();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].path, "rung");
        playbook.reversal = Some(ActionStep {
            action: "noop".into(),
            parameters: BTreeMap::new(),
        });
        let paths: Vec<String> = playbook.lint().into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, ["reversal.action", "rung"]);
        playbook.action.action = "drop_database".into();
        let paths: Vec<String> = playbook.lint().into_iter().map(|problem| problem.path).collect();
        assert_eq!(paths, ["reversal.action", "rung"]);
    }
}
