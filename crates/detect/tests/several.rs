//! Groups of series: what breaks is found, and nothing about how the group came to be shows in what is found.

// helpers of tests, over counts of windows far below any limit
#![allow(clippy::unwrap_used, clippy::cast_possible_wrap)]

use proptest::prelude::*;
use suture_detect::several::{
    Components, ComponentsOptions, Covariance, CovarianceOptions, Measured, Peers, PeersOptions, Together,
    TogetherOptions,
};
use suture_testkit::noise::Noise;

/// Six members that follow one load, each in its own unit, with a little noise of its own.
fn shared(noise: &mut Noise, load: f64) -> Vec<f64> {
    (0..6)
        .map(|at| (at + 1) as f64 * (100.0 + 10.0 * load) + (at + 1) as f64 * 2.0 * noise.normal())
        .collect()
}

fn walk(windows: usize, mut each: impl FnMut(usize, Vec<f64>, &mut Noise)) {
    let mut noise = Noise(3);
    let mut load = 0.0;
    for window in 0..windows {
        load = 0.9 * load + noise.normal();
        let values = shared(&mut noise, load);
        each(window, values, &mut noise);
    }
}

#[test]
fn a_pair_that_stops_moving_together_is_found_and_named() {
    let options = TogetherOptions::default();
    let mut together = Together::default();
    (0..6).for_each(|at| together.add(at));
    let (mut usual, mut broken) = (0.0_f64, 0.0_f64);
    walk(1_100, |window, mut values, noise| {
        if window >= 1_000 {
            // the fourth goes its own way, no further than before
            values[3] = 400.0 + 40.0 * noise.normal();
        }
        let Some(Measured {
            distance,
            value,
            expected,
            ..
        }) = together.judge(&options, &values, window >= 1_005)
        else {
            assert!(window < 300, "{window}");
            return;
        };
        if window < 1_000 {
            usual = usual.min(distance);
        } else if window == 1_060 {
            broken = distance;
            assert!(value < 0.4 && expected > 0.8, "{value} of {expected}");
            let (.., parts) = together.worst().unwrap();
            assert_eq!(parts[0], (3, 5.0), "{parts:?}");
        }
    });
    assert_eq!(together.pairs(), 15);
    assert!(broken < 2.0 * usual && broken < -8.0, "{broken} beside {usual}");
}

#[test]
fn a_window_off_the_cloud_is_far_though_each_member_is_where_it_often_is() {
    let (options, mut covariance) = (CovarianceOptions::default(), Covariance::default());
    let (of_components, mut components) = (
        ComponentsOptions {
            components: 1,
            ..ComponentsOptions::default()
        },
        Components::default(),
    );
    (0..6).for_each(|at| {
        covariance.add(at);
        components.add(at);
    });
    let mut usual = [0.0_f64; 2];
    walk(2_000, |window, mut values, _| {
        if window == 1_999 {
            // half of what the load does in a day, against it
            values[4] = if values[4] > 500.0 { 380.0 } else { 620.0 };
        }
        let found = [
            covariance.judge(&options, &values, false),
            components.judge(&of_components, &values, false),
        ];
        for ((found, usual), parts) in found
            .iter()
            .zip(&mut usual)
            .zip([covariance.parts(), components.parts()])
        {
            let Some(found) = found else {
                assert!(window < 600);
                continue;
            };
            if window < 1_999 {
                *usual = usual.max(found.distance);
            } else {
                assert!(
                    found.distance > 1.7 * *usual && found.distance > 6.0,
                    "{found:?} beside {usual}"
                );
                assert_eq!(parts[0].0, 4, "{parts:?}");
                assert!(parts[0].1 > 0.5, "{parts:?}");
            }
        }
    });
}

#[test]
fn what_stays_is_accepted_when_told_so() {
    let options = CovarianceOptions::default();
    let mut covariance = Covariance::default();
    (0..6).for_each(|at| covariance.add(at));
    let mut last = 0.0;
    walk(3_000, |window, mut values, _| {
        if window >= 1_000 {
            values[4] -= 300.0;
        }
        if window == 1_120 {
            covariance.accept();
        }
        if let Some(found) = covariance.judge(&options, &values, (1_002..1_120).contains(&window)) {
            last = found.distance;
            assert!(!(1_000..=1_300).contains(&window) || last > 6.0);
        }
    });
    assert!(last < 4.0, "{last}");
}

#[derive(Debug, Default)]
struct All(Together, Covariance, Components, Peers);

impl All {
    fn of(n: usize) -> Self {
        let mut all = Self::default();
        (0..n).for_each(|at| all.add(at));
        all
    }

    fn add(&mut self, at: usize) {
        self.0.add(at);
        self.1.add(at);
        self.2.add(at);
        self.3.add(at);
    }

    fn remove(&mut self, at: usize) {
        self.0.remove(at);
        self.1.remove(at);
        self.2.remove(at);
        self.3.remove(at);
    }

    fn judge(&mut self, values: &[f64]) -> Vec<Option<Measured>> {
        let together = TogetherOptions {
            learn: 50,
            ..TogetherOptions::default()
        };
        let covariance = CovarianceOptions {
            learn: 50,
            ..CovarianceOptions::default()
        };
        let components = ComponentsOptions {
            learn: 50,
            ..ComponentsOptions::default()
        };
        let mut found = vec![
            self.0.judge(&together, values, false),
            self.1.judge(&covariance, values, false),
            self.2.judge(&components, values, false),
        ];
        let peers = PeersOptions::default();
        self.3.judge(&peers, values, &|_| false, &mut |_, measured| {
            found.push(Some(measured))
        });
        found
    }

    /// Through its serialised form and back.
    fn again(self) -> Self {
        fn through<T: serde::Serialize + serde::de::DeserializeOwned>(one: &T) -> T {
            rmp_serde::from_slice(&rmp_serde::to_vec_named(one).unwrap()).unwrap()
        }
        Self(through(&self.0), through(&self.1), through(&self.2), through(&self.3))
    }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        12 => (0..100i32).prop_map(|v| 50.0 + f64::from(v) / 50.0),
        2 => Just(f64::NAN),
        1 => Just(f64::INFINITY),
        1 => Just(1e300),
        1 => Just(-1e300),
        1 => Just(1e-300),
        1 => Just(0.0),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_number_makes_a_group_stumble(windows in prop::collection::vec(prop::collection::vec(value(), 7), 1..200)) {
        let mut all = All::of(7);
        for values in &windows {
            for found in all.judge(values).into_iter().flatten() {
                prop_assert!(found.distance.is_finite() && found.scale >= 0.0 && found.value.is_finite(), "{found:?}");
            }
        }
    }

    #[test]
    fn a_group_goes_on_from_what_was_written_of_it(
        windows in prop::collection::vec(prop::collection::vec(value(), 7), 70..160), every in 1_usize..40,
    ) {
        let (mut straight, mut broken) = (All::of(7), All::of(7));
        for (window, values) in windows.iter().enumerate() {
            prop_assert_eq!(straight.judge(values), broken.judge(values));
            if window % every == 0 {
                broken = broken.again();
            }
        }
    }

    #[test]
    fn constants_are_never_far(level in prop_oneof![Just(0.0), Just(1e300), Just(-7.5), Just(1e-300)], n in 2_usize..9) {
        let mut all = All::of(n);
        for _ in 0..300 {
            for found in all.judge(&vec![level; n]).into_iter().flatten() {
                prop_assert!(found.distance <= 0.5, "{found:?}");
            }
        }
    }

    #[test]
    fn a_member_that_comes_and_goes_leaves_no_trace(at in 0_usize..6, seed in 1_u64..1_000) {
        let (mut without, mut with) = (All::of(6), All::of(6));
        let mut noise = Noise(seed);
        for window in 0..200 {
            let values = shared(&mut noise, 0.0);
            if window == 100 {
                with.add(at);
                with.remove(at);
                // what is chosen is chosen anew after members have changed
                without.add(at);
                without.remove(at);
            }
            prop_assert_eq!(without.judge(&values), with.judge(&values));
        }
        prop_assert_eq!(without.0.pairs(), with.0.pairs());
    }
}
