//! How often sound noise is called a difference: independent runs A, A2 and B whose elements are off by the same
//! distribution.

use super::{Measured, Noisy};

const STEPS: usize = 100;
const FACTORS: [f64; 3] = [2.0, 4.0, 8.0];

/// Pseudo-random numbers of the standard normal distribution.
struct Normal(u64);

impl Normal {
    fn uniform(&mut self) -> f64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    fn next(&mut self) -> f64 {
        // Box and Muller
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// How the noise of one step comes from that of the one before.
#[derive(Debug, Clone, Copy)]
enum Growth {
    /// Drawn anew, its deviation the root of the step's number.
    Anew,
    /// Added to.
    AddsUp,
}

/// Of `runs` triples the share in which any step of B is beyond the bound, by factor.
fn rates(growth: Growth, elements: usize, runs: usize, random: &mut Normal) -> [f64; 3] {
    let mut alarms = [0usize; 3];
    for _ in 0..runs {
        let mut noise = vec![[0f64; 3]; elements];
        let mut bound = Noisy::default();
        let mut worst = 0f64;
        for step in 1..=STEPS {
            let [mut control, mut other] = [0f64; 2];
            for element in &mut noise {
                for value in element.iter_mut() {
                    let drawn = random.next();
                    *value = match growth {
                        Growth::Anew => drawn * (step as f64).sqrt(),
                        Growth::AddsUp => *value + drawn,
                    };
                }
                let [a, a2, b] = *element;
                control = control.max((a - a2).abs());
                other = other.max((a - b).abs());
            }
            let measured = Measured { greatest: Some(control), ..Measured::default() };
            bound.add(measured, (step, ""), false);
            worst = worst.max(other / bound.greatest(step).unwrap_or(0.0));
        }
        for (alarms, factor) in alarms.iter_mut().zip(FACTORS) {
            *alarms += usize::from(worst > factor);
        }
    }
    alarms.map(|alarms| alarms as f64 / runs as f64)
}

#[test]
#[ignore = "a simulation that prints its figures"]
fn how_often_sound_noise_is_called_a_difference() {
    let mut random = Normal(1);
    println!("runs called different in one buffer, of {STEPS} steps, by factor {FACTORS:?}");
    for growth in [Growth::Anew, Growth::AddsUp] {
        for (elements, runs) in [(1, 4000), (8, 8000), (64, 4000), (512, 800), (4096, 100)] {
            let rates = rates(growth, elements, runs, &mut random);
            let shown = rates.map(|rate| format!("{:.3} %", rate * 100.0));
            println!("{growth:?}, {elements} elements, {runs} runs: {}", shown.join("  "));
        }
    }
}

#[test]
fn the_factor_covers_buffers_of_few_elements() {
    let mut random = Normal(2);
    for growth in [Growth::Anew, Growth::AddsUp] {
        let [two, four, _] = rates(growth, 8, 1000, &mut random);
        assert!(two > 0.03 && four < 0.005, "{growth:?}: {two} {four}");
    }
}

#[test]
fn what_comes_later_excuses_nothing_before() {
    let mut noisy = Noisy::default();
    for (step, greatest) in [(3, 1.0), (4, 0.5), (6, 8.0)] {
        noisy.add(Measured { greatest: Some(greatest), ..Measured::default() }, (step, ""), false);
    }
    let bounds: Vec<Option<f64>> = (2..=7).map(|step| noisy.greatest(step)).collect();
    assert_eq!(bounds, [None, Some(1.0), Some(1.0), Some(1.0), Some(8.0), Some(8.0)]);
}
