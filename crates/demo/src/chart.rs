//! One series with its expected band and the deploys, on one axis of time.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::{Color, Modifier, Style},
    symbols::Marker,
    widgets::{
        Widget,
        canvas::{Canvas, Line as Stroke},
    },
};
use suture_event::{SeriesKey, Timestamp};

use crate::model::{Mark, SHOWN, Trace};

/// A series, its band, and what was changed meanwhile.
pub(super) struct Chart<'a> {
    pub(super) key: &'a SeriesKey,
    pub(super) trace: &'a Trace,
    pub(super) marks: &'a [Mark],
    pub(super) now: Timestamp,
}

const BAND: Color = Color::DarkGray;

impl Widget for Chart<'_> {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        if area.height < 3 || area.width < 24 {
            return;
        }
        let plot = Rect {
            y: area.y + 1,
            height: area.height - 1,
            ..area
        };
        let from = self.now.minus(SHOWN);
        let (low, high) = self.range(from);
        self.title(area, buffer, low, high);
        self.band(plot, buffer, from, low, high);
        self.deploys(plot, buffer, from);
        self.curve(plot, buffer, from, low, high);
    }
}

impl Chart<'_> {
    /// The values from the lower to the upper edge of the plot.
    fn range(&self, from: Timestamp) -> (f64, f64) {
        let points = self.trace.points.iter().filter(|p| p.at >= from).map(|p| p.value);
        let bounds = self
            .trace
            .bounds
            .iter()
            .filter(|b| b.from >= from)
            .flat_map(|b| [b.lower, b.upper]);
        let (mut low, mut high) = points
            .chain(bounds)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if !low.is_finite() || !high.is_finite() {
            (low, high) = (0.0, 1.0);
        }
        // what can't be negative is not drawn as if it could
        let floor = if low >= 0.0 { 0.0 } else { f64::NEG_INFINITY };
        let room = ((high - low) * 0.08).max(high.abs() * 0.02).max(1e-9);
        ((low - room).max(floor), high + room)
    }

    fn title(&self, area: Rect, buffer: &mut Buffer, low: f64, high: f64) {
        let service = self.key.labels.get("service").unwrap_or("");
        let peer = self.key.labels.get("peer").or_else(|| self.key.labels.get("client"));
        let whose = peer.map_or_else(|| service.to_owned(), |peer| format!("{service} with {peer}"));
        let name = self
            .key
            .metric
            .trim_end_matches("_seconds")
            .trim_end_matches("_ratio")
            .replace('_', " ");
        let tone = if self.trace.anomalous { Color::Red } else { Color::Cyan };
        let last = self
            .trace
            .points
            .back()
            .map_or_else(|| "-".to_owned(), |p| unit(&self.key.metric, p.value));
        let left = format!("{whose} {name}");
        let right = format!(
            "{last}  ({} to {})",
            unit(&self.key.metric, low),
            unit(&self.key.metric, high)
        );
        let room = usize::from(area.width).saturating_sub(right.chars().count() + 1);
        buffer.set_stringn(
            area.x,
            area.y,
            left,
            room,
            Style::new().fg(tone).add_modifier(Modifier::BOLD),
        );
        let at = area
            .right()
            .saturating_sub(u16::try_from(right.chars().count()).unwrap_or(0))
            .max(area.x);
        buffer.set_stringn(at, area.y, right, usize::from(area.width), Style::new().fg(Color::Gray));
    }

    /// The expected band as a shade behind the curve.
    fn band(&self, plot: Rect, buffer: &mut Buffer, from: Timestamp, low: f64, high: f64) {
        for column in 0..plot.width {
            let at = time_of(column, plot.width, from);
            let Some(bounds) = self.trace.bounds.iter().rev().find(|b| b.from <= at) else {
                continue;
            };
            for row in 0..plot.height {
                let top = high - (high - low) * f64::from(row) / f64::from(plot.height);
                let bottom = high - (high - low) * f64::from(row + 1) / f64::from(plot.height);
                if bottom < bounds.upper && top > bounds.lower {
                    buffer[(plot.x + column, plot.y + row)].set_symbol("░").set_fg(BAND);
                }
            }
        }
    }

    /// A line for each deploy of this series' service, and a tick for those of others.
    fn deploys(&self, plot: Rect, buffer: &mut Buffer, from: Timestamp) {
        let service = self.key.labels.get("service");
        for mark in self.marks.iter().filter(|m| m.at >= from && m.at <= self.now) {
            let share = mark.at.since(from).as_secs_f64() / SHOWN.as_secs_f64();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to the width
            let column = ((share * f64::from(plot.width)) as u16).min(plot.width - 1);
            let own = Some(mark.service.as_ref()) == service;
            let (symbol, colour) = match (own, mark.rollback) {
                (true, false) => ("▲", Color::Yellow),
                (true, true) => ("▼", Color::Green),
                (false, _) => ("'", Color::DarkGray),
            };
            if own {
                for row in 0..plot.height {
                    buffer[(plot.x + column, plot.y + row)].set_symbol("┊").set_fg(colour);
                }
            }
            buffer[(plot.x + column, plot.bottom() - 1)]
                .set_symbol(symbol)
                .set_fg(colour);
        }
    }

    fn curve(&self, plot: Rect, buffer: &mut Buffer, from: Timestamp, low: f64, high: f64) {
        let colour = if self.trace.anomalous {
            Color::LightRed
        } else {
            Color::LightCyan
        };
        let points: Vec<(f64, f64)> = self
            .trace
            .points
            .iter()
            .filter(|p| p.at >= from)
            .map(|p| (p.at.since(from).as_secs_f64(), p.value))
            .collect();
        Canvas::default()
            .marker(Marker::Braille)
            .x_bounds([0.0, SHOWN.as_secs_f64()])
            .y_bounds([low, high])
            .paint(|context| {
                for pair in points.windows(2) {
                    let ((x1, y1), (x2, y2)) = (pair[0], pair[1]);
                    // a series that was silent is not drawn as if it had not been
                    if x2 - x1 <= 120.0 {
                        context.draw(&Stroke {
                            x1,
                            y1,
                            x2,
                            y2,
                            color: colour,
                        });
                    }
                }
            })
            .render(plot, buffer);
    }
}

fn time_of(column: u16, width: u16, from: Timestamp) -> Timestamp {
    let millis = SHOWN.as_millis() * (i64::from(column) * 2 + 1) / (i64::from(width) * 2);
    from.plus(suture_event::Span::from_millis(millis))
}

/// A value with its unit, which the metric's name ends with.
pub(super) fn unit(metric: &str, value: f64) -> String {
    if metric.ends_with("_seconds") && !metric.contains("_per_") {
        if value < 1.0 {
            format!("{:.0} ms", value * 1e3)
        } else {
            format!("{value:.2} s")
        }
    } else if metric.ends_with("_ratio") {
        format!("{:.1}%", value * 100.0)
    } else if metric.contains("bytes") {
        format!("{:.0} kB/s", value / 1e3)
    } else if metric.ends_with("_per_second") {
        format!("{value:.0}/s")
    } else {
        format!("{value:.1}")
    }
}
