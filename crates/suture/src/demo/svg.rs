//! A screen as a picture: the cells of a terminal buffer as SVG text.

use std::fmt::Write as _;

use ratatui::{
    buffer::{Buffer, Cell},
    layout::Rect,
    style::{Color, Modifier},
    widgets::Widget,
};

use super::Screen;

/// Width and height of a cell in pixels, of a font of [`FONT`] pixels.
const CELL: (f64, f64) = (8.4, 17.0);
const FONT: f64 = 14.0;
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

/// Any buffer as an SVG file: runs of cells of one style become one text each.
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
        width + 16.0,
        height + 16.0
    );
    let _ = writeln!(out, "<rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{PAPER}\"/>");
    for row in 0..area.height {
        let mut column = 0;
        while column < area.width {
            let Some(first) = buffer.cell((area.x + column, area.y + row)) else {
                break;
            };
            let mut text = String::new();
            let start = column;
            while let Some(cell) = buffer.cell((area.x + column, area.y + row)).filter(|c| alike(c, first)) {
                text.push_str(cell.symbol());
                column += 1;
                if column >= area.width {
                    break;
                }
            }
            run(&mut out, first, &text, (start, row), column - start);
        }
    }
    out.push_str("</svg>\n");
    out
}

fn alike(a: &Cell, b: &Cell) -> bool {
    a.fg == b.fg && a.bg == b.bg && a.modifier == b.modifier
}

fn run(out: &mut String, style: &Cell, text: &str, (column, row): (u16, u16), length: u16) {
    let (x, y) = (8.0 + f64::from(column) * CELL.0, 8.0 + f64::from(row) * CELL.1);
    let width = f64::from(length) * CELL.0;
    if let Some(paper) = hex(style.bg) {
        let _ = writeln!(
            out,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{paper}\"/>",
            CELL.1
        );
    }
    if text.trim().is_empty() {
        return;
    }
    let ink = hex(style.fg).unwrap_or(INK);
    let bold = if style.modifier.contains(Modifier::BOLD) {
        " font-weight=\"bold\""
    } else {
        ""
    };
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    // the length holds the grid whatever the font's own width
    let _ = writeln!(
        out,
        "<text x=\"{x:.1}\" y=\"{:.1}\" fill=\"{ink}\"{bold} textLength=\"{width:.1}\" \
         lengthAdjust=\"spacingAndGlyphs\">{escaped}</text>",
        y + CELL.1 - 4.0
    );
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
