//! The steps of both runs in one order.

use super::StepDiff;

/// A's rows in their order, each of B's own before what comes after it in B. A row of A has its index in B, if there is
/// one; those of B alone are in their order.
pub(super) fn merged(of_a: Vec<(Option<usize>, StepDiff)>, of_b: Vec<(usize, StepDiff)>) -> Vec<StepDiff> {
    // Before which row of A each one comes: the first one that B has after it.
    let place = |index: usize| {
        of_a.iter().position(|(twin, _)| twin.is_some_and(|twin| twin > index)).unwrap_or(of_a.len())
    };
    let mut places: Vec<(usize, StepDiff)> =
        of_b.into_iter().map(|(index, row)| (place(index), row)).collect();
    // The sort keeps B's order where places are the same.
    places.sort_by_key(|(place, _)| *place);
    let mut alone = places.into_iter().peekable();
    let mut rows = Vec::new();
    for (at, (_, row)) in of_a.into_iter().enumerate() {
        while let Some((_, row)) = alone.next_if(|(place, _)| *place <= at) {
            rows.push(row);
        }
        rows.push(row);
    }
    rows.extend(alone.map(|(_, row)| row));
    rows
}

#[cfg(test)]
mod tests {
    use super::super::{StepDiff, StepState};
    use super::merged;

    fn row(step: u32) -> StepDiff {
        let (differing, stats) = (Vec::new(), Vec::new());
        StepDiff { request: 1, step, kind: "step", state: StepState::Identical, differing, stats }
    }

    #[test]
    fn a_step_of_b_alone_stands_before_what_follows_it_there() {
        let order = |of_a: &[(Option<usize>, u32)], of_b: &[(usize, u32)]| -> Vec<u32> {
            let of_a = of_a.iter().map(|&(twin, step)| (twin, row(step))).collect();
            let of_b = of_b.iter().map(|&(index, step)| (index, row(step))).collect();
            merged(of_a, of_b).iter().map(|row| row.step).collect()
        };
        let a = [(Some(2), 2), (None, 3), (Some(3), 4)];
        assert_eq!(order(&a, &[(0, 1), (1, 9)]), [1, 9, 2, 3, 4]);
        assert_eq!(order(&a, &[(4, 5), (5, 6)]), [2, 3, 4, 5, 6]);
        assert_eq!(order(&[(None, 1)], &[(0, 2)]), [1, 2]);
        assert_eq!(order(&[], &[(0, 2), (1, 3)]), [2, 3]);
    }
}
