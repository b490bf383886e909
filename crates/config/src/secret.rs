//! What must not be shown.

use std::ops::Range;

use crate::tree::{Node, Value};

/// Whether a key, path or variable's name suggests that its value is a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret", "token", "credential", "api_key", "apikey", "api-key", "key.pem"]
        .iter()
        .any(|word| name.contains(word))
        // settings that hold them among others
        || name.ends_with("sasl.oauthbearer.config")
        || name.ends_with("sasl.jaas.config")
}

/// What is shown in place of a secret.
pub(crate) const MASK: &str = "***";

/// Where secrets stand in a file: the values, other than names of environment variables, of keys that speak of them.
pub(crate) fn values(root: &Node) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    collect(root, false, &mut places);
    places
}

fn collect(node: &Node, secret: bool, places: &mut Vec<Range<usize>>) {
    match &node.value {
        Value::Scalar(scalar) if secret && !scalar.text.contains("${") => places.push(node.span.clone()),
        Value::Scalar(_) => {}
        Value::List(items) => items.iter().for_each(|item| collect(item, secret, places)),
        Value::Map(entries) => {
            for entry in entries {
                collect(&entry.value, secret || is_secret(&entry.key), places);
            }
        }
    }
}

/// The same for a text that is no YAML, as far as can be told: the rest of every line after a key that speaks of a secret.
pub(crate) fn lines(text: &str) -> Vec<Range<usize>> {
    let mut places = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        for (colon, _) in line.match_indices(':') {
            if is_secret(line.get(..colon).unwrap_or_default()) {
                places.push(start + colon + 1..start + line.trim_end().len());
                break;
            }
        }
        start += line.len();
    }
    places
}

/// The text with the user and password of an address, as in `https://user:password@host`, masked.
pub(crate) fn without_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let end = after
            .find(|c: char| matches!(c, '/' | '?' | '#') || c.is_whitespace())
            .unwrap_or(after.len());
        let (authority, left) = after.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => {
                out.push_str(MASK);
                out.push('@');
                out.push_str(host);
            }
            None => out.push_str(authority),
        }
        rest = left;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_secrets_are_known() {
        for name in [
            "sasl.password",
            "ssl.key.password",
            "ssl.key.pem",
            "DB_TOKEN",
            "client.secret",
            "sasl.jaas.config",
            "remediate.apiKey",
        ] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["sasl.username", "bootstrap.servers", "ssl.key.location", "entity"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn addresses_lose_their_passwords() {
        assert_eq!(
            without_userinfo("https://me:pw@host/a@b and http://x"),
            "https://***@host/a@b and http://x"
        );
    }
}
