//! Detectors whose state is a list or a tree: a block of its own for each series, kept in snapshots as bytes.

use serde::{Serialize, de::DeserializeOwned};

use super::{Block, Said, Watcher, own::Own, same};
use crate::{
    Error, Options,
    state::{Columns, LANES, from_lists, lists},
};

/// One series' model.
pub(crate) trait Model: Clone + std::fmt::Debug + Send + Sync + Serialize + DeserializeOwned + 'static {
    /// Bytes, with what it points to, once it is full.
    const BYTES: usize;

    /// Takes in a value, out of which the season was taken; `rests` while an anomaly is open, whose values are not to be
    /// learned.
    fn step(&mut self, value: f64, rests: bool) -> Found;

    /// What it found last, with the numbers.
    fn words(&self, value: f64) -> String;

    /// What has stayed is normal from now on.
    fn accept(&mut self);
}

/// What a model says of a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    /// How far it is, signed, in what is taken for standard deviations; NaN where there is nothing to say.
    pub(crate) distance: f32,
    /// How likely, where the model knows by itself; otherwise it is read off the tail of its past distances.
    pub(crate) probability: Option<f32>,
    /// Whether nothing is left of it.
    pub(crate) inside: bool,
}

impl Found {
    /// Nothing to say yet.
    pub(crate) const NOTHING: Self = Self {
        distance: f32::NAN,
        probability: None,
        inside: true,
    };
}

/// The models of all series, made as their first values come.
#[derive(Debug)]
pub(crate) struct Boxed<M> {
    prefix: &'static str,
    /// As a series' model begins.
    first: M,
    rows: Vec<M>,
    own: Option<Own>,
}

impl<M: Model> Boxed<M> {
    /// Models that know their probabilities.
    pub(crate) fn knowing(prefix: &'static str, first: M) -> Self {
        Self {
            prefix,
            first,
            rows: Vec::new(),
            own: None,
        }
    }

    /// Models whose distances are read off the tail of their own past.
    pub(crate) fn measured(prefix: &'static str, first: M, options: &Options) -> Self {
        Self {
            own: Some(Own::new(options)),
            ..Self::knowing(prefix, first)
        }
    }
}

impl<M: Model> Watcher for Boxed<M> {
    fn push(&mut self) {
        self.rows.push(self.first.clone());
        if let Some(own) = &mut self.own {
            own.push();
        }
    }

    fn bytes(&self) -> usize {
        M::BYTES + self.own.as_ref().map_or(0, |_| Own::BYTES)
    }

    fn update(&mut self, block: &Block<'_>, out: &mut Said) {
        let mut inside = [true; LANES];
        for (i, (&row, &value)) in block.rows.iter().zip(block.values).enumerate().take(LANES) {
            let value = value - f64::from(block.judged.course[i]);
            let row = row as usize;
            let side = block.sides[row];
            let found = self.rows[row].step(value, block.held[row] != 0);
            let counts = if found.distance >= 0.0 {
                side & 1 != 0
            } else {
                side & 2 != 0
            };
            out.distance[i] = found.distance;
            out.probability[i] = found.probability.filter(|_| counts).unwrap_or(1.0);
            inside[i] = found.inside;
        }
        match &mut self.own {
            Some(own) => {
                let takes = block.takes();
                own.judge(block, &takes, out);
            }
            None => {
                for (i, inside) in inside.iter().enumerate().take(block.len()) {
                    if out.distance[i].is_nan() {
                        out.distance[i] = 0.0;
                    }
                    out.inside[i] = u8::from(*inside);
                }
            }
        }
    }

    fn reseat(&mut self, row: usize) {
        self.rows[row].accept();
    }

    fn words(&self, row: usize, value: f64) -> String {
        self.rows[row].words(value)
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn adopt(&mut self, row: usize, from: &dyn Watcher, from_row: usize) {
        if let Some(from) = same::<Self>(from) {
            self.rows[row] = from.rows[from_row].clone();
            if let (Some(mine), Some(theirs)) = (&mut self.own, &from.own) {
                mine.adopt(row, theirs, from_row);
            }
        }
    }

    fn save(&self, out: &mut Columns) -> Result<(), Error> {
        let (mut lengths, mut flat) = (Vec::with_capacity(self.rows.len()), Vec::new());
        for model in &self.rows {
            let before = flat.len();
            rmp_serde::encode::write_named(&mut flat, model).map_err(|e| Error::Arrow(e.to_string()))?;
            lengths.push(flat.len() - before);
        }
        out.put(self.prefix, "models", lists(lengths.into_iter(), &flat)?);
        if let Some(own) = &self.own {
            own.save(&format!("{}.tail", self.prefix), out);
        }
        Ok(())
    }

    fn load(&mut self, from: &Columns, _: usize) -> Result<(), Error> {
        let (lengths, flat) = from_lists::<u8>(from.get(self.prefix, "models")?)?;
        let mut rest = flat.as_slice();
        self.rows.clear();
        for length in lengths {
            let (bytes, others) = rest.split_at(length.min(rest.len()));
            rest = others;
            let model = rmp_serde::from_slice(bytes);
            self.rows
                .push(model.map_err(|e| Error::Snapshot(format!("a model of {}: {e}", self.prefix)))?);
        }
        if let Some(own) = &mut self.own {
            own.load(&format!("{}.tail", self.prefix), from)?;
        }
        Ok(())
    }
}
