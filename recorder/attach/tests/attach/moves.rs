//! Copies and fills in rows, between devices, in batches, to and from arrays; memory that the driver did not give.

use twinstep_traces::{Access, Item, OpaqueLaunch, Trace, ViewRecord};

use crate::engine::{all_items, open, record, record_with_kernels, steps, value};

const ROUTES: [&str; 3] = ["moves-dlsym", "moves-proc", "moves-old"];

/// A view as `NAME+OFFSET`, in rows `NAME+OFFSET[3x16 by 64x1]`.
fn place(trace: &Trace, view: &Option<ViewRecord>, address: u64) -> String {
    let Some(view) = view else { return if address == 0 { "-".to_owned() } else { "?".to_owned() } };
    let buffer = trace.buffer(view.buffer).expect("a buffer");
    assert_eq!(buffer.address.map(|at| at + view.offset), Some(address), "view and address agree");
    // Which graph named it does not matter here.
    let name = match buffer.name.as_str() {
        "g0.n0.p0" => "state",
        "g0.n0.p1" => "hidden",
        other => other,
    };
    let axes = |axes: &[u64]| axes.iter().map(u64::to_string).collect::<Vec<_>>().join("x");
    match view.shape.len() {
        1 => format!("{name}+{}", view.offset),
        _ => format!("{name}+{}[{} by {}]", view.offset, axes(&view.shape), axes(&view.strides)),
    }
}

fn rows(trace: &Trace, launch: &OpaqueLaunch) -> String {
    let operands = launch.operands.iter().map(|(parameter, _, view)| {
        let bytes = launch.parameters[*parameter as usize].as_slice();
        let address = u64::from_le_bytes(bytes.try_into().expect("an address"));
        let way = match view.access {
            Access::Write => "to",
            Access::Read => "from",
            other => panic!("{other:?}"),
        };
        format!(" {way} {}", place(trace, &Some(view.clone()), address))
    });
    format!("{}{}", launch.kernel, operands.collect::<String>())
}

/// An item in one line; nothing for those that moves are told apart by.
pub(crate) fn line(trace: &Trace, item: &Item) -> Option<String> {
    Some(match item {
        Item::Copy { source, target, source_address, target_address, bytes, .. } => format!(
            "copy {bytes} to {} from {}",
            place(trace, target, *target_address),
            place(trace, source, *source_address)
        ),
        Item::Fill { target, target_address, pattern, bytes, .. } => {
            format!("fill {bytes} of {} with {pattern:?}", place(trace, target, *target_address))
        }
        Item::Opaque(launch) if launch.kernel.contains(" rows of ") => rows(trace, launch),
        Item::Gap { reason } if reason.starts_with("kernels launched outside") => return None,
        Item::Gap { reason } => format!("gap: {reason}"),
        _ => return None,
    })
}

/// What ran after each of the engine's marks, up to the next launch of a graph.
fn moved(trace: &Trace, labels: &[&str]) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    let mut within = false;
    for item in all_items(trace) {
        match &item {
            Item::Mark { text } if labels.contains(&text.as_str()) => {
                within = true;
                found.push((text.clone(), Vec::new()));
            }
            Item::GraphLaunch { .. } => within = false,
            item if within => found.last_mut().expect("begun").1.extend(line(trace, item)),
            _ => {}
        }
    }
    found
}

#[test]
fn copies_and_fills_in_rows_are_told_as_what_they_write() {
    let many = "copy of 32 rows of 4 bytes to hidden+4[32x4 by 16x1]";
    let planes = [
        "copy 64 to hidden+0 from state+0",
        "copy 64 to hidden+128 from state+64",
        "copy 64 to hidden+256 from state+128",
    ];
    let words = [
        "fill 4 of hidden+4 with [4, 3, 2, 1]",
        "fill 8 of hidden+8 with [4, 3, 2, 1, 8, 7, 6, 5]",
        "fill 4 of hidden+32 with [5, 0, 0, 0]",
        "fill 8 of hidden+40 with [6, 0, 0, 0, 0, 0, 0, 0]",
    ];
    let expected: &[(&str, &[&str])] = &[
        ("2d tight", &["copy 128 to hidden+0 from -"]),
        (
            "2d pitched",
            &["copy 16 to hidden+136 from -", "copy 16 to hidden+264 from -", "copy 16 to hidden+392 from -"],
        ),
        ("2d device", &["copy 32 to hidden+0 from state+0", "copy 32 to hidden+32 from state+64"]),
        ("2d unified host", &["copy 64 to hidden+0 from -"]),
        ("2d many", &[many]),
        ("2d to array", &[]),
        ("2d nothing", &[]),
        ("3d tight", &["copy 128 to hidden+64 from -"]),
        ("3d planes", &planes),
        ("3d peer", &planes),
        ("3d peer later", &planes),
        ("peer", &["copy 24 to hidden+8 from state+0"]),
        ("peer later", &["copy 24 to hidden+16 from state+0"]),
        (
            "batch",
            &[
                "copy 8 to hidden+0 from state+0",
                "copy 16 to hidden+64 from -",
                "copy 24 to hidden+128 from state+4",
            ],
        ),
        ("batch that fails", &["gap: what a batch of copies did that failed with CUDA error 1"]),
        (
            "3d batch",
            &[
                "copy 16 to hidden+0 from state+0",
                "copy 16 to hidden+32 from state+16",
                "copy 32 to hidden+256 from -",
            ],
        ),
        ("to array", &["copy 32 to - from state+0"]),
        ("from array", &["copy 40 to hidden+0 from -"]),
        ("array and host", &[]),
        ("fill 8", &["fill 8 of hidden+0 with [1]", "fill 8 of hidden+64 with [1]"]),
        ("fill 16 tight", &["fill 128 of hidden+0 with [3, 2]"]),
        (
            "fill 32",
            &[
                "fill 4 of hidden+4 with [0, 0, 128, 63]",
                "fill 4 of hidden+68 with [0, 0, 128, 63]",
                "fill 4 of hidden+132 with [0, 0, 128, 63]",
            ],
        ),
        ("fill 8 later", &["fill of 20 rows of 8 bytes to hidden+0[20x8 by 16x1]"]),
        ("fill 16 later", &["fill 16 of hidden+0 with [3, 2]"]),
        ("words", &words),
        (
            "fill 32 later",
            &["fill 4 of hidden+0 with [0, 0, 0, 63]", "fill 4 of hidden+64 with [0, 0, 0, 63]"],
        ),
    ];
    let labels: Vec<&str> = expected.iter().map(|(label, _)| *label).collect();
    for route in ROUTES {
        let folder = tempfile::tempdir().unwrap();
        record(folder.path(), &[], [route, "rows", "1"]);
        let trace = open(folder.path(), "run.twin");
        assert_eq!(steps(&trace).len(), expected.len(), "{route}");
        for ((label, lines), (_, told)) in expected.iter().zip(moved(&trace, &labels)) {
            assert_eq!(told, *lines, "{route}: {label}");
        }
    }
}

#[test]
fn nodes_in_rows_are_told_as_what_they_write() {
    let folder = tempfile::tempdir().unwrap();
    record(folder.path(), &[], ["moves-proc", "nodes", "2"]);
    let trace = open(folder.path(), "run.twin");
    let program = trace.program(trace.graphs()[0].program).unwrap();
    let told: Vec<String> = program.items.iter().filter_map(|item| line(&trace, item)).collect();
    let told: Vec<String> =
        told.iter().map(|l| l.replace("g0.n5.p0", "state").replace("g0.n5.p1", "hidden")).collect();
    assert_eq!(
        told,
        [
            "copy of 3 rows of 16 bytes to hidden+4[3x16 by 32x1] from state+0[3x16 by 64x1]",
            "copy 128 to hidden+0 from state+0",
            "copy of 3 planes of 4 rows of 8 bytes to hidden+0[3x4x8 by 128x16x1] from state+0[3x4x8 by 64x16x1]",
            "fill of 2 rows of 8 bytes to hidden+0[2x8 by 64x1]",
            "fill 16 of hidden+0 with [51]",
        ]
    );
    // They ran with the graph, and not when they were captured.
    let direct = all_items(&trace).into_iter().filter(|item| match item {
        Item::Copy { target, .. } => target.is_some(),
        Item::Fill { bytes, .. } => *bytes != 512,
        Item::Opaque(_) => true,
        _ => false,
    });
    assert_eq!(direct.count(), 0);
    // One item a node: their numbers are those of the driver's nodes.
    assert_eq!(program.items.len(), 6);
}

#[test]
fn what_each_way_writes_is_seen_before_the_next_launch() {
    for route in ["moves-proc", "moves-old"] {
        let folder = tempfile::tempdir().unwrap();
        let run = record_with_kernels(folder.path(), [route, "late", "1"]);
        let trace = open(folder.path(), "run.twin");
        let steps = steps(&trace);
        let written: Vec<(usize, u8)> = run
            .stdout
            .lines()
            .filter_map(|line| line.strip_prefix("quiet ")?.split_once(' '))
            .map(|(at, byte)| (at.parse().unwrap(), byte.parse().unwrap()))
            .collect();
        assert_eq!((written.len(), steps.len()), (9, 4 + 4 * 9), "{route}");
        for (i, (at, byte)) in written.into_iter().enumerate() {
            let step = 4 + 4 * i + 3;
            let held = |step: usize, point: &str| value(&trace, &steps[step], point, "large")[at];
            assert_eq!((held(step - 1, "step.after"), held(step, "step.before")), (0, byte), "{route}: {i}");
        }
    }
}

#[test]
fn memory_of_others_and_pinned_memory_is_memory_that_graphs_may_point_to() {
    for route in ROUTES {
        let folder = tempfile::tempdir().unwrap();
        record(folder.path(), &[], [route, "memory", "1"]);
        let trace = open(folder.path(), "run.twin");
        let all = all_items(&trace);
        let said: Vec<&str> = all
            .iter()
            .filter_map(|item| if let Item::Mark { text } = item { Some(text.as_str()) } else { None })
            .filter(|text| text.starts_with("cuda."))
            .collect();
        let kinds: Vec<bool> = said.iter().map(|text| text.contains("pinned memory of the host")).collect();
        assert_eq!(kinds, [false, false, true, true, true], "{route}: {said:?}");
        assert_eq!(said.iter().filter(|text| text.contains("another process")).count(), 2);

        // The graph points to all of them, and snapshots cover what it points to.
        let program = trace.program(trace.graphs()[0].program).unwrap();
        let operands =
            program.items.iter().filter(|item| matches!(item, Item::Opaque(o) if o.operands.len() == 2));
        assert_eq!(operands.count(), 4, "{route}");
        for (i, step) in steps(&trace).iter().enumerate() {
            let pinned = value(&trace, step, "step.before", "g0.n0.p1");
            assert_eq!(pinned[..4], (i as f32).to_le_bytes(), "{route}: what the host wrote there");
        }
        // A copy from pinned memory is a copy from the host, as it is where only its kind is told.
        let copies: Vec<String> = all
            .iter()
            .filter(|item| matches!(item, Item::Copy { bytes: 16, .. }))
            .filter_map(|i| line(&trace, i))
            .collect();
        assert_eq!(copies.len(), 3, "{route}");
        assert!(copies.iter().all(|copy| copy == "copy 16 to cuda.0+0 from -"), "{route}: {copies:?}");

        // Opened twice, it is given back with the second close; all of it is in the end.
        let at =
            |text: &str| all.iter().position(|i| matches!(i, Item::Mark { text: t } if t == text)).unwrap();
        let freed = |from: usize, to: usize| {
            let gone = all[from..to].iter().filter_map(|item| match item {
                Item::Free { buffer } => Some(trace.buffer(*buffer).unwrap().name.clone()),
                _ => None,
            });
            gone.collect::<Vec<_>>()
        };
        assert_eq!(freed(at("close"), at("close again")), [""; 0], "{route}");
        assert_eq!(freed(at("close again"), at("free")), ["g0.n1.p1", "cuda.2"], "{route}");
        assert_eq!(
            freed(at("free"), all.len()),
            ["g0.n2.p1", "cuda.3", "g0.n3.p1", "cuda.6", "g0.n0.p1", "cuda.4", "cuda.5"],
            "{route}"
        );
    }
}
