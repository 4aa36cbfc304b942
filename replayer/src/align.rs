//! Alignment of two programs: which launch of one run is which of the other.
//!
//! The heaviest common subsequence of the two lists of launches. Two launches can stand for each other if
//! their op is the same; outputs of the same name and the same label weigh more, so that a launch whose
//! binding was changed still meets its twin, and a missing one is seen as missing.

use twinstep_traces::Trace;

use crate::program::StepLaunch;

/// Cells of the table; programs whose table would be larger are aligned by their equal ends only.
const CELLS_MAX: usize = 16 << 20;

/// The aligned launches of two programs, by number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Alignment {
    /// Pairs in rising order on both sides.
    pub(crate) pairs: Vec<(usize, usize)>,
    /// Launches of the first program without a twin.
    pub(crate) only_a: Vec<usize>,
    /// Launches of the second program without a twin.
    pub(crate) only_b: Vec<usize>,
}

impl Alignment {
    /// How many launches of the first program come before the place where launch `b` of the second belongs.
    pub(crate) fn place_of_b(&self, b: usize) -> usize {
        self.pairs.iter().rev().find(|pair| pair.1 < b).map_or(0, |pair| pair.0 + 1)
    }

    /// The same seen from the other program.
    pub(crate) fn reversed(&self) -> Alignment {
        Alignment {
            pairs: self.pairs.iter().map(|&(a, b)| (b, a)).collect(),
            only_a: self.only_b.clone(),
            only_b: self.only_a.clone(),
        }
    }
}

/// What a launch is known by.
struct Features<'a> {
    op: &'a str,
    label: &'a str,
    outputs: Vec<&'a str>,
    shapes: Vec<&'a [u64]>,
}

fn features<'a>(trace: &'a Trace, launch: &'a StepLaunch) -> Features<'a> {
    let record = &launch.record;
    let name = |v: &twinstep_traces::ViewRecord| trace.buffer(v.buffer).map_or("", |b| b.name.as_str());
    Features {
        op: &record.op,
        label: &record.label,
        outputs: launch.written().map(name).collect(),
        shapes: record.views.iter().map(|v| v.shape.as_slice()).collect(),
    }
}

/// 0 where the two cannot stand for each other.
fn weight(a: &Features<'_>, b: &Features<'_>) -> u32 {
    if a.op != b.op {
        return 0;
    }
    let label = a.label == b.label && !a.label.is_empty();
    let outputs = a.outputs == b.outputs;
    let shapes = a.shapes == b.shapes;
    if !label && !outputs && !shapes {
        return 0;
    }
    1 + 8 * u32::from(label) + 4 * u32::from(outputs) + u32::from(shapes)
}

/// Aligns the launches of two steps.
pub(crate) fn align((a, left): (&Trace, &[StepLaunch]), (b, right): (&Trace, &[StepLaunch])) -> Alignment {
    let x: Vec<_> = left.iter().map(|launch| features(a, launch)).collect();
    let y: Vec<_> = right.iter().map(|launch| features(b, launch)).collect();
    // Most programs are equal but for a few launches: equal ends need no table.
    let same = |i: usize, j: usize| weight(&x[i], &y[j]) == weight(&x[i], &x[i]);
    let shorter = x.len().min(y.len());
    let head = (0..shorter).take_while(|&i| same(i, i)).count();
    let tail = (0..shorter - head).take_while(|&i| same(x.len() - 1 - i, y.len() - 1 - i)).count();
    let mut pairs: Vec<(usize, usize)> = (0..head).map(|i| (i, i)).collect();
    let (rows, columns) = (x.len() - head - tail, y.len() - head - tail);
    if rows.saturating_mul(columns) <= CELLS_MAX {
        let width = columns + 1;
        let mut best = vec![0u32; (rows + 1) * width];
        for i in (0..rows).rev() {
            for j in (0..columns).rev() {
                let here = weight(&x[head + i], &y[head + j]);
                let with = if here > 0 { here + best[(i + 1) * width + j + 1] } else { 0 };
                best[i * width + j] = with.max(best[(i + 1) * width + j]).max(best[i * width + j + 1]);
            }
        }
        let (mut i, mut j) = (0, 0);
        while i < rows && j < columns {
            let here = weight(&x[head + i], &y[head + j]);
            let now = best[i * width + j];
            if here > 0 && now == here + best[(i + 1) * width + j + 1] {
                pairs.push((head + i, head + j));
                (i, j) = (i + 1, j + 1);
            } else if now == best[(i + 1) * width + j] {
                i += 1;
            } else {
                j += 1;
            }
        }
    }
    pairs.extend((0..tail).rev().map(|i| (x.len() - 1 - i, y.len() - 1 - i)));
    let (mut only_a, mut only_b) = (vec![true; x.len()], vec![true; y.len()]);
    for &(i, j) in &pairs {
        (only_a[i], only_b[j]) = (false, false);
    }
    let without = |only: Vec<bool>| only.iter().enumerate().filter(|(_, o)| **o).map(|(i, _)| i).collect();
    Alignment { pairs, only_a: without(only_a), only_b: without(only_b) }
}
