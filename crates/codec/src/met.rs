//! For tests: a sink that knows the series it has met.

use suture_event::Timestamp;

use crate::{RawKey, SampleRef, Sink};

/// The series that came in full, by their keys, and how often one was known.
#[derive(Default)]
pub(crate) struct Met {
    pub(crate) series: Vec<(RawKey, String)>,
    pub(crate) known: usize,
}

impl Met {
    pub(crate) fn names(&self) -> Vec<&str> {
        self.series.iter().map(|(_, name)| name.as_str()).collect()
    }
}

impl Sink for Met {
    fn known(&mut self, key: RawKey, _: Timestamp, _: f64) -> bool {
        let known = self.series.iter().any(|(met, _)| *met == key);
        self.known += usize::from(known);
        known
    }

    fn sample(&mut self, sample: SampleRef<'_>, key: Option<RawKey>) {
        self.series.push((key.unwrap(), sample.key().unwrap().to_string()));
    }
}
