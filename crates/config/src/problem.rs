//! What is wrong with a file, where, and what would be right.

use std::{fmt, ops::Range, sync::Arc};

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme, LabeledSpan, NamedSource, SourceCode};
use serde::Serialize;

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// The file cannot be used.
    Error,
    /// It can, but hardly does what was meant.
    Warning,
}

/// One problem. As JSON: `level`, `code`, `file`, `line`, `column`, `path`, `message` and `help`.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub level: Level,
    /// What kind of problem it is, such as `unknown_key`: stable, for tools.
    pub code: &'static str,
    /// The file's name as it was given.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key it is about, as `signals[2].match.metric`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
    /// The offending bytes of the file.
    #[serde(skip)]
    pub span: Range<usize>,
    #[serde(skip)]
    source: Arc<NamedSource<Arc<str>>>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn code<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        Some(Box::new(self.code))
    }
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.level {
            Level::Error => miette::Severity::Error,
            Level::Warning => miette::Severity::Warning,
        })
    }
    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        (!self.help.is_empty()).then(|| Box::new(&self.help) as Box<dyn fmt::Display + 'a>)
    }
    fn source_code(&self) -> Option<&dyn SourceCode> {
        Some(&*self.source)
    }
    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let label = LabeledSpan::new(None, self.span.start, self.span.len());
        Some(Box::new(std::iter::once(label)))
    }
}

/// How problems are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// Lines and colours, for a terminal that many characters wide.
    Fancy {
        /// Columns of the terminal.
        width: usize,
    },
    /// ASCII without colours, for files and pipes.
    Plain,
}

/// All problems of a file, in order of their places. As JSON: a list.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(transparent)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// The problems, in order of their places.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.0.iter()
    }

    /// How many there are, warnings included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether any of them keeps the file from being used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.0.iter().any(|problem| problem.level == Level::Error)
    }

    /// Takes the problems of another file in, after these.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// Every problem with its place, the text underlined, and what would be right; a count at the end.
    #[must_use]
    pub fn render(&self, look: Look) -> String {
        let handler = match look {
            Look::Fancy { width } => {
                GraphicalReportHandler::new_themed(GraphicalTheme::unicode()).with_width(width.clamp(40, 200))
            }
            Look::Plain => GraphicalReportHandler::new_themed(GraphicalTheme::none()).with_width(100),
        }
        .with_context_lines(1)
        .with_links(false);
        let mut text = String::new();
        for problem in &self.0 {
            // writing to a text does not fail
            let _ = handler.render_report(&mut text, problem);
            text.push('\n');
        }
        text.push_str(&self.to_string());
        text.push('\n');
        text
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let errors = self.0.iter().filter(|problem| problem.level == Level::Error).count();
        let warnings = self.0.len() - errors;
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let said = match (errors, warnings) {
            (0, 0) => return f.write_str("no problems"),
            (0, _) => count(warnings, "warning"),
            (_, 0) => count(errors, "error"),
            _ => format!("{} and {}", count(errors, "error"), count(warnings, "warning")),
        };
        let file = self.0.first().map_or("", |problem| &problem.file);
        write!(f, "{said} in {file}")
    }
}

impl std::error::Error for Problems {}

impl Diagnostic for Problems {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.0.iter().map(|problem| problem as &dyn Diagnostic)))
    }
}

/// Collects the problems of one file.
pub(crate) struct Report {
    file: Arc<str>,
    text: Arc<str>,
    /// Places that are not shown in excerpts.
    hidden: Vec<Range<usize>>,
    source: Arc<NamedSource<Arc<str>>>,
    found: Vec<Problem>,
}

impl Report {
    pub(crate) fn new(file: &str, text: &str) -> Self {
        let text: Arc<str> = text.into();
        let source = Arc::new(NamedSource::new(file, Arc::clone(&text)).with_language("yaml"));
        Self {
            file: file.into(),
            text,
            hidden: Vec::new(),
            source,
            found: Vec::new(),
        }
    }

    /// Shows stars in place of these bytes of the file.
    pub(crate) fn hide(&mut self, places: Vec<Range<usize>>) {
        self.hidden.extend(places);
    }

    pub(crate) fn error(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        path: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Level::Error, code, span, path.into(), message.into(), help.into());
    }

    pub(crate) fn warning(
        &mut self,
        code: &'static str,
        span: Range<usize>,
        path: impl Into<String>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.push(Level::Warning, code, span, path.into(), message.into(), help.into());
    }

    fn push(
        &mut self,
        level: Level,
        code: &'static str,
        span: Range<usize>,
        path: String,
        message: String,
        help: String,
    ) {
        let span = self.tidy(span);
        if self
            .found
            .iter()
            .any(|known| known.span == span && known.message == message)
        {
            return; // the same text reached twice, through an alias or an override
        }
        let (line, column) = self.place(span.start);
        let (file, source) = (Arc::clone(&self.file), Arc::clone(&self.source));
        self.found.push(Problem {
            level,
            code,
            file,
            line,
            column,
            path,
            message,
            help,
            span,
            source,
        });
    }

    /// A span within the text, on one line, without white space at its end, and at least one character long where there is one.
    fn tidy(&self, span: Range<usize>) -> Range<usize> {
        let floor = |mut at: usize| {
            at = at.min(self.text.len());
            while !self.text.is_char_boundary(at) {
                at -= 1;
            }
            at
        };
        let start = floor(span.start);
        let rest = self.text.get(start..floor(span.end.max(start))).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default().trim_end();
        if line.is_empty() {
            let next = self
                .text
                .get(start..)
                .and_then(|rest| rest.chars().next())
                .filter(|c| *c != '\n' && *c != '\r');
            return start..start + next.map_or(0, char::len_utf8);
        }
        start..start + line.len()
    }

    fn place(&self, at: usize) -> (usize, usize) {
        let before = self.text.get(..at).unwrap_or_default();
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }

    pub(crate) fn has_errors(&self) -> bool {
        self.found.iter().any(|problem| problem.level == Level::Error)
    }

    pub(crate) fn finish(mut self) -> Problems {
        if !self.hidden.is_empty() {
            let starred = |at: usize| self.hidden.iter().any(|place| place.contains(&at));
            // a star for each byte, so that every other place stays where it is
            let stars = |(at, c): (usize, char)| {
                let (shown, times) = if starred(at) && c != '\n' && c != '\r' {
                    ('*', c.len_utf8())
                } else {
                    (c, 1)
                };
                std::iter::repeat_n(shown, times)
            };
            let text: Arc<str> = self.text.char_indices().flat_map(stars).collect::<String>().into();
            let source = Arc::new(NamedSource::new(&*self.file, text).with_language("yaml"));
            self.found
                .iter_mut()
                .for_each(|problem| problem.source = Arc::clone(&source));
        }
        self.found.sort_by_key(|problem| (problem.span.start, problem.span.end));
        Problems(self.found)
    }
}
