//! Placeholders in a playbook's texts: `{{service}}`.

use std::{collections::BTreeMap, sync::Arc};

use suture_event::ActionStep;

/// The placeholders that a playbook may use.
///
/// `service` (of the hypothesis), `change` (id), `artifact` and `previous_artifact` (what the change brought in and what
/// the service ran before, where changes are fed in), `affected` (the incident's most affected service), `incident`,
/// `class`, `kind`, `severity`, `scope`, `playbook`, `owner`.
pub const PLACEHOLDERS: [&str; 12] = [
    "service",
    "change",
    "artifact",
    "previous_artifact",
    "affected",
    "incident",
    "class",
    "kind",
    "severity",
    "scope",
    "playbook",
    "owner",
];

/// Values for placeholders; a name that is known but absent here has no value for this incident.
pub(crate) type Values = BTreeMap<&'static str, Arc<str>>;

/// What is wrong with a text that holds placeholders.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flaw<'a> {
    /// `{{` without `}}`.
    Open,
    /// No such placeholder.
    Unknown(&'a str),
}

enum Piece<'a> {
    Text(&'a str),
    Name(&'a str),
    Open,
}

fn pieces(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let Some(after) = rest.strip_prefix("{{") else {
            let end = rest.find("{{").unwrap_or(rest.len());
            let (piece, tail) = rest.split_at(end);
            rest = tail;
            return Some(Piece::Text(piece));
        };
        let Some((name, tail)) = after.split_once("}}") else {
            rest = "";
            return Some(Piece::Open);
        };
        rest = tail;
        Some(Piece::Name(name.trim()))
    })
}

/// The placeholders whose values somebody else chose: in a label, a change or an artifact.
const OUTSIDE: [&str; 6] = [
    "service",
    "change",
    "artifact",
    "previous_artifact",
    "affected",
    "scope",
];

/// Whether a text has a placeholder that is filled from outside.
pub(crate) fn is_from_outside(text: &str) -> bool {
    pieces(text).any(|piece| matches!(piece, Piece::Name(name) if OUTSIDE.contains(&name)))
}

/// Every flaw in a text.
pub(crate) fn flaws(text: &str) -> Vec<Flaw<'_>> {
    pieces(text)
        .filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::Name(name) => (!PLACEHOLDERS.contains(&name)).then_some(Flaw::Unknown(name)),
            Piece::Open => Some(Flaw::Open),
        })
        .collect()
}

/// The text with its placeholders filled in, or the name of one that has no value here.
pub(crate) fn fill(text: &str, values: &Values) -> Result<String, String> {
    let mut filled = String::with_capacity(text.len());
    for piece in pieces(text) {
        match piece {
            Piece::Text(piece) => filled.push_str(piece),
            Piece::Name(name) => filled.push_str(values.get(name).ok_or_else(|| name.to_owned())?),
            Piece::Open => filled.push_str("{{"),
        }
    }
    Ok(filled)
}

/// A step with the placeholders in its parameters filled in.
pub(crate) fn fill_step(step: &ActionStep, values: &Values) -> Result<ActionStep, String> {
    let parameters = step
        .parameters
        .iter()
        .map(|(name, value)| Ok((name.clone(), fill(value, values)?)))
        .collect::<Result<_, String>>()?;
    Ok(ActionStep {
        action: Arc::clone(&step.action),
        parameters,
    })
}

/// The placeholder most like a mistyped one.
pub(crate) fn nearest(name: &str) -> Option<&'static str> {
    PLACEHOLDERS
        .into_iter()
        .map(|known| (known, strsim::jaro_winkler(known, name)))
        .filter(|(_, likeness)| *likeness > 0.75)
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(known, _)| known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_in_with_or_without_spaces() {
        let values = Values::from([("service", Arc::from("cart")), ("change", Arc::from("deploy-7"))]);
        assert_eq!(
            fill("{{service}}: undo {{ change }}", &values).as_deref(),
            Ok("cart: undo deploy-7")
        );
        assert_eq!(fill("plain {text}", &values).as_deref(), Ok("plain {text}"));
        assert_eq!(fill("{{artifact}}", &values), Err("artifact".to_owned()));
    }

    #[test]
    fn a_mistyped_or_open_placeholder_is_a_flaw() {
        assert_eq!(
            flaws("{{servise}} {{change}} {{"),
            [Flaw::Unknown("servise"), Flaw::Open]
        );
        assert_eq!(nearest("servise"), Some("service"));
        assert_eq!(nearest("zzz"), None);
    }
}
