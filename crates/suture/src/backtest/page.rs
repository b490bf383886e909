//! The report: one HTML file with all that it needs in it.

use std::fmt::Write as _;

use serde_json::json;
use suture_event::Timestamp;

use super::{
    Ground, Row,
    judge::{Judgement, Sum, Worth},
    labels::named,
    seen::{Course, Seen},
    weeks,
};

const STYLE: &str = include_str!("../../page/report.css");
const SCRIPT: &str = include_str!("../../page/report.js");
/// Rows of spans and of incidents at most.
const ROWS: usize = 200;
/// Alarms that are told in words below a plot at most.
const TOLD: usize = 20;

/// What was found, in a paragraph.
pub(super) fn summary(ground: &Ground, seen: &Seen, judged: &Judgement) -> String {
    let covered = seen.covered();
    let weeks = weeks(&covered);
    let alarms = judged.all.alarms;
    let mut text = format!(
        "{} of telemetry and {} series led to {} ({} a week{}) and {}.",
        how_long(weeks * super::WEEK as f64),
        seen.courses.len(),
        counted(alarms as usize, "alarm", "alarms"),
        figure(alarms as f64 / weeks),
        if weeks < 1.0 { " at this pace" } else { "" },
        counted(seen.incidents.len(), "incident", "incidents"),
    );
    if ground.spans.is_some() {
        let (hits, all) = (judged.hits(), judged.found.len());
        let was = if hits == 1 { "was" } else { "were" };
        let _ = write!(text, " {hits} of {all} known faults {was} found");
        if let Some(delay) = judged.all.delay {
            let _ = write!(
                text,
                ", half of them within {} of their beginning",
                how_long(delay as f64)
            );
        }
        let _ = write!(
            text,
            ". {} of the alarms came during a known fault of their own{}, and {} when nothing is known to have been wrong.",
            judged.all.right,
            if of_services(ground) {
                format!(", {} while another service had one", judged.all.beside)
            } else {
                String::new()
            },
            judged.all.wrong
        );
    }
    text
}

/// Whether faults of whole services are known, which others may feel.
fn of_services(ground: &Ground) -> bool {
    let entity = &ground.loaded.pipeline.entity;
    ground.spans.iter().flatten().any(|span| span.service(entity).is_some())
}

/// The whole file. `before` is HTML that comes first.
pub(super) fn page(ground: &Ground, seen: &Seen, rows: &[Row], title: &str, before: &str, plots: usize) -> String {
    let known = ground.spans.is_some();
    let covered = seen.covered();
    let weeks = weeks(&covered);
    let none = Judgement::default();
    let judged = rows.first().map_or(&none, |row| &row.judged);
    let mut text = String::with_capacity(1 << 20);
    let _ = write!(
        text,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" content=\"width=device-width, \
         initial-scale=1\">\n<title>{0}</title>\n<style>{1}{STYLE}</style>\n<h1>{0}</h1>\n",
        escape(title),
        suture_console::UPLOT_STYLE,
    );
    heading(&mut text, ground, &covered);
    text.push_str(before);
    in_short(&mut text, ground, seen, judged, weeks);
    detectors(&mut text, judged, weeks, known, of_services(ground));
    if rows.len() > 1 {
        budgets(&mut text, rows, weeks, known);
    }
    let data = series(&mut text, ground, seen, judged, plots);
    if known {
        spans(&mut text, ground, seen, judged);
    }
    incidents(&mut text, ground, seen);
    let _ = write!(
        text,
        "<section><h2>How this was counted</h2>\n<p class=\"muted\">The telemetry went through the same program as a live pipeline's, \
         sample by sample in the order of its times, so that nothing was known in advance. An alarm is an anomaly that opens; what \
         follows while it is open belongs to it. A week is a week of time in which any series was watched. {}</p></section>\n",
        if known {
            "A fault counts as found by the first alarm told between its beginning and its end, of a series that it is about. An alarm \
             at any other time counts as false, also where something was wrong that nobody wrote down."
        } else {
            "Nothing was said of what was really wrong, so alarms are neither right nor false here: <code>--labels</code> takes a file \
             of known faults."
        }
    );
    let _ = writeln!(
        text,
        "<script type=\"application/json\" id=\"data\">{}</script>\n<script>{}</script>\n<script>{SCRIPT}</script>\n<!--\n{}\n-->\n</html>",
        serde_json::Value::from(data).to_string().replace("</", "<\\/"),
        suture_console::UPLOT,
        suture_console::uplot_licence().replace("--", "- -")
    );
    text
}

fn heading(text: &mut String, ground: &Ground, covered: &[(Timestamp, Timestamp)]) {
    let files: Vec<String> = ground
        .feed
        .paths()
        .iter()
        .take(3)
        .map(|path| escape(&path.display().to_string()))
        .collect();
    let more = ground.feed.paths().len().saturating_sub(files.len());
    let _ = write!(text, "<p class=\"muted\">Of {}", files.join(", "));
    if more > 0 {
        let _ = write!(text, " and {}", counted(more, "file more", "files more"));
    }
    if let (Some(first), Some(last)) = (covered.first(), covered.last()) {
        let _ = write!(text, ", from {} to {}", minute(first.0), minute(last.1));
    }
    text.push_str(". All times are UTC.</p>\n");
}

fn in_short(text: &mut String, ground: &Ground, seen: &Seen, judged: &Judgement, weeks: f64) {
    let _ = write!(
        text,
        "<section><h2>In short</h2>\n<p class=\"short\">{}</p>\n<div class=\"tiles\">",
        escape(&summary(ground, seen, judged))
    );
    let mut tile = |value: String, what: &str| {
        let _ = write!(text, "<div><b>{value}</b><span>{what}</span></div>");
    };
    tile(figure(judged.all.alarms as f64 / weeks), "alarms a week");
    tile(seen.incidents.len().to_string(), "incidents");
    if ground.spans.is_some() {
        tile(share(judged.recall()), "of known faults found (recall)");
        tile(share(judged.all.precision()), "of alarms right (precision)");
        tile(
            judged.all.delay.map_or("–".into(), |delay| how_long(delay as f64)),
            "until a fault is told (median)",
        );
    }
    text.push_str("</div>\n");
    let refused = seen.refused;
    if refused > 0 {
        let reasons: Vec<String> = seen.reasons.iter().map(|reason| escape(reason)).collect();
        let _ = writeln!(
            text,
            "<p class=\"false\">{} could not be used: {}</p>",
            counted(refused as usize, "record", "records"),
            reasons.join("; ")
        );
    }
    text.push_str("</section>\n");
}

fn detectors(text: &mut String, judged: &Judgement, weeks: f64, known: bool, services: bool) {
    text.push_str(
        "<section><h2>Alarms by detector</h2>\n<p class=\"muted\">Which part of the program spoke, and how often. \
         <code>seasonal</code> is a value off its level, trend or time of day; <code>shift</code> a small change of level that stays; \
         <code>sequence</code> a course of values not seen before; <code>silence</code> samples that stop coming.</p>\n<div \
         class=\"wide\"><table><tr><th>detector<th>alarms<th>a week",
    );
    if known {
        let beside = if services {
            "<th>while another service had a fault"
        } else {
            ""
        };
        let _ = write!(text, "<th>right{beside}<th>false<th>precision<th>median delay");
    }
    text.push_str("</tr>\n");
    let mut line = |name: &str, sum: &Sum, class: &str| {
        let _ = write!(
            text,
            "<tr{class}><td>{}<td>{}<td>{}",
            escape(name),
            sum.alarms,
            figure(sum.alarms as f64 / weeks)
        );
        if known {
            let _ = write!(
                text,
                "<td class=\"right\">{}{}<td class=\"false\">{}<td>{}<td>{}",
                sum.right,
                if services {
                    format!("<td>{}", sum.beside)
                } else {
                    String::new()
                },
                sum.wrong,
                share(sum.precision()),
                sum.delay.map_or("–".into(), |delay| how_long(delay as f64))
            );
        }
        text.push_str("</tr>\n");
    };
    let mut by: Vec<(&String, &Sum)> = judged.by_detector.iter().collect();
    by.sort_by_key(|(name, sum)| (std::cmp::Reverse(sum.alarms), *name));
    for (name, sum) in by {
        line(name, sum, "");
    }
    line("all", &judged.all, " class=\"now\"");
    text.push_str("</table></div></section>\n");
}

fn budgets(text: &mut String, rows: &[Row], weeks: f64, known: bool) {
    text.push_str(
        "<section><h2>What another budget would have given</h2>\n<p class=\"muted\">A budget such as 5/1w (<code>alarms: {at_most: 5, per: \
         1w}</code>) raises about five alarms a week where there is nothing but noise, and never more than ten. Each row is a run of its \
         own over the same telemetry. A smaller budget costs fewer looks at false alarms, and finds less.</p>\n<div \
         class=\"wide\"><table><tr><th>budget of alarms<th>alarms<th>a week<th>worst week<th>suppressed",
    );
    if known {
        text.push_str("<th>faults found<th>recall<th>precision<th>median delay");
    }
    text.push_str("</tr>\n");
    for row in rows {
        let all = &row.judged.all;
        let _ = write!(
            text,
            "<tr{}><td>{}<td>{}<td>{}<td>{}<td>{}",
            if row.current { " class=\"now\"" } else { "" },
            escape(&row.name),
            all.alarms,
            figure(all.alarms as f64 / weeks),
            row.worst,
            row.suppressed
        );
        if known {
            let _ = write!(
                text,
                "<td>{} of {}<td>{}<td>{}<td>{}",
                row.judged.hits(),
                row.judged.found.len(),
                share(row.judged.recall()),
                share(all.precision()),
                all.delay.map_or("–".into(), |delay| how_long(delay as f64))
            );
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</table></div></section>\n");
}

fn spans(text: &mut String, ground: &Ground, seen: &Seen, judged: &Judgement) {
    let spans = ground.spans.as_deref().unwrap_or_default();
    let told = spans.iter().any(|span| !span.what.is_empty());
    let _ = write!(
        text,
        "<section><h2>Known faults</h2>\n<p class=\"muted\">What was said to have been wrong, and whether it was found.</p>\n<div \
         class=\"wide\"><table><tr><th>where{}<th class=\"text\">from<th class=\"text\">to<th \
         class=\"text\">found<th>after<th class=\"text\">by</tr>\n",
        if told { "<th class=\"text\">what" } else { "" }
    );
    for (span, found) in spans.iter().zip(&judged.found).take(ROWS) {
        let by = found.and_then(|at| {
            let mut of = seen.alarms.iter().filter(|alarm| alarm.raised.at == at);
            of.find(|alarm| span.is_of(&alarm.raised.metric, &alarm.raised.labels))
        });
        let _ = write!(
            text,
            "<tr><td>{}{}<td class=\"text\">{}<td class=\"text\">{}",
            escape(&span.place()),
            if told {
                format!("<td class=\"text\">{}", escape(&span.what))
            } else {
                String::new()
            },
            minute(span.from),
            minute(span.to)
        );
        let _ = match found {
            Some(at) => writeln!(
                text,
                "<td class=\"text right\">found<td>{}<td class=\"text\">{}</tr>",
                how_long(at.since(span.from).as_millis() as f64),
                by.map_or(String::new(), |alarm| escape(&alarm.raised.detector))
            ),
            None => text.write_str("<td class=\"text false\">missed<td>–<td></tr>\n"),
        };
    }
    text.push_str("</table></div>");
    left_out(text, spans.len(), "faults");
    text.push_str("</section>\n");
}

fn incidents(text: &mut String, ground: &Ground, seen: &Seen) {
    if seen.incidents.is_empty() {
        return;
    }
    text.push_str(
        "<section><h2>Incidents</h2>\n<p class=\"muted\">What people would have been told: anomalies that belong together, with their \
         likeliest cause.",
    );
    let entity = &ground.loaded.pipeline.entity;
    let faults: Vec<_> = ground
        .spans
        .iter()
        .flatten()
        .filter_map(|span| Some((span, span.service(entity)?)))
        .collect();
    if !faults.is_empty() {
        let during = seen.incidents.values().filter_map(|incident| {
            let (_, service) = faults.iter().find(|(span, _)| span.holds(incident.opened_at))?;
            Some(incident.hypotheses.first()?.service.as_deref() == Some(*service))
        });
        let (mut opened, mut blamed) = (0, 0);
        for right in during {
            opened += 1;
            blamed += usize::from(right);
        }
        let _ = write!(
            text,
            " {opened} of {} opened during a known fault of a service, and {blamed} of these blame that service first.",
            seen.incidents.len()
        );
    }
    text.push_str(
        "</p>\n<div class=\"wide\"><table><tr><th>opened<th class=\"text\">severity<th class=\"text\">what<th class=\"text\">likeliest \
         cause<th>sure to<th>lasted</tr>\n",
    );
    for incident in seen.incidents.values().take(ROWS) {
        let cause = incident.hypotheses.first();
        let of = |first: &suture_event::Hypothesis| match (&first.service, &first.change) {
            (Some(service), Some(change)) => format!("{} {change} of {service}", first.class),
            (Some(service), None) => format!("{} in {service}", first.class),
            _ => first.class.to_string(),
        };
        let _ = writeln!(
            text,
            "<tr><td>{}<td class=\"text\">{}<td class=\"text\">{}<td class=\"text\">{}<td>{}<td>{}</tr>",
            minute(incident.opened_at),
            format!("{:?}", incident.severity).to_lowercase(),
            escape(&incident.title),
            escape(&cause.map_or(String::new(), of)),
            share(cause.map(|cause| cause.probability)),
            incident.resolved_at.map_or("open".into(), |at| how_long(
                at.since(incident.opened_at).as_millis() as f64
            ))
        );
    }
    text.push_str("</table></div>");
    left_out(text, seen.incidents.len(), "incidents");
    text.push_str("</section>\n");
}

fn left_out(text: &mut String, all: usize, what: &str) {
    if all > ROWS {
        let _ = write!(text, "<p class=\"muted\">and {} {what} more</p>", all - ROWS);
    }
}

/// Draws series, those with spans and alarms first; what the plots are made of.
fn series(text: &mut String, ground: &Ground, seen: &Seen, judged: &Judgement, plots: usize) -> Vec<serde_json::Value> {
    let spans = ground.spans.as_deref().unwrap_or_default();
    let mut drawn: Vec<(usize, usize, &Course, Vec<usize>)> = Vec::new();
    for course in seen.courses.values() {
        if course.points.is_empty() {
            continue;
        }
        let is =
            |alarm: &super::seen::Alarm| alarm.raised.metric == course.metric && alarm.raised.labels == course.labels;
        let alarms: Vec<usize> = (0..seen.alarms.len()).filter(|at| is(&seen.alarms[*at])).collect();
        let known = spans.iter().filter(|span| span.is_of(&course.metric, &course.labels));
        drawn.push((known.count(), alarms.len(), course, alarms));
    }
    drawn.sort_by_key(|(known, alarms, course, _)| {
        (
            std::cmp::Reverse((*known > 0, *alarms)),
            named(&course.metric, &course.labels),
        )
    });
    let _ = write!(
        text,
        "<section><h2>Series</h2>\n<p class=\"muted\">Drag across a plot to look closer, double-click to see all again; with the \
         keyboard, left and right read values.</p>\n<ul class=\"key\"><li><i class=\"measured\"></i>measured<li><i \
         class=\"band\"></i>where it was expected"
    );
    if ground.spans.is_none() {
        text.push_str("<li><i class=\"f\"></i>▼ alarm");
    } else {
        let beside = "<li><i class=\"b\"></i>■ while another service had one";
        let _ = write!(
            text,
            "<li><i class=\"known\"></i>known fault<li><i class=\"r\"></i>● alarm in a known fault{}<li><i class=\"f\"></i>▼ alarm \
             when nothing is known to be wrong",
            if of_services(ground) { beside } else { "" }
        );
    }
    text.push_str("</ul>\n");
    let mut data = Vec::new();
    for (index, (_, _, course, alarms)) in drawn.iter().take(plots).enumerate() {
        let name = escape(&named(&course.metric, &course.labels));
        let count = counted(alarms.len(), "alarm", "alarms");
        let _ = write!(
            text,
            "<figure><figcaption><b>{name}</b><output></output></figcaption>\n<div class=\"canvas\" tabindex=\"0\" role=\"img\" \
             aria-label=\"{name}, {count}\" data-series=\"{index}\"></div>"
        );
        if !alarms.is_empty() {
            let _ = write!(text, "<details><summary>{count}</summary><ol>");
            for alarm in alarms.iter().take(TOLD).map(|at| &seen.alarms[*at].raised) {
                let _ = write!(
                    text,
                    "<li>{} by <code>{}</code>: {}",
                    minute(alarm.at),
                    escape(&alarm.detector),
                    escape(&alarm.detail)
                );
            }
            if alarms.len() > TOLD {
                let _ = write!(text, "<li>and {} more", alarms.len() - TOLD);
            }
            text.push_str("</ol></details>");
        }
        text.push_str("</figure>\n");
        data.push(one(course, alarms, seen, judged, spans));
    }
    let more = seen.courses.len().saturating_sub(data.len());
    if more > 0 {
        let _ = write!(
            text,
            "<p class=\"muted\">and {more} series more: --plots draws more of them</p>"
        );
    }
    text.push_str("</section>\n");
    data
}

#[allow(clippy::cast_possible_truncation)] // six digits are more than a screen shows
fn one(
    course: &Course,
    alarms: &[usize],
    seen: &Seen,
    judged: &Judgement,
    spans: &[super::labels::Span],
) -> serde_json::Value {
    let seconds = |at: Timestamp| at.as_millis() as f64 / 1_000.0;
    let number = |value: f64| json!(short(value));
    let band = |which: usize| -> Vec<_> {
        let points = course.points.iter();
        points
            .map(|point| point.band.map_or(serde_json::Value::Null, |band| number(band[which])))
            .collect()
    };
    let alarms: Vec<_> = alarms
        .iter()
        .map(|at| {
            let alarm = &seen.alarms[*at];
            let worth = match judged.worths.get(*at) {
                Some(Worth::Right) => "right",
                Some(Worth::Beside) => "beside",
                Some(Worth::False) => "false",
                None => "alarm",
            };
            json!({"at": seconds(alarm.raised.at), "to": alarm.ended_at.map(seconds), "worth": worth})
        })
        .collect();
    let spans: Vec<_> = spans
        .iter()
        .filter(|span| span.is_of(&course.metric, &course.labels))
        .map(|span| json!({"from": seconds(span.from), "to": seconds(span.to)}))
        .collect();
    json!({
        "at": course.points.iter().map(|point| seconds(point.ts)).collect::<Vec<_>>(),
        "value": course.points.iter().map(|point| number(point.value)).collect::<Vec<_>>(),
        "lower": band(0),
        "upper": band(2),
        "alarms": alarms,
        "spans": spans,
    })
}

/// Six significant digits, which is more than a screen shows; nothing for what is no number.
fn short(value: f64) -> Option<f64> {
    value
        .is_finite()
        .then(|| format!("{value:.5e}").parse().unwrap_or(value))
}

fn minute(at: Timestamp) -> String {
    at.to_string().chars().take(16).collect::<String>().replace('T', " ")
}

fn counted(n: usize, one: &str, more: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { more })
}

fn share(value: Option<f64>) -> String {
    value.map_or("–".into(), |value| format!("{:.0}%", 100.0 * value))
}

fn figure(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 0.1 || value == 0.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// Milliseconds in the unit that suits.
fn how_long(millis: f64) -> String {
    let (value, unit) = match millis / 60_000.0 {
        minutes if minutes < 1.0 => (millis / 1_000.0, "s"),
        minutes if minutes < 120.0 => (minutes, "min"),
        minutes if minutes < 48.0 * 60.0 => (minutes / 60.0, "h"),
        minutes if minutes < 28.0 * 1_440.0 => (minutes / 1_440.0, "days"),
        minutes => (minutes / 10_080.0, "weeks"),
    };
    let digits = usize::from(value < 10.0 && value.fract() != 0.0);
    format!("{value:.digits$} {unit}")
}

/// A text within HTML, also within quotes.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short() {
        let spans = [
            500.0,
            90_000.0,
            3.0 * 3_600_000.0,
            9e6,
            5.0 * 86_400_000.0,
            6.0 * 604_800_000.0,
        ];
        assert_eq!(
            spans.map(how_long),
            ["0.5 s", "1.5 min", "3 h", "2.5 h", "5 days", "6 weeks"]
        );
        assert_eq!([0.0, 0.04, 2.345, 345.6].map(figure), ["0.0", "0.04", "2.3", "346"]);
        assert_eq!(short(123_456_789.0), Some(123_457_000.0));
        assert_eq!(short(f64::NAN), None);
    }
}
