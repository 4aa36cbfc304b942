//! Which places are judged, against which, and by which rule: points, codec sections, forks, generations,
//! requests in another order; and where the self-test makes its change.

use super::*;

fn text_of(report: &AssertReport, name: &str) -> String {
    report.guards.iter().find(|g| g.guard == name).map_or(String::new(), |g| g.text.clone())
}

fn x(values: &[f32]) -> Buffer {
    Buffer { after: values.iter().map(|&v| f32s(&[v])).collect(), ..hidden(&[0.0]) }
}

#[test]
fn what_one_side_alone_has_is_counted_and_some_of_it_named() {
    let one = run(&[hidden(&[1.0])]);
    let before = Run { before: vec![f32s(&[1.0])], ..one.clone() };
    let extra = buffer("other", DType::F32, &[1], vec![f32s(&[1.0])]);
    let more = run(&[hidden(&[1.0]), extra]);
    for (a, b, told) in [
        (&before, &one, "step.before only in A"),
        (&one, &before, "step.before only in B"),
        (&more, &one, "other only in A"),
        (&one, &more, "other only in B"),
    ] {
        let report = judge(a, b, "");
        assert!(report.passes);
        assert_eq!((report.not_compared, report.not_compared_count), (vec![told.to_owned()], 3));
    }
    const NAMES: [&str; 20] = [
        "n0", "n1", "n2", "n3", "n4", "n5", "n6", "n7", "n8", "n9", "m0", "m1", "m2", "m3", "m4", "m5", "m6",
        "m7", "m8", "m9",
    ];
    let others = NAMES.map(|name| buffer(name, DType::U8, &[1], vec![vec![1]]));
    let report = judge(&run(&[&[hidden(&[1.0])][..], &others].concat()), &one, "");
    assert_eq!((report.not_compared.len(), report.not_compared_count), (16, 60));
    let report = judge(&one, &Run { steps: 9, ..one.clone() }, "");
    assert_eq!(text_of(&report, "same-steps"), "6 only in B: 4, 5, 6, 7, ...");
}

#[test]
fn codes_fork_the_runs_after_a_step_and_nowhere_else() {
    let codes = |name: &'static str, after: &[i64]| {
        buffer(name, DType::I64, &[1, 1], after.iter().map(|&c| i64s(&[c])).collect())
    };
    let rest = "[[rule]]\nbuffer = '*codes*'\nignore = 'sampled'";
    let forks = |a: &Run, b: &Run| {
        let report = judge(a, b, rest);
        report.forks.iter().map(|f| (f.request, f.step, f.not_judged)).collect::<Vec<_>>()
    };
    for name in ["codes_out", "prefill_codes"] {
        let (a, b) = (run(&[codes(name, &[1, 2, 3])]), run(&[codes(name, &[1, 7, 3])]));
        assert_eq!(forks(&a, &b), [(1, 2, 1)], "{name}");
    }
    assert_eq!(forks(&run(&[codes("codes_in", &[1])]), &run(&[codes("codes_in", &[2])])), []);
    // Before a step, and in the codec section, they are what was put out already.
    let before = |code: i64| Run { before: vec![i64s(&[code])], ..run(&[codes("codes_out", &[1])]) };
    assert_eq!(forks(&before(1), &before(2)), []);
    let codec =
        |last: i64| Run { codec: true, ..run(&[codes("codes_out", &[1, 1, 1, last]), hidden(&[1.0])]) };
    assert_eq!(forks(&codec(1), &codec(2)), []);
    let report = judge(&codec(1), &codec(1), "");
    assert_eq!((report.passes, report.steps_judged, report.rules[0].matched), (true, 3, 8));
    assert_eq!(judge(&codec(1), &codec(2), "").divergences[0].last, None);
    // Rows that no request occupies say nothing.
    let rows = |second: i64| {
        let codes = buffer("codes_out", DType::I64, &[2, 1], vec![i64s(&[1, second])]);
        Run { rows: 2, ..run(&[codes, hidden(&[1.0])]) }
    };
    assert_eq!(forks(&rows(1), &rows(2)), []);
}

#[test]
fn a_rule_holds_at_its_points_and_rows_are_those_of_the_batch() {
    let at = |before: f32, after: f32| Run { before: vec![f32s(&[before])], ..run(&[hidden(&[after])]) };
    let rule = |point: &str| format!("[[rule]]\nbuffer = 'hidden'\npoint = '{point}'\nabs = 1");
    assert!(judge(&at(1.0, 1.0), &at(2.0, 1.0), &rule("before")).passes);
    assert!(!judge(&at(1.0, 1.0), &at(2.0, 1.0), &rule("after")).passes);
    assert!(!judge(&at(1.0, 1.0), &at(1.0, 2.0), &rule("before")).passes);
    // The first axis is no batch here.
    let three = |last: f32| {
        let x = buffer("x", DType::F32, &[3, 1], vec![f32s(&[1.0, 1.0, last])]);
        Run { rows: 2, ..run(&[x]) }
    };
    let report = judge(&three(1.0), &three(2.0), "rows = 'occupied'");
    let worst = report.rules[0].worst.as_ref().expect("it is judged whole");
    assert_eq!((worst.row, worst.element.as_ref().unwrap().flat), (None, 2));
    // The same bits are other integers.
    let int = |dtype| buffer("x", dtype, &[1], vec![u32::MAX.to_le_bytes().to_vec()]);
    assert!(!passes(&int(DType::I32), &int(DType::U32), "codes = true"));
}

#[test]
fn a_change_on_either_side_is_seen() {
    let (still, moving) = (run(&[x(&[1.0, 1.0, 1.0])]), run(&[x(&[1.0, 2.0, 1.0])]));
    for (a, b) in [(&still, &moving), (&moving, &still)] {
        let report = judge(a, b, "");
        assert_eq!((report.rules[0].failed, report.rules[0].first.as_ref().unwrap().step), (1, 2));
    }
}

/// A name that is other memory for a while: what was compared before with something else is compared anew.
#[test]
fn generations_may_come_and_go() {
    let newer = |values: [Vec<u8>; 3]| Buffer { generation: 1, after: values.to_vec(), ..hidden(&[0.0]) };
    let one = run(&[x(&[1.0, 2.0, 2.0])]);
    let two = |last: f32| run(&[x(&[1.0, 1.0, last]), newer([vec![], f32s(&[2.0]), vec![]])]);
    for (a, b) in [(one.clone(), two(1.0)), (two(1.0), one.clone())] {
        let report = judge(&a, &b, "");
        assert_eq!((report.rules[0].failed, report.rules[0].first.as_ref().map(|d| d.step)), (1, Some(3)));
    }
    assert!(judge(&one, &two(2.0), "").passes && judge(&two(2.0), &one, "").passes);
}

/// Requests are those of the same id, in whatever order they were recorded.
#[test]
fn requests_of_other_engines_are_judged_in_any_order() {
    let of = |ids: [&'static str; 2], values: [f32; 6]| Run {
        requests: 2,
        ids: Some(ids.to_vec()),
        in_turn: true,
        ..run(&[x(&values)])
    };
    let a = of(["a", "b"], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert!(judge(&a, &of(["b", "a"], [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]), "").passes);
    for (values, place) in
        [([4.0, 5.0, 9.0, 1.0, 2.0, 3.0], (2, 3)), ([4.0, 5.0, 6.0, 1.0, 9.0, 3.0], (1, 2))]
    {
        for (a, b) in [
            (&a, &of(["b", "a"], values)),
            (&of(["a", "b"], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), &of(["b", "a"], values)),
        ] {
            let report = judge(a, b, "");
            let first = report.rules[0].first.as_ref().unwrap();
            assert_eq!((report.rules[0].failed, (first.request, first.step)), (1, place));
        }
    }
    // What was read last of B is what A holds where they differ.
    let same = of(["a", "b"], [1.0, 2.0, 4.0, 4.0, 5.0, 6.0]);
    let report = judge(&same, &of(["b", "a"], [9.0, 5.0, 6.0, 1.0, 2.0, 4.0]), "");
    assert_eq!((report.rules[0].failed, report.rules[0].first.as_ref().unwrap().step), (1, 1));
    // What the other does not have is listed under its own number.
    let report = judge(&a, &of(["a", "c"], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), "");
    assert_eq!(text_of(&report, "same-steps"), "3 only in A: 2:1, 2:2, 2:3; 3 only in B: 2:1, 2:2, 2:3");
    // Nothing is known of what they launched.
    let graph = Run { mode: "graph", ..a.clone() };
    for (a, b) in [(&a, &graph), (&graph, &a)] {
        let report = judge(a, b, "");
        assert!(report.passes && text_of(&report, "graph").starts_with("not judged"));
    }
    // A rank is another part of the model.
    let rank = Run { rank: 1, ..a.clone() }.trace();
    let error = assert_traces(&a.trace(), &rank, &Policy::default()).unwrap_err();
    assert!(error.to_string().contains("the rank differs: 0 in A, 1 in B"), "{error}");
}

#[test]
fn the_self_test_finds_a_change_where_there_is_one() {
    let bytes = |values: [u8; 2]| buffer("x", DType::U8, &[1, 2], vec![values.to_vec()]);
    let state = |run: &Run, text: &str| {
        let test = self_test(&run.trace(), &run.trace(), &policy(text)).unwrap();
        (test.rules[0].state, test.rules[0].text.clone(), test.rules.len(), test.passes)
    };
    let red = |buffer: Buffer, demand: &str| {
        let (state, text, rules, passes) =
            state(&run(&[buffer]), &format!("[[rule]]\nbuffer = '*'\n{demand}"));
        // What judges the rest judges nothing here, and need not.
        assert_eq!((state, rules, passes), (SelfTestState::Red, 1, true), "{demand}: {text}");
        text.trim_start_matches("step 1 step.after: ").to_owned()
    };
    // Upwards there is no room.
    assert_eq!(red(bytes([200, 1]), "abs = 100"), "x[0,0] from 200 to 99");
    // No finite number is far enough.
    assert_eq!(red(hidden(&[1.0]), "abs = 1e39"), "hidden[0,0] from 1 to NaN");
    assert_eq!(red(bytes([5, 0]), "top_k = 1"), "x[0,1] from 0 to 6");
    let most = hidden(&[f32::MAX, f32::MIN]);
    assert_eq!(red(most, "top_k = 1"), "hidden[0,0] from 3.4028235e38 to NaN");
    assert_eq!(red(bytes([0, 255]), "top_k = 1"), "x[0,0] from 0 to 255");
    // The first buffer cannot fail, the second can.
    let both = run(&[bytes([1, 2]), hidden(&[1.0])]);
    let (state_of, text, ..) = state(&both, "[[rule]]\nbuffer = '*'\nulp = 255");
    assert_eq!(state_of, SelfTestState::Red, "{text}");
    assert!(text.contains("hidden[0,0]"), "{text}");
    let (a, b) = (run(&[hidden(&[1.0])]).trace(), Run { rows: 2, ..run(&[hidden(&[1.0])]) }.trace());
    assert!(self_test(&a, &b, &Policy::default()).is_err(), "runs that are not comparable");
}
