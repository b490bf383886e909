//! CDEvents, in a CloudEvents envelope or plain: changes come in as such, incidents and action requests go out.
//!
//! Reading is lenient where that loses nothing: versions 0.3 to 0.6 of the specification (`context.version` or
//! `context.specversion`), any version of the event's own type or none, an environment as an object or as a text, fields that
//! are not known. The `cdevents-sdk` crate has one closed struct a version and refuses all of these; it is what the tests
//! hold the written events against.
//!
//! | type | kind | service |
//! | --- | --- | --- |
//! | `dev.cdevents.service.deployed`, `upgraded` | deploy | `subject.id` |
//! | `dev.cdevents.service.rolledback` | rollback | `subject.id` |
//! | `dev.cdevents.service.removed` | removal | `subject.id` |
//! | `dev.cdevents.service.published` | other | `subject.id` |
//! | `dev.cdevents.deployment.started`, and `finished` where its outcome is `success` | deploy | `customData.service`, else the name in `subject.content.artifactId` |
//! | `dev.cdevents.environment.created`, `modified`, `deleted` | config | `customData.service`, else `subject.id`: the environment itself |
//! | `dev.cdeventsx.TOOL-flag.*` | flag | `subject.content.service` or `customData.service` |
//! | `dev.cdeventsx.TOOL-config.*` | config | the same |
//! | any other | ignored | |

mod read;
mod write;

pub use read::{Decoder, decode, decode_record, read_incident, read_remediation};
pub use write::{REMEDIATION_TYPE, SPEC_VERSION, type_of, write_change, write_incident, write_remediation};

#[cfg(test)]
mod tests;
