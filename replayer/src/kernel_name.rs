//! Kernel names as people say them.
//!
//! A C++ kernel's name carries its return type, namespaces, template arguments and parameters: several hundred characters
//! where one word would do. What is shown is the function's own name, and in angle brackets the last kernel or functor
//! among its template arguments, since libraries run most of their work through a few generic kernels:
//! `vectorized_elementwise_kernel<CUDAFunctor_add>`. `log --json` has the whole name.

/// The short form of a demangled name. What does not look like one is given back as it is.
pub(crate) fn short(full: &str) -> String {
    let Some((path, rest)) = head(full) else { return full.to_owned() };
    let own = last_of_path(path);
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if own.is_empty() || !own.chars().all(plain) {
        return full.to_owned();
    }
    // A bare `kernel` says nothing: the namespace before it does.
    let space = path.strip_suffix(own).and_then(|p| p.strip_suffix("::")).map_or("", last_of_path);
    let named = !space.is_empty() && space.chars().all(plain);
    let own = if own == "kernel" && named { format!("{space}::{own}") } else { own.to_owned() };
    match inner(rest) {
        Some(inner) if inner != own && inner != "kernel" => format!("{own}<{inner}>"),
        _ => own,
    }
}

/// What stands before the template arguments or parameters of the function itself, and the template arguments.
/// `None` where it has neither: then it is short already.
fn head(full: &str) -> Option<(&str, &str)> {
    let (mut depth, mut start) = (0usize, None);
    let mut path_end = full.len();
    let bytes = full.as_bytes();
    let mut i = 0;
    while i < bytes.len() {
        if depth == 0 && bytes[i..].starts_with(b"(anonymous namespace)") {
            i += "(anonymous namespace)".len();
            continue;
        }
        match bytes[i] {
            b'<' => {
                if depth == 0 {
                    (start, path_end) = (Some(i), i);
                }
                depth += 1;
            }
            b'>' => {
                depth = depth.checked_sub(1)?;
                // Template arguments of the return type or of a namespace: the function comes later.
                let next = bytes.get(i + 1);
                if depth == 0 && (next == Some(&b' ') || next == Some(&b':')) {
                    (start, path_end) = (None, full.len());
                } else if depth == 0 {
                    return Some((&full[..path_end], &full[start.unwrap_or(i)..=i]));
                }
            }
            b'(' if depth == 0 => return Some((&full[..i], "")),
            b'(' => depth += 1,
            b')' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        i += 1;
    }
    None
}

/// The last name of `void at::native::(anonymous namespace)::name`.
fn last_of_path(path: &str) -> &str {
    path.rsplit([':', ' ']).next().unwrap_or(path)
}

/// The last kernel or functor among template arguments.
fn inner(arguments: &str) -> Option<&str> {
    let mut words = arguments.rsplit(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let speaks = |word: &&str| {
        let lower = word.to_ascii_lowercase();
        lower.contains("kernel") || lower.contains("functor")
    };
    words.find(speaks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_libraries_have() {
        for (full, expected) in [
            ("attention_decode", "attention_decode"),
            ("_Z3addPfS_", "_Z3addPfS_"),
            ("kernel whose name the driver does not tell", "kernel whose name the driver does not tell"),
            ("void mask(long*, int)", "mask"),
            (
                "void at::native::vectorized_elementwise_kernel<2, at::native::CUDAFunctor_add<long>, \
                 std::array<char*, (unsigned long)3> >(int, at::native::CUDAFunctor_add<long>, \
                 std::array<char*, (unsigned long)3>)",
                "vectorized_elementwise_kernel<CUDAFunctor_add>",
            ),
            (
                "void at::native::vectorized_elementwise_kernel<4, void at::native::compare_scalar_kernel<long>(\
                 at::TensorIteratorBase&, at::native::(anonymous namespace)::OpType, long)::{lambda(long)#1}, \
                 std::array<char*, (unsigned long)2> >(int)",
                "vectorized_elementwise_kernel<compare_scalar_kernel>",
            ),
            (
                "void at::native::(anonymous namespace)::indexSelectSmallIndex<float, long, unsigned int, 2, 2, \
                 -2>(at::cuda::detail::TensorInfo<float, unsigned int>, int)",
                "indexSelectSmallIndex",
            ),
            (
                "std::enable_if<!(false), void>::type internal::gemvx::kernel<int, int, float, \
                 cublasGemvParamsEx<int> >(cublasGemvParamsEx<int>)",
                "gemvx::kernel",
            ),
            (
                "void (anonymous namespace)::softmax_warp_forward<float, 6, false>(float*, float const*)",
                "softmax_warp_forward",
            ),
            ("", ""),
            ("a<b", "a<b"),
            ("a>b)", "a>b)"),
            ("ünïcode<(>)", "ünïcode<(>)"),
        ] {
            assert_eq!(short(full), expected, "{full}");
        }
    }
}
