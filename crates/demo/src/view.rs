//! How the story reaches the reader: a live screen on a terminal, plain lines elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use ratatui::{
    DefaultTerminal,
    crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers},
    style::Color,
};

use crate::{
    DemoEvent, Screen,
    draw::colour,
    lines::{Told, Tone},
    story::{Story, clock},
};

/// The screen is drawn at most this often.
const FRAME: Duration = Duration::from_millis(50);

/// What the reader wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Continue,
    /// Stop.
    Quit,
}

/// Where the story goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The live screen, if standard output is a terminal; plain lines otherwise.
    Auto,
    /// Plain lines.
    Plain,
    /// Nothing until the end.
    Quiet,
}

/// The reader's side of the demo. Dropping it gives the terminal back; so does a panic.
pub struct View {
    screen: Screen,
    output: Output,
}

enum Output {
    Live {
        terminal: Box<DefaultTerminal>,
        drawn: Option<Instant>,
    },
    Plain {
        colours: bool,
    },
    Quiet,
}

impl View {
    /// Takes the terminal, where there is one.
    ///
    /// # Errors
    /// Where the terminal cannot be set up.
    pub fn open(mode: Mode, story: Story) -> io::Result<Self> {
        let terminal = io::stdout().is_terminal();
        let output = match mode {
            Mode::Auto if terminal && io::stdin().is_terminal() => Output::Live {
                terminal: Box::new(ratatui::try_init()?),
                drawn: None,
            },
            Mode::Auto | Mode::Plain => Output::Plain {
                colours: terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
            },
            Mode::Quiet => Output::Quiet,
        };
        Ok(Self {
            screen: Screen::new(story),
            output,
        })
    }

    /// Takes in what happened; plain lines are written at once.
    ///
    /// # Errors
    /// Where standard output cannot be written.
    pub fn show(&mut self, event: &DemoEvent) -> io::Result<()> {
        let told = self.screen.take(event);
        if let Output::Plain { colours } = self.output {
            let mut out = io::stdout().lock();
            for line in &told {
                writeln!(out, "{}", plain(line, colours))?;
            }
            out.flush()?;
        }
        Ok(())
    }

    /// Draws, if a frame is due, and asks what the reader wants. Never waits.
    ///
    /// # Errors
    /// Where the terminal cannot be read or written.
    pub fn refresh(&mut self) -> io::Result<Flow> {
        let Output::Live { terminal, drawn } = &mut self.output else {
            return Ok(Flow::Continue);
        };
        let mut resized = false;
        while event::poll(Duration::ZERO)? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => {
                    let interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c');
                    if interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                        return Ok(Flow::Quit);
                    }
                }
                Event::Resize(..) => resized = true,
                _ => {}
            }
        }
        if resized || drawn.is_none_or(|at| at.elapsed() >= FRAME) {
            terminal.draw(|frame| frame.render_widget(&self.screen, frame.area()))?;
            *drawn = Some(Instant::now());
        }
        Ok(Flow::Continue)
    }

    /// Whether there is a live screen.
    #[must_use]
    pub fn is_live(&self) -> bool {
        matches!(self.output, Output::Live { .. })
    }

    /// What is on the screen, and the accounts.
    #[must_use]
    pub fn screen(&self) -> &Screen {
        &self.screen
    }

    /// Gives the terminal back and hands over what was on the screen.
    #[must_use]
    pub fn close(mut self) -> Screen {
        std::mem::take(&mut self.screen)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.is_live() {
            ratatui::restore();
        }
    }
}

/// One line of the story for a log.
fn plain(told: &Told, colours: bool) -> String {
    let (on, off) = if colours {
        (ansi(told.tone), "\x1b[0m")
    } else {
        ("", "")
    };
    format!("{} {on}{:9}{off} {}", clock(told.at), told.tag, told.text)
}

fn ansi(tone: Tone) -> &'static str {
    match colour(tone) {
        Color::Yellow => "\x1b[33m",
        Color::Red => "\x1b[31m",
        Color::Magenta => "\x1b[35m",
        Color::Cyan => "\x1b[36m",
        Color::Green => "\x1b[32m",
        _ => "\x1b[37m",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_coloured_on_a_terminal_only() {
        let told = Told {
            at: "2026-06-03T00:41:10Z".parse().unwrap(),
            tag: "healed",
            text: "full disk at cart is gone".into(),
            tone: Tone::Good,
        };
        assert_eq!(plain(&told, false), "00:41:10 healed    full disk at cart is gone");
        assert_eq!(
            plain(&told, true),
            "00:41:10 \u{1b}[32mhealed   \u{1b}[0m full disk at cart is gone"
        );
    }
}
