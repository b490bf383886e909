//! Further detectors of one series, each for one thing that the seasonal detector and the one of shifts don't look at.
//!
//! Each gets a block of entries with what the seasonal detector left of them, and says how unlikely each is. What it keeps
//! of a series it keeps in columns, or in a block of bytes a series where the paper's own structure is a tree or a list.

mod boxed;
mod changepoint;
mod drifts;
mod flatline;
mod forest;
mod leak;
mod own;
mod record;
mod run_out;
mod spike;
mod trend;
mod variance;

use std::any::Any;

use self::boxed::Boxed;
use crate::{
    DetectorName, Detectors, Error, Options,
    bank::Judged,
    state::{Columns, LANES, Lanes},
};

/// Codes of these detectors begin here; those of the first ones are lower.
const FIRST: u8 = 16;

/// These detectors, in the order of their codes. New ones go to the end: codes are kept in snapshots.
const ALL: [(DetectorName, &str); 14] = [
    (DetectorName::Variance, "variance"),
    (DetectorName::Trend, "trend"),
    (DetectorName::Flatline, "flatline"),
    (DetectorName::Spike, "spike"),
    (DetectorName::RunOut, "run_out"),
    (DetectorName::Leak, "leak"),
    (DetectorName::Changepoint, "changepoint"),
    (DetectorName::Forest, "forest"),
    (DetectorName::DriftMixture, "drift.mixture"),
    (DetectorName::DriftCusum, "drift.cusum"),
    (DetectorName::DriftPageHinkley, "drift.page_hinkley"),
    (DetectorName::DriftAdwin, "drift.adwin"),
    (DetectorName::DriftKswin, "drift.kswin"),
    (DetectorName::Record, "record"),
];

/// The name that belongs to a code from [`FIRST`] up.
pub(crate) fn name_of(code: u8) -> Option<&'static str> {
    ALL.get(usize::from(code.checked_sub(FIRST)?)).map(|(_, name)| *name)
}

/// The code of a detector of this kind.
pub(crate) fn code_of(name: DetectorName) -> Option<u8> {
    let place = ALL.iter().position(|(known, _)| *known == name)?;
    u8::try_from(place).ok().map(|place| FIRST + place)
}

/// A block of entries with values, one a row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    /// End of the window, in milliseconds.
    pub(crate) end: i64,
    pub(crate) rows: &'a [u32],
    pub(crate) values: &'a [f64],
    pub(crate) held: &'a [u8],
    pub(crate) sides: &'a [u8],
    pub(crate) judged: &'a Judged,
}

impl Block<'_> {
    pub(crate) fn len(&self) -> usize {
        self.rows.len().min(LANES)
    }

    /// 1 where an entry is learned from, 0 where its row is held.
    pub(crate) fn takes(&self) -> Lanes<f32> {
        let mut takes = [0.0; LANES];
        for (take, &row) in takes.iter_mut().zip(self.rows) {
            *take = f32::from(u8::from(self.held[row as usize] == 0));
        }
        takes
    }
}

/// What a detector says of a block.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) probability: Lanes<f32>,
    /// Signed, in what the detector takes for standard deviations.
    pub(crate) distance: Lanes<f32>,
    /// How much it is, in the metric's unit.
    pub(crate) effect: Lanes<f32>,
    /// 1 where nothing is left of what it looks for.
    pub(crate) inside: Lanes<u8>,
}

impl Default for Said {
    fn default() -> Self {
        Self {
            probability: [1.0; LANES],
            distance: [0.0; LANES],
            effect: [f32::MAX; LANES],
            inside: [1; LANES],
        }
    }
}

/// One detector, for all series.
pub(crate) trait Watcher: std::fmt::Debug + Send + Sync {
    fn push(&mut self);
    /// Bytes a series.
    fn bytes(&self) -> usize;
    fn update(&mut self, block: &Block<'_>, out: &mut Said);
    /// What has stayed is normal from now on.
    fn reseat(&mut self, row: usize);
    /// What it found in the last entry of a row, with the numbers.
    fn words(&self, row: usize, value: f64) -> String;
    fn save(&self, out: &mut Columns) -> Result<(), Error>;
    fn as_any(&self) -> &dyn Any;
    /// Takes over what another detector of the same kind knows of a series.
    fn adopt(&mut self, row: usize, from: &dyn Watcher, from_row: usize);
    /// `rows` is how many there were in the snapshot.
    fn load(&mut self, from: &Columns, rows: usize) -> Result<(), Error>;
}

/// The same kind of detector, where it is.
fn same<W: 'static>(from: &dyn Watcher) -> Option<&W> {
    from.as_any().downcast_ref()
}

/// A detector with what it said last.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) name: DetectorName,
    pub(crate) code: u8,
    /// Whether one window is enough: what it adds up spans many.
    pub(crate) alone: bool,
    /// Whether what it finds may go on for long, without the series being out of order meanwhile: nothing else is held
    /// back from learning, and it is never accepted as the new normal.
    pub(crate) lasting: bool,
    pub(crate) said: Said,
    pub(crate) watcher: Box<dyn Watcher>,
}

impl Watched {
    /// What its columns in a snapshot begin with: its name.
    pub(crate) fn prefix(&self) -> &'static str {
        name_of(self.code).unwrap_or_default()
    }
}

/// The detectors that the options ask for, in the order of their codes.
pub(crate) fn all(options: &Options) -> Vec<Watched> {
    #[allow(clippy::cast_precision_loss)] // a handful
    let listed = match &options.detectors {
        Detectors::Auto => 1.0,
        Detectors::List(names) => names.len() as f64,
    };
    let make = |name: DetectorName| -> Option<(bool, bool, Box<dyn Watcher>)> {
        Some(match name {
            DetectorName::Variance => (false, false, Box::new(variance::Variance::new(options))),
            DetectorName::Trend => (false, false, Box::new(trend::Trend::new(options))),
            DetectorName::Flatline => (true, false, Box::new(flatline::Flatline::default())),
            DetectorName::Record => (true, false, Box::new(record::Record::default())),
            DetectorName::Spike => (true, false, Box::new(spike::Spike::new(options))),
            DetectorName::RunOut => (true, true, Box::new(run_out::RunOut::new(options.limit?))),
            DetectorName::Leak => (true, true, Box::new(leak::Leak::new(options))),
            DetectorName::Changepoint => {
                let models = Boxed::measured("changepoint", changepoint::Changepoint::new(), options);
                (true, false, Box::new(models))
            }
            DetectorName::Forest => (
                true,
                false,
                Box::new(Boxed::measured("forest", forest::Forest::new(), options)),
            ),
            DetectorName::DriftMixture
            | DetectorName::DriftCusum
            | DetectorName::DriftPageHinkley
            | DetectorName::DriftAdwin
            | DetectorName::DriftKswin => {
                let model = drifts::Drifts::new(name, options.alarm / listed, options.warm_up).ok()?;
                (true, false, Box::new(Boxed::knowing(name_of(code_of(name)?)?, model)))
            }
            _ => return None,
        })
    };
    ALL.iter()
        .filter(|(name, _)| options.wants(*name))
        .filter_map(|(name, _)| {
            let (alone, lasting, watcher) = make(*name)?;
            Some(Watched {
                name: *name,
                code: code_of(*name)?,
                alone,
                lasting,
                said: Said::default(),
                watcher,
            })
        })
        .collect()
}
