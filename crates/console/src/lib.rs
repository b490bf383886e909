//! The console: what people look at, and the buttons they press.
//!
//! [`Store`] is a bounded picture of what was said, folded from incidents, ledger records, action requests, outcomes, anomalies,
//! scores, changes and edges, from a replay's folder ([`folder`]) or live. [`router`] serves it as a versioned HTTP API, and
//! the page over that API. Whatever changes anything goes out through the [`Host`], as a word of somebody's whose role allows
//! it; the console itself decides nothing.

pub mod access;
mod action;
mod api;
mod door;
pub mod folder;
mod host;
mod ledger;
mod page;
mod plot;
mod series;
mod serve;
mod store;
mod timeline;
mod view;

pub use self::{
    api::{API_VERSION, Console, Limits as HttpLimits, document, router},
    door::{Bounds, Door, DoorError},
    host::{Host, Refusal, Word},
    page::{UPLOT, UPLOT_STYLE, uplot_licence},
    serve::{ServeError, serve},
    store::{Limits, Said, Store},
    view::{Mode, Setting, Stage},
};
