//! A file, line by line, with no bound on its length and one on a line's.

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use anyhow::Context;

/// A longer line is refused; what is kept of it is this long.
const MOST: u64 = 64 << 20;

/// One line, without its end.
pub(crate) struct Line<'a> {
    /// From 1.
    pub(crate) number: i64,
    pub(crate) text: &'a [u8],
}

/// Reads the lines of a file that are not blank.
pub(crate) struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    line: Vec<u8>,
    number: i64,
    good: u64,
    read: u64,
    bytes: u64,
}

impl Lines {
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let bytes = file.metadata().map_or(0, |meta| meta.len());
        Ok(Self {
            path: path.to_owned(),
            reader: BufReader::with_capacity(1 << 20, file),
            line: Vec::new(),
            number: 0,
            good: 0,
            read: 0,
            bytes,
        })
    }

    pub(crate) fn next_line(&mut self) -> anyhow::Result<Option<Line<'_>>> {
        loop {
            self.line.clear();
            let read = self
                .reader
                .by_ref()
                .take(MOST)
                .read_until(b'\n', &mut self.line)
                .with_context(|| format!("cannot read {} beyond line {}", self.path.display(), self.number))?;
            if read == 0 {
                return Ok(None);
            }
            self.read += read as u64;
            self.number += 1;
            if !self.line.iter().all(u8::is_ascii_whitespace) {
                break;
            }
        }
        self.good += 1;
        Ok(Some(Line {
            number: self.number,
            text: self.line.trim_ascii_end(),
        }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lines that were not blank, so far.
    pub(crate) fn lines_read(&self) -> u64 {
        self.good
    }

    pub(crate) fn bytes_read(&self) -> u64 {
        self.read
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
