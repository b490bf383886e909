//! `${NAME}` in scalar values: what the environment holds, put in before a value gets its type.

use std::ops::Range;

use crate::{
    problem::Report,
    tree::{Node, Value},
};

/// Looks an environment variable up by its name. Handed in, so that reading a file has no hidden input.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Substitutes in every scalar value of the tree; keys stay as they are.
pub(crate) fn substitute(node: &mut Node, source: &str, env: Environment<'_>, report: &mut Report) {
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| substitute(item, source, env, report)),
        Value::Map(entries) => entries
            .iter_mut()
            .for_each(|e| substitute(&mut e.value, source, env, report)),
        Value::Scalar(scalar) => {
            if scalar.text.contains('$') {
                let mut places = Places {
                    source,
                    span: node.span.clone(),
                    from: node.span.start,
                };
                let mut failed = false;
                let text = expand(&scalar.text, env, &mut |expression, message, help| {
                    failed = true;
                    report.error("environment", places.next(expression), "", message, help);
                });
                scalar.unknown = failed;
                scalar.substituted = scalar.text.contains("${");
                scalar.text = text;
            }
        }
    }
}

/// Finds expressions of a scalar in the source, one after the other.
struct Places<'a> {
    source: &'a str,
    span: Range<usize>,
    from: usize,
}

impl Places<'_> {
    /// The next place of the expression, or the whole scalar where escapes or folding hide it.
    fn next(&mut self, expression: &str) -> Range<usize> {
        let rest = self.source.get(self.from..self.span.end).unwrap_or_default();
        match rest.find(expression) {
            Some(offset) => {
                let start = self.from + offset;
                self.from = start + expression.len();
                start..self.from
            }
            None => self.span.clone(),
        }
    }
}

fn expand(text: &str, env: Environment<'_>, fail: &mut dyn FnMut(&str, String, &str)) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        let (before, from_dollar) = rest.split_at(dollar);
        out.push_str(before);
        if let Some(after) = from_dollar.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some(inner) = from_dollar.strip_prefix("${") {
            let Some((inner, after)) = inner.split_once('}') else {
                fail(
                    from_dollar,
                    "`${` has no `}`".into(),
                    "write ${NAME}; for a plain dollar sign write $$",
                );
                return out;
            };
            let expression = from_dollar.get(..inner.len() + 3).unwrap_or(from_dollar);
            match resolve(inner, env) {
                Ok(value) => out.push_str(&value),
                Err((message, help)) => fail(expression, message, &help),
            }
            rest = after;
        } else {
            out.push('$');
            rest = from_dollar.get(1..).unwrap_or_default();
        }
    }
    out.push_str(rest);
    out
}

/// What stands between the braces: `NAME`, `NAME:-default` or `NAME:?message`.
fn resolve(inner: &str, env: Environment<'_>) -> Result<String, (String, String)> {
    let (name, rest) = inner
        .split_once(':')
        .map_or((inner, None), |(name, rest)| (name, Some(rest)));
    let valid = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !valid {
        let help = "write ${NAME}, ${NAME:-default} or ${NAME:?message}; for a plain dollar sign write $$";
        return Err((format!("{name:?} is no name of an environment variable"), help.into()));
    }
    let value = env(name);
    let value = match rest.map(|rest| (rest.get(..1).unwrap_or_default(), rest.get(1..).unwrap_or_default())) {
        None => value.ok_or_else(|| {
            (
                format!("the environment variable {name} is not set"),
                format!("set it, or give a default: ${{{name}:-default}}"),
            )
        })?,
        // as in the shell: with the colon, an empty variable counts as one that is not set
        Some(("-", default)) => value.filter(|v| !v.is_empty()).unwrap_or_else(|| default.to_owned()),
        Some(("?", message)) => value.filter(|v| !v.is_empty()).ok_or_else(|| {
            let said = if message.is_empty() { "set it" } else { message };
            (format!("the environment variable {name} is not set"), said.to_owned())
        })?,
        Some(_) => {
            let help = "after the name come :- and a default, or :? and a message";
            return Err((format!("`${{{inner}}}` is not understood"), help.into()));
        }
    };
    if value.contains(['\n', '\r']) {
        let help = "values are put in as one line; hand a longer text over as a file, such as ssl.key.location";
        return Err((
            format!("the environment variable {name} holds a line break"),
            help.into(),
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(text: &str) -> Result<String, String> {
        let env = |name: &str| match name {
            "HOST" => Some("broker".to_owned()),
            "EMPTY" => Some(String::new()),
            "LINES" => Some("a\nb".to_owned()),
            "NESTED" => Some("${HOST}".to_owned()),
            _ => None,
        };
        let mut failure = None;
        let text = expand(text, &env, &mut |expression, message, _| {
            failure.get_or_insert(format!("{expression}: {message}"));
        });
        failure.map_or(Ok(text), Err)
    }

    #[test]
    fn variables_defaults_and_dollars() {
        for (text, expected) in [
            ("${HOST}:9092", "broker:9092"),
            ("${NONE:-local}:${PORT:-9092}", "local:9092"),
            ("${EMPTY:-local}", "local"),
            ("${EMPTY}", ""),
            ("${HOST:?say where}", "broker"),
            ("${NONE:-a:b-c}", "a:b-c"),
            ("${NONE:-}", ""),
            ("$${HOST} costs 5$ or $$5", "${HOST} costs 5$ or $5"),
            ("${NESTED}", "${HOST}"),
            ("^a$", "^a$"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_malformed_is_told() {
        for (text, expected) in [
            ("x ${NONE} y", "${NONE}: the environment variable NONE is not set"),
            (
                "${EMPTY:?say where}",
                "${EMPTY:?say where}: the environment variable EMPTY is not set",
            ),
            (
                "${LINES}",
                "${LINES}: the environment variable LINES holds a line break",
            ),
            ("${HOST", "${HOST: `${` has no `}`"),
            ("${}", "${}: \"\" is no name of an environment variable"),
            ("${A B}", "${A B}: \"A B\" is no name of an environment variable"),
            ("${HOST:+x}", "${HOST:+x}: `${HOST:+x}` is not understood"),
        ] {
            assert_eq!(expanded(text).unwrap_err(), expected, "{text}");
        }
    }
}
