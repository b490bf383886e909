//! Drift: has the process that a series comes from changed for good, be it by little?
//!
//! A spike detector judges one window; a drift detector adds up what many say, and so sees half a standard deviation
//! within some fifty samples. What it costs in false alarms is said in advance as the in-control **average run length**
//! (ARL): the mean number of samples between two false alarms.
//!
//! [`Drift`] is the one to use: it learns what is normal ([`Baseline`]) and watches for shifts of any size
//! ([`MixtureCusum`]). The others are the field's usual choices, for comparison and for those who know them.
//!
//! | detector | sees | paper | per update | state |
//! | --- | --- | --- | --- | --- |
//! | [`Cusum`] | a shift of one size | Page, Biometrika 1954 | 9 ns | 48 bytes |
//! | [`MixtureCusum`] | shifts of 0.4 standard deviations and more | Lorden and Pollak, Annals of Statistics 2005 | 15 ns a side | 104 bytes |
//! | [`Baseline`] | (learns) | Hawkins, JRSS D 1987; Brown, Durbin and Evans, JRSS B 1975 | 45 ns, 110 with a season | 450 bytes, 1 KiB with a season |
//! | [`PageHinkley`] | a shift against the running mean | Page, Biometrika 1954 | 10 ns | 64 bytes |
//! | [`Adwin`] | a changed mean of bounded values | Bifet and Gavaldà, SDM 2007 | 32 ns | 2 to 4 KiB |
//! | [`Kswin`] | any changed distribution | Raab, Heusinger and Schleif, Neurocomputing 2020 | 0.2 µs for 30 of 100 | 2 KiB |
//! | [`Population`] | a changed distribution, as binned | see [`distance`] | 10 ns | 0.4 KiB |
//!
//! The first two need independent standard normal input to keep the ARL that was asked; [`Baseline`] makes it out of
//! series of unknown level and spread, autocorrelated, seasonal or heavy-tailed. `cargo run --release -p suture-benches
//! --bin drift` measures all of this.

mod adwin;
mod baseline;
mod calibration;
mod cusum;
pub mod distance;
mod kswin;
mod mixture;
mod page_hinkley;
mod population;
mod random;
mod sequential;

pub use adwin::Adwin;
pub use baseline::{Baseline, BaselineOptions};
pub use cusum::Cusum;
pub use kswin::Kswin;
pub use mixture::{MixtureCusum, Shift, Sides};
pub use page_hinkley::PageHinkley;
pub use population::{Comparison, Population};
pub(crate) use random::Random;
pub use sequential::{Drift, DriftOptions};

use crate::{Error, Problem};

/// What a parameter out of its range is answered with.
fn wrong(path: &str, message: String, help: &str) -> Error {
    Error::Options(Problem::new(path, message, help))
}
