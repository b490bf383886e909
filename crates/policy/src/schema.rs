//! What policies speak of, as a Cedar schema: made of the table of verbs, so that the two cannot differ.

use std::fmt::Write as _;

use suture_event::{Reversibility, VERBS};

/// The attributes that every decision knows, with their types in Cedar and what they mean. All are always there.
pub const ATTRIBUTES: [(&str, &str, &str); 16] = [
    ("environment", "String", "the scope that the action is in"),
    ("tier", "Long", "the service's tier, 0 for what matters most"),
    ("class", "String", "the diagnosed class"),
    ("severity", "String", "`info`, `warning` or `critical`"),
    (
        "reversibility",
        "String",
        "the verb's class: `reversible`, `costly` or `irreversible`",
    ),
    (
        "undoable",
        "Bool",
        "whether a reversal is known, or nothing is left to undo",
    ),
    ("targets", "Long", "services that the action touches"),
    (
        "touched",
        "Long",
        "services acted on in the last minute, this one included",
    ),
    (
        "fleet_percent",
        "Long",
        "the share of `policy.fleet` that those are, rounded up; 100 where it is not set",
    ),
    ("hour", "Long", "hour of the day in `policy.time_zone`, 0 to 23"),
    ("weekday", "Long", "day of the week there, 1 for Monday to 7"),
    ("frozen", "Bool", "whether the scope is frozen"),
    (
        "budget_left",
        "Long",
        "actions that the tightest budget still leaves, this one not counted",
    ),
    (
        "trust",
        "Long",
        "what the playbook has earned by what it did, in percent",
    ),
    (
        "confidence",
        "Long",
        "the hypothesis's probability, in percent, rounded down",
    ),
    (
        "precedents",
        "Long",
        "earlier incidents of the scope with the same class on the same service: 0 is new",
    ),
];

/// The schema, as text, to read and to check policies with elsewhere.
///
/// `Playbook` (its name) is the principal, a verb the action, `Service` the resource. Every verb is in the action of its class:
/// `action in Action::"irreversible"`. Beside [`ATTRIBUTES`] a context has `approvals`, how many people approved.
#[must_use]
pub fn schema() -> String {
    let mut text = String::from("entity Playbook;\nentity Service;\n");
    text.push_str("type Context = {\n");
    for (name, kind, means) in ATTRIBUTES {
        let _ = writeln!(text, "  // {means}\n  {name}: {kind},");
    }
    text.push_str("  // people who approved it\n  approvals: Long,\n};\n");
    text.push_str("action reversible;\naction costly;\naction irreversible;\n");
    for verb in VERBS {
        let _ = writeln!(
            text,
            "action {:?} in [Action::{:?}] appliesTo {{ principal: Playbook, resource: Service, context: Context }};",
            verb.name,
            class(verb.class)
        );
    }
    text
}

/// The word for a class, as in `reversibility`.
#[must_use]
pub const fn class(class: Reversibility) -> &'static str {
    match class {
        Reversibility::Reversible => "reversible",
        Reversibility::Costly => "costly",
        Reversibility::Irreversible => "irreversible",
    }
}
