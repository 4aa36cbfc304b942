//! What buffers are called: by the program, by a watch file.

use twinstep_traces::{DType, Item, Role, StepKind};

use crate::engine::{
    all_items, codes, codes_are_as_printed, items, open, points, record, records, steps, value,
};

#[test]
fn a_watch_file_names_parameters() {
    let folder = tempfile::tempdir().unwrap();
    let watch = "[[watch]]\nname = \"last_codes\"\nkernel = \"embed_kernel(*\"\nparameter = 0\ndtype = \"i64\"\nshape = [4]\n\
                 [[watch]]\nname = \"hidden\"\nkernel = \"*step*\"\nparameter = 1\ndtype = \"f32\"\nshape = [4, 32]\nrole = \"scratch\"\n\
                 [[watch]]\nname = \"lost\"\nkernel = \"*nowhere*\"\nparameter = 1\nshape = [4]\n\
                 [[watch]]\nname = \"wide\"\nkernel = \"*sample*\"\nparameter = 0\ndtype = \"f32\"\nshape = [4, 33]\n";
    std::fs::write(folder.path().join("watch.toml"), watch).unwrap();
    let run = record(folder.path(), &["--watch", "watch.toml"], ["proc", "loop", "4"]);
    let trace = open(folder.path(), "run.twin");
    codes_are_as_printed(&trace, "last_codes", &run.stdout);
    let hidden = trace.buffers().iter().find(|b| b.name == "hidden").unwrap();
    assert_eq!(
        (hidden.dtype, hidden.shape.as_slice(), hidden.role),
        (DType::F32, &[4, 32][..], Role::Scratch)
    );
    assert!(!trace.buffers().iter().any(|b| b.name.starts_with("g0.")), "nothing is named by itself then");
    let marks: Vec<String> = all_items(&trace)
        .into_iter()
        .filter_map(|item| if let Item::Mark { text } = item { Some(text) } else { None })
        .collect();
    assert!(marks.iter().any(|m| m.contains("`lost`") && m.contains("never found")), "{marks:?}");
    assert!(marks.iter().any(|m| m.contains("`wide`") && m.contains("528 bytes")), "{marks:?}");
    assert!(run.stderr.contains("`lost`"), "{}", run.stderr);
    assert!(run.stderr.contains("`wide` is not watched"), "{}", run.stderr);
}

#[test]
fn a_step_can_end_with_a_kernel() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("watch.toml"), "step = \"launch:*sample*\"\n").unwrap();
    record(folder.path(), &["--watch", "watch.toml"], ["proc", "streams", "4"]);
    let trace = open(folder.path(), "run.twin");
    assert_eq!(steps(&trace).len(), 4);
}

#[test]
fn a_rule_for_steps_that_fits_no_graph_is_told() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("watch.toml"), "step = \"launch:*nowhere*\"\n").unwrap();
    let run = record(folder.path(), &["--watch", "watch.toml"], ["proc", "loop", "4"]);
    assert!(run.stderr.contains("launch:*nowhere*"), "{}", run.stderr);
    let told = all_items(&open(folder.path(), "run.twin"))
        .iter()
        .any(|item| matches!(item, Item::Mark { text } if text.contains("launch:*nowhere*")));
    assert!(told);
}

#[test]
fn what_the_program_tells_is_what_the_trace_says() {
    let folder = tempfile::tempdir().unwrap();
    let run = record(folder.path(), &[], ["proc", "told", "4"]);
    let trace = open(folder.path(), "run.twin");
    assert_eq!(trace.run().mode, "piecewise");
    assert_eq!(trace.run().model, "toy");
    let asked: Vec<_> =
        trace.requests().iter().map(|r| (r.request, r.text.as_str(), r.prompt.len())).collect();
    assert_eq!(asked, [(1, "first", 3), (2, "second", 3)]);
    codes_are_as_printed(&trace, "last_codes", &run.stdout);
    let steps = steps(&trace);
    let numbered: Vec<_> = steps.iter().map(|s| (s.request, s.step, s.kind == StepKind::Prefill)).collect();
    let expected: Vec<_> = (1..=2).flat_map(|r| (1..=4).map(move |s| (r, s, s == 1))).collect();
    assert_eq!(numbered, expected);
    for step in &steps {
        let eager: &[_] = &["step.before", "forward.before", "forward.after", "step.after"];
        let graph: &[_] = &[
            "step.before",
            "forward.before",
            "graph.0.before",
            "graph.0.after",
            "forward.after",
            "step.after",
        ];
        assert_eq!(points(step), if step.step == 1 { eager } else { graph });
        let stands =
            items(&trace, step).iter().any(|i| matches!(i, Item::Opaque(o) if o.kernel == "forward"));
        assert_eq!(stands, step.step == 1, "the bracket stands for kernels that are not recorded");
    }
    assert_eq!(
        codes(&value(&trace, &steps[0], "forward.after", "last_codes")),
        run.stdout.lines().next().unwrap()
    );
    // Warm-up: labelled, and no step.
    let warm = records(&trace).into_iter().find(|step| {
        items(&trace, step).first() == Some(&Item::Mark { text: "warm-up: two dry runs".to_owned() })
    });
    let warm = warm.expect("a record begins with the label");
    assert_eq!((warm.kind, warm.request, warm.step), (StepKind::Setup, 0, 0));
    let launches = items(&trace, &warm).iter().filter(|i| matches!(i, Item::GraphLaunch { .. })).count();
    assert_eq!(launches, 2);
    assert!(all_items(&trace).contains(&Item::Mark { text: "all told".to_owned() }));
}
