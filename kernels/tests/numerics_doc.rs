//! `NUMERICS.md` says what the code does: names, versions, operands, scalars, constants, flags.

use twinstep_kernels::contract::{
    CANONICAL_BF16_NAN, CANONICAL_F16_NAN, CANONICAL_F32_NAN, SEGMENTS, WIDTH, coefficients,
};
use twinstep_kernels::{
    Access, BufferSpec, CpuBackend, CpuForm, DType, FRESH_BYTE, Launch, Op, Param, Role, Scalar, ScalarKind,
    Stream, View, delay_flags, fault,
};

const DOCUMENT: &str = include_str!("../NUMERICS.md");

/// The lines below the heading that starts with `heading`, up to the next one of its level or above.
fn section(heading: &str) -> Vec<&'static str> {
    let level = heading.bytes().take_while(|&b| b == b'#').count();
    let mut lines = DOCUMENT.lines().skip_while(|line| !line.starts_with(heading));
    assert!(lines.next().is_some(), "NUMERICS.md has no `{heading}`");
    let depth = |line: &str| line.bytes().take_while(|&b| b == b'#').count();
    lines.take_while(|line| depth(line) == 0 || depth(line) > level).collect()
}

/// Cells of the table below the header whose first cell is `first`, code marks removed.
fn table(lines: &[&str], first: &str) -> Vec<Vec<String>> {
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    let rows = lines.iter().skip_while(|line| !(line.starts_with('|') && cells(line)[0] == first));
    rows.skip(2).take_while(|line| line.starts_with('|')).map(|line| cells(line)).collect()
}

fn access(param: &Param) -> &'static str {
    match (param.access, param.partial) {
        (Access::Read, false) => "read",
        (Access::Read, true) => "gather",
        (Access::Write, false) => "write",
        (Access::Write, true) => "scatter",
        (Access::ReadWrite, _) => "update",
    }
}

#[test]
fn every_op_has_a_section_with_its_operands_and_scalars() {
    for &op in Op::ALL {
        let schema = op.schema();
        let lines = section(&format!("### {}, version {}", schema.name, schema.version));

        let documented: Vec<Vec<String>> =
            table(&lines, "operand").iter().map(|row| row[..3].to_vec()).collect();
        let types = |p: &Param| p.dtypes.iter().map(|d| d.name()).collect::<Vec<_>>().join(", ");
        let operand = |p: &Param| vec![p.name.to_owned(), access(p).to_owned(), types(p)];
        let wants: Vec<Vec<String>> = schema.params.iter().map(operand).collect();
        assert_eq!(documented, wants, "operands of {}", schema.name);

        let documented: Vec<Vec<String>> =
            table(&lines, "scalar").iter().map(|row| row[..2].to_vec()).collect();
        let kind = |kind| if kind == ScalarKind::F32 { "f32" } else { "u32" };
        let wants: Vec<Vec<String>> =
            schema.scalars.iter().map(|s| vec![s.name.to_owned(), kind(s.kind).to_owned()]).collect();
        assert_eq!(documented, wants, "scalars of {}", schema.name);

        let partial = schema.params.iter().any(|p| p.partial);
        let told = lines.iter().any(|line| line.starts_with("Touched:"));
        assert_eq!(told, partial, "{}: `Touched:` where it is less than bound, and only there", schema.name);
    }
    let sections = section("## 11. Ops").iter().filter(|line| line.starts_with("### ")).count();
    assert_eq!(sections, Op::ALL.len(), "a section for something that is no op");
}

/// Constants of one function: the document's table against the code's values, none missing on either side.
fn check_constants(function: &str, constants: &[(&str, f32)], polynomial: (&str, &[f32])) {
    let mut wants: Vec<Vec<String>> = constants
        .iter()
        .map(|(name, value)| vec![(*name).to_owned(), format!("{:08x}", value.to_bits())])
        .collect();
    let (name, terms) = polynomial;
    let term = |(i, c): (usize, &f32)| vec![format!("{name}[{i}]"), format!("{:08x}", c.to_bits())];
    wants.extend(terms.iter().enumerate().map(term));
    let lines = section(&format!("### {function}"));
    let documented: Vec<Vec<String>> =
        table(&lines, "constant").iter().map(|row| row[..2].to_vec()).collect();
    assert_eq!(documented, wants, "constants of {function}");
}

#[test]
fn coefficients_are_those_of_the_code() {
    {
        use coefficients::exp::*;
        let constants = [
            ("LOG2_E", LOG2_E),
            ("LN2_HI", LN2_HI),
            ("LN2_LO", LN2_LO),
            ("ROUND", ROUND),
            ("OVERFLOW", OVERFLOW),
            ("UNDERFLOW", UNDERFLOW),
        ];
        check_constants("exp", &constants, ("Q", &Q));
    }
    {
        use coefficients::sin::*;
        let constants = [
            ("LIMIT", LIMIT),
            ("FRAC_1_PI", FRAC_1_PI),
            ("PI_A", PI_A),
            ("PI_B", PI_B),
            ("PI_C", PI_C),
            ("ROUND", ROUND),
        ];
        check_constants("sin", &constants, ("P", &P));
    }
    {
        use coefficients::tanh::*;
        check_constants("tanh", &[("SMALL", SMALL), ("ONE", ONE)], ("P", &P));
    }
}

#[test]
fn nans_faults_flags_and_sizes_are_those_of_the_code() {
    let nans: Vec<Vec<String>> = table(&section("## 2. Numbers"), "type");
    let wants = [
        ("f32", format!("{CANONICAL_F32_NAN:08x}")),
        ("f16", format!("{CANONICAL_F16_NAN:04x}")),
        ("bf16", format!("{CANONICAL_BF16_NAN:04x}")),
    ];
    assert_eq!(nans, wants.map(|(dtype, bits)| vec![dtype.to_owned(), bits]));

    let faults = table(&section("## 3. Memory"), "bit");
    for (i, row) in faults.iter().enumerate() {
        assert_eq!(row[0], i.to_string());
        assert_eq!(fault::names(1 << i), [row[1].as_str()]);
    }
    assert_eq!(fault::names(u32::MAX).len(), faults.len());
    assert!(section("## 3. Memory").iter().any(|line| line.contains(&format!("the byte `{FRESH_BYTE:X}`"))));

    let flags: Vec<(String, u32)> = table(&section("## 9. Delay"), "flag")
        .iter()
        .map(|row| (row[0].clone(), row[1].parse().expect("a number")))
        .collect();
    let wants = [
        ("MASK_LEAD_IN", delay_flags::MASK_LEAD_IN),
        ("BAN_SPECIALS", delay_flags::BAN_SPECIALS),
        ("FORCE_RAMP", delay_flags::FORCE_RAMP),
        ("FEED_LAST_ROW", delay_flags::FEED_LAST_ROW),
    ];
    assert_eq!(flags, wants.map(|(name, value)| (name.to_owned(), value)));

    let dot = section("## 4. Dot product").join("\n");
    assert!(dot.contains(&format!("`L = ceil(K / {}) * {WIDTH}`", SEGMENTS * WIDTH)), "{dot}");
}

/// The chunk hash, written from the document alone.
fn documented_hash(bytes: &[u8]) -> [u64; 2] {
    let constants = table(&section("## 10. Chunk hash"), "constant");
    let constant = |name: &str| {
        let row = constants.iter().find(|row| row[0] == name).unwrap_or_else(|| panic!("no {name}"));
        u64::from_str_radix(&row[1], 16).expect("hex")
    };
    let mix64 = |mut x: u64| {
        x ^= x >> 33;
        x = x.wrapping_mul(constant("A"));
        x ^= x >> 33;
        x = x.wrapping_mul(constant("B"));
        x ^ (x >> 33)
    };
    let keys = [constant("K_0"), constant("K_1")];
    [0, 1].map(|j| {
        let mut sum = 0u64;
        for (i, word) in bytes.chunks(4).enumerate() {
            let word = word.iter().rev().fold(0, |word, &byte| word << 8 | u64::from(byte));
            sum = sum.wrapping_add(mix64(word ^ ((i as u64) << 32) ^ keys[j]));
        }
        mix64(sum ^ (bytes.len() as u64).wrapping_mul(constant("M")) ^ keys[1 - j])
    })
}

#[test]
fn the_documented_chunk_hash_is_the_op() {
    for form in [CpuForm::Naive, CpuForm::Vector] {
        let mut stream =
            Stream::new(Box::new(CpuBackend::with_form(form).expect("the contract's environment")));
        for (bytes, chunk) in [(1usize, 4usize), (4, 4), (7, 4), (64, 64), (1000, 64), (4097, 4096)] {
            let content: Vec<u8> = (0..bytes).map(|i| (i * 37 + i / 256) as u8).collect();
            let chunks = bytes.div_ceil(chunk);
            let mut buffer = |name, dtype, shape: &[usize]| {
                stream
                    .allocate(BufferSpec::new(name, dtype, shape, Role::State))
                    .map(|b| View::whole(&b))
                    .expect("small")
            };
            let (data, out) = (buffer("data", DType::U8, &[bytes]), buffer("out", DType::U64, &[chunks, 2]));
            stream.write(&data, &content).expect("in bounds");
            let scalars = vec![Scalar::U32(chunk as u32)];
            let launch = Launch::new(Op::ChunkHash, vec![data, out.clone()], scalars).expect("valid");
            stream.launch(&launch).expect("in bounds");
            let got: Vec<u64> = bytemuck::pod_collect_to_vec(&stream.read(&out).expect("in bounds"));
            let want: Vec<u64> = content.chunks(chunk).flat_map(documented_hash).collect();
            assert_eq!(got, want, "{form:?}: {bytes} bytes in chunks of {chunk}");
        }
    }
}
