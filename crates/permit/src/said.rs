//! The very bytes that are signed.

use serde::Serialize;
use suture_event::{ActionRequest, Command, Outcome};

/// What can be signed.
pub trait Said {
    /// What is signed, by the key of this id. A JSON array: what sort of thing, the key, and every field that anybody acts on.
    fn words(&self, key: &str) -> Vec<u8>;
}

/// Writing values that are text, numbers and maps of them never fails; should it, nothing is signed but the sort, and nothing
/// that is checked fits it.
fn words(sort: &str, key: &str, fields: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(&(sort, key, fields)).unwrap_or_default()
}

impl Said for ActionRequest {
    fn words(&self, key: &str) -> Vec<u8> {
        let permit = self.permit.as_ref().map(|permit| (&permit.executor, &permit.epoch));
        let what = (
            &self.id,
            &self.scope,
            &self.target,
            &self.step,
            &self.reversal,
            &self.reverses,
        );
        let right = (self.rung, &self.approved_by, &self.approvals, permit);
        let when = (self.at, self.expires_at, self.verify_by);
        let why = (&self.incident, &self.playbook, &self.owner, self.attempt, &self.outside);
        // without what was weighed it is signed as it was before there was such a thing
        match &self.weighed {
            None => words("suture permit 1", key, &(what, right, when, why)),
            Some(weighed) => {
                let weighed = (weighed, &self.class, self.probability);
                words("suture permit 2", key, &(what, right, when, why, weighed))
            }
        }
    }
}

impl Said for Command {
    fn words(&self, key: &str) -> Vec<u8> {
        let fields = (&self.id, self.at, &self.by, &self.scope, &self.kind, &self.reason);
        words("suture command 1", key, &fields)
    }
}

impl Said for Outcome {
    fn words(&self, key: &str) -> Vec<u8> {
        let what = (&self.action, self.at, self.status, self.mode);
        let fields = (
            what,
            &self.target,
            &self.scope,
            &self.executor,
            &self.detail,
            &self.calls,
        );
        words("suture outcome 1", key, &fields)
    }
}
