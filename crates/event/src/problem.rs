//! What is wrong with options: said in one way by every crate that has some, and told by whoever reads the file.

use std::{
    fmt::{self, Display},
    ops::RangeInclusive,
};

/// Something in options that cannot be, and what would be right. As a text: `path: message; help`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, as a path of keys from the options' root: `a.b[2].c`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

impl Problem {
    /// Something wrong at this place.
    pub fn new(path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            message: message.into(),
            help: help.into(),
        }
    }

    /// The same of options that stand below a key of others.
    #[must_use]
    pub fn below(self, key: impl Display) -> Self {
        Self {
            path: format!("{key}.{}", self.path),
            ..self
        }
    }

    /// All of them as a text, one a line.
    #[must_use]
    pub fn lines(problems: &[Self]) -> String {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.path, self.message, self.help)
    }
}

/// Goes through options and keeps what is wrong with them, in the order in which it was looked for.
#[derive(Debug, Default)]
pub struct Checker(Vec<Problem>);

impl Checker {
    /// Notes a problem.
    pub fn wrong(&mut self, path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        self.0.push(Problem::new(path, message, help));
    }

    /// Notes a problem unless this holds.
    pub fn that(&mut self, holds: bool, path: impl Into<String>, message: impl Into<String>, help: impl Into<String>) {
        if !holds {
            self.wrong(path, message, help);
        }
    }

    /// A value that must be within bounds; `why` goes on from the value.
    pub fn within<T: PartialOrd + Display>(&mut self, path: &str, value: T, range: RangeInclusive<T>, why: &str) {
        if !range.contains(&value) {
            let help = format!("write {} to {}", range.start(), range.end());
            self.wrong(path, format!("{value} {why}"), help);
        }
    }

    /// Notes the problems of options below a key.
    pub fn below(&mut self, key: impl Display, problems: impl IntoIterator<Item = Problem>) {
        self.0.extend(problems.into_iter().map(|problem| problem.below(&key)));
    }

    /// Everything that was found.
    #[must_use]
    pub fn found(self) -> Vec<Problem> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_kept_with_its_whole_path() {
        let mut inner = Checker::default();
        inner.within("learn", 3, 5..=9, "windows are too few");
        inner.that(true, "fine", "", "");
        let mut outer = Checker::default();
        outer.that(false, "name", "is empty", "write one");
        outer.below("rules[1]", inner.found());
        assert_eq!(
            Problem::lines(&outer.found()),
            "name: is empty; write one\nrules[1].learn: 3 windows are too few; write 5 to 9"
        );
    }
}
