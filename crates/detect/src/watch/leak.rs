//! A leak, told from a load: what is taken at the least, cycle after cycle, and never given back.
//!
//! Load comes and goes; what a leak has taken stays. So only the floor of each cycle counts: the least value of an hour, say,
//! in which collections of garbage and bursts of requests have come and gone, with the time of day taken out. Over the last
//! 24 floors two tests must agree: that of H. Mann ("Nonparametric tests against trend", Econometrica 13, 1945), which asks
//! whether they rise at all, and Student's on their steps, which asks whether they rise by more than a level that wanders at
//! random would. Nothing is said for three days where the time of day is learned, since every morning's load would be a
//! leak until then. some 5 ns an update, more at the end of a cycle; 130 bytes a series.

use statrs::function::erf::erfc;

use super::{Block, Said, Watcher, same};
use crate::{
    Error, Options,
    state::{Columns, LANES, columns, load, push, save},
    words::number,
};

/// Floors that are compared.
const FLOORS: usize = 24;
/// Cycles without a value after which floors are gathered anew.
const MOST_CYCLES: i64 = 24;
/// Known before anything is said, in days, where the time of day is learned.
const DAYS: i64 = 3;
const DAY: i64 = 86_400_000;
/// Part of the rise that must be given back for it to be over.
const GIVEN_BACK: f32 = 0.5;
const LARGEST: f64 = 1e30;

columns! {
    /// Numbers a series, besides its floors.
    pub(crate) struct Cycles {
        /// Floors known, counted on.
        count: u16 = 0,
        /// The cycle in hand and its least value so far, and the first cycle of all.
        cycle: i64 = i64::MIN,
        first: i64 = 0,
        floor: f32 = f32::MAX,
        value: f32 = 0.0,
        /// Least unlikely that a rise was which was not an alarm, and the probability of the last one.
        record: f32 = 1.0,
        probability: f32 = 1.0,
    }
}

#[derive(Debug)]
pub(crate) struct Leak {
    cycles: Cycles,
    /// A column a floor, the oldest first.
    floors: Vec<Vec<f32>>,
    width: i64,
    days: i64,
    alarm: f32,
}

/// A rise of floors: from where to where, in how many of the steps, and how unlikely by chance.
#[derive(Debug, Clone, Copy)]
struct Rise {
    from: f32,
    to: f32,
    steps: usize,
    probability: f64,
}

impl Leak {
    #[allow(clippy::cast_possible_truncation)] // single precision is what probabilities are kept in
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            cycles: Cycles::default(),
            floors: vec![Vec::new(); FLOORS],
            width: options.leak.cycle.as_millis().max(1),
            days: if options.season.daily { DAYS } else { 0 },
            alarm: options.alarm as f32,
        }
    }

    fn rise(&self, row: usize) -> Rise {
        let floors: [f32; FLOORS] = std::array::from_fn(|k| self.floors[k][row]);
        let (mut score, mut steps) = (0_i32, 0);
        for (k, later) in floors.iter().enumerate() {
            for earlier in &floors[..k] {
                score += i32::from(later > earlier) - i32::from(later < earlier);
            }
        }
        let (mut sum, mut squares) = (0.0_f64, 0.0_f64);
        for pair in floors.windows(2) {
            let step = f64::from(pair[1]) - f64::from(pair[0]);
            (sum, squares) = (sum + step, squares + step * step);
            steps += usize::from(step > 0.0);
        }
        #[allow(clippy::cast_precision_loss)] // two dozen
        let n = FLOORS as f64;
        let spread = (n * (n - 1.0) * (2.0 * n + 5.0) / 18.0).sqrt();
        let rises = upper(f64::from(score - 1) / spread);
        let many = n - 1.0;
        let (mean, mean_square) = (sum / many, squares / many);
        let deviation = (mean_square - mean * mean).max(0.0).sqrt();
        let student = if deviation > 0.0 {
            mean / deviation * (many - 1.0).sqrt()
        } else {
            mean.signum() * 1e3
        };
        // to a normal one with as small a probability (Wallace, 1959)
        let freedom = many - 1.0;
        let size =
            (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0) * (freedom * (student * student / freedom).ln_1p()).sqrt();
        Rise {
            from: floors[0],
            to: floors[FLOORS - 1],
            steps,
            probability: rises.max(upper(size.copysign(student))),
        }
    }
}

/// Probability that a standard normal number is above.
fn upper(z: f64) -> f64 {
    0.5 * erfc(z / std::f64::consts::SQRT_2)
}

impl Watcher for Leak {
    fn push(&mut self) {
        self.cycles.push();
        for column in &mut self.floors {
            push(column, 0.0);
        }
    }

    fn bytes(&self) -> usize {
        Cycles::BYTES + FLOORS * size_of::<f32>()
    }

    #[allow(clippy::cast_possible_truncation)] // single precision is what floors are kept in
    fn update(&mut self, block: &Block<'_>, out: &mut Said) {
        let cycle = block.end.saturating_sub(1).div_euclid(self.width);
        for (i, (&row, &value)) in block.rows.iter().zip(block.values).enumerate().take(LANES) {
            let row = row as usize;
            let value = value.clamp(-LARGEST, LARGEST) as f32 - block.judged.course[i];
            let c = &mut self.cycles;
            if c.cycle[row] == i64::MIN {
                (c.cycle[row], c.first[row]) = (cycle, cycle);
            }
            (out.probability[i], out.distance[i], out.effect[i]) = (1.0, 0.0, 0.0);
            if cycle > c.cycle[row] {
                let floor = c.floor[row];
                let gap = cycle - c.cycle[row] > MOST_CYCLES;
                (c.cycle[row], c.floor[row]) = (cycle, f32::MAX);
                c.count[row] = if gap { 0 } else { c.count[row].saturating_add(1) };
                for k in 1..FLOORS {
                    self.floors[k - 1][row] = self.floors[k][row];
                }
                self.floors[FLOORS - 1][row] = floor;
                let known = (cycle - self.cycles.first[row]).saturating_mul(self.width) >= self.days * DAY;
                if usize::from(self.cycles.count[row]) >= FLOORS && known {
                    let rise = self.rise(row);
                    let c = &mut self.cycles;
                    let mut p = rise.probability as f32;
                    // a rise like one that passed before is no less likely than that one was rare
                    if p >= c.record[row] {
                        p = p.max(1.0 / (f32::from(c.count[row]) + 2.0));
                    }
                    if p >= self.alarm {
                        c.record[row] = c.record[row].min(p);
                    }
                    c.probability[row] = p;
                    out.probability[i] = p;
                    out.distance[i] = -p.max(1e-30).ln() / 3.0;
                    out.effect[i] = (rise.to - rise.from).abs();
                }
            }
            let c = &mut self.cycles;
            c.floor[row] = c.floor[row].min(value);
            c.value[row] = value;
            let (from, to) = (self.floors[0][row], self.floors[FLOORS - 1][row]);
            let back = value < to - GIVEN_BACK * (to - from);
            out.inside[i] = u8::from(back || to <= from);
        }
    }

    fn reseat(&mut self, row: usize) {
        self.cycles.count[row] = 0;
    }

    fn words(&self, row: usize, value: f64) -> String {
        let rise = self.rise(row);
        #[allow(clippy::cast_precision_loss)] // a span
        let hours = self.width as f64 / 3_600_000.0;
        let pace = f64::from(rise.to - rise.from) / (23.0 * hours);
        format!(
            "a leak: the least that is taken in {} rose in {} of {} steps, from {} to {}, by {} an hour, and was not given \
             back as load is: {} now",
            suture_event::Span::from_millis(self.width),
            rise.steps,
            FLOORS - 1,
            number(f64::from(rise.from)),
            number(f64::from(rise.to)),
            number(pace),
            number(value)
        )
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }

    fn adopt(&mut self, row: usize, from: &dyn Watcher, from_row: usize) {
        if let Some(from) = same::<Self>(from) {
            self.cycles.adopt(row, &from.cycles, from_row);
            for (mine, theirs) in self.floors.iter_mut().zip(&from.floors) {
                mine[row] = theirs[from_row];
            }
        }
    }

    fn save(&self, out: &mut Columns) -> Result<(), Error> {
        self.cycles.save("leak", out);
        for (k, column) in self.floors.iter().enumerate() {
            out.put("leak", &format!("floor.{k}"), save(column));
        }
        Ok(())
    }

    fn load(&mut self, from: &Columns, _: usize) -> Result<(), Error> {
        self.cycles.load("leak", from)?;
        for (k, column) in self.floors.iter_mut().enumerate() {
            *column = load(from.get("leak", &format!("floor.{k}"))?)?;
        }
        Ok(())
    }
}
