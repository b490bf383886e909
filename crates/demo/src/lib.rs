//! The demo: a simulated shop breaks, and the whole line finds, blames and heals it before the reader's eyes.

mod chart;
mod draw;
mod event;
mod feed;
mod lines;
mod model;
mod operator;
mod run;
mod story;
mod svg;
mod view;
mod web;
mod world;

pub use event::DemoEvent;
pub use feed::{FeedOptions, feed};
pub use lines::{Narrator, Told, Tone};
pub use model::Screen;
pub use run::{INTERRUPTED, Options, Performance, perform};
pub use story::{Row, Story, Table};
pub use svg::{picture, svg};
pub use view::{Flow, Mode, View};

#[cfg(test)]
mod tests;
