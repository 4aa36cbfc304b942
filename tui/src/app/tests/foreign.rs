//! Traces of another engine: what ran, who wrote, and values at points inside a step.

use twinstep_replayer::{At, HistoryOptions, history};
use twinstep_traces::*;

use super::*;
use crate::app::keys::View;
use crate::app::work::Point;

const HIDDEN: BufferId = BufferId(0);

/// Two steps: a kernel between two points; `hidden` holds 1, 2, 3 but at the second step's `layer.0.after`, where its
/// second element is `value`.
fn recorded(steps: u32, value: f32) -> Trace {
    let notes = vec![("engine".into(), "foreign".into())];
    let run = RunRecord { mode: "eager".into(), notes, ..Default::default() };
    let mut writer = TraceWriter::new(MemoryStorage::default(), &run).unwrap();
    let record = BufferRecord {
        name: "hidden".into(),
        generation: 0,
        dtype: DType::F32,
        shape: vec![3],
        role: Role::State,
        bytes: 12,
        chunk_bytes: 16,
        address: Some(0x7f00_0000_0000),
        contents: None,
    };
    writer.add_buffer(&record).unwrap();
    let setup = writer.add_program(&Program { items: vec![Item::Allocate { buffer: HIDDEN }] }).unwrap();
    let kernel = |kernel: &str| {
        Item::Opaque(OpaqueLaunch {
            kernel: kernel.into(),
            phase: Phase::Forward,
            stream: 0,
            grid: [0; 3],
            block: [0; 3],
            cluster: [0; 3],
            shared_bytes: 0,
            parameters: vec![],
            operands: vec![],
        })
    };
    let program = Program { items: vec![kernel("layer.0"), kernel("head")] };
    let program = writer.add_program(&program).unwrap();
    let step = |kind, request, step, program, points| StepRecord {
        kind,
        request,
        step,
        rank: 0,
        program,
        host_writes: vec![],
        host_reads: vec![],
        points,
    };
    writer.commit_step(&step(StepKind::Setup, 0, 0, setup, vec![])).unwrap();
    writer.add_request(&RequestRecord { request: 1, text: String::new(), prompt: vec![], row: 0 }).unwrap();
    for n in 1..=steps {
        let mut points = Vec::new();
        for (name, position) in
            [("step.before", 0), ("layer.0.before", 0), ("layer.0.after", 1), ("step.after", 2)]
        {
            let second = if n == 2 && name == "layer.0.after" { value } else { 2.0 };
            let bytes: Vec<u8> = [1.0, second, 3.0].iter().flat_map(|v: &f32| v.to_le_bytes()).collect();
            let changed = ChangedChunks { buffer: HIDDEN, first_chunk: 0, bytes: &bytes };
            let snapshot = writer.snapshot(&[HIDDEN], &[changed], &[]).unwrap();
            points.push(PointRecord { point: name.into(), position, snapshot });
        }
        writer.commit_step(&step(StepKind::Decode, 1, n, program, points)).unwrap();
    }
    Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap()
}

fn pair() -> Driver {
    Driver::of(("a.twin", recorded(2, 6.0)), Some(("b.twin", recorded(2, -99.0))), (120, 40))
}

#[test]
fn the_step_shows_what_ran() {
    let mut driver = pair();
    driver.keys("2\t");
    driver.shows("log of A: 2 kernels");
    for text in ["point    layer.0.before", "kernel   forward  layer.0", "kernel   forward  head"] {
        driver.shows(text);
    }
    assert!(!driver.screen().contains("0 launches"));
    driver.keys("jjjjjjjjjjjjjj\n");
    driver.shows("what another engine ran");
}

#[test]
fn a_trace_without_steps_says_so_in_every_view() {
    let mut driver = Driver::of(("a.twin", recorded(0, 0.0)), None, (100, 30));
    for view in ["2", "3"] {
        driver.keys(view);
        driver.shows("the trace has no steps");
    }
    for view in View::ALL {
        driver.app.view = view;
        assert!(!driver.screen().contains("reading"), "{}", driver.screen());
    }
}

#[test]
fn writers_are_told_as_the_command_line_tells_them() {
    for after in [true, false] {
        let mut driver = Driver::of(("a.twin", recorded(2, 6.0)), None, (120, 40));
        driver.keys(if after {
            ":print hidden[1] --at 2 --after\nH"
        } else {
            ":print hidden[1] --at 2 --before\nH"
        });
        let trace = recorded(2, 6.0);
        let at = At { request: 1, step: Some(2) };
        let options = HistoryOptions { after, ..HistoryOptions::default() };
        let report = history(&trace, "hidden[1]", at, options).unwrap();
        let lines: Vec<String> = crate::history::lines(&report).into_iter().map(|line| line.text).collect();
        let shown: Vec<&String> =
            driver.app.history.as_ref().unwrap().lines.iter().map(|line| &line.text).collect();
        assert_eq!(shown, lines.iter().collect::<Vec<_>>());
        assert!(lines.iter().any(|line| line.contains("hidden@0 allocated")), "{lines:#?}");
        // What fresh memory of another engine holds is not known.
        assert!(lines.iter().all(|line| !line.contains("0xA5")), "{lines:#?}");
        let changed = "bytes changed between layer.0.before of step 2 and layer.0.after of step 2";
        assert_eq!(lines.iter().any(|line| line.contains(changed)), after, "{lines:#?}");
    }
}

#[test]
fn a_change_leads_to_its_step() {
    let mut driver = Driver::of(("a.twin", recorded(2, 6.0)), None, (120, 40));
    driver.keys(":print hidden[1] --at 2 --after\nH");
    let row = driver
        .app
        .history
        .as_ref()
        .unwrap()
        .lines
        .iter()
        .position(|l| l.text.contains("bytes changed"))
        .unwrap();
    driver.keys("g1\n9");
    driver.app.evidence = row;
    driver.keys("\n");
    assert_eq!(driver.app.at(), Some(At { request: 1, step: Some(2) }));
}

#[test]
fn values_are_shown_where_the_runs_differ_first() {
    let mut driver = pair();
    driver.shows("at layer.0.after");
    driver.keys("3");
    driver.shows("at layer.0.after of step 2");
    driver.shows("-99");
    driver.shows("X [1]");
    // Around the step they are equal.
    driver.keys("b");
    driver.shows("after step 2");
    assert!(!driver.screen().contains("X [1]"));
}

#[test]
fn b_goes_through_the_points_of_the_step() {
    let mut driver = Driver::of(("a.twin", recorded(2, 6.0)), None, (120, 40));
    driver.keys(":print hidden --at 2 --before\n");
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(driver.app.inside().map(str::to_owned).unwrap_or(format!("{:?}", driver.app.point)));
        driver.keys("b");
    }
    assert_eq!(seen, ["Before", "layer.0.before", "layer.0.after", "After", "Before"]);
}

#[test]
fn a_point_can_be_typed() {
    let mut driver = pair();
    driver.keys(":print hidden --at 2 --point layer.0.before\n");
    driver.shows("at layer.0.before of step 2");
    driver.keys(":print hidden --at 1 --point layer.7.before\n");
    driver.shows("this step has no point `layer.7.before`");
    // Another step begins at its end again.
    driver.keys(":print hidden --at 2 --point layer.0.after\nN");
    assert_eq!(driver.app.point, Point::After);
}

#[test]
fn it_is_drawn_at_every_size() {
    for keys in ["2\t", "3", ":print hidden[1] --at 2 --after\nH"] {
        let mut driver = pair();
        driver.keys(keys);
        sizes::draw_at_all_sizes(&mut driver);
    }
}
