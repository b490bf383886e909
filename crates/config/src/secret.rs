//! What must not be shown.

/// Whether a key, path or variable's name suggests that its value is a secret.
pub(crate) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["password", "passwd", "passphrase", "secret", "token", "credential", "api_key", "apikey", "api-key", "key.pem"]
        .iter()
        .any(|word| name.contains(word))
        // settings that hold them among others
        || name.ends_with("sasl.oauthbearer.config")
}

/// What is shown in place of a secret.
pub(crate) const MASK: &str = "***";

/// The text with the user and password of an address, as in `https://user:password@host`, masked.
pub(crate) fn without_userinfo(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let end = after.find(|c: char| matches!(c, '/' | '?' | '#') || c.is_whitespace()).unwrap_or(after.len());
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
        for name in ["sasl.password", "ssl.key.password", "ssl.key.pem", "DB_TOKEN", "client.secret", "remediate.apiKey"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["sasl.username", "bootstrap.servers", "ssl.key.location", "entity"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn addresses_lose_their_passwords() {
        assert_eq!(without_userinfo("https://me:pw@host/a@b and http://x"), "https://***@host/a@b and http://x");
    }
}
