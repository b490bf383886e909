//! What kind of series it is, for `auto`: looked at as values come, in a few shares and extremes, and turned into words and
//! into the further detectors that vote.

// one index into many arrays of the same length, which is what becomes vector instructions
#![allow(clippy::needless_range_loop)]

use crate::{
    DetectorName,
    fast::most,
    state::{Columns, LANES, Lanes, Place, columns, load},
    words::number,
};

/// Values before anything is picked, and between two looks at what was picked.
const FIRST: u16 = 192;
const EVERY: u16 = 64;
/// Memory of the shares, in values.
const LONG: f32 = 1_000.0;
/// Values that are counted; beyond, counting goes round in steps of [`EVERY`].
const MOST: u16 = 32_768;
/// A tail heavier than this index makes spreads meaningless: beyond one half a variance does not exist.
const HEAVY: f32 = 0.5;

/// A further detector that votes; and that a value was not within 0 and 1.
const FLATLINE: u8 = 1;
const BEYOND: u8 = 2;

columns! {
    /// Numbers a series.
    pub(crate) struct Traits in TraitLanes {
        count: u16 = 0,
        /// [`FLATLINE`] and [`BEYOND`], where they are so.
        flags: u8 = 0,
        /// Shares of values that are zero, whole, and the same as the one before; and of windows without one.
        zero: f32 = 0.0,
        whole: f32 = 0.0,
        same: f32 = 0.0,
        absent: f32 = 0.0,
    }
}

/// What `auto` makes of a series.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Character {
    constant: bool,
    sparse: bool,
    count: bool,
    share: bool,
    heavy: bool,
    derived: bool,
}

/// The looks of all series.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    pub(crate) traits: Traits,
    lanes: TraitLanes,
}

impl Looks {
    pub(crate) const BYTES: usize = Traits::BYTES;

    pub(crate) fn push(&mut self) {
        self.traits.push();
    }

    pub(crate) fn adopt(&mut self, row: usize, from: &Self, from_row: usize) {
        self.traits.adopt(row, &from.traits, from_row);
    }

    pub(crate) fn save(&self, out: &mut Columns) {
        self.traits.save("traits", out);
    }

    pub(crate) fn load(&mut self, from: &Columns) -> Result<(), crate::Error> {
        self.traits.load("traits", from)?;
        if let (Ok(picks), Ok(low), Ok(high)) = (
            from.get("traits", "picks"),
            from.get("traits", "low"),
            from.get("traits", "high"),
        ) {
            // as they were kept before there were flags
            let (picks, low, high) = (load::<u8>(picks)?, load::<f32>(low)?, load::<f32>(high)?);
            let extremes = low.into_iter().zip(high);
            let beyond = extremes.map(|(low, high)| if low >= 0.0 && high <= 1.0 { 0 } else { BEYOND });
            self.traits.flags = picks
                .into_iter()
                .zip(beyond)
                .map(|(picks, beyond)| picks | beyond)
                .collect();
        }
        Ok(())
    }

    /// Takes in a block of values, one a row. `repeats` is 1 where a value is the one before, `index` are the series' tail
    /// indices, `derived` whether they only have values while there is work.
    pub(crate) fn update(&mut self, rows: &[u32], values: &[f64], repeats: &Lanes<f32>, index: &[f32], derived: &[u8]) {
        let n = rows.len().min(LANES);
        let place = Place::of(rows);
        self.traits.read(place, &mut self.lanes);
        let t = &mut self.lanes;
        let mut value = [0.0_f32; LANES];
        #[allow(clippy::cast_possible_truncation)] // of what a value is like, single precision tells enough
        for (v, given) in value.iter_mut().zip(values) {
            *v = given.clamp(-1e30, 1e30) as f32;
        }
        for i in 0..n {
            let v = value[i];
            let gain = most(1.0 / (f32::from(t.count[i]) + 1.0), 1.0 / LONG);
            let zero = f32::from(u8::from(v == 0.0));
            // what is too large for a fraction counts as whole, whatever it was
            let whole = f32::from(u8::from(v.trunc() == v));
            t.zero[i] += gain * (zero - t.zero[i]);
            t.whole[i] += gain * (whole - t.whole[i]);
            t.same[i] += gain * (repeats[i] - t.same[i]);
            t.absent[i] -= gain * t.absent[i];
            t.flags[i] |= if (0.0..=1.0).contains(&v) { 0 } else { BEYOND };
            t.count[i] = if t.count[i] >= MOST {
                MOST - EVERY + 1
            } else {
                t.count[i] + 1
            };
        }
        for i in 0..n {
            if t.count[i].is_multiple_of(EVERY) && t.count[i] >= FIRST {
                let character = Character {
                    constant: t.same[i] > 0.95,
                    sparse: t.zero[i] > 0.8 || t.absent[i] > 0.5,
                    count: t.whole[i] > 0.99,
                    share: t.flags[i] & BEYOND == 0,
                    heavy: index[rows[i] as usize] > HEAVY,
                    derived: derived[rows[i] as usize] != 0,
                };
                t.flags[i] = t.flags[i] & BEYOND | character.picks(t.same[i]);
            }
        }
        self.traits.write(place, &self.lanes);
    }

    /// A window without a value.
    pub(crate) fn absent(&mut self, row: usize) {
        self.traits.absent[row] += (1.0 - self.traits.absent[row]) / LONG;
    }

    /// Whether a further detector votes on a series.
    #[inline]
    pub(crate) fn picked(&self, row: usize, name: DetectorName) -> bool {
        let bit = match name {
            DetectorName::Flatline => FLATLINE,
            // wherever there is a limit, whatever the series looks like
            _ => return true,
        };
        self.traits.flags[row] & bit != 0
    }

    /// Whether any further detector votes.
    #[inline]
    pub(crate) fn any(&self, row: usize) -> bool {
        self.traits.flags[row] & FLATLINE != 0
    }

    fn character(&self, row: usize, index: f32, derived: bool) -> Character {
        let t = &self.traits;
        Character {
            constant: t.same[row] > 0.95,
            sparse: t.zero[row] > 0.8 || t.absent[row] > 0.5,
            count: t.whole[row] > 0.99,
            share: t.flags[row] & BEYOND == 0,
            heavy: index > HEAVY,
            derived,
        }
    }

    /// What the series looks like, and which detectors vote on it, in words.
    pub(crate) fn explain(
        &self,
        row: usize,
        (counter, derived): (bool, bool),
        season: Option<&str>,
        index: f32,
        voters: &[&str],
    ) -> String {
        let t = &self.traits;
        if t.count[row] < FIRST {
            return format!("auto: not looked at yet, {} of {FIRST} values", t.count[row]);
        }
        let c = self.character(row, index, derived);
        let percent = |share: f32| number(f64::from((share * 1_000.0).round() / 10.0));
        let mut looks = vec![match (counter, c.count, c.share) {
            (true, ..) => "the rate of a counter".to_owned(),
            (false, true, true) => "a flag".to_owned(),
            (false, true, false) => "a count".to_owned(),
            (false, false, true) => "a gauge bounded by 0 and 1".to_owned(),
            (false, false, false) => "a gauge".to_owned(),
        }];
        looks.push(season.map_or("not seasonal".to_owned(), |season| format!("seasonal ({season})")));
        if c.constant {
            looks.push(format!("nearly constant ({}% repeats)", percent(t.same[row])));
        }
        if c.sparse {
            looks.push(format!("sparse ({}% zeros)", percent(t.zero[row])));
        }
        if c.heavy {
            looks.push(format!("heavy-tailed (index {})", number(f64::from(index))));
        }
        let mut voters = voters.to_vec();
        let mut others = vec![];
        match (t.flags[row] & FLATLINE != 0, c.why_not_flatline(t.same[row])) {
            (true, _) => voters.push("flatline"),
            (false, why) => others.push(format!(
                "not flatline, as {}",
                why.unwrap_or("that has changed of late")
            )),
        }
        let others = if others.is_empty() {
            String::new()
        } else {
            format!(" ({})", others.join("; "))
        };
        format!("auto: {}; votes: {}{others}", looks.join(", "), voters.join(", "))
    }
}

impl Character {
    fn picks(self, same: f32) -> u8 {
        if self.why_not_flatline(same).is_none() {
            FLATLINE
        } else {
            0
        }
    }

    /// A value that is stuck shows only where values hardly ever repeat.
    fn why_not_flatline(self, same: f32) -> Option<&'static str> {
        if same > 0.2 {
            Some("its values often repeat")
        } else if self.derived {
            Some("such values repeat where there is little work")
        } else {
            self.sparse.then_some("it mostly says nothing")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::save;

    #[test]
    fn what_was_kept_as_extremes_and_picks_is_taken_over_as_flags() {
        let mut old = Columns::default();
        let mut put = |name: &str, array| old.put("traits", name, array);
        put("count", save(&[200_u16, 300, 0]));
        put("picks", save(&[FLATLINE, 0, 0]));
        put("last", save(&[0.5_f32, 2.0, f32::NAN]));
        put("low", save(&[0.25_f32, 0.5, f32::MAX]));
        put("high", save(&[0.75_f32, 2.0, f32::MIN]));
        for name in ["zero", "whole", "same", "absent"] {
            put(name, save(&[0.0_f32, 0.25, 0.0]));
        }
        let (from, _, _) = Columns::decode(&old.encode(3, None).unwrap(), 3).unwrap();
        let mut looks = Looks::default();
        looks.load(&from).unwrap();
        assert_eq!(looks.traits.flags, [FLATLINE, BEYOND, 0]);
        assert_eq!(looks.traits.count, [200, 300, 0]);
        assert_eq!(looks.traits.whole, [0.0, 0.25, 0.0]);
        // and what is written now comes back as it was
        let mut out = Columns::default();
        looks.save(&mut out);
        let (from, _, _) = Columns::decode(&out.encode(3, None).unwrap(), 3).unwrap();
        let mut again = Looks::default();
        again.load(&from).unwrap();
        assert_eq!(again.traits.flags, looks.traits.flags);
    }
}
