//! What a comparison reports of many elements, and where it looks: rows, shapes, chunks, ties.

use super::*;

/// What judging two buffers by one demand over everything gives.
fn of(a: &Buffer, b: &Buffer, demand: &str) -> AssertReport {
    let runs = [a, b].map(|buffer| run(std::slice::from_ref(buffer)));
    judge(&runs[0], &runs[1], &format!("[[rule]]\nbuffer = '*'\n{demand}"))
}

/// Index, distance, count and words of the worst divergence.
fn worst(report: &AssertReport) -> (Vec<u64>, Option<f64>, u64, String) {
    let worst = report.rules[0].worst.clone().expect("a divergence");
    let index = worst.element.map_or(Vec::new(), |element| element.index);
    (index, worst.distance.map(|d| d.0), worst.elements, worst.text)
}

#[test]
fn the_worst_element_is_reported_and_all_are_counted() {
    let ones = hidden(&[1.0; 4]);
    let with = |values: [f32; 4], demand: &str| worst(&of(&ones, &hidden(&values), demand));
    let apart = |text: &str| text.to_owned();
    assert_eq!(
        with([2.0, 5.0, 4.0, 1.0], "abs = 0.5"),
        (vec![0, 1], Some(4.0), 3, apart("4 apart, 0.5 allowed"))
    );
    // Of equals the first.
    assert_eq!(with([1.0, 3.0, -1.0, 3.0], "abs = 0").0, [0, 1]);
    // What has no distance is beyond all that have one, in either order.
    let nan = "no distance: not a finite number on both sides";
    assert_eq!(with([9.0, f32::NAN, 9.0, 1.0], "abs = 1"), (vec![0, 1], None, 3, apart(nan)));
    assert_eq!(with([f32::NAN, 9.0, 9.0, 1.0], "ulp = 1"), (vec![0, 0], None, 3, apart(nan)));
    assert_eq!(worst(&of(&hidden(&[f32::MAX]), &hidden(&[f32::INFINITY]), "ulp = 0")).1, None);
    let next = f32::from_bits(1f32.to_bits() + 3);
    assert_eq!(with([1.0, 1.0, 1.0, next], "ulp = 2").3, "3 ulps apart, 2 allowed");
    assert_eq!(with([1.0, 1.0, 1.0, next], "exact = true").3, "3 ulps apart, 0 allowed");
    let zeros = worst(&of(&hidden(&[0.0]), &hidden(&[-0.0]), "exact = true"));
    assert_eq!((zeros.1, zeros.3.as_str()), (Some(0.0), "equal numbers, other bits"));
}

#[test]
fn shapes_and_types_that_differ_fail_before_any_value() {
    let shaped = |shape: &[u64], values: &[f32]| buffer("x", DType::F32, shape, vec![f32s(values)]);
    let (row, square) = (shaped(&[1, 4], &[1.0; 4]), shaped(&[2, 2], &[1.0; 4]));
    for demand in ["abs = 1e9", "exact = true", "top_k = 1", "statistic = 'mean'\nabs = 1e9"] {
        let report = of(&row, &square, demand);
        assert_eq!(worst(&report), (vec![], None, 0, "f32 [1, 4] in A, f32 [2, 2] in B".to_owned()));
    }
    let whole = buffer("x", DType::I64, &[1], vec![i64s(&[1])]);
    let half = buffer("x", DType::I32, &[1], vec![1i32.to_le_bytes().to_vec()]);
    assert_eq!(worst(&of(&whole, &half, "ulp = 9")).3, "i64 [1] in A, i32 [1] in B");
    assert!(!of(&whole, &buffer("x", DType::I64, &[1, 1], vec![i64s(&[1])]), "codes = true").passes);
    // What is ignored may have any.
    let a = run(&[row.clone(), hidden(&[1.0])]);
    let b = run(&[square, hidden(&[1.0])]);
    assert!(judge(&a, &b, "[[rule]]\nbuffer = 'x'\nignore = 'reshaped'").passes);
    // It is worse than any distance, and is what is shown.
    let mut b = b;
    b.buffers[1].after = vec![f32s(&[3.0])];
    let report = judge(&a, &b, "");
    assert_eq!((report.rules[0].failed, worst(&report).1), (6, None));
    assert_eq!(report.rules[0].worst.as_ref().unwrap().buffer, "x");
    // `codes` wants integers on both sides.
    let floats = buffer("x", DType::F32, &[1], vec![f32s(&[1.0])]);
    let rule = policy("[[rule]]\nbuffer = 'x'\ncodes = true");
    for (a, b) in [(&whole, &floats), (&floats, &whole)] {
        let traces = [a, b].map(|buffer| run(std::slice::from_ref(buffer)).trace());
        match assert_traces(&traces[0], &traces[1], &rule) {
            Err(AssertError::Policy(error)) => assert!(error.message.contains("`x` is f32"), "{error}"),
            other => panic!("{other:?}"),
        }
    }
    let truth = |byte: u8| buffer("x", DType::Bool, &[1], vec![vec![byte]]);
    let byte = |byte: u8| buffer("x", DType::U8, &[1], vec![vec![byte]]);
    assert!(passes(&truth(1), &byte(1), "codes = true") && !passes(&truth(1), &byte(0), "codes = true"));
    assert!(passes(&truth(2), &byte(1), "codes = true"), "any byte but zero is true");
}

#[test]
fn a_buffer_without_elements_is_not_judged() {
    let none = buffer("x", DType::F32, &[0, 4], vec![vec![]]);
    let a = run(&[none.clone(), hidden(&[1.0])]);
    let report = judge(&a, &a.clone(), "[[rule]]\nbuffer = 'x'\nexact = true");
    assert_eq!(report.rules[0].matched, 0);
    assert!(!report.passes && !guard(&report, "rules-match") && guard(&report, "compared"));
    assert_eq!(report.steps_judged, 3);
    // Nothing but such buffers: nothing was judged.
    let report = judge(&run(std::slice::from_ref(&none)), &run(std::slice::from_ref(&none)), "");
    assert!(!guard(&report, "steps") && report.steps_judged == 0);
    // Something on the other side is a difference.
    let some = buffer("x", DType::F32, &[1, 4], vec![f32s(&[0.0; 4])]);
    for (a, b) in [(&none, &some), (&some, &none)] {
        assert_eq!(of(a, b, "abs = 1").rules[0].failed, 3);
    }
}

#[test]
fn the_occupied_row_may_be_any() {
    let x = |values: [f32; 6]| Run {
        rows: 3,
        row: 1,
        ..run(&[buffer("x", DType::F32, &[3, 2], vec![f32s(&values)])])
    };
    let a = x([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let occupied = |values, demand: &str| {
        let text = format!("[[rule]]\nbuffer = 'x'\nrows = 'occupied'\n{demand}");
        judge(&a, &x(values), &text).passes
    };
    for demand in ["exact = true", "statistic = 'mean'\nabs = 0", "top_k = 1"] {
        assert!(occupied([9.0, 0.0, 3.0, 4.0, 0.0, 9.0], demand), "{demand}");
        assert!(!occupied([1.0, 2.0, 7.0, 4.0, 5.0, 6.0], demand), "{demand}");
    }
    assert!(!occupied([1.0, 2.0, 3.0, 9.0, 5.0, 6.0], "exact = true"));
    // With one axis a row is one element: its vector goes no further.
    for (row, b) in [(0, [5.0, 9.0]), (1, [9.0, 5.0])] {
        let line = |values: [f32; 2]| Run {
            rows: 2,
            row,
            ..run(&[buffer("x", DType::F32, &[2], vec![f32s(&values)])])
        };
        let a = line(if row == 0 { [5.0, 1.0] } else { [1.0, 5.0] });
        let rule = "[[rule]]\nbuffer = 'x'\nrows = 'occupied'\ntop_k = 1";
        assert!(judge(&a, &line(b), rule).passes, "row {row}");
    }
}

#[test]
fn statistics_that_are_no_numbers_are_near_nothing_else() {
    let (nan, infinite) = (hidden(&[f32::NAN, 1.0]), hidden(&[f32::INFINITY, 1.0]));
    let other_nan = hidden(&[1.0, f32::NAN]);
    assert!(passes(&nan, &other_nan, "statistic = 'mean'\nabs = 0"), "all NaN are one");
    for demand in ["statistic = 'max'\nrel = 0.5", "statistic = 'max'\nabs = 1e300"] {
        assert!(!passes(&infinite, &hidden(&[2.0, 1.0]), demand));
        assert!(!passes(&hidden(&[2.0, 1.0]), &infinite, demand));
        assert!(!passes(&infinite, &hidden(&[f32::NEG_INFINITY, f32::NEG_INFINITY]), demand));
    }
    assert_eq!(worst(&of(&infinite, &hidden(&[2.0, 1.0]), "statistic = 'max'\nabs = 1")).1, None);
    // Below zero too.
    let (a, b) = (hidden(&[-3.0, -1.0]), hidden(&[-3.0, -2.0]));
    assert!(!passes(&a, &b, "statistic = 'max'\nabs = 0.5"));
    assert!(!passes(&hidden(&[3.0, 1.0]), &hidden(&[3.0, 2.0]), "statistic = 'min'\nabs = 0.5"));
    // A relative band goes by the greater magnitude, whatever its sign.
    assert!(passes(&hidden(&[-4.0]), &hidden(&[-3.0]), "rel = 0.25"));
    assert!(passes(&hidden(&[-4.0]), &hidden(&[4.0]), "rel = 2"));
}

#[test]
fn vectors_are_counted_once_and_the_earliest_rank_is_worst() {
    // One vector over three chunks, of which the first and the last differ.
    let values = |first: f32, last: f32| {
        let mut values = [0.0; 12];
        (values[0], values[5], values[11]) = (first, 2.0, last);
        hidden(&values)
    };
    let report = of(&values(3.0, 1.0), &values(1.0, 3.0), "top_k = 1");
    assert_eq!(
        worst(&report),
        (vec![0, 0], Some(1.0), 1, "number 1 of the top 1 is index 0 in A, 11 in B".into())
    );
    // Two vectors.
    let two = |rows: [[f32; 2]; 3]| buffer("x", DType::F32, &[3, 2], vec![f32s(rows.as_flattened())]);
    let report = of(&two([[1.0, 2.0]; 3]), &two([[2.0, 1.0], [1.0, 2.0], [2.0, 1.0]]), "top_k = 2");
    assert_eq!((worst(&report).0, worst(&report).2), (vec![0, 1], 2));
    // Step 1 differs in the second place, step 2 in the first.
    let steps =
        |rows: [[f32; 3]; 2]| Buffer { after: rows.iter().map(|r| f32s(r)).collect(), ..hidden(&[0.0; 3]) };
    let report = of(
        &steps([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]),
        &steps([[3.0, 1.0, 2.0], [2.0, 3.0, 1.0]]),
        "top_k = 3",
    );
    let rule = &report.rules[0];
    assert_eq!((rule.first.as_ref().unwrap().step, rule.worst.as_ref().unwrap().step), (1, 2));
    // Values of integers are compared as such, beyond what a float holds.
    let far = |values: [i64; 2]| buffer("x", DType::I64, &[1, 2], vec![i64s(&values)]);
    assert!(!passes(&far([i64::MAX, i64::MAX - 1]), &far([i64::MAX - 1, i64::MAX]), "top_k = 1"));
    assert!(passes(&far([-1, -2]), &far([-1, -3]), "top_k = 2"));
}

/// Elements are read in pieces: of chunks smaller and larger than a piece, in which only some differ.
#[test]
fn every_element_is_compared_once_whatever_the_chunks() {
    const COUNT: usize = 200_000;
    let values = |changed: &[usize]| {
        let mut values = vec![1.0f32; COUNT];
        changed.iter().for_each(|&i| values[i] = 3.0);
        values
    };
    let changes: [&[usize]; 6] = [
        &[0],
        &[COUNT - 1],
        &[65_535, 65_536],
        &[3, 4, 131_072],
        &[1, 65_000, 66_000, 199_998],
        &[100, 104, 108],
    ];
    for chunk_bytes in [64, 4096, 1 << 18, 1 << 20] {
        for changed in changes {
            let one = |values: &[f32]| Run { steps: 2, ..run(&[Buffer { chunk_bytes, ..hidden(values) }]) };
            let report = judge(&one(&values(&[])), &one(&values(changed)), "[[rule]]\nbuffer = '*'\nabs = 1");
            let (index, distance, count, _) = worst(&report);
            assert_eq!((distance, count), (Some(2.0), changed.len() as u64), "{chunk_bytes} {changed:?}");
            assert_eq!(index, [0, changed[0] as u64], "{chunk_bytes} {changed:?}");
            let mean = "[[rule]]\nbuffer = '*'\nstatistic = 'mean'\nabs = 0";
            assert!(!judge(&one(&values(&[])), &one(&values(changed)), mean).passes);
        }
    }
}
