//! The verbs that executors are asked for: what each may do by itself, what undoes it, and what it is told.
//!
//! This is an engineering table and no setting: nothing in a pipeline file, a policy or a playbook loosens it. Remediation
//! looks at it when it decides, and executors look at it again before they act.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ActionStep, Rung, Span};

/// How far something may go by itself, by how it can be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reversibility {
    /// It is taken back at machine speed, or leaves nothing to take back: it may be autonomous.
    Reversible,
    /// It takes away what is needed when it was wrong: supervised at most. It may be autonomous where it undoes something
    /// that may, since it then gives back what there was.
    Costly,
    /// It cannot be taken back, or cuts people and systems off: a named human, always, for it and for what undoes it.
    Irreversible,
}

impl Reversibility {
    /// The highest rung that it leaves.
    #[must_use]
    pub const fn highest(self) -> Rung {
        match self {
            Self::Reversible => Rung::Autonomous,
            Self::Costly | Self::Irreversible => Rung::Supervised,
        }
    }

    /// In words, as in errors.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Reversible => "may be autonomous",
            Self::Costly => "is supervised at most",
            Self::Irreversible => "needs a named human, always",
        }
    }
}

/// What a parameter's value must be like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// A name: letters, digits and `. _ - / : @ +`, at most 253 bytes, with no `-` in front and no `..` in it.
    Name,
    /// What names a change or an artifact: as a name, with `# ~ , = %` and, in a package URL (`pkg:…`), also `? &`; at most
    /// 1024 bytes.
    Reference,
    /// Words for a human: at most 500 bytes in one line.
    Text,
    /// A whole number from 0 to 1000000.
    Count,
    /// A number from 0 to 100, with or without `%`.
    Percent,
    /// A span of time such as `90s`, longer than nothing.
    Span,
}

impl Shape {
    /// What is wrong with a value.
    ///
    /// # Errors
    /// What it must be like, to be read after the value.
    pub fn check(self, value: &str) -> Result<(), &'static str> {
        let plain = |c: char| c.is_alphanumeric() || "._-/:@+".contains(c);
        let steady = |value: &str| !value.is_empty() && !value.starts_with('-') && !value.contains("..");
        let purl = value.starts_with("pkg:");
        let (good, must) = match self {
            Self::Name => (
                steady(value) && value.len() <= 253 && value.chars().all(plain),
                "is no name: letters, digits and . _ - / : @ +, at most 253 bytes, no - in front, no ..",
            ),
            Self::Reference => (
                steady(value)
                    && value.len() <= 1_024
                    && value
                        .chars()
                        .all(|c| plain(c) || "#~,=%".contains(c) || (purl && "?&".contains(c))),
                "names no change or artifact: letters, digits and . _ - / : @ + # ~ , = %, at most 1024 bytes, no - in \
                 front, no ..",
            ),
            Self::Text => (
                value.len() <= 500 && !value.chars().any(char::is_control),
                "is no line of words: at most 500 bytes, with no line break",
            ),
            Self::Count => (
                value.parse::<u32>().is_ok_and(|n| n <= 1_000_000),
                "is no whole number from 0 to 1000000",
            ),
            Self::Percent => (
                value
                    .strip_suffix('%')
                    .unwrap_or(value)
                    .parse::<f64>()
                    .is_ok_and(|n| (0.0..=100.0).contains(&n)),
                "is no number from 0 to 100",
            ),
            Self::Span => (
                value.parse::<Span>().is_ok_and(|span| span.as_millis() > 0),
                "is no span of time such as 90s",
            ),
        };
        if good { Ok(()) } else { Err(must) }
    }
}

/// Something that a verb is told beside its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// What its value must be like.
    pub shape: Shape,
}

/// One kind of action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verb {
    /// The name that requests call it by.
    pub name: &'static str,
    /// How far it may go by itself.
    pub class: Reversibility,
    /// What it does, in words.
    pub does: &'static str,
    /// The verbs that undo it.
    pub undo: &'static [&'static str],
    /// Whether it leaves nothing to undo: what it touches comes back by itself as it was.
    pub leaves_nothing: bool,
    /// What it is told beside [`COMMON`]. All may be left out.
    pub parameters: &'static [Parameter],
}

const fn name(name: &'static str) -> Parameter {
    Parameter {
        name,
        shape: Shape::Name,
    }
}

const fn reference(name: &'static str) -> Parameter {
    Parameter {
        name,
        shape: Shape::Reference,
    }
}

const fn shaped(name: &'static str, shape: Shape) -> Parameter {
    Parameter { name, shape }
}

/// What any verb may be told: where its target is, and why.
pub const COMMON: [Parameter; 12] = [
    name("service"),
    name("namespace"),
    name("cluster"),
    name("region"),
    name("zone"),
    name("environment"),
    name("instance"),
    name("container"),
    name("workload"),
    reference("incident"),
    reference("change"),
    shaped("why", Shape::Text),
];

const VERSION: &[Parameter] = &[
    reference("to"),
    reference("from"),
    reference("artifact"),
    reference("previous_artifact"),
    name("revision"),
];
const TRAFFIC: &[Parameter] = &[
    name("from"),
    name("to"),
    shaped("percent", Shape::Percent),
    shaped("step", Shape::Percent),
    shaped("every", Shape::Span),
];
const SIZE: &[Parameter] = &[
    shaped("to", Shape::Count),
    shaped("by", Shape::Count),
    name("pool"),
    name("resource"),
];
const FLAG: &[Parameter] = &[name("flag"), name("variant")];
const DATA: &[Parameter] = &[
    name("database"),
    name("table"),
    name("path"),
    name("volume"),
    shaped("older_than", Shape::Span),
];
const IDENTITY: &[Parameter] = &[name("credential"), name("identity"), name("account")];
const NONE: &[Parameter] = &[];

const fn verb(
    name: &'static str,
    class: Reversibility,
    undo: &'static [&'static str],
    leaves_nothing: bool,
    parameters: &'static [Parameter],
    does: &'static str,
) -> Verb {
    Verb {
        name,
        class,
        does,
        undo,
        leaves_nothing,
        parameters,
    }
}

use Reversibility::{Costly, Irreversible, Reversible};

/// Every verb there is. What is not here can only be advised.
#[rustfmt::skip]
pub const VERBS: &[Verb] = &[
    verb("restart", Reversible, &["start"], true, &[shaped("at_once", Shape::Percent)], "restarts instances, a few at a time"),
    verb("start", Reversible, &["stop"], false, NONE, "starts what does not run"),
    verb("reschedule", Reversible, &[], true, &[name("node")], "runs an instance elsewhere"),
    verb("replace_instance", Reversible, &[], true, &[name("node")], "replaces an instance by a new one"),
    verb("rollback", Reversible, &["redeploy", "deploy"], false, VERSION, "runs the version before"),
    verb("redeploy", Reversible, &["rollback"], false, VERSION, "runs the version that was taken back"),
    verb("deploy", Reversible, &["rollback"], false, VERSION, "runs a version"),
    verb("revert_config", Reversible, &["reapply_config"], false, VERSION, "applies the configuration before"),
    verb("reapply_config", Reversible, &["revert_config"], false, VERSION, "applies the configuration that was taken back"),
    verb("flag_off", Reversible, &["flag_on"], false, FLAG, "turns a feature flag off"),
    verb("flag_on", Reversible, &["flag_off"], false, FLAG, "turns a feature flag on"),
    verb("roll_back_model", Reversible, &["roll_forward_model"], false, VERSION, "serves the model before"),
    verb("roll_forward_model", Reversible, &["roll_back_model"], false, VERSION, "serves the model that was taken back"),
    verb("shift_traffic", Reversible, &["restore_traffic"], false, TRAFFIC, "sends traffic elsewhere, by steps"),
    verb("restore_traffic", Reversible, &["shift_traffic"], false, TRAFFIC, "sends traffic where it went before, by steps"),
    verb("shed_load", Reversible, &["stop_shedding"], false, &[shaped("percent", Shape::Percent), name("priority")], "turns some of the work away"),
    verb("stop_shedding", Reversible, &["shed_load"], false, NONE, "takes all work again"),
    verb("open_circuit", Reversible, &["close_circuit"], false, &[name("dependency")], "stops calling a dependency"),
    verb("close_circuit", Reversible, &["open_circuit"], false, &[name("dependency")], "calls a dependency again"),
    verb("switch_dependency", Reversible, &["restore_dependency"], false, &[name("dependency"), name("to")], "calls another provider of the same"),
    verb("restore_dependency", Reversible, &["switch_dependency"], false, &[name("dependency"), name("to")], "calls the provider of before"),
    verb("eject_instance", Reversible, &["readmit_instance"], false, NONE, "sends an instance no traffic"),
    verb("readmit_instance", Reversible, &["eject_instance"], false, NONE, "sends an instance traffic again"),
    verb("cordon", Reversible, &["uncordon"], false, &[name("node")], "puts nothing new on a node"),
    verb("uncordon", Reversible, &["cordon"], false, &[name("node")], "puts work on a node again"),
    verb("flush_cache", Reversible, &[], true, &[name("cache"), reference("key")], "empties a cache, which fills again"),
    verb("refresh_index", Reversible, &[], true, &[name("index")], "builds an index anew beside the old one"),
    verb("compress_logs", Reversible, &[], true, &[name("path"), name("volume"), shaped("older_than", Shape::Span)], "compresses old logs, which stay readable"),
    verb("scale_out", Reversible, &["scale_in"], false, SIZE, "adds instances"),
    verb("scale_up", Reversible, &["scale_down"], false, SIZE, "gives instances more"),
    verb("raise_pool", Reversible, &["lower_pool"], false, SIZE, "enlarges a pool of connections or workers"),
    verb("page", Reversible, &[], true, &[name("about"), name("affected"), name("whom")], "calls a human"),
    verb("scale_in", Costly, &["scale_out"], false, SIZE, "takes instances away"),
    verb("scale_down", Costly, &["scale_up"], false, SIZE, "gives instances less"),
    verb("lower_pool", Costly, &["raise_pool"], false, SIZE, "shrinks a pool of connections or workers"),
    verb("stop", Costly, &["start"], false, NONE, "stops what runs"),
    verb("drain", Costly, &["uncordon"], false, &[name("node")], "moves everything off a node"),
    verb("reclaim", Costly, &[], false, &[name("node"), name("resource")], "gives resources back to their pool"),
    verb("expand_disk", Costly, &[], false, &[name("volume"), shaped("to", Shape::Count), shaped("by", Shape::Count)], "enlarges a volume, which cannot shrink again"),
    verb("renew_certificate", Costly, &[], false, &[name("certificate")], "has a certificate issued anew, beside the old one"),
    verb("clean_disk", Irreversible, &[], false, DATA, "deletes old files"),
    verb("delete_data", Irreversible, &[], false, DATA, "deletes data"),
    verb("drop_table", Irreversible, &[], false, DATA, "deletes a table"),
    verb("drop_database", Irreversible, &[], false, DATA, "deletes a database"),
    verb("restore_backup", Irreversible, &[], false, DATA, "puts a backup in the place of what there is"),
    verb("migrate_schema", Irreversible, &[], false, DATA, "changes a database's schema"),
    verb("failover_database", Irreversible, &["failback_database"], false, DATA, "makes a replica the primary"),
    verb("failback_database", Irreversible, &["failover_database"], false, DATA, "makes the former primary the primary again"),
    verb("failover", Irreversible, &["failback"], false, DATA, "makes a stand-by the primary"),
    verb("failback", Irreversible, &["failover"], false, DATA, "makes the former primary the primary again"),
    verb("rotate_credential", Irreversible, &[], false, IDENTITY, "issues a credential anew and ends the old one"),
    verb("revoke_credential", Irreversible, &[], false, IDENTITY, "ends a credential"),
    verb("revoke_identity", Irreversible, &[], false, IDENTITY, "ends an identity and all its sessions"),
    verb("disable_account", Irreversible, &["enable_account"], false, IDENTITY, "locks an account"),
    verb("enable_account", Irreversible, &["disable_account"], false, IDENTITY, "unlocks an account"),
    verb("isolate_host", Irreversible, &["rejoin_host"], false, &[name("host")], "cuts a host off"),
    verb("rejoin_host", Irreversible, &["isolate_host"], false, &[name("host")], "connects a host again"),
    verb("isolate_network", Irreversible, &["rejoin_network"], false, &[name("network")], "cuts a network off"),
    verb("rejoin_network", Irreversible, &["isolate_network"], false, &[name("network")], "connects a network again"),
    verb("run_job", Irreversible, &[], false, &[name("job")], "runs a job of your own: what it does is not known here"),
];

impl Verb {
    /// The verb of a name.
    #[must_use]
    pub fn of(name: &str) -> Option<&'static Self> {
        VERBS.iter().find(|verb| verb.name == name)
    }

    /// The verb most like a mistyped name, to suggest.
    pub fn names() -> impl Iterator<Item = &'static str> {
        VERBS.iter().map(|verb| verb.name)
    }

    /// Whether this is one of the verbs that undo another.
    #[must_use]
    pub fn undoes(&self, other: &Self) -> bool {
        other.undo.contains(&self.name)
    }

    /// The highest rung of this verb where it undoes something that was done before: what gives back what an autonomous
    /// action took may be as autonomous as that.
    #[must_use]
    pub fn highest_as_reversal(&self) -> Rung {
        let of_an_autonomous_one = || VERBS.iter().any(|verb| verb.class == Reversible && self.undoes(verb));
        match self.class {
            Costly if of_an_autonomous_one() => Rung::Autonomous,
            class => class.highest(),
        }
    }

    /// The schema of one of its parameters.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<Shape> {
        let found = self.parameters.iter().chain(&COMMON).find(|known| known.name == name);
        found.map(|known| known.shape)
    }
}

/// What is wrong with a step's parameters, as it would be sent: each with its name. A value must be as the verb says and as is
/// declared; a parameter that neither knows is not taken. Those of an unknown verb must be lines of words.
#[must_use]
pub fn parameter_flaws(step: &ActionStep, declared: impl Fn(&str) -> Option<Shape>) -> Vec<(String, String)> {
    let verb = Verb::of(&step.action);
    let mut flaws = Vec::new();
    for (name, value) in &step.parameters {
        let shapes = [
            declared(name),
            verb.and_then(|verb| verb.parameter(name)),
            verb.is_none().then_some(Shape::Text),
        ];
        if shapes.iter().all(Option::is_none) {
            flaws.push((name.clone(), format!("{name} is no parameter of {}", step.action)));
        }
        let wrong = shapes.into_iter().flatten().find_map(|shape| shape.check(value).err());
        if let Some(must) = wrong {
            flaws.push((name.clone(), format!("{value:?} {must}")));
        }
    }
    flaws
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn every_verb_is_there_once_and_its_undo_is_a_verb() {
        let names: BTreeSet<_> = Verb::names().collect();
        assert_eq!(names.len(), VERBS.len());
        for verb in VERBS {
            for undo in verb.undo {
                let undo =
                    Verb::of(undo).unwrap_or_else(|| panic!("{} is undone by {undo}, which is no verb", verb.name));
                assert_ne!(undo.name, verb.name);
                if verb.class == Reversible {
                    assert_eq!(
                        undo.highest_as_reversal(),
                        Rung::Autonomous,
                        "{} cannot undo {} alone",
                        undo.name,
                        verb.name
                    );
                }
            }
            assert!(
                verb.class != Reversible || !verb.undo.is_empty() || verb.leaves_nothing,
                "{} may be autonomous, and nothing undoes it",
                verb.name
            );
            assert!(verb.class == Reversible || !verb.leaves_nothing, "{}", verb.name);
        }
    }

    #[test]
    fn each_row_of_the_table_stands_where_engineering_put_it() {
        let of = |class| -> Vec<&str> { VERBS.iter().filter(|v| v.class == class).map(|v| v.name).collect() };
        for name in [
            "restart",
            "reschedule",
            "rollback",
            "shift_traffic",
            "flag_off",
            "flush_cache",
        ] {
            assert!(of(Reversible).contains(&name), "{name}");
        }
        assert_eq!(
            of(Costly),
            [
                "scale_in",
                "scale_down",
                "lower_pool",
                "stop",
                "drain",
                "reclaim",
                "expand_disk",
                "renew_certificate"
            ]
        );
        for name in [
            "delete_data",
            "drop_database",
            "rotate_credential",
            "revoke_credential",
            "failover_database",
            "isolate_host",
            "isolate_network",
            "migrate_schema",
        ] {
            let verb = Verb::of(name).unwrap();
            assert_eq!(verb.class, Irreversible, "{name}");
            assert_eq!(verb.highest_as_reversal(), Rung::Supervised, "{name}");
        }
        assert_eq!(Verb::of("noop"), None);
    }

    #[test]
    fn what_undoes_an_autonomous_action_may_be_autonomous_and_nothing_else_that_is_costly() {
        let as_reversal = |name| Verb::of(name).unwrap().highest_as_reversal();
        assert_eq!(as_reversal("lower_pool"), Rung::Autonomous);
        assert_eq!(as_reversal("scale_in"), Rung::Autonomous);
        assert_eq!(as_reversal("drain"), Rung::Supervised);
        assert_eq!(as_reversal("failback"), Rung::Supervised);
    }

    #[test]
    fn values_that_would_be_something_else_to_a_shell_or_a_path_are_refused() {
        for bad in [
            "",
            "-rf",
            "../../etc",
            "a b",
            "a;b",
            "$(id)",
            "`id`",
            "a\nb",
            "a|b",
            "a&b",
            "\"a\"",
            "a\\b",
        ] {
            assert!(Shape::Name.check(bad).is_err(), "{bad}");
            assert!(Shape::Reference.check(bad).is_err(), "{bad}");
        }
        for good in ["cart", "deploy-7", "registry.example:5000/shop/cart@sha256:ab", "größe"] {
            assert_eq!(Shape::Name.check(good), Ok(()), "{good}");
        }
        let purl = "pkg:oci/cart@sha256%3A244?repository_url=ghcr.io/shop&tag=v1.2";
        assert_eq!(Shape::Reference.check(purl), Ok(()));
        assert!(Shape::Name.check(purl).is_err());
        for (shape, good, bad) in [
            (Shape::Count, "12", "-1"),
            (Shape::Percent, "12.5%", "101"),
            (Shape::Span, "90s", "soon"),
            (Shape::Text, "because it is full; see the graph", "two\nlines"),
        ] {
            assert_eq!(shape.check(good), Ok(()), "{good}");
            assert!(shape.check(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_parameter_that_a_verb_does_not_know_must_be_declared() {
        let step = ActionStep {
            action: "rollback".into(),
            parameters: BTreeMap::from([("change".into(), "deploy-7".into()), ("colour".into(), "red".into())]),
        };
        let flaws = parameter_flaws(&step, |_| None);
        assert_eq!(
            flaws,
            [("colour".to_owned(), "colour is no parameter of rollback".to_owned())]
        );
        assert_eq!(parameter_flaws(&step, |_| Some(Shape::Name)), []);
    }

    #[test]
    fn the_page_on_safety_has_every_row() {
        let page = include_str!("../../../docs/safety.md");
        for verb in VERBS {
            let class = match verb.class {
                Reversible => "may be autonomous",
                Costly => "supervised at most",
                Irreversible => "a named human, always",
            };
            let row = format!("| `{}` | {class} |", verb.name);
            assert!(page.contains(&row), "docs/safety.md lacks the row {row}");
        }
    }
}
