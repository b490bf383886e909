use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sketches_ddsketch::DDSketch;
use suture_event::{Checker, Problem, Span};

use crate::{
    Aggregate,
    pane::{Cell, CounterCell},
};

/// What a series shows in a window without samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gaps {
    /// Nothing: the value is missing.
    #[default]
    Skip,
    /// The value of the last window that had samples, for up to `gap_limit` windows.
    Carry,
    /// Zero, for up to `gap_limit` windows: for series that count events and are silent where there are none.
    Zero,
}

/// How samples become windows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Length of a window. Absent: every sample is a window of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<Span>,
    /// Distance between the starts of windows; `size` where absent. Has to divide `size`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slide: Option<Span>,
    /// How far samples may be out of order: a window stays open until a sample this much newer than its end is seen.
    pub lateness: Span,
    /// What a series shows in a window without samples.
    pub gaps: Gaps,
    /// For how many windows in a row `carry` and `zero` fill in, and a counter's last value is remembered.
    pub gap_limit: u32,
    /// A series without samples for this long is forgotten: it's no longer listed until it sends again.
    pub forget_after: Span,
    /// How many windows in a row without a single sample are reported before the rest of such a gap is jumped over.
    pub max_empty: u32,
    /// How many panes (slide-long pieces of time) may be held: size / slide + lateness / slide, rounded up.
    pub max_panes: u32,
    /// Relative error of quantiles, such as 0.01: a reported p99 of 200 ms lies within 198 and 202.
    pub quantile_error: f64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            size: None,
            slide: None,
            lateness: Span::ZERO,
            gaps: Gaps::Skip,
            gap_limit: 10,
            forget_after: Span::from_hours(24),
            max_empty: 1_000,
            max_panes: 1_500,
            quantile_error: 0.01,
        }
    }
}

/// Windows cut into panes: each pane is `slide` long, a window is `per_window` of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) slide: i64,
    pub(crate) per_window: i64,
    /// How many panes can be alive: those of the window that closes next and those that lateness keeps open after it.
    pub(crate) ring: i64,
}

/// A year: longer windows are a mistake in the unit, and products of bounds stay far from overflow.
const LONGEST: i64 = 366 * 86_400_000;
/// Within a pane times are kept in 32 bits.
const LONGEST_PANE: i64 = 49 * 86_400_000;

impl Options {
    /// Everything that contradicts itself, in the order of the fields.
    #[must_use]
    pub fn validate(&self) -> Vec<Problem> {
        let mut check = Checker::default();
        for (path, span, least) in [
            ("size", self.size, 1),
            ("slide", self.slide, 1),
            ("lateness", Some(self.lateness), 0),
            ("forget_after", Some(self.forget_after), 1),
        ] {
            if let Some(span) = span
                && !(least..=LONGEST).contains(&span.as_millis())
            {
                check.wrong(
                    path,
                    format!("{span} is out of range"),
                    "write a span between 1ms and 366d",
                );
            }
        }
        match (self.size, self.slide) {
            (None, Some(_)) => check.wrong("slide", "there is no size to slide", "add size, or drop slide"),
            (Some(size), Some(slide)) if slide.as_millis() > 0 && size.as_millis() % slide.as_millis() != 0 => {
                check.wrong(
                    "slide",
                    format!("{slide} does not divide the size {size}"),
                    "choose a slide that divides size",
                );
            }
            _ => {}
        }
        let pane = self.slide.or(self.size).map_or(0, Span::as_millis);
        if (LONGEST_PANE + 1..=LONGEST).contains(&pane) {
            check.wrong(
                if self.slide.is_some() { "slide" } else { "size" },
                "pieces of time of more than 49d are not kept apart",
                "add a slide of at most 49d that divides size",
            );
        }
        if self.size.is_none() && self.lateness > Span::ZERO {
            check.wrong(
                "lateness",
                "has no effect where every sample is a window of its own",
                "add size, or drop lateness",
            );
        }
        if self.size.is_none() && self.gaps != Gaps::Skip {
            check.wrong(
                "gaps",
                "has no effect where every sample is a window of its own",
                "add size, or drop gaps",
            );
        }
        if let Some(size) = self.size
            && self.forget_after < size
        {
            check.wrong(
                "forget_after",
                format!("is shorter than the size {size}"),
                "make it several times the size",
            );
        }
        if self.max_empty == 0 {
            check.wrong("max_empty", "0 would hide every gap", "write at least 1");
        }
        if let Some(shape) = self.shape()
            && shape.ring > i64::from(self.max_panes)
        {
            check.wrong(
                "max_panes",
                format!(
                    "size, slide and lateness need {} panes, {} are allowed",
                    shape.ring, self.max_panes
                ),
                "make slide longer or lateness shorter, or raise max_panes if the memory is there",
            );
        }
        if !(1e-4..=0.2).contains(&self.quantile_error) {
            check.wrong(
                "quantile_error",
                format!("{} is out of range", self.quantile_error),
                "write 0.0001 to 0.2",
            );
        }
        check.found()
    }

    /// Memory that one series takes once all of its panes have samples, quantiles' bins (1 KiB for each 128 in use) apart.
    #[must_use]
    pub fn bytes_per_series(&self, aggregate: Aggregate) -> usize {
        let panes = self.shape().map_or(0, |shape| usize::try_from(shape.ring).unwrap_or(0));
        let side = match aggregate {
            Aggregate::Rate | Aggregate::Increase => size_of::<CounterCell>(),
            Aggregate::Quantile(_) => size_of::<DDSketch>(),
            _ => 0,
        };
        let last = match aggregate {
            Aggregate::Rate | Aggregate::Increase => 24 + 4,
            Aggregate::Quantile(_) => 4,
            _ => 0,
        };
        let shown = if self.gaps == Gaps::Carry { 8 } else { 0 };
        // what is carried from window to window: kind, life and time; and the columns of the window that closes
        let carried = 2 + 1 + 8 + shown + last;
        panes * (size_of::<Cell>() + side) + carried + 16
    }

    /// The panes, where there are windows and their spans are in range.
    pub(crate) fn shape(&self) -> Option<Shape> {
        let size = self.size?.as_millis();
        let slide = self.slide.map_or(size, Span::as_millis);
        let lateness = self.lateness.as_millis();
        if !(1..=LONGEST).contains(&size)
            || !(1..=size.min(LONGEST_PANE)).contains(&slide)
            || !(0..=LONGEST).contains(&lateness)
        {
            return None;
        }
        let per_window = size / slide;
        Some(Shape {
            slide,
            per_window,
            ring: per_window + (lateness + slide - 1) / slide,
        })
    }
}
