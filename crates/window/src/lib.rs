//! Event time: watermarks, late data, tumbling and sliding windows over columns.
//!
//! [`Windows`] folds the samples of one shard, in the order they arrived, into windows that close in the order of time.
//! There is no clock: time is what samples say.
//!
//! ```
//! use suture_event::{Span, Timestamp};
//! use suture_window::{Aggregate, Options, Windows};
//!
//! let mut windows = Windows::new(&Options { size: Some(Span::from_mins(1)), ..Options::default() })?;
//! let latency = windows.add_series(Aggregate::Mean);
//! let at = |second: i64| Timestamp::from_millis(second * 1_000);
//! windows.push(&[latency, latency], &[at(5), at(20)], &[10.0, 30.0], &mut |_| unreachable!("still open"));
//! windows.push(&[latency], &[at(61)], &[99.0], &mut |closed| {
//!     assert_eq!((closed.start, closed.end), (at(0), at(60)));
//!     assert_eq!((closed.values, closed.counts), (&[20.0][..], &[2][..]));
//! });
//! # Ok::<(), suture_window::Error>(())
//! ```
//!
//! # Rules
//!
//! - **Watermark.** The newest event time seen less the lateness. A window closes at the sample that moves the watermark
//!   to its end or beyond, before that sample is taken in. Windows are aligned to the epoch.
//! - **Panes.** Time is cut into panes as long as the slide; a window is `size / slide` of them. A sample is taken in as
//!   long as its pane is open, and so counts in all of its windows or, dropped as late, in none.
//! - **Gaps.** A row that sent once is listed in every window until it has been idle for `forget_after`. In a window
//!   without samples it shows NaN, or, for at most `gap_limit` windows, what [`Gaps`] says.
//! - **Long gaps.** Of windows in which no row at all has a sample, `max_empty` in a row are reported; the others, up to
//!   the next that has one, are jumped over and counted in [`Counters::jumped`], so that a year without data costs no
//!   more than a day. Windows before the first sample, or after the last row was forgotten, are neither.
//! - **Counters.** The increase is taken from the last sample of an earlier window, unless that is more than `gap_limit`
//!   windows old; a fall is a reset to zero. Out of order, a sample before the first or after the newest of its pane
//!   counts as if it had come in order; one in between changes nothing, which is exact unless the counter was reset
//!   between these two. A rate divides by the time between the samples it was read off, not by the window's length, so
//!   neither scrapes slower than the window nor a gap bend it.
//! - **Quantiles** come from a DDSketch (Masson, Rim and Lee, VLDB 2019): relative error `quantile_error`, for values
//!   of either sign; what is smaller than 1e-9 counts as 0. It holds over at least 17 decades of absolute value in one
//!   pane; beyond these, the smallest are taken together.
//! - **Order.** Sums run in order of arrival within a pane and in order of time over panes. No result depends on how
//!   samples were cut into batches, nor on a snapshot and restore in between.
//! - **Bad samples.** NaN and infinities are dropped and counted. A sum that overflows is held at the largest number.
//!   Samples that jumped into the far future would close everything: whoever calls drops them before. After a clock went
//!   back, samples are late until it has caught up.
//! - **Each sample its own window** (no `size`): a series' sample older than its newest is dropped as late, one at the
//!   same time as repeated. Rows aren't forgotten then.
//!
//! # Cost
//!
//! A sample costs one comparison with the next close, one with the bounds of the current pane, and one 16-byte cell. Samples
//! of a batch are taken in in parts whose cells are looked at ahead, so that with more rows than the caches hold these
//! reads overlap. A close costs one pass over the rows, block by block, and over each pane of the window. Memory: 16 bytes
//! a row for each of `size / slide + lateness / slide` panes (48 for counters; for quantiles the sketch's bins, 1 KiB for
//! each 128 of them in use) and 40 bytes a row, 24 of them the columns of the window that closes.

mod aggregate;
mod error;
mod options;
mod pane;
mod snapshot;
mod windows;

pub use aggregate::{Aggregate, AggregateError};
pub use error::Error;
pub use options::{Gaps, Options};
pub use suture_event::Problem;
pub use windows::{Closed, Counters, Windows};
