//! How a webhook proves that it is from whom it says: by a signature over its body, or by a token.

use std::{fmt, path::Path};

use anyhow::{Context, ensure};
use axum::http::HeaderMap;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256, Sha512};

/// A secret, shared with a tool. It is never printed.
#[derive(Clone)]
pub(super) struct Secret(Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Secret {
    /// From a file, or else from a variable of the environment; none where neither is there.
    pub(super) fn read(
        file: Option<&Path>,
        variable: &str,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Option<Self>> {
        let (text, place) = match (file, environment(variable)) {
            (Some(path), _) => {
                let text = std::fs::read_to_string(path);
                (
                    text.with_context(|| format!("cannot read {}", path.display()))?,
                    path.display().to_string(),
                )
            }
            (None, Some(text)) => (text, variable.to_owned()),
            (None, None) => return Ok(None),
        };
        // editors end files with a line end
        let text = text.trim_end_matches(['\r', '\n']);
        ensure!(!text.is_empty(), "the secret in {place} is empty");
        Ok(Some(Self(text.as_bytes().to_vec())))
    }

    #[cfg(test)]
    pub(super) fn of(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }

    fn sign<M: Mac + KeyInit>(&self, body: &[u8]) -> Option<M> {
        let mut mac = <M as KeyInit>::new_from_slice(&self.0).ok()?;
        mac.update(body);
        Some(mac)
    }

    /// Whether a text is this secret, by their digests, which take the same time whatever they have in common.
    fn is(&self, given: &[u8]) -> bool {
        Sha256::digest(&self.0) == Sha256::digest(given)
    }
}

/// How a tool proves itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// `X-Hub-Signature-256: sha256=HEX`, HMAC-SHA256 of the body.
    Github,
    /// `X-Gitlab-Token`, the token itself.
    Gitlab,
    /// `X-LD-Signature: HEX`, HMAC-SHA256 of the body.
    Launchdarkly,
    /// `X-TFE-Notification-Signature: HEX`, HMAC-SHA512 of the body.
    Terraform,
    /// `X-Signature: sha256=HEX`, HMAC-SHA256 of the body, as of `generic-hmac`; or a bearer token.
    Flux,
    /// `Authorization: Bearer TOKEN`.
    Bearer,
}

/// Checks a request's proof.
///
/// # Errors
/// Why it is none, without a word of the secret or of what would have been right.
pub(super) fn check(proof: Proof, secret: &Secret, headers: &HeaderMap, body: &[u8]) -> Result<(), String> {
    let header = |name: &'static str| {
        let mut all = headers.get_all(name).iter();
        let value = all.next().ok_or_else(|| format!("the header {name} is missing"))?;
        match all.next() {
            Some(_) => Err(format!("the header {name} is given twice")),
            None => value.to_str().map_err(|_| format!("the header {name} is no text")),
        }
    };
    let right = match proof {
        Proof::Github => signed::<Hmac<Sha256>>(secret, header("x-hub-signature-256")?, "sha256=", body),
        Proof::Launchdarkly => signed::<Hmac<Sha256>>(secret, header("x-ld-signature")?, "", body),
        Proof::Terraform => signed::<Hmac<Sha512>>(secret, header("x-tfe-notification-signature")?, "", body),
        Proof::Flux if headers.contains_key("x-signature") => {
            signed::<Hmac<Sha256>>(secret, header("x-signature")?, "sha256=", body)
        }
        Proof::Gitlab => secret.is(header("x-gitlab-token")?.as_bytes()),
        Proof::Flux | Proof::Bearer => {
            let given = header("authorization")?;
            let token = given
                .split_once(' ')
                .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
            token.is_some_and(|(_, token)| secret.is(token.trim().as_bytes()))
        }
    };
    match right {
        true => Ok(()),
        false => Err("the signature or token is not that of the secret here".to_owned()),
    }
}

fn signed<M: Mac + KeyInit>(secret: &Secret, given: &str, prefix: &str, body: &[u8]) -> bool {
    let given = given.trim().strip_prefix(prefix).and_then(of_hex);
    let (Some(given), Some(mac)) = (given, secret.sign::<M>(body)) else {
        return false;
    };
    // in constant time
    mac.verify_slice(&given).is_ok()
}

fn of_hex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    rest.is_empty().then(|| bytes.collect())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name.parse().unwrap(), value.parse().unwrap())])
    }

    #[test]
    fn signatures_are_those_that_the_tools_document() {
        // GitHub's own example of how to test this
        let secret = Secret::of("It's a Secret to Everybody");
        let right = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let body = b"Hello, World!";
        assert!(check(Proof::Github, &secret, &headers("x-hub-signature-256", right), body).is_ok());
        for (wrong, text) in [
            (right.replace("757", "758"), body.as_slice()),
            (right.replace("sha256=", ""), body),
            (right[..70].to_owned(), body),
            ("sha256=".to_owned(), body),
            ("sha256=zz".to_owned(), body),
            (right.to_owned(), b"Hello, World?"),
        ] {
            let checked = check(Proof::Github, &secret, &headers("x-hub-signature-256", &wrong), text);
            assert_eq!(
                checked.unwrap_err(),
                "the signature or token is not that of the secret here"
            );
        }
        let none = check(Proof::Github, &secret, &HeaderMap::new(), body);
        assert_eq!(none.unwrap_err(), "the header x-hub-signature-256 is missing");
        let plain = right.strip_prefix("sha256=").unwrap();
        assert!(check(Proof::Launchdarkly, &secret, &headers("x-ld-signature", plain), body).is_ok());
        assert!(check(Proof::Flux, &secret, &headers("x-signature", right), body).is_ok());
        assert!(
            check(
                Proof::Terraform,
                &secret,
                &headers("x-tfe-notification-signature", plain),
                body
            )
            .is_err()
        );
    }

    #[test]
    fn a_signature_of_sha_512_is_that_of_the_rfc() {
        // RFC 4231, test case 2
        let secret = Secret::of("Jefe");
        let right = "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737";
        let given = headers("x-tfe-notification-signature", right);
        assert!(check(Proof::Terraform, &secret, &given, b"what do ya want for nothing?").is_ok());
        assert!(check(Proof::Terraform, &secret, &given, b"what do you want for nothing?").is_err());
    }

    #[test]
    fn tokens_are_compared_whole() {
        let secret = Secret::of("s3cret");
        for (proof, name, value, right) in [
            (Proof::Gitlab, "x-gitlab-token", "s3cret", true),
            (Proof::Gitlab, "x-gitlab-token", "s3cre", false),
            (Proof::Gitlab, "x-gitlab-token", "", false),
            (Proof::Bearer, "authorization", "Bearer s3cret", true),
            (Proof::Bearer, "authorization", "bearer s3cret", true),
            (Proof::Bearer, "authorization", "Basic s3cret", false),
            (Proof::Bearer, "authorization", "s3cret", false),
            (Proof::Flux, "authorization", "Bearer s3cret", true),
        ] {
            assert_eq!(
                check(proof, &secret, &headers(name, value), b"").is_ok(),
                right,
                "{value:?}"
            );
        }
        let mut twice = headers("x-gitlab-token", "s3cret");
        twice.append("x-gitlab-token", "s3cret".parse().unwrap());
        assert!(check(Proof::Gitlab, &secret, &twice, b"").is_err());
    }

    #[test]
    fn a_secret_is_read_from_a_file_or_the_environment_and_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, "from a file\n").unwrap();
        let environment = |name: &str| (name == "SET").then(|| "from outside".to_owned());
        let read = |file, name| Secret::read(file, name, &environment);
        assert!(read(Some(path.as_path()), "SET").unwrap().unwrap().is(b"from a file"));
        assert!(read(None, "SET").unwrap().unwrap().is(b"from outside"));
        assert!(read(None, "UNSET").unwrap().is_none());
        assert_eq!(format!("{:?}", Secret::of("x")), "Secret");
        std::fs::write(&path, "\n").unwrap();
        assert!(
            read(Some(path.as_path()), "SET")
                .unwrap_err()
                .to_string()
                .contains("is empty")
        );
    }
}
