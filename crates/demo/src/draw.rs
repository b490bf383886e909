//! The screen: series on the left, the incident in focus on the right, the story below.

use ratatui::{
    buffer::Buffer,
    layout::{Constraint, Layout, Rect},
    style::{Color, Style, Stylize},
    text::{Line, Span as Piece},
    widgets::{Block, BorderType, Gauge, Paragraph, Widget, Wrap},
};
use suture_event::{Incident, IncidentStatus, Severity, SignalState};

use crate::{
    chart::Chart,
    lines::{Told, Tone, named},
    model::Screen,
    story::clock,
};

impl Widget for &Screen {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        if area.width < 40 || area.height < 12 {
            Paragraph::new("the terminal is too small: 80 by 24 shows all")
                .wrap(Wrap { trim: true })
                .render(area, buffer);
            return;
        }
        let log = (area.height / 4).clamp(5, 10);
        let [top, middle, bottom] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(6), Constraint::Length(log)]).areas(area);
        let [left, right] = Layout::horizontal([Constraint::Percentage(54), Constraint::Min(20)]).areas(middle);
        self.draw_header(top, buffer);
        self.draw_series(left, buffer);
        self.draw_incident(right, buffer);
        self.draw_log(bottom, buffer);
    }
}

impl Screen {
    fn draw_header(&self, area: Rect, buffer: &mut Buffer) {
        let table = self.story.table();
        let day = self.now.to_string();
        let date = day.get(..10).unwrap_or_default();
        let left = Line::from(vec![
            " suture demo ".bold().black().on_cyan(),
            format!("  {date} {}  ", clock(self.now)).into(),
            format!("{:.0}x", self.speed).dark_gray(),
        ]);
        let right = Line::from(vec![
            format!("broken {}", table.rows.len()).red(),
            format!("  found {}", table.found()).yellow(),
            format!("  blamed right {}", table.blamed_right()).cyan(),
            format!("  healed {}", table.healed()).green(),
            "  q quits ".dark_gray(),
        ])
        .right_aligned();
        left.render(area, buffer);
        let room = u16::try_from(right.width()).unwrap_or(area.width);
        // a narrow terminal keeps the clock and loses the counts
        if room + 44 <= area.width {
            right.render(area, buffer);
        }
    }

    fn draw_series(&self, area: Rect, buffer: &mut Buffer) {
        let block = Block::bordered()
            .border_type(BorderType::Rounded)
            .border_style(Style::new().dark_gray())
            .title(" series, ░ what is expected, ▲ deploy ▼ rollback ");
        let inner = block.inner(area);
        block.render(area, buffer);
        if let Some(share) = self.learning {
            let [_, row, note, _] = Layout::vertical([
                Constraint::Fill(1),
                Constraint::Length(1),
                Constraint::Length(2),
                Constraint::Fill(1),
            ])
            .areas(inner);
            let label = format!("learning what is usual: {:.0}%", share * 100.0);
            Gauge::default()
                .ratio(share.clamp(0.0, 1.0))
                .label(label)
                .gauge_style(Style::new().cyan())
                .render(row, buffer);
            Paragraph::new("nothing is alarmed meanwhile")
                .dark_gray()
                .centered()
                .render(note, buffer);
            return;
        }
        let count = usize::from((inner.height / 5).clamp(1, 5));
        let shown = self.shown(count);
        let rows = Layout::vertical(vec![Constraint::Fill(1); shown.len().max(1)]).split(inner);
        let marks: Vec<_> = self.marks.iter().cloned().collect();
        for ((key, trace), row) in shown.into_iter().zip(rows.iter()) {
            Chart {
                key,
                trace,
                marks: &marks,
                now: self.now,
            }
            .render(*row, buffer);
        }
    }

    fn draw_incident(&self, area: Rect, buffer: &mut Buffer) {
        let open = self
            .incidents
            .iter()
            .filter(|i| i.status == IncidentStatus::Open)
            .count();
        let block = Block::bordered()
            .border_type(BorderType::Rounded)
            .border_style(Style::new().dark_gray())
            .title(format!(" incidents: {} open, {} in all ", open, self.incidents.len()));
        let inner = block.inner(area);
        block.render(area, buffer);
        let lines = match self.focus() {
            Some(incident) => describe(incident),
            None => vec![Line::from("none").dark_gray()],
        };
        Paragraph::new(lines).wrap(Wrap { trim: false }).render(inner, buffer);
    }

    fn draw_log(&self, area: Rect, buffer: &mut Buffer) {
        let block = Block::bordered()
            .border_type(BorderType::Rounded)
            .border_style(Style::new().dark_gray())
            .title(" story ");
        let inner = block.inner(area);
        block.render(area, buffer);
        let room = usize::from(inner.height);
        let skip = self.lines.len().saturating_sub(room);
        for (row, told) in self.lines.iter().skip(skip).enumerate() {
            let y = inner.y + u16::try_from(row).unwrap_or(u16::MAX - inner.y);
            story_line(told).render(Rect { y, height: 1, ..inner }, buffer);
        }
    }
}

/// The colour of a line.
pub(super) fn colour(tone: Tone) -> Color {
    match tone {
        Tone::Plain => Color::Gray,
        Tone::Change => Color::Yellow,
        Tone::Bad => Color::Red,
        Tone::Alert => Color::Magenta,
        Tone::Act => Color::Cyan,
        Tone::Good => Color::Green,
    }
}

fn story_line(told: &Told) -> Line<'_> {
    Line::from(vec![
        Piece::raw(clock(told.at)).dark_gray(),
        Piece::raw(format!(" {:9} ", told.tag)).fg(colour(told.tone)).bold(),
        Piece::raw(told.text.as_str()),
    ])
}

/// An incident in full: what, since when, the ranked causes with their evidence.
fn describe(incident: &Incident) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let state = match (incident.status, incident.severity) {
        (IncidentStatus::Resolved, _) => " RESOLVED ".black().on_green(),
        (_, Severity::Critical) => " CRITICAL ".white().on_red(),
        (_, Severity::Warning) => " WARNING ".black().on_yellow(),
        (_, Severity::Info) => " INFO ".black().on_gray(),
    };
    lines.push(Line::from(vec![
        state,
        format!(" since {}", clock(incident.opened_at)).into(),
    ]));
    lines.push(Line::from(incident.title.clone()).bold());
    let active = incident
        .signals
        .iter()
        .filter(|s| s.state == SignalState::Active)
        .count();
    let signals = format!("{} signals, {active} still outside their band", incident.signals.len());
    lines.push(Line::from(signals).dark_gray());
    for hypothesis in incident.hypotheses.iter().take(3) {
        let first = hypothesis.rank == 1;
        let chance = format!("{:3.0}% ", hypothesis.probability * 100.0);
        let name = named(hypothesis);
        lines.push(Line::from(vec![
            if first { chance.yellow().bold() } else { chance.gray() },
            if first { name.bold() } else { name.gray() },
        ]));
        for evidence in hypothesis.evidence.iter().take(if first { 4 } else { 1 }) {
            let weight = format!("  {:+.1} ", evidence.weight);
            let weight = if evidence.weight >= 0.0 {
                weight.green()
            } else {
                weight.red()
            };
            lines.push(Line::from(vec![weight, evidence.detail.clone().gray()]));
        }
    }
    lines.push(Line::from(format!("{:3.0}% none of these", incident.none_of_these * 100.0)).dark_gray());
    lines
}
