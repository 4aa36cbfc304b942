//! What PTX must not hold, for every device to compute the same bits.

/// Arithmetic whose result depends on a rounding, which has to be named.
const ROUNDED: &[&str] = &["add", "sub", "mul", "div", "sqrt", "fma", "mad", "rcp"];
/// Instructions that leave NaN or the sign of zero to the device.
const LOOSE: &[&str] = &["min", "max"];
const FLOATS: &[&str] = &["f16", "f16x2", "bf16", "bf16x2", "f32", "f64"];

/// One line for each instruction that breaks the numerics contract.
pub(crate) fn lint(ptx: &str) -> Vec<String> {
    let mut findings = Vec::new();
    for (number, line) in ptx.lines().enumerate() {
        if let Some(what) = judge(line) {
            findings.push(format!("line {}: {what}: {}", number + 1, line.trim()));
        }
    }
    findings
}

fn judge(line: &str) -> Option<&'static str> {
    let line = line.split("//").next().unwrap_or_default();
    let mut tokens =
        line.split_whitespace().map(|t| t.trim_matches(['{', '}', ';'])).filter(|t| !t.is_empty());
    let opcode = tokens.find(|t| !t.starts_with('@'))?;
    if opcode == ".local" || line.contains("__local_depot") {
        return Some("local memory");
    }
    let mut parts = opcode.split('.');
    let base = parts.next().unwrap_or_default();
    let modifiers: Vec<&str> = parts.collect();
    let has = |name: &str| modifiers.contains(&name);
    let float = FLOATS.iter().any(|f| has(f));
    if base.is_empty() || !float {
        return None;
    }
    if has("ftz") {
        Some("flush to zero")
    } else if has("approx") || has("full") {
        Some("approximate instruction")
    } else if has("f64") {
        Some("double precision")
    } else if ["atom", "red"].contains(&base) {
        Some("float atomic")
    } else if LOOSE.contains(&base) {
        Some("min or max of floats")
    } else if ROUNDED.contains(&base) && !has("rn") {
        Some("float arithmetic without .rn")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FAMILIES, ptx_file};

    #[test]
    fn committed_ptx_keeps_the_contract() {
        for family in FAMILIES {
            let ptx = std::fs::read_to_string(ptx_file(family)).expect("the PTX is committed");
            assert!(ptx.starts_with(".version 8.2\n.target sm_70\n"), "{family}");
            assert!(ptx.contains(".visible .entry"), "{family} holds no kernel");
            assert_eq!(lint(&ptx), Vec::<String>::new(), "{family}");
        }
    }

    #[test]
    fn each_broken_rule_is_found() {
        let broken = [
            ("mul.f32 %f1, %f2, %f3;", "float arithmetic without .rn"),
            ("\tadd.f32 \t%f1, %f2, %f3;", "float arithmetic without .rn"),
            ("@%p1 sub.f32 %f1, %f2, %f3;", "float arithmetic without .rn"),
            ("{ mad.f32 %f1, %f2, %f3, %f4; }", "float arithmetic without .rn"),
            ("add.rn.ftz.f32 %f1, %f2, %f3;", "flush to zero"),
            ("div.full.f32 %f1, %f2, %f3;", "approximate instruction"),
            ("ex2.approx.f32 %f1, %f2;", "approximate instruction"),
            ("mul.rn.f64 %fd1, %fd2, %fd3;", "double precision"),
            ("atom.global.add.f32 %f1, [%rd1], %f2;", "float atomic"),
            ("red.shared.add.f32 [%rd1], %f2;", "float atomic"),
            ("max.f32 %f1, %f2, %f3;", "min or max of floats"),
            (".local .align 4 .b8 __local_depot0[16];", "local memory"),
            ("mov.u64 %SPL, __local_depot0;", "local memory"),
        ];
        for (line, what) in broken {
            assert_eq!(lint(line), [format!("line 1: {what}: {}", line.trim())]);
        }
        let sound = [
            "mul.rn.f32 %f1, %f2, %f3;",
            "mul.lo.s32 %r1, %r2, %r3;",
            "max.u32 %r1, %r2, %r3;",
            "atom.global.or.b32 %r1, [%rd1], %r2;",
            "cvt.rn.f16.f32 %rs1, %f1;",
            "// add.f32 in a comment",
        ];
        sound.iter().for_each(|line| assert_eq!(lint(line), Vec::<String>::new(), "{line}"));
    }

    /// A float addition in committed PTX without its rounding is found.
    #[test]
    fn a_planted_instruction_is_found() {
        let ptx = std::fs::read_to_string(ptx_file("elementwise")).expect("the PTX is committed");
        assert!(ptx.contains("add.rn.f32"));
        assert!(!lint(&ptx.replace("add.rn.f32", "add.f32")).is_empty());
    }
}
