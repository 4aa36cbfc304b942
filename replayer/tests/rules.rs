//! Rules on traces made in memory: what holds, what breaks, what cannot be looked at, and where a
//! mistake in a file is.

use proptest::prelude::*;
use twinstep_replayer::{Finding, Kind, Rules, RulesReport};
use twinstep_traces::{
    BufferId, BufferRecord, ChangedChunks, DType, Item, MemoryStorage, PointRecord, Program, RequestRecord,
    Role, RunRecord, StepKind, StepRecord, Trace, TraceWriter,
};

const ROWS: u32 = 3;
const ROW: u32 = 1;
const STEPS: u32 = 6;

/// A buffer of integers as it is before and after a step.
struct Column {
    name: &'static str,
    dtype: DType,
    shape: &'static [u64],
    value: fn(step: u32, after: bool, element: usize) -> i64,
}

const I64: DType = DType::I64;

/// A loop that counts: `count` grows by one a step, `codes` are fed back, `table` is a lookup.
const COLUMNS: [Column; 7] = [
    Column {
        name: "count",
        dtype: I64,
        shape: &[3],
        value: |step, after, _| i64::from(step) + i64::from(after),
    },
    Column { name: "codes", dtype: I64, shape: &[3, 2], value: |step, _, e| i64::from(step) * 10 + e as i64 },
    Column {
        name: "out",
        dtype: I64,
        shape: &[3, 2],
        value: |step, after, e| i64::from(step + u32::from(after)) * 10 + e as i64,
    },
    Column { name: "table", dtype: DType::I32, shape: &[4], value: |_, _, e| 7 - e as i64 },
    Column { name: "kv.0", dtype: DType::U8, shape: &[2, 2], value: |_, _, e| e as i64 },
    Column { name: "live", dtype: DType::Bool, shape: &[3], value: |_, _, e| i64::from(e == 1) },
    Column {
        name: "real",
        dtype: DType::F32,
        shape: &[2],
        value: |_, _, e| f32::to_bits([0.5, f32::NAN][e]).into(),
    },
];

/// A change of one element: step, after, buffer, element, value.
type Change = (u32, bool, &'static str, usize, i64);

fn trace(steps: &[u32], changes: &[Change], profile: &str) -> Trace {
    let run = RunRecord { rows: ROWS, profile: profile.into(), ..RunRecord::default() };
    let mut writer = TraceWriter::new(MemoryStorage::default(), &run).unwrap();
    for column in &COLUMNS {
        let bytes = column.shape.iter().product::<u64>() * column.dtype.size();
        writer
            .add_buffer(&BufferRecord {
                name: column.name.into(),
                generation: 0,
                dtype: column.dtype,
                shape: column.shape.to_vec(),
                role: Role::State,
                bytes,
                chunk_bytes: 64,
                address: None,
                contents: None,
            })
            .unwrap();
    }
    let request = RequestRecord { request: 1, text: "x".into(), prompt: vec![1, 2, 3], row: ROW };
    writer.add_request(&request).unwrap();
    let program = writer.add_program(&Program::default()).unwrap();
    for &step in steps {
        let mut points = Vec::new();
        for after in [false, true] {
            let bytes: Vec<Vec<u8>> = (COLUMNS.iter())
                .map(|column| {
                    let elements = column.shape.iter().product::<u64>() as usize;
                    let value = |element| {
                        let here = (step, after, column.name, element);
                        let change = changes.iter().find(|c| (c.0, c.1, c.2, c.3) == here);
                        change.map_or((column.value)(step, after, element), |c| c.4)
                    };
                    let size = column.dtype.size() as usize;
                    (0..elements).flat_map(|e| value(e).to_le_bytes()[..size].to_vec()).collect()
                })
                .collect();
            let covered: Vec<BufferId> = (0..COLUMNS.len() as u32).map(BufferId).collect();
            let whole: Vec<ChangedChunks<'_>> = (covered.iter().zip(&bytes))
                .map(|(&buffer, bytes)| ChangedChunks { buffer, first_chunk: 0, bytes })
                .collect();
            let snapshot = writer.snapshot(&covered, &whole, &[]).unwrap();
            let point = if after { "step.after" } else { "step.before" };
            points.push(PointRecord { point: point.into(), position: 0, snapshot });
        }
        let kind = if step == 1 { StepKind::Prefill } else { StepKind::Decode };
        let (host_writes, host_reads) = (vec![], vec![]);
        writer
            .commit_step(&StepRecord {
                kind,
                request: 1,
                step,
                rank: 0,
                program,
                host_writes,
                host_reads,
                points,
            })
            .unwrap();
    }
    Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap()
}

fn clean() -> Trace {
    let steps: Vec<u32> = (1..=STEPS).collect();
    trace(&steps, &[], "small")
}

fn changed(change: Change) -> Trace {
    let steps: Vec<u32> = (1..=STEPS).collect();
    trace(&steps, &[change], "small")
}

fn rule(more: &str, holds: &str) -> String {
    format!("[[rule]]\nname = \"r\"\ntext = \"What must be.\"\n{more}\nholds = '''{holds}'''\n")
}

fn check(trace: &Trace, file: &str) -> RulesReport {
    Rules::parse("r.toml", file).unwrap_or_else(|e| panic!("{e}")).check(trace).unwrap()
}

fn holds(more: &str, expression: &str) {
    let report = check(&clean(), &rule(more, expression));
    assert_eq!(report.findings, [], "{expression}");
    assert_eq!((report.not_looked_at, report.rules_checked), (vec![], 1), "{expression}");
}

#[track_caller]
fn breaks(trace: &Trace, more: &str, expression: &str) -> Finding {
    let mut report = check(trace, &rule(more, expression));
    assert_eq!(report.findings.len(), 1, "{expression}: {report:?}");
    report.findings.remove(0)
}

#[test]
fn what_is_true_holds() {
    for expression in [
        "7 / 2 == 3 and -7 / 2 == -4 and 7 / -2 == -4 and -7 / -2 == 3",
        "7 % 3 == 1 and -7 % 3 == 2 and 7 % -3 == -2 and -7 % -3 == -1",
        "7.0 / 2 == 3.5 and -7.5 % 2 == 0.5",
        "9007199254740993 != 9007199254740992",
        "170141183460469231731687303715884105727 > 0",
        "rows == 3 and request == 1 and prompt_tokens == 3 and step >= 1 and step <= 6",
        "min(3, 1, 2) == 1 and max(3, 1.5) == 3 and abs(-3) == 3 and abs(2 - 4.5) == 2.5",
        "if(step > 0, true, 1 / 0) and (step > 0 or 1 / 0 == 1) and not (step == 0 and 1 / 0 == 1)",
        "max(before.table) == 7 and min(before.table) == 4",
        "any(before.table == 5) and all(before.table > 3) and not any(before.table == 8)",
        "before.table == 7 - k",
        "before.table[k] == before.table and before.table[3 - k] == 4 + k and before.'table@0'[0] == before.table@0[0]",
        "before.table[step % 4] == 7 - step % 4",
        "before.'kv.0'[1] == 2 + k and before.\"kv.0\"[1, 0] == 2 and length(before.'kv.0') == 2",
        "before.codes == step * 10 + 2 * before.'kv.0'[0, 1] * 0 + before.codes - step * 10",
        "after.count == before.count + 1",
        "before.real[0] == 0.5 and before.real[1] != before.real[1] and not before.real[1] < 1",
        "before.live == before.live and (true + true == 2) and any(before.live)",
        "true",
    ] {
        holds("", expression);
    }
    holds("each = 'row'", "before.codes == step * 10 + 2 + k and before.live and before.count == step");
    holds("each = 'padding'", "not before.live");
    holds("each = 'row'\nwhen = 'step > 1'", "before.codes == previous.after.out");
    holds("each = 'row'", "previous.after.count == before.count");
    holds("each = 'row'\nwhen = 'before.live and before.count == 4'", "step == 4");
}

#[test]
fn what_is_false_is_broken_at_its_element() {
    let trace = clean();
    let text = |more: &str, expression: &str| breaks(&trace, more, expression).message;
    let more = "; What must be; 5 further steps break it";
    assert_eq!(text("", "before.table < 7"), format!("table[0] is 7, wants < 7{more}"));
    assert_eq!(text("", "7 > before.table"), format!("table[0] is 7, wants < 7{more}"));
    assert_eq!(text("", "before.table == -k"), format!("table[0] is 7, `-k` is 0{more}"));
    assert_eq!(text("", "before.live"), format!("live[0] is false{more}"));
    assert_eq!(text("each = 'row'", "not before.live"), format!("live[1] is true{more}"));
    assert_eq!(text("", "all(before.table > 4)"), format!("table[3] is 4, wants > 4{more}"));
    assert_eq!(text("", "step == 1"), "step is 2, wants == 1; What must be; 4 further steps break it");
    assert_eq!(
        text("each = 'row'", "k == 0 or after.out == before.out + k"),
        format!("out[1,1] after is 23, `before.out + k` is 14 (out[1,1] before is 13){more}")
    );
    assert_eq!(text("", "before.real == before.real"), format!("real[1] is NaN, real[1] is NaN{more}"));
    assert_eq!(
        text("", "before.table[step] > 0"),
        "index 4 of `before.table` is out of range: the axis has 4 elements; What must be; 2 further steps break it"
    );
    assert!(text("", "before.table[-1] > 0").starts_with("index -1 of `before.table` is out of range"));
    assert!(text("", "before.table[0.5] > 0").starts_with("index 0.5 of"));
    assert_eq!(
        text("", "before.table / (step - 3) != 99"),
        "`before.table / (step - 3)` divides by zero at [0]; What must be"
    );
    assert!(text("", "1.5 % 0 == 1").contains("divides by zero"));
    let most = i128::MAX;
    for overflow in [format!("{most} + 1 > 0"), format!("-{most} - 2 < 0"), format!("{most} * 2 > 0")] {
        assert!(text("", &overflow).contains("does not fit an integer of 128 bits"), "{overflow}");
    }
    assert!(text("", &format!("(-{most} - 1) / -1 > 0")).contains("does not fit"));
    assert!(text("", &format!("abs(-{most} - 1) > 0")).contains("does not fit"));
    // A mistake in `when` that only values can make is no silence.
    assert!(text("when = '1 / (step - 2) > 0'", "true").contains("divides by zero"));
}

#[test]
fn one_wrong_element_is_named() {
    let file = rule("each = 'row'\nkind = 'stale-memory'", "before.codes == previous.after.out");
    let report = check(&changed((4, false, "codes", 3, 99)), &file);
    let expected = Finding {
        check: "r".into(),
        kind: Kind::StaleMemory,
        request: 1,
        step: 4,
        graph: None,
        node: None,
        buffer: Some("codes@0".into()),
        message: "codes[1,1] is 99, out[1,1] of step 3 is 43; What must be".into(),
    };
    assert_eq!(report.findings, [expected]);
    assert_eq!((report.rules_checked, report.steps_checked), (1, STEPS as usize - 1));
    // Another row's element is none of this row's.
    assert_eq!(check(&changed((4, false, "codes", 1, 99)), &file).findings, []);
    // In padding, either of the two rows.
    let padding = rule("each = 'padding'", "before.codes == previous.after.out");
    for (element, row) in [(1, 0), (4, 2)] {
        let report = check(&changed((4, false, "codes", element, 99)), &padding);
        let start = format!("codes[{row},{}] is 99", element % 2);
        assert!(report.findings[0].message.starts_with(&start), "{report:?}");
    }
}

#[test]
fn what_cannot_be_checked_is_said() {
    let trace_of = |steps: &[u32]| trace(steps, &[], "small");
    let clean = clean();
    let not = |trace: &Trace, more: &str, expression: &str| {
        let report = check(trace, &rule(more, expression));
        assert_eq!(
            (report.findings, report.rules_checked, report.steps_checked),
            (vec![], 0, 0),
            "{expression}"
        );
        report.not_looked_at.join("\n")
    };
    assert_eq!(not(&clean, "when = 'step > 90'", "true"), "rule `r` matched no step");
    assert_eq!(
        not(&clean, "", "before.tabel == 1"),
        "rule `r` at step 1 and 5 further steps: no buffer `tabel` in this trace; did you mean `table`?"
    );
    assert!(not(&clean, "", "before.table@3 == 1").contains("has generations 0 to 0"));
    assert!(not(&clean, "", "before.codes == before.table").contains("do not fit together"));
    assert!(not(&clean, "", "before.table[0, 0] == 1").contains("has 2 indices, wants 1"));
    assert!(not(&clean, "", "k == 0").contains("`k` counts along the last axis"));
    assert!(not(&clean, "each = 'row'", "length(before.count) == 1").contains("has no axis"));
    assert_eq!(
        not(&trace_of(&[2, 5]), "when = 'step == 5'", "previous.after.table == 7 - k"),
        "rule `r` at step 5: the step before it is not in the trace"
    );
    let constants = "[profile.small]\ncap = 9\n[profile.large]\nother = 1\n";
    let both =
        |profile: &str| check(&trace(&[1, 2], &[], profile), &(constants.to_owned() + &rule("", "cap == 9")));
    assert_eq!(both("small").not_looked_at, Vec::<String>::new());
    assert_eq!(
        both("large").not_looked_at,
        ["rule `r` at step 1 and 1 further step: the profile of this trace has no constant `cap`"]
    );
}

/// A name with two generations means the newest that is live; `@0` means the first.
#[test]
fn names_mean_what_they_mean_at_the_step() {
    let mut writer = TraceWriter::new(MemoryStorage::default(), &RunRecord::default()).unwrap();
    let ids: Vec<BufferId> = (0..2)
        .map(|generation| {
            writer
                .add_buffer(&BufferRecord {
                    name: "x".into(),
                    generation,
                    dtype: DType::U8,
                    shape: vec![1],
                    role: Role::State,
                    bytes: 1,
                    chunk_bytes: 64,
                    address: None,
                    contents: None,
                })
                .unwrap()
        })
        .collect();
    // Step 1 allocates the first, step 3 the second, step 5 frees it.
    for step in 1..=6u32 {
        let items = match step {
            1 => vec![Item::Allocate { buffer: ids[0] }],
            3 => vec![Item::Allocate { buffer: ids[1] }],
            5 => vec![Item::Free { buffer: ids[1] }],
            _ => vec![],
        };
        let program = writer.add_program(&Program { items }).unwrap();
        let changes = [0u8, 1].map(|value| (ids[usize::from(value)], [value]));
        let whole: Vec<ChangedChunks<'_>> = changes
            .iter()
            .map(|(buffer, bytes)| ChangedChunks { buffer: *buffer, first_chunk: 0, bytes })
            .collect();
        let snapshot = writer.snapshot(&ids, &whole, &[]).unwrap();
        let points = vec![PointRecord { point: "step.before".into(), position: 0, snapshot }];
        let kind = if step == 1 { StepKind::Prefill } else { StepKind::Decode };
        let (host_writes, host_reads) = (vec![], vec![]);
        writer
            .commit_step(&StepRecord {
                kind,
                request: 1,
                step,
                rank: 0,
                program,
                host_writes,
                host_reads,
                points,
            })
            .unwrap();
    }
    let trace = Trace::from_bytes(writer.finish().unwrap().into_bytes()).unwrap();
    let expected = "before.x == (step >= 3 and step <= 5) and before.x@0 == 0 and before.'x@1' == 1";
    assert_eq!(check(&trace, &rule("", expected)).findings, []);
    let last = "previous.before.x == (step >= 4 and step <= 6)";
    assert_eq!(check(&trace, &rule("", last)).findings, []);
    let report = check(&trace, &rule("", "before.x == 0"));
    assert_eq!((report.findings[0].step, report.findings[0].buffer.as_deref()), (3, Some("x@1")));
}

fn error(file: &str) -> String {
    Rules::parse("r.toml", file).unwrap_err().to_string()
}

#[test]
fn mistakes_have_a_line_and_a_column() {
    let rule = "[[rule]]\nname = \"r\"\ntext = \"T\"\n";
    let broken = |line: &str| error(&format!("{rule}{line}\n"));
    assert_eq!(error(""), "r.toml:1:1: no rule: a rules file has at least one [[rule]]");
    assert!(error("[[rule]\n").starts_with("r.toml:1:8: "), "{}", error("[[rule]\n"));
    assert!(error("a = = 3\n").starts_with("r.toml:1:5: "), "{}", error("a = = 3\n"));
    assert_eq!(error("[rule]\n"), "r.toml:1:1: expected [[rule]], in two pairs of brackets, found a table");
    assert_eq!(
        error("\n[constant]\n"),
        "r.toml:2:2: unknown key `constant`; did you mean `constants`?; known are model, constants, profile, rule"
    );
    assert_eq!(error(rule), "r.toml:1:1: a rule without `holds`");
    assert!(broken("hold = 'true'").starts_with("r.toml:4:1: unknown key `hold`; did you mean `holds`?"));
    assert_eq!(broken("holds = 3"), "r.toml:4:9: expected a string for `holds`, found an integer");
    assert_eq!(broken("holds = 'true'\neach = 'rows'"), "r.toml:5:8: expected \"row\" or \"padding\"");
    assert_eq!(
        broken("holds = 'true'\nkind = 'stale-bindings'"),
        "r.toml:5:8: `stale-bindings` is no mechanism that a rule can name; did you mean `stale-binding`?"
    );
    assert!(broken("holds = 'true'\nkind = 'identical'").contains("no mechanism that a rule can name"));
    // The column is that of the file, whatever quotes the expression stands in.
    let at_end = "expected a number, a name or `(`, found the end";
    assert_eq!(broken("holds = '1 +'"), format!("r.toml:4:13: {at_end}"));
    assert_eq!(broken("holds = \"1 +\""), format!("r.toml:4:13: {at_end}"));
    assert!(broken("holds = \"\\u0031 \\x2b ö\"").starts_with("r.toml:4:22: `ö` has no meaning"));
    assert!(broken("holds = \"before.\\\"é\\\" & 1\"").starts_with("r.toml:4:23: `&` has no meaning"));
    assert!(broken("holds = '''\n  1 +\n  & 2'''").starts_with("r.toml:6:3: `&`"));
    assert!(broken("holds = \"\"\"1 \\\n\n    + &\"\"\"").starts_with("r.toml:6:7: `&`"));
    assert!(broken("holds = \"\"\"\r\n1 +\r\n &\"\"\"").starts_with("r.toml:6:2: `&`"));
    assert!(broken("holds = 'true'\nwhen = 'stepp'").starts_with("r.toml:5:9: unknown name `stepp`"));
    let holds = "holds = 'true'\n";
    let twice = format!("{rule}{holds}{rule}{holds}");
    assert_eq!(error(&twice), "r.toml:5:1: a second rule `r`");
    assert!(error(&(rule.replace("\"r\"", "'R 1'") + holds)).starts_with("r.toml:2:8: a rule's name is"));
    assert!(error(&(rule.replace("\"T\"", "\"a\\nb\"") + holds)).starts_with("r.toml:3:8: a rule's text is"));
    assert!(error("[constants]\nstep = 1\n").starts_with("r.toml:2:1: `step` has a meaning of its own"));
    assert!(error("[constants]\n'a b' = 1\n").starts_with("r.toml:2:1: `a b` is no name"));
    assert!(error("[constants]\na = []\n").starts_with("r.toml:2:5: expected an integer, a float"));
    assert!(error("[constants]\na = 1e999\n").starts_with("r.toml:2:5: "));
    assert!(
        error("[constants]\na = 1\n[profile.x]\na = 2\n").starts_with("r.toml:4:1: `a` is in [constants]")
    );
}

#[test]
fn hostile_files_are_errors() {
    let deep = format!("a = {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(error(&deep).starts_with("r.toml:1:"));
    assert!(error(&format!("[{}]", "a.".repeat(50_000))).starts_with("r.toml:1:"));
    assert!(error(&"#".repeat(2 << 20)).contains("bytes"));
    assert!(error(&rule("", &"(".repeat(10_000))).contains("nested deeper"));
    assert!(error(&rule("", &"9".repeat(10_000))).contains("too great"));
    let many: String = (0..1001).map(|i| rule("", "true").replace("\"r\"", &format!("\"r{i}\""))).collect();
    assert!(error(&many).contains("1001 rules"));
    // An expression with many parts comes to its end.
    let wide = (0..7).fold("before.table".to_owned(), |e, _| format!("max({e}, {e})"));
    assert_eq!(check(&clean(), &rule("", &format!("{wide} > 3"))).findings, []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_text_is_rules_or_an_error_in_it(text in "\\PC{0,80}") {
        for file in [text.clone(), rule("", &text), format!("[constants]\n{text}\n"), rule(&text, "true")] {
            match Rules::parse("r.toml", &file) {
                Ok(rules) => { let _ = rules.check(&clean()).unwrap(); }
                Err(error) => {
                    let line = file.split('\n').nth(error.line - 1);
                    prop_assert!(line.is_some_and(|line| error.column <= line.chars().count() + 1), "{error}");
                }
            }
        }
    }

    /// Whatever an expression is made of, checking it ends with a report.
    #[test]
    fn any_expression_over_a_trace_is_a_report(words in prop::collection::vec(prop::sample::select(vec![
        "before.codes", "after.out", "before.table", "before.real", "before.'kv.0'", "previous.after.count", "k",
        "step", "0", "1", "170141183460469231731687303715884105727", "0.5", "+", "-", "*", "/", "%", "==", "<",
        "and", "or", "not", "(", ")", "[", "]", ",", "min(", "max(", "all(", "any(", "if(", "abs(", "length(",
    ]), 1..12), each in 0..3usize) {
        let more = ["", "each = 'row'", "each = 'padding'"][each];
        if let Ok(rules) = Rules::parse("r.toml", &rule(more, &words.join(" "))) {
            let report = rules.check(&clean()).unwrap();
            prop_assert!(report.rules_checked == 1 || !report.not_looked_at.is_empty(), "{report:?}");
        }
    }
}
