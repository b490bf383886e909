//! Calls humans when an incident needs one.
//!
//! A reader of the ledger in a process of its own: what decides knows no pager and none of its secrets, and who is called for what
//! can be changed without a new fingerprint. [`Pager`] is the pure part: ledger records in, [`Page`]s out, one for each incident until
//! it is resolved. [`Caller`] says a page to every sink of the pipeline file, and [`Desk`] runs both beside a consumer: a record
//! is done with once each sink has taken its page or the page is in the dead letters, so that a process that dies calls again,
//! under the same key.

mod call;
mod desk;
mod error;
mod mail;
mod page;

pub use call::{Caller, Refused};
pub use desk::{Desk, Topics};
pub use error::Error;
pub use page::{Page, PageKind, Pager};
