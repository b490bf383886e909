//! A screen as a picture: the cells of a terminal buffer as SVG text.

use std::fmt::Write as _;

use ratatui::{
    buffer::{Buffer, Cell},
    layout::Rect,
    style::{Color, Modifier},
    widgets::Widget,
};

use crate::Screen;

/// Width and height of a cell in pixels, of a font of [`FONT`] pixels.
const CELL: (f64, f64) = (8.4, 17.0);
const FONT: f64 = 14.0;
/// Room around the cells.
const MARGIN: f64 = 8.0;
const INK: &str = "#d8dee9";
const PAPER: &str = "#10141c";

/// The screen as it is now, as an SVG file of so many columns and rows.
#[must_use]
pub fn picture(screen: &Screen, columns: u16, rows: u16) -> String {
    let area = Rect::new(0, 0, columns, rows);
    let mut buffer = Buffer::empty(area);
    screen.render(area, &mut buffer);
    svg(&buffer)
}

/// Any buffer as an SVG file. Text becomes text, a run of one style each; lines, dots and shades are drawn, since fonts
/// differ in how wide they make them.
#[must_use]
pub fn svg(buffer: &Buffer) -> String {
    let area = buffer.area;
    let (width, height) = (f64::from(area.width) * CELL.0, f64::from(area.height) * CELL.1);
    let mut out = String::new();
    // writing to a text can't fail
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {:.0} {:.0}\" font-size=\"{FONT}\" \
         font-family=\"'DejaVu Sans Mono', Menlo, Consolas, monospace\" xml:space=\"preserve\">",
        width + 2.0 * MARGIN,
        height + 2.0 * MARGIN
    );
    let _ = writeln!(out, "<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{PAPER}\"/>");
    for row in 0..area.height {
        let cells: Vec<&Cell> = (0..area.width)
            .filter_map(|column| buffer.cell((area.x + column, area.y + row)))
            .collect();
        let mut column = 0;
        for run in cells.chunk_by(|a, b| alike(a, b)) {
            write_run(&mut out, run, column, row);
            column += run.len();
        }
    }
    out.push_str("</svg>\n");
    out
}

/// What a cell's symbol is drawn as.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ink {
    Text,
    /// The eight dots of a braille cell, as bits.
    Dots(u32),
    Shade,
    /// Lines from the cell's middle: left, right, up, down.
    Lines([bool; 4]),
}

fn ink(symbol: &str) -> Ink {
    match symbol {
        "░" => Ink::Shade,
        "─" => Ink::Lines([true, true, false, false]),
        "│" => Ink::Lines([false, false, true, true]),
        "╭" => Ink::Lines([false, true, false, true]),
        "╮" => Ink::Lines([true, false, false, true]),
        "╰" => Ink::Lines([false, true, true, false]),
        "╯" => Ink::Lines([true, false, true, false]),
        _ => match symbol.chars().next().map(u32::from) {
            Some(code @ 0x2800..=0x28ff) => Ink::Dots(code - 0x2800),
            _ => Ink::Text,
        },
    }
}

/// Whether two cells belong to one run: of one style, and both text or both drawn.
fn alike(a: &Cell, b: &Cell) -> bool {
    let text = |cell: &Cell| ink(cell.symbol()) == Ink::Text;
    a.fg == b.fg && a.bg == b.bg && a.modifier == b.modifier && text(a) == text(b)
}

#[allow(clippy::cast_precision_loss)] // columns of a terminal
fn write_run(out: &mut String, run: &[&Cell], column: usize, row: u16) {
    let Some(style) = run.first() else { return };
    let (x, y) = (MARGIN + column as f64 * CELL.0, MARGIN + f64::from(row) * CELL.1);
    let width = run.len() as f64 * CELL.0;
    if let Some(paper) = hex(style.bg) {
        let height = CELL.1;
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{paper}\"/>"
        );
    }
    let colour = hex(style.fg).unwrap_or(INK);
    if ink(style.symbol()) != Ink::Text {
        draw(out, run, (x, y), colour);
        return;
    }
    let text: String = run.iter().map(|cell| cell.symbol()).collect();
    if text.trim().is_empty() {
        return;
    }
    let bold = if style.modifier.contains(Modifier::BOLD) {
        " font-weight=\"bold\""
    } else {
        ""
    };
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // the length holds the grid whatever the font's own width
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{:.1}\" fill=\"{colour}\"{bold} textLength=\"{width:.1}\" \
         lengthAdjust=\"spacingAndGlyphs\">{escaped}</text>",
        y + CELL.1 - 4.0
    );
}

/// Dots, shades and lines of a run of cells.
#[allow(clippy::cast_precision_loss)] // columns of a terminal
fn draw(out: &mut String, run: &[&Cell], (left, top): (f64, f64), colour: &str) {
    let (mut dots, mut lines, mut shades) = (String::new(), String::new(), String::new());
    let (half, middle) = (CELL.0 / 2.0, top + CELL.1 / 2.0);
    for (index, cell) in run.iter().enumerate() {
        let x = left + index as f64 * CELL.0;
        match ink(cell.symbol()) {
            Ink::Dots(bits) => {
                // bit by bit: down the left column, then the right one, and the two dots of the lowest row
                let places = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)];
                for (_, (across, down)) in places.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1) {
                    let x = x + CELL.0 * (0.25 + 0.5 * f64::from(*across));
                    let y = top + CELL.1 * (0.125 + 0.25 * f64::from(*down));
                    let _ = write!(dots, "M{x:.1} {y:.1}h0");
                }
            }
            Ink::Shade => {
                let _ = write!(shades, "M{x:.1} {top:.1}h{:.1}v{:.1}h-{:.1}z", CELL.0, CELL.1, CELL.0);
            }
            Ink::Lines(arms) => {
                let ends = [
                    (x, middle),
                    (x + CELL.0, middle),
                    (x + half, top),
                    (x + half, top + CELL.1),
                ];
                for ((to_x, to_y), _) in ends.iter().zip(arms).filter(|(_, arm)| *arm) {
                    let _ = write!(lines, "M{:.1} {middle:.1}L{to_x:.1} {to_y:.1}", x + half);
                }
            }
            Ink::Text => {}
        }
    }
    if !dots.is_empty() {
        let round = "stroke-width=\"2.2\" stroke-linecap=\"round\"";
        let _ = writeln!(out, "<path d=\"{dots}\" stroke=\"{colour}\" {round}/>");
    }
    if !lines.is_empty() {
        let _ = writeln!(out, "<path d=\"{lines}\" stroke=\"{colour}\" stroke-width=\"1\"/>");
    }
    if !shades.is_empty() {
        let _ = writeln!(out, "<path d=\"{shades}\" fill=\"{colour}\" opacity=\"0.35\"/>");
    }
}

fn hex(colour: Color) -> Option<&'static str> {
    Some(match colour {
        Color::Black => "#10141c",
        Color::Red => "#e0606a",
        Color::LightRed => "#ff7b85",
        Color::Green | Color::LightGreen => "#8fc778",
        Color::Yellow | Color::LightYellow => "#ebc46d",
        Color::Blue | Color::LightBlue => "#6d9fe0",
        Color::Magenta | Color::LightMagenta => "#c58fdc",
        Color::Cyan => "#5fb8c4",
        Color::LightCyan => "#86dbe6",
        Color::Gray => "#aab4c4",
        Color::DarkGray => "#5b6678",
        Color::White => "#ffffff",
        _ => return None,
    })
}
