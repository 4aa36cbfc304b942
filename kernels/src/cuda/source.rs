//! The CUDA sources against the Rust ones.

const TRANSCENDENTAL: &str = include_str!("../../cuda/transcendental.cuh");
const CONTRACT: &str = include_str!("../../cuda/contract.cuh");
const STATE: &str = include_str!("../../cuda/state.cu");

use crate::contract::coefficients::{exp, sin, tanh};
use crate::{delay_flags, fault};

/// The text of a device function, from its name to the next one.
fn body<'t>(text: &'t str, name: &str) -> &'t str {
    let from = &text[text.find(&format!("{name}(float x) {{")).unwrap()..];
    &from[..from.find("\n}\n").unwrap()]
}

/// The value of `const float NAME = ...;`.
fn constant(body: &str, name: &str) -> f32 {
    let from = body.find(&format!("const float {name} = ")).unwrap_or_else(|| panic!("no {name}"));
    let text = body[from..].split(['=', ';']).nth(1).unwrap().trim();
    match text.strip_prefix("from_bits(0x") {
        Some(hex) => f32::from_bits(u32::from_str_radix(hex.trim_end_matches(')'), 16).unwrap()),
        None => text.trim_end_matches('f').parse().unwrap(),
    }
}

/// The values of `const u32 NAME[...] = {...};`.
fn table(body: &str, name: &str) -> Vec<u32> {
    let from = &body[body.find(&format!("const u32 {name}[")).unwrap_or_else(|| panic!("no {name}"))..];
    let list = from.split(['{', '}']).nth(1).unwrap();
    list.split(',').map(|hex| u32::from_str_radix(hex.trim().trim_start_matches("0x"), 16).unwrap()).collect()
}

/// Bits of the constant as Rust has it and as CUDA has it.
macro_rules! same {
    ($body:expr, $module:ident: $($name:ident),*) => {
        $(assert_eq!(
            $module::$name.to_bits(),
            constant($body, stringify!($name)).to_bits(),
            concat!(stringify!($module), "::", stringify!($name))
        );)*
    };
}

#[test]
fn constants_of_transcendental_functions_are_those_of_the_contract() {
    let bits = |c: &[f32]| c.iter().map(|c| c.to_bits()).collect::<Vec<_>>();
    let text = body(TRANSCENDENTAL, "contract_exp");
    same!(text, exp: LOG2_E, LN2_HI, LN2_LO, ROUND, OVERFLOW, UNDERFLOW);
    assert_eq!(bits(&exp::Q), table(text, "Q"));
    let text = body(TRANSCENDENTAL, "contract_sin");
    same!(text, sin: LIMIT, FRAC_1_PI, PI_A, PI_B, PI_C, ROUND);
    assert_eq!(bits(&sin::P), table(text, "P"));
    let text = body(TRANSCENDENTAL, "contract_tanh");
    same!(text, tanh: SMALL, ONE);
    assert_eq!(bits(&tanh::P), table(text, "P"));
}

/// `1 << n` of `#define NAME (1u << n)`.
fn bit(text: &str, name: &str) -> u32 {
    let from = &text[text.find(&format!("#define {name} (1u << ")).unwrap_or_else(|| panic!("no {name}"))..];
    1 << from.split("<< ").nth(1).unwrap().split(')').next().unwrap().parse::<u32>().unwrap()
}

#[test]
fn bits_of_faults_and_flags_are_the_same() {
    let faults = [
        ("TEXT_ID", fault::TEXT_ID),
        ("CODE", fault::CODE),
        ("POSITION", fault::POSITION),
        ("SLOT", fault::SLOT),
        ("BLOCK", fault::BLOCK),
        ("SEQ_LEN", fault::SEQ_LEN),
        ("CODEC_CODE", fault::CODEC_CODE),
    ];
    for (name, value) in faults {
        assert_eq!(bit(CONTRACT, &format!("FAULT_{name}")), value, "{name}");
    }
    let from_operand = format!("#define FROM_OPERAND {:#x}u\n", crate::ops::FROM_OPERAND);
    assert!(CONTRACT.contains(&from_operand), "{from_operand}");
    let flags = [
        ("MASK_LEAD_IN", delay_flags::MASK_LEAD_IN),
        ("BAN_SPECIALS", delay_flags::BAN_SPECIALS),
        ("FORCE_RAMP", delay_flags::FORCE_RAMP),
        ("FEED_LAST_ROW", delay_flags::FEED_LAST_ROW),
    ];
    for (name, value) in flags {
        assert_eq!(bit(STATE, name), value, "{name}");
    }
}
