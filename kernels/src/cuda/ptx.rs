//! The committed PTX: text, identity, and the kernels in it.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// PTX of all families of kernels, in a fixed order. `examples/ptx` writes and checks it.
pub(super) const MODULES: &[&str] = &[
    include_str!("../../ptx/attention.ptx"),
    include_str!("../../ptx/codec.ptx"),
    include_str!("../../ptx/contract.ptx"),
    include_str!("../../ptx/elementwise.ptx"),
    include_str!("../../ptx/embed.ptx"),
    include_str!("../../ptx/hash.ptx"),
    include_str!("../../ptx/kv.ptx"),
    include_str!("../../ptx/linear.ptx"),
    include_str!("../../ptx/norm.ptx"),
    include_str!("../../ptx/sample.ptx"),
    include_str!("../../ptx/state.ptx"),
];

/// SHA-256 over all PTX text in the order of [`MODULES`], hex: what a trace records.
pub(super) fn sha256() -> String {
    let mut hash = Sha256::new();
    MODULES.iter().for_each(|text| hash.update(text));
    hash.finalize().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a string cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// Names of the kernels in a module.
pub(super) fn kernels(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter_map(|line| line.strip_prefix(".visible .entry ")?.strip_suffix('('))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Types of a kernel's parameters as the PTX declares them, or `None` where there is no such kernel.
    pub(in crate::cuda) fn parameter_types(kernel: &str) -> Option<Vec<&'static str>> {
        let declaration = format!(".visible .entry {kernel}(\n");
        let from =
            MODULES.iter().find_map(|text| Some(&text[text.find(&declaration)? + declaration.len()..]))?;
        let list = &from[..from.find(')')?];
        Some(
            list.lines().filter_map(|line| line.trim().strip_prefix(".param .")?.split(' ').next()).collect(),
        )
    }

    #[test]
    fn kernels_have_names_of_their_own() {
        let mut names: Vec<&str> = MODULES.iter().flat_map(|text| kernels(text)).collect();
        assert!(names.contains(&"linear_f16_rows1") && names.contains(&"chunk_hash"), "{names:?}");
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }

    #[test]
    fn parameters_are_read_from_the_declaration() {
        assert_eq!(parameter_types("residual_add"), Some(vec!["u64", "u64", "u64"]));
        assert_eq!(parameter_types("rms_norm_f16"), Some(vec!["u64", "u64", "u64", "u32", "f32"]));
        assert_eq!(parameter_types("rms_norm"), None);
    }
}
