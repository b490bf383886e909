//! `suture plot`: one series of a replay as a picture, with the band it was expected in and what was found.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use plotters::{
    chart::{ChartBuilder, LabelAreaPosition},
    drawing::IntoDrawingArea,
    element::{Circle, Polygon, Rectangle},
    prelude::SVGBackend,
    series::LineSeries,
    style::{Color, RGBColor},
};
use serde::Deserialize;
use suture_engine::ScoreRow;
use suture_event::Timestamp;

const SIZE: (u32, u32) = (1_200, 400);
/// More points than this are drawn as the least and the largest of each run of them.
const POINTS: usize = 2_000;
const INK: RGBColor = RGBColor(40, 60, 90);
const BAND: RGBColor = RGBColor(120, 160, 200);
const ALARM: RGBColor = RGBColor(200, 40, 40);

/// Draws a series of a replay: its values, the band they were expected in, and its anomalies.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of a replay that ran with `--scores`.
    #[arg(long, value_name = "DIR")]
    replay: PathBuf,
    /// The series' metric. May be left out where there is only one.
    #[arg(long)]
    metric: Option<String>,
    /// A label of the series, as often as it takes to tell it from others.
    #[arg(long = "label", value_name = "NAME=VALUE")]
    labels: Vec<String>,
    /// The picture to write.
    #[arg(long, value_name = "FILE.svg")]
    out: PathBuf,
}

/// Runs the command.
pub(crate) fn plot(args: &Args) -> anyhow::Result<()> {
    let mut labels = Vec::new();
    for label in &args.labels {
        labels.push(
            label
                .split_once('=')
                .with_context(|| format!("{label:?} is no NAME=VALUE"))?,
        );
    }
    let wanted = |metric: &str, of: &dyn Fn(&str) -> Option<String>| {
        args.metric.as_deref().is_none_or(|m| m == metric)
            && labels.iter().all(|(name, value)| of(name).is_some_and(|v| v == *value))
    };
    let mut found: BTreeMap<String, Vec<ScoreRow>> = BTreeMap::new();
    let scores = args.replay.join("scores.ndjson");
    lines(&scores, |row: ScoreRow| {
        if wanted(&row.metric, &|name| row.labels.get(name).map(ToString::to_string)) {
            found.entry(named(&row.metric, &row.labels)).or_default().push(row);
        }
    })
    .context("a replay writes the scores that are drawn only with --scores")?;
    if found.len() > 1 {
        let some: Vec<&str> = found.keys().take(10).map(String::as_str).collect();
        bail!(
            "{} series fit, say which with --metric and --label: {} …",
            found.len(),
            some.join(", ")
        );
    }
    let Some((name, rows)) = found.into_iter().next() else {
        bail!("no series of {} fits", scores.display());
    };
    let mut spans = Vec::new();
    lines(&args.replay.join("anomalies.ndjson"), |span: Span| {
        if named(&span.metric, &span.labels) == name {
            spans.push(span);
        }
    })?;
    std::fs::write(&args.out, picture(&name, &rows, &spans)?)
        .with_context(|| format!("cannot write {}", args.out.display()))
}

/// What is drawn of an anomaly.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Span {
    /// When it was told.
    at: Timestamp,
    /// Start of the first window outside.
    onset: Timestamp,
    /// When it ended.
    #[serde(default)]
    ended_at: Option<Timestamp>,
    metric: String,
    labels: suture_event::Labels,
}

fn named(metric: &str, labels: &suture_event::Labels) -> String {
    let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!("{metric}{{{}}}", labels.join(","))
}

fn lines<T: for<'de> Deserialize<'de>>(path: &Path, mut each: impl FnMut(T)) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.with_context(|| format!("cannot read {}", path.display()))?;
        each(serde_json::from_str(&line).with_context(|| format!("{}, line {}", path.display(), number + 1))?);
    }
    Ok(())
}

#[allow(clippy::cast_precision_loss)] // milliseconds of a few thousand years are exact
fn x(at: Timestamp) -> f64 {
    at.as_millis() as f64
}

/// The picture as SVG text; the same rows give the same text.
///
/// # Errors
/// Where there are no rows.
pub(crate) fn picture(name: &str, rows: &[ScoreRow], spans: &[Span]) -> anyhow::Result<String> {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        bail!("{name} has no windows to draw");
    };
    // the band may be wider than anything that was seen: what was seen sets the height
    let (mut low, mut high) = (f64::MAX, f64::MIN);
    for row in rows {
        (low, high) = (low.min(row.value), high.max(row.value));
    }
    let room = (0.15 * (high - low)).max(1e-9 * high.abs()).max(1e-9);
    let (bottom, top) = (low - room, high + room);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .caption(name, ("sans-serif", 15))
            .set_label_area_size(LabelAreaPosition::Left, 70)
            .set_label_area_size(LabelAreaPosition::Bottom, 26)
            .build_cartesian_2d(x(first.ts)..x(last.ts).max(x(first.ts) + 1.0), bottom..top)?;
        #[allow(clippy::cast_possible_truncation)] // back from milliseconds
        let when = |at: &f64| {
            Timestamp::from_millis(*at as i64)
                .to_string()
                .chars()
                .take(16)
                .collect()
        };
        chart
            .configure_mesh()
            .x_labels(8)
            .x_label_formatter(&when)
            .light_line_style(plotters::style::TRANSPARENT)
            .draw()?;
        for span in spans {
            let until = span.ended_at.map_or(x(last.ts), x);
            chart.draw_series([Rectangle::new(
                [(x(span.onset), bottom), (until, top)],
                ALARM.mix(0.12).filled(),
            )])?;
        }
        let cut = |value: f64| value.clamp(bottom, top);
        let thin = thinned(rows);
        let banded: Vec<_> = thin.iter().filter_map(|row| Some((x(row.ts), row.band?))).collect();
        let upper = banded.iter().map(|(at, band)| (*at, cut(band.upper)));
        let lower = banded.iter().rev().map(|(at, band)| (*at, cut(band.lower)));
        let outline: Vec<(f64, f64)> = upper.chain(lower).collect();
        chart.draw_series([Polygon::new(outline, BAND.mix(0.3).filled())])?;
        chart.draw_series(LineSeries::new(
            thin.iter().map(|row| (x(row.ts), row.value)),
            INK.stroke_width(1),
        ))?;
        for span in spans {
            let told = rows.partition_point(|row| row.ts < span.at).min(rows.len() - 1);
            let value = rows.get(told).map_or(bottom, |row| row.value);
            chart.draw_series([Circle::new((x(span.at), cut(value)), 4, ALARM.filled())])?;
        }
        area.present()?;
    }
    Ok(text)
}

/// The rows, or of each run of them the two with the least and the largest value, in order of time.
fn thinned(rows: &[ScoreRow]) -> Vec<&ScoreRow> {
    let run = rows.len().div_ceil(POINTS / 2);
    if rows.len() <= POINTS {
        return rows.iter().collect();
    }
    let mut out = Vec::with_capacity(POINTS);
    for rows in rows.chunks(run) {
        let by = |a: &&ScoreRow, b: &&ScoreRow| a.value.total_cmp(&b.value);
        let (least, most) = (rows.iter().min_by(by), rows.iter().max_by(by));
        let mut pair: Vec<&ScoreRow> = least.into_iter().chain(most).collect();
        pair.sort_by_key(|row| row.ts);
        out.extend(pair);
    }
    out
}

#[cfg(test)]
mod tests {
    use suture_engine::Band;

    use super::*;

    fn rows(count: i64) -> Vec<ScoreRow> {
        let row = |i: i64| ScoreRow {
            ts: Timestamp::from_millis(1_700_006_400_000 + i * 60_000),
            metric: "cpu".into(),
            labels: suture_event::Labels::default(),
            value: if i == 70 { 50.0 } else { 10.0 + (i % 7) as f64 },
            score: 0.5,
            band: (i >= 20).then_some(Band {
                expected: 13.0,
                lower: 5.0,
                upper: 21.0,
            }),
        };
        (0..count).map(row).collect()
    }

    fn spike() -> Span {
        let at = Timestamp::from_millis(1_700_006_400_000 + 70 * 60_000);
        Span {
            at,
            onset: at,
            ended_at: None,
            metric: "cpu".into(),
            labels: suture_event::Labels::default(),
        }
    }

    #[test]
    fn a_series_is_drawn_with_its_band_and_its_anomalies() {
        let drawn = picture("cpu{}", &rows(100), &[spike()]).unwrap();
        assert!(drawn.starts_with("<svg") && drawn.contains("cpu{}"), "{drawn:.200}");
        assert_eq!(drawn.matches("<polygon").count(), 1);
        assert_eq!(drawn.matches("<circle").count(), 1);
        assert_eq!(drawn, picture("cpu{}", &rows(100), &[spike()]).unwrap());
        let calm = picture("cpu{}", &rows(100), &[]).unwrap();
        assert!(!calm.contains("<circle"));
        assert!(picture("cpu{}", &[], &[]).is_err());
    }

    #[test]
    fn of_many_points_the_extremes_stay() {
        let rows = rows(50_000);
        let thin = thinned(&rows);
        assert!(
            thin.len() <= POINTS + 2 && thin.iter().any(|row| row.value == 50.0),
            "{}",
            thin.len()
        );
        assert!(thin.is_sorted_by_key(|row| row.ts));
    }
}
