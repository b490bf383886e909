//! A spike: one value far from its neighbours in time, whatever level, trend and season are.
//!
//! The distance from the median of the last seven values in units of their median absolute deviation, or of the usual one
//! where that is larger (F. Hampel, "The influence curve and its role in robust estimation", Journal of the American
//! Statistical Association 69, 1974). What a distance means is read off the tail of its own past. One window is enough to
//! open an anomaly. some 25 ns an update, 53 bytes a series.

use super::{Block, Said, Watcher, own::Own, same};
use crate::{
    Error, Options,
    fast::{flush, least, most, within},
    state::{Columns, LANES, Place, columns},
    words::number,
};

const OF: usize = 7;
/// From median absolute deviation to standard deviation, of a normal distribution.
const MAD: f32 = 1.4826;
/// Memory of the usual spread, in values.
const LONG: f32 = 500.0;
/// Least scale as a share of the level.
const LEAST_SCALE: f32 = 0.005;
const LARGEST: f64 = 1e30;

columns! {
    pub(crate) struct Neighbours in NeighbourLanes {
        count: u16 = 0,
        usual: f32 = 0.0,
        v0: f32 = 0.0,
        v1: f32 = 0.0,
        v2: f32 = 0.0,
        v3: f32 = 0.0,
        v4: f32 = 0.0,
        v5: f32 = 0.0,
        v6: f32 = 0.0,
    }
}

#[derive(Debug)]
pub(crate) struct Spike {
    neighbours: Neighbours,
    lanes: NeighbourLanes,
    own: Own,
}

impl Spike {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            neighbours: Neighbours::default(),
            lanes: NeighbourLanes::default(),
            own: Own::new(options),
        }
    }
}

/// The middle one, by an exchange of neighbours that takes no branches.
fn median(mut v: [f32; OF]) -> f32 {
    for pass in 0..OF {
        let mut i = pass % 2;
        while i + 1 < OF {
            (v[i], v[i + 1]) = (least(v[i], v[i + 1]), most(v[i], v[i + 1]));
            i += 2;
        }
    }
    v[OF / 2]
}

impl Watcher for Spike {
    fn push(&mut self) {
        self.neighbours.push();
        self.own.push();
    }

    fn bytes(&self) -> usize {
        Neighbours::BYTES + Own::BYTES
    }

    fn update(&mut self, block: &Block<'_>, out: &mut Said) {
        let place = Place::of(block.rows);
        let takes = block.takes();
        self.neighbours.read(place, &mut self.lanes);
        let s = &mut self.lanes;
        for (i, &value) in block.values.iter().enumerate().take(LANES) {
            #[allow(clippy::cast_possible_truncation)] // single precision is what levels are kept in
            let value = flush(value.clamp(-LARGEST, LARGEST) as f32);
            let ring = [s.v0[i], s.v1[i], s.v2[i], s.v3[i], s.v4[i], s.v5[i], s.v6[i]];
            let middle = median(ring);
            let spread = MAD * median(ring.map(|v| (v - middle).abs()));
            let seen = f32::from(s.count[i]);
            let scale = most(most(spread, s.usual[i]), most(LEAST_SCALE * middle.abs(), 1e-30));
            let off = within((value - middle) / scale, 1e9);
            let says = s.count[i] >= 30 && !block.judged.residual[i].is_nan();
            out.distance[i] = if says { off } else { f32::NAN };
            out.effect[i] = (value - middle).abs();
            if s.count[i] >= 7 {
                let gain = 1.0 / least(seen - 6.0, LONG);
                s.usual[i] = flush(s.usual[i] + takes[i] * gain * (spread - s.usual[i]));
            }
            (s.v0[i], s.v1[i], s.v2[i]) = (s.v1[i], s.v2[i], s.v3[i]);
            (s.v3[i], s.v4[i], s.v5[i], s.v6[i]) = (s.v4[i], s.v5[i], s.v6[i], value);
            s.count[i] = (s.count[i] + 1).min(10_000);
        }
        self.neighbours.write(place, &self.lanes);
        self.own.judge(block, &takes, out);
    }

    fn reseat(&mut self, _: usize) {}

    fn words(&self, row: usize, value: f64) -> String {
        let s = &self.neighbours;
        let before = [
            s.v0[row], s.v1[row], s.v2[row], s.v3[row], s.v4[row], s.v5[row], s.v6[row],
        ];
        format!(
            "a spike: {} among values around {}, which usually stray by {}",
            number(value),
            number(f64::from(median(before))),
            number(f64::from(s.usual[row]))
        )
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn adopt(&mut self, row: usize, from: &dyn Watcher, from_row: usize) {
        if let Some(from) = same::<Self>(from) {
            self.neighbours.adopt(row, &from.neighbours, from_row);
            self.own.adopt(row, &from.own, from_row);
        }
    }

    fn save(&self, out: &mut Columns) -> Result<(), Error> {
        self.neighbours.save("spike", out);
        self.own.save("spike.tail", out);
        Ok(())
    }

    fn load(&mut self, from: &Columns, _: usize) -> Result<(), Error> {
        self.neighbours.load("spike", from)?;
        self.own.load("spike.tail", from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_one_is_found_in_any_order() {
        let mut v = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0_f32];
        for turn in 0..5_040 {
            // every permutation of seven, by Heap's rule in its plain form
            let (i, k) = (turn % OF, (turn / OF) % OF);
            v.swap(i, k);
            assert_eq!(median(v), 3.0, "{v:?}");
        }
    }
}
