//! Events by category: what a mix is made of, and what was never in it before.
//!
//! [`Mix`] follows the shares of categories, or of the bins of a histogram, and makes one number of them that an ordinary
//! detector can watch: how mixed they are, how many are rare, or how far they are from what they were. [`Novelty`] knows which
//! categories there are and how often a new one comes.
//!
//! | | paper | an update | state |
//! | --- | --- | --- | --- |
//! | [`Mix`] | Shannon 1948 (entropy); for distances see [`drift::distance`](crate::drift::distance) | 20 ns a category | 56 bytes a category and its name |
//! | [`Novelty`] | Laplace's rule of succession; Good, Biometrika 1953 | 30 ns a category seen | 16 bytes a category |

mod novelty;
mod shares;

pub use novelty::{Novel, Novelty, NoveltyOptions};
pub use shares::{Measure, Mix, MixOptions};
